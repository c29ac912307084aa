//! The effective configuration of a program, and the state of the systems that it is connected to, for operators.
//!
//! [`effective`] derives the list from the program's table of environment variables, which `--help` and the tests of
//! docs/CONFIGURATION.md use as well. Values of secrets are never part of it; of a URL that may contain a secret only
//! scheme, host and port are.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::config::{COMMON_VARIABLES, Env, documented_variables};

/// An environment variable and its effective value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Setting {
    /// Name of the variable.
    pub name: String,
    /// The effective value; `null` if it is a secret, or if there is none. Of URLs, the user name, the password and
    /// the query are left out; of those that may contain a secret, the path is left out, too.
    pub value: Option<String>,
    /// Source of the value.
    pub source: SettingSource,
    /// Whether the value is a secret, or a URL that may contain one.
    pub is_secret: bool,
    /// Meaning of the variable.
    pub description: String,
}

/// Source of a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SettingSource {
    /// The variable is not set: the default applies, if there is one.
    Default,
    /// The variable is set.
    Environment,
    /// The variable is set to the content of a file (`NAME_FILE`).
    File,
}

/// The effective configuration: the variables of `table`, a program's own ones, and those of both programs.
#[must_use]
pub fn effective(table: &str, env: &Env) -> Vec<Setting> {
    let variables = documented_variables(table)
        .into_iter()
        .chain(documented_variables(COMMON_VARIABLES));
    variables
        .map(|variable| {
            let set_value = env.text_without_recording(&variable.name);
            let source = if set_value.is_some() {
                SettingSource::Environment
            } else if env
                .text_without_recording(&format!("{}_FILE", variable.name))
                .is_some()
            {
                SettingSource::File
            } else {
                SettingSource::Default
            };
            let default = Some(variable.default).filter(|default| !default.is_empty());
            let is_secret = variable.is_secret;
            let value = match (source, set_value) {
                // The default of a setting that is no secret is a text for people, and no secret.
                (SettingSource::Default, _) if !is_secret => default,
                (SettingSource::Default, _) => {
                    default.and_then(|value| shown_value(&variable.name, &value, is_secret))
                }
                (_, set_value) => {
                    set_value.and_then(|value| shown_value(&variable.name, &value, is_secret))
                }
            };
            Setting {
                value,
                name: variable.name,
                source,
                is_secret: variable.is_secret,
                description: variable.meaning,
            }
        })
        .collect()
}

/// The part of a value that may be shown. Secrets are hidden, but for the scheme, host and port of URLs.
fn shown_value(name: &str, value: &str, is_secret: bool) -> Option<String> {
    let is_url = name.ends_with("_URL") || value.contains("://");
    match (is_secret, is_url) {
        (true, false) => None,
        // A file has no credentials.
        (true, true) if value.starts_with("sqlite://") => Some(url_before_query(value).to_owned()),
        (true, true) => {
            let node_origins: Option<Vec<_>> = value.split(',').map(origin).collect();
            node_origins.map(|node_origins| node_origins.join(", "))
        }
        (false, true) => Some(without_credentials(value)),
        (false, false) => Some(value.to_owned()),
    }
}

fn url_before_query(url: &str) -> &str {
    url.split(['?', '#']).next().unwrap_or_default()
}

/// Scheme, host and port of a URL; `None` if it has none.
fn origin(url: &str) -> Option<String> {
    let parsed_url: url::Url = url.trim().parse().ok()?;
    let host = parsed_url.host_str().filter(|host| !host.is_empty())?;
    if parsed_url.path().contains('@') {
        // The end of a password with an unescaped slash: the host is a part of the credentials.
        return None;
    }
    let port_suffix = parsed_url.port().map(|port| format!(":{port}"));
    let port_suffix = port_suffix.unwrap_or_default();
    Some(format!("{}://{host}{port_suffix}", parsed_url.scheme()))
}

