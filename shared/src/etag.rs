//! Entity tags and preconditions (RFC 9110, sections 8.8.3 and 13.1).
//!
//! The tag of a resource with a version is that version; the tag of any other resource is a digest of its
//! JSON. A product's stock changes without a new version: its tag is the version and a digest of the stock.
//! Only the version counts in `If-Match`; otherwise every sale would make a price change fail. An endpoint's
//! `failing_since` and an API key's `last_used_at` are treated in the same way.
//!
//! The gateway and the worker compute the same tags: a client takes a tag from a gateway's response, and the
//! worker evaluates the precondition.

use std::{
    fmt::{self, Write},
    str::FromStr,
};

use serde::Deserialize;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use crate::outcome::{Code, Failure, Json};

/// Maximum number of tags in a header.
const MAX_TAGS: usize = 20;
/// Maximum length of a header value in bytes.
const MAX_HEADER_BYTES: usize = 1_000;
/// Number of digest bytes in a tag.
const DIGEST_BYTES: usize = 12;

/// The entity tag of `resource`, with quotation marks.
pub fn of(resource: &Json) -> String {
    #[derive(Default, Deserialize)]
    struct TagFields<'a> {
        version: Option<u64>,
        #[serde(borrow)]
        stock: Option<&'a RawValue>,
        #[serde(borrow)]
        failing_since: Option<&'a RawValue>,
        #[serde(borrow)]
        last_used_at: Option<&'a RawValue>,
    }
    let TagFields {
        version,
        stock,
        failing_since,
        last_used_at,
    } = serde_json::from_str(resource.text()).unwrap_or_default();
    tag_of_parts(version, stock.or(failing_since).or(last_used_at), resource)
}

/// The entity tag of `resource` from its `version` and its `unversioned_part`, which changes without a new
/// version.
pub fn tag_of_parts(
    version: Option<u64>,
    unversioned_part: Option<&RawValue>,
    resource: &Json,
) -> String {
    match (version, unversioned_part) {
        (Some(version), None) => format!("\"{version}\""),
        (Some(version), Some(unversioned_part)) => {
            format!("\"{version}-{}\"", digest(unversioned_part.get()))
        }
        (None, _) => format!("\"{}\"", digest(resource.text())),
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

/// The part of a tag that `If-Match` compares: without the digest of what changes without a new version.
fn compared_part(opaque_tag: &str) -> &str {
    opaque_tag
        .split_once('-')
        .map_or(opaque_tag, |(version, _)| version)
}

/// An entity tag: `"3"`, or weak `W/"3"` (RFC 9110, section 8.8.3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntityTag {
    /// Whether the tag begins with `W/`.
    pub is_weak: bool,
    /// The text between the quotation marks.
    pub opaque: String,
}

impl EntityTag {
    /// Strong comparison: a weak tag equals no tag.
    fn equals_strongly(&self, opaque_tag: &str) -> bool {
        !self.is_weak && compared_part(&self.opaque) == compared_part(opaque_tag)
    }
}

impl fmt::Display for EntityTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let weak_prefix = if self.is_weak { "W/" } else { "" };
        write!(f, "{weak_prefix}\"{}\"", self.opaque)
    }
}

/// The value of `If-Match` or `If-None-Match`: `*`, or entity tags separated by commas. A tag may contain
/// commas; empty list elements are ignored (RFC 9110, section 5.6.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TagList {
    /// `*`: any tag.
    Any,
    /// At least one tag.
    Tags(Vec<EntityTag>),
}

impl FromStr for TagList {
    type Err = String;

    fn from_str(list_text: &str) -> Result<Self, String> {
        const WHITESPACE: [char; 2] = [' ', '\t'];
        if list_text.len() > MAX_HEADER_BYTES {
            return Err(format!("must have at most {MAX_HEADER_BYTES} bytes"));
        }
        if list_text.trim_matches(WHITESPACE) == "*" {
            return Ok(Self::Any);
        }
        let malformed_error = || "must be * or a list of entity tags such as \"3\"".to_owned();
        let (mut tags, mut remaining_text) = (Vec::new(), list_text);
        loop {
            remaining_text = remaining_text.trim_start_matches([' ', '\t', ',']);
            if remaining_text.is_empty() {
                break;
            }
            let (is_weak, tag_text) = match remaining_text.strip_prefix("W/") {
                Some(tag_text) => (true, tag_text),
                None => (false, remaining_text),
            };
            let tag_text = tag_text.strip_prefix('"').ok_or_else(malformed_error)?;
            let (opaque_tag, after_tag) = tag_text.split_once('"').ok_or_else(malformed_error)?;
            let is_tag_character = |c: char| c == '!' || ('#'..='~').contains(&c) || !c.is_ascii();
            if !opaque_tag.chars().all(is_tag_character) {
                return Err(malformed_error());
            }
            tags.push(EntityTag {
                is_weak,
                opaque: opaque_tag.to_owned(),
            });
            remaining_text = after_tag.trim_start_matches(WHITESPACE);
            if !(remaining_text.is_empty() || remaining_text.starts_with(',')) {
                return Err(malformed_error());
            }
        }
        if tags.is_empty() {
            return Err(malformed_error());
        }
        if tags.len() > MAX_TAGS {
            return Err(format!("must have at most {MAX_TAGS} entity tags"));
        }
        Ok(Self::Tags(tags))
    }
}

