//! Outgoing webhooks to many endpoints, some of them slow or never responding.

use std::{collections::HashSet, time::Duration};

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::json;

use crate::{
    endpoints::ALLOW_PRIVATE_URLS,
    harness::{CannedResponse, Receiver, System, has_shipping_label, order_body, send, wait_until},
};

/// Longer than the delivery timeout.
const SILENT_FOR_MINUTES: CannedResponse = CannedResponse::Late(Duration::from_mins(2));
/// Maximum number of concurrent attempts for an endpoint that has not succeeded yet.
const ATTEMPTS_AT_ONCE: usize = 8;

#[tokio::test]
async fn slow_and_endless_endpoints_do_not_block_others() {
    let system = System::start_with(&[ALLOW_PRIVATE_URLS]).await;
    system
        .create_product_with_stock("A", &[("main", 100)])
        .await;
    let slow_receiver = Receiver::with_responses(vec![SILENT_FOR_MINUTES]).await;
    let endless_receiver = Receiver::with_responses(vec![CannedResponse::Endless]).await;
    let good_receiver = Receiver::start().await;
    system
        .create_endpoint(&slow_receiver.url("/"), &["*"])
        .await;
    let (endless_endpoint_id, _) = system
        .create_endpoint(&endless_receiver.url("/"), &["order.created"])
        .await;
    system
        .create_endpoint(&good_receiver.url("/"), &["order.created"])
        .await;
    let mut order_ids = Vec::new();
    for _ in 0..20 {
        order_ids.push(system.create_order().await);
    }
    wait_until("the good endpoint to receive all events", async || {
        good_receiver.received().len() == 20
    })
    .await;
    for order_id in order_ids {
        system
            .wait_for_order(&order_id, "announced", has_shipping_label)
            .await;
    }
    // The delivery succeeds by its status; the body is not awaited.
    system
        .wait_for_delivery(&endless_endpoint_id, |delivery| {
            delivery["status"] == "succeeded"
        })
        .await;
}

#[tokio::test]
async fn many_silent_endpoints_do_not_block_others() {
    let system = System::start_with(&[ALLOW_PRIVATE_URLS]).await;
    system
        .create_product_with_stock("A", &[("main", 100)])
        .await;
    let silent_receiver = Receiver::with_responses(vec![SILENT_FOR_MINUTES]).await;
    let mut silent_endpoint_ids = Vec::new();
    for _ in 0..24 {
        silent_endpoint_ids.push(
            system
                .create_endpoint(&silent_receiver.url("/"), &["*"])
                .await
                .0,
        );
    }
    let good_receiver = Receiver::start().await;
    system
        .create_endpoint(&good_receiver.url("/"), &["*"])
        .await;
    for _ in 0..5 {
        system.create_order().await;
    }
    // Five events per order: created, reserved, authorized, processing and shipment created.
    wait_until("the good endpoint to receive all events", async || {
        good_receiver.received().len() >= 5 * 5
    })
    .await;
    // No delivery to the silent endpoints has timed out yet.
    for endpoint_id in &silent_endpoint_ids {
        for delivery in system.list_deliveries(endpoint_id).await {
            assert_eq!(delivery["attempts"].as_array().unwrap().len(), 0);
        }
    }
}

#[tokio::test]
async fn a_hundred_endpoints_get_each_event_once() {
    let system = System::start_with(&[ALLOW_PRIVATE_URLS]).await;
    system
        .create_product_with_stock("A", &[("main", 100)])
        .await;
    let receiver = Receiver::start().await;
    let mut endpoint_ids = Vec::new();
    for _ in 0..100 {
        let (endpoint_id, _) = system
            .create_endpoint(&receiver.url("/"), &["order.created"])
            .await;
        endpoint_ids.push(endpoint_id);
    }
    // More deliveries than one batch creates.
    let create_orders = (0..12).map(async |_| system.create_order().await);
    join_all(create_orders).await;
    wait_until("all endpoints to receive all events", async || {
        receiver.received().len() >= 100 * 12
    })
    .await;
    for endpoint_id in &endpoint_ids {
        let deliveries = system.list_deliveries(endpoint_id).await;
        let event_ids = deliveries
            .iter()
            .map(|delivery| delivery["event_id"].as_str());
        assert_eq!(deliveries.len(), 12);
        assert_eq!(event_ids.collect::<HashSet<_>>().len(), 12);
    }
}

#[tokio::test]
async fn deliveries_are_sent_while_more_are_created() {
    let system = System::start_with(&[ALLOW_PRIVATE_URLS, ("DEBUG_API", "1")]).await;
    system
        .create_product_with_stock("A", &[("main", 1_000)])
        .await;
    let customer_id = system.create_customer().await;
    let receiver = Receiver::start().await;
    for _ in 0..100 {
        system
            .create_endpoint(&receiver.url("/"), &["order.created"])
            .await;
    }
    // These events fill one batch with deliveries of ten orders.
    let lines = vec![order_body(&customer_id, "A", 1); 1_000];
    let import_report = system.import(&lines, None).await.expect(200);
    assert_eq!(import_report["accepted"], 1_000);
    wait_until("the first delivery", async || {
        !receiver.received().is_empty()
    })
    .await;
    let feed_state = system.get("/debug/tables").await.expect(200)["feed"].clone();
    let fan_out_position = feed_state["followers"]["webhooks"].as_i64().unwrap();
    assert!(
        fan_out_position < feed_state["end"].as_i64().unwrap(),
        "{feed_state}"
    );
}

