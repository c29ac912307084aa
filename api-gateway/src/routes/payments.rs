//! `/v1/orders/{id}/payments`: records payments that were received outside of a payment provider.

use axum::{http::StatusCode, response::Response};
use shared::{
    id::OrderId,
    order::{Order, RecordPayment},
};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::orders::valid_order_id;
use crate::{
    input::{JsonBody, Path},
    output::respond,
    problem::Problem,
    state::App,
    worker_client::WorkerClient,
};

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(record))
}

/// Records a payment
///
/// Records money that was received for an order with `payment_method` `manual`: by bank transfer, in cash, on an
/// invoice. It may be a part of the total; when the whole total is received, the order is processed. More than
/// the outstanding amount is refused (422), and so is any amount for a cancelled order (409), unless `overpaid`
/// is true. What is received for a cancelled order is to be paid back. Operators only.
#[utoipa::path(post, path = "/v1/orders/{id}/payments", tag = "orders", params(("id" = OrderId, Path)),
    request_body = RecordPayment, responses((status = 201, body = Order)))]
async fn record(
    worker: WorkerClient,
    order_id: Path<String>,
    body: JsonBody,
) -> Result<Response, Problem> {
    let body = body.with(&[("id", valid_order_id(&order_id)?)])?;
    let reply = worker.call("payment.record", body).await?;
    Ok(respond(StatusCode::CREATED, reply).with_location("/v1/orders"))
}
