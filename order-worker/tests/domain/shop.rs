//! A complete shop in memory: the working set, the providers with their ledgers, and the results in flight.
//! Results may be lost, late or duplicated.

use std::collections::{BTreeMap, BTreeSet};

use order_worker::domain::{
    command::{Action, Command, StepResult},
    decide::{Rules, carry_out},
    decision_context::DecisionContext,
    load_set::LoadSet,
    order::Order,
    payment::{Authorization, PaymentState},
    step::{Step, StepKey, StepRow},
    working_set::WorkingSet,
};
use serde_json::{Value, json};
use shared::{
    event::{Event, EventData},
    id::OrderId,
    order::{
        NextAction, NotifyPayment, OrderStatus, PaymentStatus, ShipmentUpdate, StockItem, Tax,
    },
    outcome::{Failure, RpcReply},
    request::{Caller, Request, Role},
};

/// A payment at the provider.
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts about a payment at the provider"
)]
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct ProviderPayment {
    pub(crate) authorizations: u32,
    pub(crate) captured: i64,
    pub(crate) refunded: i64,
    pub(crate) is_voided: bool,
    pub(crate) awaits_action: bool,
    /// Whether the last capture was made, which releases the rest.
    pub(crate) is_closed: bool,
    is_declined: bool,
    amount: i64,
}

/// An action at the provider or the customer's bank.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum ProviderEvent {
    /// The customer authenticates.
    Authenticated,
    /// The customer fails to authenticate.
    AuthenticationFailed,
    /// The authorization expires.
    Expired,
    /// The whole amount is captured.
    Captured,
    /// This amount is captured in the dashboard, and the rest is released.
    PartlyCaptured(i64),
    /// This amount is refunded in the dashboard.
    Refunded(i64),
    /// This amount of earlier refunds fails.
    RefundFailed(i64),
}

/// The provider's behaviour for one call.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum ProviderMode {
    /// Executes the step and responds.
    Responds,
    /// Executes the step; the response is lost.
    LosesResponse,
    /// Fails with a transient error.
    TransientError,
    /// Refuses the capture or refund permanently.
    Refuses,
    /// The provider is not called, since all slots are in use.
    NoFreeSlot,
    /// Declines the payment.
    Declines,
    /// Requires an action of the customer.
    RequiresAction,
}

pub(crate) struct Shop {
    pub(crate) working_set: WorkingSet,
    pub(crate) provider: BTreeMap<OrderId, ProviderPayment>,
    pub(crate) customer: String,
    /// Results of providers that are not decided yet.
    pub(crate) results: Vec<(StepKey, u32, StepResult)>,
    /// Whether the provider supports partial captures.
    pub(crate) captures_in_parts: bool,
    /// Whether the provider creates a payment before confirming it.
    pub(crate) prepares: bool,
    events: Vec<Event>,
    pub(crate) clock: i64,
}

