//! Manual payments, and the transactions of all payments: payments in parts, too much money, money of orders
//! that were cancelled or have expired, refunds by hand, and the states of earlier versions.

use order_worker::domain::{
    command::{Action, Command, StepResult},
    order::MAX_TRANSACTIONS,
    step::{Step, StepKey},
};
use proptest::{collection::vec, prelude::*};
use serde_json::{Value, json};
use shared::{
    id::OrderId,
    order::{OrderStatus, PaymentStatus, ShipmentUpdate},
    outcome::{Code, Failure},
    request::{Caller, Request, Role},
};

use crate::shop::{ProviderEvent, ProviderMode, ProviderPayment, Shop, operator};

/// An order of 4 units at 100 each, to be paid manually.
fn shop_with_unpaid_order() -> (Shop, OrderId) {
    let mut shop = Shop::with_stock(&[("A", "main", 10)]);
    let id = shop.create_manually_paid_order(4);
    (shop, id)
}

fn shop_with_paid_order() -> (Shop, OrderId) {
    let (mut shop, id) = shop_with_unpaid_order();
    shop.record_payment(id, 400, false).unwrap();
    shop.run_until_settled();
    (shop, id)
}

impl Shop {
    fn create_manually_paid_order(&mut self, quantity: u32) -> OrderId {
        let body = json!({"customer_id": self.customer_id, "payment_method": "manual",
            "items": [{"sku": "A", "quantity": quantity}]});
        let created_order = self.execute_request("order.create", body).unwrap();
        created_order["id"].as_str().unwrap().parse().unwrap()
    }

    fn record_payment(
        &mut self,
        id: OrderId,
        amount: i64,
        is_overpaid: bool,
    ) -> Result<Value, Failure> {
        let body =
            json!({"id": id, "amount": amount, "overpaid": is_overpaid, "reference": "transfer"});
        self.execute_request("payment.record", body)
    }

    fn record_refund(&mut self, id: OrderId, mut body: Value) -> Result<Value, Failure> {
        body["id"] = json!(id);
        self.execute_request("order.refund", body)
    }

    /// Fires the timer of the reservation, early.
    fn expire_reservation(&mut self, id: OrderId) {
        let key = step_key(id, Step::ExpireOrder);
        if self.working_set.steps.contains_key(&key) {
            self.execute_step(&key, ProviderMode::Responds);
            self.deliver_result(self.step_results.len() - 1, false);
        }
    }

    fn has_called_no_provider(&self) -> bool {
        let mut payments = self.order_payments.values();
        payments.all(|payment| *payment == ProviderPayment::default())
    }

    /// The dead refund's message, if there is one.
    fn message_of_manual_refund(&self, id: OrderId) -> Option<String> {
        let step_row = self
            .working_set
            .steps
            .get(&step_key(id, Step::RefundPayment))?;
        assert!(step_row.is_dead, "{step_row:?}");
        step_row.last_error.clone()
    }

    /// Kind, amount and status of each transaction.
    fn transaction_texts(&self, id: OrderId) -> Vec<String> {
        let order_json = serde_json::to_value(self.stored_order(id).represent([])).unwrap();
        let transactions = order_json["transactions"].as_array().unwrap().iter();
        transactions
            .map(|transaction| {
                let text_member =
                    |member_name: &str| transaction[member_name].as_str().unwrap().to_owned();
                format!(
                    "{} {} {}",
                    text_member("kind"),
                    transaction["amount"],
                    text_member("status")
                )
            })
            .collect()
    }
}

fn step_key(order_id: OrderId, step: Step) -> StepKey {
    StepKey { order_id, step }
}

