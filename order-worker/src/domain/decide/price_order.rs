//! Prices a new or edited order: the line items with their shares of the discounts on the whole order, and the
//! total.
//!
//! Prices are the catalogue's, unless the caller may set others. No discount makes anything cost less than
//! nothing, and taxes that are contained in a price don't exceed it.

use std::collections::{HashMap, HashSet};

use shared::{
    id::Sku,
    money::{Currency, MAX_AMOUNT, Money},
    order::{CreateOrder, Discount, LineItem, ShippingCharge},
    outcome::{Code, Failure, Violation},
    request::{Caller, Role},
};

use super::Rules;
use crate::domain::{
    amounts::{Totals, divide, sum_of_discounts, sum_of_taxes},
    product::Product,
};

/// The line items of `request`, without warehouses, and the total. `products` has all ordered products.
pub(super) fn price(
    caller: &Caller,
    request: &CreateOrder,
    products: &HashMap<&Sku, &Product>,
    rules: &Rules,
) -> Result<(Vec<LineItem>, Money), Failure> {
    ensure_may_set_prices(
        caller,
        rules,
        request.items.iter().map(|item| item.unit_price),
    )?;
    let (mut items, currency) = new_lines(request, products)?;
    let mut violations = Vec::new();
    check_own_priced_products_once(request, &mut violations);
    let order_charges = Charges {
        shipping: request.shipping.as_deref(),
        discounts: &request.discounts,
        tax_included: request.tax_included,
    };
    let pointer_of = |item_index: usize| format!("/items/{item_index}");
    let total_amount = price_lines(&mut items, &order_charges, pointer_of, violations)?;
    Ok((
        items,
        Money {
            amount: total_amount,
            currency,
        },
    ))
}

/// Refuses prices other than the catalogue's that the caller may not set. `unit_prices` has those of the requested
/// items.
pub(super) fn ensure_may_set_prices(
    caller: &Caller,
    rules: &Rules,
    mut unit_prices: impl Iterator<Item = Option<i64>>,
) -> Result<(), Failure> {
    if caller.role == Role::Storefront
        && !rules.allows_storefront_prices
        && let Some(item_index) = unit_prices.position(|unit_price| unit_price.is_some())
    {
        return Err(Failure::new(
            Code::Forbidden,
            format!(
                "/items/{item_index}/unit_price: only operators and admins set prices; for storefronts STOREFRONT_PRICES=1 is required"
            ),
        ));
    }
    Ok(())
}

/// The parts of a total beside the line items.
pub(super) struct Charges<'a> {
    pub(super) shipping: Option<&'a ShippingCharge>,
    /// Discounts on the whole order.
    pub(super) discounts: &'a [Discount],
    pub(super) tax_included: bool,
}

/// Divides the discounts on the whole order among `items`, and returns the total of items and shipping charge in
/// minor units. `pointer_of` names the item with an index in the request; `violations` has those found before.
///
/// # Errors
/// `INVALID_REQUEST` with all violations.
pub(super) fn price_lines(
    items: &mut [LineItem],
    charges: &Charges<'_>,
    pointer_of: impl Fn(usize) -> String,
    mut violations: Vec<Violation>,
) -> Result<i64, Failure> {
    check_line_discounts(items, &pointer_of, &mut violations);
    if violations.is_empty() {
        divide_order_discounts(charges.discounts, items, &mut violations);
        check_contained_taxes(charges.tax_included, items, &pointer_of, &mut violations);
    }
    if let Some(shipping_charge) = charges.shipping {
        check_shipping(shipping_charge, charges.tax_included, &mut violations);
    }
    if !violations.is_empty() {
        return Err(Failure::violations(&violations));
    }
    let shipping_totals = Totals::of_shipping(charges.shipping, charges.tax_included);
    let total_amount = Totals::of_lines(items, charges.tax_included).total + shipping_totals.total;
    if total_amount > MAX_AMOUNT {
        return Err(Failure::violation(
            "/items",
            format!("make the total exceed {MAX_AMOUNT} minor units"),
        ));
    }
    Ok(total_amount)
}

