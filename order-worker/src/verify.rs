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
const PAGE: u32 = 500;
/// A step is overdue if its message is late by more than this. The sweeper sends due steps several times a
/// second.
const GRACE: SignedDuration = SignedDuration::from_secs(60);

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
    let moving: BTreeSet<String> = payment_records
        .iter()
        .filter(|(key, booked)| before.get(*key) != Some(booked))
        .map(|(key, _)| key.clone())
        .collect();
    payment_records.retain(|key, _| before.contains_key(key));
    let mut report = Report::default();

    let steps = audit.all_steps().await?;
    let condensed = audit.condensed().await?;
    report.condensed = condensed.len() as u64;
    let mut held = Stock::new();
    let mut ids = BTreeSet::new();
    let mut number = 0;
    loop {
        let page = audit.orders(number, PAGE).await?;
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
        let discards = folds(&mut audit, &orders, &condensed, &mut report).await?;
        for order in &orders {
            ids.insert(order.id);
            add(&mut held, &order.held, 0, 1);
            payment(
                order,
                steps.get(&order.id).map_or(&[][..], Vec::as_slice),
                &payment_records,
                &moving,
                &mut report,
            );
            unpaid(
                order,
                steps.get(&order.id).map_or(&[][..], Vec::as_slice),
                &discards,
                &mut report,
            );
        }
    }
    for id in audit.orphans().await? {
        report
            .violations
            .push(format!("order {id}: has events but no row"));
    }
    strangers(&payment_records, &ids, &mut report);
    stock(&mut audit, &held, &condensed, &mut report).await?;
    for name in audit.ahead_of_the_feed().await? {
        report.violations.push(format!(
            "feed: the consumer {name} is ahead of the end of the feed; the next events would be skipped"
        ));
    }
    for overdue in audit.overdue_steps(now - GRACE).await? {
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
async fn folds(
    audit: &mut Audit,
    orders: &[Order],
    condensed: &HashSet<OrderId>,
    report: &mut Report,
) -> anyhow::Result<HashSet<OrderId>> {
    let mut discards = HashSet::new();
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
        let is_discard = |event: &Event| matches!(&event.fact, EventData::StepDiscarded { step, amount: None } if *step == capture);
        if history.iter().any(is_discard) {
            discards.insert(order.id);
        }
        if condensed.contains(&order.id) || unreadable.contains(subject) {
            continue;
        }
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
            Err(misfit) => report.violations.push(format!("order {subject}: {misfit}")),
        }
    }
    Ok(discards)
}

/// Checks that shipped goods are captured, can be captured, were written off, or have a pending step.
fn unpaid(order: &Order, steps: &[StepRow], discards: &HashSet<OrderId>, report: &mut Report) {
    let amount = order.unpaid();
    let is_seen_to = steps.iter().any(|row| !row.key.step.is_timer());
    if amount > 0 && !is_seen_to && !discards.contains(&order.id) {
        report.violations.push(format!(
            "order {}: goods worth {amount} minor units were shipped, but their payment is neither captured, nor authorized, nor written off",
            order.id
        ));
    }
}

