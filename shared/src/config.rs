//! Configuration from environment variables.
//!
//! An invalid value is an error of one line that names the variable. A secret may also come from a file,
//! whose path is in `NAME_FILE`. Each program has its own `config` module; both read these variables:
//!
#![doc = include_str!("environment.md")]

use std::{
    collections::{BTreeSet, HashMap},
    fmt::Display,
    iter,
    str::FromStr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, bail};
use base64::{Engine as _, prelude::BASE64_STANDARD};

/// Minimum length of a webhook secret in bytes (Standard Webhooks, "Signature scheme").
const MIN_WEBHOOK_SECRET_BYTES: usize = 24;

/// Environment variables, read once; tests construct their own.
#[derive(Debug, Clone, Default)]
pub struct Env {
    variables: HashMap<String, String>,
    /// Names of the variables that were read, which tests compare with the documented ones.
    names_read: Arc<Mutex<BTreeSet<String>>>,
}

impl Env {
    /// The environment of the process.
    pub fn from_process() -> Self {
        Self {
            variables: std::env::vars().collect(),
            names_read: Arc::default(),
        }
    }

    /// An environment that consists of these variables.
    pub fn from_pairs<const N: usize>(pairs: [(&str, &str); N]) -> Self {
        Self {
            variables: pairs
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            names_read: Arc::default(),
        }
    }

    /// Names of the variables that were read so far, without those of files.
    pub fn names_read(&self) -> BTreeSet<String> {
        let names_read = self.names_read.lock();
        names_read.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The variable's value; an empty value counts as absent.
    pub fn text(&self, name: &str) -> Option<String> {
        let names_read = self.names_read.lock();
        names_read
            .unwrap_or_else(PoisonError::into_inner)
            .insert(name.to_owned());
        self.text_without_recording(name)
    }

    /// As [`Env::text`], without recording the name.
    pub(crate) fn text_without_recording(&self, name: &str) -> Option<String> {
        self.variables
            .get(name)
            .map(|value| value.trim().to_owned())
            .filter(|value| !value.is_empty())
    }

    /// The variable's value, or the contents of the file whose path is in `NAME_FILE`.
    ///
    /// # Errors
    /// When both are set, or the file can't be read.
    pub fn secret(&self, name: &str) -> anyhow::Result<Option<String>> {
        let file_variable = format!("{name}_FILE");
        match (self.text(name), self.text_without_recording(&file_variable)) {
            (Some(_), Some(_)) => {
                bail!("{name} and {file_variable} are both set: set only one of them")
            }
            (value, None) => Ok(value),
            (None, Some(path)) => std::fs::read_to_string(&path)
                .map(|text| Some(text.trim().to_owned()).filter(|text| !text.is_empty()))
                .with_context(|| format!("{file_variable}={path}: can't read the file")),
        }
    }

    /// A secret that signs webhooks, in the format of Standard Webhooks: `whsec_` followed by base64.
    ///
    /// # Errors
    /// As [`Env::secret`], and when it is not base64 or has fewer than 24 bytes.
    pub fn webhook_secret(&self, name: &str) -> anyhow::Result<Option<String>> {
        let secret = self.secret(name)?;
        if let Some(secret) = &secret {
            let encoded_secret = secret.strip_prefix("whsec_");
            let encoded_secret =
                encoded_secret.with_context(|| format!("{name}: must begin with whsec_"))?;
            let secret_bytes = BASE64_STANDARD.decode(encoded_secret).map_err(|error| {
                anyhow::anyhow!("{name}: must be whsec_ followed by base64: {error}")
            })?;
            if secret_bytes.len() < MIN_WEBHOOK_SECRET_BYTES {
                bail!(
                    "{name}: has {} bytes after whsec_, must have at least {MIN_WEBHOOK_SECRET_BYTES}",
                    secret_bytes.len()
                );
            }
        }
        Ok(secret)
    }

    /// The variable's value as `T`, or `default`.
    ///
    /// # Errors
    /// Names the variable and the reason why its value is invalid.
    pub fn parsed<T: FromStr<Err: Display>>(&self, name: &str, default: &str) -> anyhow::Result<T> {
        let value = self.text(name).unwrap_or_else(|| default.to_owned());
        value
            .parse()
            .map_err(|error| anyhow::anyhow!("{name}={value:?}: {error}"))
    }

    /// A duration of whole seconds from 1 to a year.
    ///
    /// # Errors
    /// Names the variable.
    pub fn seconds(&self, name: &str, default: u64) -> anyhow::Result<Duration> {
        self.number(name, default, 31_536_000)
            .map(Duration::from_secs)
    }

    /// A duration of whole milliseconds from 1 to a day.
    ///
    /// # Errors
    /// Names the variable.
    pub fn millis(&self, name: &str, default: u64) -> anyhow::Result<Duration> {
        self.number(name, default, 86_400_000)
            .map(Duration::from_millis)
    }

    fn number(&self, name: &str, default: u64, max_value: u64) -> anyhow::Result<u64> {
        let number: u64 = self.parsed(name, &default.to_string())?;
        if (1..=max_value).contains(&number) {
            return Ok(number);
        }
        bail!("{name}={number}: must be from 1 to {max_value}");
    }

    /// One of a fixed set of words.
    ///
    /// # Errors
    /// Names the variable and the words.
    pub fn choice<T: Copy>(
        &self,
        name: &str,
        choices: &[(&str, T)],
        default: &str,
    ) -> anyhow::Result<T> {
        let value = self.text(name).unwrap_or_else(|| default.to_owned());
        if let Some((_, choice)) = choices
            .iter()
            .find(|(choice_name, _)| *choice_name == value)
        {
            return Ok(*choice);
        }
        let choice_names: Vec<&str> = choices
            .iter()
            .map(|(choice_name, _)| *choice_name)
            .collect();
        bail!(
            "{name}={value:?}: must be one of {}",
            choice_names.join(", ")
        );
    }
}

/// The text about environment variables for `--help`: the program's variables in `own_table`, a Markdown table
/// like that of [this module](self), followed by the common ones.
pub fn describe(own_table: &str) -> String {
    let rows = table_rows(own_table).chain(table_rows(COMMON_VARIABLES));
    let variable_texts = rows.map(|[names, default, meaning]| {
        let default = match default {
            default_text if default_text.is_empty() => default_text,
            default_text => format!(" [default: {default_text}]"),
        };
        format!("\n  {names}{default}\n          {meaning}\n")
    });
    let heading = "Environment variables (a secret may also come from a file: NAME_FILE=PATH):\n";
    iter::once(heading.to_owned())
        .chain(variable_texts)
        .collect()
}

/// The table of variables that both programs read.
pub const COMMON_VARIABLES: &str = include_str!("environment.md");

/// The rows of a table of variables: names, default and meaning, without backticks.
fn table_rows(table: &str) -> impl Iterator<Item = [String; 3]> {
    table.lines().skip(2).filter_map(|row| {
        let cells: Vec<_> = row
            .trim_matches('|')
            .split('|')
            .map(|cell| cell.trim().replace('`', ""))
            .collect();
        cells.try_into().ok()
    })
}

/// A variable of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variable {
    /// Name.
    pub name: String,
    /// Text of the default; empty if there is none.
    pub default: String,
    /// Meaning.
    pub meaning: String,
    /// Whether its value is a secret, or a URL that may contain one.
    pub is_secret: bool,
}

