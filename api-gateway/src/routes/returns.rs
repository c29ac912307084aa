//! `/v1/returns`, and `POST /v1/orders/{id}/returns`: request, list, read, approve, reject, cancel and receive
//! returns.
//!
//! A return belongs to an order, and is visible to those who see the order.

use axum::{
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::Value;
use shared::{
    id::{OrderId, ReturnId},
    order::{CreateReturn, ReceiveReturn, RejectOrCancelReturn, Return},
    outcome::Failure,
    page::Page,
};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    input::{JsonBody, OptionalBody, Path, QueryParameters, Uri},
    openapi::{PageParameters, ReturnListParameters, StorefrontParameter},
    output::{CursorParameter, respond},
    problem::Problem,
    state::App,
    worker_client::WorkerClient,
};

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(create))
        .routes(routes!(list))
        .routes(routes!(read))
        .routes(routes!(approve))
        .routes(routes!(reject))
        .routes(routes!(cancel))
        .routes(routes!(receive))
}

/// Requests a return
///
/// Of units that were shipped, have not come back, and are in no other open return. `refund_amount` is an
/// estimate: the units' share of the order's total. `If-Match` refers to the order.
#[utoipa::path(post, path = "/v1/orders/{id}/returns", tag = "returns", params(("id" = OrderId, Path)),
    request_body = CreateReturn, responses((status = 201, body = Return)))]
async fn create(
    worker: WorkerClient,
    Path(order_id): Path<String>,
    body: JsonBody,
) -> Result<Response, Problem> {
    if order_id.parse::<OrderId>().is_err() {
        return Err(Failure::not_found("order", order_id).into());
    }
    let request_body = body.with(&[("id", order_id.as_str())])?;
    let reply = worker.call("return.create", request_body).await?;
    Ok(respond(StatusCode::CREATED, reply).with_location("/v1/returns"))
}

/// Lists returns
///
/// Newest first. Returns of deleted orders are left out.
#[utoipa::path(get, path = "/v1/returns", tag = "returns",
    params(ReturnListParameters, StorefrontParameter, PageParameters),
    responses((status = 200, body = Page<Return>)))]
async fn list(
    worker: WorkerClient,
    parameters: QueryParameters,
    uri: Uri,
) -> Result<Response, Problem> {
    let reply = worker
        .call("return.list", Value::Object(parameters.0))
        .await?;
    Ok(respond(StatusCode::OK, reply).with_next_link(&uri, CursorParameter::Cursor))
}

/// Reads a return
#[utoipa::path(get, path = "/v1/returns/{id}", tag = "returns", params(("id" = ReturnId, Path)),
    responses((status = 200, body = Return)))]
async fn read(
    worker: WorkerClient,
    return_id: Path<String>,
    parameters: QueryParameters,
) -> Result<Response, Problem> {
    let request_body = parameters.with("id", parse_return_id(&return_id)?)?;
    let reply = worker.call("return.get", request_body).await?;
    Ok(worker.or_not_modified(respond(StatusCode::OK, reply)))
}

/// Approves a return
///
/// The units of a requested return are expected from now on. Operators only.
#[utoipa::path(post, path = "/v1/returns/{id}/approve", tag = "returns", params(("id" = ReturnId, Path)),
    responses((status = 200, body = Return)))]
async fn approve(
    worker: WorkerClient,
    return_id: Path<String>,
    body: OptionalBody,
) -> Result<Response, Problem> {
    change_status(&worker, "return.approve", &return_id, body).await
}

/// Rejects a return
///
/// Refuses a requested return; its units can be returned with another one. Operators only.
#[utoipa::path(post, path = "/v1/returns/{id}/reject", tag = "returns", params(("id" = ReturnId, Path)),
    request_body = Option<RejectOrCancelReturn>, responses((status = 200, body = Return)))]
async fn reject(
    worker: WorkerClient,
    return_id: Path<String>,
    body: OptionalBody,
) -> Result<Response, Problem> {
    change_status(&worker, "return.reject", &return_id, body).await
}

/// Cancels a return
///
/// Withdraws a requested or approved return; its units can be returned with another one.
#[utoipa::path(post, path = "/v1/returns/{id}/cancel", tag = "returns", params(("id" = ReturnId, Path)),
    request_body = Option<RejectOrCancelReturn>, responses((status = 200, body = Return)))]
async fn cancel(
    worker: WorkerClient,
    return_id: Path<String>,
    body: OptionalBody,
) -> Result<Response, Problem> {
    change_status(&worker, "return.cancel", &return_id, body).await
}

/// Receives a return
///
/// Records the units of an approved return that have arrived, at most those that were requested; the others can
/// be returned with another return. Units with `restock` go back on stock, by default in the warehouse that
/// they were shipped from. Then the refund is started: by default the units' share of the order's total without
/// `fee`; with `refund` another amount, or none. It never exceeds the captured amount that is not refunded. The
/// shipping charge is refunded by `POST /v1/orders/{id}/refunds` with `shipping`. Operators only.
#[utoipa::path(post, path = "/v1/returns/{id}/receive", tag = "returns", params(("id" = ReturnId, Path)),
    request_body = ReceiveReturn, responses((status = 200, body = Return)))]
async fn receive(
    worker: WorkerClient,
    return_id: Path<String>,
    body: JsonBody,
) -> Result<Response, Problem> {
    let request_body = body.with(&[("id", parse_return_id(&return_id)?)])?;
    let reply = worker.call("return.receive", request_body).await?;
    Ok(respond(StatusCode::OK, reply).into_response())
}

async fn change_status(
    worker: &WorkerClient,
    rpc_pattern: &str,
    return_id: &Path<String>,
    body: OptionalBody,
) -> Result<Response, Problem> {
    let request_body = body.with(&[("id", parse_return_id(return_id)?)])?;
    let reply = worker.call(rpc_pattern, request_body).await?;
    Ok(respond(StatusCode::OK, reply).into_response())
}

/// Checks a return id. An invalid id is reported as not found, since no return can have it.
fn parse_return_id(Path(return_id): &Path<String>) -> Result<&str, Problem> {
    match return_id.parse::<ReturnId>() {
        Ok(_) => Ok(return_id),
        Err(_) => Err(Failure::not_found("return", return_id).into()),
    }
}
