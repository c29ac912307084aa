//! Properties of random histories. `Shop::check` verifies the invariants after every command; this test verifies
//! the final state.

use order_worker::domain::step::Step;
use proptest::{collection::vec, prelude::*};
use serde_json::json;
use shared::{
    id::OrderId,
    order::{OrderStatus, ShipmentUpdate},
};

use crate::shop::{Mood, Shop};

/// A random action; its numbers are indexes of existing objects.
#[derive(Debug, Clone)]
enum Happening {
    Order {
        a: u32,
        b: u32,
    },
    Cancel(usize),
    Delete(usize),
    Restore(usize),
    Refund(usize, i64),
    Ship {
        order: usize,
        a: u32,
        b: u32,
    },
    Webhook(usize, usize),
    /// Executes a step at the provider.
    Perform(usize, Mood),
    /// Delivers a result, possibly to be delivered again.
    Arrive(usize, bool),
    /// Expires an order.
    Expire(usize),
    Count(i64),
}

fn happening() -> impl Strategy<Value = Happening> {
    let mood = prop_oneof![
        6 => Just(Mood::Fine),
        2 => Just(Mood::LosesAnswer),
        1 => Just(Mood::Busy),
        1 => Just(Mood::HasNoRoom),
        1 => Just(Mood::Declines),
    ];
    prop_oneof![
        4 => (0..4u32, 0..3u32).prop_map(|(a, b)| Happening::Order { a, b }),
        2 => (0..50usize).prop_map(Happening::Cancel),
        1 => (0..50usize).prop_map(Happening::Delete),
        1 => (0..50usize).prop_map(Happening::Restore),
        2 => (0..50usize, 1..500i64).prop_map(|(order, amount)| Happening::Refund(order, amount)),
        3 => (0..50usize, 0..3u32, 0..3u32).prop_map(|(order, a, b)| Happening::Ship { order, a, b }),
        4 => (0..50usize, 0..6usize).prop_map(|(order, update)| Happening::Webhook(order, update)),
        8 => (0..50usize, mood).prop_map(|(step, mood)| Happening::Perform(step, mood)),
        8 => (0..50usize, any::<bool>()).prop_map(|(answer, again)| Happening::Arrive(answer, again)),
        1 => (0..50usize).prop_map(Happening::Expire),
        1 => (0..30i64).prop_map(Happening::Count),
    ]
}

fn pick<T: Clone>(things: &[T], index: usize) -> Option<T> {
    things.get(index % things.len().max(1)).cloned()
}

/// Executes the action. A cancel must succeed if and only if nothing is shipped.
fn happen(shop: &mut Shop, orders: &mut Vec<OrderId>, happening: Happening) {
    match happening {
        Happening::Order { a, b } => {
            let items: Vec<_> = [("A", a), ("B", b)]
                .into_iter()
                .filter(|(_, quantity)| *quantity > 0)
                .collect();
            if !items.is_empty() {
                orders.extend(shop.order(&items));
            }
        }
        Happening::Cancel(index) => {
            let Some(id) = pick(orders, index) else {
                return;
            };
            let order = shop.world.orders[&id].clone();
            let has_left = order
                .active_shipments()
                .any(|parcel| parcel.shipped_at.is_some());
            let answer = shop.cancel(id);
            assert_eq!(answer.is_ok(), !has_left && !order.is_deleted, "{answer:?}");
            if answer.is_ok() {
                assert_eq!(shop.world.orders[&id].status, OrderStatus::Cancelled);
            }
        }
        Happening::Delete(index) => {
            if let Some(id) = pick(orders, index) {
                let _ = shop.ask("order.delete", json!({"id": id}));
            }
        }
        Happening::Restore(index) => {
            if let Some(id) = pick(orders, index) {
                shop.ask("order.restore", json!({"id": id})).unwrap();
            }
        }
        Happening::Refund(index, amount) => {
            let Some(id) = pick(orders, index) else {
                return;
            };
            let order = shop.world.orders[&id].clone();
            let answer = shop.ask("order.refund", json!({"id": id, "amount": amount}));
            let is_possible = amount <= order.refundable() && !order.is_deleted;
            assert_eq!(answer.is_ok(), is_possible, "{answer:?}");
        }
        Happening::Ship { order, a, b } => {
            if let Some(id) = pick(orders, order) {
                ship(shop, id, a, b);
            }
        }
        Happening::Webhook(index, update) => {
            if let (Some(id), Some(update)) =
                (pick(orders, index), pick(&ShipmentUpdate::ALL, update))
            {
                let _ = shop.webhook(id, update);
            }
        }
        Happening::Perform(index, mood) => {
            if let Some(key) = pick(&shop.waiting(), index) {
                shop.perform(&key, mood);
            }
        }
        Happening::Arrive(index, is_repeated) => {
            if !shop.answers.is_empty() {
                let index = index % shop.answers.len();
                shop.arrive(index, is_repeated);
            }
        }
        Happening::Expire(index) => {
            let timers: Vec<_> = shop
                .world
                .steps
                .keys()
                .filter(|key| key.step == Step::ExpireOrder)
                .cloned()
                .collect();
            if let Some(key) = pick(&timers, index) {
                shop.perform(&key, Mood::Fine);
            }
        }
        Happening::Count(on_hand) => {
            let _ = shop.ask(
                "stock.set",
                json!({"sku": "A", "warehouse": "east", "on_hand": on_hand}),
            );
        }
    }
}