/// The variables of a Markdown table like that of [this module](self). The meaning of those that are secrets ends
/// with `; a secret` or `; secrets`, or mentions `; a secret,`.
pub fn documented_variables(table: &str) -> Vec<Variable> {
    let variables = table_rows(table).flat_map(|[names, default, meaning]| {
        let is_secret = meaning.contains("; a secret") || meaning.contains("; secrets");
        let secret_note_start = meaning.find("; a secret").or(meaning.find("; secrets"));
        let meaning = meaning[..secret_note_start.unwrap_or(meaning.len())].to_owned();
        let names: Vec<_> = names.split(", ").map(str::to_owned).collect();
        names.into_iter().map(move |name| Variable {
            name,
            default: default.clone(),
            meaning: meaning.clone(),
            is_secret,
        })
    });
    variables.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_value_is_reported_with_its_variable() {
        let env = Env::from_pairs([("A", "x"), ("B", "0"), ("C", "purple")]);
        for error in [
            env.millis("A", 5).unwrap_err(),
            env.seconds("B", 5).unwrap_err(),
            env.choice("C", &[("pretty", 1), ("json", 2)], "pretty")
                .unwrap_err(),
        ] {
            let error_text = error.to_string();
            assert!(
                ["A=", "B=", "C="]
                    .iter()
                    .any(|name| error_text.starts_with(name)),
                "{error_text}"
            );
            assert!(!error_text.contains('\n'));
        }
        assert_eq!(env.millis("D", 5).unwrap(), Duration::from_millis(5));
    }

    #[test]
    fn help_lists_own_and_common_variables() {
        let table = "| variable | default | meaning |\n|---|---|---|\n| `A`, `B` | `1` | the `x`: to do |\n| `C` | | more |\n";
        let help_text = describe(table);
        assert!(
            help_text.contains("\n  A, B [default: 1]\n          the x: to do\n"),
            "{help_text}"
        );
        assert!(help_text.contains("\n  C\n          more\n"), "{help_text}");
        assert!(
            help_text.contains("\n  LOG_FORMAT [default: pretty]\n"),
            "{help_text}"
        );
    }

    #[test]
    fn secret_can_come_from_variable_or_file_but_not_both() {
        let env = Env::from_pairs([("KEY_FILE", "/nonexistent/secret")]);
        assert!(
            env.secret("KEY")
                .unwrap_err()
                .to_string()
                .contains("KEY_FILE")
        );
        let env = Env::from_pairs([("KEY_FILE", "/dev/null"), ("KEY", "k")]);
        assert!(env.secret("KEY").is_err());
        assert_eq!(
            Env::from_pairs([("KEY", "k")])
                .secret("KEY")
                .unwrap()
                .as_deref(),
            Some("k")
        );
    }
}
