//! Customers: representation and requests.
//!
//! A customer belongs to one storefront; every order names its customer. Orders of blocked customers are
//! refused. Erasing a customer removes the personal data, but keeps the orders.

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
    /// Name.
    pub name: String,
    /// E-mail address.
    pub email: String,
    /// The storefront that the customer belongs to.
    pub storefront: Storefront,
    /// Whether the customer is blocked: orders of blocked customers are refused.
    pub is_blocked: bool,
    /// Whether the merchant has verified the customer's identity.
    #[serde(default)]
    pub is_verified: bool,
    /// Time of creation.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// Time at which the personal data was erased; `name` and `email` are empty since then.
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
    /// The storefront that the customer belongs to; for operators and admins.
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
