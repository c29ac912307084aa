//! A whole shop in memory: the world, the partners with their own books, and what is under way
//! between them. A partner's answer may be lost, come late, or come twice.

use std::collections::BTreeMap;

use order_worker::domain::{
    command::{Action, Command, StepResult},
    decide::{Rules, carry_out},
    order::Order,
    stamp::Stamp,
    step::{Step, StepKey},
    world::World,
};
use serde_json::{Value, json};
use shared::{
    event::Event,
    id::OrderId,
    order::{OrderStatus, PaymentStatus, ShipmentUpdate},
    outcome::{Failure, Told},
    request::{Caller, Request, Role},
};

/// What the provider holds under a key.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Held {
    pub(crate) authorizations: u32,
    pub(crate) captures: u32,
    pub(crate) refunded: i64,
    pub(crate) is_voided: bool,
    is_declined: bool,
    amount: i64,
}

/// How a partner behaves this time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Mood {
    /// Does it and answers.
    Fine,
    /// Does it, and the answer is lost.
    LosesAnswer,
    /// Does not do it, for now.
    Busy,
    /// Refuses the money.
    Declines,
}

pub(crate) struct Shop {
    pub(crate) world: World,
    pub(crate) provider: BTreeMap<OrderId, Held>,
    pub(crate) customer: String,
    /// Results that partners gave and nobody decided yet.
    pub(crate) answers: Vec<(StepKey, u32, StepResult)>,
    events: Vec<Event>,
    clock: i64,
}

/// Whoever may do everything.
pub(crate) fn operator() -> Caller {
    Caller {
        role: Role::Operator,
        storefront: shared::id::Storefront::default(),
        actor: "test".to_owned(),
        intent: "test".to_owned(),
        request_id: "r".to_owned(),
        traceparent: None,
    }
}

impl Shop {
    /// With this much of each product, in one or two warehouses.
    pub(crate) fn with_stock(stock: &[(&str, &str, i64)]) -> Self {
        let mut shop = Self {
            world: World {
                numbers: (1..=10_000).collect(),
                ..World::default()
            },
            provider: BTreeMap::new(),
            customer: String::new(),
            answers: Vec::new(),
            events: Vec::new(),
            clock: 1_700_000_000_000,
        };
        let customer = shop
            .ask(
                "customer.create",
                json!({"name": "Ada", "email": "a@example.com"}),
            )
            .unwrap();
        customer["id"]
            .as_str()
            .unwrap()
            .clone_into(&mut shop.customer);
        for (sku, warehouse, on_hand) in stock {
            let product = json!({"sku": sku, "name": sku, "price": 100, "currency": "EUR"});
            let _ = shop.ask("product.create", product);
            shop.ask(
                "stock.set",
                json!({"sku": sku, "warehouse": warehouse, "on_hand": on_hand}),
            )
            .unwrap();
        }
        shop
    }

    /// Has a request carried out, as an operator.
    pub(crate) fn ask(&mut self, pattern: &str, body: Value) -> Result<Value, Failure> {
        let action = match Request::read(pattern, body)? {
            Request::CreateOrder(request) => Action::CreateOrder(request),
            Request::CancelOrder(request) => Action::CancelOrder(request),
            Request::DeleteOrder(request) => Action::DeleteOrder(request),
            Request::RestoreOrder(request) => Action::RestoreOrder(request),
            Request::CreateShipment(request) => Action::CreateShipment(request),
            Request::RefundOrder(request) => Action::RefundOrder(request),
            Request::UpdateShipment(request) => Action::UpdateShipment(request),
            Request::CreateProduct(request) => Action::CreateProduct(request),
            Request::SetStock(request) => Action::SetStock(request),
            Request::CreateCustomer(request) => Action::CreateCustomer(request),
            other => panic!("{} is not asked here", other.pattern()),
        };
        self.operate(action)
    }

    /// The same for what is not asked by a request alone.
    pub(crate) fn operate(&mut self, action: Action) -> Result<Value, Failure> {
        self.carry_out(&Command::Request {
            caller: operator(),
            idempotency: None,
            if_match: None,
            action,
        })
        .outcome
        .map(|value| value.value())
    }

