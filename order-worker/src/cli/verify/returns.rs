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
    let order_ids: Vec<OrderId> = orders.iter().map(|order| order.id).collect();
    let mut stored_returns: BTreeMap<OrderId, Vec<(String, String)>> = BTreeMap::new();
    for (order_id, return_row) in audit.returns(&order_ids).await? {
        stored_returns.entry(order_id).or_default().push(return_row);
    }
    for order in orders {
        let mut stored_rows = stored_returns.remove(&order.id).unwrap_or_default();
        stored_rows.sort();
        let mut expected_rows: Vec<(String, String)> = order
            .returns
            .iter()
            .map(|order_return| {
                let status = order_return.status.as_str();
                let return_row = format!(
                    "{} {status} {}",
                    order.storefront,
                    order_return.created_at.as_millisecond()
                );
                (order_return.id.to_string(), return_row)
            })
            .collect();
        expected_rows.sort();
        if stored_rows != expected_rows {
            report.violations.push(format!(
                "order {}: its returns are {expected_rows:?}, but those in the table of returns are {stored_rows:?}",
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
        for received_item in order
            .returns
            .iter()
            .flat_map(|order_return| &order_return.received)
        {
            if received_item.shipment_id == shipment.id {
                *received_units.entry(&received_item.sku).or_default() +=
                    u64::from(received_item.quantity.get());
            }
        }
        let is_returned = shipment.status == ShipmentStatus::Returned;
        for shipped_item in &shipment.items {
            let quantity = u64::from(shipped_item.quantity.get());
            let (shipped_units, returned_units) =
                shipped_and_returned.entry(&shipped_item.sku).or_default();
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
    for received_item in order
        .returns
        .iter()
        .flat_map(|order_return| &order_return.received)
    {
        let mut shipments = order.shipped_shipments();
        if !shipments.any(|shipment| shipment.id == received_item.shipment_id) {
            report.violations.push(format!(
                "order {}: units of {} were received of shipment {}, which was not shipped",
                order.id, received_item.sku, received_item.shipment_id
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
