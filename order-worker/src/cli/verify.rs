//! `order-worker verify`: checks the consistency of the whole database. It reads one snapshot, through
//! [`Audit`], and reports each violation in one line:
//!
//! - Orders: folding an order's events gives its stored state.
//! - Stock: `0 ≤ reserved ≤ on_hand`; the reserved units are those that open orders reserve; both numbers are
//!   the sum of all events.
//! - Payments: no cancelled order and no edit keeps an authorization that is not the order's; each shipment is
//!   captured at most once; the stored payments equal those of the sandbox's ledger, unless a step is still to be
//!   executed.
//! - Transactions add up to the amounts of the payment, and an operator is told about each refund of a manual
//!   payment.
//! - Shipped goods are captured, can still be captured, were written off, or wait for an operator.
//! - Customers have the version of their last event, are found by name and e-mail address, and have no personal
//!   data after an erasure.
//! - API keys have the version of their last event, and the digest and revocation by which gateways know them.
//! - Returns are found by id and status, and no more units came back than were shipped.
//! - Messages to customers belong to existing orders and events.
//! - No step is overdue, and no feed consumer is ahead of the feed.

mod api_keys;
mod customers;
mod ledger;
mod messages;
mod returns;
mod tags;
mod transactions;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use jiff::{SignedDuration, Timestamp};
use shared::{
    event::{Event, EventData},
    id::{OrderId, Sku, Warehouse},
    money::MAX_AMOUNT,
    order::{OrderStatus, StockItem, restocked_items},
};

use self::ledger::SandboxLedger;
use crate::{
    domain::{
        order::Order,
        step::{Step, StepRow},
        stock::WarehouseStock,
    },
    store::{Audit, Unreadable},
};

/// Orders per page.
const ROWS_PER_PAGE: u32 = 500;
/// A step is overdue if its message is late by more than this. The poller sends due steps several times a
/// second.
const OVERDUE_AFTER: SignedDuration = SignedDuration::from_secs(60);

/// Result of a verification.
#[derive(Debug, Default)]
pub struct Report {
    /// Number of orders.
    pub orders: u64,
    /// Number of events of these orders.
    pub events: u64,
    /// Number of orders whose events were deleted after their retention period. Their states can't be
    /// checked.
    pub condensed_orders: u64,
    /// The violations, one line each.
    pub violations: Vec<String>,
}

type StockByPlace = BTreeMap<(Sku, Warehouse), WarehouseStock>;

/// Verifies a snapshot of the whole database of `database_url`.
///
/// # Errors
/// When the database can't be read. Violations are not errors; they are in the report.
pub async fn verify(database_url: &str) -> anyhow::Result<Report> {
    let now = Timestamp::now();
    // The ledger is not part of the snapshot: it is read before and after the snapshot begins.
    let mut ledger = SandboxLedger::read(database_url).await?;
    let mut audit = Audit::open(database_url).await?;
    ledger.read_again(database_url).await?;
    let mut report = Report::default();

    let steps_by_order = audit.all_steps().await?;
    let condensed_orders = audit.condensed_orders().await?;
    report.condensed_orders = condensed_orders.len() as u64;
    let mut reserved_by_orders = StockByPlace::new();
    let mut order_ids = BTreeSet::new();
    let mut after_order_number = 0;
    loop {
        let order_page = audit.orders(after_order_number, ROWS_PER_PAGE).await?;
        let Some((last_number, _)) = order_page.last() else {
            break;
        };
        after_order_number = *last_number;
        report.orders += order_page.len() as u64;
        let mut orders = Vec::with_capacity(order_page.len());
        for (_, order) in order_page {
            match order {
                Ok(order) => orders.push(order),
                Err(Unreadable { subject, reason }) => {
                    order_ids.extend(subject.parse::<OrderId>());
                    let finding =
                        format!("order {subject}: its stored state can't be decoded: {reason}");
                    report.violations.push(finding);
                }
            }
        }
        returns::check_returns(&mut audit, &orders, &mut report).await?;
        let orders_with_discarded_capture =
            check_orders(&mut audit, &orders, &condensed_orders, &mut report).await?;
        tags::check_tags(&mut audit, &orders, &mut report).await?;
        for order in &orders {
            order_ids.insert(order.id);
            add_items(&mut reserved_by_orders, &order.reserved_items, 0, 1);
            if let Some(edit) = &order.pending_edit {
                add_items(&mut reserved_by_orders, &edit.reserved, 0, 1);
            }
            let steps = steps_by_order.get(&order.id).map_or(&[][..], Vec::as_slice);
            ledger.check_payment(order, steps, &mut report);
            transactions::check_transactions(order, steps, &mut report);
            check_shipped_goods(order, steps, &orders_with_discarded_capture, &mut report);
        }
    }
    customers::check_customers(&mut audit, &mut report).await?;
    api_keys::check_api_keys(&mut audit, &mut report).await?;
    for missing_order_id in audit.ids_of_missing_orders().await? {
        report
            .violations
            .push(format!("order {missing_order_id}: has events but no row"));
    }
    for return_id in audit.orphaned_returns().await? {
        report
            .violations
            .push(format!("return {return_id}: its order does not exist"));
    }
    messages::check_messages(&mut audit, &mut report).await?;
    ledger.check_owners(&order_ids, &mut report);
    check_stock(
        &mut audit,
        &reserved_by_orders,
        &condensed_orders,
        &mut report,
    )
    .await?;
    for consumer_name in audit.consumers_ahead_of_feed().await? {
        report.violations.push(format!(
            "feed: the consumer {consumer_name} is ahead of the end of the feed; the next events would be skipped"
        ));
    }
    for overdue_step in audit.overdue_or_orphaned_steps(now - OVERDUE_AFTER).await? {
        report.violations.push(match overdue_step.publish_at {
            Some(published_at) if order_ids.contains(&overdue_step.row.key.order_id) => {
                format!(
                    "step {}: overdue since {published_at}",
                    overdue_step.row.key
                )
            }
            _ => format!("step {}: its order does not exist", overdue_step.row.key),
        });
    }
    Ok(report)
}

