//! Requests that change existing orders: cancel, delete, restore, approve, reject.
//!
//! Only their form is checked here; the worker decides whether the order's state allows the change.

use serde::{Deserialize, Serialize};

use super::cursor;
use crate::{
    body::{self, Fields},
    id::{OrderId, Storefront},
    outcome::Code,
};

/// `order.delete`, `order.restore`, `order.approve`: the id of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OrderRef {
    /// Id of the order.
    pub id: OrderId,
}

impl OrderRef {
    pub(crate) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let id = fields.required("id", body::parsed);
        Some(Self { id: id? })
    }
}

/// `order.cancel`: cancels an order that has not been shipped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"reason": "changed my mind"}))]
pub struct CancelOrder {
    /// Id of the order.
    #[schema(ignore)]
    pub id: OrderId,
    /// Free-text reason, kept in the history.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 500)]
    pub reason: Option<String>,
}

impl CancelOrder {
    pub(crate) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let id = fields.required("id", body::parsed);
        let reason = fields.optional("reason", body::text(0..=500));
        Some(Self { id: id?, reason })
    }
}

/// `order.cancel_remaining`: cancels the unshipped items of a partially shipped order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"reason": "the rest can't be delivered"}))]
pub struct CancelRemaining {
    /// Id of the order.
    #[schema(ignore)]
    pub id: OrderId,
    /// Free-text reason, kept in the history.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 500)]
    pub reason: Option<String>,
}

impl CancelRemaining {
    pub(crate) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let id = fields.required("id", body::parsed);
        let reason = fields.optional("reason", body::text(0..=500));
        Some(Self { id: id?, reason })
    }
}

/// `order.reject`: refuses approval; the order is cancelled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(example = json!({"reason": "no delivery to this country"}))]
#[serde(deny_unknown_fields)]
pub struct RejectOrder {
    /// Id of the order.
    #[schema(ignore)]
    pub id: OrderId,
    /// Free-text reason, kept in the history.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 500)]
    pub reason: Option<String>,
}

impl RejectOrder {
    pub(crate) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let id = fields.required("id", body::parsed);
        let reason = fields.optional("reason", body::text(0..=500));
        Some(Self { id: id?, reason })
    }
}

/// `order.approve_all`: approves all orders that are waiting for approval, page by page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(example = json!({"all": true}))]
#[serde(deny_unknown_fields)]
pub struct ApproveAll {
    /// Must be true, as a safeguard against accidental requests.
    pub all: bool,
    /// Only orders of this storefront.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storefront: Option<Storefront>,
    /// Cursor of the previous call.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 200)]
    pub cursor: Option<String>,
}

impl ApproveAll {
    pub(crate) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let all = fields.required("all", body::must_be_true);
        let storefront = fields.optional("storefront", body::parsed);
        let cursor = cursor(fields);
        Some(Self {
            all: all?,
            storefront,
            cursor,
        })
    }
}

/// Result of `order.approve_all`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ApprovedAll {
    /// Number of approved orders.
    pub approved: u64,
    /// Orders that could not be approved.
    pub failed: Vec<NotApproved>,
    /// Pass as `cursor` to continue; `null` when all orders were processed.
    pub next_cursor: Option<String>,
}

/// An order that could not be approved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct NotApproved {
    /// Id of the order.
    pub id: OrderId,
    /// Error code.
    pub code: Code,
    /// Error message.
    pub detail: String,
}