/// Compares the payment of an order with the provider's ledger.
fn payment(
    order: &Order,
    steps: &[StepRow],
    payment_records: &HashMap<String, PaymentRecord>,
    moving: &BTreeSet<String>,
    report: &mut Report,
) {
    let id = order.id;
    let key = StepKey {
        order_id: id,
        step: Step::AuthorizePayment,
    }
    .to_string();
    let booked = payment_records.get(&key).cloned().unwrap_or_default();
    let mut wrong = |what: String| report.violations.push(format!("order {id}: {what}"));

    if booked.authorizations > 1 {
        wrong(format!(
            "the payment provider authorized {} times",
            booked.authorizations
        ));
    }
    // At most one capture for each shipment.
    let active_shipments = i64::try_from(order.left().count()).unwrap_or(i64::MAX);
    if booked.captures > active_shipments.max(1) {
        wrong(format!(
            "the payment provider captured {} times for {active_shipments} shipments",
            booked.captures
        ));
    }
    let has = |step: &Step| steps.iter().any(|row| row.key.step == *step);
    let is_held = order.payment.status == PaymentStatus::Authorized;
    if order.status == OrderStatus::Cancelled && is_held && !has(&Step::VoidPayment) {
        wrong("cancelled, but its authorization was not voided".to_owned());
    }
    // The provider captured before the authorization was recorded here, and the order was cancelled and
    // refunded.
    let authorized = match order.payment.authorized {
        0 if order.status == OrderStatus::Cancelled => order.total,
        authorized => authorized,
    };
    if order.payment.captured > authorized {
        wrong(format!(
            "captured {} minor units, but only {authorized} are authorized",
            order.payment.captured
        ));
    }
    if moving.contains(&key) {
        return;
    }
    // A pending or dead step explains a difference.
    if order.payment.provider != "sandbox" || steps.iter().any(|row| !row.key.step.is_timer()) {
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
    let actual = match booked.status.as_str() {
        "" | "asked" => "nothing",
        status => status,
    };
    if expected != actual {
        wrong(format!(
            "its payment is {expected} in the database, but {actual} in the provider's ledger"
        ));
    }
    if (order.payment.captured, order.payment.refunded) != (booked.captured, booked.refunded) {
        wrong(format!(
            "captured {} and refunded {} in the database, but {} and {} in the provider's ledger",
            order.payment.captured, order.payment.refunded, booked.captured, booked.refunded
        ));
    }
}

/// Finds payments in the ledger that belong to no order.
fn strangers(
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
async fn stock(
    audit: &mut Audit,
    held: &Stock,
    condensed: &HashSet<OrderId>,
    report: &mut Report,
) -> anyhow::Result<()> {
    let mut told = Stock::new();
    let mut position = 0;
    loop {
        let page = audit.stock_events(position, PAGE).await?;
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
            let Event { subject, fact, .. } = &positioned.event;
            match fact {
                // The event that reserved these units was deleted after its retention period.
                EventData::ShipmentShipped { items, .. }
                    if subject.parse().is_ok_and(|id| condensed.contains(&id)) =>
                {
                    add(&mut told, items, -1, 0);
                }
                fact => replay(&mut told, fact),
            }
        }
    }
    let stored: Stock = audit
        .shelves()
        .await?
        .into_iter()
        .flat_map(
            |(sku, shelves): (Sku, BTreeMap<Warehouse, WarehouseStock>)| {
                shelves
                    .into_iter()
                    .map(move |(warehouse, shelf)| ((sku.clone(), warehouse), shelf))
            },
        )
        .collect();
    let everywhere: BTreeSet<_> = stored
        .keys()
        .chain(told.keys())
        .chain(held.keys())
        .collect();
    for place in everywhere {
        let of = |stock: &Stock| stock.get(place).copied().unwrap_or_default();
        let (shelf, told, held) = (of(&stored), of(&told), of(held));
        let mut wrong = |what: String| {
            report
                .violations
                .push(format!("stock of {} in {}: {what}", place.0, place.1));
        };
        if !shelf.is_sound() {
            wrong(format!(
                "{} on hand, {} reserved",
                shelf.on_hand, shelf.reserved
            ));
        }
        if shelf.reserved != held.reserved {
            wrong(format!(
                "{} reserved, but open orders reserve {}",
                shelf.reserved, held.reserved
            ));
        }
        if shelf != told {
            wrong(format!(
                "{} on hand, {} reserved, but the events add up to {} and {}",
                shelf.on_hand, shelf.reserved, told.on_hand, told.reserved
            ));
        }
    }
    Ok(())
}

fn replay(stock: &mut Stock, fact: &EventData) {
    match fact {
        EventData::StockReserved { items } => add(stock, items, 0, 1),
        EventData::StockReleased { items, .. } => add(stock, items, 0, -1),
        EventData::ShipmentShipped { items, .. } => add(stock, items, -1, -1),
        EventData::ShipmentReturned { items, .. } => add(stock, items, 1, 0),
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

fn add(stock: &mut Stock, items: &[StockItem], on_hand: i64, reserved: i64) {
    for item in items {
        let quantity = i64::from(item.quantity.get());
        let shelf = stock
            .entry((item.sku.clone(), item.warehouse.clone()))
            .or_default();
        shelf.on_hand += on_hand * quantity;
        shelf.reserved += reserved * quantity;
    }
}
