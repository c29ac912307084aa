//! Properties of random histories. `Shop::check` verifies the invariants after every command; this test verifies
//! the final state.

use order_worker::domain::step::Step;
use proptest::{collection::vec, prelude::*};
use serde_json::json;
use shared::{
    id::OrderId,
    order::{OrderStatus, ShipmentUpdate},
};

use crate::shop::{ProviderMode, Shop};

/// A random action; its numbers are indexes of existing objects.
#[derive(Debug, Clone)]
enum RandomAction {
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
    ExecuteStep(usize, ProviderMode),
    /// Delivers a result, possibly to be delivered again.
    DeliverResult(usize, bool),
    /// Expires an order.
    Expire(usize),
    Count(i64),
}

fn random_action() -> impl Strategy<Value = RandomAction> {
    let mode = prop_oneof![
        6 => Just(ProviderMode::Responds),
        2 => Just(ProviderMode::LosesResponse),
        1 => Just(ProviderMode::TransientError),
        1 => Just(ProviderMode::NoFreeSlot),
        1 => Just(ProviderMode::Declines),
    ];
    prop_oneof![
        4 => (0..4u32, 0..3u32).prop_map(|(a, b)| RandomAction::Order { a, b }),
        2 => (0..50usize).prop_map(RandomAction::Cancel),
        1 => (0..50usize).prop_map(RandomAction::Delete),
        1 => (0..50usize).prop_map(RandomAction::Restore),
        2 => (0..50usize, 1..500i64).prop_map(|(order, amount)| RandomAction::Refund(order, amount)),
        3 => (0..50usize, 0..3u32, 0..3u32).prop_map(|(order, a, b)| RandomAction::Ship { order, a, b }),
        4 => (0..50usize, 0..6usize).prop_map(|(order, update)| RandomAction::Webhook(order, update)),
        8 => (0..50usize, mode).prop_map(|(step, mode)| RandomAction::ExecuteStep(step, mode)),
        8 => (0..50usize, any::<bool>()).prop_map(|(answer, again)| RandomAction::DeliverResult(answer, again)),
        1 => (0..50usize).prop_map(RandomAction::Expire),
        1 => (0..30i64).prop_map(RandomAction::Count),
    ]
}

fn pick<T: Clone>(values: &[T], index: usize) -> Option<T> {
    values.get(index % values.len().max(1)).cloned()
}

/// Executes the action. A cancel must succeed if and only if nothing is shipped.
fn apply_action(shop: &mut Shop, orders: &mut Vec<OrderId>, random_action: RandomAction) {
    match random_action {
        RandomAction::Order { a, b } => {
            let items: Vec<_> = [("A", a), ("B", b)]
                .into_iter()
                .filter(|(_, quantity)| *quantity > 0)
                .collect();
            if !items.is_empty() {
                orders.extend(shop.order(&items));
            }
        }
        RandomAction::Cancel(index) => {
            let Some(id) = pick(orders, index) else {
                return;
            };
            let order = shop.working_set.orders[&id].clone();
            let has_left = order
                .uncancelled_shipments()
                .any(|shipment| shipment.shipped_at.is_some());
            let answer = shop.cancel(id);
            assert_eq!(answer.is_ok(), !has_left && !order.is_deleted, "{answer:?}");
            if answer.is_ok() {
                assert_eq!(shop.working_set.orders[&id].status, OrderStatus::Cancelled);
            }
        }
        RandomAction::Delete(index) => {
            if let Some(id) = pick(orders, index) {
                let _ = shop.execute_request("order.delete", json!({"id": id}));
            }
        }
        RandomAction::Restore(index) => {
            if let Some(id) = pick(orders, index) {
                shop.execute_request("order.restore", json!({"id": id}))
                    .unwrap();
            }
        }
        RandomAction::Refund(index, amount) => {
            let Some(id) = pick(orders, index) else {
                return;
            };
            let order = shop.working_set.orders[&id].clone();
            let answer = shop.execute_request("order.refund", json!({"id": id, "amount": amount}));
            let is_possible = amount <= order.refundable() && !order.is_deleted;
            assert_eq!(answer.is_ok(), is_possible, "{answer:?}");
        }
        RandomAction::Ship { order, a, b } => {
            if let Some(id) = pick(orders, order) {
                ship(shop, id, a, b);
            }
        }
        RandomAction::Webhook(index, update) => {
            if let (Some(id), Some(update)) =
                (pick(orders, index), pick(&ShipmentUpdate::ALL, update))
            {
                let _ = shop.webhook(id, update);
            }
        }
        RandomAction::ExecuteStep(index, mode) => {
            if let Some(key) = pick(&shop.due_steps(), index) {
                shop.execute_step(&key, mode);
            }
        }
        RandomAction::DeliverResult(index, is_repeated) => {
            if !shop.results.is_empty() {
                let index = index % shop.results.len();
                shop.deliver_result(index, is_repeated);
            }
        }
        RandomAction::Expire(index) => {
            let timers: Vec<_> = shop
                .working_set
                .steps
                .keys()
                .filter(|key| key.step == Step::ExpireOrder)
                .cloned()
                .collect();
            if let Some(key) = pick(&timers, index) {
                shop.execute_step(&key, ProviderMode::Responds);
            }
        }
        RandomAction::Count(on_hand) => {
            let _ = shop.execute_request(
                "stock.set",
                json!({"sku": "A", "warehouse": "east", "on_hand": on_hand}),
            );
        }
    }
}

