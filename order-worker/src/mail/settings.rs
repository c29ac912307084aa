//! Settings of messages to customers: the mail server (`SMTP_URL`), the sender (`MAIL_FROM`), templates and
//! limits.

use std::{num::NonZeroU32, path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context, bail};
use lettre::{message::Mailbox, transport::smtp::authentication::Credentials};
use shared::config::Env;
use url::Url;

use super::templates::Templates;

/// Largest `MAIL_RATE`.
const MAX_RATE: u32 = 1_000;
/// Default port of a mail server that relays messages of authenticated clients (RFC 6409).
const SUBMISSION_PORT: u16 = 587;
/// Default port of a mail server with implicit TLS (RFC 8314).
const SUBMISSIONS_PORT: u16 = 465;

/// Settings of messages to customers.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The mail server.
    pub server: Server,
    /// The sender.
    pub sender: Mailbox,
    /// The templates.
    pub templates: Arc<Templates>,
    /// Maximum number of messages that this worker sends per second.
    pub rate: NonZeroU32,
    /// Timeout of an attempt, from connecting to the response to the message.
    pub timeout: Duration,
    /// Whether customers of imported orders get messages.
    pub includes_imported: bool,
}

/// A mail server.
#[derive(Clone)]
pub struct Server {
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Encryption.
    pub encryption: Encryption,
    /// User name and password.
    pub credentials: Option<Credentials>,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("encryption", &self.encryption)
            .finish_non_exhaustive()
    }
}

/// Encryption of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encryption {
    /// STARTTLS if the server offers it.
    Opportunistic,
    /// STARTTLS; without it nothing is sent.
    StartTls,
    /// TLS from the first byte.
    Implicit,
}

impl Settings {
    /// Reads the settings; `None` without `SMTP_URL`.
    ///
    /// # Errors
    /// Names the variable or the template that is invalid.
    pub fn read(env: &Env) -> anyhow::Result<Option<Self>> {
        let includes_imported =
            env.choice("MAIL_IMPORTED_ORDERS", &[("0", false), ("1", true)], "0")?;
        let rate: NonZeroU32 = env.parsed("MAIL_RATE", "10")?;
        if rate.get() > MAX_RATE {
            bail!("MAIL_RATE={rate}: must be from 1 to {MAX_RATE} messages per second");
        }
        let timeout = env.seconds("MAIL_TIMEOUT_SECONDS", 60)?;
        if timeout > Duration::from_mins(10) {
            bail!(
                "MAIL_TIMEOUT_SECONDS={}: must be from 1 to 600",
                timeout.as_secs()
            );
        }
        let Some(url_text) = env.secret("SMTP_URL")? else {
            return Ok(None);
        };
        let server =
            parse_server(&url_text).map_err(|reason| anyhow::anyhow!("SMTP_URL: {reason}"))?;
        let Some(sender_text) = env.text("MAIL_FROM") else {
            bail!("SMTP_URL: needs MAIL_FROM, the sender of the messages");
        };
        let sender_address: Mailbox = sender_text
            .parse()
            .map_err(|error| anyhow::anyhow!("MAIL_FROM={sender_text:?}: {error}"))?;
        let templates_folder = env.text("MAIL_TEMPLATES").map(PathBuf::from);
        Ok(Some(Self {
            server,
            sender: sender_address,
            templates: Arc::new(
                Templates::load(templates_folder.as_deref()).context("MAIL_TEMPLATES")?,
            ),
            rate,
            timeout,
            includes_imported,
        }))
    }
}

/// Parses `smtp://`, `smtp://…?tls=required` or `smtps://`. The error never contains the password.
fn parse_server(url_text: &str) -> Result<Server, String> {
    const URL_FORMS: &str =
        "must be smtp://HOST, smtp://USER:PASSWORD@HOST?tls=required or smtps://USER:PASSWORD@HOST";
    let url = Url::parse(url_text).map_err(|error| format!("{error}; {URL_FORMS}"))?;
    let (default_port, is_implicit_tls) = match url.scheme() {
        "smtp" => (SUBMISSION_PORT, false),
        "smtps" => (SUBMISSIONS_PORT, true),
        scheme => return Err(format!("unknown scheme {scheme}; {URL_FORMS}")),
    };
    let host = url.host_str().filter(|host| !host.is_empty());
    let host = host.ok_or_else(|| format!("has no host; {URL_FORMS}"))?;
    if !matches!(url.path(), "" | "/") || url.fragment().is_some() {
        return Err(format!("has a path or fragment; {URL_FORMS}"));
    }
    let mut encryption = if is_implicit_tls {
        Encryption::Implicit
    } else {
        Encryption::Opportunistic
    };
    for (parameter_name, parameter_value) in url.query_pairs() {
        match (&*parameter_name, &*parameter_value) {
            ("tls", "required") if !is_implicit_tls => encryption = Encryption::StartTls,
            ("tls", "required") => {}
            ("tls", _) => return Err("tls: must be required".to_owned()),
            (parameter_name, _) => {
                return Err(format!("unknown parameter {parameter_name}; {URL_FORMS}"));
            }
        }
    }
    let credentials = match (url.username(), url.password()) {
        ("", None) => None,
        ("", Some(_)) => return Err("has a password, but no user name".to_owned()),
        (_, None) => return Err("has a user name, but no password".to_owned()),
        (user, Some(password)) => Some(Credentials::new(
            decode_percent(user)?,
            decode_percent(password)?,
        )),
    };
    if credentials.is_some() && encryption == Encryption::Opportunistic {
        return Err("a password needs TLS: add ?tls=required, or begin with smtps://".to_owned());
    }
    Ok(Server {
        // An IPv6 address is in brackets.
        host: host.trim_matches(['[', ']']).to_owned(),
        port: url.port().unwrap_or(default_port),
        encryption,
        credentials,
    })
}

