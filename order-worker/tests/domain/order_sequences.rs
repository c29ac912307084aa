//! Random sequences of whole orders: created with any mix of parts, edited, approved, cancelled, shipped in
//! parts, captured, refunded, returned and expired, while the provider, the carrier and operators act as well
//! and workers crash. After every action and at the end, the parts add up, and neither money nor stock is
//! created or lost.
//!
//! The seed determines the sequence, so that failures are reproducible:
//!
//! ```sh
//! ORDER_SEQUENCE=42 cargo test --test domain order_sequences
//! ORDER_SEQUENCES=100000 cargo test --test domain order_sequences
//! ```

use std::{
    collections::BTreeMap,
    env,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
};

use order_worker::domain::{
    command::Action,
    order::Order,
    step::{Step, StepKey},
};
use serde_json::{Value, json};
use shared::{
    event::{Event, EventData},
    id::OrderId,
    order::{
        OrderStatus, PaymentStatus, ReturnStatus, ShipmentStatus, ShipmentUpdate, StockItem,
        restocked_items,
    },
    outcome::Failure,
};

use crate::{
    amounts::{RandomLine, random_body},
    random::Random,
    shop::{ProviderEvent, ProviderMode, Shop},
};

/// Number of sequences of all tests together.
const SEQUENCE_COUNT: u64 = 10_000;
/// Number of tests that the sequences are divided among, to run in parallel.
const TEST_COUNT: u64 = 4;
const ACTIONS_PER_SEQUENCE: usize = 36;
const MAX_ORDERS: usize = 2;
const SKUS: [&str; 3] = ["A", "B", "C"];
const STOCK: [(&str, &str, i64); 5] = [
    ("A", "east", 4),
    ("A", "west", 3),
    ("B", "west", 2),
    ("B", "east", 4),
    ("C", "east", 5),
];

/// A sequence of actions in a shop of its own.
struct Sequence {
    random: Random,
    shop: Shop,
    order_ids: Vec<OrderId>,
    /// Whether operators keep a part of refunds of returned units or refund other amounts, calls fail for good,
    /// and the payment is changed at the provider.
    has_exceptions: bool,
    /// Amounts that operators kept from the refunds of returned units, refunded for no units, or discarded.
    refund_deviations: BTreeMap<OrderId, i64>,
    /// Requested refunds of units.
    unit_refunds: BTreeMap<(OrderId, &'static str), i64>,
    /// The actions, printed on failure.
    log: Vec<String>,
}

impl Sequence {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let currency = random.pick(&["EUR", "JPY", "KWD"]).unwrap();
        let mut shop = Shop::with_stock_in(currency, &STOCK);
        shop.captures_in_parts = random.chance(50);
        shop.prepares_payments = random.chance(50);
        shop.needs_approval = random.chance(15);
        Self {
            has_exceptions: random.chance(50),
            random,
            shop,
            order_ids: Vec::new(),
            refund_deviations: BTreeMap::new(),
            unit_refunds: BTreeMap::new(),
            log: Vec::new(),
        }
    }

    fn order(&self, id: OrderId) -> &Order {
        &self.shop.working_set.orders[&id]
    }

    /// Executes a request. One that is refused changes nothing.
    fn execute_request(&mut self, pattern: &str, body: Value) -> Result<Value, Failure> {
        let orders_before = self.shop.working_set.orders.clone();
        let stock_levels_before = self.shop.working_set.stock_levels.clone();
        self.log.push(format!("{pattern} {body}"));
        let request_result = self.shop.execute_request(pattern, body);
        if let Err(failure) = &request_result {
            self.log.push(format!("  refused: {}", failure.message));
            let working_set = &self.shop.working_set;
            assert_eq!(
                orders_before, working_set.orders,
                "a refused request changed an order"
            );
            assert_eq!(
                stock_levels_before, working_set.stock_levels,
                "a refused request changed the stock"
            );
        }
        request_result
    }