#[test]
fn manual_payment_in_parts_starts_the_order_at_its_total_without_a_provider() {
    let (mut shop, id) = shop_with_unpaid_order();
    assert_eq!(shop.stored_order(id).payment.provider, "manual");
    let expires_at = shop.working_set.steps[&step_key(id, Step::ExpireOrder)].due_at;
    let reservation_time = expires_at.duration_since(shop.stored_order(id).created_at);
    assert_eq!(reservation_time.as_hours(), 7 * 24);
    assert_eq!(shop.due_steps(), []);

    shop.record_payment(id, 150, false).unwrap();
    let order = shop.stored_order(id);
    let statuses_and_captured = (order.status, order.payment.status, order.payment.captured);
    assert_eq!(
        statuses_and_captured,
        (OrderStatus::Pending, PaymentStatus::Pending, 150)
    );
    let refusal = shop.record_payment(id, 251, false).unwrap_err();
    let errors = refusal.errors().unwrap();
    assert_eq!(errors[0]["pointer"], "/amount");
    assert!(
        errors[0]["detail"]
            .as_str()
            .unwrap()
            .contains("only 250 are outstanding"),
        "{errors}"
    );

    shop.record_payment(id, 250, false).unwrap();
    let order = shop.stored_order(id);
    let statuses_and_captured = (order.status, order.payment.status, order.payment.captured);
    assert_eq!(
        statuses_and_captured,
        (OrderStatus::Processing, PaymentStatus::Captured, 400)
    );
    assert!(
        !shop
            .working_set
            .steps
            .contains_key(&step_key(id, Step::ExpireOrder))
    );
    shop.run_until_settled();
    shop.apply_webhook(id, ShipmentUpdate::Delivered).unwrap();
    shop.run_until_settled();
    assert_eq!(shop.stored_order(id).status, OrderStatus::Delivered);
    assert!(shop.has_called_no_provider(), "{:?}", shop.order_payments);
    assert_eq!(
        shop.transaction_texts(id),
        ["capture 150 success", "capture 250 success"]
    );
}

#[test]
fn too_much_money_is_recorded_only_on_request_and_can_be_paid_back() {
    let (mut shop, id) = shop_with_unpaid_order();
    shop.record_payment(id, 450, true).unwrap();
    assert_eq!(shop.stored_order(id).status, OrderStatus::Processing);
    assert_eq!(
        shop.record_payment(id, 1, false).unwrap_err().code,
        Code::InvalidRequest
    );
    shop.record_refund(id, json!({"amount": 50, "reference": "back"}))
        .unwrap();
    shop.record_refund(id, json!({"amount": 401})).unwrap_err();
    let payment = &shop.stored_order(id).payment;
    assert_eq!((payment.captured, payment.refunded), (450, 50));
    // Returned items are paid back in full.
    shop.apply_webhook(id, ShipmentUpdate::Returned).unwrap();
    assert!(
        shop.message_of_manual_refund(id)
            .unwrap()
            .starts_with("400 minor units")
    );
    shop.record_refund(id, json!({})).unwrap();
    assert_eq!(
        shop.stored_order(id).payment.status,
        PaymentStatus::Refunded
    );
    assert_eq!(
        shop.transaction_texts(id),
        [
            "capture 450 success",
            "refund 50 success",
            "refund 400 success"
        ]
    );
    assert_eq!(shop.dead_steps(), []);
}

#[test]
fn expiry_with_a_part_of_the_money_leaves_a_refund_to_an_operator() {
    let (mut shop, id) = shop_with_unpaid_order();
    shop.record_payment(id, 150, false).unwrap();
    shop.expire_reservation(id);
    let order = shop.stored_order(id);
    assert_eq!(order.status, OrderStatus::Cancelled);
    assert_eq!(order.payment.status, PaymentStatus::Captured);
    assert!(
        shop.message_of_manual_refund(id)
            .unwrap()
            .starts_with("150 minor units")
    );
    assert_eq!(
        shop.transaction_texts(id),
        ["capture 150 success", "refund 150 pending"]
    );

    // No step can pay it back.
    let key = step_key(id, Step::RefundPayment);
    let refusal = shop
        .execute_as_operator(Action::RedriveStep(key))
        .unwrap_err();
    assert_eq!(refusal.code, Code::InvalidState);
    // In two parts; never more than was received.
    shop.record_refund(id, json!({"amount": 151})).unwrap_err();
    shop.record_refund(id, json!({"amount": 50})).unwrap();
    assert!(
        shop.message_of_manual_refund(id)
            .unwrap()
            .starts_with("100 minor units")
    );
    shop.record_refund(id, json!({"reason": "the rest"}))
        .unwrap();
    assert_eq!(shop.message_of_manual_refund(id), None);
    assert_eq!(
        shop.stored_order(id).payment.status,
        PaymentStatus::Refunded
    );
    let refusal = shop.record_refund(id, json!({})).unwrap_err();
    assert_eq!(refusal.code, Code::InvalidState);
    let event_types = shop.event_types(id);
    let event_types = event_types
        .iter()
        .filter(|kind| **kind == "payment.refund_requested");
    assert_eq!(event_types.count(), 1);
}

