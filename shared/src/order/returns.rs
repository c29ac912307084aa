//! Returns: units that a customer sends back, from the request to the receipt, and their requests.
//!
//! A return belongs to an order and is stored with it. [`Return`] is the representation, [`ReturnedItem`] and
//! [`ReceivedItem`] are also parts of events. The rules are in the worker's domain module.

use std::{num::NonZeroU32, str::FromStr};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    StockItem,
    request::{ItemQuantity, MAX_ITEMS, cursor_by, limit},
};
use crate::{
    body::{self, Fields},
    id::{CustomerId, OrderId, ReturnId, ShipmentId, Sku, Storefront, Warehouse},
    money::{Currency, MAX_AMOUNT},
    schema,
};

/// Maximum length of the reason for returning an item, in characters.
const MAX_REASON_CHARS: usize = 200;
/// Maximum length of a note, and of the reason for a rejection or cancellation, in characters.
const MAX_NOTE_CHARS: usize = 500;

/// A return as callers see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(example = json!({
    "id": "0192f0c1-4567-7abc-8def-0123456789ab", "order_id": "0192f0c1-2345-7abc-8def-0123456789ab",
    "number": "42-R1", "storefront": "eu", "customer_id": "0192f0c1-0000-7abc-8def-0123456789ab",
    "status": "received", "items": [{"sku": "TSHIRT", "quantity": 1, "reason": "too small"}],
    "note": null, "reason": null,
    "received": [{"shipment_id": "0192f0c1-3456-7abc-8def-0123456789ab", "sku": "TSHIRT", "quantity": 1,
        "restock": true, "warehouse": "berlin", "refunded": 1, "value": 1999}],
    "currency": "EUR", "refund_amount": 1499, "fee": 500, "version": 3,
    "created_at": "2026-02-03T12:00:00Z", "updated_at": "2026-02-07T12:00:00Z"
}))]
pub struct Return {
    /// UUIDv7.
    pub id: ReturnId,
    /// Id of the order.
    pub order_id: OrderId,
    /// Number for people: the order's number and the number of the return within the order.
    pub number: String,
    /// Storefront of the order.
    pub storefront: Storefront,
    /// Customer of the order.
    pub customer_id: CustomerId,
    /// Status of the return.
    pub status: ReturnStatus,
    /// Requested units.
    pub items: Vec<ReturnedItem>,
    /// Free text of the request.
    pub note: Option<String>,
    /// Reason for the rejection or cancellation.
    pub reason: Option<String>,
    /// Units that were received, by the shipment with which they had left.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub received: Vec<ReceivedItem>,
    /// Currency of all amounts.
    pub currency: Currency,
    /// Refund in minor units: an estimate until the units are received.
    pub refund_amount: i64,
    /// Part of the received units' amount that is not refunded, in minor units.
    pub fee: i64,
    /// Number of changes of the return, from 1; also its `ETag`.
    pub version: u64,
    /// Time of the request.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// Time of the last change.
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Timestamp,
}

/// Status of a return: `requested → approved → received`; `rejected` is reached from `requested`, `cancelled`
/// from `requested` or `approved`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReturnStatus {
    /// Waiting for an operator's decision.
    Requested,
    /// Accepted: the units are expected.
    Approved,
    /// The units were received.
    Received,
    /// Refused by an operator.
    Rejected,
    /// Withdrawn, or given up.
    Cancelled,
}

impl ReturnStatus {
    /// All statuses.
    pub const ALL: [Self; 5] = [
        Self::Requested,
        Self::Approved,
        Self::Received,
        Self::Rejected,
        Self::Cancelled,
    ];

    /// The status as in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Approved => "approved",
            Self::Received => "received",
            Self::Rejected => "rejected",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether the return is not finished: its units are still expected.
    pub fn is_open(self) -> bool {
        match self {
            Self::Requested | Self::Approved => true,
            Self::Received | Self::Rejected | Self::Cancelled => false,
        }
    }
}

impl FromStr for ReturnStatus {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let matching_status = Self::ALL.into_iter().find(|status| status.as_str() == text);
        matching_status
            .ok_or_else(|| format!("must be one of {}", Self::ALL.map(Self::as_str).join(", ")))
    }
}

/// Units of a product that a customer wants to return.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReturnedItem {
    /// SKU of the product.
    pub sku: Sku,
    /// Number of units.
    #[schema(value_type = u32, minimum = 1, maximum = 1_000_000)]
    pub quantity: NonZeroU32,
    /// Free-text reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 200, required = false)]
    pub reason: Option<String>,
}

