//! What users of other systems reported, each as a test that it can't happen here.

use order_worker::domain::{
    command::{Action, Command, StepResult},
    decision::OrderDraft,
    stamp::DecisionContext,
    step::{Step, StepKey},
};
use shared::{
    event::{EventData, Origin},
    order::{OrderStatus, PaymentStatus, ShipmentUpdate},
    outcome::Code,
};

use crate::shop::{Mood, Shop};

/// medusa 4946: the payment was authorized, then completing the cart failed for want of stock.
#[test]
fn nobody_is_charged_when_the_stock_is_gone() {
    let mut shop = Shop::with_stock(&[("A", "main", 1)]);
    shop.order(&[("A", 1)]).unwrap();
    let before = shop.world.steps.len();
    assert_eq!(shop.order(&[("A", 1)]).unwrap_err().code, Code::OutOfStock);
    assert_eq!(
        shop.world.steps.len(),
        before,
        "no payment is even asked for"
    );
    assert_eq!(shop.world.orders.len(), 1);
}

/// medusa 13301: two calls at the same time captured the same payment twice.
#[test]
fn concurrent_captures_take_the_money_once() {
    let mut shop = Shop::with_stock(&[("A", "main", 1)]);
    let id = shop.order(&[("A", 1)]).unwrap();
    shop.settle();
    shop.webhook(id, ShipmentUpdate::Shipped).unwrap();
    let key = StepKey {
        order_id: id,
        step: Step::CapturePayment,
    };
    // Two workers handle the same redelivered step before either result is decided.
    shop.perform(&key, Mood::Fine);
    shop.perform(&key, Mood::Fine);
    shop.settle();
    assert_eq!(shop.provider[&id].captured, 100);
    assert_eq!(
        shop.facts(id)
            .iter()
            .filter(|kind| **kind == "payment.captured")
            .count(),
        1
    );
    assert_eq!(shop.world.orders[&id].payment.captured, 100);
}

/// pinelab vendure plugins 620: a webhook that came three times settled the payment three times.
#[test]
fn news_that_comes_three_times_settles_the_payment_once() {
    let mut shop = Shop::with_stock(&[("A", "main", 1)]);
    let id = shop.order(&[("A", 1)]).unwrap();
    let key = StepKey {
        order_id: id,
        step: Step::AuthorizePayment,
    };
    shop.perform(&key, Mood::Fine);
    for _ in 0..3 {
        shop.arrive(0, true);
    }
    for _ in 0..3 {
        shop.webhook(id, ShipmentUpdate::Shipped).unwrap();
        shop.webhook(id, ShipmentUpdate::Delivered).unwrap();
    }
    shop.settle();
    for kind in [
        "payment.authorized",
        "payment.captured",
        "order.shipped",
        "order.delivered",
    ] {
        assert_eq!(
            shop.facts(id).iter().filter(|fact| **fact == kind).count(),
            1,
            "{kind}"
        );
    }
}

/// vendure 3065: two customers paid for the last item.
#[test]
fn the_last_item_is_paid_for_by_one_customer() {
    let mut shop = Shop::with_stock(&[("A", "main", 1)]);
    let outcomes = [shop.order(&[("A", 1)]), shop.order(&[("A", 1)])];
    assert!(outcomes[0].is_ok());
    assert_eq!(outcomes[1].as_ref().unwrap_err().code, Code::OutOfStock);
    shop.settle();
    assert_eq!(shop.provider.len(), 1);
}

/// medusa 5457: an order could not be cancelled once its payment was captured.
#[test]
fn an_order_that_is_paid_for_but_has_not_left_can_be_cancelled_and_is_refunded() {
    let mut shop = Shop::with_stock(&[("A", "main", 1)]);
    let id = shop.order(&[("A", 1)]).unwrap();
    shop.settle();
    // Captured early, as a provider's own dashboard allows.
    let origin = Origin {
        actor: "provider".to_owned(),
        intent: "capture".to_owned(),
        request_id: "r".to_owned(),
        attempt: None,
        traceparent: None,
    };
    let mut stamp = DecisionContext::new("2026-01-31T12:00:00Z".parse().unwrap(), 1);
    let mut draft = OrderDraft::of(&shop.world.orders[&id], &origin, &mut stamp);
    draft
        .record(EventData::PaymentCaptured {
            amount: 100,
            is_final: false,
        })
        .unwrap();
    shop.world.apply(draft.decide().changes);
    shop.provider.get_mut(&id).unwrap().captured = 100;

    shop.cancel(id).unwrap();
    shop.settle();
    let order = &shop.world.orders[&id];
    assert_eq!(
        (order.status, order.payment.status),
        (OrderStatus::Cancelled, PaymentStatus::Refunded)
    );
    assert_eq!(shop.provider[&id].refunded, 100);
}