#[test]
fn unpaid_order_that_is_cancelled_or_expires_has_nothing_to_pay_back() {
    for does_expire in [true, false] {
        let (mut shop, id) = shop_with_unpaid_order();
        if does_expire {
            shop.expire_reservation(id);
        } else {
            shop.cancel(id).unwrap();
        }
        let order = shop.stored_order(id);
        assert_eq!(order.status, OrderStatus::Cancelled);
        assert_eq!(order.payment.status, PaymentStatus::Voided);
        assert_eq!(shop.transaction_texts(id), [""; 0]);
        assert!(
            shop.working_set.steps.is_empty(),
            "{:?}",
            shop.working_set.steps
        );
        // Money that arrives late is recorded only on request, and is to be paid back.
        let refusal = shop.record_payment(id, 400, false).unwrap_err();
        assert_eq!(refusal.code, Code::InvalidState);
        shop.record_payment(id, 400, true).unwrap();
        assert_eq!(shop.stored_order(id).status, OrderStatus::Cancelled);
        assert!(
            shop.message_of_manual_refund(id)
                .unwrap()
                .starts_with("400 minor units")
        );
        shop.record_payment(id, 10, true).unwrap();
        assert!(
            shop.message_of_manual_refund(id)
                .unwrap()
                .starts_with("410 minor units")
        );
        shop.record_refund(id, json!({})).unwrap();
        assert_eq!(shop.dead_steps(), []);
    }
}

#[test]
fn payment_and_expiry_at_the_same_time_have_one_winner() {
    let (mut shop, id) = shop_with_unpaid_order();
    shop.execute_step(&step_key(id, Step::ExpireOrder), ProviderMode::Responds);
    shop.record_payment(id, 400, false).unwrap();
    shop.deliver_result(0, true);
    shop.deliver_result(0, false);
    assert_eq!(shop.stored_order(id).status, OrderStatus::Processing);
    shop.cancel(id).unwrap();
    assert!(
        shop.message_of_manual_refund(id)
            .unwrap()
            .starts_with("400 minor units")
    );
}

#[test]
fn discarded_refund_of_a_manual_payment_can_be_recorded_later() {
    let (mut shop, id) = shop_with_paid_order();
    shop.cancel(id).unwrap();
    shop.discard_dead_steps();
    assert_eq!(
        shop.transaction_texts(id),
        ["capture 400 success", "refund 400 failed"]
    );
    shop.record_refund(id, json!({})).unwrap();
    let order = shop.stored_order(id);
    assert_eq!((order.payment.refunded, order.refund_written_off), (400, 0));
    assert_eq!(
        shop.transaction_texts(id),
        [
            "capture 400 success",
            "refund 400 failed",
            "refund 400 success"
        ]
    );
}

#[test]
fn refund_of_units_is_recorded_beside_the_one_that_is_due() {
    let (mut shop, id) = shop_with_paid_order();
    let shipment_of_units =
        |quantity| json!({"id": id, "items": [{"sku": "A", "quantity": quantity}]});
    shop.execute_request("shipment.create", shipment_of_units(3))
        .unwrap();
    shop.execute_request("order.cancel_remaining", json!({"id": id}))
        .unwrap();
    shop.run_until_settled();
    assert!(
        shop.message_of_manual_refund(id)
            .unwrap()
            .starts_with("100 minor units")
    );
    let items = json!([{"sku": "A", "quantity": 2}]);
    shop.record_refund(id, json!({"items": items})).unwrap();
    let order = shop.stored_order(id);
    assert_eq!(
        (order.payment.refunded, order.outstanding_refund()),
        (200, 100)
    );
    assert!(
        shop.message_of_manual_refund(id)
            .unwrap()
            .starts_with("100 minor units")
    );
    shop.record_refund(id, json!({"items": items})).unwrap_err();
    shop.record_refund(id, json!({})).unwrap();
    assert_eq!(shop.stored_order(id).payment.refunded, 300);
    assert_eq!(shop.message_of_manual_refund(id), None);
}