/// A URL without user name, password, query and fragment. Other texts are returned as they are, but for a part that
/// looks like credentials.
fn without_credentials(value: &str) -> String {
    match value.parse::<url::Url>() {
        Ok(mut url) if url.has_host() && !url.path().contains('@') => {
            let _ = url.set_username("");
            let _ = url.set_password(None);
            url.set_query(None);
            url.set_fragment(None);
            url.to_string()
        }
        _ if value.contains('@') => String::new(),
        _ => url_before_query(value).to_owned(),
    }
}

/// `settings.get`: the worker's part of the settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct WorkerSettings {
    /// The worker that sent this reply.
    pub name: String,
    /// Version of the program.
    pub version: String,
    /// Start of the process.
    #[schema(value_type = String, format = DateTime)]
    pub started_at: Timestamp,
    /// Number of connected workers; `null` if unknown.
    pub workers: Option<u32>,
    /// Effective configuration.
    pub settings: Vec<Setting>,
    /// The database.
    pub database: DatabaseInfo,
    /// The systems that the worker calls. State and times are those of this worker, since its start; those of the
    /// warehouse and the import are of all workers.
    pub partners: Vec<Partner>,
}

/// The database of the workers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct DatabaseInfo {
    /// `sqlite` or `postgres`.
    pub kind: String,
    /// Version of the database.
    pub version: String,
    /// Version of the schema that the program uses.
    pub schema_version: i64,
}

/// The gateway's part of the settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct GatewaySettings {
    /// Version of the program.
    pub version: String,
    /// Start of the process.
    #[schema(value_type = String, format = DateTime)]
    pub started_at: Timestamp,
    /// Effective configuration.
    pub settings: Vec<Setting>,
    /// The systems that the gateway calls. State and times are those of this gateway, since its start.
    pub partners: Vec<Partner>,
}

/// The effective configuration of the system: of the gateway that answers, and of one of its workers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SystemSettings {
    /// The gateway that sent this response.
    pub gateway: GatewaySettings,
    /// A worker.
    pub worker: WorkerSettings,
}

/// The kind of a connected system.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum PartnerKind {
    /// Payment provider.
    PaymentProvider,
    /// Carrier.
    Carrier,
    /// External list of stock levels (`WAREHOUSE_URL`).
    Warehouse,
    /// Order list of another system (`IMPORT_URL`).
    Import,
    /// Mail server (`SMTP_URL`).
    MailServer,
    /// Webhook endpoints, all together.
    Webhooks,
    /// Storage of photos (`MEDIA_URL`).
    MediaStorage,
}

/// A connected system and its state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Partner {
    /// Kind of system.
    pub kind: PartnerKind,
    /// Its name, such as `stripe`; `null` if it is not configured.
    pub name: Option<String>,
    /// The last calls to it.
    #[serde(flatten)]
    pub calls: LastCalls,
}

/// The last calls to a system.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct LastCalls {
    /// Time of the last successful call; `null` if there was none.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_success_at: Option<Timestamp>,
    /// Time of the last failed call; `null` if there was none.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_failure_at: Option<Timestamp>,
    /// Error of the last failed call.
    pub last_error: Option<String>,
}

/// The last calls to each system by this process; clones share them.
#[derive(Debug, Clone, Default)]
pub struct PartnerLog(Arc<Mutex<BTreeMap<PartnerKind, LastCalls>>>);

/// Maximum length of a recorded error.
const MAX_ERROR_CHARS: usize = 500;

impl PartnerLog {
    /// Records a call that has ended now, with its error if it failed.
    pub fn record(&self, kind: PartnerKind, result: Result<(), &str>) {
        let now = Some(Timestamp::now());
        let mut calls_by_kind = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let calls = calls_by_kind.entry(kind).or_default();
        match result {
            Ok(()) => calls.last_success_at = now,
            Err(error) => {
                calls.last_failure_at = now;
                calls.last_error = Some(error.chars().take(MAX_ERROR_CHARS).collect());
            }
        }
    }

