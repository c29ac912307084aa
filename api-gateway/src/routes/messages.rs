//! `/v1/messages`, `/v1/orders/{id}/messages`: e-mails to customers about their orders. The worker sends them; these
//! routes list them, of all orders or of one, and send one again.

use axum::{
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::Value;
use shared::{
    id::{MessageId, OrderId},
    message::{ListedMessage, Message},
    outcome::Failure,
    page::Page,
};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    input::{OptionalBody, Path, QueryParameters, Uri},
    openapi::{MessageListParameters, PageParameters},
    output::{CursorParameter, respond},
    problem::Problem,
    state::App,
    worker_client::WorkerClient,
};

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list_all_messages))
        .routes(routes!(list_messages))
        .routes(routes!(resend_message))
}

/// Lists the messages to the customers of all orders
///
/// Newest first, without those of deleted orders. Address, subject and text are removed when the customer is
/// erased. Operators only.
#[utoipa::path(get, path = "/v1/messages", tag = "orders", params(MessageListParameters, PageParameters),
    responses((status = 200, body = Page<ListedMessage>)))]
async fn list_all_messages(
    worker: WorkerClient,
    parameters: QueryParameters,
    uri: Uri,
) -> Result<Response, Problem> {
    let reply = worker
        .call("message.list_all", Value::Object(parameters.0))
        .await?;
    Ok(respond(StatusCode::OK, reply).with_next_link(&uri, CursorParameter::Cursor))
}

/// Lists the messages to the customer of an order
///
/// Newest first, with their status. `not_sent` means that nothing is sent, for the reason in `error`; `bounced`
/// that the mail server refused the recipient or the message for good. Address, subject and text are removed when
/// the customer is erased. There are no messages without `SMTP_URL`.
#[utoipa::path(get, path = "/v1/orders/{id}/messages", tag = "orders",
    params(("id" = OrderId, Path), PageParameters), responses((status = 200, body = Page<Message>)))]
async fn list_messages(
    worker: WorkerClient,
    order_id: Path<String>,
    parameters: QueryParameters,
    uri: Uri,
) -> Result<Response, Problem> {
    let body = parameters.with("id", parse_order_id(&order_id.0)?)?;
    let reply = worker.call("message.list", body).await?;
    Ok(respond(StatusCode::OK, reply).with_next_link(&uri, CursorParameter::Cursor))
}

/// Sends a message to the customer of an order again
///
/// To the customer's present address, rendered anew, and with another `Message-ID`. Refused (`INVALID_STATE`)
/// while the message is waiting for an attempt. `If-Match` refers to the order. Operators only.
#[utoipa::path(post, path = "/v1/orders/{id}/messages/{message_id}/resend", tag = "orders",
    params(("id" = OrderId, Path), ("message_id" = MessageId, Path)),
    responses((status = 202, body = Message)))]
async fn resend_message(
    worker: WorkerClient,
    path: Path<(String, String)>,
    body: OptionalBody,
) -> Result<Response, Problem> {
    let Path((order_id, message_id)) = &path;
    let order_id = parse_order_id(order_id)?;
    if message_id.parse::<MessageId>().is_err() {
        return Err(Failure::not_found("message", message_id).into());
    }
    let body = body.with(&[("id", order_id), ("message_id", message_id)])?;
    let reply = worker.call("message.resend", body).await?;
    Ok(respond(StatusCode::ACCEPTED, reply).into_response())
}

/// Checks an order id. An invalid id is reported as not found, since no order can have it.
fn parse_order_id(order_id: &str) -> Result<&str, Problem> {
    match order_id.parse::<OrderId>() {
        Ok(_) => Ok(order_id),
        Err(_) => Err(Failure::not_found("order", order_id).into()),
    }
}