/// The requested line items at their prices, and their currency; the error names the first whose currency differs,
/// or that makes the sum too large.
fn new_lines(
    request: &CreateOrder,
    products: &HashMap<&Sku, &Product>,
) -> Result<(Vec<LineItem>, Currency), Failure> {
    let mut subtotal: Option<Money> = None;
    let mut lines = Vec::with_capacity(request.items.len());
    for (item_index, item) in request.items.iter().enumerate() {
        let Some(product) = products.get(&item.sku) else {
            continue;
        };
        let catalogue_price = product.price();
        let unit_price = Money {
            amount: item.unit_price.unwrap_or(catalogue_price.amount),
            ..catalogue_price
        };
        let running_subtotal = subtotal.unwrap_or_else(|| Money::zero(unit_price.currency));
        let running_subtotal = running_subtotal
            .plus(unit_price, item.quantity.get())
            .map_err(|detail| Failure::violation(format!("/items/{item_index}"), detail))?;
        subtotal = Some(running_subtotal);
        lines.push(LineItem {
            sku: item.sku.clone(),
            name: product.details.name.clone(),
            quantity: item.quantity,
            unit_price: unit_price.amount,
            warehouse: None,
            discounts: item.discounts.clone(),
            order_discount: 0,
            taxes: item.taxes.clone(),
        });
    }
    subtotal
        .map(|subtotal| (lines, subtotal.currency))
        .ok_or_else(|| Failure::violation("/items", "must have at least one entry"))
}

/// The units of a product with a price of its own have to be in one item: shipments and refunds divide the
/// amounts of a product equally among its units.
fn check_own_priced_products_once(request: &CreateOrder, violations: &mut Vec<Violation>) {
    let mut seen_skus = HashSet::new();
    let own_priced_items = request.items.iter().filter(|item| item.has_own_price());
    let own_priced_skus: HashSet<&Sku> = own_priced_items.map(|item| &item.sku).collect();
    for (item_index, item) in request.items.iter().enumerate() {
        if !seen_skus.insert(&item.sku) && own_priced_skus.contains(&item.sku) {
            violations.push(Violation::new(
                format!("/items/{item_index}/sku"),
                format!(
                    "{} is in several items: an agreed price, discounts or taxes require all of its units in one item",
                    item.sku
                ),
            ));
        }
    }
}

fn check_line_discounts(
    items: &[LineItem],
    pointer_of: impl Fn(usize) -> String,
    violations: &mut Vec<Violation>,
) {
    for (line_index, line) in items.iter().enumerate() {
        let Totals {
            subtotal,
            discount_total,
            ..
        } = Totals::of_line(line, false);
        if discount_total > subtotal {
            violations.push(Violation::new(
                format!("{}/discounts", pointer_of(line_index)),
                format!("add up to {discount_total}, more than the price of {subtotal}"),
            ));
        }
    }
}

/// Divides the discounts on the whole order among the line items, in proportion to their prices after their
/// own discounts.
fn divide_order_discounts(
    discounts: &[Discount],
    items: &mut [LineItem],
    violations: &mut Vec<Violation>,
) {
    let discount_sum = sum_of_discounts(discounts);
    if discount_sum == 0 {
        return;
    }
    let after_discounts = |line: &LineItem| Totals::of_line(line, true).total;
    let prices: Vec<i64> = items.iter().map(after_discounts).collect();
    let price_sum: i64 = prices.iter().sum();
    if discount_sum > price_sum {
        violations.push(Violation::new(
            "/discounts".to_owned(),
            format!("add up to {discount_sum}, more than the {price_sum} that the items cost after their own discounts"),
        ));
        return;
    }
    for (line, share) in items.iter_mut().zip(divide(discount_sum, &prices)) {
        line.order_discount = share;
    }
}

fn check_contained_taxes(
    tax_included: bool,
    items: &[LineItem],
    pointer_of: impl Fn(usize) -> String,
    violations: &mut Vec<Violation>,
) {
    if !tax_included {
        return;
    }
    for (line_index, line) in items.iter().enumerate() {
        let totals = Totals::of_line(line, true);
        if totals.tax_total > totals.total {
            violations.push(excess_tax_violation(
                &format!("{}/taxes", pointer_of(line_index)),
                totals,
            ));
        }
    }
}

fn excess_tax_violation(pointer: &str, totals: Totals) -> Violation {
    Violation::new(
        pointer.to_owned(),
        format!(
            "add up to {}, more than the price of {} that contains them (tax_included)",
            totals.tax_total, totals.total
        ),
    )
}

fn check_shipping(
    shipping_charge: &ShippingCharge,
    tax_included: bool,
    violations: &mut Vec<Violation>,
) {
    let discount_sum = sum_of_discounts(&shipping_charge.discounts);
    if discount_sum > shipping_charge.amount {
        violations.push(Violation::new(
            "/shipping/discounts".to_owned(),
            format!(
                "add up to {discount_sum}, more than the charge of {}",
                shipping_charge.amount
            ),
        ));
        return;
    }
    let totals = Totals::of_shipping(Some(shipping_charge), tax_included);
    if tax_included && sum_of_taxes(&shipping_charge.taxes) > totals.total {
        violations.push(excess_tax_violation("/shipping/taxes", totals));
    }
}
