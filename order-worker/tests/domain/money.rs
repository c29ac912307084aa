//! Whatever happens at the provider (the customer authenticates or fails to, a hold ends, somebody
//! captures or refunds at the provider's own console), in whatever order it is heard of, twice or not at
//! all for a while: in the end our books are the provider's.

use order_worker::domain::step::{Step, StepKey};
use proptest::{collection::vec, prelude::*};
use serde_json::json;
use shared::{
    id::OrderId,
    order::{OrderStatus, PaymentStatus, ShipmentUpdate},
};

use crate::shop::{Elsewhere, Mood, Shop};

#[derive(Debug, Clone)]
enum Happening {
    Cancel,
    Refund(i64),
    Ship(u32),
    Webhook(usize),
    Elsewhere(Elsewhere, bool),
    Notice,
    Perform(usize, Mood),
    Arrive(usize, bool),
    Expire,
}

fn happening() -> impl Strategy<Value = Happening> {
    let elsewhere = prop_oneof![
        4 => Just(Elsewhere::Authenticates),
        1 => Just(Elsewhere::Fails),
        1 => Just(Elsewhere::Ends),
        1 => Just(Elsewhere::Captures),
        2 => (1..400i64).prop_map(Elsewhere::Refunds),
        1 => (1..400i64).prop_map(Elsewhere::Returns),
    ];
    let mood = prop_oneof![
        5 => Just(Mood::Fine),
        2 => Just(Mood::LosesAnswer),
        1 => Just(Mood::Busy),
        1 => Just(Mood::HasNoRoom),
        1 => Just(Mood::Declines),
        3 => Just(Mood::Questions),
    ];
    prop_oneof![
        1 => Just(Happening::Cancel),
        2 => (1..300i64).prop_map(Happening::Refund),
        2 => (0..3u32).prop_map(Happening::Ship),
        3 => (0..6usize).prop_map(Happening::Webhook),
        6 => (elsewhere, any::<bool>()).prop_map(|(what, is_heard)| Happening::Elsewhere(what, is_heard)),
        2 => Just(Happening::Notice),
        10 => (0..10usize, mood).prop_map(|(step, mood)| Happening::Perform(step, mood)),
        10 => (0..10usize, any::<bool>()).prop_map(|(answer, again)| Happening::Arrive(answer, again)),
        1 => Just(Happening::Expire),
    ]
}

fn happen(shop: &mut Shop, id: OrderId, happening: Happening) {
    match happening {
        Happening::Cancel => drop(shop.cancel(id)),
        Happening::Refund(amount) => {
            drop(shop.ask("order.refund", json!({"id": id, "amount": amount})));
        }
        Happening::Ship(0) => drop(shop.ask("shipment.create", json!({"id": id}))),
        Happening::Ship(quantity) => {
            let items = json!([{"sku": "A", "quantity": quantity}]);
            drop(shop.ask("shipment.create", json!({"id": id, "items": items})));
        }
        Happening::Webhook(update) => drop(shop.webhook(id, ShipmentUpdate::ALL[update])),
        Happening::Elsewhere(what, is_heard) => shop.elsewhere(id, what, is_heard),
        Happening::Notice => shop.notify(id),
        Happening::Perform(index, mood) => {
            let waiting = shop.waiting();
            if !waiting.is_empty() {
                shop.perform(&waiting[index % waiting.len()], mood);
            }
        }
        Happening::Arrive(index, is_repeated) => {
            if !shop.answers.is_empty() {
                shop.arrive(index % shop.answers.len(), is_repeated);
            }
        }
        Happening::Expire => {
            let key = StepKey {
                order_id: id,
                step: Step::ExpireOrder,
            };
            if shop.world.steps.contains_key(&key) {
                shop.perform(&key, Mood::Fine);
            }
        }
    }
}