/// Compares each order with the fold of its events. Returns the orders whose capture step was discarded by a
/// version that did not record the written-off amount.
async fn check_orders(
    audit: &mut Audit,
    orders: &[Order],
    condensed_orders: &HashSet<OrderId>,
    report: &mut Report,
) -> anyhow::Result<HashSet<OrderId>> {
    let mut orders_with_discarded_capture = HashSet::new();
    let subjects: Vec<String> = orders.iter().map(|order| order.id.to_string()).collect();
    let mut event_histories: HashMap<String, Vec<Event>> = HashMap::new();
    let mut unreadable_subjects = HashSet::new();
    for event in audit.events(&subjects).await? {
        report.events += 1;
        let event = match event {
            Ok(event) => event,
            Err(Unreadable { subject, reason }) => {
                let finding =
                    format!("order {subject}: one of its events can't be decoded: {reason}");
                report.violations.push(finding);
                unreadable_subjects.insert(subject);
                continue;
            }
        };
        event_histories
            .entry(event.subject.clone())
            .or_default()
            .push(event);
    }
    let capture_step = Step::CapturePayment.to_string();
    for (order, subject) in orders.iter().zip(&subjects) {
        let event_history = event_histories.remove(subject).unwrap_or_default();
        let is_discard = |event: &Event| matches!(&event.event_data, EventData::StepDiscarded { step, amount: None } if *step == capture_step);
        if event_history.iter().any(is_discard) {
            orders_with_discarded_capture.insert(order.id);
        }
        if condensed_orders.contains(&order.id) || unreadable_subjects.contains(subject) {
            continue;
        }
        check_total(order, report);
        match Order::fold_with_transactions_of(order, &event_history) {
            Ok(Some(folded_order)) if folded_order == *order => {}
            Ok(Some(folded_order)) => report.violations.push(format!(
                "order {subject}: stored as {} in version {}, but its events result in {} in version {}{}",
                order.status.as_str(),
                order.version,
                folded_order.status.as_str(),
                folded_order.version,
                if folded_order.version == order.version {
                    "; other fields differ"
                } else {
                    ""
                },
            )),
            Ok(None) => report
                .violations
                .push(format!("order {subject}: has no events")),
            Err(replay_error) => report.violations.push(format!("order {subject}: {replay_error}")),
        }
    }
    Ok(orders_with_discarded_capture)
}

/// Checks that the parts of an order add up to its total. An asynchronous order that was refused at once may
/// have been too large to add up.
fn check_total(order: &Order, report: &mut Report) {
    let edit_total = order.pending_edit.as_ref().map(|edit| edit.total);
    if order.sum_of_pending_edit() != edit_total {
        report.violations.push(format!(
            "order {}: the parts of its pending edit do not add up to its total",
            order.id
        ));
    }
    let parts_total = order.sum_of_parts();
    let may_have_been_too_large =
        order.status == OrderStatus::Cancelled && order.total == MAX_AMOUNT;
    if parts_total != order.total && !may_have_been_too_large {
        report.violations.push(format!(
            "order {}: its total is {} minor units, but its items and shipping charge add up to {parts_total}",
            order.id, order.total
        ));
    }
}

/// Checks that shipped goods are captured, can be captured, were written off, or have a pending step.
fn check_shipped_goods(
    order: &Order,
    steps: &[StepRow],
    orders_with_discarded_capture: &HashSet<OrderId>,
    report: &mut Report,
) {
    let uncollectable_amount = order.uncollectable_shipped();
    let has_pending_step = steps
        .iter()
        .any(|step_row| !step_row.key.step.is_timer_or_check());
    if uncollectable_amount > 0
        && !has_pending_step
        && !orders_with_discarded_capture.contains(&order.id)
    {
        report.violations.push(format!(
            "order {}: goods worth {uncollectable_amount} minor units were shipped, but their payment is neither captured, nor authorized, nor written off",
            order.id
        ));
    }
}

