//! Payments are eventually consistent with the provider: authentication, expiry, captures and refunds at the
//! provider are applied in any order, even if a notification is duplicated or lost.

use order_worker::domain::{
    command::Action,
    step::{Step, StepKey},
};
use proptest::{collection::vec, prelude::*};
use serde_json::json;
use shared::{
    id::OrderId,
    order::{OrderStatus, PaymentStatus, ShipmentUpdate},
    outcome::Code,
};

use crate::shop::{ProviderEvent, ProviderMode, Shop};

#[derive(Debug, Clone)]
enum RandomAction {
    Cancel,
    Refund(i64),
    Ship(u32),
    Webhook(usize),
    ProviderEvent(ProviderEvent, bool),
    Notify,
    ExecuteStep(usize, ProviderMode),
    DeliverResult(usize, bool),
    Expire,
    /// An operator sees to a dead step.
    Discard(usize),
    Redrive(usize),
}

fn random_action() -> impl Strategy<Value = RandomAction> {
    let provider_event = prop_oneof![
        4 => Just(ProviderEvent::Authenticated),
        1 => Just(ProviderEvent::AuthenticationFailed),
        1 => Just(ProviderEvent::Expired),
        1 => Just(ProviderEvent::Captured),
        1 => (1..400i64).prop_map(ProviderEvent::CapturesSome),
        2 => (1..400i64).prop_map(ProviderEvent::Refunded),
        1 => (1..400i64).prop_map(ProviderEvent::RefundFailed),
    ];
    let mode = prop_oneof![
        5 => Just(ProviderMode::Responds),
        2 => Just(ProviderMode::LosesResponse),
        1 => Just(ProviderMode::TransientError),
        2 => Just(ProviderMode::Refuses),
        1 => Just(ProviderMode::NoFreeSlot),
        1 => Just(ProviderMode::Declines),
        3 => Just(ProviderMode::RequiresAction),
    ];
    prop_oneof![
        1 => Just(RandomAction::Cancel),
        2 => (1..300i64).prop_map(RandomAction::Refund),
        2 => (0..3u32).prop_map(RandomAction::Ship),
        3 => (0..6usize).prop_map(RandomAction::Webhook),
        6 => (provider_event, any::<bool>()).prop_map(|(what, is_heard)| RandomAction::ProviderEvent(what, is_heard)),
        2 => Just(RandomAction::Notify),
        10 => (0..10usize, mode).prop_map(|(step, mode)| RandomAction::ExecuteStep(step, mode)),
        10 => (0..10usize, any::<bool>()).prop_map(|(answer, again)| RandomAction::DeliverResult(answer, again)),
        1 => Just(RandomAction::Expire),
        2 => (0..4usize).prop_map(RandomAction::Discard),
        1 => (0..4usize).prop_map(RandomAction::Redrive),
    ]
}

fn apply_action(shop: &mut Shop, id: OrderId, random_action: RandomAction) {
    match random_action {
        RandomAction::Cancel => drop(shop.cancel(id)),
        RandomAction::Refund(amount) => {
            drop(shop.ask("order.refund", json!({"id": id, "amount": amount})));
        }
        RandomAction::Ship(0) => drop(shop.ask("shipment.create", json!({"id": id}))),
        RandomAction::Ship(quantity) => {
            let items = json!([{"sku": "A", "quantity": quantity}]);
            drop(shop.ask("shipment.create", json!({"id": id, "items": items})));
        }
        RandomAction::Webhook(update) => drop(shop.webhook(id, ShipmentUpdate::ALL[update])),
        RandomAction::ProviderEvent(what, is_heard) => shop.provider_event(id, what, is_heard),
        RandomAction::Notify => shop.notify(id),
        RandomAction::ExecuteStep(index, mode) => {
            let due_steps = shop.due_steps();
            if !due_steps.is_empty() {
                shop.execute_step(&due_steps[index % due_steps.len()], mode);
            }
        }
        RandomAction::DeliverResult(index, is_repeated) => {
            if !shop.answers.is_empty() {
                shop.deliver_result(index % shop.answers.len(), is_repeated);
            }
        }
        RandomAction::Discard(index) | RandomAction::Redrive(index) => {
            let dead = shop.dead();
            if let Some(key) = dead.get(index % dead.len().max(1)).cloned() {
                let action = match random_action {
                    RandomAction::Discard(_) => Action::DiscardStep(key),
                    _ => Action::RedriveStep(key),
                };
                shop.operate(action).unwrap();
            }
        }
        RandomAction::Expire => {
            let key = StepKey {
                order_id: id,
                step: Step::ExpireOrder,
            };
            if shop.world.steps.contains_key(&key) {
                shop.execute_step(&key, ProviderMode::Responds);
            }
        }
    }
}

