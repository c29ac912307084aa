//! `/v1/orders/{id}/edit`: edit an order before anything was shipped, and cancel a pending edit.

use axum::{
    http::StatusCode,
    response::{IntoResponse, Response},
};
use shared::{
    id::OrderId,
    order::{CancelEdit, EditOrder, Order},
};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::valid_order_id;
use crate::{
    input::{OptionalBody, Path},
    output::respond,
    problem::Problem,
    state::App,
    worker_client::WorkerClient,
};

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(edit))
        .routes(routes!(cancel_edit))
}

/// Edits an order
///
/// Changes items, discounts and shipping charge of an order of which nothing was shipped. An edit whose total is
/// authorized already takes effect at once (200). Otherwise its stock is reserved and the new total is authorized
/// first (202): `pending_edit` shows the edit until it takes effect or is rejected.
#[utoipa::path(post, path = "/v1/orders/{id}/edit", tag = "orders", params(("id" = OrderId, Path)),
    request_body = EditOrder,
    responses((status = 200, body = Order), (status = 202, body = Order)))]
async fn edit(
    worker: WorkerClient,
    order_id: Path<String>,
    body: OptionalBody,
) -> Result<Response, Problem> {
    let body = body.with(&[("id", valid_order_id(&order_id)?)])?;
    let reply = respond(StatusCode::OK, worker.call("order.edit", body).await?);
    let is_pending = reply
        .value()
        .and_then(|order| serde_json::from_str(order.text()).ok())
        .is_some_and(|EditedOrder { pending_edit }| pending_edit.is_some());
    let mut response = reply.into_response();
    if is_pending {
        *response.status_mut() = StatusCode::ACCEPTED;
    }
    Ok(response)
}

/// The part of an order that tells whether its edit is pending.
#[derive(serde::Deserialize)]
struct EditedOrder {
    pending_edit: Option<serde::de::IgnoredAny>,
}

/// Cancels a pending edit
///
/// The order stays as it is: the stock of the edit is released, and its authorization is voided.
#[utoipa::path(post, path = "/v1/orders/{id}/edit/cancel", tag = "orders",
    params(("id" = OrderId, Path)), request_body = Option<CancelEdit>,
    responses((status = 200, body = Order)))]
async fn cancel_edit(
    worker: WorkerClient,
    order_id: Path<String>,
    body: OptionalBody,
) -> Result<Response, Problem> {
    let body = body.with(&[("id", valid_order_id(&order_id)?)])?;
    let reply = worker.call("order.cancel_edit", body).await?;
    Ok(respond(StatusCode::OK, reply).into_response())
}
