//! Tags of orders: short labels that operators set, to find and group orders.

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::body;

/// Maximum number of tags of an order.
pub const MAX_TAGS: usize = 50;
/// Maximum length of a tag in characters.
const MAX_TAG_CHARS: usize = 40;

/// A tag: 1 to 40 characters without commas and control characters, with at least one visible character. White
/// space around it is removed. It keeps its spelling, but letter case does not distinguish tags.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Tag(String);

impl Tag {
    /// The tag as it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The tag in lower case, each character for itself: equal tags have equal keys.
    pub fn key(&self) -> String {
        self.0.chars().flat_map(char::to_lowercase).collect()
    }
}

impl FromStr for Tag {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = body::visible_text(1..=MAX_TAG_CHARS)(Value::from(text))?;
        if text.contains(',') {
            return Err("must not contain commas".to_owned());
        }
        Ok(Self(text.trim().to_owned()))
    }
}

impl TryFrom<String> for Tag {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Tag> for String {
    fn from(tag: Tag) -> Self {
        tag.0
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Parses a set of tags. Of tags that differ in letter case only, the first one counts. The set is sorted by key.
pub(super) fn tags(value: Value) -> Result<Vec<Tag>, String> {
    let Value::Array(tag_values) = value else {
        return Err("must be a list of tags".to_owned());
    };
    if tag_values.len() > MAX_TAGS {
        return Err(format!("must have at most {MAX_TAGS} entries"));
    }
    let mut tags = BTreeMap::new();
    for (index, tag_value) in tag_values.into_iter().enumerate() {
        let tag: Tag =
            body::parsed(tag_value).map_err(|error| format!("entry {index}: {error}"))?;
        tags.entry(tag.key()).or_insert(tag);
    }
    Ok(tags.into_values().collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn tags_are_a_sorted_set_regardless_of_letter_case() {
        let tag_set = tags(json!([
            "vip",
            "Über uns",
            " VIP ",
            "Fraud: check",
            "über UNS"
        ]))
        .unwrap();
        let tag_texts: Vec<_> = tag_set.iter().map(Tag::as_str).collect();
        assert_eq!(tag_texts, ["Fraud: check", "vip", "Über uns"]);
        assert_eq!(tag_set[2].key(), "über uns");
        for invalid_tag in [
            json!("vip"),
            json!([1]),
            json!([""]),
            json!(["  "]),
            json!(["\u{200b}"]),
            json!(["a,b"]),
            json!(["a\nb"]),
            json!(["a\u{0}b"]),
            json!(["ä".repeat(41)]),
            json!(vec!["a"; MAX_TAGS + 1]),
        ] {
            assert!(tags(invalid_tag.clone()).is_err(), "{invalid_tag}");
        }
        assert!(tags(json!(["ä".repeat(40)])).is_ok());
    }
}
