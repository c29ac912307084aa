//! Customers on the wire.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    body::{self, Fields},
    id::{CustomerId, Storefront},
    order::{cursor_by, limit},
};

/// A customer of one storefront.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(example = json!({
    "id": "0192f0c1-0000-7abc-8def-0123456789ab", "name": "Ada Lovelace", "email": "ada@example.com",
    "storefront": "eu", "is_blocked": false, "is_verified": true, "created_at": "2026-01-31T12:00:00Z"
}))]
pub struct Customer {
    /// UUIDv7.
    pub id: CustomerId,
    /// What to call them.
    pub name: String,
    /// Where to write to.
    pub email: String,
    /// Whose customer.
    pub storefront: Storefront,
    /// A blocked customer's orders are refused.
    pub is_blocked: bool,
    /// Their shop knows that they are who they say.
    #[serde(default)]
    pub is_verified: bool,
    /// Since when.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When who they are was erased; name and address are empty since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub erased_at: Option<Timestamp>,
}

/// `customer.create`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"name": "Ada Lovelace", "email": "ada@example.com"}))]
pub struct NewCustomer {
    /// What to call them.
    #[schema(min_length = 1, max_length = 200)]
    pub name: String,
    /// Where to write to.
    #[schema(format = Email, min_length = 3, max_length = 254)]
    pub email: String,
    /// For operators and admins: on whose behalf.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storefront: Option<Storefront>,
}

impl NewCustomer {
    pub(crate) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let name = fields.required("name", body::visible_text(1..=200));
        let email = fields.required("email", email);
        let storefront = fields.optional("storefront", body::parsed);
        Some(Self {
            name: name?,
            email: email?,
            storefront,
        })
    }
}

/// `customer.get`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CustomerRef {
    /// Which customer.
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
    /// Which customer.
    pub id: CustomerId,
    /// Default true.
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

/// `customer.list`: newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ListCustomers {
    /// Only of this storefront.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storefront: Option<Storefront>,
    /// Entries at most.
    pub limit: u32,
    /// The id the last page ended with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

impl ListCustomers {
    #[expect(clippy::unnecessary_wraps, reason = "the shape of every reader")]
    pub(crate) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let storefront = fields.optional("storefront", body::parsed);
        let limit = limit(fields);
        let cursor = cursor_by::<CustomerId>(fields);
        Some(Self {
            storefront,
            limit,
            cursor,
        })
    }
}

/// Only what makes an address unusable is refused; whether it exists shows when it is written to.
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
        Err("must be an e-mail address".to_owned())
    }
}