impl ReturnedItem {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let item_quantity = ItemQuantity::read(fields);
        let reason = fields.optional("reason", body::text(0..=MAX_REASON_CHARS));
        let ItemQuantity { sku, quantity } = item_quantity?;
        Some(Self {
            sku,
            quantity,
            reason,
        })
    }
}

/// Units of a return that were received, as recorded. They had left with one shipment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ReceivedItem {
    /// Id of the shipment with which the units had left.
    pub shipment_id: ShipmentId,
    /// SKU of the product.
    pub sku: Sku,
    /// Number of units.
    #[schema(value_type = u32, minimum = 1, maximum = 1_000_000)]
    pub quantity: NonZeroU32,
    /// Whether the units were put back on stock.
    pub restock: bool,
    /// Warehouse that has the units on stock; `null` without `restock`.
    pub warehouse: Option<Warehouse>,
    /// Number of these units that count as refunded by this return: the others were refunded before, or this
    /// return refunds nothing.
    #[serde(rename = "refunded")]
    pub refunded_units: u32,
    /// Share of the order's total of the units that count as refunded, in minor units.
    pub value: i64,
    /// Part of `value` that the customer was not charged, because its capture was discarded; in minor units.
    #[serde(default, skip_serializing_if = "is_zero")]
    #[schema(required = false)]
    pub unpaid: i64,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_zero(amount: &i64) -> bool {
    *amount == 0
}

/// The units among `received_items` that were put back on stock.
pub fn restocked_items(received_items: &[ReceivedItem]) -> Vec<StockItem> {
    let restocked_items = received_items.iter().filter_map(|item| {
        let warehouse = item.warehouse.clone().filter(|_| item.restock)?;
        Some(StockItem {
            sku: item.sku.clone(),
            warehouse,
            quantity: item.quantity,
        })
    });
    restocked_items.collect()
}

/// `return.create`: requests a return of shipped units.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(example = json!({"items": [{"sku": "TSHIRT", "quantity": 1, "reason": "too small"}]}))]
#[serde(deny_unknown_fields)]
pub struct CreateReturn {
    /// Id of the order.
    #[schema(ignore)]
    pub id: OrderId,
    /// Units to return.
    #[schema(min_items = 1, max_items = 500)]
    pub items: Vec<ReturnedItem>,
    /// Free text.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 500)]
    pub note: Option<String>,
}

impl CreateReturn {
    pub(crate) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let id = fields.required("id", body::parsed);
        let items = fields.list("items", 1..=MAX_ITEMS, ReturnedItem::read);
        let note = fields.optional("note", body::text(0..=MAX_NOTE_CHARS));
        Some(Self {
            id: id?,
            items: items?,
            note,
        })
    }
}

/// `return.get`, `return.approve`: the id of a return.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReturnRef {
    /// Id of the return.
    pub id: ReturnId,
}

impl ReturnRef {
    pub(crate) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let id = fields.required("id", body::parsed);
        Some(Self { id: id? })
    }
}

/// `return.reject`, `return.cancel`: ends a return without a receipt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(as = EndReturn, example = json!({"reason": "ordered too long ago"}))]
#[serde(deny_unknown_fields)]
pub struct RejectOrCancelReturn {
    /// Id of the return.
    #[schema(ignore)]
    pub id: ReturnId,
    /// Free-text reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 500)]
    pub reason: Option<String>,
}

impl RejectOrCancelReturn {
    pub(crate) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let id = fields.required("id", body::parsed);
        let reason = fields.optional("reason", body::text(0..=MAX_NOTE_CHARS));
        Some(Self { id: id?, reason })
    }
}

/// `return.receive`: units of an approved return have arrived.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(example = json!({"items": [{"sku": "TSHIRT", "quantity": 1, "restock": true}], "fee": 500}))]
#[serde(deny_unknown_fields)]
pub struct ReceiveReturn {
    /// Id of the return.
    #[schema(ignore)]
    pub id: ReturnId,
    /// Received units, at most those of the return.
    #[schema(min_items = 1, max_items = 500)]
    pub items: Vec<ReceivedQuantity>,
    /// The refund; absent: the units' share of the total, with discounts and taxes, without `fee`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = schema::receipt_refund, required = false)]
    pub refund: Option<ReceiptRefund>,
    /// Amount in minor units that is kept from the refund, for example for damage. Not with `refund`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 1_000_000_000_000_i64)]
    pub fee: Option<i64>,
}

impl ReceiveReturn {
    pub(crate) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let id = fields.required("id", body::parsed);
        let items = fields.list("items", 1..=MAX_ITEMS, ReceivedQuantity::read);
        let refund =
            fields.optional_object_or("refund", ReceiptRefund::parse, ReceiptRefund::read_amount);
        let fee = fields.optional("fee", body::integer(0..=MAX_AMOUNT));
        if fee.is_some() && !matches!(refund, Some(None)) {
            fields.report("fee", "can't be combined with refund");
        }
        Some(Self {
            id: id?,
            items: items?,
            refund: refund?,
            fee,
        })
    }
}

