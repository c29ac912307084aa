//! Amounts of orders: totals of line items and orders, and their exact division among units.
//!
//! All amounts are integers in minor units. Each total is the sum of its parts, and whatever is divided is
//! divided by largest remainder: the parts add up to the whole, and each differs from its exact share by less
//! than one minor unit. Nothing here depends on anything but its arguments.

use std::num::NonZeroU32;

use shared::order::{Discount, LineItem, ShippingCharge, StockItem, Tax};

/// The totals of a line item, of the shipping charge, or of an order's items.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Price before discounts.
    pub subtotal: i64,
    /// Discounts.
    pub discount_total: i64,
    /// Taxes.
    pub tax_total: i64,
    /// Amount to pay.
    pub total: i64,
}

impl Totals {
    fn new(subtotal: i64, discount_total: i64, tax_total: i64, tax_included: bool) -> Self {
        let added_tax = if tax_included { 0 } else { tax_total };
        Self {
            subtotal,
            discount_total,
            tax_total,
            total: subtotal - discount_total + added_tax,
        }
    }

    /// The totals of a line item.
    pub fn of_line(line: &LineItem, tax_included: bool) -> Self {
        let subtotal = line
            .unit_price
            .saturating_mul(i64::from(line.quantity.get()));
        let discount_total = sum_of_discounts(&line.discounts) + line.order_discount;
        Self::new(
            subtotal,
            discount_total,
            sum_of_taxes(&line.taxes),
            tax_included,
        )
    }

    /// The totals of the shipping charge.
    pub fn of_shipping(shipping_charge: Option<&ShippingCharge>, tax_included: bool) -> Self {
        shipping_charge.map_or_else(Self::default, |shipping_charge| {
            Self::new(
                shipping_charge.amount,
                sum_of_discounts(&shipping_charge.discounts),
                sum_of_taxes(&shipping_charge.taxes),
                tax_included,
            )
        })
    }

    /// The totals of all line items together.
    pub fn of_lines(lines: &[LineItem], tax_included: bool) -> Self {
        let totals_of_line = |line| Self::of_line(line, tax_included);
        lines
            .iter()
            .map(totals_of_line)
            .fold(Self::default(), Self::plus)
    }

    fn plus(self, other_totals: Self) -> Self {
        Self {
            subtotal: self.subtotal.saturating_add(other_totals.subtotal),
            discount_total: self
                .discount_total
                .saturating_add(other_totals.discount_total),
            tax_total: self.tax_total.saturating_add(other_totals.tax_total),
            total: self.total.saturating_add(other_totals.total),
        }
    }
}

/// Sum of discounts.
pub fn sum_of_discounts(discounts: &[Discount]) -> i64 {
    discounts.iter().map(|discount| discount.amount).sum()
}

/// Sum of taxes.
pub fn sum_of_taxes(taxes: &[Tax]) -> i64 {
    taxes.iter().map(|tax| tax.amount).sum()
}

/// Divides `amount` in proportion to `weights`, by largest remainder; among equal remainders the first gets
/// the minor unit. Neither `amount` nor a weight is negative. With an amount that does not exceed the sum of
/// the weights, no part exceeds its weight. Without any weight, nothing is divided.
pub fn divide(amount: i64, weights: &[i64]) -> Vec<i64> {
    let weight_sum: i128 = weights.iter().copied().map(i128::from).sum();
    if weight_sum == 0 {
        return vec![0; weights.len()];
    }
    let scaled_share = |weight: i64| i128::from(amount) * i128::from(weight);
    let share_rounded_down =
        |weight: i64| i64::try_from(scaled_share(weight) / weight_sum).unwrap_or(i64::MAX);
    let mut shares: Vec<i64> = weights.iter().copied().map(share_rounded_down).collect();
    let missing_minor_units = amount - shares.iter().sum::<i64>();
    let mut indexes_by_remainder: Vec<usize> = (0..weights.len()).collect();
    indexes_by_remainder.sort_by_key(|index| -(scaled_share(weights[*index]) % weight_sum));
    let count = usize::try_from(missing_minor_units).unwrap_or(0);
    for index in indexes_by_remainder.into_iter().take(count) {
        shares[index] += 1;
    }
    shares
}

