//! Concurrent actions on orders in random sequence. Of conflicting actions one succeeds, and the history
//! explains why the others were refused.

use futures_util::{StreamExt, stream};
use serde_json::{Value, json};

use crate::harness::{Reply, System, order_paid_by};

const ORDERS: usize = 100;
const DEEDS: usize = 30;
const AT_ONCE: usize = 64;

/// SplitMix64, a pseudorandom number generator.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % bound as u64).unwrap()
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Deed {
    Approve,
    Reject,
    Cancel,
    Ship,
    ShipPart,
    Webhook(&'static str),
    Refund,
    Delete,
}

const ALL: [Deed; 13] = [
    Deed::Approve,
    Deed::Approve,
    Deed::Reject,
    Deed::Cancel,
    Deed::Ship,
    Deed::ShipPart,
    Deed::Webhook("shipment.shipped"),
    Deed::Webhook("shipment.delivered"),
    Deed::Webhook("shipment.returned"),
    Deed::Refund,
    Deed::Refund,
    Deed::Approve,
    Deed::Delete,
];

impl System {
    async fn do_to(&self, id: &str, deed: Deed, number: usize) -> Reply {
        let path = |what: &str| format!("/v1/orders/{id}/{what}");
        match deed {
            Deed::Approve => self.post(&path("approve"), json!({})).await,
            Deed::Reject => self.post(&path("reject"), json!({})).await,
            Deed::Cancel => self.post(&path("cancel"), json!({})).await,
            Deed::Ship => self.post(&path("shipments"), json!({})).await,
            Deed::ShipPart => {
                let part = json!({"items": [{"sku": "A", "quantity": 1}]});
                self.post(&path("shipments"), part).await
            }
            Deed::Webhook(kind) => self.webhook(&format!("m-{number}"), kind, id).await,
            Deed::Refund => self.post(&path("refunds"), json!({"amount": 700})).await,
            Deed::Delete => self.delete(&format!("/v1/orders/{id}")).await,
        }
    }
}

/// Whether these events are a reason to refuse the action.
fn explains(happened: &[(&str, &Value)], deed: Deed) -> bool {
    let has = |kind: &str| happened.iter().any(|(event, _)| *event == kind);
    let sum = |kind: &str| -> i64 {
        let those = happened.iter().filter(|(event, _)| *event == kind);
        those
            .map(|(_, data)| data["amount"].as_i64().unwrap())
            .sum()
    };
    let is_processing = has("order.processing") && !has("order.cancelled") && !has("order.shipped");
    match deed {
        Deed::Approve => has("order.cancelled"),
        Deed::Reject => has("order.approved") || has("order.cancelled"),
        Deed::Cancel | Deed::Delete => has("shipment.shipped"),
        Deed::Ship | Deed::ShipPart => !is_processing,
        Deed::Webhook(_) => !has("order.processing") || has("order.cancelled"),
        Deed::Refund => sum("payment.captured") <= sum("payment.refund_requested"),
    }
}

#[tokio::test]
async fn whoever_is_first_the_history_explains_why_the_others_were_refused() {
    let system = System::start_with(&[
        ("ORDER_APPROVAL", "manual"),
        ("RESERVATION_TTL_SECONDS", "2"),
    ])
    .await;
    system.stock("A", &[("east", 1_000), ("west", 1_000)]).await;
    let customer = system.customer().await;
    let mut random = Random(1);
    let mut deeds = Vec::new();
    for number in 0..ORDERS {
        let methods = [
            "pm_ok",
            "pm_ok",
            "pm_flaky",
            "pm_slow",
            "pm_declined",
            "pm_timeout_after_charge",
        ];
        let method = methods[random.below(methods.len())];
        let wish = order_paid_by(&customer, "A", 3, method);
        let created = system.post("/v1/orders", wish).await.expect(201);
        let id = created["id"].as_str().unwrap().to_owned();
        deeds.extend((0..DEEDS).map(|_| (id.clone(), ALL[random.below(ALL.len())], number)));
    }
    // Shuffled across all orders.
    for index in (1..deeds.len()).rev() {
        deeds.swap(index, random.below(index + 1));
    }
    let done: Vec<_> = stream::iter(deeds.into_iter().enumerate())
        .map(|(number, (id, deed, _))| {
            let system = &system;
            async move {
                let reply = system.do_to(&id, deed, number).await;
                (id, deed, reply)
            }
        })
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    assert_eq!(done.len(), ORDERS * DEEDS);
    system.quiet().await;
    system.assert_verified();

    let (mut histories, mut refused) = (std::collections::HashMap::new(), 0);
    for (id, deed, reply) in &done {
        assert!(
            matches!(reply.status, 200..=204 | 404 | 409 | 422),
            "{deed:?}: {} {}",
            reply.status,
            reply.body
        );
        // A 409 contains the version of the order that it was decided on. An excessive amount is a 422, which
        // does not depend on the order's state.
        if reply.status != 409 {
            continue;
        }
        refused += 1;
        if !histories.contains_key(id) {
            let path = format!("/v1/orders/{id}/history?limit=200&include_deleted=true");
            histories.insert(id.clone(), system.get(&path).await.expect(200));
        }
        let version = reply.body["order"]["version"].as_u64().unwrap();
        let events = histories[id]["data"].as_array().unwrap().iter();
        let happened: Vec<_> = events
            .filter(|event| event["sequence"].as_u64().unwrap() <= version)
            .map(|event| (event["type"].as_str().unwrap(), &event["data"]))
            .collect();
        assert!(
            explains(&happened, *deed),
            "{deed:?} was refused: {}\n{happened:?}",
            reply.body
        );
    }
    assert!(refused > 100, "there was no race: {refused}");
}