/// Decodes percent-encoded UTF-8.
fn decode_percent(encoded_text: &str) -> Result<String, String> {
    let (mut decoded_bytes, encoded_bytes) = (Vec::new(), encoded_text.as_bytes());
    let mut byte_index = 0;
    while let Some(byte) = encoded_bytes.get(byte_index) {
        let hex_digits = encoded_bytes.get(byte_index + 1..byte_index + 3);
        let hex_digits = hex_digits.and_then(|hex_digits| std::str::from_utf8(hex_digits).ok());
        let decoded_byte =
            hex_digits.and_then(|hex_digits| u8::from_str_radix(hex_digits, 16).ok());
        match (byte, decoded_byte) {
            (b'%', Some(decoded_byte)) => {
                decoded_bytes.push(decoded_byte);
                byte_index += 3;
            }
            (byte, _) => {
                decoded_bytes.push(*byte);
                byte_index += 1;
            }
        }
    }
    let decoded_text = String::from_utf8(decoded_bytes);
    decoded_text.map_err(|_| "user name and password must be percent-encoded UTF-8".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smtp_url_gives_host_port_encryption_and_credentials() {
        let server = parse_server("smtp://mail.example").unwrap();
        assert_eq!((server.host.as_str(), server.port), ("mail.example", 587));
        assert_eq!(server.encryption, Encryption::Opportunistic);
        assert!(server.credentials.is_none());
        let server = parse_server("smtp://us%40er:p%3Aw%C3%A9@mail:2525/?tls=required").unwrap();
        assert_eq!(
            (server.port, server.encryption),
            (2525, Encryption::StartTls)
        );
        let expected_credentials = Credentials::new("us@er".to_owned(), "p:wé".to_owned());
        assert_eq!(server.credentials, Some(expected_credentials));
        let server = parse_server("smtps://[::1]").unwrap();
        assert_eq!((server.host.as_str(), server.port), ("::1", 465));
        assert_eq!(server.encryption, Encryption::Implicit);
    }

    #[test]
    fn wrong_smtp_urls_are_refused_in_one_line_without_the_password() {
        for (url_text, reason) in [
            ("mail.example:25", "SMTP_URL: "),
            ("http://mail.example", "unknown scheme http"),
            ("smtp://", "SMTP_URL: "),
            ("smtp://user:hunter2@mail", "a password needs TLS"),
            ("smtps://:hunter2@mail", "no user name"),
            ("smtps://user@mail", "no password"),
            ("smtp://mail?tls=maybe", "tls: must be required"),
            ("smtp://mail?ssl=1", "unknown parameter ssl"),
            ("smtps://mail/inbox", "has a path"),
            ("smtps://u:hunter2%FF@mail", "percent-encoded UTF-8"),
        ] {
            let env = Env::from_pairs([("SMTP_URL", url_text), ("MAIL_FROM", "shop@example.com")]);
            let error_text = format!("{:#}", Settings::read(&env).unwrap_err());
            assert!(error_text.starts_with("SMTP_URL: "), "{error_text}");
            assert!(error_text.contains(reason), "{url_text}: {error_text}");
            assert!(
                !error_text.contains("hunter2") && !error_text.contains('\n'),
                "{error_text}"
            );
        }
    }

    #[test]
    fn sender_is_required_and_must_be_an_address() {
        let env = Env::from_pairs([("SMTP_URL", "smtp://mail")]);
        let error_text = Settings::read(&env).unwrap_err().to_string();
        assert!(error_text.contains("needs MAIL_FROM"), "{error_text}");
        for (variable_name, variable_value) in [
            ("MAIL_FROM", "Shop"),
            ("MAIL_RATE", "0"),
            ("MAIL_RATE", "1001"),
        ] {
            let env_pairs = [
                ("MAIL_FROM", "a@b.example"),
                ("SMTP_URL", "smtp://mail"),
                (variable_name, variable_value),
            ];
            let settings_error = Settings::read(&Env::from_pairs(env_pairs)).unwrap_err();
            assert!(
                settings_error.to_string().starts_with(variable_name),
                "{settings_error}"
            );
        }
        let env_pairs = [
            ("SMTP_URL", "smtp://mail"),
            ("MAIL_FROM", "The Shop <shop@example.com>"),
        ];
        let settings = Settings::read(&Env::from_pairs(env_pairs))
            .unwrap()
            .unwrap();
        assert_eq!(settings.sender.email.to_string(), "shop@example.com");
        assert!(Settings::read(&Env::from_pairs([])).unwrap().is_none());
    }
}