/// Delivers all outstanding notifications; the customer completes a required authentication.
fn run_until_idle(shop: &mut Shop, id: OrderId) {
    for _ in 0..3 {
        shop.provider_event(id, ProviderEvent::Authenticated, true);
        shop.run_until_settled();
        shop.notify(id);
        shop.run_until_settled();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn payments_agree_with_the_provider(
        random_actions in vec(random_action(), 1..60), prepares: bool, captures_in_parts: bool,
    ) {
        let mut shop = Shop::with_stock(&[("A", "east", 3), ("A", "west", 3)]);
        (shop.prepares, shop.captures_in_parts) = (prepares, captures_in_parts);
        let id = shop.order(&[("A", 4)]).unwrap();
        let has_failed = |one: &RandomAction| matches!(one, RandomAction::ProviderEvent(ProviderEvent::RefundFailed(_), _));
        let has_failed = random_actions.iter().any(has_failed);
        for random_action in random_actions {
            apply_action(&mut shop, id, random_action);
        }
        run_until_idle(&mut shop, id);
        let order = shop.world.orders[&id].clone();
        let held = shop.provider[&id].clone();
        prop_assert_eq!((order.payment.captured, order.payment.refunded), (held.captured, held.refunded));
        let is_said_to_fail = shop.facts(id).contains(&"payment.refund_failed");
        prop_assert!(has_failed || !is_said_to_fail, "no refund failed");
        prop_assert_ne!(order.status, OrderStatus::Pending);
        let is_dead = shop.world.steps.values().any(|row| row.is_dead);
        let is_held = held.authorizations == 1 && !held.is_voided && held.captured == 0;
        let is_thought_held = order.payment.status == PaymentStatus::Authorized;
        prop_assert_eq!(is_held, is_thought_held, "{:?} {:?}", order, held);
        if order.status == OrderStatus::Cancelled {
            let refunded = held.refunded + order.refund_written_off;
            // A refund that the bank sent back is left to an operator.
            let is_left = is_dead && is_said_to_fail;
            prop_assert!(is_left || is_dead || held.captured <= refunded, "nobody pays for what is cancelled");
        } else if !is_dead && (captures_in_parts || order.held.is_empty()) {
            prop_assert!(held.captured >= order.capture_due(), "what has left is paid for");
        }
        // What came back is given back, as far as it was paid for.
        let refunded = order.payment.refunded + order.refund_written_off;
        prop_assert!(is_dead || refunded >= order.returned_value().min(order.payment.captured));
        // Goods that left without money are an operator's business, until that is written off.
        prop_assert!(is_dead || order.uncollectable_shipped() == 0, "{:?}", order);
        ends(&mut shop, id);
    }
}

/// Every order can be brought to an end.
fn ends(shop: &mut Shop, id: OrderId) {
    let is = |shop: &Shop, status| shop.world.orders[&id].status == status;
    shop.discard_dead();
    if is(shop, OrderStatus::Processing) {
        let orders_with_failing_payments = json!({"id": id, "allow_unpaid": true});
        shop.ask("shipment.create", orders_with_failing_payments)
            .unwrap();
    }
    if is(shop, OrderStatus::Shipped) {
        shop.webhook(id, ShipmentUpdate::Returned).unwrap();
    }
    shop.run_until_settled();
    shop.discard_dead();
    shop.run_until_settled();
    assert_eq!(shop.dead(), [], "{:?}", shop.world.orders[&id]);
    shop.check_settled();
    shop.ask("order.delete", json!({"id": id})).unwrap();
}

/// An order of 4 units, 100 each, whose money is held.
fn authorized() -> (Shop, OrderId) {
    let mut shop = Shop::with_stock(&[("A", "main", 10)]);
    let id = shop.order(&[("A", 4)]).unwrap();
    shop.run_until_settled();
    (shop, id)
}

fn key(order_id: OrderId, step: Step) -> StepKey {
    StepKey { order_id, step }
}

/// The provider refuses the step for good, and an operator discards it.
fn discarded(shop: &mut Shop, key: &StepKey) {
    shop.execute_step(key, ProviderMode::Refuses);
    shop.deliver_result(0, false);
    assert_eq!(shop.dead(), std::slice::from_ref(key));
    shop.operate(Action::DiscardStep(key.clone())).unwrap();
}

#[test]
fn a_discarded_refund_is_not_paid_with_the_next_one() {
    let (mut shop, id) = authorized();
    apply_action(&mut shop, id, RandomAction::Ship(0));
    shop.run_until_settled();
    apply_action(&mut shop, id, RandomAction::Refund(120));
    discarded(&mut shop, &key(id, Step::RefundPayment));
    apply_action(&mut shop, id, RandomAction::Refund(40));
    shop.run_until_settled();
    assert_eq!(shop.provider[&id].refunded, 40);
    // Neither a look at the provider nor a return brings it back.
    shop.notify(id);
    shop.run_until_settled();
    assert_eq!(shop.provider[&id].refunded, 40);
    shop.check_settled();
    // By request it can be paid.
    apply_action(&mut shop, id, RandomAction::Refund(120));
    shop.run_until_settled();
    assert_eq!(shop.provider[&id].refunded, 160);
    shop.check_settled();
}

#[test]
fn a_discarded_refund_of_a_return_is_not_requested_again() {
    let (mut shop, id) = authorized();
    apply_action(&mut shop, id, RandomAction::Ship(0));
    shop.run_until_settled();
    shop.webhook(id, ShipmentUpdate::Returned).unwrap();
    discarded(&mut shop, &key(id, Step::RefundPayment));
    shop.notify(id);
    shop.webhook(id, ShipmentUpdate::Returned).unwrap();
    shop.run_until_settled();
    assert_eq!(shop.provider[&id].refunded, 0);
    shop.ask("order.delete", json!({"id": id})).unwrap();
    shop.check_settled();
}

#[test]
fn a_discarded_capture_is_not_taken_with_the_rest() {
    for captures_in_parts in [true, false] {
        let (mut shop, id) = authorized();
        shop.captures_in_parts = captures_in_parts;
        apply_action(&mut shop, id, RandomAction::Ship(1));
        discarded(&mut shop, &key(id, Step::CapturePayment));
        apply_action(&mut shop, id, RandomAction::Ship(0));
        shop.run_until_settled();
        let order = &shop.world.orders[&id];
        assert_eq!(
            (order.payment.captured, shop.provider[&id].captured),
            (300, 300)
        );
        assert_eq!(order.uncollectable_shipped(), 0);
        shop.check_settled();
        // Unpaid items are not refunded.
        shop.webhook(id, ShipmentUpdate::Returned).unwrap();
        shop.run_until_settled();
        assert_eq!(shop.provider[&id].refunded, 300);
        shop.check_settled();
    }
}

#[test]
fn an_operator_is_told_at_once_when_the_hold_ends_after_a_part_has_left() {
    for captures_in_parts in [true, false] {
        let (mut shop, id) = authorized();
        shop.captures_in_parts = captures_in_parts;
        apply_action(&mut shop, id, RandomAction::Ship(1));
        shop.run_until_settled();
        shop.provider_event(id, ProviderEvent::Expired, true);
        shop.run_until_settled();
        let capture = key(id, Step::CapturePayment);
        assert_eq!(shop.dead(), std::slice::from_ref(&capture));
        let error = shop.world.steps[&capture].last_error.clone().unwrap();
        assert!(error.contains("can't be captured"), "{error}");
        // Before and after it was discarded: the rest is not paid for.
        for _ in 0..2 {
            let refused = shop.ask("shipment.create", json!({"id": id})).unwrap_err();
            assert_eq!(refused.code, Code::InvalidState);
            assert!(refused.message.contains("allow_unpaid"), "{refused:?}");
            shop.discard_dead();
        }
        shop.notify(id);
        shop.run_until_settled();
        assert_eq!(shop.dead(), [], "it was told once");
        assert_eq!(shop.world.orders[&id].uncollectable_shipped(), 0);
        let orders_with_failing_payments = json!({"id": id, "allow_unpaid": true});
        shop.ask("shipment.create", orders_with_failing_payments)
            .unwrap();
        shop.run_until_settled();
        assert_eq!(shop.dead(), [capture], "goods left unpaid");
        shop.discard_dead();
        shop.check_settled();
        assert_eq!(shop.world.orders[&id].status, OrderStatus::Shipped);
    }
}

#[test]
fn goods_that_the_carrier_took_anyway_are_recorded_and_reported() {
    let (mut shop, id) = authorized();
    apply_action(&mut shop, id, RandomAction::Ship(1));
    shop.run_until_settled();
    shop.provider_event(id, ProviderEvent::Expired, true);
    shop.run_until_settled();
    shop.webhook(id, ShipmentUpdate::Delivered).unwrap();
    shop.run_until_settled();
    assert_eq!(shop.world.orders[&id].status, OrderStatus::Delivered);
    assert_eq!(shop.dead(), [key(id, Step::CapturePayment)]);
}

#[test]
fn an_operator_is_told_when_less_than_the_total_was_captured_elsewhere() {
    for is_heard in [true, false] {
        let (mut shop, id) = authorized();
        shop.provider_event(id, ProviderEvent::CapturesSome(250), is_heard);
        shop.run_until_settled();
        let capture = key(id, Step::CapturePayment);
        if is_heard {
            assert_eq!(shop.dead(), std::slice::from_ref(&capture));
            let refused = shop.ask("shipment.create", json!({"id": id})).unwrap_err();
            assert_eq!(refused.code, Code::InvalidState);
            shop.discard_dead();
            // The captured amount covers these.
            apply_action(&mut shop, id, RandomAction::Ship(2));
            shop.run_until_settled();
            assert_eq!(shop.dead(), []);
            let refused = shop.ask("shipment.create", json!({"id": id})).unwrap_err();
            assert_eq!(refused.code, Code::InvalidState);
            let orders_with_failing_payments = json!({"id": id, "allow_unpaid": true});
            shop.ask("shipment.create", orders_with_failing_payments)
                .unwrap();
        } else {
            apply_action(&mut shop, id, RandomAction::Ship(0));
        }
        shop.run_until_settled();
        assert_eq!(shop.dead(), [capture]);
        let order = &shop.world.orders[&id];
        assert_eq!(
            (order.payment.captured, order.uncollectable_shipped()),
            (250, 150)
        );
        shop.discard_dead();
        assert_eq!(shop.world.orders[&id].uncollectable_shipped(), 0);
        shop.check_settled();
    }
}

#[test]
fn a_goodwill_refund_is_not_taken_off_a_later_returns_refund() {
    let (mut shop, id) = authorized();
    apply_action(&mut shop, id, RandomAction::Ship(1));
    apply_action(&mut shop, id, RandomAction::Ship(0));
    shop.run_until_settled();
    apply_action(&mut shop, id, RandomAction::Refund(50));
    shop.run_until_settled();
    let shipment = shop.world.orders[&id]
        .shipped_shipments()
        .last()
        .unwrap()
        .clone();
    let value = shop.world.orders[&id].value_of(&shipment.items);
    let news = json!({"order_id": id, "shipment_id": shipment.id, "type": "shipment.returned", "timestamp": "2026-01-31T12:00:00Z"});
    shop.ask("shipment.update", news).unwrap();
    shop.run_until_settled();
    assert_eq!(shop.provider[&id].refunded, 50 + value);
    // All of it comes back: no more is refunded than was captured.
    shop.webhook(id, ShipmentUpdate::Returned).unwrap();
    shop.run_until_settled();
    assert_eq!(shop.provider[&id].refunded, 400);
    shop.check_settled();
}

#[test]
fn an_order_whose_shipments_came_back_or_were_lost_and_refunded_is_over() {
    for update in [ShipmentUpdate::Returned, ShipmentUpdate::Failed] {
        let (mut shop, id) = authorized();
        apply_action(&mut shop, id, RandomAction::Ship(0));
        let delete = json!({"id": id});
        shop.run_until_settled();
        shop.ask("order.delete", delete.clone()).unwrap_err();
        shop.webhook(id, update).unwrap();
        if update == ShipmentUpdate::Failed {
            shop.ask("order.delete", delete.clone()).unwrap_err();
            apply_action(&mut shop, id, RandomAction::Refund(399));
            shop.run_until_settled();
            shop.ask("order.delete", delete.clone()).unwrap_err();
            apply_action(&mut shop, id, RandomAction::Refund(1));
        }
        // Not before the money is back.
        shop.ask("order.delete", delete.clone()).unwrap_err();
        shop.run_until_settled();
        assert!(shop.world.orders[&id].is_closed());
        shop.operate(Action::RedactOrder(id)).unwrap();
        assert_eq!(shop.facts(id).last(), Some(&"order.redacted"));
        shop.ask("order.delete", delete).unwrap();
        shop.check_settled();
    }
}

#[test]
fn a_free_orders_refund_says_that_it_is_free() {
    let mut shop = Shop::with_stock(&[("A", "main", 1)]);
    let free = json!({"sku": "FREE", "name": "Sample", "price": 0, "currency": "EUR"});
    shop.ask("product.create", free).unwrap();
    let stock = json!({"sku": "FREE", "warehouse": "main", "on_hand": 5});
    shop.ask("stock.set", stock).unwrap();
    let id = shop.order(&[("FREE", 1)]).unwrap();
    shop.run_until_settled();
    apply_action(&mut shop, id, RandomAction::Ship(0));
    shop.run_until_settled();
    let refused = shop.ask("order.refund", json!({"id": id})).unwrap_err();
    assert_eq!(refused.code, Code::InvalidState);
    assert!(refused.message.contains("free"), "{}", refused.message);
}

#[test]
fn what_was_captured_elsewhere_before_the_cancellation_is_authorized_captured_and_refunded() {
    let mut shop = Shop::with_stock(&[("A", "main", 4)]);
    shop.prepares = true;
    let id = shop.order(&[("A", 4)]).unwrap();
    let authorize = key(id, Step::AuthorizePayment);
    for _ in 0..2 {
        shop.execute_step(&authorize, ProviderMode::RequiresAction);
        shop.deliver_result(0, false);
    }
    // The customer authenticates and somebody captures; both are not heard of.
    shop.provider_event(id, ProviderEvent::Authenticated, false);
    shop.provider_event(id, ProviderEvent::Captured, false);
    shop.cancel(id).unwrap();
    let shown = shop.ask("order.cancel", json!({"id": id})).unwrap();
    assert_eq!(shown["payment"].get("next_action"), None, "{shown}");
    shop.run_until_settled();
    let payment = &shop.world.orders[&id].payment;
    assert_eq!(
        (payment.authorized, payment.captured, payment.refunded),
        (400, 400, 400)
    );
    assert_eq!(payment.next_action, None);
    shop.check_settled();
}

#[test]
fn order_waits_for_authentication_until_it_expires() {
    let mut shop = Shop::with_stock(&[("A", "main", 2)]);
    shop.prepares = true;
    let ids = [(); 2].map(|()| shop.order(&[("A", 1)]).unwrap());
    for id in ids {
        let key = StepKey {
            order_id: id,
            step: Step::AuthorizePayment,
        };
        for _ in 0..2 {
            shop.execute_step(&key, ProviderMode::RequiresAction);
            shop.deliver_result(0, false);
        }
        let order = &shop.world.orders[&id];
        assert_eq!(order.status, OrderStatus::Pending);
        assert_eq!(
            order.payment.next_action.as_ref().unwrap().kind,
            "use_stripe_sdk"
        );
    }
    // One customer authenticates in time.
    shop.provider_event(ids[0], ProviderEvent::Authenticated, true);
    shop.run_until_settled();
    let order = &shop.world.orders[&ids[0]];
    assert_eq!(order.status, OrderStatus::Processing);
    assert_eq!(order.payment.next_action, None);
    // The other authenticates too late, so no money is authorized.
    apply_action(&mut shop, ids[1], RandomAction::Expire);
    shop.run_until_settled();
    shop.provider_event(ids[1], ProviderEvent::Authenticated, true);
    shop.run_until_settled();
    let order = &shop.world.orders[&ids[1]];
    assert_eq!(order.status, OrderStatus::Cancelled);
    assert_eq!(order.payment.status, PaymentStatus::Voided);
    assert_eq!(shop.provider[&ids[1]].authorizations, 0);
    shop.check_settled();
}

#[test]
fn partial_shipments_are_captured_in_parts() {
    let mut shop = Shop::with_stock(&[("A", "east", 3), ("A", "west", 3)]);
    let id = shop.order(&[("A", 4)]).unwrap();
    shop.run_until_settled();
    let mut captured = Vec::new();
    for quantity in [1, 2, 1] {
        apply_action(&mut shop, id, RandomAction::Ship(quantity));
        shop.run_until_settled();
        captured.push(shop.world.orders[&id].payment.captured);
    }
    assert_eq!(captured, [100, 300, 400]);
}

#[test]
fn returned_items_are_restocked_and_refunded() {
    let mut shop = Shop::with_stock(&[("A", "east", 3), ("B", "west", 3)]);
    let id = shop.order(&[("A", 2), ("B", 1)]).unwrap();
    shop.run_until_settled();
    shop.webhook(id, ShipmentUpdate::Shipped).unwrap();
    shop.run_until_settled();
    let parcel = |shop: &Shop, warehouse: &str| {
        let mut active_shipments = shop.world.orders[&id].shipments.iter();
        let from =
            |parcel: &&shared::order::Shipment| parcel.items[0].warehouse.as_str() == warehouse;
        active_shipments.find(from).unwrap().id
    };
    let (east, west) = (parcel(&shop, "east"), parcel(&shop, "west"));
    for (parcel, update) in [
        (east, "shipment.failed"),
        (east, "shipment.returned"),
        (west, "shipment.delivered"),
        (east, "shipment.returned"),
    ] {
        let news = json!({"order_id": id, "shipment_id": parcel, "type": update, "timestamp": "2026-01-31T12:00:00Z"});
        shop.ask("shipment.update", news).unwrap();
        shop.run_until_settled();
    }
    let on_hand = |sku: &str| -> i64 {
        let shelves = &shop.world.stock_levels[&sku.parse().unwrap()];
        shelves.values().map(|shelf| shelf.on_hand).sum()
    };
    assert_eq!((on_hand("A"), on_hand("B")), (3, 2));
    let order = &shop.world.orders[&id];
    assert_eq!(order.status, OrderStatus::Delivered);
    assert_eq!((order.payment.captured, order.payment.refunded), (300, 200));
    shop.check_settled();
}
