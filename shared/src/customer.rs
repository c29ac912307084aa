//! Customers: representation and requests.
//!
//! A customer belongs to one storefront; every order names its customer. Orders of blocked customers are
//! refused. Erasing a customer removes the personal data, but keeps the orders.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    body::{self, Fields},
    id::{CustomerId, Storefront},
    limits::{MAX_ADDRESSES, MAX_METADATA_BYTES},
    order::{Address, address, cursor_by, limit},
    schema,
};

/// Maximum length of a phone number in characters.
const MAX_PHONE_CHARS: usize = 40;
/// Range of the number of digits in a phone number. E.164 allows 15; the rest is for an extension.
const PHONE_DIGITS: std::ops::RangeInclusive<usize> = 3..=24;

/// A customer of one storefront.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(example = json!({
    "id": "0192f0c1-0000-7abc-8def-0123456789ab", "name": "Ada Lovelace", "email": "ada@example.com",
    "phone": "+49 30 123456",
    "addresses": [{"name": "Ada Lovelace", "line1": "Main Street 1", "city": "Berlin", "country": "DE"}],
    "metadata": {"crm": "42"}, "storefront": "eu", "is_blocked": false, "is_verified": true, "version": 1,
    "created_at": "2026-01-31T12:00:00Z"
}))]
pub struct Customer {
    /// UUIDv7.
    pub id: CustomerId,
    /// Name.
    pub name: String,
    /// E-mail address.
    pub email: String,
    /// Phone number.
    #[serde(default)]
    pub phone: Option<String>,
    /// Addresses.
    #[serde(default)]
    #[schema(required = true)]
    pub addresses: Vec<Address>,
    /// Metadata set by the client.
    #[serde(default)]
    #[schema(value_type = Object, required = true)]
    pub metadata: Map<String, Value>,
    /// The storefront that the customer belongs to.
    pub storefront: Storefront,
    /// Whether the customer is blocked: orders of blocked customers are refused.
    pub is_blocked: bool,
    /// Whether the merchant has verified the customer's identity.
    #[serde(default)]
    pub is_verified: bool,
    /// Number of changes since the creation: the `sequence` of the last event `customer.updated`; also the
    /// `ETag`.
    #[serde(default)]
    #[schema(required = true)]
    pub version: u64,
    /// Time of creation.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// Time at which the personal data was erased. It is empty since then, and can't be changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub erased_at: Option<Timestamp>,
}

/// `customer.create`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"name": "Ada Lovelace", "email": "ada@example.com"}))]
pub struct NewCustomer {
    /// Name.
    #[schema(min_length = 1, max_length = 200)]
    pub name: String,
    /// E-mail address.
    #[schema(format = Email, min_length = 3, max_length = 254)]
    pub email: String,
    /// Phone number: digits, of which spaces and punctuation may separate groups.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = schema::phone, required = false)]
    pub phone: Option<String>,
    /// Addresses, in the customer's order of preference.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(schema_with = schema::addresses, required = false)]
    pub addresses: Vec<Address>,
    /// Metadata set by the client.
    #[serde(skip_serializing_if = "Map::is_empty")]
    #[schema(schema_with = schema::metadata, required = false)]
    pub metadata: Map<String, Value>,
    /// The storefront that the customer belongs to; for operators and admins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storefront: Option<Storefront>,
}

impl NewCustomer {
    pub(crate) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let name = fields.required("name", name);
        let email = fields.required("email", email);
        let phone = fields.optional("phone", phone);
        let addresses = fields.optional("addresses", addresses);
        let metadata = fields.optional("metadata", body::object(MAX_METADATA_BYTES));
        let storefront = fields.optional("storefront", body::parsed);
        Some(Self {
            name: name?,
            email: email?,
            phone,
            addresses: addresses.unwrap_or_default(),
            metadata: metadata.unwrap_or_default(),
            storefront,
        })
    }
}

/// `customer.update`: a JSON Merge Patch (RFC 7396). Given values are changed, `null` removes a value, absent
/// values stay.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"email": "ada@example.org", "phone": null, "metadata": {"crm": "43"}}))]
pub struct UpdateCustomer {
    /// Id of the customer.
    #[schema(ignore)]
    pub id: CustomerId,
    /// Name.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 200, nullable = false)]
    pub name: Option<String>,
    /// E-mail address. A customer with another address has to be verified again.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = Email, min_length = 3, max_length = 254, nullable = false)]
    pub email: Option<String>,
    /// Phone number; `null` removes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = schema::phone, required = false)]
    pub phone: Option<Option<String>>,
    /// All addresses; `null` removes them.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = schema::addresses, required = false)]
    pub addresses: Option<Vec<Address>>,
    /// Members of the metadata to change; `null` removes a member, and in place of the object all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = schema::metadata, required = false)]
    pub metadata: Option<Option<Map<String, Value>>>,
}

impl UpdateCustomer {
    pub(crate) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let id = fields.required("id", body::parsed);
        let name = fields.patch("name", name);
        let email = fields.patch("email", email);
        let phone = fields.patch_nullable("phone", phone);
        let addresses = fields.patch_nullable("addresses", addresses);
        let metadata = fields.patch_nullable("metadata", body::object(MAX_METADATA_BYTES));
        Some(Self {
            id: id?,
            name,
            email,
            phone,
            addresses: addresses.map(Option::unwrap_or_default),
            metadata,
        })
    }
}

/// `customer.get`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CustomerRef {
    /// Id of the customer.
    pub id: CustomerId,
}

impl CustomerRef {
    pub(crate) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let id = fields.required("id", body::parsed);
        Some(Self { id: id? })
    }
}

/// `customer.block`: blocks, or with `is_blocked: false` unblocks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BlockCustomer {
    /// Id of the customer.
    pub id: CustomerId,
    /// Whether to block (default) or unblock.
    pub is_blocked: bool,
}