    pub(crate) fn order(&mut self, items: &[(&str, u32)]) -> Result<OrderId, Failure> {
        let items: Vec<Value> = items
            .iter()
            .map(|(sku, quantity)| json!({"sku": sku, "quantity": quantity}))
            .collect();
        let created = self.ask(
            "order.create",
            json!({"customer_id": self.customer, "items": items}),
        )?;
        Ok(created["id"].as_str().unwrap().parse().unwrap())
    }

    pub(crate) fn cancel(&mut self, id: OrderId) -> Result<Value, Failure> {
        self.ask("order.cancel", json!({"id": id}))
    }

    pub(crate) fn webhook(
        &mut self,
        id: OrderId,
        update: ShipmentUpdate,
    ) -> Result<Value, Failure> {
        self.ask(
            "shipment.update",
            json!({"order_id": id, "type": update.as_str(), "timestamp": "2026-01-31T12:00:00Z"}),
        )
    }

    pub(crate) fn carry_out(&mut self, command: &Command) -> Told {
        self.clock += 1;
        let rules = Rules {
            reservation_ttl: jiff::SignedDuration::from_mins(30),
            needs_approval: false,
            payment_provider: "sandbox".to_owned(),
        };
        let now = jiff::Timestamp::from_millisecond(self.clock).unwrap();
        let mut stamp = Stamp::new(now, self.clock.unsigned_abs());
        let told = carry_out(&mut self.world, command, &rules, &mut stamp);
        self.events.append(&mut self.world.dirty.events);
        self.check();
        told
    }

    /// The partner is asked to do a step that waits; its answer is under way.
    pub(crate) fn perform(&mut self, key: &StepKey, mood: Mood) {
        let row = self.world.steps[key].clone();
        let order = self.world.orders[&key.order_id].clone();
        let busy = StepResult::Failed {
            error: "busy".to_owned(),
            is_transient: true,
        };
        let result = if mood == Mood::Busy {
            busy.clone()
        } else {
            self.partner(&key.step, &order, mood)
        };
        let result = if mood == Mood::LosesAnswer {
            busy
        } else {
            result
        };
        self.answers.push((key.clone(), row.attempt, result));
    }

    fn partner(&mut self, step: &Step, order: &Order, mood: Mood) -> StepResult {
        let held = self.provider.entry(order.id).or_default();
        let declined = |message: &str| StepResult::Declined {
            code: "declined".to_owned(),
            message: message.to_owned(),
        };
        match step {
            Step::AuthorizePayment if held.is_voided => declined("given up"),
            // Under one key, the answer is always the same.
            Step::AuthorizePayment
                if held.is_declined || (mood == Mood::Declines && held.authorizations == 0) =>
            {
                held.is_declined = true;
                declined("no money")
            }
            Step::AuthorizePayment => {
                if held.authorizations == 0 {
                    held.authorizations = 1;
                    held.amount = order.total;
                }
                let reference = format!("ref-{}", order.number);
                StepResult::Authorized {
                    provider: "sandbox".to_owned(),
                    reference,
                    amount: held.amount,
                }
            }
            Step::VoidPayment => {
                assert_eq!(held.captures, 0, "voided after it was captured");
                held.is_voided = true;
                StepResult::Voided {
                    reference: (held.authorizations > 0).then(|| format!("ref-{}", order.number)),
                }
            }
            Step::CapturePayment => {
                assert!(
                    held.authorizations == 1 && !held.is_voided,
                    "captured what is not held"
                );
                held.captures = 1;
                StepResult::Captured {
                    amount: held.amount,
                }
            }
            Step::RefundPayment => {
                held.refunded = held.refunded.max(order.refund_due);
                StepResult::Refunded {
                    amount: held.refunded,
                }
            }
            Step::RequestShipment(warehouse) => StepResult::Announced {
                carrier: "sandbox".to_owned(),
                tracking_number: format!("{}-{warehouse}", order.number),
            },
            Step::CancelShipment(_) => StepResult::Withdrawn,
            Step::ExpireOrder => StepResult::TimeIsUp,
        }
    }