#[test]
fn approval_comes_before_or_after_the_money() {
    for is_paid_first in [true, false] {
        let mut shop = Shop::with_stock(&[("A", "main", 10)]);
        shop.needs_approval = true;
        let id = shop.create_manually_paid_order(4);
        assert!(shop.working_set.steps.is_empty());
        if is_paid_first {
            shop.record_payment(id, 400, false).unwrap();
            assert_eq!(shop.stored_order(id).status, OrderStatus::Pending);
            shop.execute_request("order.approve", json!({"id": id}))
                .unwrap();
        } else {
            shop.execute_request("order.approve", json!({"id": id}))
                .unwrap();
            assert!(
                shop.working_set
                    .steps
                    .contains_key(&step_key(id, Step::ExpireOrder))
            );
            shop.record_payment(id, 400, false).unwrap();
        }
        assert_eq!(shop.stored_order(id).status, OrderStatus::Processing);
        assert!(
            !shop
                .working_set
                .steps
                .contains_key(&step_key(id, Step::ExpireOrder))
        );
    }
}

#[test]
fn only_operators_record_payments_and_only_of_manual_orders() {
    let (mut shop, id) = shop_with_unpaid_order();
    let sandbox_order_id = shop.order(&[("A", 1)]).unwrap();
    let refusal = shop.record_payment(sandbox_order_id, 1, true).unwrap_err();
    assert_eq!(refusal.code, Code::InvalidState);
    assert!(refusal.message.contains("sandbox"), "{}", refusal.message);
    shop.run_until_settled();
    shop.apply_webhook(sandbox_order_id, ShipmentUpdate::Delivered)
        .unwrap();
    shop.run_until_settled();
    let refusal = shop
        .record_refund(sandbox_order_id, json!({"reference": "x"}))
        .unwrap_err();
    assert_eq!(refusal.errors().unwrap()[0]["pointer"], "/reference");

    let Request::RecordPayment(request) =
        Request::read("payment.record", json!({"id": id, "amount": 1})).unwrap()
    else {
        panic!("it is another request")
    };
    let storefront = Caller {
        role: Role::Storefront,
        ..operator()
    };
    let reply = shop.carry_out(&Command::Request {
        caller: storefront,
        idempotency: None,
        if_match: None,
        action: Action::RecordPayment(request),
    });
    assert_eq!(reply.outcome.unwrap_err().code, Code::Forbidden);
    for (field, wrong_value) in [
        ("amount", json!(0)),
        ("amount", json!(-5)),
        ("reference", json!(" ")),
        ("reference", json!("x".repeat(201))),
        ("received_at", json!("tomorrow")),
        ("received_at", json!("2999-01-01T00:00:00Z")),
        ("overpaid", json!("yes")),
    ] {
        let mut body = json!({"id": id, "amount": 1});
        body[field] = wrong_value.clone();
        let refusal = shop.execute_request("payment.record", body).unwrap_err();
        let errors = refusal.errors().unwrap();
        assert_eq!(errors[0]["pointer"], format!("/{field}"), "{wrong_value}");
    }
}

#[test]
fn free_manual_order_is_processed_at_once() {
    let mut shop = Shop::with_stock(&[("A", "main", 10)]);
    let body = json!({"customer_id": shop.customer_id, "payment_method": "manual",
        "items": [{"sku": "A", "quantity": 1, "unit_price": 0}]});
    let created_order = shop.execute_request("order.create", body).unwrap();
    assert_eq!(created_order["status"], "processing");
    assert_eq!(created_order["transactions"], json!([]));
    let id = created_order["id"].as_str().unwrap().parse().unwrap();
    assert_eq!(
        shop.record_payment(id, 1, true).unwrap_err().code,
        Code::InvalidState
    );
}