    /// Executes one random action.
    fn perform_random_action(&mut self) {
        let action_number = self.random.random_below(100);
        let id = match self.random.pick(&self.order_ids) {
            Some(id) if action_number >= 6 || self.order_ids.len() == MAX_ORDERS => id,
            _ => return self.create_order(),
        };
        match action_number {
            0..18 => self.edit_order(id),
            18 => drop(self.execute_request("order.cancel_edit", json!({"id": id}))),
            19 => drop(self.execute_request("order.cancel", json!({"id": id}))),
            20 => drop(self.execute_request("order.cancel_remaining", json!({"id": id}))),
            21 => drop(self.execute_request("order.approve", json!({"id": id}))),
            22..30 => self.ship(id),
            30..34 => self.report_as_carrier(id),
            34..41 => self.refund(id),
            41..54 => self.change_return(id),
            54..56 => self.fire_timer(),
            56..61 => self.change_at_provider(id),
            61 => {
                self.log.push(format!("notify {id}"));
                self.shop.notify(id);
            }
            62..65 => self.discard_or_redrive_dead_step(),
            65..80 => self.execute_step(),
            80..92 => self.deliver_result(),
            92..94 => {
                // All workers die after the calls of the providers, before the results are stored.
                self.log.push("crash".to_owned());
                self.shop.step_results.clear();
            }
            _ => self.settle(),
        }
    }

    fn create_order(&mut self) {
        let random = &mut self.random;
        let is_free = random.chance(8);
        let lines: Vec<RandomLine> = (0..random.random_quantity(3))
            .map(|_| {
                let price = if random.chance(30) {
                    100
                } else {
                    random.random_amount(700)
                };
                let discount_permille = if random.chance(50) {
                    0
                } else {
                    random.random_amount(1_001)
                };
                let tax_share = if random.chance(50) {
                    0
                } else {
                    random.random_amount(1_000)
                };
                let price = if is_free { 0 } else { price };
                (
                    random.random_quantity(4),
                    price,
                    discount_permille,
                    tax_share,
                )
            })
            .collect();
        let order_discount_share = if random.chance(40) {
            random.random_amount(1_000)
        } else {
            0
        };
        let has_shipping = !is_free && random.chance(60);
        let shipping_amount_and_tax =
            has_shipping.then(|| (random.random_amount(900), random.random_amount(1_000)));
        let mut body = random_body(
            &lines,
            order_discount_share,
            shipping_amount_and_tax,
            random.chance(50),
        );
        for item in body["items"].as_array_mut().unwrap() {
            let item = item.as_object_mut().unwrap();
            for member_name in ["discounts", "taxes"] {
                let discounts_or_taxes = item[member_name].as_array().unwrap().iter();
                if discounts_or_taxes
                    .map(|amount_entry| amount_entry["amount"].as_i64().unwrap())
                    .sum::<i64>()
                    == 0
                {
                    item.remove(member_name);
                }
            }
            // The catalogue's price.
            if item["unit_price"] == 100 && random.chance(50) {
                item.remove("unit_price");
            }
        }
        body["customer_id"] = json!(self.shop.customer_id);
        if let Ok(created_order) = self.execute_request("order.create", body) {
            self.order_ids
                .push(created_order["id"].as_str().unwrap().parse().unwrap());
        }
    }

    fn edit_order(&mut self, id: OrderId) {
        let lines = self.order(id).items.clone();
        let random = &mut self.random;
        let mut items = Vec::new();
        for sku in SKUS {
            let line = lines.iter().find(|line| line.sku.as_str() == sku);
            let quantity = random.random_quantity(6) - 1;
            if random.chance(50) || (line.is_none() && quantity == 0) {
                continue;
            }
            let mut item = json!({"sku": sku, "quantity": quantity});
            let mut price = line.map_or(100, |line| line.unit_price);
            if quantity > 0 && random.chance(15) {
                price = random.random_amount(400);
                item["unit_price"] = json!(price);
            }
            let has_discounts_or_taxes =
                line.is_some_and(|line| !line.discounts.is_empty() || !line.taxes.is_empty());
            if quantity > 0 && (has_discounts_or_taxes || random.chance(20)) {
                let price = price * i64::from(quantity);
                let discount = random.random_amount(price / 2 + 1);
                let tax = random.random_amount((price - discount) / 10 + 1);
                item["discounts"] = json!([{"label": "e", "amount": discount}]);
                item["taxes"] = json!([{"label": "VAT", "amount": tax}]);
            }
            items.push(item);
        }
        let mut body = json!({"id": id});
        if !items.is_empty() {
            body["items"] = json!(items);
        }
        match random.random_below(6) {
            0 => body["discounts"] = Value::Null,
            1 => body["discounts"] = json!([{"label": "f", "amount": random.random_amount(200)}]),
            2 => body["shipping"] = Value::Null,
            3 => {
                body["shipping"] = json!({"label": "Express", "amount": random.random_amount(600)});
            }
            _ => {}
        }
        let order_before = self.order(id).clone();
        let edit_result = self.execute_request("order.edit", body);
        let is_shipped = order_before.shipped_shipments().next().is_some();
        assert!(
            edit_result.is_err() || !is_shipped,
            "edited after something was shipped"
        );
        let order_after = self.order(id);
        let is_edited =
            (&order_before.items, order_before.total) != (&order_after.items, order_after.total);
        let is_paid = order_after.total <= order_after.payable_amount()
            || order_after.status == OrderStatus::Pending;
        assert!(!is_edited || is_paid, "edited without its payment");
    }

