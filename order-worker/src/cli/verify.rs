//! `order-worker verify`: checks the consistency of the whole database. It reads one snapshot, through
//! [`Audit`], and reports each violation in one line:
//!
//! - Orders: folding an order's events gives its stored state.
//! - Stock: `0 ≤ reserved ≤ on_hand`; the reserved units are those that open orders reserve; both numbers are
//!   the sum of all events.
//! - Payments: no cancelled order keeps an authorization; each shipment is captured at most once; the stored
//!   payments equal those of the sandbox's ledger, unless a step is still to be executed.
//! - Shipped goods are captured, can still be captured, were written off, or wait for an operator.
//! - No step is overdue, and no feed consumer is ahead of the feed.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use jiff::{SignedDuration, Timestamp};
use shared::{
    event::{Event, EventData},
    id::{OrderId, Sku, Warehouse},
    money::MAX_AMOUNT,
    order::{OrderStatus, PaymentStatus, StockItem},
};

use crate::{
    domain::{
        order::Order,
        step::{Step, StepKey, StepRow},
        stock::WarehouseStock,
    },
    providers::sandbox::payment::{PaymentRecord, payment_records},
    store::{Audit, Unreadable},
};

/// Orders per page.
const ROWS_PER_PAGE: u32 = 500;
/// A step is overdue if its message is late by more than this. The sweeper sends due steps several times a
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
    pub condensed: u64,
    /// The violations, one line each.
    pub violations: Vec<String>,
}

type Stock = BTreeMap<(Sku, Warehouse), WarehouseStock>;

/// Verifies a snapshot of the whole database of `database_url`.
///
/// # Errors
/// When the database can't be read. Violations are not errors; they are in the report.
pub async fn verify(database_url: &str) -> anyhow::Result<Report> {
    let now = Timestamp::now();
    // The ledger is not part of the snapshot. It is read before and after the snapshot begins: payments that
    // are equal in both were equal in between. The others are being changed, and are not compared.
    let before = payment_records(database_url).await?;
    let mut audit = Audit::open(database_url).await?;
    let mut payment_records = payment_records(database_url).await?;
    let changing: BTreeSet<String> = payment_records
        .iter()
        .filter(|(key, record)| before.get(*key) != Some(record))
        .map(|(key, _)| key.clone())
        .collect();
    payment_records.retain(|key, _| before.contains_key(key));
    let mut report = Report::default();

    let steps = audit.all_steps().await?;
    let condensed = audit.condensed().await?;
    report.condensed = condensed.len() as u64;
    let mut reserved_by_orders = Stock::new();
    let mut ids = BTreeSet::new();
    let mut number = 0;
    loop {
        let page = audit.orders(number, ROWS_PER_PAGE).await?;
        let Some((last, _)) = page.last() else { break };
        number = *last;
        report.orders += page.len() as u64;
        let mut orders = Vec::with_capacity(page.len());
        for (_, order) in page {
            match order {
                Ok(order) => orders.push(order),
                Err(Unreadable { subject, why }) => {
                    ids.extend(subject.parse::<OrderId>());
                    let what = format!("order {subject}: its stored state can't be decoded: {why}");
                    report.violations.push(what);
                }
            }
        }
        let discarded_captures = check_orders(&mut audit, &orders, &condensed, &mut report).await?;
        for order in &orders {
            ids.insert(order.id);
            add_items(&mut reserved_by_orders, &order.held, 0, 1);
            check_payment(
                order,
                steps.get(&order.id).map_or(&[][..], Vec::as_slice),
                &payment_records,
                &changing,
                &mut report,
            );
            check_shipped_goods(
                order,
                steps.get(&order.id).map_or(&[][..], Vec::as_slice),
                &discarded_captures,
                &mut report,
            );
        }
    }
    for id in audit.orphans().await? {
        report
            .violations
            .push(format!("order {id}: has events but no row"));
    }
    check_payment_owners(&payment_records, &ids, &mut report);
    check_stock(&mut audit, &reserved_by_orders, &condensed, &mut report).await?;
    for name in audit.consumers_ahead_of_feed().await? {
        report.violations.push(format!(
            "feed: the consumer {name} is ahead of the end of the feed; the next events would be skipped"
        ));
    }
    for overdue in audit.overdue_steps(now - OVERDUE_AFTER).await? {
        report.violations.push(match overdue.publish_at {
            Some(at) if ids.contains(&overdue.row.key.order_id) => {
                format!("step {}: overdue since {at}", overdue.row.key)
            }
            _ => format!("step {}: its order does not exist", overdue.row.key),
        });
    }
    Ok(report)
}

