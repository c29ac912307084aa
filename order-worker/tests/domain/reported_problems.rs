//! Problems that users of other systems reported, each with a test.

use order_worker::domain::{
    command::{Action, Command, StepResult},
    decision::OrderDraft,
    decision_context::DecisionContext,
    step::{Step, StepKey},
};
use shared::{
    event::{EventData, Origin},
    order::{OrderStatus, PaymentStatus, ShipmentUpdate},
    outcome::Code,
};

use crate::shop::{ProviderMode, Shop};

/// medusa 4946: the payment was authorized, then completing the cart failed because of missing stock.
#[test]
fn no_payment_is_requested_if_out_of_stock() {
    let mut shop = Shop::with_stock(&[("A", "main", 1)]);
    shop.order(&[("A", 1)]).unwrap();
    let step_count_before = shop.working_set.steps.len();
    assert_eq!(shop.order(&[("A", 1)]).unwrap_err().code, Code::OutOfStock);
    assert_eq!(
        shop.working_set.steps.len(),
        step_count_before,
        "a payment was requested"
    );
    assert_eq!(shop.working_set.orders.len(), 1);
}

/// medusa 13301: two concurrent calls captured the same payment twice.
#[test]
fn concurrent_captures_capture_once() {
    let mut shop = Shop::with_stock(&[("A", "main", 1)]);
    let id = shop.order(&[("A", 1)]).unwrap();
    shop.run_until_settled();
    shop.apply_webhook(id, ShipmentUpdate::Shipped).unwrap();
    let key = StepKey {
        order_id: id,
        step: Step::CapturePayment,
    };
    // Two workers execute the same redelivered step before either result is decided.
    shop.execute_step(&key, ProviderMode::Responds);
    shop.execute_step(&key, ProviderMode::Responds);
    shop.run_until_settled();
    assert_eq!(shop.order_payments[&id].captured, 100);
    assert_eq!(
        shop.event_types(id)
            .iter()
            .filter(|event_type| **event_type == "payment.captured")
            .count(),
        1
    );
    assert_eq!(shop.working_set.orders[&id].payment.captured, 100);
}

/// pinelab vendure plugins 620: a webhook that was received three times settled the payment three times.
#[test]
fn notification_received_three_times_is_applied_once() {
    let mut shop = Shop::with_stock(&[("A", "main", 1)]);
    let id = shop.order(&[("A", 1)]).unwrap();
    let key = StepKey {
        order_id: id,
        step: Step::AuthorizePayment,
    };
    shop.execute_step(&key, ProviderMode::Responds);
    for _ in 0..3 {
        shop.deliver_result(0, true);
    }
    for _ in 0..3 {
        shop.apply_webhook(id, ShipmentUpdate::Shipped).unwrap();
        shop.apply_webhook(id, ShipmentUpdate::Delivered).unwrap();
    }
    shop.run_until_settled();
    for event_type in [
        "payment.authorized",
        "payment.captured",
        "order.shipped",
        "order.delivered",
    ] {
        assert_eq!(
            shop.event_types(id)
                .iter()
                .filter(|recorded_type| **recorded_type == event_type)
                .count(),
            1,
            "{event_type}"
        );
    }
}

/// vendure 3065: two customers paid for the last item.
#[test]
fn last_item_is_paid_by_one_customer() {
    let mut shop = Shop::with_stock(&[("A", "main", 1)]);
    let order_outcomes = [shop.order(&[("A", 1)]), shop.order(&[("A", 1)])];
    assert!(order_outcomes[0].is_ok());
    assert_eq!(
        order_outcomes[1].as_ref().unwrap_err().code,
        Code::OutOfStock
    );
    shop.run_until_settled();
    assert_eq!(shop.order_payments.len(), 1);
}

/// medusa 5457: an order could not be cancelled once its payment was captured.
#[test]
fn captured_order_can_be_cancelled_and_refunded_before_shipping() {
    let mut shop = Shop::with_stock(&[("A", "main", 1)]);
    let id = shop.order(&[("A", 1)]).unwrap();
    shop.run_until_settled();
    // Captured early, as in a provider's dashboard.
    let origin = Origin {
        actor: "provider".to_owned(),
        intent: "capture".to_owned(),
        request_id: "r".to_owned(),
        attempt: None,
        trace_context: None,
    };
    let mut context = DecisionContext::new("2026-01-31T12:00:00Z".parse().unwrap(), 1);
    let mut draft = OrderDraft::from_order(&shop.working_set.orders[&id], &origin, &mut context);
    draft.record(EventData::captured(100, false)).unwrap();
    shop.working_set.apply(draft.into_decision().changes);
    shop.order_payments.get_mut(&id).unwrap().captured = 100;

    shop.cancel(id).unwrap();
    shop.run_until_settled();
    let order = &shop.working_set.orders[&id];
    assert_eq!(
        (order.status, order.payment.status),
        (OrderStatus::Cancelled, PaymentStatus::Refunded)
    );
    assert_eq!(shop.order_payments[&id].refunded, 100);
}

