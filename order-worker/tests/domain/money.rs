//! Payments are eventually consistent with the provider: authentication, expiry, captures and refunds at the
//! provider are applied in any order, even if a notification is duplicated or lost.

use order_worker::domain::{
    command::Action,
    step::{Step, StepKey},
};
use proptest::{collection::vec, prelude::*};
use serde_json::{Value, json};
use shared::{
    id::OrderId,
    order::{OrderStatus, PaymentStatus, ShipmentUpdate},
    outcome::Code,
};

use crate::shop::{ProviderEvent, ProviderMode, Shop, price_of_items};

#[derive(Debug, Clone)]
enum RandomAction {
    Cancel,
    Refund(i64),
    Ship(u32),
    ShipperWebhook(usize),
    ProviderEvent(ProviderEvent, bool),
    Notify,
    ExecuteStep(usize, ProviderMode),
    DeliverResult(usize, bool),
    Expire,
    /// An operator discards a dead step.
    DiscardDeadStep(usize),
    RedriveDeadStep(usize),
}

fn random_action() -> impl Strategy<Value = RandomAction> {
    let provider_event = prop_oneof![
        4 => Just(ProviderEvent::Authenticated),
        1 => Just(ProviderEvent::AuthenticationFailed),
        1 => Just(ProviderEvent::Expired),
        1 => Just(ProviderEvent::Captured),
        1 => (1..400i64).prop_map(ProviderEvent::PartlyCaptured),
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
        3 => (0..6usize).prop_map(RandomAction::ShipperWebhook),
        6 => (provider_event, any::<bool>()).prop_map(|(event, is_notified)| RandomAction::ProviderEvent(event, is_notified)),
        2 => Just(RandomAction::Notify),
        10 => (0..10usize, mode).prop_map(|(step_index, mode)| RandomAction::ExecuteStep(step_index, mode)),
        10 => (0..10usize, any::<bool>()).prop_map(|(result_index, stays_in_flight)| RandomAction::DeliverResult(result_index, stays_in_flight)),
        1 => Just(RandomAction::Expire),
        2 => (0..4usize).prop_map(RandomAction::DiscardDeadStep),
        1 => (0..4usize).prop_map(RandomAction::RedriveDeadStep),
    ]
}

fn apply_action(shop: &mut Shop, id: OrderId, random_action: RandomAction) {
    match random_action {
        RandomAction::Cancel => drop(shop.cancel(id)),
        RandomAction::Refund(amount) => {
            drop(shop.execute_request("order.refund", json!({"id": id, "amount": amount})));
        }
        RandomAction::Ship(0) => ship_paid_items(shop, id, json!({"id": id})),
        RandomAction::Ship(quantity) => {
            let items = json!([{"sku": "A", "quantity": quantity}]);
            ship_paid_items(shop, id, json!({"id": id, "items": items}));
        }
        RandomAction::ShipperWebhook(update_index) => {
            drop(shop.apply_webhook(id, ShipmentUpdate::ALL[update_index]));
        }
        RandomAction::ProviderEvent(event, is_notified) => {
            shop.apply_provider_event(id, event, is_notified);
        }
        RandomAction::Notify => shop.notify(id),
        RandomAction::ExecuteStep(step_index, mode) => {
            let due_steps = shop.due_steps();
            if !due_steps.is_empty() {
                shop.execute_step(&due_steps[step_index % due_steps.len()], mode);
            }
        }
        RandomAction::DeliverResult(result_index, stays_in_flight) => {
            if !shop.step_results.is_empty() {
                shop.deliver_result(result_index % shop.step_results.len(), stays_in_flight);
            }
        }
        RandomAction::DiscardDeadStep(step_index) | RandomAction::RedriveDeadStep(step_index) => {
            let dead_steps = shop.dead_steps();
            if let Some(key) = dead_steps
                .get(step_index % dead_steps.len().max(1))
                .cloned()
            {
                let operator_action = match random_action {
                    RandomAction::DiscardDeadStep(_) => Action::DiscardStep(key),
                    _ => Action::RedriveStep(key),
                };
                shop.execute_as_operator(operator_action).unwrap();
            }
        }
        RandomAction::Expire => {
            let key = StepKey {
                order_id: id,
                step: Step::ExpireOrder,
            };
            if shop.working_set.steps.contains_key(&key) {
                shop.execute_step(&key, ProviderMode::Responds);
            }
        }
    }
}

