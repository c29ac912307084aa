//! Requests about payments: refunds, and notifications of the payment provider.
//!
//! A notification has no payment data: the worker retrieves the payment from the provider.

use serde::Serialize;

use super::create::{ItemQuantity, MAX_ITEMS};
use crate::{
    body::{self, Fields},
    id::OrderId,
    money::MAX_AMOUNT,
};

/// `order.refund`: refunds a captured payment, fully or partially.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(example = json!({"amount": 1999, "reason": "one came damaged"}))]
#[serde(deny_unknown_fields)]
pub struct RefundOrder {
    /// Id of the order.
    #[schema(ignore)]
    pub id: OrderId,
    /// Amount in minor units; absent, without `items` and `shipping`: the whole captured amount that has not
    /// been refunded.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 1_000_000_000_000_i64)]
    pub amount: Option<i64>,
    /// Units to refund, at their share of the order's total: discounts and taxes are included. Instead of
    /// `amount`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(min_items = 1, max_items = 500)]
    pub items: Option<Vec<ItemQuantity>>,
    /// Whether to refund the shipping charge, too. Instead of `amount`; with or without `items`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(default = false, required = false)]
    pub shipping: bool,
    /// Free-text reason, kept in the history.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 500)]
    pub reason: Option<String>,
    /// Reference of the refund, such as that of the bank transfer; for orders that are paid manually: their
    /// refunds are recorded, not executed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 200)]
    pub reference: Option<String>,
}

impl RefundOrder {
    pub(crate) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let id = fields.required("id", body::parsed);
        let amount = fields.optional("amount", body::integer(1..=MAX_AMOUNT));
        let items = fields.optional_list("items", 1..=MAX_ITEMS, ItemQuantity::read);
        let shipping = fields.optional("shipping", body::boolean).unwrap_or(false);
        if amount.is_some() && (shipping || !matches!(items, Some(None))) {
            fields.report("amount", "can't be combined with items or shipping");
        }
        let reason = fields.optional("reason", body::text(0..=500));
        let reference = fields.optional("reference", body::visible_text(1..=200));
        Some(Self {
            id: id?,
            amount,
            items: items?,
            shipping,
            reason,
            reference,
        })
    }
}

/// `payment.notify`: a payment changed at the provider. The worker then retrieves the payment from the
/// provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NotifyPayment {
    /// Id of the order, if the provider sends it; otherwise the order is found by `reference`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order_id: Option<OrderId>,
    /// Id of the payment at the provider.
    pub reference: String,
}

impl NotifyPayment {
    pub(crate) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let order_id = fields.optional("order_id", body::parsed);
        let reference = fields.required("reference", body::text(1..=255));
        Some(Self {
            order_id,
            reference: reference?,
        })
    }
}