#[test]
fn transactions_of_an_order_are_bounded_and_still_add_up() {
    let mut shop = Shop::with_stock(&[("A", "main", 10)]);
    let body = json!({"customer_id": shop.customer_id, "payment_method": "manual",
        "items": [{"sku": "A", "quantity": 1, "unit_price": 100_000}]});
    let created_order = shop.execute_request("order.create", body).unwrap();
    let id: OrderId = created_order["id"].as_str().unwrap().parse().unwrap();
    for _ in 0..MAX_TRANSACTIONS - 1 {
        shop.record_payment(id, 1, false).unwrap();
    }
    shop.record_payment(id, 100_000, true).unwrap();
    assert_eq!(
        shop.record_payment(id, 1, true).unwrap_err().code,
        Code::InvalidState
    );
    for _ in 0..20 {
        shop.record_refund(id, json!({"amount": 10})).unwrap();
    }
    // One more for each kind and status at most.
    assert!(shop.transaction_texts(id).len() <= MAX_TRANSACTIONS + 2);
}

#[test]
fn erasure_removes_the_references_of_manual_payments() {
    let (mut shop, id) = shop_with_paid_order();
    shop.cancel(id).unwrap();
    shop.record_refund(id, json!({"reference": "to Ada"}))
        .unwrap();
    let references = |shop: &Shop| -> Vec<Option<String>> {
        let order = shop.stored_order(id).represent([]);
        let transactions = order.transactions.into_iter();
        transactions
            .map(|transaction| transaction.reference)
            .collect()
    };
    let recorded_references =
        ["transfer", "to Ada"].map(|reference_text| Some(reference_text.to_owned()));
    assert_eq!(references(&shop), recorded_references);
    shop.execute_as_operator(Action::RedactOrder(id)).unwrap();
    assert_eq!(references(&shop), [None, None]);
}

#[test]
fn transactions_of_a_provider_follow_its_payment() {
    let mut shop = Shop::with_stock(&[("A", "main", 10)]);
    shop.prepares_payments = true;
    let id = shop.order(&[("A", 4)]).unwrap();
    for _ in 0..2 {
        let key = step_key(id, Step::AuthorizePayment);
        shop.execute_step(&key, ProviderMode::RequiresAction);
        shop.deliver_result(0, false);
    }
    assert_eq!(shop.transaction_texts(id), ["authorization 400 pending"]);
    shop.apply_provider_event(id, ProviderEvent::Authenticated, true);
    shop.run_until_settled();
    assert_eq!(shop.transaction_texts(id), ["authorization 400 success"]);
    let shipment_of_one = json!({"id": id, "items": [{"sku": "A", "quantity": 1}]});
    shop.execute_request("shipment.create", shipment_of_one)
        .unwrap();
    shop.run_until_settled();
    shop.execute_request("order.refund", json!({"id": id, "amount": 60}))
        .unwrap();
    assert_eq!(
        shop.transaction_texts(id),
        [
            "authorization 400 success",
            "capture 100 success",
            "refund 60 pending"
        ]
    );
    shop.run_until_settled();
    // The bank returns 20 of the refunded amount.
    shop.apply_provider_event(id, ProviderEvent::RefundFailed(20), true);
    shop.run_until_settled();
    assert_eq!(
        shop.transaction_texts(id)[2..],
        ["refund 40 success", "refund 20 failed", "refund 20 pending"]
    );
    let order = shop.stored_order(id).represent([]);
    let references = order
        .transactions
        .iter()
        .map(|transaction| transaction.reference.as_deref());
    assert!(
        references.eq([Some("ref-1"); 5]),
        "{:?}",
        order.transactions
    );
    let transaction_ids: std::collections::BTreeSet<_> = order
        .transactions
        .iter()
        .map(|transaction| transaction.id)
        .collect();
    assert_eq!(transaction_ids.len(), 5);

    let declined_id = shop.order(&[("A", 1)]).unwrap();
    for _ in 0..2 {
        let key = step_key(declined_id, Step::AuthorizePayment);
        shop.execute_step(&key, ProviderMode::Declines);
        shop.deliver_result(0, false);
    }
    assert_eq!(
        shop.transaction_texts(declined_id),
        ["authorization 100 failed"]
    );
    let cancelled_id = shop.order(&[("A", 1)]).unwrap();
    shop.run_until_settled();
    shop.cancel(cancelled_id).unwrap();
    shop.run_until_settled();
    assert_eq!(
        shop.transaction_texts(cancelled_id),
        ["authorization 100 success", "void 100 success"]
    );
}

