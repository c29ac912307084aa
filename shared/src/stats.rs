//! Statistics: orders by status, revenue by day, and the state of the system.
//!
//! Representation and request; the worker computes them from the event feed. Operators also get the state of
//! the system ([`SystemStats`]).

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    body::{self, Fields},
    id::Storefront,
    money::Currency,
};

/// Default number of days in the series.
pub const DEFAULT_DAYS: u32 = 30;
/// Maximum number of days in the series.
pub const MAX_DAYS: u32 = 366;

/// `stats.get`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GetStats {
    /// Only this storefront.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storefront: Option<Storefront>,
    /// Number of days in the series, including today.
    pub days: u32,
}

impl GetStats {
    #[expect(clippy::unnecessary_wraps, reason = "the shape of every reader")]
    pub(crate) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let storefront = fields.optional("storefront", body::parsed);
        let days = fields.optional("days", body::integer(1..=i64::from(MAX_DAYS)));
        let days = days.and_then(|days| u32::try_from(days).ok());
        Some(Self {
            storefront,
            days: days.unwrap_or(DEFAULT_DAYS),
        })
    }
}

/// Statistics, computed from the event feed; under load they may lag behind it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Stats {
    /// Order counts, including deleted orders.
    pub orders: OrderCounts,
    /// Revenue by currency.
    pub revenue: Vec<Revenue>,
    /// Number and total of the placed orders by currency.
    #[serde(default)]
    pub order_values: Vec<OrderValue>,
    /// Series by day (UTC); the last day is today.
    pub days: Vec<Day>,
    /// Feed position up to which events are included.
    pub position: String,
    /// Work for an operator; for operators.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attention: Option<Attention>,
    /// State of the system; for operators.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<SystemStats>,
}

/// Order counts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct OrderCounts {
    /// Total.
    pub total: i64,
    /// By status; includes every status.
    pub by_status: BTreeMap<String, i64>,
    /// Cancelled orders by reason.
    pub cancelled: BTreeMap<String, i64>,
    /// Imported orders.
    pub imported: i64,
    /// Number of `pending` orders.
    #[serde(rename = "new")]
    pub pending_orders: i64,
    /// Number of `processing`, `shipped` and `delivered` orders.
    pub processed: i64,
    /// Number of `cancelled` orders.
    #[serde(rename = "failed")]
    pub cancelled_orders: i64,
}

/// Money in one currency, in minor units.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Revenue {
    /// Currency.
    pub currency: Currency,
    /// Captured.
    pub captured: i64,
    /// Refunded.
    pub refunded: i64,
    /// `captured - refunded`.
    pub net: i64,
}

/// Statistics of one day.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Day {
    /// The day (UTC).
    #[schema(format = Date, example = "2026-01-31")]
    pub day: String,
    /// Orders created.
    pub created: i64,
    /// Orders paid for.
    pub processing: i64,
    /// Orders shipped.
    pub shipped: i64,
    /// Orders delivered.
    pub delivered: i64,
    /// Orders cancelled.
    pub cancelled: i64,
    /// Revenue by currency.
    pub revenue: Vec<Revenue>,
    /// Number and total of the orders that were placed on that day, by currency.
    #[serde(default)]
    pub order_values: Vec<OrderValue>,
}

/// The placed orders in one currency. Orders that were counted by a version without these figures are not included.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct OrderValue {
    /// Currency.
    pub currency: Currency,
    /// Number of orders.
    pub orders: i64,
    /// Sum of their totals when they were placed, in minor units.
    pub total: i64,
}

/// Work for an operator. Each number is counted up to ten thousand.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Attention {
    /// Products whose available units are at or below their threshold (`low_stock_at`), among the first hundred
    /// thousand products with one.
    pub low_stock_products: i64,
    /// Returns to approve or reject.
    pub requested_returns: i64,
    /// Orders that wait for approval, among the first ten thousand pending orders.
    pub orders_awaiting_approval: i64,
    /// Pending orders with a manual payment that was not received in full, among the first ten thousand pending
    /// orders.
    pub outstanding_payments: i64,
}

/// State of the system.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SystemStats {
    /// The worker that sent this reply.
    pub worker: String,
    /// Number of connected workers; `null` if unknown.
    pub workers: Option<u32>,
    /// Ready messages by queue; `null` if unknown.
    pub queues: BTreeMap<String, Option<u32>>,
    /// Number of due steps.
    pub due_steps: i64,
    /// Time at which the oldest due step became due; `null` if none is due.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub oldest_due_at: Option<Timestamp>,
    /// Number of dead letters.
    pub dead_letters: i64,
    /// Number of steps that failed and will be retried, counted up to ten thousand.
    pub retries: i64,
    /// Number of unpublished events.
    pub outbox_lag: i64,
    /// Whether messages are sent to customers: `SMTP_URL` is set.
    #[serde(default)]
    pub sends_messages: bool,
    /// Recent durations of this worker's steps, by kind.
    pub steps: BTreeMap<String, StepStats>,
    /// Result of the last synchronization with the external warehouse.
    #[schema(value_type = Option<Object>)]
    #[serde(rename = "warehouse")]
    pub last_warehouse_sync: Option<Value>,
    /// Result of the last import of orders from another system.
    #[schema(value_type = Option<Object>)]
    #[serde(rename = "import")]
    pub last_import: Option<Value>,
}

/// Recent durations of a kind of step.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct StepStats {
    /// Number of steps completed since the worker started.
    pub done: u64,
    /// Number of failed attempts since the worker started.
    pub failed: u64,
    /// Median time from due to completed, in milliseconds.
    pub p50_ms: u64,
    /// 90th percentile of that time, in milliseconds.
    pub p90_ms: u64,
    /// 99th percentile of that time, in milliseconds.
    pub p99_ms: u64,
}