/// Amount of the first `units` of `quantity` units that cost `total_amount` together: each unit gets an equal share,
/// and the first ones get the minor units that remain. So the amounts of any partition of the units add up to
/// `total_amount`, in whatever order they are shipped or refunded.
pub fn amount_of_first_units(total_amount: i64, units: u64, quantity: u64) -> i64 {
    if units >= quantity {
        return total_amount;
    }
    let (total_amount, units, quantity) = (
        i128::from(total_amount),
        i128::from(units),
        i128::from(quantity.max(1)),
    );
    let amount = total_amount / quantity * units + (total_amount % quantity).min(units);
    i64::try_from(amount).unwrap_or(i64::MAX)
}

/// Divides a line item among `quantities` of its units, which add up to its quantity. Every discount and tax is
/// divided exactly, and no part costs less than nothing.
pub fn split_line(line: &LineItem, quantities: &[NonZeroU32]) -> Vec<LineItem> {
    let total_units = u64::from(line.quantity.get());
    let mut end_unit = 0;
    quantities
        .iter()
        .map(|quantity| {
            let first_unit = end_unit;
            end_unit += u64::from(quantity.get());
            let share = |amount| {
                amount_of_first_units(amount, end_unit, total_units)
                    - amount_of_first_units(amount, first_unit, total_units)
            };
            // Running sums are divided, not single discounts: otherwise the first units could get the remaining
            // minor unit of each discount, and cost less than nothing.
            let mut discounted_before = 0;
            let mut share_of_next = |amount: i64| {
                let share_before = share(discounted_before);
                discounted_before += amount;
                share(discounted_before) - share_before
            };
            let line_discounts = line.discounts.iter().map(|discount| Discount {
                amount: share_of_next(discount.amount),
                ..discount.clone()
            });
            let line_discounts = line_discounts.collect();
            let order_discount = share_of_next(line.order_discount);
            let line_taxes = line.taxes.iter().map(|tax| Tax {
                amount: share(tax.amount),
                ..tax.clone()
            });
            LineItem {
                quantity: *quantity,
                discounts: line_discounts,
                order_discount,
                taxes: line_taxes.collect(),
                ..line.clone()
            }
        })
        .collect()
}