/// Ships these quantities, or everything. It must succeed if and only if that much is reserved.
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
    let before = shop.working_set.orders[&id].clone();
    let here = |sku: &str| -> u32 {
        let reserved = before.held.iter().filter(|item| item.sku.as_str() == sku);
        reserved.map(|item| item.quantity.get()).sum()
    };
    let is_possible = before.status == OrderStatus::Processing
        && !before.is_deleted
        && a <= here("A")
        && b <= here("B");
    let answer = shop.execute_request("shipment.create", body);
    assert_eq!(answer.is_ok(), is_possible, "{answer:?}");
    let after = &shop.working_set.orders[&id];
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
    fn random_histories_never_oversell_leak_reservations_or_pay_twice(random_actions in vec(random_action(), 1..120)) {
        let mut shop = Shop::with_stock(&[("A", "east", 6), ("A", "west", 3), ("B", "west", 4)]);
        let mut orders = Vec::new();
        for random_action in random_actions {
            let cancelled: Vec<OrderId> = shop.working_set.orders.values()
                .filter(|order| order.status == OrderStatus::Cancelled).map(|order| order.id).collect();
            apply_action(&mut shop, &mut orders, random_action);
            for id in cancelled {
                prop_assert_eq!(shop.working_set.orders[&id].status, OrderStatus::Cancelled, "a cancelled order stays cancelled");
            }
        }
        // Every order can reach a final state.
        shop.run_until_settled();
        shop.check_settled();
        for id in &orders {
            match shop.working_set.orders[id].status {
                OrderStatus::Processing | OrderStatus::Shipped => {
                    shop.webhook(*id, ShipmentUpdate::Delivered).unwrap();
                }
                OrderStatus::Delivered | OrderStatus::Cancelled => {}
                OrderStatus::Pending => prop_assert!(false, "still pending: {:?}", shop.working_set.steps),
            }
        }
        shop.run_until_settled();
        shop.check_settled();
        for id in &orders {
            let order = &shop.working_set.orders[id];
            let (number, status) = (order.number, order.status.as_str());
            // Returned shipments end an order as well.
            let deleted = shop.execute_request("order.delete", json!({"id": id}));
            prop_assert!(deleted.is_ok(), "{number} is {status}: {deleted:?}");
        }
        let reserved: i64 = shop.working_set.stock_levels.values().flat_map(|shelves| shelves.values()).map(|shelf| shelf.reserved).sum();
        prop_assert_eq!(reserved, 0, "stock is still reserved");
    }
}
