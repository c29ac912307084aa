//! Entity tags and the conditions made of them (RFC 9110, sections 8.8.3 and 13.1).
//!
//! What has a version is tagged with it, anything else with a digest of its JSON. A product's stock
//! moves without a new version: its tag is the version and a digest of the stock, of which only the
//! version is a condition, or nobody could change the price of what sells. It is the same with an endpoint's
//! `failing_since`.
//!
//! Both processes make tags here: a condition that a client took from the gateway is decided by the
//! worker.

use std::{
    fmt::{self, Write},
    str::FromStr,
};

use serde::Deserialize;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use crate::outcome::{Code, Failure, Json};

/// Tags that a condition may name.
const MAX_TAGS: usize = 20;
/// Characters of a condition.
const MAX_LENGTH: usize = 1_000;
/// Bytes of a digest that make a tag.
const DIGEST_BYTES: usize = 12;

/// The tag of `value`, with its quotation marks.
pub fn of(value: &Json) -> String {
    #[derive(Default, Deserialize)]
    struct Tagged<'a> {
        version: Option<u64>,
        #[serde(borrow)]
        stock: Option<&'a RawValue>,
        #[serde(borrow)]
        failing_since: Option<&'a RawValue>,
    }
    let Tagged {
        version,
        stock,
        failing_since,
    } = serde_json::from_str(value.text()).unwrap_or_default();
    of_parts(version, stock.or(failing_since), value)
}

/// The tag of `value`, of which it is known already what counts its changes, and what changes
/// without being counted.
pub fn of_parts(version: Option<u64>, uncounted: Option<&RawValue>, value: &Json) -> String {
    match (version, uncounted) {
        (Some(version), None) => format!("\"{version}\""),
        (Some(version), Some(uncounted)) => {
            format!("\"{version}-{}\"", digest(uncounted.get()))
        }
        (None, _) => format!("\"{}\"", digest(value.text())),
    }
}

fn digest(text: &str) -> String {
    let digest = Sha256::digest(text);
    digest[..DIGEST_BYTES]
        .iter()
        .fold(String::new(), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        })
}

/// A tag without what is no condition.
fn condition(tag: &str) -> &str {
    tag.split_once('-')
        .map_or(tag, |(version, _)| version)
        .trim_end_matches('"')
}

/// What `If-Match` asks for: the thing is still as the client knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IfMatch {
    /// `*`: it is there.
    Any,
    /// It has one of these tags.
    OneOf(Vec<String>),
}

impl IfMatch {
    /// Refuses to change what has another tag.
    ///
    /// # Errors
    /// `VERSION_MISMATCH`.
    pub fn check(&self, tag: &str) -> Result<(), Failure> {
        match self {
            Self::Any => Ok(()),
            Self::OneOf(tags) if tags.iter().any(|known| condition(known) == condition(tag)) => {
                Ok(())
            }
            Self::OneOf(_) => Err(Failure::new(
                Code::VersionMismatch,
                format!("it has changed: its ETag is {tag}, not {self}; nothing was done"),
            )),
        }
    }
}

impl FromStr for IfMatch {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.trim() == "*" {
            return Ok(Self::Any);
        }
        if text.len() > MAX_LENGTH {
            return Err(format!("must have at most {MAX_LENGTH} characters"));
        }
        // A weak tag equals none here (RFC 9110, section 13.1.1), nor does what is no tag at all.
        let tags: Vec<String> = text.split(',').map(|tag| tag.trim().to_owned()).collect();
        if tags.len() <= MAX_TAGS {
            Ok(Self::OneOf(tags))
        } else {
            Err(format!("must have at most {MAX_TAGS} entity tags"))
        }
    }
}

impl fmt::Display for IfMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::OneOf(tags) => f.write_str(&tags.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_survives_the_wire_and_compares_strongly() {
        for text in ["*", "\"3\"", "\"3\", W/\"4\", \"ab-c\""] {
            assert_eq!(text.parse::<IfMatch>().unwrap().to_string(), text);
        }
        for no_tag in ["", "3", "\"3 ", "\"a b\"", "\"", ","] {
            let condition: IfMatch = no_tag.parse().unwrap();
            assert!(condition.check("\"4\"").is_err(), "{no_tag}");
        }
        assert!("\"1\",".repeat(50).parse::<IfMatch>().is_err());
        let condition: IfMatch = "\"3\", W/\"4\"".parse().unwrap();
        assert!(condition.check("\"3\"").is_ok());
        assert_eq!(
            condition.check("\"4\"").unwrap_err().code,
            Code::VersionMismatch
        );
        assert!(condition.check("\"3-ab\"").is_ok());
        assert!(condition.check("\"33\"").is_err());
    }

    #[test]
    fn what_has_no_version_is_tagged_by_what_it_says() {
        let json = |value| Json::of(&value).unwrap();
        assert_eq!(of(&json(serde_json::json!({"version": 7}))), "\"7\"");
        let (one, two) = (
            json(serde_json::json!({"version": 7, "stock": [1]})),
            json(serde_json::json!({"version": 7, "stock": [2]})),
        );
        assert_ne!(of(&one), of(&two));
        let (one, two) = (
            json(serde_json::json!({"a": 1})),
            json(serde_json::json!({"a": 2})),
        );
        assert_eq!(of(&one), of(&one));
        assert_ne!(of(&one), of(&two));
    }
}