    fn ship(&mut self, id: OrderId) {
        let mut body = json!({"id": id});
        if self.random.chance(80) {
            let sku = self.random.pick(&SKUS);
            body["items"] = json!([{"sku": sku, "quantity": self.random.random_quantity(3)}]);
        }
        if self.random.chance(20) {
            body["warehouse"] = json!(self.random.pick(&["east", "west"]));
        }
        if self.has_exceptions && self.random.chance(10) {
            body["allow_unpaid"] = json!(true);
        }
        let _ = self.execute_request("shipment.create", body);
    }

    fn report_as_carrier(&mut self, id: OrderId) {
        let shipment_ids: Vec<_> = self
            .order(id)
            .shipments
            .iter()
            .map(|shipment| shipment.id)
            .collect();
        let update_name = self.random.pick(&ShipmentUpdate::ALL).unwrap().as_str();
        let mut body =
            json!({"order_id": id, "type": update_name, "timestamp": "2026-01-31T12:00:00Z"});
        if self.random.chance(70)
            && let Some(shipment_id) = self.random.pick(&shipment_ids)
        {
            body["shipment_id"] = json!(shipment_id);
        }
        let _ = self.execute_request("shipment.update", body);
    }

    fn refund(&mut self, id: OrderId) {
        let sku = self.random.pick(&SKUS).unwrap();
        let items = json!([{"sku": sku, "quantity": self.random.random_quantity(3)}]);
        let refund_due_before = self.order(id).total_refund_due;
        match self.random.random_below(8) {
            0 | 1 if self.has_exceptions => {
                let mut body = json!({"id": id});
                if self.random.chance(70) {
                    body["amount"] = json!(1 + self.random.random_amount(300));
                }
                if self.execute_request("order.refund", body).is_ok() {
                    let amount = self.order(id).total_refund_due - refund_due_before;
                    *self.refund_deviations.entry(id).or_default() += amount;
                }
            }
            2 => drop(self.execute_request("order.refund", json!({"id": id, "shipping": true}))),
            _ => {
                if self
                    .execute_request("order.refund", json!({"id": id, "items": items}))
                    .is_ok()
                {
                    let amount = self.order(id).total_refund_due - refund_due_before;
                    *self.unit_refunds.entry((id, sku)).or_default() += amount;
                }
            }
        }
    }

    /// Requests a return, or continues one.
    fn change_return(&mut self, id: OrderId) {
        let open_return = self.order(id).open_return().cloned();
        let Some(open_return) = open_return.filter(|_| self.random.chance(85)) else {
            let sku = self.random.pick(&SKUS).unwrap();
            let items = json!([{"sku": sku, "quantity": self.random.random_quantity(3)}]);
            let _ = self.execute_request("return.create", json!({"id": id, "items": items}));
            return;
        };
        match (open_return.status, self.random.random_below(10)) {
            (ReturnStatus::Requested, 0) => {
                self.execute_request("return.reject", json!({"id": open_return.id}))
                    .unwrap();
            }
            (ReturnStatus::Requested, 2..) => {
                self.execute_request("return.approve", json!({"id": open_return.id}))
                    .unwrap();
            }
            (_, 1) => drop(
                self.execute_request("return.cancel", json!({"id": open_return.id}))
                    .unwrap(),
            ),
            _ => {
                let quantity = self
                    .random
                    .random_quantity(open_return.items[0].quantity.get());
                let restock = self.random.chance(70);
                let sku = open_return.items[0].sku.to_string();
                let mut item = json!({"sku": sku, "quantity": quantity, "restock": restock});
                if restock && self.random.chance(20) {
                    item["warehouse"] = json!("outlet");
                }
                let mut receive_body = json!({"id": open_return.id, "items": [item]});
                if self.has_exceptions {
                    match self.random.random_below(6) {
                        0 => receive_body["fee"] = json!(self.random.random_amount(30)),
                        1 => receive_body["refund"] = json!("none"),
                        2 => {
                            receive_body["refund"] =
                                json!({"amount": 1 + self.random.random_amount(100)});
                        }
                        _ => {}
                    }
                }
                self.receive_return(id, receive_body);
            }
        }
    }