/// A cancel that comes while the provider is being asked: the authorization that lands later is void.
#[test]
fn an_authorization_that_lands_after_the_cancel_is_voided() {
    let mut shop = Shop::with_stock(&[("A", "main", 1)]);
    let id = shop.order(&[("A", 1)]).unwrap();
    let key = StepKey {
        order_id: id,
        step: Step::AuthorizePayment,
    };
    shop.perform(&key, Mood::Fine);
    shop.cancel(id).unwrap();
    shop.settle();
    assert_eq!(shop.provider[&id].authorizations, 1);
    assert!(shop.provider[&id].is_voided);
    let order = &shop.world.orders[&id];
    assert_eq!(
        (order.status, order.payment.status),
        (OrderStatus::Cancelled, PaymentStatus::Voided)
    );
}

/// And one that the provider hears of only after the void: the key is used up.
#[test]
fn an_authorization_that_the_provider_hears_of_after_the_void_holds_nothing() {
    let mut shop = Shop::with_stock(&[("A", "main", 1)]);
    let id = shop.order(&[("A", 1)]).unwrap();
    let authorize = StepKey {
        order_id: id,
        step: Step::AuthorizePayment,
    };
    let waiting = shop.world.steps[&authorize].clone();
    shop.cancel(id).unwrap();
    shop.settle();
    // The request was on its way all the time.
    shop.world.steps.insert(authorize.clone(), waiting);
    shop.perform(&authorize, Mood::Fine);
    shop.world.steps.remove(&authorize);
    shop.settle();
    assert_eq!(shop.provider[&id].authorizations, 0);
    assert_eq!(shop.world.orders[&id].status, OrderStatus::Cancelled);
}

/// A step that keeps failing ends: it is not tried for ever, and an operator can see it.
#[test]
fn a_step_that_fails_for_good_is_dead_and_says_why() {
    let mut shop = Shop::with_stock(&[("A", "main", 1)]);
    let id = shop.order(&[("A", 1)]).unwrap();
    let key = StepKey {
        order_id: id,
        step: Step::AuthorizePayment,
    };
    let mut attempts = 0;
    while !shop.world.steps[&key].is_dead {
        shop.perform(&key, Mood::Busy);
        shop.arrive(0, false);
        attempts += 1;
        assert!(attempts <= 100, "tried for ever");
    }
    assert_eq!(attempts, Step::AuthorizePayment.retry().attempts);
    assert_eq!(shop.world.steps[&key].last_error.as_deref(), Some("busy"));
    assert_eq!(shop.facts(id).last(), Some(&"step.dead"));
    // Its time still runs out, and then nothing is left behind.
    shop.perform(
        &StepKey {
            order_id: id,
            step: Step::ExpireOrder,
        },
        Mood::Fine,
    );
    shop.settle();
    assert_eq!(shop.world.orders[&id].payment.status, PaymentStatus::Voided);
}

/// A provider that had no answer for anybody for an hour: whose payment was not even tried has not used up
/// its attempts, and nothing has happened to the order.
#[test]
fn a_step_that_is_put_off_is_not_nearer_to_its_end() {
    let mut shop = Shop::with_stock(&[("A", "main", 1)]);
    let id = shop.order(&[("A", 1)]).unwrap();
    let key = StepKey {
        order_id: id,
        step: Step::AuthorizePayment,
    };
    let before = shop.world.orders[&id].clone();
    for attempt in 1..=100 {
        let row = shop.world.steps[&key].clone();
        assert_eq!(
            (row.attempt, row.failures, row.is_dead),
            (attempt, 0, false)
        );
        shop.perform(&key, Mood::HasNoRoom);
        // What comes twice puts it off once.
        shop.arrive(0, true);
        shop.arrive(0, false);
        let pause = shop.world.steps[&key].due_at.as_millisecond() - shop.clock;
        assert!((0..=60_000).contains(&pause), "{pause} ms");
    }
    assert_eq!(shop.world.orders[&id], before);
    shop.settle();
    assert_eq!(shop.world.orders[&id].status, OrderStatus::Processing);
    shop.check_settled();
}