/// Cancelling while the provider is being called: a later authorization is voided.
#[test]
fn authorization_after_the_cancel_is_voided() {
    let mut shop = Shop::with_stock(&[("A", "main", 1)]);
    let id = shop.order(&[("A", 1)]).unwrap();
    let key = StepKey {
        order_id: id,
        step: Step::AuthorizePayment,
    };
    shop.execute_step(&key, ProviderMode::Responds);
    shop.cancel(id).unwrap();
    shop.run_until_settled();
    assert_eq!(shop.order_payments[&id].authorizations, 1);
    assert!(shop.order_payments[&id].is_voided);
    let order = &shop.working_set.orders[&id];
    assert_eq!(
        (order.status, order.payment.status),
        (OrderStatus::Cancelled, PaymentStatus::Voided)
    );
}

/// An authorization that the provider receives after the void is refused, since its key was voided.
#[test]
fn authorization_request_after_the_void_is_refused() {
    let mut shop = Shop::with_stock(&[("A", "main", 1)]);
    let id = shop.order(&[("A", 1)]).unwrap();
    let authorize_key = StepKey {
        order_id: id,
        step: Step::AuthorizePayment,
    };
    let waiting_row = shop.working_set.steps[&authorize_key].clone();
    shop.cancel(id).unwrap();
    shop.run_until_settled();
    // The first request was delayed until now.
    shop.working_set
        .steps
        .insert(authorize_key.clone(), waiting_row);
    shop.execute_step(&authorize_key, ProviderMode::Responds);
    shop.working_set.steps.remove(&authorize_key);
    shop.run_until_settled();
    assert_eq!(shop.order_payments[&id].authorizations, 0);
    assert_eq!(shop.working_set.orders[&id].status, OrderStatus::Cancelled);
}

/// A failing step is dead after a limited number of attempts, and visible to an operator.
#[test]
fn step_without_retries_left_is_dead_with_its_error() {
    let mut shop = Shop::with_stock(&[("A", "main", 1)]);
    let id = shop.order(&[("A", 1)]).unwrap();
    let key = StepKey {
        order_id: id,
        step: Step::AuthorizePayment,
    };
    let mut attempt_count = 0;
    while !shop.working_set.steps[&key].is_dead {
        shop.execute_step(&key, ProviderMode::TransientError);
        shop.deliver_result(0, false);
        attempt_count += 1;
        assert!(attempt_count <= 100, "the step never became dead");
    }
    assert_eq!(
        attempt_count,
        Step::AuthorizePayment.retry_policy().attempts
    );
    assert_eq!(
        shop.working_set.steps[&key].last_error.as_deref(),
        Some("busy")
    );
    assert_eq!(shop.event_types(id).last(), Some(&"step.dead"));
    // The order still expires, and its payment is voided.
    shop.execute_step(
        &StepKey {
            order_id: id,
            step: Step::ExpireOrder,
        },
        ProviderMode::Responds,
    );
    shop.run_until_settled();
    assert_eq!(
        shop.working_set.orders[&id].payment.status,
        PaymentStatus::Voided
    );
}

/// While a provider is not called for an hour, postponed payments use up no attempts, and the order does not
/// change.
#[test]
fn postponing_a_step_uses_up_no_attempts() {
    let mut shop = Shop::with_stock(&[("A", "main", 1)]);
    let id = shop.order(&[("A", 1)]).unwrap();
    let key = StepKey {
        order_id: id,
        step: Step::AuthorizePayment,
    };
    let order_before = shop.working_set.orders[&id].clone();
    for attempt in 1..=100 {
        let step_row = shop.working_set.steps[&key].clone();
        assert_eq!(
            (step_row.attempt, step_row.failures, step_row.is_dead),
            (attempt, 0, false)
        );
        shop.execute_step(&key, ProviderMode::NoFreeSlot);
        // A duplicate result postpones the step only once.
        shop.deliver_result(0, true);
        shop.deliver_result(0, false);
        let pause_ms = shop.working_set.steps[&key].due_at.as_millisecond() - shop.clock_ms;
        assert!((0..=60_000).contains(&pause_ms), "{pause_ms} ms");
    }
    assert_eq!(shop.working_set.orders[&id], order_before);
    shop.run_until_settled();
    assert_eq!(shop.working_set.orders[&id].status, OrderStatus::Processing);
    shop.check_settled();
}