/// Creates a shipment without `allow_unpaid`. It is refused, or the money for all shipped items is authorized or
/// captured as far as the order knows.
fn ship_paid_items(shop: &mut Shop, id: OrderId, request: Value) {
    if shop.execute_request("shipment.create", request).is_ok() {
        let order = &shop.working_set.orders[&id];
        assert!(
            order.total_to_capture() <= order.collectable_amount(),
            "{order:?}"
        );
    }
}

/// Delivers the provider's outstanding notifications and executes all steps; the customer completes a required
/// authentication.
fn run_until_idle(shop: &mut Shop, id: OrderId) {
    for _ in 0..3 {
        shop.apply_provider_event(id, ProviderEvent::Authenticated, true);
        shop.run_until_settled();
        shop.notify(id);
        shop.run_until_settled();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn payments_agree_with_the_provider(
        random_actions in vec(random_action(), 1..60), prepares_payments: bool, captures_in_parts: bool,
    ) {
        let mut shop = Shop::with_stock(&[("A", "east", 3), ("A", "west", 3)]);
        (shop.prepares_payments, shop.captures_in_parts) = (prepares_payments, captures_in_parts);
        let id = shop.order(&[("A", 4)]).unwrap();
        let is_failed_refund = |action: &RandomAction| matches!(action, RandomAction::ProviderEvent(ProviderEvent::RefundFailed(_), _));
        let has_failed = random_actions.iter().any(is_failed_refund);
        for random_action in random_actions {
            apply_action(&mut shop, id, random_action);
        }
        run_until_idle(&mut shop, id);
        let order = shop.working_set.orders[&id].clone();
        let provider_payment = shop.order_payments[&id].clone();
        prop_assert_eq!((order.payment.captured, order.payment.refunded), (provider_payment.captured, provider_payment.refunded));
        let is_reported_as_failed = shop.event_types(id).contains(&"payment.refund_failed");
        prop_assert!(has_failed || !is_reported_as_failed, "a refund is reported as failed although none failed");
        prop_assert_ne!(order.status, OrderStatus::Pending);
        let is_dead = shop.working_set.steps.values().any(|step_row| step_row.is_dead);
        let is_authorized = provider_payment.authorizations == 1 && !provider_payment.is_voided && provider_payment.captured == 0;
        let is_recorded_as_authorized = order.payment.status == PaymentStatus::Authorized;
        prop_assert_eq!(is_authorized, is_recorded_as_authorized, "{:?} {:?}", order, provider_payment);
        if order.status == OrderStatus::Cancelled {
            let refunded_amount = provider_payment.refunded + order.refund_written_off;
            // A refund returned by the bank is left to an operator.
            let is_left_to_operator = is_dead && is_reported_as_failed;
            prop_assert!(is_left_to_operator || is_dead || provider_payment.captured <= refunded_amount, "a cancelled order is still paid");
        } else if !is_dead && (captures_in_parts || order.reserved_items.is_empty()) {
            prop_assert!(provider_payment.captured >= order.total_to_capture(), "shipped items are not captured");
        }
        // Returned items are refunded, as far as they were paid for.
        let refunded_amount = order.payment.refunded + order.refund_written_off;
        prop_assert!(is_dead || refunded_amount >= order.returned_value().min(order.payment.captured));
        // Unpaid shipped items have a dead step until it is discarded.
        prop_assert!(is_dead || order.uncollectable_shipped() == 0, "{:?}", order);
        assert_can_be_finished(&mut shop, id);
    }
}

/// Checks that the order can reach a final state and be deleted.
fn assert_can_be_finished(shop: &mut Shop, id: OrderId) {
    let has_status = |shop: &Shop, status| shop.working_set.orders[&id].status == status;
    shop.discard_dead_steps();
    if has_status(shop, OrderStatus::Processing) {
        let unpaid_shipment = json!({"id": id, "allow_unpaid": true});
        shop.execute_request("shipment.create", unpaid_shipment)
            .unwrap();
    }
    if has_status(shop, OrderStatus::Shipped) {
        shop.apply_webhook(id, ShipmentUpdate::Returned).unwrap();
    }
    shop.run_until_settled();
    shop.discard_dead_steps();
    shop.run_until_settled();
    assert_eq!(shop.dead_steps(), [], "{:?}", shop.working_set.orders[&id]);
    shop.check_settled();
    shop.execute_request("order.delete", json!({"id": id}))
        .unwrap();
}

/// Creates an order of 4 units at 100 each with an authorized payment.
fn shop_with_authorized_order() -> (Shop, OrderId) {
    let mut shop = Shop::with_stock(&[("A", "main", 10)]);
    let id = shop.order(&[("A", 4)]).unwrap();
    shop.run_until_settled();
    (shop, id)
}

fn step_key(order_id: OrderId, step: Step) -> StepKey {
    StepKey { order_id, step }
}

/// The provider refuses the step permanently, and an operator discards it.
fn fail_and_discard(shop: &mut Shop, key: &StepKey) {
    shop.execute_step(key, ProviderMode::Refuses);
    shop.deliver_result(0, false);
    assert_eq!(shop.dead_steps(), std::slice::from_ref(key));
    shop.execute_as_operator(Action::DiscardStep(key.clone()))
        .unwrap();
}

#[test]
fn discarded_refund_is_not_paid_with_the_next_one() {
    let (mut shop, id) = shop_with_authorized_order();
    apply_action(&mut shop, id, RandomAction::Ship(0));
    shop.run_until_settled();
    apply_action(&mut shop, id, RandomAction::Refund(120));
    fail_and_discard(&mut shop, &step_key(id, Step::RefundPayment));
    apply_action(&mut shop, id, RandomAction::Refund(40));
    shop.run_until_settled();
    assert_eq!(shop.order_payments[&id].refunded, 40);
    // Neither a notification nor a return requests it again.
    shop.notify(id);
    shop.run_until_settled();
    assert_eq!(shop.order_payments[&id].refunded, 40);
    shop.check_settled();
    // A new request for a refund pays it.
    apply_action(&mut shop, id, RandomAction::Refund(120));
    shop.run_until_settled();
    assert_eq!(shop.order_payments[&id].refunded, 160);
    shop.check_settled();
}

#[test]
fn discarded_refund_of_a_return_is_not_requested_again() {
    let (mut shop, id) = shop_with_authorized_order();
    apply_action(&mut shop, id, RandomAction::Ship(0));
    shop.run_until_settled();
    shop.apply_webhook(id, ShipmentUpdate::Returned).unwrap();
    fail_and_discard(&mut shop, &step_key(id, Step::RefundPayment));
    shop.notify(id);
    shop.apply_webhook(id, ShipmentUpdate::Returned).unwrap();
    shop.run_until_settled();
    assert_eq!(shop.order_payments[&id].refunded, 0);
    shop.execute_request("order.delete", json!({"id": id}))
        .unwrap();
    shop.check_settled();
}

#[test]
fn discarded_capture_is_not_included_in_the_next_one() {
    for captures_in_parts in [true, false] {
        let (mut shop, id) = shop_with_authorized_order();
        shop.captures_in_parts = captures_in_parts;
        apply_action(&mut shop, id, RandomAction::Ship(1));
        fail_and_discard(&mut shop, &step_key(id, Step::CapturePayment));
        apply_action(&mut shop, id, RandomAction::Ship(0));
        shop.run_until_settled();
        let order = &shop.working_set.orders[&id];
        assert_eq!(
            (order.payment.captured, shop.order_payments[&id].captured),
            (300, 300)
        );
        assert_eq!(order.uncollectable_shipped(), 0);
        shop.check_settled();
        // Unpaid items are not refunded.
        shop.apply_webhook(id, ShipmentUpdate::Returned).unwrap();
        shop.run_until_settled();
        assert_eq!(shop.order_payments[&id].refunded, 300);
        shop.check_settled();
    }
}

#[test]
fn expired_authorization_of_a_partly_shipped_order_makes_its_capture_dead() {
    for captures_in_parts in [true, false] {
        let (mut shop, id) = shop_with_authorized_order();
        shop.captures_in_parts = captures_in_parts;
        apply_action(&mut shop, id, RandomAction::Ship(1));
        shop.run_until_settled();
        shop.apply_provider_event(id, ProviderEvent::Expired, true);
        shop.run_until_settled();
        let capture_key = step_key(id, Step::CapturePayment);
        assert_eq!(shop.dead_steps(), std::slice::from_ref(&capture_key));
        let error_text = shop.working_set.steps[&capture_key]
            .last_error
            .clone()
            .unwrap();
        assert!(error_text.contains("can't be captured"), "{error_text}");
        // Before and after the discard, the rest can't be shipped unpaid.
        for _ in 0..2 {
            let refusal = shop
                .execute_request("shipment.create", json!({"id": id}))
                .unwrap_err();
            assert_eq!(refusal.code, Code::InvalidState);
            assert!(refusal.message.contains("allow_unpaid"), "{refusal:?}");
            shop.discard_dead_steps();
        }
        shop.notify(id);
        shop.run_until_settled();
        assert_eq!(shop.dead_steps(), [], "the dead step appears once");
        assert_eq!(shop.working_set.orders[&id].uncollectable_shipped(), 0);
        let unpaid_shipment = json!({"id": id, "allow_unpaid": true});
        shop.execute_request("shipment.create", unpaid_shipment)
            .unwrap();
        shop.run_until_settled();
        assert_eq!(
            shop.dead_steps(),
            [capture_key],
            "unpaid items were shipped"
        );
        shop.discard_dead_steps();
        shop.check_settled();
        assert_eq!(shop.working_set.orders[&id].status, OrderStatus::Shipped);
    }
}

#[test]
fn delivery_of_unpaid_items_is_recorded_and_reported() {
    let (mut shop, id) = shop_with_authorized_order();
    apply_action(&mut shop, id, RandomAction::Ship(1));
    shop.run_until_settled();
    shop.apply_provider_event(id, ProviderEvent::Expired, true);
    shop.run_until_settled();
    shop.apply_webhook(id, ShipmentUpdate::Delivered).unwrap();
    shop.run_until_settled();
    assert_eq!(shop.working_set.orders[&id].status, OrderStatus::Delivered);
    assert_eq!(shop.dead_steps(), [step_key(id, Step::CapturePayment)]);
}

#[test]
fn partial_capture_in_the_dashboard_makes_the_capture_dead() {
    for is_notified in [true, false] {
        let (mut shop, id) = shop_with_authorized_order();
        shop.apply_provider_event(id, ProviderEvent::PartlyCaptured(250), is_notified);
        shop.run_until_settled();
        let capture_key = step_key(id, Step::CapturePayment);
        if is_notified {
            assert_eq!(shop.dead_steps(), std::slice::from_ref(&capture_key));
            let refusal = shop
                .execute_request("shipment.create", json!({"id": id}))
                .unwrap_err();
            assert_eq!(refusal.code, Code::InvalidState);
            shop.discard_dead_steps();
            // The captured amount covers two units.
            apply_action(&mut shop, id, RandomAction::Ship(2));
            shop.run_until_settled();
            assert_eq!(shop.dead_steps(), []);
            let refusal = shop
                .execute_request("shipment.create", json!({"id": id}))
                .unwrap_err();
            assert_eq!(refusal.code, Code::InvalidState);
            let shipment_request = json!({"id": id, "allow_unpaid": true});
            shop.execute_request("shipment.create", shipment_request)
                .unwrap();
        } else {
            apply_action(&mut shop, id, RandomAction::Ship(0));
        }
        shop.run_until_settled();
        assert_eq!(shop.dead_steps(), [capture_key]);
        let order = &shop.working_set.orders[&id];
        assert_eq!(
            (order.payment.captured, order.uncollectable_shipped()),
            (250, 150)
        );
        shop.discard_dead_steps();
        assert_eq!(shop.working_set.orders[&id].uncollectable_shipped(), 0);
        shop.check_settled();
    }
}

#[test]
fn goodwill_refund_does_not_reduce_the_refund_of_a_later_return() {
    let (mut shop, id) = shop_with_authorized_order();
    apply_action(&mut shop, id, RandomAction::Ship(1));
    apply_action(&mut shop, id, RandomAction::Ship(0));
    shop.run_until_settled();
    apply_action(&mut shop, id, RandomAction::Refund(50));
    shop.run_until_settled();
    let shipment = shop.working_set.orders[&id]
        .shipped_shipments()
        .last()
        .unwrap()
        .clone();
    let shipment_value = price_of_items(&shop.working_set.orders[&id], &shipment.items);
    let update_body = json!({"order_id": id, "shipment_id": shipment.id, "type": "shipment.returned", "timestamp": "2026-01-31T12:00:00Z"});
    shop.execute_request("shipment.update", update_body)
        .unwrap();
    shop.run_until_settled();
    assert_eq!(shop.order_payments[&id].refunded, 50 + shipment_value);
    // Everything is returned: no more is refunded than was captured.
    shop.apply_webhook(id, ShipmentUpdate::Returned).unwrap();
    shop.run_until_settled();
    assert_eq!(shop.order_payments[&id].refunded, 400);
    shop.check_settled();
}

#[test]
fn order_is_over_when_its_shipments_are_returned_or_lost_and_refunded() {
    for shipment_update in [ShipmentUpdate::Returned, ShipmentUpdate::Failed] {
        let (mut shop, id) = shop_with_authorized_order();
        apply_action(&mut shop, id, RandomAction::Ship(0));
        let delete_request = json!({"id": id});
        shop.run_until_settled();
        shop.execute_request("order.delete", delete_request.clone())
            .unwrap_err();
        shop.apply_webhook(id, shipment_update).unwrap();
        if shipment_update == ShipmentUpdate::Failed {
            shop.execute_request("order.delete", delete_request.clone())
                .unwrap_err();
            apply_action(&mut shop, id, RandomAction::Refund(399));
            shop.run_until_settled();
            shop.execute_request("order.delete", delete_request.clone())
                .unwrap_err();
            apply_action(&mut shop, id, RandomAction::Refund(1));
        }
        // The order can't be deleted before the refund is completed.
        shop.execute_request("order.delete", delete_request.clone())
            .unwrap_err();
        shop.run_until_settled();
        assert!(shop.working_set.orders[&id].is_closed());
        shop.execute_as_operator(Action::RedactOrder(id)).unwrap();
        assert_eq!(shop.event_types(id).last(), Some(&"order.redacted"));
        shop.execute_request("order.delete", delete_request)
            .unwrap();
        shop.check_settled();
    }
}

#[test]
fn refund_of_a_free_order_is_refused_with_the_reason() {
    let mut shop = Shop::with_stock(&[("A", "main", 1)]);
    let free_product = json!({"sku": "FREE", "name": "Sample", "price": 0, "currency": "EUR"});
    shop.execute_request("product.create", free_product)
        .unwrap();
    let stock_body = json!({"sku": "FREE", "warehouse": "main", "on_hand": 5});
    shop.execute_request("stock.set", stock_body).unwrap();
    let id = shop.order(&[("FREE", 1)]).unwrap();
    shop.run_until_settled();
    apply_action(&mut shop, id, RandomAction::Ship(0));
    shop.run_until_settled();
    let refusal = shop
        .execute_request("order.refund", json!({"id": id}))
        .unwrap_err();
    assert_eq!(refusal.code, Code::InvalidState);
    assert!(refusal.message.contains("free"), "{}", refusal.message);
}

#[test]
fn capture_in_the_dashboard_before_the_cancellation_is_recorded_and_refunded() {
    let mut shop = Shop::with_stock(&[("A", "main", 4)]);
    shop.prepares_payments = true;
    let id = shop.order(&[("A", 4)]).unwrap();
    let authorize_key = step_key(id, Step::AuthorizePayment);
    for _ in 0..2 {
        shop.execute_step(&authorize_key, ProviderMode::RequiresAction);
        shop.deliver_result(0, false);
    }
    // The customer authenticates and the payment is captured in the dashboard; both notifications are lost.
    shop.apply_provider_event(id, ProviderEvent::Authenticated, false);
    shop.apply_provider_event(id, ProviderEvent::Captured, false);
    shop.cancel(id).unwrap();
    let shown_order = shop
        .execute_request("order.cancel", json!({"id": id}))
        .unwrap();
    assert_eq!(
        shown_order["payment"].get("next_action"),
        None,
        "{shown_order}"
    );
    shop.run_until_settled();
    let payment = &shop.working_set.orders[&id].payment;
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
    shop.prepares_payments = true;
    let order_ids = [(); 2].map(|()| shop.order(&[("A", 1)]).unwrap());
    for id in order_ids {
        let key = StepKey {
            order_id: id,
            step: Step::AuthorizePayment,
        };
        for _ in 0..2 {
            shop.execute_step(&key, ProviderMode::RequiresAction);
            shop.deliver_result(0, false);
        }
        let order = &shop.working_set.orders[&id];
        assert_eq!(order.status, OrderStatus::Pending);
        assert_eq!(
            order.payment.next_action.as_ref().unwrap().action_type,
            "use_stripe_sdk"
        );
    }
    // The first customer authenticates in time.
    shop.apply_provider_event(order_ids[0], ProviderEvent::Authenticated, true);
    shop.run_until_settled();
    let order = &shop.working_set.orders[&order_ids[0]];
    assert_eq!(order.status, OrderStatus::Processing);
    assert_eq!(order.payment.next_action, None);
    // The second customer authenticates too late, so no payment is authorized.
    apply_action(&mut shop, order_ids[1], RandomAction::Expire);
    shop.run_until_settled();
    shop.apply_provider_event(order_ids[1], ProviderEvent::Authenticated, true);
    shop.run_until_settled();
    let order = &shop.working_set.orders[&order_ids[1]];
    assert_eq!(order.status, OrderStatus::Cancelled);
    assert_eq!(order.payment.status, PaymentStatus::Voided);
    assert_eq!(shop.order_payments[&order_ids[1]].authorizations, 0);
    shop.check_settled();
}

#[test]
fn partial_shipments_are_captured_in_parts() {
    let mut shop = Shop::with_stock(&[("A", "east", 3), ("A", "west", 3)]);
    let id = shop.order(&[("A", 4)]).unwrap();
    shop.run_until_settled();
    let mut captured_amounts = Vec::new();
    for quantity in [1, 2, 1] {
        apply_action(&mut shop, id, RandomAction::Ship(quantity));
        shop.run_until_settled();
        captured_amounts.push(shop.working_set.orders[&id].payment.captured);
    }
    assert_eq!(captured_amounts, [100, 300, 400]);
}

#[test]
fn returned_items_are_restocked_and_refunded() {
    let mut shop = Shop::with_stock(&[("A", "east", 3), ("B", "west", 3)]);
    let id = shop.order(&[("A", 2), ("B", 1)]).unwrap();
    shop.run_until_settled();
    shop.apply_webhook(id, ShipmentUpdate::Shipped).unwrap();
    shop.run_until_settled();
    let shipment_id_of = |shop: &Shop, warehouse: &str| {
        let mut shipments = shop.working_set.orders[&id].shipments.iter();
        let is_in_warehouse =
            |shipment: &&shared::order::Shipment| shipment.items[0].warehouse.as_str() == warehouse;
        shipments.find(is_in_warehouse).unwrap().id
    };
    let (east_shipment_id, west_shipment_id) =
        (shipment_id_of(&shop, "east"), shipment_id_of(&shop, "west"));
    for (shipment_id, update_type) in [
        (east_shipment_id, "shipment.failed"),
        (east_shipment_id, "shipment.returned"),
        (west_shipment_id, "shipment.delivered"),
        (east_shipment_id, "shipment.returned"),
    ] {
        let update_body = json!({"order_id": id, "shipment_id": shipment_id, "type": update_type, "timestamp": "2026-01-31T12:00:00Z"});
        shop.execute_request("shipment.update", update_body)
            .unwrap();
        shop.run_until_settled();
    }
    let on_hand_of = |sku: &str| -> i64 {
        let stock_levels = &shop.working_set.stock_levels[&sku.parse().unwrap()];
        stock_levels
            .values()
            .map(|stock_level| stock_level.on_hand)
            .sum()
    };
    assert_eq!((on_hand_of("A"), on_hand_of("B")), (3, 2));
    let order = &shop.working_set.orders[&id];
    assert_eq!(order.status, OrderStatus::Delivered);
    assert_eq!((order.payment.captured, order.payment.refunded), (300, 200));
    shop.check_settled();
}

/// A provider keeps its error response under the idempotency key, and may still be executing a call without a
/// response. So neither keys nor attempt numbers start again when more is to be captured.
#[test]
fn capture_that_is_scheduled_again_continues_its_attempts_and_keys() {
    let (mut shop, id) = shop_with_authorized_order();
    let capture_key = step_key(id, Step::CapturePayment);
    apply_action(&mut shop, id, RandomAction::Ship(1));
    shop.execute_step(&capture_key, ProviderMode::TransientError);
    shop.deliver_result(0, true);
    let failed_row = shop.working_set.steps[&capture_key].clone();
    assert_eq!(
        (
            failed_row.attempt,
            failed_row.failures,
            failed_row.error_responses
        ),
        (2, 1, 1)
    );
    apply_action(&mut shop, id, RandomAction::Ship(1));
    let step_row = shop.working_set.steps[&capture_key].clone();
    assert_eq!(
        (
            step_row.attempt,
            step_row.failures,
            step_row.error_responses
        ),
        (3, 0, 1)
    );
    assert_eq!(
        step_row.due_at.as_millisecond(),
        shop.clock_ms,
        "it is retried at once"
    );
    // The first result arrives again.
    shop.deliver_result(0, false);
    assert_eq!(shop.working_set.steps[&capture_key], step_row);
    shop.run_until_settled();
    assert_eq!(shop.order_payments[&id].captured, 200);
    shop.check_settled();
}

/// Two workers that call the provider at the same time for different totals would capture or refund the sum.
#[test]
fn capture_and_refund_in_progress_are_not_started_a_second_time() {
    let (mut shop, id) = shop_with_authorized_order();
    let capture_key = step_key(id, Step::CapturePayment);
    apply_action(&mut shop, id, RandomAction::Ship(1));
    shop.execute_step(&capture_key, ProviderMode::Responds);
    shop.working_set.changes.steps.clear();
    apply_action(&mut shop, id, RandomAction::Ship(1));
    assert!(
        !shop.working_set.changes.steps.contains(&capture_key),
        "the step is sent again while it is in progress"
    );
    shop.deliver_result(0, true);
    assert_eq!(shop.working_set.steps[&capture_key].attempt, 2);
    // The result of the finished attempt arrives again.
    shop.deliver_result(0, false);
    assert_eq!(shop.working_set.steps[&capture_key].attempt, 2);
    shop.run_until_settled();
    assert_eq!(shop.order_payments[&id].captured, 200);

    let refund_key = step_key(id, Step::RefundPayment);
    apply_action(&mut shop, id, RandomAction::Refund(50));
    shop.execute_step(&refund_key, ProviderMode::Responds);
    shop.working_set.changes.steps.clear();
    apply_action(&mut shop, id, RandomAction::Refund(30));
    assert!(!shop.working_set.changes.steps.contains(&refund_key));
    shop.run_until_settled();
    assert_eq!(shop.order_payments[&id].refunded, 80);
    shop.check_settled();
}

/// The rest of an order is cancelled while a capture that was not the last one is in progress: another capture
/// releases the rest of the authorization.
#[test]
fn rest_of_the_authorization_is_released_after_a_capture_in_progress() {
    let (mut shop, id) = shop_with_authorized_order();
    let capture_key = step_key(id, Step::CapturePayment);
    apply_action(&mut shop, id, RandomAction::Ship(1));
    shop.execute_step(&capture_key, ProviderMode::Responds);
    shop.working_set.changes.steps.clear();
    shop.execute_request("order.cancel_remaining", json!({"id": id}))
        .unwrap();
    assert!(!shop.working_set.changes.steps.contains(&capture_key));
    shop.run_until_settled();
    let payment = &shop.order_payments[&id];
    assert_eq!(
        (payment.captured, payment.is_closed_for_captures),
        (100, true)
    );
    shop.check_settled();
}

/// A dead step that replaces another row has a number of its own, so that no late result matches it after a
/// redrive.
#[test]
fn dead_refund_continues_the_attempts_of_a_refund_in_progress() {
    let (mut shop, id) = shop_with_authorized_order();
    apply_action(&mut shop, id, RandomAction::Ship(0));
    shop.run_until_settled();
    apply_action(&mut shop, id, RandomAction::Refund(50));
    shop.run_until_settled();
    apply_action(&mut shop, id, RandomAction::Refund(30));
    let refund_key = step_key(id, Step::RefundPayment);
    for _ in 0..2 {
        shop.execute_step(&refund_key, ProviderMode::TransientError);
        shop.deliver_result(0, false);
    }
    let row_before = shop.working_set.steps[&refund_key].clone();
    assert_eq!((row_before.attempt, row_before.error_responses), (3, 2));
    shop.apply_provider_event(id, ProviderEvent::RefundFailed(50), true);
    let check_key = step_key(id, Step::CheckPayment);
    shop.execute_step(&check_key, ProviderMode::Responds);
    shop.deliver_result(0, false);
    let dead_row = &shop.working_set.steps[&refund_key];
    assert!(dead_row.is_dead);
    assert_eq!((dead_row.attempt, dead_row.error_responses), (4, 2));
}

/// The capture becomes known after the rest was cancelled: the excess is refunded once, by this system or in the
/// dashboard.
#[test]
fn capture_beyond_the_shipped_items_that_is_reported_late_is_refunded() {
    for is_refunded_in_dashboard in [false, true] {
        let (mut shop, id) = shop_with_authorized_order();
        apply_action(&mut shop, id, RandomAction::Ship(1));
        shop.apply_provider_event(id, ProviderEvent::Captured, false);
        if is_refunded_in_dashboard {
            shop.apply_provider_event(id, ProviderEvent::Refunded(300), false);
        }
        shop.execute_request("order.cancel_remaining", json!({"id": id}))
            .unwrap();
        for _ in 0..2 {
            shop.notify(id);
            shop.run_until_settled();
            let payment = &shop.working_set.orders[&id].payment;
            assert_eq!((payment.captured, payment.refunded), (400, 300));
            shop.check_settled();
        }
        shop.apply_webhook(id, ShipmentUpdate::Returned).unwrap();
        shop.run_until_settled();
        assert_eq!(shop.order_payments[&id].refunded, 400);
        shop.check_settled();
    }
}