impl BlockCustomer {
    pub(crate) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let id = fields.required("id", body::parsed);
        let is_blocked = fields.optional("is_blocked", body::boolean);
        Some(Self {
            id: id?,
            is_blocked: is_blocked.unwrap_or(true),
        })
    }
}

/// `customer.list`: customers, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ListCustomers {
    /// Only customers with this e-mail address, in any letter case.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// Only customers whose name or e-mail address begins with this text, in any letter case.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub q: Option<String>,
    /// Only customers of this storefront.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storefront: Option<Storefront>,
    /// Maximum number of entries.
    pub limit: u32,
    /// Cursor of the previous page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

impl ListCustomers {
    #[expect(clippy::unnecessary_wraps, reason = "the shape of every reader")]
    pub(crate) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let email = fields.optional("email", body::visible_text(1..=254));
        let q = fields.optional("q", body::visible_text(1..=254));
        let storefront = fields.optional("storefront", body::parsed);
        let limit = limit(fields);
        let cursor = cursor_by::<CustomerId>(fields);
        Some(Self {
            email,
            q,
            storefront,
            limit,
            cursor,
        })
    }
}

fn name(value: Value) -> Result<String, String> {
    body::visible_text(1..=200)(value)
}

/// Refuses text that can't be an e-mail address; whether the address exists is not checked.
fn email(value: Value) -> Result<String, String> {
    let email = body::text(3..=254)(value)?;
    let is_plausible = email.split_once('@').is_some_and(|(user, host)| {
        !user.is_empty()
            && !host.is_empty()
            && !host.contains('@')
            && !email.contains(char::is_whitespace)
    });
    if is_plausible {
        Ok(email)
    } else {
        Err("must be an e-mail address such as ada@example.com".to_owned())
    }
}

/// Refuses text that can't be a phone number: other characters than digits and separators, too few or too
/// many digits, more than two separators in a row. [`schema::phone`] has the same rule as a pattern.
fn phone(value: Value) -> Result<String, String> {
    let phone = body::text(1..=MAX_PHONE_CHARS)(value)?;
    let number_part = phone.strip_prefix(['+', '(']).unwrap_or(&phone);
    let digit_count = number_part.bytes().filter(u8::is_ascii_digit).count();
    let mut separators_in_a_row = 0;
    let is_plausible = number_part.starts_with(|c: char| c.is_ascii_digit())
        && number_part.ends_with(|c: char| c.is_ascii_digit())
        && PHONE_DIGITS.contains(&digit_count)
        && number_part.chars().all(|c| {
            separators_in_a_row = if c.is_ascii_digit() {
                0
            } else {
                separators_in_a_row + 1
            };
            separators_in_a_row <= 2 && (c.is_ascii_digit() || PHONE_SEPARATORS.contains(&c))
        });
    if is_plausible {
        Ok(phone)
    } else {
        Err("must be a phone number such as +49 30 123456".to_owned())
    }
}

/// Characters between the digits of a phone number; `x` and `#` introduce an extension.
const PHONE_SEPARATORS: [char; 8] = [' ', '(', ')', '.', '/', '-', 'x', '#'];

/// At most [`MAX_ADDRESSES`] addresses.
fn addresses(value: Value) -> Result<Vec<Address>, String> {
    let Value::Array(address_values) = value else {
        return Err("must be a list of addresses".to_owned());
    };
    if address_values.len() > MAX_ADDRESSES {
        return Err(format!("must have at most {MAX_ADDRESSES} entries"));
    }
    let address_values = address_values.into_iter().enumerate();
    address_values
        .map(|(index, address_value)| {
            address(address_value).map_err(|error| format!("entry {index}: {error}"))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::request::Request;

    #[test]
    fn phone_numbers_are_checked_for_their_form() {
        for valid_phone in [
            "112",
            "+49 30 123456",
            "+49 (0)30 123-456",
            "(030) 123456",
            "+1 (555) 010-9999 x12",
            "555.010.9999",
        ] {
            assert_eq!(phone(json!(valid_phone)), Ok(valid_phone.to_owned()));
        }
        for invalid_phone in [
            "",
            "12",
            "+",
            "call me",
            "+49 30 123456 ",
            "1 -- 2 3",
            "030 12a456",
            "1234567890123456789012345",
            "١٢٣٤",
        ] {
            assert!(phone(json!(invalid_phone)).is_err(), "{invalid_phone:?}");
        }
    }

    #[test]
    fn patch_distinguishes_absent_null_and_empty_values() {
        let id = "0192f0c1-0000-7abc-8def-0123456789ab";
        let parse_patch = |mut body: Value| {
            body["id"] = json!(id);
            Request::read("customer.update", body)
        };
        let request = parse_patch(json!({
            "phone": null, "addresses": null, "metadata": {"a": null, "b": {"c": null}}
        }))
        .unwrap();
        let sent_body: Value = serde_json::from_str(request.to_body().unwrap().get()).unwrap();
        assert_eq!(
            sent_body,
            json!({"id": id, "phone": null, "addresses": [], "metadata": {"a": null, "b": {"c": null}}})
        );
        assert_eq!(Request::read("customer.update", sent_body), Ok(request));
        for invalid_patch in [
            json!({"name": null}),
            json!({"email": null}),
            json!({"email": "ada"}),
            json!({"addresses": vec![json!({}); MAX_ADDRESSES + 1]}),
            json!({"addresses": [{"city": 1}]}),
            json!({"metadata": []}),
            json!({"is_blocked": true}),
        ] {
            assert!(
                parse_patch(invalid_patch.clone()).is_err(),
                "{invalid_patch}"
            );
        }
    }
}