    fn receive_return(&mut self, id: OrderId, receive_body: Value) {
        let has_amount = receive_body["refund"]["amount"].is_number();
        let Ok(received_return) = self.execute_request("return.receive", receive_body) else {
            return;
        };
        let mut total_value = 0;
        for item in received_return["received"].as_array().unwrap() {
            let sku = SKUS.into_iter().find(|sku| item["sku"] == *sku).unwrap();
            let item_value = item["value"].as_i64().unwrap();
            *self.unit_refunds.entry((id, sku)).or_default() += item_value;
            total_value += item_value;
        }
        let deviation = if has_amount {
            (total_value - received_return["refund_amount"].as_i64().unwrap()).abs()
        } else {
            received_return["fee"].as_i64().unwrap()
        };
        *self.refund_deviations.entry(id).or_default() += deviation;
    }

    /// Fires a timer early: the expiry of a reservation or of an edit, or a check of the payment.
    fn fire_timer(&mut self) {
        let steps = self.shop.working_set.steps.values();
        let timers = steps.filter(|row| row.key.step.is_timer_or_check() && !row.is_dead);
        let timers: Vec<StepKey> = timers.map(|row| row.key.clone()).collect();
        if let Some(key) = self.random.pick(&timers) {
            self.log.push(format!("fires {key:?}"));
            self.shop.execute_step(&key, ProviderMode::Responds);
        }
    }

    /// An action of the customer or of a user of the provider's dashboard, or an expiry at the provider.
    fn change_at_provider(&mut self, id: OrderId) {
        let amount = 1 + self.random.random_amount(300);
        let provider_events = [
            ProviderEvent::Authenticated,
            ProviderEvent::AuthenticationFailed,
            ProviderEvent::Expired,
            ProviderEvent::Captured,
            ProviderEvent::PartlyCaptured(amount),
            ProviderEvent::Refunded(amount),
            ProviderEvent::RefundFailed(amount),
        ];
        let possible_events = if self.has_exceptions {
            &provider_events[..]
        } else {
            &provider_events[..2]
        };
        let mut event = self.random.pick(possible_events).unwrap();
        let payment = &self.order(id).payment;
        let (is_authorized, is_refunded) = (
            payment.status == PaymentStatus::Authorized,
            payment.refunded > 0,
        );
        // An event that only few states of an order allow is chosen more often while the order is in one of
        // them.
        if self.has_exceptions && is_refunded && self.random.chance(30) {
            event = ProviderEvent::RefundFailed(amount);
        } else if self.has_exceptions && is_authorized && self.random.chance(50) {
            event = ProviderEvent::Captured;
        }
        if let ProviderEvent::Refunded(amount) = event {
            *self.refund_deviations.entry(id).or_default() += amount;
        }
        let is_notified = self.random.chance(70);
        self.log
            .push(format!("{event:?} {id} notified: {is_notified}"));
        self.shop.apply_provider_event(id, event, is_notified);
    }

    /// An operator discards or redrives a dead step.
    fn discard_or_redrive_dead_step(&mut self) {
        let Some(key) = self.random.pick(&self.shop.dead_steps()) else {
            return;
        };
        if self.random.chance(60) {
            self.discard(key);
        } else {
            self.log.push(format!("redrive {key:?}"));
            let action = Action::RedriveStep(key);
            self.shop.execute_as_operator(action).unwrap();
        }
    }

    fn discard(&mut self, key: StepKey) {
        self.log.push(format!("discard {key:?}"));
        if key.step == Step::RefundPayment {
            // A later request of an operator is made of the discarded refund first.
            let amount = self.order(key.order_id).outstanding_refund();
            *self.refund_deviations.entry(key.order_id).or_default() += amount;
        }
        let action = Action::DiscardStep(key);
        self.shop.execute_as_operator(action).unwrap();
    }

