//! Reads an order over RabbitMQ, as any Rust program can:
//!
//! ```sh
//! cargo run --example call -- amqp://guest:guest@127.0.0.1:5672/%2f ORDER_ID
//! ```

use std::{env, time::Duration};

use anyhow::Context;
use serde_json::json;
use shared::{
    amqp::{
        connection::Broker,
        rpc_client::{CallOptions, RpcClient},
    },
    id::Storefront,
    outcome::Code,
    request::{Caller, Request, Role},
};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = env::args().skip(1);
    let url = arguments.next().context("the broker's URL is missing")?;
    let id = arguments.next().context("the order's id is missing")?;

    let broker = Broker::start(&url, "example")?;
    let client = RpcClient::new(broker.clone());
    // All requests are in `shared::request`. This validates the request as strictly as the worker.
    let request = Request::read("order.get", json!({"id": id}))?;
    let call = CallOptions {
        caller: Caller {
            role: Role::Operator,
            storefront: Storefront::default(),
            actor: "example".to_owned(),
            intent: "look at an order".to_owned(),
            request_id: "example-1".to_owned(),
            trace_context: None,
        },
        // Requests that change something have an idempotency key, which makes retries safe.
        idempotency_key: None,
        if_match: None,
        message_id: None,
        timeout: Duration::from_secs(5),
    };
    // UNAVAILABLE means that nothing was done, for example while the connection is being established, so a
    // retry is safe. After a TIMEOUT, retry changes only with their idempotency key.
    let mut attempts = 0..20;
    let outcome = loop {
        match client.call(&request, call.clone()).await.outcome {
            Err(failure) if failure.code == Code::Unavailable && attempts.next().is_some() => {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            outcome => break outcome,
        }
    };
    println!("{}", outcome?.text());
    broker.close().await;
    Ok(())
}