/// Ships these quantities, or everything. It must succeed if and only if so much is reserved.
fn ship(shop: &mut Shop, id: OrderId, a: u32, b: u32) {
    let items: Vec<_> = [("A", a), ("B", b)]
        .into_iter()
        .filter(|(_, quantity)| *quantity > 0)
        .map(|(sku, quantity)| json!({"sku": sku, "quantity": quantity}))
        .collect();
    // Without items, everything reserved is shipped.
    let body = if items.is_empty() {
        json!({"id": id})
    } else {
        json!({"id": id, "items": items})
    };
    let before = shop.world.orders[&id].clone();
    let here = |sku: &str| -> u32 {
        let held = before.held.iter().filter(|item| item.sku.as_str() == sku);
        held.map(|item| item.quantity.get()).sum()
    };
    let is_possible = before.status == OrderStatus::Processing
        && !before.is_deleted
        && a <= here("A")
        && b <= here("B");
    let answer = shop.ask("shipment.create", body);
    assert_eq!(answer.is_ok(), is_possible, "{answer:?}");
    let after = &shop.world.orders[&id];
    let units = |order: &order_worker::domain::order::Order| -> u32 {
        order.held.iter().map(|item| item.quantity.get()).sum()
    };
    let left = match (is_possible, a + b) {
        (false, _) => 0,
        (true, 0) => units(&before),
        (true, named) => named,
    };
    assert_eq!(units(&before) - units(after), left);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_nothing_is_oversold_left_behind_or_paid_twice(happenings in vec(happening(), 1..120)) {
        let mut shop = Shop::with_stock(&[("A", "east", 6), ("A", "west", 3), ("B", "west", 4)]);
        let mut orders = Vec::new();
        for happening in happenings {
            let cancelled: Vec<OrderId> = shop.world.orders.values()
                .filter(|order| order.status == OrderStatus::Cancelled).map(|order| order.id).collect();
            happen(&mut shop, &mut orders, happening);
            for id in cancelled {
                prop_assert_eq!(shop.world.orders[&id].status, OrderStatus::Cancelled, "cancelled is cancelled");
            }
        }
        // Every order can reach a final state.
        shop.settle();
        shop.check_settled();
        for id in &orders {
            match shop.world.orders[id].status {
                OrderStatus::Processing | OrderStatus::Shipped => {
                    shop.webhook(*id, ShipmentUpdate::Delivered).unwrap();
                }
                OrderStatus::Delivered | OrderStatus::Cancelled => {}
                OrderStatus::Pending => prop_assert!(false, "still pending: {:?}", shop.world.steps),
            }
        }
        shop.settle();
        shop.check_settled();
        for id in &orders {
            let order = &shop.world.orders[id];
            let (number, status) = (order.number, order.status.as_str());
            // Returned shipments end an order as well.
            let deleted = shop.ask("order.delete", json!({"id": id}));
            prop_assert!(deleted.is_ok(), "{number} is {status}: {deleted:?}");
        }
        let reserved: i64 = shop.world.shelves.values().flat_map(|shelves| shelves.values()).map(|shelf| shelf.reserved).sum();
        prop_assert_eq!(reserved, 0, "a reservation was left behind");
    }
}
