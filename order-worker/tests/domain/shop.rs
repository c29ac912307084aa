//! A complete shop in memory: the working set, the providers with their ledgers, and the results in flight.
//! Results may be lost, late or duplicated.

use std::collections::{BTreeMap, BTreeSet};

use order_worker::domain::{
    command::{Action, Command, ReturnChange, StepResult},
    decide::{Rules, carry_out},
    decision_context::DecisionContext,
    load_set::LoadSet,
    order::Order,
    payment::{Authorization, PaymentState},
    step::{LabelId, Step, StepKey, StepRow},
    working_set::WorkingSet,
};
use serde_json::{Value, json};
use shared::{
    event::{Event, EventData},
    id::OrderId,
    order::{
        Address, Label, NextAction, NotifyPayment, OrderStatus, PaymentStatus, ShipmentUpdate,
        StockItem, Tax, TransactionKind, TransactionStatus,
    },
    outcome::{Failure, RpcReply},
    request::{Caller, Request, Role},
};

use crate::state_format::assert_format_names_all_parts;

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
    /// Whether nothing more can be captured: the last capture was made, or the rest of the authorization has expired.
    pub(crate) is_closed_for_captures: bool,
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

/// A label at the carrier.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct CarrierLabel {
    /// Address of the shipment.
    pub(crate) address: Option<Address>,
    /// Whether it was cancelled; its key can't be used again.
    pub(crate) is_cancelled: bool,
}

#[expect(clippy::struct_excessive_bools, reason = "independent settings")]
pub(crate) struct Shop {
    pub(crate) working_set: WorkingSet,
    /// Payments for orders as they were created.
    pub(crate) order_payments: BTreeMap<OrderId, ProviderPayment>,
    /// Payments for edits, by number.
    pub(crate) edit_payments: BTreeMap<(OrderId, u32), ProviderPayment>,
    /// Labels at the carrier.
    pub(crate) labels: BTreeMap<(OrderId, LabelId), CarrierLabel>,
    pub(crate) customer_id: String,
    /// Results of providers that are not decided yet.
    pub(crate) step_results: Vec<(StepKey, u32, StepResult)>,
    /// Whether the provider supports partial captures.
    pub(crate) captures_in_parts: bool,
    /// Whether the provider creates a payment before confirming it.
    pub(crate) prepares_payments: bool,
    /// Whether returned shipments are refunded automatically.
    pub(crate) refunds_returns: bool,
    /// Whether new orders need approval.
    pub(crate) needs_approval: bool,
    events: Vec<Event>,
    pub(crate) clock_ms: i64,
}

/// A caller with the operator role.
pub(crate) fn operator() -> Caller {
    Caller {
        role: Role::Operator,
        storefront: shared::id::Storefront::default(),
        actor: "test".to_owned(),
        intent: "test".to_owned(),
        request_id: "r".to_owned(),
        trace_context: None,
    }
}

impl Shop {
    /// Creates a shop with a customer and this stock per product and warehouse.
    pub(crate) fn with_stock(stock: &[(&str, &str, i64)]) -> Self {
        Self::with_stock_in("EUR", stock)
    }

