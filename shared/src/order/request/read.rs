//! Requests that read orders: one order, its history, a list.
//!
//! Also has the parsing of `limit` and `cursor`, which all lists share.

use std::{fmt::Display, str::FromStr};

use jiff::Timestamp;
use serde::Serialize;

use super::timestamp;
use crate::{
    body::{self, Fields},
    id::{CustomerId, OrderId, Sku, Storefront},
    order::{OrderSort, OrderStatus, PaymentFilter, Tag},
    page::{DEFAULT_LIMIT, MAX_LIMIT},
};

/// `order.get`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GetOrder {
    /// Id of the order.
    pub id: OrderId,
    /// Whether to include a soft-deleted order; for operators.
    pub include_deleted: bool,
}

impl GetOrder {
    pub(crate) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let id = fields.required("id", body::parsed);
        let include_deleted = fields.optional("include_deleted", body::boolean);
        Some(Self {
            id: id?,
            include_deleted: include_deleted.unwrap_or(false),
        })
    }
}

/// `order.history`: a page of the order's events, oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OrderHistory {
    /// Id of the order.
    pub id: OrderId,
    /// Whether to include a soft-deleted order; for operators.
    pub include_deleted: bool,
    /// Maximum number of entries.
    pub limit: u32,
    /// Only events after this `sequence`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

impl OrderHistory {
    pub(crate) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let id = fields.required("id", body::parsed);
        let include_deleted = fields.optional("include_deleted", body::boolean);
        let limit = limit(fields);
        let cursor = cursor(fields);
        Some(Self {
            id: id?,
            include_deleted: include_deleted.unwrap_or(false),
            limit,
            cursor,
        })
    }
}

/// `order.list`: orders, newest first unless another order is requested.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ListOrders {
    /// Only orders with this number (`123` or `#123`), external id or tracking number, or of customers whose
    /// name or e-mail address begins with this text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub q: Option<String>,
    /// Only the order with this number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub number: Option<i64>,
    /// Only orders with this external id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external_id: Option<String>,
    /// Only orders with this status.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<OrderStatus>,
    /// Only orders with this payment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payment_status: Option<PaymentFilter>,
    /// Only pending orders that wait for approval.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub awaits_approval: bool,
    /// Only orders of this customer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub customer_id: Option<CustomerId>,
    /// Only orders that contain this product.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sku: Option<Sku>,
    /// Only orders with this tag, in any letter case; for operators.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag: Option<Tag>,
    /// Only orders of this storefront.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storefront: Option<Storefront>,
    /// Only orders created at or after this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_after: Option<Timestamp>,
    /// Only orders created before this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_before: Option<Timestamp>,
    /// Whether to include soft-deleted orders; for operators.
    pub include_deleted: bool,
    /// Order of the entries.
    #[serde(skip_serializing_if = "OrderSort::is_default")]
    pub sort: OrderSort,
    /// Maximum number of entries.
    pub limit: u32,
    /// Cursor of the previous page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

impl ListOrders {
    /// The newest `limit` orders, without filters.
    #[must_use]
    pub fn newest(limit: u32) -> Self {
        Self {
            q: None,
            number: None,
            external_id: None,
            status: None,
            payment_status: None,
            awaits_approval: false,
            customer_id: None,
            sku: None,
            tag: None,
            storefront: None,
            created_after: None,
            created_before: None,
            include_deleted: false,
            sort: OrderSort::NewestFirst,
            limit,
            cursor: None,
        }
    }

    #[expect(clippy::unnecessary_wraps, reason = "the shape of every reader")]
    pub(crate) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let q = fields.optional("q", body::visible_text(1..=254));
        let order_number = fields.optional("number", body::integer(1..=i64::MAX));
        let external_id = fields.optional("external_id", body::text(1..=200));
        let status = fields.optional("status", body::parsed);
        let payment_status = fields.optional("payment_status", body::parsed);
        let awaits_approval = fields.optional("awaits_approval", body::boolean);
        let customer_id = fields.optional("customer_id", body::parsed);
        let sku = fields.optional("sku", body::parsed);
        let tag = fields.optional("tag", body::parsed);
        let storefront = fields.optional("storefront", body::parsed);
        let created_after = fields.optional("created_after", timestamp);
        let created_before = fields.optional("created_before", timestamp);
        let include_deleted = fields.optional("include_deleted", body::boolean);
        let sort = fields.optional("sort", body::parsed);
        let limit = limit(fields);
        let cursor = cursor(fields);
        Some(Self {
            q,
            number: order_number,
            external_id,
            status,
            payment_status,
            awaits_approval: awaits_approval.unwrap_or(false),
            customer_id,
            sku,
            tag,
            storefront,
            created_after,
            created_before,
            include_deleted: include_deleted.unwrap_or(false),
            sort: sort.unwrap_or_default(),
            limit,
            cursor,
        })
    }
}

/// `order.count`: the number of orders by status.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CountOrders {
    /// Only orders of this customer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub customer_id: Option<CustomerId>,
    /// Only orders that contain this product.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sku: Option<Sku>,
    /// Only orders with this tag, in any letter case; for operators.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag: Option<Tag>,
    /// Only orders of this storefront.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storefront: Option<Storefront>,
    /// Only orders created at or after this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_after: Option<Timestamp>,
    /// Only orders created before this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_before: Option<Timestamp>,
    /// Whether to count soft-deleted orders, too; for operators.
    pub include_deleted: bool,
}

impl CountOrders {
    #[expect(clippy::unnecessary_wraps, reason = "the shape of every reader")]
    pub(crate) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let customer_id = fields.optional("customer_id", body::parsed);
        let sku = fields.optional("sku", body::parsed);
        let tag = fields.optional("tag", body::parsed);
        let storefront = fields.optional("storefront", body::parsed);
        let created_after = fields.optional("created_after", timestamp);
        let created_before = fields.optional("created_before", timestamp);
        let include_deleted = fields.optional("include_deleted", body::boolean);
        Some(Self {
            customer_id,
            sku,
            tag,
            storefront,
            created_after,
            created_before,
            include_deleted: include_deleted.unwrap_or(false),
        })
    }

    /// The list of the orders that are counted.
    #[must_use]
    pub fn list(&self) -> ListOrders {
        ListOrders {
            customer_id: self.customer_id,
            sku: self.sku.clone(),
            tag: self.tag.clone(),
            storefront: self.storefront.clone(),
            created_after: self.created_after,
            created_before: self.created_before,
            include_deleted: self.include_deleted,
            ..ListOrders::newest(MAX_LIMIT)
        }
    }
}

/// The page size: `limit`, or the default.
pub(crate) fn limit(fields: &mut Fields<'_>) -> u32 {
    fields
        .optional("limit", body::integer(1..=i64::from(MAX_LIMIT)))
        .and_then(|limit| u32::try_from(limit).ok())
        .unwrap_or(DEFAULT_LIMIT)
}

/// The cursor of a list, as opaque text.
pub(crate) fn cursor(fields: &mut Fields<'_>) -> Option<String> {
    fields.optional("cursor", body::text(1..=200))
}

/// The cursor of a list that is sorted by `T`: the `T` of the last entry of the previous page.
pub(crate) fn cursor_by<T: FromStr + Display>(fields: &mut Fields<'_>) -> Option<String> {
    fields.optional("cursor", |value| {
        let cursor_result = body::string(value)?.parse::<T>();
        cursor_result.map(|cursor| cursor.to_string()).map_err(|_| {
            "is not a cursor of this list; pass next_cursor of the previous page".to_owned()
        })
    })
}
