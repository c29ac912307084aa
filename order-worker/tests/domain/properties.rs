//! Properties of random histories. `Shop::check_invariants` verifies the invariants after every command; this
//! test verifies the final state.

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
    CreateOrder {
        units_of_a: u32,
        units_of_b: u32,
    },
    Cancel(usize),
    Delete(usize),
    Restore(usize),
    Edit {
        order_index: usize,
        units_of_a: u32,
        units_of_b: u32,
    },
    CancelEdit(usize),
    Refund(usize, i64),
    Ship {
        order_index: usize,
        units_of_a: u32,
        units_of_b: u32,
    },
    ShipperWebhook(usize, usize),
    /// Executes a step at the provider.
    ExecuteStep(usize, ProviderMode),
    /// Delivers a result, possibly to be delivered again.
    DeliverResult(usize, bool),
    /// Fires the expiry timer of an order or of an edit.
    Expire(usize),
    SetStock(i64),
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
        4 => (0..4u32, 0..3u32).prop_map(|(units_of_a, units_of_b)| RandomAction::CreateOrder { units_of_a, units_of_b }),
        2 => (0..50usize).prop_map(RandomAction::Cancel),
        1 => (0..50usize).prop_map(RandomAction::Delete),
        1 => (0..50usize).prop_map(RandomAction::Restore),
        4 => (0..50usize, 0..5u32, 0..4u32).prop_map(|(order_index, units_of_a, units_of_b)| RandomAction::Edit { order_index, units_of_a, units_of_b }),
        1 => (0..50usize).prop_map(RandomAction::CancelEdit),
        2 => (0..50usize, 1..500i64).prop_map(|(order_index, amount)| RandomAction::Refund(order_index, amount)),
        3 => (0..50usize, 0..3u32, 0..3u32).prop_map(|(order_index, units_of_a, units_of_b)| RandomAction::Ship { order_index, units_of_a, units_of_b }),
        4 => (0..50usize, 0..6usize).prop_map(|(order_index, update_index)| RandomAction::ShipperWebhook(order_index, update_index)),
        8 => (0..50usize, mode).prop_map(|(step_index, mode)| RandomAction::ExecuteStep(step_index, mode)),
        8 => (0..50usize, any::<bool>()).prop_map(|(result_index, stays_in_flight)| RandomAction::DeliverResult(result_index, stays_in_flight)),
        1 => (0..50usize).prop_map(RandomAction::Expire),
        1 => (0..30i64).prop_map(RandomAction::SetStock),
    ]
}

fn element_at<T: Clone>(elements: &[T], index: usize) -> Option<T> {
    elements.get(index % elements.len().max(1)).cloned()
}