    /// As [`Self::with_stock`], with prices in another currency.
    pub(crate) fn with_stock_in(currency: &str, stock: &[(&str, &str, i64)]) -> Self {
        let mut shop = Self {
            working_set: WorkingSet {
                next_order_numbers: (1..=1_000).collect(),
                ..WorkingSet::default()
            },
            order_payments: BTreeMap::new(),
            edit_payments: BTreeMap::new(),
            labels: BTreeMap::new(),
            customer_id: String::new(),
            step_results: Vec::new(),
            captures_in_parts: true,
            prepares_payments: false,
            refunds_returns: true,
            needs_approval: false,
            events: Vec::new(),
            clock_ms: 1_700_000_000_000,
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
            .clone_into(&mut shop.customer_id);
        for (sku, warehouse, on_hand) in stock {
            let product = json!({"sku": sku, "name": sku, "price": 100, "currency": currency});
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
            Request::UpdateOrder(request) => Action::UpdateOrder(request),
            Request::RecordPayment(request) => Action::RecordPayment(request),
            Request::UpdateShipment(request) => Action::UpdateShipment(request),
            Request::NotifyPayment(NotifyPayment {
                order_id,
                reference,
            }) => Action::NotifyPayment {
                order_id: order_id.unwrap(),
                reference,
            },
            Request::EditOrder(request) => Action::EditOrder(request),
            Request::CancelEdit(request) => Action::CancelEdit(request),
            Request::ApproveOrder(request) => Action::ApproveOrder(request),
            Request::CancelShipment(request) => Action::CancelShipment(request),
            Request::CancelRemaining(request) => Action::CancelRemaining(request),
            Request::RemoveStock(request) => Action::RemoveStock(request),
            Request::CreateProduct(request) => Action::CreateProduct(request),
            Request::AddImage(request) => Action::AddImage(request),
            Request::RemoveImage(request) => Action::RemoveImage(request),
            Request::ReorderImages(request) => Action::ReorderImages(request),
            Request::AdjustStock(request) => Action::AdjustStock(request),
            Request::SetStock(request) => Action::SetStock(request),
            Request::CreateCustomer(request) => Action::CreateCustomer(request),
            Request::CreateReturn(request) => Action::CreateReturn(request),
            Request::ApproveReturn(request) => self.return_action(ReturnChange::Approve(request)),
            Request::RejectReturn(request) => self.return_action(ReturnChange::Reject(request)),
            Request::CancelReturn(request) => self.return_action(ReturnChange::Cancel(request)),
            Request::ReceiveReturn(request) => self.return_action(ReturnChange::Receive(request)),
            other_request => panic!(
                "Shop::execute_request does not support {}",
                other_request.pattern()
            ),
        };
        self.execute_as_operator(action)
    }

    /// The action that changes a return, with its order, as the RPC server looks it up.
    fn return_action(&self, return_change: ReturnChange) -> Action {
        let return_id = return_change.id();
        let mut orders = self.working_set.orders.values();
        let order = orders.find(|order| order.find_return(return_id).is_some());
        Action::ChangeReturn {
            order_id: order.map(|order| order.id),
            change: return_change,
        }
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
        .map(|reply_json| reply_json.value())
    }

    pub(crate) fn order(&mut self, items: &[(&str, u32)]) -> Result<OrderId, Failure> {
        let items: Vec<Value> = items
            .iter()
            .map(|(sku, quantity)| json!({"sku": sku, "quantity": quantity}))
            .collect();
        let created_order = self.execute_request(
            "order.create",
            json!({"customer_id": self.customer_id, "items": items}),
        )?;
        Ok(created_order["id"].as_str().unwrap().parse().unwrap())
    }

    pub(crate) fn cancel(&mut self, id: OrderId) -> Result<Value, Failure> {
        self.execute_request("order.cancel", json!({"id": id}))
    }

    pub(crate) fn apply_webhook(
        &mut self,
        id: OrderId,
        shipment_update: ShipmentUpdate,
    ) -> Result<Value, Failure> {
        self.execute_request(
            "shipment.update",
            json!({"order_id": id, "type": shipment_update.as_str(), "timestamp": "2026-01-31T12:00:00Z"}),
        )
    }

    pub(crate) fn carry_out(&mut self, command: &Command) -> RpcReply {
        self.clock_ms += 1;
        let rules = Rules {
            reservation_ttl: jiff::SignedDuration::from_mins(30),
            manual_payment_ttl: jiff::SignedDuration::from_hours(168),
            needs_approval: self.needs_approval,
            payment_provider: "sandbox".to_owned(),
            check_amount: order_worker::providers::check_amount,
            default_payment_method: Some("pm_ok".to_owned()),
            needs_verification: false,
            refunds_returns: self.refunds_returns,
            sends_messages: false,
            allows_storefront_prices: false,
        };
        let now = jiff::Timestamp::from_millisecond(self.clock_ms).unwrap();
        let mut context = DecisionContext::new(now, self.clock_ms.unsigned_abs());
        // Like the store, loads only the stock that the command needs.
        let mut load_set = LoadSet::default();
        load_set.add(command);
        let orders = self.working_set.orders.iter();
        let orders = orders
            .filter(|(id, _)| load_set.orders.contains(id))
            .map(|(id, order)| (*id, order.clone()))
            .collect();
        let skus = load_set.skus(&orders);
        let mut unneeded_stock = std::mem::take(&mut self.working_set.stock_levels);
        for sku in &skus {
            self.working_set.stock_levels.extend(
                unneeded_stock
                    .remove(sku)
                    .map(|stock_levels| (sku.clone(), stock_levels)),
            );
        }
        let reply = carry_out(&mut self.working_set, command, &rules, &mut context);
        self.working_set.stock_levels.append(&mut unneeded_stock);
        self.events.append(&mut self.working_set.changes.events);
        self.check_invariants();
        reply
    }

    /// Executes a waiting step at the provider, and keeps the result as in flight.
    pub(crate) fn execute_step(&mut self, key: &StepKey, mode: ProviderMode) {
        let step_row = self.working_set.steps[key].clone();
        let order = self.working_set.orders[&key.order_id].clone();
        let busy_result = StepResult::Failed {
            error: "busy".to_owned(),
            is_transient: true,
            was_answered: true,
            retry_after: None,
        };
        let step_result = match mode {
            ProviderMode::TransientError => busy_result,
            ProviderMode::NoFreeSlot => StepResult::Postponed {
                reason: "no free slot".to_owned(),
            },
            ProviderMode::LosesResponse => {
                self.respond_as_provider(&key.step, &order, mode);
                busy_result
            }
            ProviderMode::Refuses
                if matches!(key.step, Step::CapturePayment | Step::RefundPayment) =>
            {
                StepResult::Failed {
                    error: "refused".to_owned(),
                    is_transient: false,
                    was_answered: true,
                    retry_after: None,
                }
            }
            ProviderMode::Responds
            | ProviderMode::Declines
            | ProviderMode::RequiresAction
            | ProviderMode::Refuses => self.respond_as_provider(&key.step, &order, mode),
        };
        self.step_results
            .push((key.clone(), step_row.attempt, step_result));
    }

    #[expect(clippy::too_many_lines, reason = "one arm per step")]
    fn respond_as_provider(
        &mut self,
        step: &Step,
        order: &Order,
        mode: ProviderMode,
    ) -> StepResult {
        let due_amounts = match step {
            Step::CapturePayment | Step::RefundPayment => {
                DueAmounts::of_order(order, &self.history(order.id))
            }
            _ => DueAmounts::default(),
        };
        let (payment_number, payment_reference) = match step {
            Step::AuthorizeEdit(edit_number) => {
                let pending_edit = order.pending_edit.as_ref();
                (
                    *edit_number,
                    pending_edit.and_then(|pending_edit| pending_edit.reference.clone()),
                )
            }
            Step::VoidAuthorization(edit_number) => (*edit_number, None),
            _ => (
                order.authorized_edit_number,
                order.payment.reference.clone(),
            ),
        };
        let payment = match payment_number {
            0 => self.order_payments.entry(order.id).or_default(),
            edit_number => self
                .edit_payments
                .entry((order.id, edit_number))
                .or_default(),
        };
        let declined_result = |message: &str| StepResult::Declined {
            code: "declined".to_owned(),
            message: message.to_owned(),
        };
        match step {
            Step::AuthorizePayment | Step::AuthorizeEdit(_) if payment.is_voided => {
                declined_result("voided")
            }
            Step::AuthorizePayment | Step::AuthorizeEdit(_)
                if self.prepares_payments && payment_reference.is_none() =>
            {
                StepResult::PaymentCreated {
                    provider: "sandbox".to_owned(),
                    reference: reference_of(order, payment_number),
                }
            }
            Step::AuthorizePayment | Step::AuthorizeEdit(_)
                if payment.awaits_action
                    || (mode == ProviderMode::RequiresAction
                        && self.prepares_payments
                        && payment.authorizations == 0
                        && !payment.is_declined) =>
            {
                payment.awaits_action = true;
                StepResult::ActionRequired(customer_action())
            }
            // The same key gets the same result.
            Step::AuthorizePayment | Step::AuthorizeEdit(_)
                if payment.is_declined
                    || (mode == ProviderMode::Declines && payment.authorizations == 0) =>
            {
                payment.is_declined = true;
                declined_result("insufficient funds")
            }
            Step::AuthorizePayment | Step::AuthorizeEdit(_) => {
                if payment.authorizations == 0 {
                    payment.authorizations = 1;
                    let pending_edit = order.pending_edit.as_ref();
                    payment.amount =
                        pending_edit.map_or(order.total, |pending_edit| pending_edit.total);
                }
                StepResult::Authorized {
                    provider: "sandbox".to_owned(),
                    reference: reference_of(order, payment_number),
                    amount: payment.amount,
                }
            }
            Step::VoidAuthorization(_) if payment.captured > 0 => StepResult::Failed {
                error: "it is captured".to_owned(),
                is_transient: false,
                was_answered: true,
                retry_after: None,
            },
            Step::VoidPayment if payment.captured > 0 => {
                StepResult::PaymentState(payment_state(order, payment))
            }
            Step::CheckPayment => StepResult::PaymentState(payment_state(order, payment)),
            Step::VoidPayment | Step::VoidAuthorization(_) => {
                payment.is_voided = true;
                payment.awaits_action = false;
                StepResult::Voided {
                    reference: (payment.authorizations > 0)
                        .then(|| reference_of(order, payment_number)),
                }
            }
            Step::CapturePayment => {
                let requested_total = order.total_to_capture();
                assert!(
                    requested_total <= due_amounts.total_to_capture.max(order.payment.captured),
                    "{requested_total}: {due_amounts:?}"
                );
                if payment.is_voided
                    || (payment.is_closed_for_captures && requested_total > payment.captured)
                {
                    return StepResult::PaymentState(payment_state(order, payment));
                }
                assert_eq!(
                    payment.authorizations, 1,
                    "capture without an authorization"
                );
                let is_last_capture = order.has_nothing_to_ship();
                if self.captures_in_parts || is_last_capture || requested_total == payment.amount {
                    payment.captured = payment.captured.max(requested_total);
                    payment.is_closed_for_captures |= is_last_capture && payment.captured > 0;
                }
                StepResult::Captured {
                    amount: payment.captured,
                    requested_total,
                    is_last_capture,
                }
            }
            Step::RefundPayment => {
                let requested_refund = order.total_refund_due.max(order.payment.refunded);
                assert!(
                    requested_refund <= due_amounts.total_refund_due.max(order.payment.refunded),
                    "{requested_refund}: {due_amounts:?}"
                );
                payment.refunded = payment.refunded.max(requested_refund).min(payment.captured);
                StepResult::Refunded {
                    amount: payment.refunded,
                }
            }
            Step::RequestShipment(label_id) => create_label(&mut self.labels, order, label_id),
            Step::CancelShipment(label_id) => {
                let label = self.labels.entry((order.id, label_id.clone())).or_default();
                label.is_cancelled = true;
                StepResult::LabelCancelled
            }
            Step::ExpireOrder | Step::ExpireEdit(_) | Step::ReserveStock => {
                StepResult::NoExternalCall
            }
        }
    }

    /// Applies an action at the provider, with or without a notification.
    pub(crate) fn apply_provider_event(
        &mut self,
        id: OrderId,
        event: ProviderEvent,
        is_notified: bool,
    ) {
        let payment = match self.working_set.orders[&id].authorized_edit_number {
            0 => self.order_payments.entry(id).or_default(),
            edit_number => self.edit_payments.entry((id, edit_number)).or_default(),
        };
        let is_authorized =
            payment.authorizations == 1 && !payment.is_voided && payment.captured == 0;
        match event {
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
            ProviderEvent::Expired if payment.captured > 0 => payment.is_closed_for_captures = true,
            ProviderEvent::Captured if is_authorized => payment.captured = payment.amount,
            ProviderEvent::PartlyCaptured(amount) if is_authorized => {
                payment.captured = amount.min(payment.amount);
                payment.is_closed_for_captures = true;
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
        let payment_reference = self.working_set.orders[&id].payment.reference.clone();
        let payment_reference = payment_reference.unwrap_or_else(|| "unknown".to_owned());
        let notification = json!({"order_id": id, "reference": payment_reference});
        self.execute_request("payment.notify", notification)
            .unwrap();
    }

    /// Delivers a result; with `stays_in_flight` it can be delivered again.
    pub(crate) fn deliver_result(&mut self, result_index: usize, stays_in_flight: bool) {
        let (key, attempt, result) = self.step_results[result_index].clone();
        if !stays_in_flight {
            self.step_results.remove(result_index);
        }
        self.carry_out(&Command::FinishStep {
            key,
            attempt,
            result,
        });
    }

    /// Steps to execute, without dead ones and timers that are not due.
    pub(crate) fn due_steps(&self) -> Vec<StepKey> {
        let now = jiff::Timestamp::from_millisecond(self.clock_ms).unwrap();
        let is_waiting = |key: &&StepKey| {
            let row = &self.working_set.steps[*key];
            let is_due = !key.step.is_timer_or_check() || row.due_at <= now;
            is_due && !row.is_dead
        };
        self.working_set
            .steps
            .keys()
            .filter(is_waiting)
            .cloned()
            .collect()
    }

    /// Executes all steps and delivers all results until nothing is left to do.
    pub(crate) fn run_until_settled(&mut self) {
        for _ in 0..1000 {
            while !self.step_results.is_empty() {
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
    pub(crate) fn dead_steps(&self) -> Vec<StepKey> {
        let rows = self.working_set.steps.iter().filter(|(_, row)| row.is_dead);
        rows.map(|(key, _)| key.clone()).collect()
    }

    /// Discards every dead step, as an operator.
    pub(crate) fn discard_dead_steps(&mut self) {
        for key in self.dead_steps() {
            self.execute_as_operator(Action::DiscardStep(key)).unwrap();
        }
    }

    pub(crate) fn event_types(&self, id: OrderId) -> Vec<&'static str> {
        self.history(id)
            .iter()
            .map(|event| event.event_data.kind())
            .collect()
    }

    pub(crate) fn history(&self, id: OrderId) -> Vec<Event> {
        self.events_of(id).cloned().collect()
    }

    pub(crate) fn events_of(&self, id: OrderId) -> impl Iterator<Item = &Event> {
        let id_text = id.to_string();
        self.events
            .iter()
            .filter(move |event| event.subject == id_text)
    }

    /// Checks the invariants that hold after every command.
    fn check_invariants(&self) {
        let is_changed = |order: &Order| order.updated_at.as_millisecond() == self.clock_ms;
        let mut reserved_units: BTreeMap<_, i64> = BTreeMap::new();
        for order in self.working_set.orders.values() {
            if is_changed(order) {
                let folded_order =
                    Order::fold_with_transactions_of(order, self.events_of(order.id));
                let folded_order = folded_order.unwrap().unwrap();
                assert_eq!(
                    folded_order, *order,
                    "the order differs from the fold of its events"
                );
                assert_format_names_all_parts(order);
            }
            let transactions = order.transactions();
            assert_eq!(
                [
                    transactions.sum(TransactionKind::Capture, TransactionStatus::Success),
                    transactions.sum(TransactionKind::Refund, TransactionStatus::Success),
                    transactions.sum(TransactionKind::Refund, TransactionStatus::Pending),
                ],
                [
                    order.payment.captured,
                    order.payment.refunded,
                    order.outstanding_refund()
                ],
                "the transactions do not add up: {transactions:?}"
            );
            assert_eq!(order.sum_of_parts(), order.total, "its parts do not add up");
            let pending_edit = order.pending_edit.as_ref();
            assert_eq!(
                order.sum_of_pending_edit(),
                pending_edit.map(|edit| edit.total)
            );
            assert!(
                pending_edit.is_none() || order.status == OrderStatus::Processing,
                "an edit of an order in status {} is pending",
                order.status.as_str()
            );
            for reserved_item in order.reserved_items.iter().chain(
                pending_edit
                    .iter()
                    .flat_map(|pending_edit| &pending_edit.reserved),
            ) {
                *reserved_units
                    .entry((&reserved_item.sku, &reserved_item.warehouse))
                    .or_default() += i64::from(reserved_item.quantity.get());
            }
            let is_finished = matches!(
                order.status,
                OrderStatus::Cancelled | OrderStatus::Shipped | OrderStatus::Delivered
            );
            assert!(
                !is_finished || order.reserved_items.is_empty(),
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
        for (sku, levels_by_warehouse) in &self.working_set.stock_levels {
            for (warehouse, stock_level) in levels_by_warehouse {
                assert!(
                    stock_level.is_valid(),
                    "oversold: {sku} in {warehouse}: {stock_level:?}"
                );
                let reserved_count = reserved_units
                    .get(&(sku, warehouse))
                    .copied()
                    .unwrap_or_default();
                assert_eq!(
                    stock_level.reserved, reserved_count,
                    "the reserved quantity differs from that of the open orders"
                );
            }
        }
        let edit_payments = self
            .edit_payments
            .iter()
            .map(|((id, _), payment)| (id, payment));
        for (id, payment) in self.order_payments.iter().chain(edit_payments) {
            assert!(
                payment.authorizations <= 1
                    && payment.captured <= payment.amount
                    && payment.refunded <= payment.captured,
                "{id}: {payment:?}"
            );
        }
    }

    /// The payment for the order's edit with this number at the provider.
    pub(crate) fn payment_at_provider(&self, order: &Order, edit_number: u32) -> ProviderPayment {
        let payment = match edit_number {
            0 => self.order_payments.get(&order.id),
            edit_number => self.edit_payments.get(&(order.id, edit_number)),
        };
        payment.cloned().unwrap_or_default()
    }

    /// Checks that payments agree with the provider when nothing is in flight.
    pub(crate) fn check_settled(&self) {
        let orders = self.working_set.orders.values();
        for order in orders.filter(|order| !order.is_paid_manually()) {
            let payment = self.payment_at_provider(order, order.authorized_edit_number);
            // A free order has no authorization, also if it had one before an edit.
            let is_free = order.total == 0 && order.payment.captured == 0;
            let is_other =
                |edit_number: &u32| *edit_number != order.authorized_edit_number || is_free;
            for edit_number in (0..=order.last_edit_number).filter(is_other) {
                let other_payment = self.payment_at_provider(order, edit_number);
                assert!(
                    other_payment.authorizations == 0
                        || other_payment.is_voided
                        || other_payment.captured > 0,
                    "authorization {edit_number} was left open: {other_payment:?}, {order:?}"
                );
            }
            let expected_payment = match order.payment.status {
                PaymentStatus::Captured if is_free => {
                    (payment.authorizations, 0, 0, payment.is_voided)
                }
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
                expected_payment,
                "{order:?}"
            );
            let is_dead = |row: &StepRow| row.key.order_id == order.id && row.is_dead;
            if self.working_set.steps.values().any(is_dead) {
                continue;
            }
            let labels = self.labels.iter();
            for ((_, label_id), label) in
                labels.filter(|((label_order_id, _), _)| *label_order_id == order.id)
            {
                assert!(
                    label.is_cancelled
                        || order.is_redacted()
                        || label.address == order.shipping_address,
                    "label {label_id} has another address than order {}",
                    order.number
                );
            }
            let due_amounts = DueAmounts::of_order(order, &self.history(order.id));
            assert_eq!(
                (order.payment.refunded, order.payment.refunded),
                (order.total_refund_due, due_amounts.total_refund_due)
            );
            if self.captures_in_parts {
                let kept_amount =
                    order.payment.captured - order.payment.refunded - order.refund_written_off;
                assert!(
                    order.payment.captured >= due_amounts.total_to_capture,
                    "shipped items are not captured"
                );
                assert!(
                    order.status != OrderStatus::Cancelled || kept_amount == 0,
                    "a cancelled order is still paid"
                );
            }
        }
    }
}

/// The value of the first units of an order, shipping charge included: each unit of a product gets the same
/// share of its line items' total, and the first units get the minor units that remain.
pub(crate) fn price_of_items(order: &Order, items: &[StockItem]) -> i64 {
    let order_json = order.represent([]);
    let mut price = 0;
    if !items.is_empty() {
        let added_tax = |taxes: &[Tax]| -> i64 {
            let taxes_to_add = taxes.iter().filter(|_| !order.tax_included);
            taxes_to_add.map(|tax| tax.amount).sum()
        };
        let shipping_charge = order_json.shipping.as_ref();
        price += order_json.shipping_total
            + shipping_charge.map_or(0, |shipping_charge| added_tax(&shipping_charge.taxes));
    }
    let skus: BTreeSet<_> = items.iter().map(|item| &item.sku).collect();
    for sku in skus {
        let lines = || order_json.items.iter().filter(|line| line.sku == *sku);
        let lines_total: i64 = lines().map(|line| line.total).sum();
        let ordered_quantity: i64 = lines().map(|line| i64::from(line.quantity.get())).sum();
        let items_of_sku = items.iter().filter(|item| item.sku == *sku);
        let unit_count: i64 = items_of_sku
            .map(|item| i64::from(item.quantity.get()))
            .sum();
        price += lines_total / ordered_quantity * unit_count
            + unit_count.min(lines_total % ordered_quantity);
    }
    price
}

/// The totals that an order may request from its provider according to its history, without discarded amounts.
#[derive(Debug, Default)]
pub(crate) struct DueAmounts {
    /// Sum of all captures, in minor units.
    pub(crate) total_to_capture: i64,
    /// Sum of all refunds, in minor units.
    pub(crate) total_refund_due: i64,
}

impl DueAmounts {
    fn of_order(order: &Order, history: &[Event]) -> Self {
        let (mut due_amounts, mut captured_amount, mut refunded_amount) = (Self::default(), 0, 0);
        let (mut written_off_amount, mut shipped_items) = (0, Vec::new());
        for event in history {
            match &event.event_data {
                EventData::ShipmentShipped { items, .. } => {
                    let price_before = price_of_items(order, &shipped_items);
                    shipped_items.extend_from_slice(items);
                    due_amounts.total_to_capture +=
                        price_of_items(order, &shipped_items) - price_before;
                }
                EventData::PaymentCaptured { amount, .. } => {
                    captured_amount += amount;
                    let restored_amount = written_off_amount
                        .min(captured_amount - due_amounts.total_to_capture)
                        .max(0);
                    due_amounts.total_to_capture += restored_amount;
                    written_off_amount -= restored_amount;
                }
                EventData::RefundRequested { amount, .. } => due_amounts.total_refund_due += amount,
                EventData::PaymentRefunded { amount, .. } => refunded_amount += amount,
                EventData::RefundFailed { amount } => refunded_amount -= amount,
                EventData::StepDiscarded { step, .. } if step == "capture_payment" => {
                    let outstanding_amount =
                        (due_amounts.total_to_capture - captured_amount).max(0);
                    due_amounts.total_to_capture -= outstanding_amount;
                    written_off_amount += outstanding_amount;
                }
                EventData::StepDiscarded { step, .. } if step == "refund_payment" => {
                    due_amounts.total_refund_due =
                        due_amounts.total_refund_due.min(refunded_amount);
                }
                _ => {}
            }
        }
        due_amounts
    }
}

/// The provider's id of the payment for the order's edit with this number.
fn reference_of(order: &Order, edit_number: u32) -> String {
    match edit_number {
        0 => format!("ref-{}", order.number),
        edit_number => format!("ref-{}-{edit_number}", order.number),
    }
}

/// Creates a label at the carrier, once; the key of a cancelled one can't be used.
fn create_label(
    labels: &mut BTreeMap<(OrderId, LabelId), CarrierLabel>,
    order: &Order,
    label_id: &LabelId,
) -> StepResult {
    let new_label = CarrierLabel {
        address: order.shipping_address.clone(),
        is_cancelled: false,
    };
    if labels
        .entry((order.id, label_id.clone()))
        .or_insert(new_label)
        .is_cancelled
    {
        return StepResult::Failed {
            error: "the label was cancelled".to_owned(),
            is_transient: false,
            was_answered: true,
            retry_after: None,
        };
    }
    StepResult::LabelCreated(expected_label(order, label_id))
}

fn customer_action() -> NextAction {
    NextAction {
        action_type: "use_stripe_sdk".to_owned(),
        action_url: None,
        client_secret: Some("pi_1_secret_1".to_owned()),
    }
}

/// The label that the carrier creates.
fn expected_label(order: &Order, label_id: &LabelId) -> Label {
    let tracking_number = format!("{}-{label_id}", order.number);
    Label {
        tracking_url: Some(format!("https://track.example.com/{tracking_number}")),
        label_url: Some(format!("https://labels.example.com/{tracking_number}")),
        ..Label::new("sandbox", tracking_number)
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
        } => Authorization::RequiresAction(customer_action()),
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
        reference: reference_of(order, order.authorized_edit_number),
        authorization,
        captured: payment.captured,
        refunded: payment.refunded,
        is_closed: payment.is_voided
            || payment.is_closed_for_captures
            || payment.captured == payment.amount,
        order_version: order.version,
    }
}