    fn execute_step(&mut self) {
        let is_authorization =
            |key: &StepKey| matches!(key.step, Step::AuthorizePayment | Step::AuthorizeEdit(_));
        let mut due_steps = self.shop.due_steps();
        if self.random.chance(70) && due_steps.iter().any(is_authorization) {
            due_steps.retain(is_authorization);
        }
        let Some(key) = self.random.pick(&due_steps) else {
            return;
        };
        let mode = match self.random.random_below(20) {
            0..3 => ProviderMode::LosesResponse,
            3 | 4 => ProviderMode::TransientError,
            5 => ProviderMode::NoFreeSlot,
            6..11 if is_authorization(&key) => ProviderMode::RequiresAction,
            11..14 if is_authorization(&key) => ProviderMode::Declines,
            6 if self.has_exceptions => ProviderMode::Refuses,
            _ => ProviderMode::Responds,
        };
        self.log.push(format!("{mode:?} to {key:?}"));
        self.shop.execute_step(&key, mode);
    }

    fn deliver_result(&mut self) {
        if !self.shop.step_results.is_empty() {
            let result_index = self.random.random_below(self.shop.step_results.len());
            let stays_in_flight = self.random.chance(30);
            let (key, _, step_result) = &self.shop.step_results[result_index];
            self.log.push(format!(
                "{step_result:?} of {key:?}, stays in flight: {stays_in_flight}"
            ));
            self.shop.deliver_result(result_index, stays_in_flight);
        }
    }

    fn settle(&mut self) {
        self.log.push("settle".to_owned());
        self.shop.run_until_settled();
    }

    /// Checks what holds at any time. `Shop` checks more after every command.
    fn check(&self) {
        for id in &self.order_ids {
            let order = self.order(*id);
            let order_json = order.represent([]);
            let line_total: i64 = order_json.items.iter().map(|line| line.total).sum();
            assert_eq!(line_total + order.shipping_totals().total, order_json.total);
            let added_tax = if order.tax_included {
                0
            } else {
                order_json.tax_total
            };
            let expected_total = order_json.subtotal - order_json.discount_total
                + order_json.shipping_total
                + added_tax;
            assert_eq!(
                expected_total, order_json.total,
                "the totals do not add up to the total"
            );
            assert!(
                order_json.items.iter().all(|line| line.total >= 0),
                "{:?}",
                order_json.items
            );

            let payment = &order.payment;
            assert!(
                payment.captured <= payment.authorized,
                "more captured than authorized"
            );
            assert!(
                payment.refunded <= payment.captured,
                "more refunded than captured"
            );
            assert!(
                order.total_refund_due <= payment.captured,
                "more to refund than captured"
            );
            assert!(order.refundable_amount() >= 0);
            for sku in SKUS {
                let lines_of_sku = order_json
                    .items
                    .iter()
                    .filter(|line| line.sku.as_str() == sku);
                let lines_total: i64 = lines_of_sku.map(|line| line.total).sum();
                let refunded_amount = self.unit_refunds.get(&(*id, sku)).copied().unwrap_or(0);
                assert!(
                    refunded_amount <= lines_total,
                    "{refunded_amount} of {lines_total} are refunded for the units of {sku}"
                );
            }
        }
        self.check_stock();
    }