/// Executes the action. A cancel must succeed if and only if nothing is shipped.
#[expect(clippy::too_many_lines, reason = "one arm per action")]
fn apply_action(shop: &mut Shop, order_ids: &mut Vec<OrderId>, random_action: RandomAction) {
    match random_action {
        RandomAction::CreateOrder {
            units_of_a,
            units_of_b,
        } => {
            let items: Vec<_> = [("A", units_of_a), ("B", units_of_b)]
                .into_iter()
                .filter(|(_, quantity)| *quantity > 0)
                .collect();
            if !items.is_empty() {
                order_ids.extend(shop.order(&items));
            }
        }
        RandomAction::Cancel(order_index) => {
            let Some(id) = element_at(order_ids, order_index) else {
                return;
            };
            let order = shop.working_set.orders[&id].clone();
            let has_shipped_units = order
                .uncancelled_shipments()
                .any(|shipment| shipment.shipped_at.is_some());
            let cancel_outcome = shop.cancel(id);
            assert_eq!(
                cancel_outcome.is_ok(),
                !has_shipped_units && !order.is_deleted,
                "{cancel_outcome:?}"
            );
            if cancel_outcome.is_ok() {
                assert_eq!(shop.working_set.orders[&id].status, OrderStatus::Cancelled);
            }
        }
        RandomAction::Delete(order_index) => {
            if let Some(id) = element_at(order_ids, order_index) {
                let _ = shop.execute_request("order.delete", json!({"id": id}));
            }
        }
        RandomAction::Restore(order_index) => {
            if let Some(id) = element_at(order_ids, order_index) {
                shop.execute_request("order.restore", json!({"id": id}))
                    .unwrap();
            }
        }
        RandomAction::Edit {
            order_index,
            units_of_a,
            units_of_b,
        } => edit_order(
            shop,
            element_at(order_ids, order_index),
            units_of_a,
            units_of_b,
        ),
        RandomAction::CancelEdit(order_index) => {
            if let Some(id) = element_at(order_ids, order_index) {
                cancel_edit(shop, id);
            }
        }
        RandomAction::Refund(order_index, amount) => {
            let Some(id) = element_at(order_ids, order_index) else {
                return;
            };
            let order = shop.working_set.orders[&id].clone();
            let refund_outcome =
                shop.execute_request("order.refund", json!({"id": id, "amount": amount}));
            let is_possible = amount <= order.refundable_amount() && !order.is_deleted;
            assert_eq!(refund_outcome.is_ok(), is_possible, "{refund_outcome:?}");
        }
        RandomAction::Ship {
            order_index,
            units_of_a,
            units_of_b,
        } => {
            if let Some(id) = element_at(order_ids, order_index) {
                ship_units(shop, id, units_of_a, units_of_b);
            }
        }
        RandomAction::ShipperWebhook(order_index, update_index) => {
            if let (Some(id), Some(update)) = (
                element_at(order_ids, order_index),
                element_at(&ShipmentUpdate::ALL, update_index),
            ) {
                let _ = shop.apply_webhook(id, update);
            }
        }
        RandomAction::ExecuteStep(step_index, mode) => {
            if let Some(key) = element_at(&shop.due_steps(), step_index) {
                shop.execute_step(&key, mode);
            }
        }
        RandomAction::DeliverResult(result_index, stays_in_flight) => {
            if !shop.step_results.is_empty() {
                let result_index = result_index % shop.step_results.len();
                shop.deliver_result(result_index, stays_in_flight);
            }
        }
        RandomAction::Expire(order_index) => {
            let timers: Vec<_> = shop
                .working_set
                .steps
                .keys()
                .filter(|key| matches!(key.step, Step::ExpireOrder | Step::ExpireEdit(_)))
                .cloned()
                .collect();
            if let Some(key) = element_at(&timers, order_index) {
                shop.execute_step(&key, ProviderMode::Responds);
            }
        }
        RandomAction::SetStock(on_hand) => {
            let _ = shop.execute_request(
                "stock.set",
                json!({"sku": "A", "warehouse": "east", "on_hand": on_hand}),
            );
        }
    }
}

/// Sets these quantities. An edit that is refused changes nothing; one that is pending changes nothing but the
/// stock that it has reserved.
fn edit_order(shop: &mut Shop, id: Option<OrderId>, units_of_a: u32, units_of_b: u32) {
    let Some(id) = id else {
        return;
    };
    let order_before = shop.working_set.orders[&id].clone();
    let is_ordered = |sku: &str| {
        order_before
            .items
            .iter()
            .any(|line| line.sku.as_str() == sku)
    };
    let items: Vec<_> = [("A", units_of_a), ("B", units_of_b)]
        .into_iter()
        .filter(|(sku, quantity)| *quantity > 0 || is_ordered(sku))
        .map(|(sku, quantity)| json!({"sku": sku, "quantity": quantity}))
        .collect();
    let edit_outcome = shop.execute_request("order.edit", json!({"id": id, "items": items}));
    let order_after = &shop.working_set.orders[&id];
    match edit_outcome {
        Err(_) => assert_eq!(*order_after, order_before),
        Ok(_) if order_after.pending_edit.is_some() => {
            assert!(order_before.pending_edit.is_none());
            assert_eq!(
                (
                    &order_after.items,
                    order_after.total,
                    &order_after.reserved_items
                ),
                (
                    &order_before.items,
                    order_before.total,
                    &order_before.reserved_items
                )
            );
        }
        Ok(_) => {
            let ordered_units = |sku: &str| -> u32 {
                let lines = order_after
                    .items
                    .iter()
                    .filter(|line| line.sku.as_str() == sku);
                lines.map(|line| line.quantity.get()).sum()
            };
            assert_eq!(
                (ordered_units("A"), ordered_units("B")),
                (units_of_a, units_of_b)
            );
            assert!(
                order_after.total <= order_after.payable_amount()
                    || order_after.status == OrderStatus::Pending
            );
        }
    }
}