/// Divides line items among the warehouses in which their units are reserved. `reserved_items` has the units of each
/// line item one after another, in the order of the line items.
pub fn assign_warehouses(lines: &[LineItem], reserved_items: &[StockItem]) -> Vec<LineItem> {
    let mut remaining_items = reserved_items.iter().peekable();
    let mut assigned_lines = Vec::with_capacity(reserved_items.len());
    for line in lines {
        let (mut missing_units, mut items) = (line.quantity.get(), Vec::new());
        while let Some(item) = remaining_items
            .next_if(|item| item.sku == line.sku && item.quantity.get() <= missing_units)
        {
            missing_units -= item.quantity.get();
            items.push(item);
        }
        let quantities: Vec<_> = items.iter().map(|item| item.quantity).collect();
        let line_parts = split_line(line, &quantities).into_iter();
        assigned_lines.extend(line_parts.zip(items).map(|(line_part, item)| LineItem {
            warehouse: Some(item.warehouse.clone()),
            ..line_part
        }));
    }
    assigned_lines
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn discount(amount: i64) -> Discount {
        Discount {
            code: None,
            label: "x".to_owned(),
            amount,
        }
    }

    fn line(unit_price: i64, quantity: u32, discounts: &[i64], order_discount: i64) -> LineItem {
        LineItem {
            sku: "A".parse().unwrap(),
            name: "A".to_owned(),
            quantity: NonZeroU32::new(quantity).unwrap(),
            unit_price,
            warehouse: None,
            discounts: discounts.iter().copied().map(discount).collect(),
            order_discount,
            taxes: vec![Tax {
                label: "VAT".to_owned(),
                rate: None,
                amount: unit_price,
            }],
        }
    }

    #[test]
    fn remaining_minor_units_go_to_the_largest_remainders() {
        assert_eq!(divide(100, &[1, 1, 1]), [34, 33, 33]);
        assert_eq!(divide(61, &[32, 9, 8, 3, 6, 3]), [32, 9, 8, 3, 6, 3]);
        assert_eq!(divide(10, &[1, 3, 3]), [2, 4, 4]);
        assert_eq!(divide(5, &[0, 0]), [0, 0]);
        assert_eq!(divide(7, &[0, 5, 0]), [0, 7, 0]);
    }

    proptest! {
        #[test]
        fn divided_amounts_add_up(weights in prop::collection::vec(0..1_000_000_000_000_i64, 1..20), share in 0..=1_000_i64) {
            let weight_sum: i64 = weights.iter().sum();
            let amount = i64::try_from(i128::from(weight_sum) * i128::from(share) / 1_000).unwrap();
            let parts = divide(amount, &weights);
            prop_assert_eq!(parts.iter().sum::<i64>(), amount);
            for (part, weight) in parts.iter().zip(&weights) {
                prop_assert!(0 <= *part && part <= weight);
                let difference = i128::from(*part) * i128::from(weight_sum) - i128::from(amount) * i128::from(*weight);
                prop_assert!(difference.abs() < i128::from(weight_sum).max(1));
            }
        }

        #[test]
        fn units_add_up_to_the_total(total in 0..1_000_000_000_000_i64, quantity in 1..1_000_000_u64, first_count in 0..1_000_u64) {
            let first_count = quantity * first_count / 1_000;
            let first_amount = amount_of_first_units(total, first_count, quantity);
            prop_assert!(0 <= first_amount && first_amount <= total);
            let next_unit_amount = amount_of_first_units(total, first_count + 1, quantity) - first_amount;
            let unit_amount = total / i64::try_from(quantity).unwrap();
            prop_assert!(first_count == quantity || next_unit_amount == unit_amount || next_unit_amount == unit_amount + 1);
            prop_assert_eq!(amount_of_first_units(total, quantity, quantity), total);
        }

        #[test]
        fn split_lines_add_up_and_never_cost_less_than_nothing(
            unit_price in 0..50_i64,
            quantities in prop::collection::vec(1..5_u32, 1..6),
            shares in prop::collection::vec(0..50_i64, 0..5),
            order_discount in 0..50_i64,
        ) {
            let quantity: u32 = quantities.iter().sum();
            // Discounts that don't exceed the price.
            let mut remaining_amount = unit_price * i64::from(quantity);
            let mut take_amount = |amount: i64| {
                let taken_amount = amount.min(remaining_amount);
                remaining_amount -= taken_amount;
                taken_amount
            };
            let discounts: Vec<i64> = shares.iter().map(|share| take_amount(*share)).collect();
            let order_discount = take_amount(order_discount);
            let line = line(unit_price, quantity, &discounts, order_discount);
            let quantities: Vec<_> = quantities.into_iter().map(|quantity| NonZeroU32::new(quantity).unwrap()).collect();
            let parts = split_line(&line, &quantities);
            for tax_included in [false, true] {
                let line_totals = Totals::of_line(&line, tax_included);
                prop_assert_eq!(Totals::of_lines(&parts, tax_included), line_totals);
            }
            for part in &parts {
                let amounts = part.discounts.iter().map(|discount| discount.amount);
                prop_assert!(amounts.chain([part.order_discount]).all(|amount| amount >= 0));
                prop_assert!(Totals::of_line(part, true).total >= 0);
            }
        }
    }
}
