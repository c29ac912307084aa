//! Checks of `verify` about returns.

use std::collections::BTreeMap;

use shared::{
    id::{OrderId, Sku},
    order::ShipmentStatus,
};

use super::Report;
use crate::{domain::order::Order, store::Audit};

/// Checks that the rows by which returns are found agree with the orders of a page, and that no more units came
/// back than were shipped.
pub(super) async fn check_returns(
    audit: &mut Audit,
    orders: &[Order],
    report: &mut Report,
) -> anyhow::Result<()> {
    let ids: Vec<OrderId> = orders.iter().map(|order| order.id).collect();
    let mut stored_returns: BTreeMap<OrderId, Vec<(String, String)>> = BTreeMap::new();
    for (order_id, row) in audit.returns(&ids).await? {
        stored_returns.entry(order_id).or_default().push(row);
    }
    for order in orders {
        let mut rows = stored_returns.remove(&order.id).unwrap_or_default();
        rows.sort();
        let mut expected_rows: Vec<(String, String)> = order
            .returns
            .iter()
            .map(|entry| {
                let status = entry.status.as_str();
                let row = format!(
                    "{} {status} {}",
                    order.storefront,
                    entry.created_at.as_millisecond()
                );
                (entry.id.to_string(), row)
            })
            .collect();
        expected_rows.sort();
        if rows != expected_rows {
            report.violations.push(format!(
                "order {}: its returns are {expected_rows:?}, but those in the table of returns are {rows:?}",
                order.id
            ));
        }
        check_units(order, report);
    }
    Ok(())
}

/// Checks that each shipment has as many units of each product as were received of it, and that returned
/// shipments and received units do not exceed the shipped ones.
fn check_units(order: &Order, report: &mut Report) {
    let mut shipped_and_returned: BTreeMap<&Sku, (u64, u64)> = BTreeMap::new();
    for shipment in order.shipped_shipments() {
        let mut received_units: BTreeMap<&Sku, u64> = BTreeMap::new();
        for item in order.returns.iter().flat_map(|entry| &entry.received) {
            if item.shipment_id == shipment.id {
                *received_units.entry(&item.sku).or_default() += u64::from(item.quantity.get());
            }
        }
        let is_returned = shipment.status == ShipmentStatus::Returned;
        for item in &shipment.items {
            let quantity = u64::from(item.quantity.get());
            let (shipped_units, returned_units) =
                shipped_and_returned.entry(&item.sku).or_default();
            *shipped_units += quantity;
            *returned_units += if is_returned { quantity } else { 0 };
        }
        for (sku, received_units) in received_units {
            let items_of_sku = shipment.items.iter().filter(|item| item.sku == *sku);
            let shipped_units: u64 = items_of_sku
                .map(|item| u64::from(item.quantity.get()))
                .sum();
            if received_units > shipped_units {
                report.violations.push(format!(
                    "order {}: {received_units} units of {sku} were received of shipment {}, which had {shipped_units}",
                    order.id, shipment.id
                ));
            }
            if !is_returned {
                shipped_and_returned.entry(sku).or_default().1 += received_units;
            }
        }
    }
    for item in order.returns.iter().flat_map(|entry| &entry.received) {
        let mut shipments = order.shipped_shipments();
        if !shipments.any(|shipment| shipment.id == item.shipment_id) {
            report.violations.push(format!(
                "order {}: units of {} were received of shipment {}, which was not shipped",
                order.id, item.sku, item.shipment_id
            ));
        }
    }
    for (sku, (shipped_units, returned_units)) in shipped_and_returned {
        if returned_units > shipped_units {
            report.violations.push(format!(
                "order {}: {returned_units} units of {sku} came back, but only {shipped_units} were shipped",
                order.id
            ));
        }
    }
}