    /// Checks that each product's stock is the initial one without the units that left, and that no more units
    /// came back or were refunded than left. `Shop` compares the reserved stock with the orders.
    fn check_stock(&self) {
        let mut expected_on_hand: BTreeMap<String, i64> = BTreeMap::new();
        for (sku, _, units) in STOCK {
            *expected_on_hand.entry(sku.to_owned()).or_default() += units;
        }
        for id in &self.order_ids {
            let (mut shipped_units, mut returned_units) = (BTreeMap::new(), BTreeMap::new());
            for event in self.shop.events_of(*id) {
                match &event.event_data {
                    EventData::ShipmentShipped { items, .. } => {
                        add_units(&mut shipped_units, items, 1);
                        add_units(&mut expected_on_hand, items, -1);
                    }
                    EventData::ShipmentReturned { items, .. } => {
                        add_units(&mut returned_units, items, 1);
                        add_units(&mut expected_on_hand, items, 1);
                    }
                    EventData::ReturnReceived { items, .. } => {
                        add_units(&mut expected_on_hand, &restocked_items(items), 1);
                        for item in items {
                            *returned_units.entry(item.sku.to_string()).or_default() +=
                                i64::from(item.quantity.get());
                        }
                    }
                    _ => {}
                }
            }
            let order = self.order(*id);
            for sku in SKUS {
                let units_of_sku = |units_by_sku: &BTreeMap<String, i64>| {
                    units_by_sku.get(sku).copied().unwrap_or(0)
                };
                let ordered_units: i64 = order
                    .items
                    .iter()
                    .filter(|line| line.sku.as_str() == sku)
                    .map(|line| i64::from(line.quantity.get()))
                    .sum();
                assert!(
                    units_of_sku(&shipped_units) <= ordered_units,
                    "more units of {sku} left than were ordered"
                );
                assert!(
                    units_of_sku(&returned_units) <= units_of_sku(&shipped_units),
                    "more units of {sku} came back than left"
                );
                let refunded_units = order.refunded_units.get(&sku.parse().unwrap());
                let refunded_count = i64::try_from(refunded_units.copied().unwrap_or(0)).unwrap();
                assert!(
                    refunded_count <= units_of_sku(&shipped_units),
                    "more units of {sku} are refunded than left"
                );
            }
        }
        for (sku, expected_on_hand) in expected_on_hand {
            let stock_levels = &self.shop.working_set.stock_levels[&sku.parse().unwrap()];
            let on_hand: i64 = stock_levels
                .values()
                .map(|stock_level| stock_level.on_hand)
                .sum();
            assert_eq!(
                on_hand, expected_on_hand,
                "the stock of {sku} is not conserved"
            );
        }
    }

    /// The customers complete what is required, all notifications arrive, and operators discard what failed.
    fn finish_everything(&mut self) {
        self.log.push("finish everything".to_owned());
        for id in self.order_ids.clone() {
            if self.order(id).awaits_approval {
                self.execute_request("order.approve", json!({"id": id}))
                    .unwrap();
            }
        }
        for _ in 0..3 {
            for id in self.order_ids.clone() {
                self.shop
                    .apply_provider_event(id, ProviderEvent::Authenticated, true);
            }
            self.shop.run_until_settled();
            for id in self.order_ids.clone() {
                self.shop.notify(id);
            }
            self.shop.run_until_settled();
        }
        self.discard_dead_steps();
    }

    fn discard_dead_steps(&mut self) {
        for _ in 0..5 {
            self.shop.run_until_settled();
            let dead_steps = self.shop.dead_steps();
            if dead_steps.is_empty() {
                return;
            }
            for key in dead_steps {
                self.discard(key);
            }
        }
        panic!(
            "steps are dead again and again: {:?}",
            self.shop.dead_steps()
        );
    }

    /// Checks what holds when nothing is in progress.
    fn check_settled(&self) {
        self.check();
        self.shop.check_settled();
        for id in &self.order_ids {
            let order = self.order(*id);
            assert!(order.pending_edit.is_none(), "an edit is still pending");
            assert!(
                order.open_authorizations.is_empty(),
                "an authorization was left open"
            );
            self.check_labels(order);
            let provider_payment = self
                .shop
                .payment_at_provider(order, order.authorized_edit_number);
            assert_eq!(
                (order.payment.captured, order.payment.refunded),
                (provider_payment.captured, provider_payment.refunded),
                "the provider has other amounts"
            );
            let mut refunded_amount = order.payment.refunded + order.refund_written_off;
            refunded_amount = refunded_amount.min(order.payment.captured);
            if order.status == OrderStatus::Cancelled {
                assert_eq!(
                    refunded_amount, order.payment.captured,
                    "a cancelled order is still paid"
                );
            }
        }
    }

    /// An order that is being processed has a label for each item, unless it was shipped or its label cancelled
    /// by hand, or a step of a label was discarded.
    fn check_labels(&self, order: &Order) {
        let is_by_hand = |event: &Event| match &event.event_data {
            EventData::ShipmentShipped { .. } => true,
            EventData::ShipmentCancelled { reason, .. } => reason.is_none(),
            EventData::StepDiscarded { step, .. } => step.contains("shipment"),
            _ => false,
        };
        let history = self.shop.history(order.id);
        if order.status != OrderStatus::Processing || history.iter().any(is_by_hand) {
            return;
        }
        for warehouse in order.warehouses() {
            let unlabelled_items = order.unlabelled_items(&warehouse);
            assert_eq!(unlabelled_items, [], "the order has no label and gets none");
        }
    }