/// A caller with the operator role.
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
    /// Creates a shop with a customer and this stock per product and warehouse.
    pub(crate) fn with_stock(stock: &[(&str, &str, i64)]) -> Self {
        let mut shop = Self {
            working_set: WorkingSet {
                numbers: (1..=10_000).collect(),
                ..WorkingSet::default()
            },
            provider: BTreeMap::new(),
            customer: String::new(),
            results: Vec::new(),
            captures_in_parts: true,
            prepares: false,
            events: Vec::new(),
            clock: 1_700_000_000_000,
        };
        let customer = shop
            .execute_request(
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
            let _ = shop.execute_request("product.create", product);
            shop.execute_request(
                "stock.set",
                json!({"sku": sku, "warehouse": warehouse, "on_hand": on_hand}),
            )
            .unwrap();
        }
        shop
    }

    /// Executes a request as an operator.
    pub(crate) fn execute_request(&mut self, pattern: &str, body: Value) -> Result<Value, Failure> {
        let action = match Request::read(pattern, body)? {
            Request::CreateOrder(request) => Action::CreateOrder(request),
            Request::CancelOrder(request) => Action::CancelOrder(request),
            Request::DeleteOrder(request) => Action::DeleteOrder(request),
            Request::RestoreOrder(request) => Action::RestoreOrder(request),
            Request::CreateShipment(request) => Action::CreateShipment(request),
            Request::RefundOrder(request) => Action::RefundOrder(request),
            Request::UpdateShipment(request) => Action::UpdateShipment(request),
            Request::NotifyPayment(NotifyPayment {
                order_id,
                reference,
            }) => Action::NotifyPayment {
                order_id: order_id.unwrap(),
                reference,
            },
            Request::CancelShipment(request) => Action::CancelShipment(request),
            Request::CancelRemaining(request) => Action::CancelRemaining(request),
            Request::RemoveStock(request) => Action::RemoveStock(request),
            Request::CreateProduct(request) => Action::CreateProduct(request),
            Request::AdjustStock(request) => Action::AdjustStock(request),
            Request::SetStock(request) => Action::SetStock(request),
            Request::CreateCustomer(request) => Action::CreateCustomer(request),
            other => panic!("Shop::execute_request does not support {}", other.pattern()),
        };
        self.execute_as_operator(action)
    }

    /// Executes an action that is not a request, as an operator.
    pub(crate) fn execute_as_operator(&mut self, action: Action) -> Result<Value, Failure> {
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
        let created = self.execute_request(
            "order.create",
            json!({"customer_id": self.customer, "items": items}),
        )?;
        Ok(created["id"].as_str().unwrap().parse().unwrap())
    }

    pub(crate) fn cancel(&mut self, id: OrderId) -> Result<Value, Failure> {
        self.execute_request("order.cancel", json!({"id": id}))
    }

    pub(crate) fn webhook(
        &mut self,
        id: OrderId,
        update: ShipmentUpdate,
    ) -> Result<Value, Failure> {
        self.execute_request(
            "shipment.update",
            json!({"order_id": id, "type": update.as_str(), "timestamp": "2026-01-31T12:00:00Z"}),
        )
    }

    pub(crate) fn carry_out(&mut self, command: &Command) -> RpcReply {
        self.clock += 1;
        let rules = Rules {
            reservation_ttl: jiff::SignedDuration::from_mins(30),
            needs_approval: false,
            payment_provider: "sandbox".to_owned(),
            check_amount: order_worker::providers::check_amount,
            default_payment_method: Some("pm_ok".to_owned()),
            needs_verification: false,
            refunds_returns: true,
            storefront_prices: false,
        };
        let now = jiff::Timestamp::from_millisecond(self.clock).unwrap();
        let mut context = DecisionContext::new(now, self.clock.unsigned_abs());
        // Like the store, loads only the stock that the command needs.
        let mut needs = LoadSet::default();
        needs.add(command);
        let mut orders = self.working_set.orders.clone();
        orders.retain(|id, _| needs.orders.contains(id));
        let skus = needs.skus(&orders);
        let mut unneeded_stock = std::mem::take(&mut self.working_set.stock_levels);
        for sku in &skus {
            self.working_set.stock_levels.extend(
                unneeded_stock
                    .remove(sku)
                    .map(|shelves| (sku.clone(), shelves)),
            );
        }
        let reply = carry_out(&mut self.working_set, command, &rules, &mut context);
        self.working_set.stock_levels.append(&mut unneeded_stock);
        self.events.append(&mut self.working_set.dirty.events);
        self.check();
        reply
    }

    /// Executes a waiting step at the provider, and keeps the result as in flight.
    pub(crate) fn execute_step(&mut self, key: &StepKey, mode: ProviderMode) {
        let row = self.working_set.steps[key].clone();
        let order = self.working_set.orders[&key.order_id].clone();
        let busy = StepResult::Failed {
            error: "busy".to_owned(),
            is_transient: true,
            was_answered: true,
        };
        let result = match mode {
            ProviderMode::TransientError => busy,
            ProviderMode::NoFreeSlot => StepResult::Postponed {
                reason: "no free slot".to_owned(),
            },
            ProviderMode::LosesResponse => {
                self.respond_as_provider(&key.step, &order, mode);
                busy
            }
            ProviderMode::Refuses
                if matches!(key.step, Step::CapturePayment | Step::RefundPayment) =>
            {
                StepResult::Failed {
                    error: "refused".to_owned(),
                    is_transient: false,
                    was_answered: true,
                }
            }
            ProviderMode::Responds
            | ProviderMode::Declines
            | ProviderMode::RequiresAction
            | ProviderMode::Refuses => self.respond_as_provider(&key.step, &order, mode),
        };
        self.results.push((key.clone(), row.attempt, result));
    }

    fn respond_as_provider(
        &mut self,
        step: &Step,
        order: &Order,
        mode: ProviderMode,
    ) -> StepResult {
        let due = Due::of(order, &self.history(order.id));
        let payment = self.provider.entry(order.id).or_default();
        let declined = |message: &str| StepResult::Declined {
            code: "declined".to_owned(),
            message: message.to_owned(),
        };
        match step {
            Step::AuthorizePayment if payment.is_voided => declined("voided"),
            Step::AuthorizePayment if self.prepares && order.payment.reference.is_none() => {
                StepResult::Prepared {
                    provider: "sandbox".to_owned(),
                    reference: format!("ref-{}", order.number),
                }
            }
            Step::AuthorizePayment
                if payment.awaits_action
                    || (mode == ProviderMode::RequiresAction
                        && self.prepares
                        && payment.authorizations == 0
                        && !payment.is_declined) =>
            {
                payment.awaits_action = true;
                StepResult::ActionRequired(action())
            }
            // The same key gets the same result.
            Step::AuthorizePayment
                if payment.is_declined
                    || (mode == ProviderMode::Declines && payment.authorizations == 0) =>
            {
                payment.is_declined = true;
                declined("insufficient funds")
            }
            Step::AuthorizePayment => {
                if payment.authorizations == 0 {
                    payment.authorizations = 1;
                    payment.amount = order.total;
                }
                let reference = format!("ref-{}", order.number);
                StepResult::Authorized {
                    provider: "sandbox".to_owned(),
                    reference,
                    amount: payment.amount,
                }
            }
            Step::VoidPayment if payment.captured > 0 => {
                StepResult::PaymentState(payment_state(order, payment))
            }
            Step::CheckPayment => StepResult::PaymentState(payment_state(order, payment)),
            Step::VoidPayment => {
                payment.is_voided = true;
                payment.awaits_action = false;
                StepResult::Voided {
                    reference: (payment.authorizations > 0)
                        .then(|| format!("ref-{}", order.number)),
                }
            }
            Step::CapturePayment => {
                let requested = order.capture_due();
                assert!(
                    requested <= due.capture.max(order.payment.captured),
                    "{requested}: {due:?}"
                );
                if payment.is_voided || (payment.is_closed && requested > payment.captured) {
                    return StepResult::PaymentState(payment_state(order, payment));
                }
                assert_eq!(
                    payment.authorizations, 1,
                    "capture without an authorization"
                );
                let is_last = order.has_nothing_to_ship();
                if self.captures_in_parts || is_last || requested == payment.amount {
                    payment.captured = payment.captured.max(requested);
                    payment.is_closed |= is_last && payment.captured > 0;
                }
                StepResult::Captured {
                    amount: payment.captured,
                    requested,
                    is_last,
                }
            }
            Step::RefundPayment => {
                let requested = order.refund_due.max(order.payment.refunded);
                assert!(
                    requested <= due.refund.max(order.payment.refunded),
                    "{requested}: {due:?}"
                );
                payment.refunded = payment.refunded.max(requested).min(payment.captured);
                StepResult::Refunded {
                    amount: payment.refunded,
                }
            }
            Step::RequestShipment(warehouse) => StepResult::LabelCreated {
                carrier: "sandbox".to_owned(),
                tracking_number: format!("{}-{warehouse}", order.number),
            },
            Step::CancelShipment(_) => StepResult::LabelCancelled,
            Step::ExpireOrder | Step::ReserveStock => StepResult::NoExternalCall,
        }
    }

    /// Applies an action at the provider, with or without a notification.
    pub(crate) fn provider_event(&mut self, id: OrderId, what: ProviderEvent, is_notified: bool) {
        let payment = self.provider.entry(id).or_default();
        let is_authorized =
            payment.authorizations == 1 && !payment.is_voided && payment.captured == 0;
        match what {
            ProviderEvent::Authenticated if payment.awaits_action => {
                payment.awaits_action = false;
                payment.authorizations = 1;
                payment.amount = self.working_set.orders[&id].total;
            }
            ProviderEvent::AuthenticationFailed if payment.awaits_action => {
                payment.awaits_action = false;
                payment.is_declined = true;
            }
            ProviderEvent::Expired if is_authorized => payment.is_voided = true,
            ProviderEvent::Expired if payment.captured > 0 => payment.is_closed = true,
            ProviderEvent::Captured if is_authorized => payment.captured = payment.amount,
            ProviderEvent::PartlyCaptured(amount) if is_authorized => {
                payment.captured = amount.min(payment.amount);
                payment.is_closed = true;
            }
            ProviderEvent::Refunded(amount) => {
                payment.refunded = (payment.refunded + amount).min(payment.captured);
            }
            ProviderEvent::RefundFailed(amount) => {
                payment.refunded = (payment.refunded - amount).max(0);
            }
            _ => return,
        }
        if is_notified {
            self.notify(id);
        }
    }

    /// Delivers the provider's notification.
    pub(crate) fn notify(&mut self, id: OrderId) {
        let reference = self.working_set.orders[&id].payment.reference.clone();
        let reference = reference.unwrap_or_else(|| "unknown".to_owned());
        let notice = json!({"order_id": id, "reference": reference});
        self.execute_request("payment.notify", notice).unwrap();
    }

    /// Delivers a result; with `is_repeated` it can be delivered again.
    pub(crate) fn deliver_result(&mut self, index: usize, is_repeated: bool) {
        let (key, attempt, result) = self.results[index].clone();
        if !is_repeated {
            self.results.remove(index);
        }
        self.carry_out(&Command::Finish {
            key,
            attempt,
            result,
        });
    }

    /// Steps to execute, without dead ones and timers that are not due.
    pub(crate) fn due_steps(&self) -> Vec<StepKey> {
        let now = jiff::Timestamp::from_millisecond(self.clock).unwrap();
        let waits = |key: &&StepKey| {
            let row = &self.working_set.steps[*key];
            let is_due = !key.step.is_timer() || row.due_at <= now;
            is_due && !row.is_dead
        };
        self.working_set
            .steps
            .keys()
            .filter(waits)
            .cloned()
            .collect()
    }

    /// Executes all steps and delivers all results until nothing is left to do.
    pub(crate) fn run_until_settled(&mut self) {
        for _ in 0..1000 {
            while !self.results.is_empty() {
                self.deliver_result(0, false);
            }
            let due_steps = self.due_steps();
            if due_steps.is_empty() {
                return;
            }
            for key in due_steps {
                self.execute_step(&key, ProviderMode::Responds);
            }
        }
        panic!("the steps never settle: {:?}", self.working_set.steps);
    }

    /// The dead steps, which wait for an operator.
    pub(crate) fn dead(&self) -> Vec<StepKey> {
        let rows = self.working_set.steps.iter().filter(|(_, row)| row.is_dead);
        rows.map(|(key, _)| key.clone()).collect()
    }

    /// Discards every dead step, as an operator.
    pub(crate) fn discard_dead(&mut self) {
        for key in self.dead() {
            self.execute_as_operator(Action::DiscardStep(key)).unwrap();
        }
    }

    pub(crate) fn event_types(&self, id: OrderId) -> Vec<&'static str> {
        self.history(id)
            .iter()
            .map(|event| event.event_data.kind())
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

    /// Checks the invariants that hold after every command.
    fn check(&self) {
        let mut reserved: BTreeMap<_, i64> = BTreeMap::new();
        for order in self.working_set.orders.values() {
            let folded = Order::fold(&self.history(order.id)).unwrap().unwrap();
            assert_eq!(
                folded, *order,
                "the order differs from the fold of its events"
            );
            for item in &order.held {
                *reserved.entry((&item.sku, &item.warehouse)).or_default() +=
                    i64::from(item.quantity.get());
            }
            let is_over = matches!(
                order.status,
                OrderStatus::Cancelled | OrderStatus::Shipped | OrderStatus::Delivered
            );
            assert!(
                !is_over || order.held.is_empty(),
                "an order in status {} has reserved stock",
                order.status.as_str()
            );
            if order.status == OrderStatus::Cancelled {
                assert!(
                    order.uncancelled_shipments().next().is_none(),
                    "a cancelled order has active shipments"
                );
            }
        }
        for (sku, shelves) in &self.working_set.stock_levels {
            for (warehouse, shelf) in shelves {
                assert!(
                    shelf.is_valid(),
                    "oversold: {sku} in {warehouse}: {shelf:?}"
                );
                let reserved = reserved.get(&(sku, warehouse)).copied().unwrap_or_default();
                assert_eq!(
                    shelf.reserved, reserved,
                    "the reserved quantity differs from that of the open orders"
                );
            }
        }
        for (id, payment) in &self.provider {
            assert!(
                payment.authorizations <= 1
                    && payment.captured <= payment.amount
                    && payment.refunded <= payment.captured,
                "{id}: {payment:?}"
            );
        }
    }

    /// Checks that payments agree with the provider when nothing is in flight.
    pub(crate) fn check_settled(&self) {
        for order in self.working_set.orders.values() {
            let payment = self.provider.get(&order.id).cloned().unwrap_or_default();
            let expected = match order.payment.status {
                // A free order has no payment at the provider.
                PaymentStatus::Captured if order.total == 0 => (0, 0, 0, false),
                PaymentStatus::Authorized => (1, 0, 0, false),
                PaymentStatus::Captured
                | PaymentStatus::PartiallyRefunded
                | PaymentStatus::Refunded => {
                    (1, order.payment.captured, order.payment.refunded, false)
                }
                PaymentStatus::Voided => (payment.authorizations, 0, 0, true),
                // A voided payment may have been voided before the failure was known.
                PaymentStatus::Failed => (payment.authorizations, 0, 0, payment.is_voided),
                PaymentStatus::Pending => {
                    panic!("order {} is {:?}", order.number, order.payment.status)
                }
            };
            assert_eq!(
                (
                    payment.authorizations,
                    payment.captured,
                    payment.refunded,
                    payment.is_voided
                ),
                expected,
                "{order:?}"
            );
            let is_dead = |row: &StepRow| row.key.order_id == order.id && row.is_dead;
            if self.working_set.steps.values().any(is_dead) {
                continue;
            }
            let due = Due::of(order, &self.history(order.id));
            assert_eq!(
                (order.payment.refunded, order.payment.refunded),
                (order.refund_due, due.refund)
            );
            if self.captures_in_parts {
                let kept =
                    order.payment.captured - order.payment.refunded - order.refund_written_off;
                assert!(
                    order.payment.captured >= due.capture,
                    "shipped items are not captured"
                );
                assert!(
                    order.status != OrderStatus::Cancelled || kept == 0,
                    "a cancelled order is still paid"
                );
            }
        }
    }
}