/// Cancels the order's pending edit; it is refused if there is none.
fn cancel_edit(shop: &mut Shop, id: OrderId) {
    let order = shop.working_set.orders[&id].clone();
    let cancel_outcome = shop.execute_request("order.cancel_edit", json!({"id": id}));
    let is_possible = order.pending_edit.is_some() && !order.is_deleted;
    assert_eq!(cancel_outcome.is_ok(), is_possible, "{cancel_outcome:?}");
}

/// Ships these quantities, or everything. It must succeed if and only if that much is reserved.
fn ship_units(shop: &mut Shop, id: OrderId, units_of_a: u32, units_of_b: u32) {
    let items: Vec<_> = [("A", units_of_a), ("B", units_of_b)]
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
    let order_before = shop.working_set.orders[&id].clone();
    let unshipped_units = |sku: &str| -> u32 {
        let reserved_items = order_before
            .reserved_items
            .iter()
            .filter(|item| item.sku.as_str() == sku);
        reserved_items.map(|item| item.quantity.get()).sum()
    };
    let is_possible = order_before.status == OrderStatus::Processing
        && order_before.pending_edit.is_none()
        && !order_before.is_deleted
        && units_of_a <= unshipped_units("A")
        && units_of_b <= unshipped_units("B");
    let shipment_outcome = shop.execute_request("shipment.create", body);
    assert_eq!(
        shipment_outcome.is_ok(),
        is_possible,
        "{shipment_outcome:?}"
    );
    let order_after = &shop.working_set.orders[&id];
    let reserved_units = |order: &order_worker::domain::order::Order| -> u32 {
        order
            .reserved_items
            .iter()
            .map(|item| item.quantity.get())
            .sum()
    };
    let expected_shipped_units = match (is_possible, units_of_a + units_of_b) {
        (false, _) => 0,
        (true, 0) => reserved_units(&order_before),
        (true, named_units) => named_units,
    };
    assert_eq!(
        reserved_units(&order_before) - reserved_units(order_after),
        expected_shipped_units
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_histories_never_oversell_leak_reservations_or_pay_twice(random_actions in vec(random_action(), 1..120)) {
        let mut shop = Shop::with_stock(&[("A", "east", 6), ("A", "west", 3), ("B", "west", 4)]);
        let mut order_ids = Vec::new();
        for random_action in random_actions {
            let cancelled_ids: Vec<OrderId> = shop.working_set.orders.values()
                .filter(|order| order.status == OrderStatus::Cancelled).map(|order| order.id).collect();
            apply_action(&mut shop, &mut order_ids, random_action);
            for id in cancelled_ids {
                prop_assert_eq!(shop.working_set.orders[&id].status, OrderStatus::Cancelled, "a cancelled order stays cancelled");
            }
        }
        // Every order can reach a final state.
        shop.run_until_settled();
        shop.check_settled();
        for id in &order_ids {
            match shop.working_set.orders[id].status {
                OrderStatus::Processing | OrderStatus::Shipped => {
                    shop.apply_webhook(*id, ShipmentUpdate::Delivered).unwrap();
                }
                OrderStatus::Delivered | OrderStatus::Cancelled => {}
                OrderStatus::Pending => prop_assert!(false, "still pending: {:?}", shop.working_set.steps),
            }
        }
        shop.run_until_settled();
        shop.check_settled();
        for id in &order_ids {
            let order = &shop.working_set.orders[id];
            let (order_number, status) = (order.number, order.status.as_str());
            // Returned shipments end an order as well.
            let delete_reply = shop.execute_request("order.delete", json!({"id": id}));
            prop_assert!(delete_reply.is_ok(), "{order_number} is {status}: {delete_reply:?}");
        }
        let reserved_units: i64 = shop.working_set.stock_levels.values().flat_map(|stock_by_warehouse| stock_by_warehouse.values()).map(|stock_level| stock_level.reserved).sum();
        prop_assert_eq!(reserved_units, 0, "stock is still reserved");
    }
}