    /// Ships everything that can be shipped, and returns everything that was shipped without a fee.
    fn return_everything(&mut self) {
        for id in self.order_ids.clone() {
            if self.order(id).status == OrderStatus::Processing
                && self
                    .execute_request("shipment.create", json!({"id": id}))
                    .is_err()
            {
                let unpaid_shipment = json!({"id": id, "allow_unpaid": true});
                self.execute_request("shipment.create", unpaid_shipment)
                    .unwrap();
            }
            self.discard_dead_steps();
            if self.order(id).status == OrderStatus::Cancelled {
                continue;
            }
            while let Some(open_return) = self.order(id).open_return() {
                let cancellation = json!({"id": open_return.id});
                self.execute_request("return.cancel", cancellation).unwrap();
            }
            let update_type = self
                .random
                .pick(&["shipment.returned", "shipment.delivered"]);
            let update_request =
                json!({"order_id": id, "type": update_type, "timestamp": "2026-01-31T12:00:00Z"});
            self.execute_request("shipment.update", update_request)
                .unwrap();
            for sku in SKUS {
                let returnable_units = self.order(id).returnable_units(&sku.parse().unwrap());
                if returnable_units > 0 {
                    self.return_units(id, sku, returnable_units);
                }
            }
            self.refund_rest(id);
            self.discard_dead_steps();
        }
    }

    fn return_units(&mut self, id: OrderId, sku: &str, units: u64) {
        let items = json!([{"sku": sku, "quantity": units}]);
        let new_return = json!({"id": id, "items": items});
        let new_return = self.execute_request("return.create", new_return).unwrap();
        let approval = json!({"id": new_return["id"]});
        self.execute_request("return.approve", approval).unwrap();
        let items = json!([{"sku": sku, "quantity": units, "restock": true}]);
        let receive_body = json!({"id": new_return["id"], "items": items});
        self.receive_return(id, receive_body);
        assert_eq!(self.order(id).returnable_units(&sku.parse().unwrap()), 0);
    }

    /// Refunds units that were received without a refund, and the shipping charge.
    fn refund_rest(&mut self, id: OrderId) {
        for sku in SKUS {
            let order = self.order(id);
            let sku = sku.parse().unwrap();
            let refundable_units = order.refundable_units(&sku, true);
            if refundable_units > 0 {
                let amount = order.refund_of_units(&sku, refundable_units, true);
                let items = json!([{"sku": sku, "quantity": refundable_units}]);
                self.refund_up_to(id, amount, json!({"id": id, "items": items}));
            }
        }
        let order = self.order(id);
        let has_carrier_returned_all = order
            .shipped_shipments()
            .all(|shipment| shipment.status == ShipmentStatus::Returned);
        if !has_carrier_returned_all && !order.shipping_refunded {
            let amount = order.shipping_totals().total;
            self.refund_up_to(id, amount, json!({"id": id, "shipping": true}));
        }
    }

    /// Requests a refund; if less than `amount` can be refunded, that is requested.
    fn refund_up_to(&mut self, id: OrderId, amount: i64, body: Value) {
        let amount = amount.min(self.order(id).refundable_amount());
        if self.execute_request("order.refund", body).is_err() && amount > 0 {
            self.execute_request("order.refund", json!({"id": id, "amount": amount}))
                .unwrap();
        }
    }

