//! Faults of messages: duplicated, reordered and invalid.

use serde_json::{Value, json};
use shared::amqp::{
    connection::Broker,
    message::OutgoingMessage,
    publisher::{Publisher, Target},
    topology::{REQUEST_QUEUE, STEP_QUEUE},
};

use super::FaultContext;
use crate::{harness::wait_until, stack::Stack};

/// A publisher that bypasses the gateway and the worker.
async fn connect_publisher(stack: &Stack) -> Publisher {
    let url = stack.broker.as_ref().unwrap().url();
    let broker = Broker::start(&url, "chaos").unwrap();
    wait_until("the connection to the broker", async || {
        broker.check().is_ok()
    })
    .await;
    Publisher::new(broker)
}

async fn publish_repeatedly(
    publisher: &Publisher,
    queue: &str,
    outgoing_message: OutgoingMessage,
    publish_count: usize,
) {
    let messages: Vec<_> = (0..publish_count)
        .map(|_| (Target::Queue(queue), outgoing_message.clone()))
        .collect();
    for publish_result in publisher.publish(&messages).await {
        publish_result.unwrap();
    }
}

fn message(message_type: &str, body: &Value) -> OutgoingMessage {
    OutgoingMessage {
        kind: Some(message_type.to_owned()),
        persistent: true,
        body: body.to_string().into_bytes(),
        ..OutgoingMessage::default()
    }
}

/// Publishes the same attempt of a step eight times at once, so that workers process it concurrently.
pub(super) async fn duplicate_steps(context: FaultContext<'_>) -> usize {
    let FaultContext { stack, load, .. } = context;
    let publisher = connect_publisher(stack).await;
    let mut publish_count = 0;
    for _ in 0..20 {
        load.wait_for_progress(1).await;
        let newest_order_id = load
            .recorded_replies()
            .orders
            .last()
            .unwrap()
            .order_id
            .clone();
        for step in ["authorize_payment", "request_shipment:main", "void_payment"] {
            let body = json!({"order_id": newest_order_id, "step": step, "attempt": 1});
            publish_repeatedly(&publisher, STEP_QUEUE, message("step", &body), 8).await;
            publish_count += 8;
        }
    }
    publish_count
}

/// Publishes the same message again, like a redelivery after a lost acknowledgement.
pub(super) async fn duplicate_requests(context: FaultContext<'_>) -> usize {
    let FaultContext { stack, load, .. } = context;
    let publisher = connect_publisher(stack).await;
    for request_number in 0..30 {
        load.wait_for_progress(1).await;
        let request_key = format!("{}-foreign-{request_number}", load.run_name());
        let request = OutgoingMessage {
            message_id: Some(request_key.clone()),
            ..message(
                "order.create",
                &json!({
                    "customer_id": stack.customer_id,
                    "items": [{"sku": "HOT", "quantity": 1}],
                    "metadata": {"key": request_key},
                }),
            )
        };
        publish_repeatedly(&publisher, REQUEST_QUEUE, request, 3).await;
    }
    90
}

/// The load itself sends each webhook twice, and "delivered" before "shipped".
pub(super) async fn duplicate_webhooks(context: FaultContext<'_>) -> usize {
    let FaultContext { load, .. } = context;
    let delivered_before = load.recorded_replies().delivered_ids.len();
    while load.recorded_replies().delivered_ids.len() < delivered_before + 60 {
        load.wait_for_progress(5).await;
    }
    load.recorded_replies().delivered_ids.len() - delivered_before
}

pub(super) async fn publish_invalid_messages(context: FaultContext<'_>) -> usize {
    let FaultContext { stack, load, .. } = context;
    let publisher = connect_publisher(stack).await;
    let invalid_bodies: [&[u8]; 6] = [
        b"",
        b"\xff\xfe\x00",
        b"{\"order_id\":",
        b"[[[[[[[[",
        b"{\"order_id\": \"x\", \"step\": \"dance\", \"attempt\": 1}",
        b"null",
    ];
    for invalid_body in invalid_bodies {
        load.wait_for_progress(2).await;
        for queue in [REQUEST_QUEUE, STEP_QUEUE] {
            let outgoing_message = OutgoingMessage {
                kind: Some("order.create".to_owned()),
                body: invalid_body.to_vec(),
                ..OutgoingMessage::default()
            };
            publish_repeatedly(&publisher, queue, outgoing_message, 3).await;
        }
    }
    36
}