/// Compares the stock levels with the reservations of open orders and with the events.
async fn check_stock(
    audit: &mut Audit,
    reserved_by_orders: &StockByPlace,
    condensed_orders: &HashSet<OrderId>,
    report: &mut Report,
) -> anyhow::Result<()> {
    let mut stock_from_events = StockByPlace::new();
    let mut after_position = 0;
    loop {
        let event_page = audit.stock_events(after_position, ROWS_PER_PAGE).await?;
        let Some((last_position, _)) = event_page.last() else {
            break;
        };
        after_position = *last_position;
        for (_, positioned_event) in &event_page {
            let positioned_event = match positioned_event {
                Ok(positioned_event) => positioned_event,
                // Unreadable events of an order are already reported with the order.
                Err(Unreadable { subject, .. }) if subject.parse::<OrderId>().is_ok() => continue,
                Err(Unreadable {
                    subject,
                    reason: error_message,
                }) => {
                    let violation = format!(
                        "stock of {subject}: one of its events can't be decoded: {error_message}"
                    );
                    report.violations.push(violation);
                    continue;
                }
            };
            let Event {
                subject,
                event_data,
                ..
            } = &positioned_event.event;
            match event_data {
                // The event that reserved these units was deleted after its retention period.
                EventData::ShipmentShipped { items, .. }
                    if subject
                        .parse()
                        .is_ok_and(|subject_id| condensed_orders.contains(&subject_id)) =>
                {
                    add_items(&mut stock_from_events, items, -1, 0);
                }
                event_data => replay(&mut stock_from_events, event_data),
            }
        }
    }
    let stored_stock: StockByPlace = audit
        .stock_levels()
        .await?
        .into_iter()
        .flat_map(
            |(sku, stock_levels): (Sku, BTreeMap<Warehouse, WarehouseStock>)| {
                stock_levels
                    .into_iter()
                    .map(move |(warehouse, stock_level)| ((sku.clone(), warehouse), stock_level))
            },
        )
        .collect();
    let all_places: BTreeSet<_> = stored_stock
        .keys()
        .chain(stock_from_events.keys())
        .chain(reserved_by_orders.keys())
        .collect();
    for sku_and_warehouse in all_places {
        let stock_at =
            |stock: &StockByPlace| stock.get(sku_and_warehouse).copied().unwrap_or_default();
        let (stock_level, stock_from_events, reserved_by_orders) = (
            stock_at(&stored_stock),
            stock_at(&stock_from_events),
            stock_at(reserved_by_orders),
        );
        let mut violation = |violation: String| {
            report.violations.push(format!(
                "stock of {} in {}: {violation}",
                sku_and_warehouse.0, sku_and_warehouse.1
            ));
        };
        if !stock_level.is_valid() {
            violation(format!(
                "{} on hand, {} reserved",
                stock_level.on_hand, stock_level.reserved
            ));
        }
        if stock_level.reserved != reserved_by_orders.reserved {
            violation(format!(
                "{} reserved, but open orders reserve {}",
                stock_level.reserved, reserved_by_orders.reserved
            ));
        }
        if stock_level != stock_from_events {
            violation(format!(
                "{} on hand, {} reserved, but the events add up to {} and {}",
                stock_level.on_hand,
                stock_level.reserved,
                stock_from_events.on_hand,
                stock_from_events.reserved
            ));
        }
    }
    Ok(())
}

fn replay(stock: &mut StockByPlace, event_data: &EventData) {
    match event_data {
        EventData::StockReserved { items, .. } => add_items(stock, items, 0, 1),
        EventData::StockReleased { items, .. } => add_items(stock, items, 0, -1),
        EventData::ShipmentShipped { items, .. } => add_items(stock, items, -1, -1),
        EventData::ShipmentReturned { items, .. } => add_items(stock, items, 1, 0),
        EventData::ReturnReceived { items, .. } => {
            add_items(stock, &restocked_items(items), 1, 0);
        }
        EventData::StockAdjusted {
            sku,
            warehouse,
            on_hand,
            ..
        } => {
            stock
                .entry((sku.clone(), warehouse.clone()))
                .or_default()
                .on_hand = *on_hand;
        }
        _ => {}
    }
}

fn add_items(stock: &mut StockByPlace, items: &[StockItem], on_hand_sign: i64, reserved_sign: i64) {
    for stock_item in items {
        let quantity = i64::from(stock_item.quantity.get());
        let stock_level = stock
            .entry((stock_item.sku.clone(), stock_item.warehouse.clone()))
            .or_default();
        stock_level.on_hand += on_hand_sign * quantity;
        stock_level.reserved += reserved_sign * quantity;
    }
}