/// Compares each order with the fold of its events. Returns the orders whose capture step was discarded by a
/// version that did not record the written-off amount.
async fn check_orders(
    audit: &mut Audit,
    orders: &[Order],
    condensed: &HashSet<OrderId>,
    report: &mut Report,
) -> anyhow::Result<HashSet<OrderId>> {
    let mut discarded_captures = HashSet::new();
    let subjects: Vec<String> = orders.iter().map(|order| order.id.to_string()).collect();
    let mut histories: HashMap<String, Vec<Event>> = HashMap::new();
    let mut unreadable = HashSet::new();
    for event in audit.events(&subjects).await? {
        report.events += 1;
        let event = match event {
            Ok(event) => event,
            Err(Unreadable { subject, why }) => {
                let what = format!("order {subject}: one of its events can't be decoded: {why}");
                report.violations.push(what);
                unreadable.insert(subject);
                continue;
            }
        };
        histories
            .entry(event.subject.clone())
            .or_default()
            .push(event);
    }
    let capture = Step::CapturePayment.to_string();
    for (order, subject) in orders.iter().zip(&subjects) {
        let history = histories.remove(subject).unwrap_or_default();
        let is_discard = |event: &Event| matches!(&event.event_data, EventData::StepDiscarded { step, amount: None } if *step == capture);
        if history.iter().any(is_discard) {
            discarded_captures.insert(order.id);
        }
        if condensed.contains(&order.id) || unreadable.contains(subject) {
            continue;
        }
        check_total(order, report);
        match Order::fold(&history) {
            Ok(Some(folded)) if folded == *order => {}
            Ok(Some(folded)) => report.violations.push(format!(
                "order {subject}: stored as {} in version {}, but its events result in {} in version {}{}",
                order.status.as_str(),
                order.version,
                folded.status.as_str(),
                folded.version,
                if folded.version == order.version {
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
    Ok(discarded_captures)
}

/// Checks that the parts of an order add up to its total. An asynchronous order that was refused at once may
/// have been too large to add up.
fn check_total(order: &Order, report: &mut Report) {
    let parts = order.sum_of_parts();
    let was_refused = order.status == OrderStatus::Cancelled && order.total == MAX_AMOUNT;
    if parts != order.total && !was_refused {
        report.violations.push(format!(
            "order {}: its total is {} minor units, but its items and shipping charge add up to {parts}",
            order.id, order.total
        ));
    }
}

/// Checks that shipped goods are captured, can be captured, were written off, or have a pending step.
fn check_shipped_goods(
    order: &Order,
    steps: &[StepRow],
    discarded_captures: &HashSet<OrderId>,
    report: &mut Report,
) {
    let amount = order.uncollectable_shipped();
    let has_pending_step = steps.iter().any(|row| !row.key.step.is_timer());
    if amount > 0 && !has_pending_step && !discarded_captures.contains(&order.id) {
        report.violations.push(format!(
            "order {}: goods worth {amount} minor units were shipped, but their payment is neither captured, nor authorized, nor written off",
            order.id
        ));
    }
}

/// Compares the payment of an order with the provider's ledger.
fn check_payment(
    order: &Order,
    steps: &[StepRow],
    payment_records: &HashMap<String, PaymentRecord>,
    changing: &BTreeSet<String>,
    report: &mut Report,
) {
    let id = order.id;
    let key = StepKey {
        order_id: id,
        step: Step::AuthorizePayment,
    }
    .to_string();
    let record = payment_records.get(&key).cloned().unwrap_or_default();
    let mut violation = |what: String| report.violations.push(format!("order {id}: {what}"));

    if record.authorizations > 1 {
        violation(format!(
            "the payment provider authorized {} times",
            record.authorizations
        ));
    }
    // At most one capture for each shipment.
    let uncancelled_shipments =
        i64::try_from(order.shipped_shipments().count()).unwrap_or(i64::MAX);
    if record.captures > uncancelled_shipments.max(1) {
        violation(format!(
            "the payment provider captured {} times for {uncancelled_shipments} shipments",
            record.captures
        ));
    }
    let has = |step: &Step| steps.iter().any(|row| row.key.step == *step);
    let is_authorized = order.payment.status == PaymentStatus::Authorized;
    if order.status == OrderStatus::Cancelled && is_authorized && !has(&Step::VoidPayment) {
        violation("cancelled, but its authorization was not voided".to_owned());
    }
    // The provider captured before the authorization was recorded here, and the order was cancelled and
    // refunded.
    let authorized = match order.payment.authorized {
        0 if order.status == OrderStatus::Cancelled => order.total,
        authorized => authorized,
    };
    if order.payment.captured > authorized {
        violation(format!(
            "captured {} minor units, but only {authorized} are authorized",
            order.payment.captured
        ));
    }
    if changing.contains(&key) {
        return;
    }
    // A pending or dead step explains a difference. A free order is not in the ledger.
    if order.total == 0
        || order.payment.provider != "sandbox"
        || steps.iter().any(|row| !row.key.step.is_timer())
    {
        return;
    }
    let expected = match order.payment.status {
        PaymentStatus::Pending => "nothing",
        PaymentStatus::Authorized => "authorized",
        PaymentStatus::Captured | PaymentStatus::PartiallyRefunded | PaymentStatus::Refunded => {
            "captured"
        }
        PaymentStatus::Voided => "voided",
        PaymentStatus::Failed => "declined",
    };
    let actual = match record.status.as_str() {
        "" | "asked" => "nothing",
        status => status,
    };
    if expected != actual {
        violation(format!(
            "its payment is {expected} in the database, but {actual} in the provider's ledger"
        ));
    }
    if (order.payment.captured, order.payment.refunded) != (record.captured, record.refunded) {
        violation(format!(
            "captured {} and refunded {} in the database, but {} and {} in the provider's ledger",
            order.payment.captured, order.payment.refunded, record.captured, record.refunded
        ));
    }
}

/// Finds payments in the ledger that belong to no order.
fn check_payment_owners(
    payment_records: &HashMap<String, PaymentRecord>,
    ids: &BTreeSet<OrderId>,
    report: &mut Report,
) {
    for key in payment_records.keys() {
        let id = key
            .split('/')
            .next()
            .and_then(|id| id.parse::<OrderId>().ok());
        if id.is_none_or(|id| !ids.contains(&id)) {
            report
                .violations
                .push(format!("payment {key}: its order does not exist"));
        }
    }
}

/// Compares the stock levels with the reservations of open orders and with the events.
async fn check_stock(
    audit: &mut Audit,
    reserved_by_orders: &Stock,
    condensed: &HashSet<OrderId>,
    report: &mut Report,
) -> anyhow::Result<()> {
    let mut from_events = Stock::new();
    let mut position = 0;
    loop {
        let page = audit.stock_events(position, ROWS_PER_PAGE).await?;
        let Some((last, _)) = page.last() else { break };
        position = *last;
        for (_, positioned) in &page {
            let positioned = match positioned {
                Ok(positioned) => positioned,
                // Unreadable events of an order are already reported with the order.
                Err(Unreadable { subject, .. }) if subject.parse::<OrderId>().is_ok() => continue,
                Err(Unreadable { subject, why }) => {
                    let what =
                        format!("stock of {subject}: one of its events can't be decoded: {why}");
                    report.violations.push(what);
                    continue;
                }
            };
            let Event {
                subject,
                event_data,
                ..
            } = &positioned.event;
            match event_data {
                // The event that reserved these units was deleted after its retention period.
                EventData::ShipmentShipped { items, .. }
                    if subject.parse().is_ok_and(|id| condensed.contains(&id)) =>
                {
                    add_items(&mut from_events, items, -1, 0);
                }
                event_data => replay(&mut from_events, event_data),
            }
        }
    }
    let stored: Stock = audit
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
    let all_places: BTreeSet<_> = stored
        .keys()
        .chain(from_events.keys())
        .chain(reserved_by_orders.keys())
        .collect();
    for place in all_places {
        let of = |stock: &Stock| stock.get(place).copied().unwrap_or_default();
        let (stock_level, from_events, reserved_by_orders) =
            (of(&stored), of(&from_events), of(reserved_by_orders));
        let mut violation = |what: String| {
            report
                .violations
                .push(format!("stock of {} in {}: {what}", place.0, place.1));
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
        if stock_level != from_events {
            violation(format!(
                "{} on hand, {} reserved, but the events add up to {} and {}",
                stock_level.on_hand,
                stock_level.reserved,
                from_events.on_hand,
                from_events.reserved
            ));
        }
    }
    Ok(())
}

fn replay(stock: &mut Stock, event_data: &EventData) {
    match event_data {
        EventData::StockReserved { items } => add_items(stock, items, 0, 1),
        EventData::StockReleased { items, .. } => add_items(stock, items, 0, -1),
        EventData::ShipmentShipped { items, .. } => add_items(stock, items, -1, -1),
        EventData::ShipmentReturned { items, .. } => add_items(stock, items, 1, 0),
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

fn add_items(stock: &mut Stock, items: &[StockItem], on_hand: i64, reserved: i64) {
    for item in items {
        let quantity = i64::from(item.quantity.get());
        let stock_level = stock
            .entry((item.sku.clone(), item.warehouse.clone()))
            .or_default();
        stock_level.on_hand += on_hand * quantity;
        stock_level.reserved += reserved * quantity;
    }
}