/// The value of the first units of an order, shipping charge included: each unit of a product gets the same
/// share of its line items' total, and the first units get the minor units that remain.
pub(crate) fn worth(order: &Order, items: &[StockItem]) -> i64 {
    let shown = order.represent([]);
    let mut worth = 0;
    if !items.is_empty() {
        let added_tax = |taxes: &[Tax]| -> i64 {
            let added = taxes.iter().filter(|_| !order.tax_included);
            added.map(|tax| tax.amount).sum()
        };
        let shipping = shown.shipping.as_ref();
        worth += shown.shipping_total + shipping.map_or(0, |shipping| added_tax(&shipping.taxes));
    }
    let skus: BTreeSet<_> = items.iter().map(|item| &item.sku).collect();
    for sku in skus {
        let lines = || shown.items.iter().filter(|line| line.sku == *sku);
        let total: i64 = lines().map(|line| line.total).sum();
        let quantity: i64 = lines().map(|line| i64::from(line.quantity.get())).sum();
        let units = items.iter().filter(|item| item.sku == *sku);
        let units: i64 = units.map(|item| i64::from(item.quantity.get())).sum();
        worth += total / quantity * units + units.min(total % quantity);
    }
    worth
}

/// The totals that an order may request from its provider according to its history, without discarded amounts.
#[derive(Debug, Default)]
pub(crate) struct Due {
    pub(crate) capture: i64,
    pub(crate) refund: i64,
}

