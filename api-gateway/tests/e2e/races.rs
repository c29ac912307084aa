//! Concurrent actions on orders in random sequence. Of conflicting actions one succeeds, and the history
//! explains why the others were refused.

use futures_util::{StreamExt, stream};
use serde_json::{Value, json};

use crate::harness::{Reply, System, order_body_with_method};

const ORDER_COUNT: usize = 100;
const ACTIONS_PER_ORDER: usize = 30;
const CONCURRENCY: usize = 64;

/// SplitMix64, a pseudorandom number generator.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// A number from 0 to `upper_bound - 1`.
    pub(crate) fn random_below(&mut self, upper_bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed_state = self.0;
        mixed_state = (mixed_state ^ (mixed_state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed_state = (mixed_state ^ (mixed_state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed_state ^ (mixed_state >> 31)) % upper_bound as u64).unwrap()
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum OrderAction {
    Approve,
    Reject,
    Cancel,
    Ship,
    ShipPart,
    Webhook(&'static str),
    Refund,
    Delete,
}

const ALL_ACTIONS: [OrderAction; 13] = [
    OrderAction::Approve,
    OrderAction::Approve,
    OrderAction::Reject,
    OrderAction::Cancel,
    OrderAction::Ship,
    OrderAction::ShipPart,
    OrderAction::Webhook("shipment.shipped"),
    OrderAction::Webhook("shipment.delivered"),
    OrderAction::Webhook("shipment.returned"),
    OrderAction::Refund,
    OrderAction::Refund,
    OrderAction::Approve,
    OrderAction::Delete,
];

impl System {
    async fn perform_action(
        &self,
        order_id: &str,
        action: OrderAction,
        webhook_number: usize,
    ) -> Reply {
        let action_path = |subpath: &str| format!("/v1/orders/{order_id}/{subpath}");
        match action {
            OrderAction::Approve => self.post(&action_path("approve"), json!({})).await,
            OrderAction::Reject => self.post(&action_path("reject"), json!({})).await,
            OrderAction::Cancel => self.post(&action_path("cancel"), json!({})).await,
            OrderAction::Ship => self.post(&action_path("shipments"), json!({})).await,
            OrderAction::ShipPart => {
                let one_unit_shipment = json!({"items": [{"sku": "A", "quantity": 1}]});
                self.post(&action_path("shipments"), one_unit_shipment)
                    .await
            }
            OrderAction::Webhook(event_type) => {
                self.send_webhook(&format!("m-{webhook_number}"), event_type, order_id)
                    .await
            }
            OrderAction::Refund => {
                self.post(&action_path("refunds"), json!({"amount": 700}))
                    .await
            }
            OrderAction::Delete => self.delete(&format!("/v1/orders/{order_id}")).await,
        }
    }
}

/// Whether these events are a reason for refusing the action.
fn justifies_refusal(earlier_events: &[(&str, &Value)], action: OrderAction) -> bool {
    let has_event = |event_type: &str| earlier_events.iter().any(|(event, _)| *event == event_type);
    let sum_of = |event_type: &str| -> i64 {
        let events_of_kind = earlier_events
            .iter()
            .filter(|(event, _)| *event == event_type);
        events_of_kind
            .map(|(_, data)| data["amount"].as_i64().unwrap())
            .sum()
    };
    let is_processing = has_event("order.processing")
        && !has_event("order.cancelled")
        && !has_event("order.shipped");
    match action {
        OrderAction::Approve => has_event("order.cancelled"),
        OrderAction::Reject => has_event("order.approved") || has_event("order.cancelled"),
        OrderAction::Cancel | OrderAction::Delete => has_event("shipment.shipped"),
        OrderAction::Ship | OrderAction::ShipPart => !is_processing,
        OrderAction::Webhook(_) => !has_event("order.processing") || has_event("order.cancelled"),
        OrderAction::Refund => sum_of("payment.captured") <= sum_of("payment.refund_requested"),
    }
}

#[tokio::test]
async fn history_explains_every_refusal_of_concurrent_actions() {
    let system = System::start_with(&[
        ("ORDER_APPROVAL", "manual"),
        ("RESERVATION_TTL_SECONDS", "2"),
    ])
    .await;
    system
        .create_product_with_stock("A", &[("east", 1_000), ("west", 1_000)])
        .await;
    let customer_id = system.create_customer().await;
    let mut random = Random(1);
    let mut actions = Vec::new();
    for number in 0..ORDER_COUNT {
        let payment_methods = [
            "pm_ok",
            "pm_ok",
            "pm_flaky",
            "pm_slow",
            "pm_declined",
            "pm_timeout_after_charge",
        ];
        let payment_method = payment_methods[random.random_below(payment_methods.len())];
        let new_order = order_body_with_method(&customer_id, "A", 3, payment_method);
        let created_order = system.post("/v1/orders", new_order).await.expect(201);
        let id = created_order["id"].as_str().unwrap().to_owned();
        actions.extend((0..ACTIONS_PER_ORDER).map(|_| {
            (
                id.clone(),
                ALL_ACTIONS[random.random_below(ALL_ACTIONS.len())],
                number,
            )
        }));
    }
    // Shuffled across all orders.
    for index in (1..actions.len()).rev() {
        actions.swap(index, random.random_below(index + 1));
    }
    let action_results: Vec<_> = stream::iter(actions.into_iter().enumerate())
        .map(|(number, (id, action, _))| {
            let system = &system;
            async move {
                let reply = system.perform_action(&id, action, number).await;
                (id, action, reply)
            }
        })
        .buffer_unordered(CONCURRENCY)
        .collect()
        .await;
    assert_eq!(action_results.len(), ORDER_COUNT * ACTIONS_PER_ORDER);
    system.wait_until_idle().await;
    system.assert_verified();

    let (mut event_histories, mut refused_count) = (std::collections::HashMap::new(), 0);
    for (id, action, reply) in &action_results {
        assert!(
            matches!(reply.status, 200..=204 | 404 | 409 | 422),
            "{action:?}: {} {}",
            reply.status,
            reply.body
        );
        // A 409 contains the version of the order that it was decided on. An excessive amount is a 422, which
        // does not depend on the order's state.
        if reply.status != 409 {
            continue;
        }
        refused_count += 1;
        if !event_histories.contains_key(id) {
            let path = format!("/v1/orders/{id}/history?limit=200&include_deleted=true");
            event_histories.insert(id.clone(), system.get(&path).await.expect(200));
        }
        let version = reply.body["order"]["version"].as_u64().unwrap();
        let events = event_histories[id]["data"].as_array().unwrap().iter();
        let happened_events: Vec<_> = events
            .filter(|event| event["sequence"].as_u64().unwrap() <= version)
            .map(|event| (event["type"].as_str().unwrap(), &event["data"]))
            .collect();
        assert!(
            justifies_refusal(&happened_events, *action),
            "{action:?} was refused without a reason in the history: {}\n{happened_events:?}",
            reply.body
        );
    }
    assert!(
        refused_count > 100,
        "too few actions were refused for a race: {refused_count}"
    );
}
