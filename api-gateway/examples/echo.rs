//! A conventional design as a baseline for benchmarks: an axum gateway that sends each request as one
//! RabbitMQ message to a service, which replies with one message and stores nothing. Its throughput is the
//! upper bound of designs with one message per request.
//!
//! `echo gateway` listens on `HTTP_ADDR`, `echo service` replies; both use the broker at `AMQP_URL`. Run by
//! `scripts/bench.sh`.

use std::{env, sync::Arc, time::Duration};

use anyhow::{Context, bail};
use axum::{Router, body::Bytes, extract::State, http::StatusCode, routing::post};
use dashmap::DashMap;
use futures_util::StreamExt;
use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties,
    options::QueueDeclareOptions,
    options::{BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions},
    types::FieldTable,
};
use tokio::{net::TcpListener, sync::oneshot, time};
use uuid::Uuid;

const REQUEST_QUEUE: &str = "echo-request-queue";
const REPLY_QUEUE: &str = "amq.rabbitmq.reply-to";
const ROUND_TRIP_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum number of unacknowledged requests of the service.
const PREFETCH: u16 = 1_000;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let broker_url = env::var("AMQP_URL").context("AMQP_URL")?;
    let connection = Connection::connect(&broker_url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    let queue_options = QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    };
    channel
        .queue_declare(REQUEST_QUEUE.into(), queue_options, FieldTable::default())
        .await?;
    match env::args().nth(1).as_deref() {
        Some("gateway") => run_gateway(channel).await,
        Some("service") => run_service(channel).await,
        _ => bail!("usage: echo gateway | echo service"),
    }
}

#[derive(Clone)]
struct Rpc {
    channel: Channel,
    pending_replies: Arc<DashMap<String, oneshot::Sender<Vec<u8>>>>,
}

async fn run_gateway(channel: Channel) -> anyhow::Result<()> {
    let consume_options = BasicConsumeOptions {
        no_ack: true,
        ..BasicConsumeOptions::default()
    };
    let mut replies = channel
        .basic_consume(
            REPLY_QUEUE.into(),
            "".into(),
            consume_options,
            FieldTable::default(),
        )
        .await?;
    let pending_replies: Arc<DashMap<String, oneshot::Sender<Vec<u8>>>> = Arc::default();
    let replies_to_resolve = Arc::clone(&pending_replies);
    tokio::spawn(async move {
        while let Some(Ok(reply)) = replies.next().await {
            let correlation_id = reply.properties.correlation_id().as_ref();
            let reply_sender = correlation_id
                .and_then(|correlation_id| replies_to_resolve.remove(correlation_id.as_str()));
            if let Some((_, reply_sender)) = reply_sender {
                let _ = reply_sender.send(reply.data);
            }
        }
    });
    let address = env::var("HTTP_ADDR").context("HTTP_ADDR")?;
    let router = Router::new()
        .route("/v1/orders", post(create_order))
        .with_state(Rpc {
            channel,
            pending_replies,
        });
    Ok(axum::serve(TcpListener::bind(address).await?, router).await?)
}

async fn create_order(
    State(rpc): State<Rpc>,
    body: Bytes,
) -> Result<(StatusCode, Vec<u8>), StatusCode> {
    // A gateway parses the body before it forwards the request.
    serde_json::from_slice::<serde_json::Value>(&body).map_err(|_| StatusCode::BAD_REQUEST)?;
    let correlation_id = Uuid::now_v7().to_string();
    let (reply_sender, reply_receiver) = oneshot::channel();
    rpc.pending_replies
        .insert(correlation_id.clone(), reply_sender);
    let properties = BasicProperties::default()
        .with_correlation_id(correlation_id.as_str().into())
        .with_reply_to(REPLY_QUEUE.into())
        .with_content_type("application/json".into());
    let publishing = rpc.channel.basic_publish(
        "".into(),
        REQUEST_QUEUE.into(),
        BasicPublishOptions::default(),
        &body,
        properties,
    );
    let to_unavailable = |_| StatusCode::SERVICE_UNAVAILABLE;
    let round_trip = async {
        publishing.await.map_err(to_unavailable)?;
        reply_receiver
            .await
            .map_err(|_| StatusCode::SERVICE_UNAVAILABLE)
    };
    let response = time::timeout(ROUND_TRIP_TIMEOUT, round_trip).await;
    rpc.pending_replies.remove(&correlation_id);
    Ok((
        StatusCode::CREATED,
        response.map_err(|_| StatusCode::GATEWAY_TIMEOUT)??,
    ))
}

async fn run_service(channel: Channel) -> anyhow::Result<()> {
    channel
        .basic_qos(PREFETCH, BasicQosOptions::default())
        .await?;
    let mut requests = channel
        .basic_consume(
            REQUEST_QUEUE.into(),
            "".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        )
        .await?;
    println!("serving");
    while let Some(request) = requests.next().await {
        let (request, channel) = (request?, channel.clone());
        tokio::spawn(async move {
            let mut properties = BasicProperties::default();
            if let Some(correlation_id) = request.properties.correlation_id() {
                properties = properties.with_correlation_id(correlation_id.clone());
            }
            if let Some(reply_to) = request.properties.reply_to().clone() {
                let publish_options = BasicPublishOptions::default();
                let reply_publishing = channel.basic_publish(
                    "".into(),
                    reply_to,
                    publish_options,
                    &request.data,
                    properties,
                );
                reply_publishing.await?;
            }
            request.acker.ack(BasicAckOptions::default()).await
        });
    }
    Ok(())
}
