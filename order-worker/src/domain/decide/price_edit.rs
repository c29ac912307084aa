//! Prices an edited order: its line items, discounts, shipping charge and total after the edit.
//!
//! Line items of a product that were divided among warehouses are one line item again. A line item keeps its unit
//! price, and its discounts and taxes as long as neither its quantity nor its price changes; a new one has the
//! catalogue's price of now. Discounts on the whole order are divided again when anything they depend on changes.

use std::{
    collections::{HashMap, HashSet},
    num::NonZeroU32,
};

use shared::{
    id::Sku,
    money::Money,
    order::{Discount, EditItem, EditOrder, LineItem, MAX_ITEMS, ShippingCharge, Tax},
    outcome::{Failure, Violation},
    request::Caller,
};

use super::{
    Rules,
    price_order::{Charges, ensure_may_set_prices, price_lines},
};
use crate::domain::{order::Order, product::Product, working_set::WorkingSet};

/// An order after an edit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct EditedOrder {
    /// Line items: those of the order with their warehouses if `are_items_changed` is not set; otherwise one for
    /// each product, without warehouse.
    pub(super) items: Vec<LineItem>,
    pub(super) are_items_changed: bool,
    pub(super) shipping: Option<ShippingCharge>,
    pub(super) discounts: Vec<Discount>,
    /// Total in minor units.
    pub(super) total: i64,
}

impl EditedOrder {
    /// Whether it differs from `order`.
    pub(super) fn changes(&self, order: &Order) -> bool {
        self.are_items_changed
            || self.shipping != order.shipping
            || self.discounts != order.discounts
    }
}

/// Prices `order` after the edit that `request` describes.
///
/// # Errors
/// `FORBIDDEN` when a storefront sets a price; `INVALID_REQUEST` with all violations.
pub(super) fn price_edit(
    working_set: &WorkingSet,
    caller: &Caller,
    order: &Order,
    request: &EditOrder,
    rules: &Rules,
) -> Result<EditedOrder, Failure> {
    let requested_items = request.items.as_deref().unwrap_or_default();
    ensure_may_set_prices(
        caller,
        rules,
        requested_items.iter().map(|item_edit| item_edit.unit_price),
    )?;
    let lines_before = lines_by_product(&order.items);
    let mut items = apply_item_edits(working_set, order, &lines_before, requested_items)?;
    let discounts = request
        .discounts
        .as_ref()
        .unwrap_or(&order.discounts)
        .clone();
    let shipping = request.shipping.as_ref().unwrap_or(&order.shipping).clone();
    let are_items_changed = items != lines_before || discounts != order.discounts;
    if are_items_changed {
        for line in &mut items {
            line.order_discount = 0;
        }
    } else {
        items.clone_from(&order.items);
    }
    let charges = Charges {
        shipping: shipping.as_ref(),
        // Without a change of the items, each has its share already.
        discounts: if are_items_changed { &discounts } else { &[] },
        tax_included: order.tax_included,
    };
    let index_by_sku: HashMap<&Sku, usize> = requested_items
        .iter()
        .enumerate()
        .map(|(index, item_edit)| (&item_edit.sku, index))
        .collect();
    let skus: Vec<Sku> = items.iter().map(|line| line.sku.clone()).collect();
    let pointer_of =
        |line_index: usize| match skus.get(line_index).and_then(|sku| index_by_sku.get(sku)) {
            Some(index) => format!("/items/{index}"),
            None => "/items".to_owned(),
        };
    let new_total = price_lines(&mut items, &charges, pointer_of, Vec::new())?;
    check_total(order, request, new_total, rules)?;
    Ok(EditedOrder {
        items,
        are_items_changed,
        shipping,
        discounts,
        total: new_total,
    })
}

/// Checks that the provider can charge the total, and that it is the one that the customer was shown.
fn check_total(
    order: &Order,
    request: &EditOrder,
    new_total: i64,
    rules: &Rules,
) -> Result<(), Failure> {
    let total_price = Money {
        amount: new_total,
        currency: order.currency,
    };
    (rules.check_amount)(&order.payment.provider, total_price)
        .map_err(|reason| Failure::violation("/items", reason))?;
    match request.expected_total {
        Some(expected_total) if expected_total != new_total => Err(Failure::violation(
            "/expected_total",
            format!("is {expected_total}, but the order's total would be {new_total}"),
        )),
        _ => Ok(()),
    }
}

/// The line items with all units of a product in one, without warehouses. A discount or tax of a line item that
/// was divided among warehouses is whole again.
fn lines_by_product(lines: &[LineItem]) -> Vec<LineItem> {
    let mut merged_lines: Vec<LineItem> = Vec::with_capacity(lines.len());
    for line in lines {
        let Some(merged_line) = merged_lines
            .iter_mut()
            .find(|merged_line| merged_line.sku == line.sku)
        else {
            merged_lines.push(LineItem {
                warehouse: None,
                ..line.clone()
            });
            continue;
        };
        merged_line.quantity = merged_line.quantity.saturating_add(line.quantity.get());
        merged_line.order_discount += line.order_discount;
        add_up(
            &mut merged_line.discounts,
            &line.discounts,
            |merged_discount: &mut Discount, part| {
                merged_discount.amount += part.amount;
            },
        );
        add_up(
            &mut merged_line.taxes,
            &line.taxes,
            |merged_tax: &mut Tax, part| {
                merged_tax.amount += part.amount;
            },
        );
    }
    merged_lines
}