/// What was dead and is redriven is a new attempt: it has all of its retries before it, and what
/// comes late of the old one is void.
#[test]
fn a_redriven_step_starts_afresh_and_its_past_is_void() {
    let mut shop = Shop::with_stock(&[("A", "main", 1)]);
    let id = shop.order(&[("A", 1)]).unwrap();
    let key = StepKey {
        order_id: id,
        step: Step::AuthorizePayment,
    };
    let attempts = Step::AuthorizePayment.retry().attempts;
    for _ in 0..attempts {
        shop.perform(&key, Mood::Busy);
        // Every answer comes a second time, much later.
        shop.arrive(shop.answers.len() - 1, true);
    }
    assert!(shop.world.steps[&key].is_dead);
    shop.operate(Action::RedriveStep(key.clone())).unwrap();
    let row = shop.world.steps[&key].clone();
    assert_eq!(
        (row.attempt, row.failures, row.is_dead),
        (attempts + 1, 0, false)
    );
    while !shop.answers.is_empty() {
        shop.arrive(0, false);
    }
    assert_eq!(
        shop.world.steps[&key], row,
        "what came late changed nothing"
    );
    for _ in 1..attempts {
        shop.perform(&key, Mood::Busy);
        shop.arrive(0, false);
        assert!(!shop.world.steps[&key].is_dead);
    }
    shop.settle();
    shop.check_settled();
    let none = shop.operate(Action::RedriveStep(key)).unwrap_err();
    assert_eq!(
        none.code,
        Code::NotFound,
        "only what failed can be redriven"
    );
}

/// A partner is back who was away for hours: nobody has to wait for a retry that is due in two more.
#[test]
fn a_step_that_waits_for_its_retry_is_tried_when_an_operator_says_so() {
    let mut shop = Shop::with_stock(&[("A", "main", 1)]);
    let id = shop.order(&[("A", 1)]).unwrap();
    let key = StepKey {
        order_id: id,
        step: Step::AuthorizePayment,
    };
    let redrive = || Action::RedriveStep(key.clone());
    assert_eq!(
        shop.operate(redrive()).unwrap_err().code,
        Code::NotFound,
        "nothing has failed yet"
    );
    for _ in 0..3 {
        shop.perform(&key, Mood::Busy);
        shop.arrive(0, false);
    }
    let waiting = shop.world.steps[&key].clone();
    assert!(waiting.due_at.as_millisecond() > shop.clock);
    let discard = shop.operate(Action::DiscardStep(key.clone()));
    assert_eq!(discard.unwrap_err().code, Code::NotFound, "it goes on");

    shop.operate(redrive()).unwrap();
    let row = shop.world.steps[&key].clone();
    assert_eq!((row.attempt, row.failures), (waiting.attempt + 1, 0));
    assert!(row.due_at.as_millisecond() <= shop.clock);

    // While it is being tried there is nothing to hurry.
    shop.perform(&key, Mood::Busy);
    shop.arrive(0, false);
    shop.clock = shop.world.steps[&key].due_at.as_millisecond();
    let trying = shop.world.steps[&key].clone();
    let told = shop.facts(id).len();
    shop.operate(redrive()).unwrap();
    assert_eq!(shop.world.steps[&key], trying);
    assert_eq!(shop.facts(id).len(), told);
    shop.settle();
    shop.check_settled();
}

/// A result of another step than it can come from is a defect; it changes nothing.
#[test]
fn a_result_that_does_not_fit_its_step_is_refused() {
    let mut shop = Shop::with_stock(&[("A", "main", 1)]);
    let id = shop.order(&[("A", 1)]).unwrap();
    let key = StepKey {
        order_id: id,
        step: Step::AuthorizePayment,
    };
    let told = shop.carry_out(&Command::Finish {
        key: key.clone(),
        attempt: 1,
        result: StepResult::Withdrawn,
    });
    assert_eq!(told.outcome.unwrap_err().code, Code::Internal);
    assert!(shop.world.steps.contains_key(&key));
}