impl TagList {
    /// Whether the list contains `tag`, given with its quotation marks, by weak comparison, as required for
    /// `If-None-Match` (RFC 9110, section 13.1.2).
    pub fn has_weakly(&self, quoted_tag: &str) -> bool {
        let tag_text = quoted_tag
            .strip_prefix("W/")
            .unwrap_or(quoted_tag)
            .trim_matches('"');
        match self {
            Self::Any => true,
            Self::Tags(tags) => tags.iter().any(|listed_tag| listed_tag.opaque == tag_text),
        }
    }
}

/// The precondition `If-Match`: the resource still has the version that the client knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IfMatch(TagList);

impl IfMatch {
    /// Checks the precondition for a resource with `tag`, given with its quotation marks.
    ///
    /// # Errors
    /// `VERSION_MISMATCH` when the resource has another tag.
    pub fn check(&self, tag: &str) -> Result<(), Failure> {
        match &self.0 {
            TagList::Any => Ok(()),
            TagList::Tags(tags)
                if tags
                    .iter()
                    .any(|listed_tag| listed_tag.equals_strongly(tag.trim_matches('"'))) =>
            {
                Ok(())
            }
            TagList::Tags(_) => Err(Failure::new(
                Code::VersionMismatch,
                format!(
                    "the resource has changed: its ETag is {tag}, If-Match has {self}; nothing was done"
                ),
            )),
        }
    }

    /// Checks the precondition for a resource without an `ETag`, such as a collection. It exists, so `*`
    /// matches, and no tag does.
    ///
    /// # Errors
    /// `VERSION_MISMATCH` when the precondition has tags.
    pub fn check_untagged(&self) -> Result<(), Failure> {
        match &self.0 {
            TagList::Any => Ok(()),
            TagList::Tags(_) => Err(Failure::new(
                Code::VersionMismatch,
                format!(
                    "this resource has no ETag, so If-Match {self} can't match: omit the header; nothing was done"
                ),
            )),
        }
    }
}

impl FromStr for IfMatch {
    type Err = String;

    fn from_str(list_text: &str) -> Result<Self, String> {
        list_text.parse().map(Self)
    }
}

impl fmt::Display for IfMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            TagList::Any => f.write_str("*"),
            TagList::Tags(tags) => {
                let tag_texts: Vec<_> = tags.iter().map(EntityTag::to_string).collect();
                f.write_str(&tag_texts.join(", "))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn if_match_round_trips_and_compares_strongly() {
        for text in ["*", "\"3\"", "\"3\", W/\"4\", \"ab-c\"", "\"a,b\", \"\""] {
            assert_eq!(text.parse::<IfMatch>().unwrap().to_string(), text);
        }
        let empty_elements: IfMatch = " , \"3\" ,, \"4\",".parse().unwrap();
        assert_eq!(empty_elements.to_string(), "\"3\", \"4\"");
        for malformed_list in [
            "",
            "3",
            "\"3",
            "3\"",
            "\"3 ",
            "\"a b\"",
            "\"",
            ",",
            "w/\"3\"",
            "*, \"3\"",
            "\"3\" \"4\"",
        ] {
            assert!(
                malformed_list.parse::<IfMatch>().is_err(),
                "{malformed_list}"
            );
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
        assert!(condition.check_untagged().is_err());
    }

    #[test]
    fn if_none_match_compares_weakly_and_keeps_commas_within_a_tag() {
        let known_tags: TagList = "\"a,b\", W/\"4\"".parse().unwrap();
        assert!(known_tags.has_weakly("\"4\"") && known_tags.has_weakly("\"a,b\""));
        assert!(!known_tags.has_weakly("\"b\"") && !known_tags.has_weakly("\"4-ab\""));
    }

    #[test]
    fn etag_without_version_is_derived_from_the_content() {
        let json = |value| Json::of(&value).unwrap();
        assert_eq!(of(&json(serde_json::json!({"version": 7}))), "\"7\"");
        let (first_state, second_state) = (
            json(serde_json::json!({"version": 7, "stock": [1]})),
            json(serde_json::json!({"version": 7, "stock": [2]})),
        );
        assert_ne!(of(&first_state), of(&second_state));
        let (first_state, second_state) = (
            json(serde_json::json!({"a": 1})),
            json(serde_json::json!({"a": 2})),
        );
        assert_eq!(of(&first_state), of(&first_state));
        assert_ne!(of(&first_state), of(&second_state));
    }
}