/// Adds each of `parts` to the entry with the same index. Parts of a divided line item have equally many.
fn add_up<T: Clone>(sums: &mut Vec<T>, parts: &[T], add_part: impl Fn(&mut T, &T)) {
    let sum_count = sums.len();
    for (sum, part) in sums.iter_mut().zip(parts) {
        add_part(sum, part);
    }
    sums.extend(parts.iter().skip(sum_count).cloned());
}

/// The line items after the edit, without their shares of discounts on the whole order if they changed.
fn apply_item_edits(
    working_set: &WorkingSet,
    order: &Order,
    lines_before: &[LineItem],
    requested_items: &[EditItem],
) -> Result<Vec<LineItem>, Failure> {
    let mut lines = lines_before.to_vec();
    let mut violations = Vec::new();
    let mut seen_skus = HashSet::new();
    for (index, item_edit) in requested_items.iter().enumerate() {
        let pointer = format!("/items/{index}");
        if !seen_skus.insert(&item_edit.sku) {
            let detail = format!(
                "{} is in several items: set its quantity once",
                item_edit.sku
            );
            violations.push(Violation::new(format!("{pointer}/sku"), detail));
            continue;
        }
        let line_index = lines.iter().position(|line| line.sku == item_edit.sku);
        let product = working_set.products.get(&item_edit.sku);
        let product = product.filter(|product| !product.is_deleted);
        match (line_index, NonZeroU32::new(item_edit.quantity)) {
            (Some(line_index), None) => {
                lines.remove(line_index);
            }
            (None, None) => violations.push(Violation::new(
                format!("{pointer}/sku"),
                format!(
                    "{} is not in the order, so it can't be removed",
                    item_edit.sku
                ),
            )),
            (Some(line_index), Some(quantity)) => {
                let is_sold = product.is_some();
                change_line(
                    &mut lines[line_index],
                    item_edit,
                    quantity,
                    is_sold,
                    &pointer,
                    &mut violations,
                );
            }
            (None, Some(quantity)) => match new_line(order, item_edit, quantity, product) {
                Ok(line) => lines.push(line),
                Err(reason) => violations.push(Violation::new(format!("{pointer}/sku"), reason)),
            },
        }
    }
    if lines.is_empty() {
        violations.push(Violation::new(
            "/items".to_owned(),
            "would remove the last item of the order: cancel the order instead",
        ));
    }
    if lines.len() > MAX_ITEMS {
        violations.push(Violation::new(
            "/items".to_owned(),
            format!(
                "would give the order {} items, more than {MAX_ITEMS}",
                lines.len()
            ),
        ));
    }
    if !violations.is_empty() {
        return Err(Failure::violations(&violations));
    }
    let mut subtotal = Money::zero(order.currency);
    for line in &lines {
        let price = Money {
            amount: line.unit_price,
            currency: order.currency,
        };
        subtotal = subtotal
            .plus(price, line.quantity.get())
            .map_err(|reason| Failure::violation("/items", reason))?;
    }
    Ok(lines)
}

/// Changes a line item as requested.
fn change_line(
    line: &mut LineItem,
    item_edit: &EditItem,
    quantity: NonZeroU32,
    is_sold: bool,
    pointer: &str,
    violations: &mut Vec<Violation>,
) {
    if quantity > line.quantity && !is_sold {
        violations.push(Violation::new(
            format!("{pointer}/quantity"),
            format!(
                "is more than the {} units ordered, but product {} is no longer sold",
                line.quantity, item_edit.sku
            ),
        ));
    }
    let unit_price = item_edit.unit_price.unwrap_or(line.unit_price);
    let is_changed = (quantity, unit_price) != (line.quantity, line.unit_price);
    let mut report_missing = |field_name: &str| {
        violations.push(Violation::new(
            format!("{pointer}/{field_name}"),
            format!(
                "is required: the line item has {field_name}, which belong to {} units at {}",
                line.quantity, line.unit_price
            ),
        ));
    };
    match &item_edit.discounts {
        Some(discounts) => line.discounts.clone_from(discounts),
        None if is_changed && !line.discounts.is_empty() => report_missing("discounts"),
        None => {}
    }
    match &item_edit.taxes {
        Some(taxes) => line.taxes.clone_from(taxes),
        None if is_changed && !line.taxes.is_empty() => report_missing("taxes"),
        None => {}
    }
    line.quantity = quantity;
    line.unit_price = unit_price;
}

/// A line item of a product that is not in the order yet; the error is the reason why it can't be added.
fn new_line(
    order: &Order,
    item_edit: &EditItem,
    quantity: NonZeroU32,
    product: Option<&Product>,
) -> Result<LineItem, String> {
    let product = product.ok_or_else(|| format!("product {} does not exist", item_edit.sku))?;
    let price = product.price();
    if price.currency != order.currency {
        return Err(format!(
            "product {} has a price in {}, but the order is in {}",
            item_edit.sku, price.currency, order.currency
        ));
    }
    Ok(LineItem {
        sku: item_edit.sku.clone(),
        name: product.details.name.clone(),
        quantity,
        unit_price: item_edit.unit_price.unwrap_or(price.amount),
        warehouse: None,
        discounts: item_edit.discounts.clone().unwrap_or_default(),
        order_discount: 0,
        taxes: item_edit.taxes.clone().unwrap_or_default(),
    })
}
