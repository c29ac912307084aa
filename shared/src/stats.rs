//! Figures: how many orders there are and where they stand, what they brought in by day, and how the system
//! is getting on.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    body::{self, Fields},
    id::Storefront,
    money::Currency,
};

/// Days of the series when the caller names no number.
pub const DEFAULT_DAYS: u32 = 30;
/// Days of the series at most.
pub const MAX_DAYS: u32 = 366;

/// `stats.get`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GetStats {
    /// Only of this storefront.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storefront: Option<Storefront>,
    /// Days of the series, today included.
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

/// Figures, counted from the feed: up to its end, and behind it while orders rush in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Stats {
    /// How many orders there are, deleted ones included.
    pub orders: OrderCounts,
    /// What they brought in, by currency.
    pub revenue: Vec<Revenue>,
    /// By day (UTC), the last one today.
    pub days: Vec<Day>,
    /// The place in the feed up to which events are counted in.
    pub position: String,
    /// How the system is getting on; for operators.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<SystemStats>,
}

/// How many orders there are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct OrderCounts {
    /// In all.
    pub total: i64,
    /// By status; every status is there.
    pub by_status: BTreeMap<String, i64>,
    /// Cancelled ones, by reason.
    pub cancelled: BTreeMap<String, i64>,
    /// Taken over from other systems.
    pub imported: i64,
    /// Nothing was done for them yet: `pending`.
    pub new: i64,
    /// Paid for: `processing`, `shipped` or `delivered`.
    pub processed: i64,
    /// `cancelled`.
    pub failed: i64,
}

/// Money in one currency, in minor units.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Revenue {
    /// Which.
    pub currency: Currency,
    /// Taken.
    pub captured: i64,
    /// Given back.
    pub refunded: i64,
    /// The difference.
    pub net: i64,
}

/// What happened on a day.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Day {
    /// Which (UTC).
    #[schema(format = Date, example = "2026-01-31")]
    pub day: String,
    /// Orders that came.
    pub created: i64,
    /// Orders that were paid for.
    pub processing: i64,
    /// Orders that have left.
    pub shipped: i64,
    /// Orders that have arrived.
    pub delivered: i64,
    /// Orders that were cancelled.
    pub cancelled: i64,
    /// Money, by currency.
    pub revenue: Vec<Revenue>,
}

/// How the system is getting on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SystemStats {
    /// The worker that answers this.
    pub worker: String,
    /// Workers that take requests; `null` where the broker does not say.
    pub workers: Option<u32>,
    /// Messages waiting, by queue; `null` where the broker does not say.
    pub queues: BTreeMap<String, Option<u32>>,
    /// Steps whose time has come.
    pub due_steps: i64,
    /// Since when the oldest of them is due.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub oldest_due_at: Option<Timestamp>,
    /// Dead steps and messages.
    pub dead_letters: i64,
    /// Steps that failed and will be tried again; ten thousand stand for more.
    pub retries: i64,
    /// Events that are not published yet.
    pub outbox_lag: i64,
    /// What this worker's last steps took, by kind.
    pub steps: BTreeMap<String, StepStats>,
    /// What came of reading the external warehouse last.
    #[schema(value_type = Option<Object>)]
    pub warehouse: Option<Value>,
    /// What came of reading the other system's orders last.
    #[schema(value_type = Option<Object>)]
    pub import: Option<Value>,
}

/// What the last steps of a kind took.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct StepStats {
    /// How many were done since the worker started.
    pub done: u64,
    /// How many failed, to be tried again or not.
    pub failed: u64,
    /// Milliseconds from when they were due to when their result was stored: half took less.
    pub p50_ms: u64,
    /// Nine of ten took less.
    pub p90_ms: u64,
    /// Ninety-nine of a hundred took less.
    pub p99_ms: u64,
}