/// The refund that an operator sets at the receipt of a return.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ReceiptRefund {
    /// No refund.
    None,
    /// This amount in minor units instead of the units' share of the total.
    Amount(i64),
}

impl ReceiptRefund {
    fn parse(value: Value) -> Result<Self, String> {
        match body::string(value).as_deref() {
            Ok("none") => Ok(Self::None),
            _ => Err("must be \"none\", or an object with an amount".to_owned()),
        }
    }

    fn read_amount(fields: &mut Fields<'_>) -> Option<Self> {
        let amount = fields.required("amount", body::integer(1..=MAX_AMOUNT));
        amount.map(Self::Amount)
    }
}

/// Units of a product that have arrived.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReceivedQuantity {
    /// SKU of the product.
    pub sku: Sku,
    /// Number of units.
    #[schema(value_type = u32, minimum = 1, maximum = 1_000_000)]
    pub quantity: NonZeroU32,
    /// Whether to put the units back on stock.
    pub restock: bool,
    /// Warehouse to put them on stock; absent: the one that they were shipped from. Only with `restock`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warehouse: Option<Warehouse>,
}

impl ReceivedQuantity {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let item_quantity = ItemQuantity::read(fields);
        let restock = fields.required("restock", body::boolean);
        let warehouse = fields.optional("warehouse", body::parsed);
        if restock == Some(false) && warehouse.is_some() {
            fields.report("warehouse", "can be given with restock true only");
        }
        let ItemQuantity { sku, quantity } = item_quantity?;
        Some(Self {
            sku,
            quantity,
            restock: restock?,
            warehouse,
        })
    }
}

/// `return.list`: returns, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ListReturns {
    /// Only returns with this status.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<ReturnStatus>,
    /// Only returns of this order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order_id: Option<OrderId>,
    /// The number of a return, `42-R1`, or of its order, `42` or `#42`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub q: Option<String>,
    /// Only returns of this storefront.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storefront: Option<Storefront>,
    /// Maximum number of entries.
    pub limit: u32,
    /// Id of the last return of the previous page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

impl ListReturns {
    #[expect(clippy::unnecessary_wraps, reason = "the shape of every reader")]
    pub(crate) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let status = fields.optional("status", body::parsed);
        let order_id = fields.optional("order_id", body::parsed);
        let q = fields.optional("q", body::visible_text(1..=100));
        let storefront = fields.optional("storefront", body::parsed);
        let limit = limit(fields);
        let cursor = cursor_by::<ReturnId>(fields);
        Some(Self {
            status,
            order_id,
            q,
            storefront,
            limit,
            cursor,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::request::Request;

    fn read_receive_request(mut body: Value) -> Result<Request, String> {
        body["id"] = json!("0192f0c1-2345-7abc-8def-0123456789ab");
        Request::read("return.receive", body).map_err(|failure| failure.message)
    }

    #[test]
    fn refund_of_a_receipt_is_none_or_an_amount() {
        let items = json!([{"sku": "A", "quantity": 1, "restock": false}]);
        for refund in [json!("none"), json!({"amount": 5}), json!(null)] {
            let request = read_receive_request(json!({"items": items, "refund": refund})).unwrap();
            let sent_body = serde_json::from_str(request.to_body().unwrap().get()).unwrap();
            assert_eq!(Request::read("return.receive", sent_body).unwrap(), request);
        }
        for (refund, pointer) in [
            (json!("all"), "/refund:"),
            (json!(5), "/refund:"),
            (json!({"amount": 0}), "/refund/amount:"),
            (json!({}), "/refund/amount:"),
            (json!({"amount": 1, "x": 1}), "/refund/x:"),
        ] {
            let invalid_refund_error =
                read_receive_request(json!({"items": items, "refund": refund})).unwrap_err();
            assert!(
                invalid_refund_error.starts_with(pointer),
                "{invalid_refund_error}"
            );
        }
        let conflicting_refund_error =
            read_receive_request(json!({"items": items, "refund": "none", "fee": 1})).unwrap_err();
        assert!(
            conflicting_refund_error.starts_with("/fee:"),
            "{conflicting_refund_error}"
        );
        let items = json!([{"sku": "A", "quantity": 1, "restock": false, "warehouse": "main"}]);
        let needless_warehouse_error = read_receive_request(json!({ "items": items })).unwrap_err();
        assert!(
            needless_warehouse_error.starts_with("/items/0/warehouse:"),
            "{needless_warehouse_error}"
        );
    }
}
