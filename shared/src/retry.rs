//! Steps that failed and will be retried: representation and requests.
//!
//! Operators can list them and retry them at once. Steps that will not be retried are in
//! [`crate::dead_letter`].

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    body::{self, Fields},
    dead_letter::FailedStepFilter,
    id::OrderId,
    order::{cursor, limit},
};

/// A step of an order that failed and will be retried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(example = json!({
    "id": "0192f0c1-2345-7abc-8def-0123456789ab:capture_payment",
    "order_id": "0192f0c1-2345-7abc-8def-0123456789ab", "order_number": 42, "step": "capture_payment", "attempts": 7,
    "reason": "the payment provider answered 503", "next_attempt_at": "2026-01-31T12:00:00Z",
    "request_id": "checkout-42"
}))]
pub struct RetriedStep {
    /// `ORDER_ID:STEP`.
    pub id: String,
    /// Id of the order.
    pub order_id: OrderId,
    /// Number of the order.
    #[serde(default)]
    pub order_number: i64,
    /// Name of the step.
    pub step: String,
    /// Number of failures since the step was created or redriven.
    pub attempts: u32,
    /// Error of the last attempt.
    pub reason: String,
    /// Time of the next attempt; in the past while it runs.
    #[schema(value_type = String, format = DateTime)]
    pub next_attempt_at: Timestamp,
    /// Id of the request that caused the step.
    pub request_id: String,
}

/// `retry.list`: steps that will be retried, those of the oldest orders first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ListRetries {
    /// Only these steps.
    #[serde(flatten)]
    pub filter: FailedStepFilter,
    /// Maximum number of entries.
    pub limit: u32,
    /// Cursor of the previous page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

impl ListRetries {
    #[expect(clippy::unnecessary_wraps, reason = "the shape of every reader")]
    pub(crate) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let filter = FailedStepFilter::read(fields);
        let limit = limit(fields);
        let cursor = cursor(fields);
        Some(Self {
            filter,
            limit,
            cursor,
        })
    }
}

/// `retry.redrive`: the id of a step to retry now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RetryRef {
    /// Id of the step.
    pub id: String,
}

impl RetryRef {
    pub(crate) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let id = fields.required("id", body::text(1..=200));
        Some(Self { id: id? })
    }
}

/// `retry.redrive_all`, `dead_letter.redrive_all`: redrives all steps, page by page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(example = json!({"all": true, "step": "capture_payment"}))]
#[serde(deny_unknown_fields)]
pub struct RedriveAll {
    /// Must be true, as a safeguard against accidental requests.
    pub all: bool,
    /// Only steps of this kind: `capture_payment`, `request_shipment`…
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 100)]
    pub step: Option<String>,
    /// Cursor of the previous call.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 200)]
    pub cursor: Option<String>,
}

impl RedriveAll {
    pub(crate) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let all = fields.required("all", body::must_be_true);
        let step = fields.optional("step", body::text(1..=100));
        let cursor = cursor(fields);
        Some(Self {
            all: all?,
            step,
            cursor,
        })
    }
}

/// Result of `retry.redrive_all` and `dead_letter.redrive_all`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RedrivenAll {
    /// Number of redriven steps.
    pub redriven: u64,
    /// Pass as `cursor` to continue; `null` when all steps were processed.
    pub next_cursor: Option<String>,
}
