//! Steps on the wire that failed and will be tried again: when their time comes, or at once if an operator
//! says so.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    body::{self, Fields},
    id::OrderId,
    order::{cursor, limit},
};

/// A step of an order that failed and will be tried again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(example = json!({
    "id": "0192f0c1-2345-7abc-8def-0123456789ab:capture_payment",
    "order_id": "0192f0c1-2345-7abc-8def-0123456789ab", "step": "capture_payment", "attempts": 7,
    "reason": "the payment provider answered 503", "next_attempt_at": "2026-01-31T12:00:00Z",
    "request_id": "checkout-42"
}))]
pub struct RetriedStep {
    /// `ORDER_ID:STEP`.
    pub id: String,
    /// Of which order.
    pub order_id: OrderId,
    /// Which step.
    pub step: String,
    /// How often it failed since it was last begun or redriven.
    pub attempts: u32,
    /// Why, the last time.
    pub reason: String,
    /// When it is tried again; in the past while that is being done.
    #[schema(value_type = String, format = DateTime)]
    pub next_attempt_at: Timestamp,
    /// The request that led to it.
    pub request_id: String,
}

/// `retry.list`: those of the oldest orders first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ListRetries {
    /// Entries at most.
    pub limit: u32,
    /// What the last page ended with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

impl ListRetries {
    #[expect(clippy::unnecessary_wraps, reason = "the shape of every reader")]
    pub(crate) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let limit = limit(fields);
        let cursor = cursor(fields);
        Some(Self { limit, cursor })
    }
}

/// `retry.redrive`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RetryRef {
    /// Which.
    pub id: String,
}

impl RetryRef {
    pub(crate) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let id = fields.required("id", body::text(1..=200));
        Some(Self { id: id? })
    }
}

/// `retry.redrive_all`, `dead_letter.redrive_all`: every step that waits, page by page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(example = json!({"all": true, "step": "capture_payment"}))]
#[serde(deny_unknown_fields)]
pub struct RedriveAll {
    /// Must be true: nobody redrives everything by accident.
    pub all: bool,
    /// Only steps of this kind: `capture_payment`, `request_shipment`…
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 100)]
    pub step: Option<String>,
    /// Where the last call ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 200)]
    pub cursor: Option<String>,
}

impl RedriveAll {
    pub(crate) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let all = fields.required("all", body::meant);
        let step = fields.optional("step", body::text(1..=100));
        let cursor = cursor(fields);
        Some(Self {
            all: all?,
            step,
            cursor,
        })
    }
}

/// What came of redriving all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RedrivenAll {
    /// So many steps are tried again now.
    pub redriven: u64,
    /// Pass as `cursor` to go on; `null` when everything was looked at.
    pub next_cursor: Option<String>,
}