    /// An answer arrives; the partner may repeat itself.
    pub(crate) fn arrive(&mut self, index: usize, is_repeated: bool) {
        let (key, attempt, result) = self.answers[index].clone();
        if !is_repeated {
            self.answers.remove(index);
        }
        self.carry_out(&Command::Finish {
            key,
            attempt,
            result,
        });
    }

    /// Steps that wait and are no timers.
    pub(crate) fn waiting(&self) -> Vec<StepKey> {
        let waits = |key: &&StepKey| !key.step.is_timer() && !self.world.steps[*key].is_dead;
        self.world.steps.keys().filter(waits).cloned().collect()
    }

    /// All partners are fine and everything under way arrives, until nothing is left to do.
    pub(crate) fn settle(&mut self) {
        for _ in 0..1000 {
            while !self.answers.is_empty() {
                self.arrive(0, false);
            }
            let waiting = self.waiting();
            if waiting.is_empty() {
                return;
            }
            for key in waiting {
                self.perform(&key, Mood::Fine);
            }
        }
        panic!("never settles: {:?}", self.world.steps);
    }

    pub(crate) fn facts(&self, id: OrderId) -> Vec<&'static str> {
        self.history(id)
            .iter()
            .map(|event| event.fact.kind())
            .collect()
    }

    fn history(&self, id: OrderId) -> Vec<Event> {
        let id = id.to_string();
        self.events
            .iter()
            .filter(|event| event.subject == id)
            .cloned()
            .collect()
    }

    /// What holds after every command.
    fn check(&self) {
        let mut held: BTreeMap<_, i64> = BTreeMap::new();
        for order in self.world.orders.values() {
            let folded = Order::fold(&self.history(order.id)).unwrap().unwrap();
            assert_eq!(folded, *order, "an order is what its events say");
            for item in &order.held {
                *held.entry((&item.sku, &item.warehouse)).or_default() +=
                    i64::from(item.quantity.get());
            }
            let is_over = matches!(
                order.status,
                OrderStatus::Cancelled | OrderStatus::Shipped | OrderStatus::Delivered
            );
            assert!(
                !is_over || order.held.is_empty(),
                "{} holds stock",
                order.status.as_str()
            );
            if order.status == OrderStatus::Cancelled {
                assert!(
                    order.parcels().next().is_none(),
                    "a cancelled order has parcels"
                );
            }
        }
        for (sku, shelves) in &self.world.shelves {
            for (warehouse, shelf) in shelves {
                assert!(
                    shelf.is_sound(),
                    "oversold: {sku} in {warehouse}: {shelf:?}"
                );
                let held = held.get(&(sku, warehouse)).copied().unwrap_or_default();
                assert_eq!(shelf.reserved, held, "reserved is what open orders hold");
            }
        }
        for (id, held) in &self.provider {
            assert!(
                held.authorizations <= 1 && held.captures <= 1 && held.refunded <= held.amount,
                "{id}: {held:?}"
            );
        }
    }

    /// What holds when nothing is under way any more: our books and the provider's agree.
    pub(crate) fn check_settled(&self) {
        for order in self.world.orders.values() {
            let held = self.provider.get(&order.id).cloned().unwrap_or_default();
            let expected = match order.payment.status {
                PaymentStatus::Authorized => (1, 0, 0, false),
                PaymentStatus::Captured
                | PaymentStatus::PartiallyRefunded
                | PaymentStatus::Refunded => (1, 1, order.refund_due, false),
                PaymentStatus::Voided => (held.authorizations, 0, 0, true),
                PaymentStatus::Failed => (0, 0, 0, false),
                PaymentStatus::Pending => {
                    panic!("order {} is {:?}", order.number, order.payment.status)
                }
            };
            assert_eq!(
                (
                    held.authorizations,
                    held.captures,
                    held.refunded,
                    held.is_voided
                ),
                expected,
                "{order:?}"
            );
            assert_eq!(order.payment.refunded, order.refund_due);
            let is_paid = order.payment.captured > 0;
            let has_left = matches!(order.status, OrderStatus::Shipped | OrderStatus::Delivered);
            assert_eq!(
                is_paid, has_left,
                "what has left is paid for, and nothing else"
            );
        }
    }
}
