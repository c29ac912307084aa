//! The columns of a customer: how a [`Customer`] is divided into them and read from them, and the keys that it
//! is searched by.
//!
//! Phone number, addresses, metadata and version are not in `state`, but in columns of their own: workers of
//! earlier versions know `state` only, and would remove the other values when they change a customer.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use shared::{customer::Customer, order::Address};

use super::{
    decode::{parse_json, parse_unsigned},
    row::Row,
    statement::StatementBuilder,
};
use crate::store::StoreError;

/// The JSON columns of a customer.
pub(in crate::store) struct CustomerColumns {
    /// Column `state`: the customer without the values that have columns of their own.
    pub(in crate::store) state: Customer,
    /// Column `profile`; `None` if all its values are empty.
    pub(in crate::store) profile: Option<Profile>,
}

/// Column `profile`.
#[derive(Default, PartialEq, Serialize, Deserialize)]
pub(in crate::store) struct Profile {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    phone: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    addresses: Vec<Address>,
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    metadata: Map<String, Value>,
}

impl CustomerColumns {
    /// Divides `customer` into its columns.
    pub(in crate::store) fn from_customer(customer: &Customer) -> Self {
        let mut state = customer.clone();
        state.version = 0;
        let profile = Profile {
            phone: state.phone.take(),
            addresses: std::mem::take(&mut state.addresses),
            metadata: std::mem::take(&mut state.metadata),
        };
        Self {
            state,
            profile: (profile != Profile::default()).then_some(profile),
        }
    }
}

/// Decodes `state, version, profile` from columns that start at `first_column`.
pub(in crate::store) fn customer_at(
    row: &Row,
    first_column: usize,
) -> Result<Customer, StoreError> {
    let mut customer: Customer = parse_json("customer", row.text(first_column)?)?;
    customer.version = parse_unsigned("version", row.integer(first_column + 1)?)?;
    if let Some(profile_json) = row.maybe_text(first_column + 2)? {
        let Profile {
            phone,
            addresses,
            metadata,
        } = parse_json("customer", profile_json)?;
        customer.phone = phone;
        customer.addresses = addresses;
        customer.metadata = metadata;
    }
    Ok(customer)
}

/// `text` as it is searched for: in lower case, each character for itself, so that the key of a prefix is a
/// prefix of the key. (`str::to_lowercase` treats a sigma at the end of a word differently.)
pub(in crate::store) fn search_key(text: &str) -> String {
    text.chars().flat_map(char::to_lowercase).collect()
}

/// Adds the condition that `column`, followed by `column_suffix`, begins with `prefix`, as a range that an index
/// serves.
pub(in crate::store) fn push_prefix_range(
    statement: &mut StatementBuilder,
    column: &'static str,
    column_suffix: &'static str,
    prefix: &str,
) {
    statement
        .push(column)
        .push(column_suffix)
        .push(" >= ")
        .bind(prefix);
    if let Some(range_end) = prefix_end(prefix) {
        statement
            .push(" AND ")
            .push(column)
            .push(column_suffix)
            .push(" < ")
            .bind(range_end);
    }
}

/// The end of the range of texts that begin with `prefix`, exclusive, in the order of their code points;
/// `None` if there is no end.
pub(in crate::store) fn prefix_end(prefix: &str) -> Option<String> {
    let mut range_end = prefix.to_owned();
    while let Some(last_character) = range_end.pop() {
        let next_character =
            (u32::from(last_character) + 1..=u32::from(char::MAX)).find_map(char::from_u32);
        if let Some(next_character) = next_character {
            range_end.push(next_character);
            return Some(range_end);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_of_a_prefix_is_a_prefix_of_the_key() {
        assert_eq!(search_key("Ada ÖSTLUND"), "ada östlund");
        assert!(search_key("ΣΑΣΤΡΑ").starts_with(&search_key("ΣΑΣ")));
    }

    #[test]
    fn range_of_a_prefix_contains_the_texts_that_begin_with_it() {
        for prefix in ["a", "ad", "z\u{10ffff}", "\u{d7ff}", "ö", "%", "_"] {
            let range_end = prefix_end(prefix).unwrap();
            for suffix in ["", "a", "\u{10ffff}", "\u{10ffff}\u{10ffff}"] {
                let text = format!("{prefix}{suffix}");
                assert!(
                    *prefix <= *text && text < range_end,
                    "{prefix} {suffix} {range_end}"
                );
            }
        }
        assert_eq!(prefix_end("ad").as_deref(), Some("ae"));
        assert_eq!(prefix_end("a\u{10ffff}").as_deref(), Some("b"));
        assert_eq!(prefix_end("\u{10ffff}"), None);
        assert_eq!(prefix_end(""), None);
    }
}