#[tokio::test]
async fn endpoints_with_few_deliveries_are_not_delayed_by_backlogs() {
    let system = System::start_with(&[ALLOW_PRIVATE_URLS]).await;
    system
        .create_product_with_stock("A", &[("main", 100)])
        .await;
    let slow_receiver =
        Receiver::with_responses(vec![CannedResponse::Late(Duration::from_secs(1))]).await;
    let mut endpoint_ids = Vec::new();
    for _ in 0..20 {
        endpoint_ids.push(
            system
                .create_endpoint(&slow_receiver.url("/"), &["*"])
                .await
                .0,
        );
    }
    for _ in 0..10 {
        system.create_order().await;
    }
    wait_until("the first webhooks to be sent", async || {
        !slow_receiver.received().is_empty()
    })
    .await;
    let fast_receiver = Receiver::start().await;
    system
        .create_endpoint(&fast_receiver.url("/"), &["order.created"])
        .await;
    system.create_order().await;
    wait_until("the webhook of the order", async || {
        fast_receiver.received().len() == 1
    })
    .await;
    // Each of the other endpoints has a backlog of fifty deliveries of one second each, of which at most eight
    // are sent at the same time.
    for endpoint_id in &endpoint_ids {
        let deliveries = system.list_deliveries(endpoint_id).await;
        let is_pending = |delivery: &serde_json::Value| delivery["status"] == "pending";
        assert!(
            deliveries.iter().any(is_pending),
            "the new delivery was sent after the backlog of {endpoint_id}"
        );
    }
}

#[tokio::test]
async fn failing_endpoint_is_probed_and_gets_everything_once_it_recovers() {
    let system = System::start_with(&[ALLOW_PRIVATE_URLS]).await;
    system
        .create_product_with_stock("A", &[("main", 1_000)])
        .await;
    let customer_id = system.create_customer().await;
    let (broken_receiver, good_receiver) = (
        Receiver::with_responses(vec![CannedResponse::Status(500)]).await,
        Receiver::start().await,
    );
    let (endpoint_id, _) = system
        .create_endpoint(&broken_receiver.url("/"), &["order.created"])
        .await;
    system
        .create_endpoint(&good_receiver.url("/"), &["order.created"])
        .await;
    let lines = vec![order_body(&customer_id, "A", 1); 500];
    let import_report = system.import(&lines, None).await.expect(200);
    assert_eq!(import_report["accepted"], 500);
    wait_until("the good endpoint to receive all events", async || {
        good_receiver.received().len() == 500
    })
    .await;
    // The failing endpoint has as many pending deliveries and responds as fast, but is only probed.
    let refused_count = broken_receiver.received().len();
    assert!(
        (1..100).contains(&refused_count),
        "{refused_count} attempts"
    );

    broken_receiver.set_response(CannedResponse::Status(200));
    let pending_deliveries_path =
        format!("/v1/webhook-endpoints/{endpoint_id}/deliveries?status=pending&limit=1");
    wait_until("the recovered endpoint to receive all events", async || {
        let page = system.get(&pending_deliveries_path).await.expect(200);
        page["data"] == json!([])
    })
    .await;
    let endpoint_reply = system
        .get(&format!("/v1/webhook-endpoints/{endpoint_id}"))
        .await;
    assert_eq!(endpoint_reply.expect(200)["failing_since"], json!(null));
}

#[tokio::test]
async fn pending_deliveries_of_a_disabled_endpoint_fail() {
    let system = System::start_with(&[ALLOW_PRIVATE_URLS]).await;
    system
        .create_product_with_stock("A", &[("main", 1_000)])
        .await;
    let customer_id = system.create_customer().await;
    let broken_receiver = Receiver::with_responses(vec![CannedResponse::Status(500)]).await;
    let (endpoint_id, _) = system
        .create_endpoint(&broken_receiver.url("/"), &["order.created"])
        .await;
    let lines = vec![order_body(&customer_id, "A", 1); 300];
    system.import(&lines, None).await.expect(200);
    wait_until("the first delivery attempt", async || {
        !broken_receiver.received().is_empty()
    })
    .await;

    let endpoint_path = format!("/v1/webhook-endpoints/{endpoint_id}");
    let disable_request = system.request(Method::PATCH, &endpoint_path);
    let disable = disable_request.json(&json!({"is_enabled": false}));
    send(disable).await.expect(200);
    let pending_deliveries_path = format!("{endpoint_path}/deliveries?status=pending&limit=1");
    wait_until("no pending delivery of the endpoint", async || {
        let page = system.get(&pending_deliveries_path).await.expect(200);
        page["data"] == json!([])
    })
    .await;
    // An attempt that was under way when the endpoint was disabled ends with the endpoint's own response.
    let (mut unsent_count, mut started_count) = (0, 0);
    for delivery in system.list_deliveries(&endpoint_id).await {
        assert_eq!(delivery["status"], "failed");
        let last_attempt = delivery["attempts"].as_array().unwrap().last().unwrap();
        match last_attempt["response_code"].as_u64() {
            None => {
                assert_eq!(last_attempt["error"], "the endpoint is disabled");
                unsent_count += 1;
            }
            Some(500) => started_count += 1,
            Some(other_outcome) => panic!("the receiver never responds {other_outcome}"),
        }
    }
    assert!(
        unsent_count > 0 && started_count <= ATTEMPTS_AT_ONCE,
        "{unsent_count} unsent, {started_count} under way"
    );
}