impl Due {
    fn of(order: &Order, history: &[Event]) -> Self {
        let (mut due, mut captured, mut refunded) = (Self::default(), 0, 0);
        let (mut written_off, mut shipped) = (0, Vec::new());
        for event in history {
            match &event.event_data {
                EventData::ShipmentShipped { items, .. } => {
                    let before = worth(order, &shipped);
                    shipped.extend_from_slice(items);
                    due.capture += worth(order, &shipped) - before;
                }
                EventData::PaymentCaptured { amount, .. } => {
                    captured += amount;
                    let restored = written_off.min(captured - due.capture).max(0);
                    due.capture += restored;
                    written_off -= restored;
                }
                EventData::RefundRequested { amount, .. } => due.refund += amount,
                EventData::PaymentRefunded { amount } => refunded += amount,
                EventData::RefundFailed { amount } => refunded -= amount,
                EventData::StepDiscarded { step, .. } if step == "capture_payment" => {
                    let outstanding = (due.capture - captured).max(0);
                    due.capture -= outstanding;
                    written_off += outstanding;
                }
                EventData::StepDiscarded { step, .. } if step == "refund_payment" => {
                    due.refund = due.refund.min(refunded);
                }
                _ => {}
            }
        }
        due
    }
}

fn action() -> NextAction {
    NextAction {
        kind: "use_stripe_sdk".to_owned(),
        url: None,
        client_secret: Some("pi_1_secret_1".to_owned()),
    }
}

fn payment_state(order: &Order, payment: &ProviderPayment) -> PaymentState {
    let authorization = match payment {
        ProviderPayment {
            is_voided: true, ..
        } => Authorization::Cancelled,
        ProviderPayment {
            awaits_action: true,
            ..
        } => Authorization::RequiresAction(action()),
        ProviderPayment {
            is_declined: true, ..
        } => Authorization::Declined {
            code: "declined".to_owned(),
            message: "insufficient funds".to_owned(),
        },
        ProviderPayment {
            authorizations: 0, ..
        } => Authorization::Pending,
        _ => Authorization::Authorized(payment.amount),
    };
    PaymentState {
        reference: format!("ref-{}", order.number),
        authorization,
        captured: payment.captured,
        refunded: payment.refunded,
        is_closed: payment.is_voided || payment.is_closed || payment.captured == payment.amount,
        version: order.version,
    }
}