/// All that happened is heard of in the end, and a customer who is asked answers.
fn come_to_rest(shop: &mut Shop, id: OrderId) {
    for _ in 0..3 {
        shop.elsewhere(id, Elsewhere::Authenticates, true);
        shop.settle();
        shop.notify(id);
        shop.settle();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn our_books_are_the_providers(
        happenings in vec(happening(), 1..60), prepares: bool, captures_in_parts: bool,
    ) {
        let mut shop = Shop::with_stock(&[("A", "east", 3), ("A", "west", 3)]);
        (shop.prepares, shop.captures_in_parts) = (prepares, captures_in_parts);
        let id = shop.order(&[("A", 4)]).unwrap();
        let has_failed = |one: &Happening| matches!(one, Happening::Elsewhere(Elsewhere::Returns(_), _));
        let has_failed = happenings.iter().any(has_failed);
        for happening in happenings {
            happen(&mut shop, id, happening);
        }
        come_to_rest(&mut shop, id);
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
            // A refund that the bank sent back is left to an operator.
            let is_left = is_dead && is_said_to_fail;
            prop_assert!(is_left || held.captured == held.refunded, "nobody pays for what is cancelled");
        } else if !is_dead && (captures_in_parts || order.held.is_empty()) {
            prop_assert!(held.captured >= order.capture_due(), "what has left is paid for");
        }
        // What came back is given back, as far as it was paid for.
        prop_assert!(is_dead || order.payment.refunded >= order.returned().min(order.payment.captured));
    }
}

#[test]
fn a_customer_who_has_to_authenticate_is_waited_for_until_the_time_is_up() {
    let mut shop = Shop::with_stock(&[("A", "main", 2)]);
    shop.prepares = true;
    let ids = [(); 2].map(|()| shop.order(&[("A", 1)]).unwrap());
    for id in ids {
        let key = StepKey {
            order_id: id,
            step: Step::AuthorizePayment,
        };
        for _ in 0..2 {
            shop.perform(&key, Mood::Questions);
            shop.arrive(0, false);
        }
        let order = &shop.world.orders[&id];
        assert_eq!(order.status, OrderStatus::Pending);
        assert_eq!(
            order.payment.next_action.as_ref().unwrap().kind,
            "use_stripe_sdk"
        );
    }
    // One does in time.
    shop.elsewhere(ids[0], Elsewhere::Authenticates, true);
    shop.settle();
    let order = &shop.world.orders[&ids[0]];
    assert_eq!(order.status, OrderStatus::Processing);
    assert_eq!(order.payment.next_action, None);
    // The other's money is not held after all.
    happen(&mut shop, ids[1], Happening::Expire);
    shop.settle();
    shop.elsewhere(ids[1], Elsewhere::Authenticates, true);
    shop.settle();
    let order = &shop.world.orders[&ids[1]];
    assert_eq!(order.status, OrderStatus::Cancelled);
    assert_eq!(order.payment.status, PaymentStatus::Voided);
    assert_eq!(shop.provider[&ids[1]].authorizations, 0);
    shop.check_settled();
}

#[test]
fn what_leaves_in_parts_is_paid_for_in_parts() {
    let mut shop = Shop::with_stock(&[("A", "east", 3), ("A", "west", 3)]);
    let id = shop.order(&[("A", 4)]).unwrap();
    shop.settle();
    let mut captured = Vec::new();
    for quantity in [1, 2, 1] {
        happen(&mut shop, id, Happening::Ship(quantity));
        shop.settle();
        captured.push(shop.world.orders[&id].payment.captured);
    }
    assert_eq!(captured, [100, 300, 400]);
}

#[test]
fn what_comes_back_is_on_its_shelf_again_and_given_back() {
    let mut shop = Shop::with_stock(&[("A", "east", 3), ("B", "west", 3)]);
    let id = shop.order(&[("A", 2), ("B", 1)]).unwrap();
    shop.settle();
    shop.webhook(id, ShipmentUpdate::Shipped).unwrap();
    shop.settle();
    let parcel = |shop: &Shop, warehouse: &str| {
        let mut parcels = shop.world.orders[&id].shipments.iter();
        let from =
            |parcel: &&shared::order::Shipment| parcel.items[0].warehouse.as_str() == warehouse;
        parcels.find(from).unwrap().id
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
        shop.settle();
    }
    let on_hand = |sku: &str| -> i64 {
        let shelves = &shop.world.shelves[&sku.parse().unwrap()];
        shelves.values().map(|shelf| shelf.on_hand).sum()
    };
    assert_eq!((on_hand("A"), on_hand("B")), (3, 2));
    let order = &shop.world.orders[&id];
    assert_eq!(order.status, OrderStatus::Delivered);
    assert_eq!((order.payment.captured, order.payment.refunded), (300, 200));
    shop.check_settled();
}
