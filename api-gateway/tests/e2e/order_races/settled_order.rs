//! An order after its race, with its history: both have to agree with the replies that its requests got.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::harness::Reply;

use super::race_shop::PRICE;

pub(super) struct SettledOrder {
    order: Value,
    events: Vec<Value>,
}

impl SettledOrder {
    pub(super) fn new(order: Value, history: Value) -> Self {
        assert_eq!(history["next_cursor"], Value::Null, "{history}");
        let events = history["data"].as_array().unwrap().clone();
        Self { order, events }
    }

    pub(super) fn status(&self) -> &str {
        self.order["status"].as_str().unwrap()
    }

    /// A field of the order's payment, in minor units.
    pub(super) fn payment_amount(&self, amount_name: &str) -> i64 {
        self.order["payment"][amount_name].as_i64().unwrap()
    }

    pub(super) fn has_open_authorization(&self) -> bool {
        self.order["payment"]["status"] == "authorized" && self.payment_amount("captured") == 0
    }

    pub(super) fn events_of_type(&self, event_type: &'static str) -> impl Iterator<Item = &Value> {
        self.events
            .iter()
            .filter(move |event| event["type"] == event_type)
    }

    /// The event of this type that the request caused, itself or by its steps.
    pub(super) fn find_caused_event(
        &self,
        reply: &Reply,
        event_type: &'static str,
    ) -> Option<&Value> {
        let request_id = reply.headers["x-request-id"].to_str().unwrap();
        self.events_of_type(event_type)
            .find(|event| event["request_id"] == request_id)
    }

    /// Checks that the request was acknowledged with this status, and returns the event of this type that it caused.
    #[track_caller]
    pub(super) fn expect_caused(
        &self,
        reply: &Reply,
        status: u16,
        event_type: &'static str,
    ) -> &Value {
        assert_eq!(reply.status, status, "{} of {self:?}", reply.body);
        let event = self.find_caused_event(reply, event_type);
        event.unwrap_or_else(|| {
            panic!(
                "no {event_type} for the acknowledged {:?} in {self:?}",
                reply.body
            )
        })
    }

    /// Checks that the request was refused with this status, that the problem's detail contains
    /// `expected_detail`, that an event of type `cause` explains it, and that the request changed nothing. A 409
    /// shows the version of the order on which it was decided, and the event is part of the history up to that
    /// version.
    #[track_caller]
    pub(super) fn expect_refused(
        &self,
        reply: &Reply,
        status: u16,
        expected_detail: &str,
        cause: &'static str,
    ) {
        assert_eq!(reply.status, status, "{} of {self:?}", reply.body);
        let detail = reply.body["detail"].as_str().unwrap();
        assert!(
            detail.contains(expected_detail),
            "the detail does not contain {expected_detail:?}: {detail}"
        );
        let version = match status {
            409 => reply.body["order"]["version"].as_u64().unwrap(),
            _ => u64::MAX,
        };
        assert!(
            self.events_of_type(cause)
                .any(|event| sequence_of(event) <= version),
            "no {cause} up to version {version} explains the refusal {detail:?}: {self:?}"
        );
        let request_id = reply.headers["x-request-id"].to_str().unwrap();
        let is_caused = |event: &&Value| event["request_id"] == request_id;
        assert_eq!(
            self.events.iter().find(is_caused),
            None,
            "event of a refused request: {detail:?}"
        );
    }

    /// The ordered units of each product.
    pub(super) fn quantities(&self) -> BTreeMap<&str, i64> {
        units_by_product(&self.order["items"])
    }

    pub(super) fn shipped_units(&self, sku: &str) -> i64 {
        self.units_in_events("shipment.shipped", sku)
    }

    pub(super) fn received_units(&self, sku: &str) -> i64 {
        self.units_in_events("return.received", sku)
    }

    /// Units that are reserved for the order: those that are not shipped, unless it is cancelled.
    pub(super) fn reserved_units(&self, sku: &str) -> i64 {
        match self.status() {
            "cancelled" => 0,
            _ => self.quantities().get(sku).unwrap_or(&0) - self.shipped_units(sku),
        }
    }

    fn units_in_events(&self, event_type: &'static str, sku: &str) -> i64 {
        let events = self.events_of_type(event_type);
        events
            .map(|event| {
                *units_by_product(&event["data"]["items"])
                    .get(sku)
                    .unwrap_or(&0)
            })
            .sum()
    }

    fn amount_in_events(&self, event_type: &'static str) -> i64 {
        let events = self.events_of_type(event_type);
        events
            .map(|event| event["data"]["amount"].as_i64().unwrap())
            .sum()
    }

    /// Checks that `refunded <= captured <= authorized`, that each is the sum of its events, and that exactly the
    /// shipped units are captured.
    pub(super) fn assert_money_adds_up(&self) {
        let [authorized_amount, captured_amount, refunded_amount] =
            ["authorized", "captured", "refunded"]
                .map(|amount_name| self.payment_amount(amount_name));
        assert!(
            refunded_amount <= captured_amount && captured_amount <= authorized_amount,
            "{self:?}"
        );
        assert_eq!(
            (captured_amount, refunded_amount, refunded_amount),
            (
                self.amount_in_events("payment.captured"),
                self.amount_in_events("payment.refunded"),
                self.amount_in_events("payment.refund_requested"),
            ),
            "captured, refunded, requested refunds of {self:?}"
        );
        let unit_count: i64 = self.quantities().values().sum();
        let lines = self.order["items"].as_array().unwrap().iter();
        let line_sum: i64 = lines.map(|line| line["total"].as_i64().unwrap()).sum();
        let order_total = self.order["total"].as_i64().unwrap();
        assert_eq!(
            (order_total, order_total),
            (unit_count * PRICE, line_sum),
            "totals of {self:?}"
        );
        let shipped_units = self.shipped_units("A") + self.shipped_units("B");
        assert_eq!(
            captured_amount,
            shipped_units * PRICE,
            "captured of {self:?}"
        );
        match self.status() {
            "cancelled" => assert_eq!(
                (self.order["payment"]["status"].as_str(), shipped_units),
                (Some("voided"), 0),
                "{self:?}"
            ),
            "shipped" => assert_eq!(shipped_units, unit_count, "{self:?}"),
            "processing" => assert!(
                shipped_units < unit_count && authorized_amount >= order_total,
                "{self:?}"
            ),
            _ => panic!("unexpected status of {self:?}"),
        }
    }
}

/// The order with the types of its events and the requests that caused them.
impl std::fmt::Debug for SettledOrder {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(formatter, "{}", self.order)?;
        for event in &self.events {
            let (event_type, request_id) = (&event["type"], &event["request_id"]);
            let (sequence_number, event_data) = (sequence_of(event), &event["data"]);
            writeln!(
                formatter,
                "{sequence_number} {event_type} of {request_id}: {event_data}"
            )?;
        }
        Ok(())
    }
}

/// Number of the event in the order's history.
pub(super) fn sequence_of(event: &Value) -> u64 {
    event["sequence"].as_u64().unwrap()
}

fn units_by_product(items: &Value) -> BTreeMap<&str, i64> {
    let mut units_by_sku = BTreeMap::new();
    for item in items.as_array().unwrap() {
        let quantity = item["quantity"].as_i64().unwrap();
        *units_by_sku
            .entry(item["sku"].as_str().unwrap())
            .or_default() += quantity;
    }
    units_by_sku
}