    /// The system of this kind, with its last calls.
    #[must_use]
    pub fn partner(&self, kind: PartnerKind, name: Option<String>) -> Partner {
        let calls_by_kind = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let calls = calls_by_kind.get(&kind).cloned().unwrap_or_default();
        Partner { kind, name, calls }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "| variable | default | meaning |\n|---|---|---|\n\
        | `STORE_URL` | `db://a:b@127.0.0.1:1/x` | the store; a secret |\n\
        | `FILE_URL` | `sqlite://data/orders.db` | a file; a secret |\n\
        | `TOKEN_ONE`, `TOKEN_TWO` | | tokens; secrets |\n\
        | `PAGE_URL` | | a page |\n\
        | `MODE` | `auto` | `manual`: by hand |\n";

    fn value_of(settings: &[Setting], name: &str) -> Option<String> {
        let setting = settings.iter().find(|setting| setting.name == name);
        setting.unwrap().value.clone()
    }

    #[test]
    fn values_are_shown_without_secrets() {
        let env = Env::from_pairs([
            (
                "STORE_URL",
                "db://user:pass@one:1/secret?key=x,db://user:pass@two/",
            ),
            ("TOKEN_ONE", "secret"),
            ("TOKEN_TWO_FILE", "/run/secrets/two"),
            ("PAGE_URL", "https://user:pass@host:8443/path?token=x#y"),
        ]);
        let settings = effective(TABLE, &env);
        let sources: Vec<_> = settings.iter().map(|setting| setting.source).collect();
        assert_eq!(
            sources[..6],
            [
                SettingSource::Environment,
                SettingSource::Default,
                SettingSource::Environment,
                SettingSource::File,
                SettingSource::Environment,
                SettingSource::Default
            ]
        );
        assert_eq!(value_of(&settings, "TOKEN_ONE"), None);
        assert_eq!(value_of(&settings, "TOKEN_TWO"), None);
        let page_url = value_of(&settings, "PAGE_URL");
        assert_eq!(page_url.as_deref(), Some("https://host:8443/path"));
        assert_eq!(value_of(&settings, "MODE").as_deref(), Some("auto"));
        let file_url = value_of(&settings, "FILE_URL");
        assert_eq!(file_url.as_deref(), Some("sqlite://data/orders.db"));
        let settings_json = serde_json::to_string(&settings).unwrap();
        for secret in ["pass", "key=x", "token=x"] {
            assert!(!settings_json.contains(secret), "{settings_json}");
        }
        let is_secret = |name| {
            settings
                .iter()
                .any(|setting| setting.name == name && setting.is_secret)
        };
        assert!(is_secret("TOKEN_ONE") && is_secret("TOKEN_TWO") && !is_secret("MODE"));
    }

    #[test]
    fn url_of_several_nodes_is_shown_with_their_hosts() {
        let env = Env::from_pairs([("STORE_URL", "db://u:p@one:1/x,db://u:p@two/y")]);
        let shown_url = value_of(&effective(TABLE, &env), "STORE_URL");
        assert_eq!(shown_url.as_deref(), Some("db://one:1, db://two"));
    }

    #[test]
    fn unreadable_url_with_a_secret_is_hidden() {
        for url in [
            "db//u:p@host",
            "u:p@host",
            "db://u:p/word@host",
            "db://p:1/word@host",
        ] {
            let env = Env::from_pairs([("STORE_URL", url), ("PAGE_URL", url)]);
            let settings = effective(TABLE, &env);
            let settings_json = serde_json::to_string(&settings).unwrap();
            assert!(
                !settings_json.contains("word")
                    && !settings_json.contains("p@")
                    && !settings_json.contains("p:1"),
                "{settings_json}"
            );
        }
    }

    #[test]
    fn last_success_and_failure_are_remembered() {
        let partner_log = PartnerLog::default();
        partner_log.record(PartnerKind::Carrier, Err("refused"));
        partner_log.clone().record(PartnerKind::Carrier, Ok(()));
        let carrier = partner_log.partner(PartnerKind::Carrier, Some("http".to_owned()));
        assert_eq!(carrier.calls.last_error.as_deref(), Some("refused"));
        assert!(carrier.calls.last_success_at >= carrier.calls.last_failure_at);
        let uncalled_partner = partner_log.partner(PartnerKind::Import, None);
        assert_eq!(uncalled_partner.calls, LastCalls::default());
    }
}
