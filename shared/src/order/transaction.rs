//! Transactions of an order's payment, as callers see them.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::id::TransactionId;

/// A movement of money, or the attempt at one.
///
/// The successful transactions of a kind add up to the amount in `payment`: captures to `captured`, refunds to
/// `refunded`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Transaction {
    /// `UUIDv8`, derived from the order: it stays the same.
    pub id: TransactionId,
    /// Kind of the transaction.
    pub kind: TransactionKind,
    /// Amount in minor units.
    pub amount: i64,
    /// Payment provider; `manual` for payments and refunds that an operator has recorded.
    pub provider: String,
    /// Id of the payment at the provider; for `manual` the text that the operator has recorded with it.
    pub reference: Option<String>,
    /// Status of the transaction.
    pub status: TransactionStatus,
    /// Time at which the payment or refund was made, if an operator has recorded it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, required = false)]
    pub received_at: Option<Timestamp>,
    /// Time at which it was recorded here.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
}

/// Kind of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TransactionKind {
    /// An amount is reserved at the provider.
    Authorization,
    /// Money was received.
    Capture,
    /// Money is paid back.
    Refund,
    /// An authorization was released.
    Void,
}

/// Status of a transaction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TransactionStatus {
    /// Requested; the result is outstanding.
    Pending,
    /// Done.
    #[default]
    Success,
    /// Declined, rejected, or given up.
    Failed,
}