#[test]
fn orders_of_earlier_versions_get_a_summary_that_follows_from_their_state() {
    for drops_transactions_again in [true, false] {
        let mut shop = Shop::with_stock(&[("A", "main", 10)]);
        let id = shop.order(&[("A", 4)]).unwrap();
        shop.run_until_settled();
        let shipment_of_one = json!({"id": id, "items": [{"sku": "A", "quantity": 1}]});
        shop.execute_request("shipment.create", shipment_of_one)
            .unwrap();
        shop.run_until_settled();
        // As an earlier version stores it.
        shop.forget_transactions(id);
        let summary = ["authorization 400 success", "capture 100 success"];
        assert_eq!(shop.transaction_texts(id), summary);
        shop.execute_request("order.refund", json!({"id": id, "amount": 60}))
            .unwrap();
        let transactions_before = shop.stored_order(id).represent([]).transactions;
        assert_eq!(shop.transaction_texts(id)[2..], ["refund 60 pending"]);
        if drops_transactions_again {
            shop.forget_transactions(id);
        }
        shop.run_until_settled();
        assert_eq!(shop.transaction_texts(id)[2..], ["refund 60 success"]);
        if !drops_transactions_again {
            let transactions_after = shop.stored_order(id).represent([]).transactions;
            let transaction_ids = |transactions: &[shared::order::Transaction]| -> Vec<_> {
                transactions
                    .iter()
                    .map(|transaction| transaction.id)
                    .collect()
            };
            assert_eq!(
                transaction_ids(&transactions_before),
                transaction_ids(&transactions_after)
            );
        }
        shop.execute_request("shipment.create", json!({"id": id}))
            .unwrap();
        shop.run_until_settled();
        shop.check_settled();
    }
}

impl Shop {
    /// Removes the transactions from the state, as a worker of an earlier version does.
    fn forget_transactions(&mut self, id: OrderId) {
        let order = self.working_set.orders.get_mut(&id).unwrap();
        let mut order_state = serde_json::to_value(&*order).unwrap();
        order_state.as_object_mut().unwrap().remove("transactions");
        *order = serde_json::from_value(order_state).unwrap();
    }
}

#[test]
fn steps_that_an_earlier_version_scheduled_for_a_manual_payment_end() {
    let (mut shop, id) = shop_with_paid_order();
    let step_row = shop.working_set.steps.values().next().cloned();
    assert_eq!(step_row, None);
    shop.cancel(id).unwrap();
    let key = step_key(id, Step::RefundPayment);
    let mut step_row = shop.working_set.steps[&key].clone();
    step_row.is_dead = false;
    shop.working_set.steps.insert(key.clone(), step_row.clone());
    shop.carry_out(&Command::FinishStep {
        key,
        attempt: step_row.attempt,
        result: StepResult::NoExternalCall,
    });
    assert!(
        shop.message_of_manual_refund(id)
            .unwrap()
            .starts_with("400 minor units")
    );
}

#[derive(Debug, Clone)]
enum RandomAction {
    Pay(i64, bool),
    PayBack(Option<i64>),
    PayBackUnits(u32),
    Cancel,
    CancelRemaining,
    Ship(u32),
    ShipperWebhook(usize),
    Expire,
    ExecuteStep(usize, bool),
    DiscardDeadSteps,
    RedriveDeadSteps,
    ForgetTransactions,
}