/// A redriven step is a new attempt with all of its retries, and late results of earlier attempts are ignored.
#[test]
fn redriven_step_has_all_retries_and_ignores_late_results() {
    let mut shop = Shop::with_stock(&[("A", "main", 1)]);
    let id = shop.order(&[("A", 1)]).unwrap();
    let key = StepKey {
        order_id: id,
        step: Step::AuthorizePayment,
    };
    let max_attempts = Step::AuthorizePayment.retry_policy().attempts;
    for _ in 0..max_attempts {
        shop.execute_step(&key, ProviderMode::TransientError);
        // Each result is delivered a second time, much later.
        shop.deliver_result(shop.step_results.len() - 1, true);
    }
    assert!(shop.working_set.steps[&key].is_dead);
    shop.execute_as_operator(Action::RedriveStep(key.clone()))
        .unwrap();
    let step_row = shop.working_set.steps[&key].clone();
    assert_eq!(
        (step_row.attempt, step_row.failures, step_row.is_dead),
        (max_attempts + 1, 0, false)
    );
    while !shop.step_results.is_empty() {
        shop.deliver_result(0, false);
    }
    assert_eq!(
        shop.working_set.steps[&key], step_row,
        "late results change nothing"
    );
    for _ in 1..max_attempts {
        shop.execute_step(&key, ProviderMode::TransientError);
        shop.deliver_result(0, false);
        assert!(!shop.working_set.steps[&key].is_dead);
    }
    shop.run_until_settled();
    shop.check_settled();
    let refusal = shop
        .execute_as_operator(Action::RedriveStep(key))
        .unwrap_err();
    assert_eq!(
        refusal.code,
        Code::NotFound,
        "only dead or retrying steps can be redriven"
    );
}

/// When a provider recovers after hours, an operator can start retries immediately.
#[test]
fn pending_retry_can_be_started_immediately() {
    let mut shop = Shop::with_stock(&[("A", "main", 1)]);
    let id = shop.order(&[("A", 1)]).unwrap();
    let key = StepKey {
        order_id: id,
        step: Step::AuthorizePayment,
    };
    let redrive_action = || Action::RedriveStep(key.clone());
    assert_eq!(
        shop.execute_as_operator(redrive_action()).unwrap_err().code,
        Code::NotFound,
        "a step that has not failed can't be redriven"
    );
    for _ in 0..3 {
        shop.execute_step(&key, ProviderMode::TransientError);
        shop.deliver_result(0, false);
    }
    let waiting_step = shop.working_set.steps[&key].clone();
    assert!(waiting_step.due_at.as_millisecond() > shop.clock_ms);
    let discard_reply = shop.execute_as_operator(Action::DiscardStep(key.clone()));
    assert_eq!(
        discard_reply.unwrap_err().code,
        Code::NotFound,
        "only dead steps can be discarded"
    );

    shop.execute_as_operator(redrive_action()).unwrap();
    let step_row = shop.working_set.steps[&key].clone();
    assert_eq!(
        (step_row.attempt, step_row.failures),
        (waiting_step.attempt + 1, 0)
    );
    assert!(step_row.due_at.as_millisecond() <= shop.clock_ms);

    // Redriving a step in progress changes nothing.
    shop.execute_step(&key, ProviderMode::TransientError);
    shop.deliver_result(0, false);
    shop.clock_ms = shop.working_set.steps[&key].due_at.as_millisecond();
    let retrying_row = shop.working_set.steps[&key].clone();
    let events_before = shop.event_types(id).len();
    shop.execute_as_operator(redrive_action()).unwrap();
    assert_eq!(shop.working_set.steps[&key], retrying_row);
    assert_eq!(shop.event_types(id).len(), events_before);
    shop.run_until_settled();
    shop.check_settled();
}

/// A result that the step can't have is an internal error and changes nothing.
#[test]
fn result_of_another_kind_of_step_is_refused() {
    let mut shop = Shop::with_stock(&[("A", "main", 1)]);
    let id = shop.order(&[("A", 1)]).unwrap();
    let key = StepKey {
        order_id: id,
        step: Step::AuthorizePayment,
    };
    let reply = shop.carry_out(&Command::FinishStep {
        key: key.clone(),
        attempt: 1,
        result: StepResult::LabelCancelled,
    });
    assert_eq!(reply.outcome.unwrap_err().code, Code::Internal);
    assert!(shop.working_set.steps.contains_key(&key));
}
