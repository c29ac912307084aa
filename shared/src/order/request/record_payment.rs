//! The request to record a payment that was received outside of a payment provider.

use jiff::Timestamp;
use serde::Serialize;

use super::timestamp;
use crate::{
    body::{self, Fields},
    id::OrderId,
    money::MAX_AMOUNT,
};

/// `payment.record`: money was received for an order that is paid manually.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(example = json!({"amount": 3998, "reference": "2026-01-31 transfer 4711", "received_at": "2026-01-31T12:00:00Z"}))]
#[serde(deny_unknown_fields)]
pub struct RecordPayment {
    /// Id of the order.
    #[schema(ignore)]
    pub id: OrderId,
    /// Received amount in minor units: the outstanding amount or a part of it.
    #[schema(minimum = 1, maximum = 1_000_000_000_000_i64)]
    pub amount: i64,
    /// Reference of the payment, such as that of the bank transfer or of the receipt.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 200)]
    pub reference: Option<String>,
    /// Time at which the money was received; absent: now.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub received_at: Option<Timestamp>,
    /// Whether to record more than the outstanding amount, or a payment of a cancelled order.
    #[serde(rename = "overpaid", skip_serializing_if = "std::ops::Not::not")]
    #[schema(default = false, required = false)]
    pub allow_overpayment: bool,
}

impl RecordPayment {
    pub(crate) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let id = fields.required("id", body::parsed);
        let amount = fields.required("amount", body::integer(1..=MAX_AMOUNT));
        let reference = fields.optional("reference", body::visible_text(1..=200));
        let received_at = fields.optional("received_at", timestamp);
        let allow_overpayment = fields.optional("overpaid", body::boolean);
        Some(Self {
            id: id?,
            amount: amount?,
            reference,
            received_at,
            allow_overpayment: allow_overpayment.unwrap_or(false),
        })
    }
}