fn random_action() -> impl Strategy<Value = RandomAction> {
    prop_oneof![
        6 => (1..300_i64, any::<bool>()).prop_map(|(amount, is_overpaid)| RandomAction::Pay(amount, is_overpaid)),
        3 => prop::option::of(1..300_i64).prop_map(RandomAction::PayBack),
        2 => (1..3_u32).prop_map(RandomAction::PayBackUnits),
        1 => Just(RandomAction::Cancel),
        1 => Just(RandomAction::CancelRemaining),
        3 => (1..4_u32).prop_map(RandomAction::Ship),
        3 => (0..6_usize).prop_map(RandomAction::ShipperWebhook),
        1 => Just(RandomAction::Expire),
        4 => (0..4_usize, any::<bool>()).prop_map(|(step_index, is_delivered_twice)| RandomAction::ExecuteStep(step_index, is_delivered_twice)),
        1 => Just(RandomAction::DiscardDeadSteps),
        1 => Just(RandomAction::RedriveDeadSteps),
        1 => Just(RandomAction::ForgetTransactions),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn manual_money_adds_up_in_any_order(random_actions in vec(random_action(), 1..40)) {
        let (mut shop, id) = shop_with_unpaid_order();
        for random_action in random_actions {
            let order_before = shop.stored_order(id).clone();
            match random_action {
                RandomAction::Pay(amount, is_overpaid) => {
                    let recorded_payment = shop.record_payment(id, amount, is_overpaid);
                    prop_assert_eq!(recorded_payment.is_ok(), is_overpaid || amount <= order_before.outstanding_payment(), "{:?}", recorded_payment);
                }
                RandomAction::PayBack(amount) => {
                    let body = amount.map_or(json!({}), |amount| json!({"amount": amount}));
                    let refundable_amount = order_before.payment.captured - order_before.payment.refunded;
                    let recorded_refund = shop.record_refund(id, body);
                    let is_possible = order_before.status != OrderStatus::Pending && amount.unwrap_or(1) <= refundable_amount;
                    prop_assert_eq!(recorded_refund.is_ok(), is_possible, "{:?}", recorded_refund);
                }
                RandomAction::PayBackUnits(quantity) => {
                    let _ = shop.record_refund(id, json!({"items": [{"sku": "A", "quantity": quantity}]}));
                }
                RandomAction::Cancel => drop(shop.cancel(id)),
                RandomAction::CancelRemaining => {
                    let _ = shop.execute_request("order.cancel_remaining", json!({"id": id}));
                }
                RandomAction::Ship(quantity) => {
                    let items = json!([{"sku": "A", "quantity": quantity}]);
                    let _ = shop.execute_request("shipment.create", json!({"id": id, "items": items}));
                }
                RandomAction::ShipperWebhook(update_index) => drop(shop.apply_webhook(id, ShipmentUpdate::ALL[update_index])),
                RandomAction::Expire => shop.expire_reservation(id),
                RandomAction::ExecuteStep(step_index, is_delivered_twice) => {
                    let due_steps = shop.due_steps();
                    if let Some(key) = due_steps.get(step_index) {
                        shop.execute_step(key, ProviderMode::Responds);
                        shop.deliver_result(0, is_delivered_twice);
                        if is_delivered_twice {
                            shop.deliver_result(0, false);
                        }
                    }
                }
                RandomAction::DiscardDeadSteps => shop.discard_dead_steps(),
                RandomAction::RedriveDeadSteps => {
                    for key in shop.dead_steps() {
                        let is_refund = key.step == Step::RefundPayment;
                        let redrive_result = shop.execute_as_operator(Action::RedriveStep(key));
                        prop_assert_eq!(redrive_result.is_err(), is_refund);
                    }
                }
                RandomAction::ForgetTransactions => shop.forget_transactions(id),
            }
            let order = shop.stored_order(id);
            prop_assert!(order.payment.refunded <= order.payment.captured);
            prop_assert!(order.payment.captured >= order_before.payment.captured);
            prop_assert!(order.payment.refunded >= order_before.payment.refunded);
            prop_assert!(order.total_refund_due <= order.payment.captured);
            // Only a paid order is processed, and a cancelled one keeps no money without an operator's decision.
            let is_paid = order.payment.captured >= order.total;
            prop_assert!(is_paid || matches!(order.status, OrderStatus::Pending | OrderStatus::Cancelled));
            prop_assert!(!is_paid || order.status != OrderStatus::Pending);
            if order.status == OrderStatus::Cancelled {
                prop_assert_eq!(order.refundable_automatically(), 0);
            }
            prop_assert_eq!(shop.message_of_manual_refund(id).is_some(), order.outstanding_refund() > 0);
            prop_assert!(shop.has_called_no_provider());
            let has_payment_step = shop.due_steps().iter().any(|key| key.step.kind().ends_with("payment"));
            prop_assert!(!has_payment_step);
        }
        // The amount that is due is paid back exactly once.
        if shop.stored_order(id).outstanding_refund() > 0 {
            let refund_due = shop.stored_order(id).total_refund_due;
            shop.record_refund(id, json!({})).unwrap();
            prop_assert_eq!(shop.stored_order(id).payment.refunded, refund_due);
        }
        shop.run_until_settled();
        prop_assert_eq!(shop.dead_steps(), []);
    }
}

fn edit_quantity(shop: &mut Shop, id: OrderId, quantity: u32) -> Result<Value, Failure> {
    let items = json!([{"sku": "A", "quantity": quantity}]);
    shop.execute_request("order.edit", json!({"id": id, "items": items}))
}

#[test]
fn unpaid_order_is_edited_without_an_authorization() {
    let (mut shop, id) = shop_with_unpaid_order();
    edit_quantity(&mut shop, id, 6).unwrap();
    let order = shop.stored_order(id);
    assert_eq!((order.total, order.outstanding_payment()), (600, 600));
    assert!(order.pending_edit.is_none());
    shop.record_payment(id, 500, false).unwrap();
    assert_eq!(shop.stored_order(id).status, OrderStatus::Pending);
    // The received amount is enough for the lower total, so the order is processed.
    edit_quantity(&mut shop, id, 5).unwrap();
    shop.run_until_settled();
    assert_eq!(
        (
            shop.stored_order(id).status,
            shop.stored_order(id).payment.status
        ),
        (OrderStatus::Processing, PaymentStatus::Captured)
    );
    assert_eq!(shop.message_of_manual_refund(id), None);
    assert!(shop.has_called_no_provider());
    shop.check_settled();
}

#[test]
fn order_that_was_paid_manually_is_edited_down_only() {
    let (mut shop, id) = shop_with_paid_order();
    let failure = edit_quantity(&mut shop, id, 5).unwrap_err();
    assert_eq!(failure.code, Code::InvalidState, "{failure}");
    edit_quantity(&mut shop, id, 3).unwrap();
    assert!(
        shop.message_of_manual_refund(id)
            .unwrap()
            .starts_with("100 minor")
    );
    shop.record_refund(id, json!({"amount": 100})).unwrap();
    assert_eq!(shop.message_of_manual_refund(id), None);
    assert_eq!(shop.stored_order(id).payment.refunded, 100);
    shop.check_settled();
}

#[test]
fn overpayment_stays_when_the_order_is_edited() {
    let (mut shop, id) = shop_with_unpaid_order();
    shop.record_payment(id, 450, true).unwrap();
    shop.run_until_settled();
    edit_quantity(&mut shop, id, 2).unwrap();
    assert!(
        shop.message_of_manual_refund(id)
            .unwrap()
            .starts_with("200 minor")
    );
    shop.check_settled();
}

#[test]
fn unpaid_order_that_becomes_free_is_processed() {
    let (mut shop, id) = shop_with_unpaid_order();
    let edit = json!({"id": id, "discounts": [{"label": "gift", "amount": 400}]});
    shop.execute_request("order.edit", edit).unwrap();
    shop.run_until_settled();
    assert_eq!(
        (
            shop.stored_order(id).status,
            shop.stored_order(id).payment.status
        ),
        (OrderStatus::Processing, PaymentStatus::Captured)
    );
    shop.check_settled();
}