    /// Checks that exactly everything is refunded, and that no unit is missing or reserved.
    fn check_everything_returned(&self) {
        self.check_settled();
        for id in &self.order_ids {
            let order = self.order(*id);
            let payment = &order.payment;
            let refunded_amount = payment.refunded + order.refund_written_off;
            if self.has_exceptions {
                let refund_deviation = self.refund_deviations.get(id).copied().unwrap_or(0);
                let written_off_amount: i64 = order.written_off_by_shipment.values().sum();
                assert!(
                    refunded_amount + refund_deviation + written_off_amount
                        >= payment.captured.min(order.total),
                    "{refunded_amount} of {} are refunded, {refund_deviation} kept: {order:?}",
                    payment.captured
                );
            } else {
                assert_eq!(payment.refunded, payment.captured, "{order:?}");
                let has_cancelled_units = !order.cancelled_items().is_empty();
                let is_cancelled = order.status == OrderStatus::Cancelled;
                let expected_capture = if is_cancelled { 0 } else { order.total };
                assert!(
                    payment.captured == expected_capture || has_cancelled_units,
                    "the total was not captured: {order:?}"
                );
            }
            let is_free = order.total == 0 && payment.status == PaymentStatus::Captured;
            let is_over = order.status == OrderStatus::Cancelled || order.is_closed() || is_free;
            assert!(is_over, "{order:?}");
        }
        for (sku, stock_levels) in &self.shop.working_set.stock_levels {
            let reserved_units: i64 = stock_levels
                .values()
                .map(|stock_level| stock_level.reserved)
                .sum();
            assert_eq!(reserved_units, 0, "{sku} is still reserved");
        }
    }

    fn run(&mut self) {
        self.create_order();
        for _ in 0..ACTIONS_PER_SEQUENCE {
            self.perform_random_action();
            self.check();
        }
        self.finish_everything();
        self.check_settled();
        self.return_everything();
        self.check_everything_returned();
    }
}

fn add_units(units_by_sku: &mut BTreeMap<String, i64>, items: &[StockItem], sign: i64) {
    for item in items {
        *units_by_sku.entry(item.sku.to_string()).or_default() +=
            sign * i64::from(item.quantity.get());
    }
}

/// Runs the sequence of a seed, and counts its events.
fn run_sequence(seed: u64, event_counts: &mut BTreeMap<&'static str, u64>) {
    let mut sequence = Sequence::new(seed);
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| sequence.run())) {
        println!("{}", sequence.log.join("\n"));
        println!("reproduce with ORDER_SEQUENCE={seed}");
        resume_unwind(panic);
    }
    for id in &sequence.order_ids {
        for event_type in sequence.shop.event_types(*id) {
            *event_counts.entry(event_type).or_default() += 1;
        }
    }
}

/// Events that the sequences must contain often: otherwise they test less than they say.
const EXPECTED_EVENTS: [&str; 22] = [
    "order.edit_requested",
    "order.edited",
    "order.edit_rejected",
    "order.cancelled",
    "payment.authorized",
    "payment.declined",
    "payment.action_required",
    "payment.voided",
    "payment.released",
    "payment.captured",
    "payment.refunded",
    "payment.refund_failed",
    "shipment.shipped",
    "shipment.cancelled",
    "shipment.returned",
    "return.requested",
    "return.approved",
    "return.rejected",
    "return.cancelled",
    "return.received",
    "step.dead",
    "step.discarded",
];

/// Runs every sequence whose seed has this remainder.
fn run_sequences(remainder: u64) {
    let read_number = |variable_name: &str| {
        env::var(variable_name)
            .ok()
            .and_then(|variable_text| variable_text.parse::<u64>().ok())
    };
    let mut event_counts = BTreeMap::new();
    if let Some(seed) = read_number("ORDER_SEQUENCE") {
        if seed % TEST_COUNT == remainder {
            run_sequence(seed, &mut event_counts);
        }
        return;
    }
    let sequence_count = read_number("ORDER_SEQUENCES").unwrap_or(SEQUENCE_COUNT);
    let seeds = (0..sequence_count).filter(|seed| seed % TEST_COUNT == remainder);
    for seed in seeds {
        run_sequence(seed, &mut event_counts);
    }
    println!(
        "{} sequences: {event_counts:?}",
        sequence_count / TEST_COUNT
    );
    for event_type in EXPECTED_EVENTS {
        let event_count = event_counts.get(event_type).copied().unwrap_or(0);
        assert!(
            event_count > sequence_count / 2_000,
            "only {event_count} events {event_type}: {event_counts:?}"
        );
    }
}

#[test]
fn sequences_of_orders_add_up_1() {
    run_sequences(0);
}

#[test]
fn sequences_of_orders_add_up_2() {
    run_sequences(1);
}

#[test]
fn sequences_of_orders_add_up_3() {
    run_sequences(2);
}

#[test]
fn sequences_of_orders_add_up_4() {
    run_sequences(3);
}
