//! Requests that edit an order before anything was shipped: its items, discounts and shipping charge.
//!
//! Only their form is checked here; the worker prices the edited order and decides whether it can be edited.

use std::ops::RangeInclusive;

use serde::Serialize;
use serde_json::Value;

use super::create::{MAX_ITEMS, QUANTITY_RANGE, payment_method};
use crate::{
    body::{self, Fields},
    id::{OrderId, Sku},
    money::MAX_AMOUNT,
    order::charge::{Discount, MAX_DISCOUNTS_OR_TAXES, ShippingCharge, Tax},
};

/// Length of a list of discounts or taxes.
const DISCOUNT_OR_TAX_LIST_LENGTH: RangeInclusive<usize> = 0..=MAX_DISCOUNTS_OR_TAXES;

/// `order.edit`: changes items, discounts and shipping charge of an order of which nothing was shipped. What is
/// absent stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "items": [{"sku": "TSHIRT", "quantity": 3}, {"sku": "MUG", "quantity": 0}],
    "reason": "the customer changed the order"
}))]
pub struct EditOrder {
    /// Id of the order.
    #[schema(ignore)]
    pub id: OrderId,
    /// Products to change, add or remove; each at most once.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(min_items = 1, max_items = 500)]
    pub items: Option<Vec<EditItem>>,
    /// Shipping charge afterwards; `null` removes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<ShippingCharge>, required = false)]
    pub shipping: Option<Option<ShippingCharge>>,
    /// Discounts on the whole order afterwards; `null` or an empty list removes them.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_items = 20, required = false)]
    pub discounts: Option<Vec<Discount>>,
    /// Payment method for a higher total: a token of the payment provider. Absent: the order's.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(
        min_length = 1,
        max_length = 255,
        pattern = "^[^\\x00-\\x1f\\x7f-\\x9f]*$",
        example = "pm_ok"
    )]
    pub payment_method: Option<String>,
    /// Total in minor units that the customer was shown; the edit is refused if the new total differs.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 1_000_000_000_000_i64)]
    pub expected_total: Option<i64>,
    /// Free-text reason, kept in the history.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 500)]
    pub reason: Option<String>,
}

impl EditOrder {
    pub(crate) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let id = fields.required("id", body::parsed);
        let items = fields.optional_list("items", 1..=MAX_ITEMS, EditItem::read);
        let shipping = fields.patch_nullable_object("shipping", ShippingCharge::read);
        let discounts = fields.patch_list("discounts", DISCOUNT_OR_TAX_LIST_LENGTH, Discount::read);
        let payment_method = fields.optional("payment_method", payment_method);
        let expected_total = fields.optional("expected_total", body::integer(0..=MAX_AMOUNT));
        let reason = fields.optional("reason", body::text(0..=500));
        let (items, shipping, discounts) = (items?, shipping?, discounts?);
        if items.is_none() && shipping.is_none() && discounts.is_none() {
            fields.report(
                "items",
                "is required, or shipping, or discounts: there is nothing to change",
            );
        }
        Some(Self {
            id: id?,
            items,
            shipping,
            discounts,
            payment_method,
            expected_total,
            reason,
        })
    }
}

/// The quantity of a product in an edited order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EditItem {
    /// SKU of the product.
    pub sku: Sku,
    /// Number of units afterwards, in all line items of the product together; 0 removes it.
    #[schema(minimum = 0, maximum = 1_000_000)]
    pub quantity: u32,
    /// Price per unit in minor units. Absent: the price in the order, or for a new line item the catalogue's. For
    /// operators and admins; for storefronts if `STOREFRONT_PRICES` is set.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 1_000_000_000_000_i64)]
    pub unit_price: Option<i64>,
    /// Discounts on all units together. Required if the line item has discounts and its quantity or price
    /// changes; otherwise they stay as they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_items = 20, required = false)]
    pub discounts: Option<Vec<Discount>>,
    /// Taxes on all units together. Required if the line item has taxes and its quantity or price changes;
    /// otherwise they stay as they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_items = 20, required = false)]
    pub taxes: Option<Vec<Tax>>,
}

impl EditItem {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let sku = fields.required("sku", body::parsed);
        let quantity = fields.required("quantity", quantity);
        let unit_price = fields.optional("unit_price", body::integer(0..=MAX_AMOUNT));
        let discounts = fields.patch_list("discounts", DISCOUNT_OR_TAX_LIST_LENGTH, Discount::read);
        let taxes = fields.patch_list("taxes", DISCOUNT_OR_TAX_LIST_LENGTH, Tax::read);
        let (discounts, taxes) = (discounts?, taxes?);
        let is_priced = unit_price.is_some() || discounts.is_some() || taxes.is_some();
        if quantity == Some(0) && is_priced {
            fields.report(
                "quantity",
                "is 0, which removes the item: it can't have unit_price, discounts or taxes",
            );
        }
        Some(Self {
            sku: sku?,
            quantity: quantity?,
            unit_price,
            discounts,
            taxes,
        })
    }
}

/// `order.cancel_edit`: cancels a pending edit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"reason": "changed my mind"}))]
pub struct CancelEdit {
    /// Id of the order.
    #[schema(ignore)]
    pub id: OrderId,
    /// Free-text reason, kept in the history.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 500)]
    pub reason: Option<String>,
}

impl CancelEdit {
    pub(crate) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let id = fields.required("id", body::parsed);
        let reason = fields.optional("reason", body::text(0..=500));
        Some(Self { id: id?, reason })
    }
}

fn quantity(value: Value) -> Result<u32, String> {
    let unit_count = body::integer(0..=*QUANTITY_RANGE.end())(value)?;
    u32::try_from(unit_count).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::request::Request;

    #[test]
    fn absent_null_and_empty_values_are_told_apart_and_round_trip() {
        let id = "0192f0c1-2345-7abc-8def-0123456789ab";
        for (body, shipping, discounts) in [
            (json!({"items": [{"sku": "A", "quantity": 0}]}), None, None),
            (json!({"shipping": null}), Some(None), None),
            (json!({"discounts": null}), None, Some(Vec::new())),
            (json!({"discounts": []}), None, Some(Vec::new())),
        ] {
            let mut body = body;
            body["id"] = json!(id);
            let request = Request::read("order.edit", body).unwrap();
            let Request::EditOrder(edit) = &request else {
                panic!("{request:?}")
            };
            assert_eq!((&edit.shipping, &edit.discounts), (&shipping, &discounts));
            let sent_body: Value = serde_json::from_str(request.to_body().unwrap().get()).unwrap();
            assert_eq!(Request::read("order.edit", sent_body).unwrap(), request);
        }
        let empty_edit_error =
            Request::read("order.edit", json!({"id": id, "reason": "x"})).unwrap_err();
        assert!(
            empty_edit_error.to_string().contains("nothing to change"),
            "{empty_edit_error}"
        );
        let priced_edit = json!({"id": id, "items": [{"sku": "A", "quantity": 0, "taxes": []}]});
        assert!(Request::read("order.edit", priced_edit).is_err());
    }
}
