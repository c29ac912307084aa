//! `/v1/orders`: create, list, count, read, change, approve, cancel, ship, refund, delete and restore orders.
//!
//! `POST /v1/orders` also implements the preferences of RFC 7240: `respond-async` publishes the order without
//! waiting for a worker, `wait=N` waits until the order is no longer pending.

mod edits;

use std::time::Duration;

use axum::{
    Json,
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use shared::{
    event::Event,
    id::{OrderId, ShipmentId},
    order::{
        ApproveAll, ApprovedAll, CancelOrder, CancelRemaining, CancelShipment, CreateOrder,
        CreateShipment, Order, OrderCount, RefundOrder, RejectOrder, UpdateOrder,
    },
    outcome::{Code, Failure},
    page::Page,
};
use tokio::time::{self, Instant};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    input::{JsonBody, OptionalBody, Path, QueryParameters, Uri},
    openapi::{
        AcceptedOrder, DeletedParameter, OrderCountParameters, OrderListParameters, PageParameters,
        ShipmentEvent, StorefrontParameter,
    },
    output::{CursorParameter, ReplyResponse, respond},
    problem::Problem,
    state::App,
    worker_client::WorkerClient,
};

/// Header with the preferences that were applied (RFC 7240, section 3).
const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");
/// First delay between polls of a pending order; it doubles with each poll.
const FIRST_POLL_DELAY: Duration = Duration::from_millis(10);
/// Maximum delay between polls of a pending order.
const MAX_POLL_DELAY: Duration = Duration::from_millis(250);

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(create, list))
        .routes(routes!(count))
        .routes(routes!(read, update, delete))
        .routes(routes!(cancel))
        .routes(routes!(restore))
        .routes(routes!(approve))
        .routes(routes!(approve_all))
        .routes(routes!(reject))
        .routes(routes!(refund))
        .routes(routes!(cancel_remaining))
        .routes(routes!(ship))
        .routes(routes!(shipment_event))
        .routes(routes!(cancel_shipment))
        .routes(routes!(history))
        .merge(edits::routes())
}

/// Creates an order
///
/// Prices the order from the catalogue and reserves stock for all items; if that is not possible, the order
/// is refused. With `Prefer: wait=N` the response is sent when the order is no longer `pending`, or after N
/// seconds. This also holds for a request that is repeated with the same `Idempotency-Key`.
///
/// With `Prefer: respond-async` the order is accepted (202) as soon as the broker has stored it, even while
/// all workers and the database are unavailable. Its `Location` returns 404 until a worker has processed the
/// order. An order that can't be fulfilled is stored as `cancelled`, with the reason.
#[utoipa::path(post, path = "/v1/orders", tag = "orders", request_body = CreateOrder,
    params(("Prefer" = Option<String>, Header, description = "`wait=N`: wait up to N seconds (at most 30) for the result. `respond-async`: accept the order without waiting for a worker")),
    responses((status = 201, body = Order), (status = 202, body = AcceptedOrder)))]
async fn create(worker: WorkerClient, body: JsonBody) -> Result<Response, Problem> {
    // `wait` takes precedence over `respond-async`.
    if worker.prefers_async() && worker.preferred_wait().is_none() {
        let order_id = worker.accept_async(body.0).await?;
        let preference_applied = HeaderValue::from_static("respond-async");
        let location = HeaderValue::try_from(format!("/v1/orders/{order_id}"))
            .map_err(|error| Failure::new(Code::Internal, error.to_string()))?;
        let headers = [
            (header::LOCATION, location),
            (PREFERENCE_APPLIED, preference_applied),
        ];
        let reply = Json(json!({"id": order_id, "status": "accepted"}));
        return Ok((StatusCode::ACCEPTED, headers, reply).into_response());
    }
    let reply = worker.call("order.create", body.0).await?;
    let is_replay = reply.is_replay;
    let create_response = respond(StatusCode::CREATED, reply);
    match worker
        .preferred_wait()
        .and_then(|max_wait| Some((max_wait, pending_order_id(&create_response)?)))
    {
        Some((max_wait, order_id)) => {
            let settled_response =
                wait_until_settled(&worker, order_id, max_wait, is_replay).await?;
            // A repeated request is marked as replayed even though it returns the order's current state.
            let settled_response =
                settled_response.map(|response| response.with_replay_flag(is_replay));
            let mut response = settled_response
                .unwrap_or(create_response)
                .with_location("/v1/orders");
            if let Ok(preference_applied) =
                HeaderValue::from_str(&format!("wait={}", max_wait.as_secs()))
            {
                response
                    .headers_mut()
                    .insert(PREFERENCE_APPLIED, preference_applied);
            }
            Ok(response)
        }
        None => Ok(create_response.with_location("/v1/orders")),
    }
}

/// The id of the response's order if its status is `pending`.
fn pending_order_id(response: &ReplyResponse) -> Option<OrderId> {
    #[derive(serde::Deserialize)]
    struct OrderState {
        id: OrderId,
        status: shared::order::OrderStatus,
    }
    let order: OrderState = serde_json::from_str(response.value()?.text()).ok()?;
    (order.status == shared::order::OrderStatus::Pending).then_some(order.id)
}

/// Polls the order until it is no longer `pending` or `max_wait` has passed, and returns its last known state.
/// Failures while polling are ignored, since the order itself is accepted.
async fn wait_until_settled(
    worker: &WorkerClient,
    order_id: OrderId,
    max_wait: Duration,
    is_replay: bool,
) -> Result<Option<ReplyResponse>, Problem> {
    let deadline = Instant::now() + max_wait;
    let mut delay = FIRST_POLL_DELAY;
    let mut last_response = None;
    while Instant::now() < deadline {
        time::sleep(delay.min(deadline.saturating_duration_since(Instant::now()))).await;
        delay = (delay * 2).min(MAX_POLL_DELAY);
        let reply = worker.call("order.get", json!({"id": order_id})).await?;
        // The order of a repeated request has been deleted. A new order can be missing for a moment on a
        // replica.
        if is_replay && matches!(&reply.outcome, Err(failure) if failure.code == Code::NotFound) {
            break;
        }
        let response = respond(StatusCode::CREATED, reply);
        if response.value().is_none() {
            continue;
        }
        let is_pending = pending_order_id(&response).is_some();
        last_response = Some(response);
        if !is_pending {
            break;
        }
    }
    Ok(last_response)
}

/// Lists orders
///
/// Newest first, unless another order is requested. Each order has the name of its customer.
#[utoipa::path(get, path = "/v1/orders", tag = "orders",
    params(OrderListParameters, StorefrontParameter, DeletedParameter, PageParameters),
    responses((status = 200, body = Page<Order>)))]
async fn list(
    worker: WorkerClient,
    parameters: QueryParameters,
    uri: Uri,
) -> Result<Response, Problem> {
    let reply = worker
        .call("order.list", Value::Object(parameters.0))
        .await?;
    Ok(respond(StatusCode::OK, reply).with_next_link(&uri, CursorParameter::Cursor))
}

/// Counts orders by status
///
/// Each number counts up to 10,000 orders, and the number of those that wait for approval is taken from up to 1,000
/// pending orders; `has_more` tells that there may be more.
#[utoipa::path(get, path = "/v1/orders/count", tag = "orders",
    params(OrderCountParameters, StorefrontParameter, DeletedParameter),
    responses((status = 200, body = OrderCount)))]
async fn count(worker: WorkerClient, parameters: QueryParameters) -> Result<Response, Problem> {
    let reply = worker
        .call("order.count", Value::Object(parameters.0))
        .await?;
    Ok(respond(StatusCode::OK, reply).into_response())
}

/// Reads an order
#[utoipa::path(get, path = "/v1/orders/{id}", tag = "orders",
    params(("id" = OrderId, Path), DeletedParameter), responses((status = 200, body = Order)))]
async fn read(
    worker: WorkerClient,
    order_id: Path<String>,
    parameters: QueryParameters,
) -> Result<Response, Problem> {
    let reply = worker
        .call(
            "order.get",
            parameters.with("id", valid_order_id(&order_id)?)?,
        )
        .await?;
    Ok(worker.or_not_modified(respond(StatusCode::OK, reply)))
}

/// Changes an order
///
/// Takes a JSON Merge Patch: changes the given fields, and removes a value that is given as `null`. The shipping
/// address can be changed until anything is shipped (409 afterwards, and for a cancelled order): a label that
/// was created or requested for the earlier address is withdrawn, and then another one is requested. Note and
/// tags are for operators and admins (403).
#[utoipa::path(patch, path = "/v1/orders/{id}", tag = "orders", params(("id" = OrderId, Path)),
    request_body = UpdateOrder, responses((status = 200, body = Order)))]
async fn update(
    worker: WorkerClient,
    order_id: Path<String>,
    body: JsonBody,
) -> Result<Response, Problem> {
    let request_body = body.with(&[("id", valid_order_id(&order_id)?)])?;
    let reply = worker.call("order.update", request_body).await?;
    Ok(respond(StatusCode::OK, reply).into_response())
}

/// Cancels an order
///
/// Voids the payment authorization and releases the reserved stock. Refused with 409 once any item has been
/// shipped.
#[utoipa::path(post, path = "/v1/orders/{id}/cancel", tag = "orders", params(("id" = OrderId, Path)),
    request_body = Option<CancelOrder>, responses((status = 200, body = Order)))]
async fn cancel(
    worker: WorkerClient,
    order_id: Path<String>,
    body: OptionalBody,
) -> Result<Response, Problem> {
    let request_body = body.with(&[("id", valid_order_id(&order_id)?)])?;
    let reply = worker.call("order.cancel", request_body).await?;
    Ok(respond(StatusCode::OK, reply).into_response())
}

/// Deletes an order
///
/// Soft deletion: the order can be restored. An open order is cancelled first. An order that is being
/// delivered can't be deleted.
#[utoipa::path(delete, path = "/v1/orders/{id}", tag = "orders", params(("id" = OrderId, Path)),
    responses((status = 204)))]
async fn delete(
    worker: WorkerClient,
    order_id: Path<String>,
    body: OptionalBody,
) -> Result<Response, Problem> {
    let request_body = body.with(&[("id", valid_order_id(&order_id)?)])?;
    let reply = worker.call("order.delete", request_body).await?;
    Ok(respond(StatusCode::NO_CONTENT, reply).into_response())
}

/// Restores a deleted order
///
/// Operators only.
#[utoipa::path(post, path = "/v1/orders/{id}/restore", tag = "orders", params(("id" = OrderId, Path)),
    responses((status = 200, body = Order)))]
async fn restore(
    worker: WorkerClient,
    order_id: Path<String>,
    body: OptionalBody,
) -> Result<Response, Problem> {
    let request_body = body.with(&[("id", valid_order_id(&order_id)?)])?;
    let reply = worker.call("order.restore", request_body).await?;
    Ok(respond(StatusCode::OK, reply).into_response())
}

/// Approves an order
///
/// Starts the payment of an order that is waiting for approval (`ORDER_APPROVAL=manual`). Changes nothing if
/// the order is already approved or needs no approval. Operators only.
#[utoipa::path(post, path = "/v1/orders/{id}/approve", tag = "orders", params(("id" = OrderId, Path)),
    responses((status = 200, body = Order)))]
async fn approve(
    worker: WorkerClient,
    order_id: Path<String>,
    body: OptionalBody,
) -> Result<Response, Problem> {
    let request_body = body.with(&[("id", valid_order_id(&order_id)?)])?;
    let reply = worker.call("order.approve", request_body).await?;
    Ok(respond(StatusCode::OK, reply).into_response())
}

/// Approves all waiting orders
///
/// One request approves as many orders as it can within a few seconds: repeat it with `next_cursor` until
/// that is `null`. Repeating a request is safe. Operators only.
#[utoipa::path(post, path = "/v1/orders/approve", tag = "orders", request_body = ApproveAll,
    responses((status = 200, body = ApprovedAll)))]
async fn approve_all(worker: WorkerClient, body: JsonBody) -> Result<Response, Problem> {
    let reply = worker.call("order.approve_all", body.0).await?;
    Ok(respond(StatusCode::OK, reply).into_response())
}

/// Rejects an order
///
/// Cancels an order that is waiting for approval, with the reason `rejected`, and releases its stock.
/// Operators only.
#[utoipa::path(post, path = "/v1/orders/{id}/reject", tag = "orders", params(("id" = OrderId, Path)),
    request_body = Option<RejectOrder>, responses((status = 200, body = Order)))]
async fn reject(
    worker: WorkerClient,
    order_id: Path<String>,
    body: OptionalBody,
) -> Result<Response, Problem> {
    let request_body = body.with(&[("id", valid_order_id(&order_id)?)])?;
    let reply = worker.call("order.reject", request_body).await?;
    Ok(respond(StatusCode::OK, reply).into_response())
}

/// Ships items of an order
///
/// Records a shipment of the given `items`, or by default of all items that have not been shipped; with
/// `warehouse`, only of the units reserved there. No unit is shipped twice. The shipped items are
/// captured; a provider that captures only once does so when no item remains to be shipped. Items without an
/// authorized or captured payment, and items of an order whose capture failed, are refused (409
/// `INVALID_STATE`) unless `allow_unpaid` is true. Operators only.
#[utoipa::path(post, path = "/v1/orders/{id}/shipments", tag = "orders", params(("id" = OrderId, Path)),
    request_body = Option<CreateShipment>, responses((status = 201, body = Order)))]
async fn ship(
    worker: WorkerClient,
    order_id: Path<String>,
    body: OptionalBody,
) -> Result<Response, Problem> {
    let request_body = body.with(&[("id", valid_order_id(&order_id)?)])?;
    let reply = worker.call("shipment.create", request_body).await?;
    Ok(respond(StatusCode::CREATED, reply).with_location("/v1/orders"))
}

/// Records a shipment update
///
/// Has the same effect as the carrier's webhook with this type (`shipment.delivered`, `shipment.returned`…).
/// A shipment never goes back to an earlier status: an update that arrives late changes nothing. Without
/// `timestamp`, the time of the update is now. Operators only.
#[utoipa::path(post, path = "/v1/orders/{id}/shipments/{shipment_id}/events", tag = "orders",
    params(("id" = OrderId, Path), ("shipment_id" = ShipmentId, Path)), request_body = ShipmentEvent,
    responses((status = 200, body = Order)))]
async fn shipment_event(
    worker: WorkerClient,
    path: Path<(String, String)>,
    body: JsonBody,
) -> Result<Response, Problem> {
    let Path((order_id, shipment_id)) = &path;
    let path_parameters = [
        ("order_id", parse_order_id(order_id)?),
        ("shipment_id", parse_shipment_id(shipment_id)?),
    ];
    let reply = worker
        .call("shipment.update", body.with(&path_parameters)?)
        .await?;
    Ok(respond(StatusCode::OK, reply).into_response())
}

/// Cancels a shipment
///
/// Withdraws the label at the carrier. The items stay reserved and can be shipped in another shipment.
/// Refused with 409 once the shipment has been shipped. Operators only.
#[utoipa::path(post, path = "/v1/orders/{id}/shipments/{shipment_id}/cancel", tag = "orders",
    params(("id" = OrderId, Path), ("shipment_id" = ShipmentId, Path)),
    request_body = Option<CancelShipment>, responses((status = 200, body = Order)))]
async fn cancel_shipment(
    worker: WorkerClient,
    path: Path<(String, String)>,
    body: OptionalBody,
) -> Result<Response, Problem> {
    let Path((order_id, shipment_id)) = &path;
    let request_body = body.with(&[
        ("id", parse_order_id(order_id)?),
        ("shipment_id", parse_shipment_id(shipment_id)?),
    ])?;
    let reply = worker.call("shipment.cancel", request_body).await?;
    Ok(respond(StatusCode::OK, reply).into_response())
}

/// Cancels the unshipped rest of an order
///
/// For an order of which a part has been shipped. Releases the stock of the unshipped items, withdraws their
/// labels, captures only the amount of the shipped items, and voids the rest of the authorization.
/// `cancelled_items` lists the cancelled items; `total` remains the total of the original order. The order
/// becomes `shipped`. Operators only.
#[utoipa::path(post, path = "/v1/orders/{id}/cancel-remaining", tag = "orders",
    params(("id" = OrderId, Path)), request_body = Option<CancelRemaining>,
    responses((status = 200, body = Order)))]
async fn cancel_remaining(
    worker: WorkerClient,
    order_id: Path<String>,
    body: OptionalBody,
) -> Result<Response, Problem> {
    let request_body = body.with(&[("id", valid_order_id(&order_id)?)])?;
    let reply = worker.call("order.cancel_remaining", request_body).await?;
    Ok(respond(StatusCode::OK, reply).into_response())
}

/// Refunds an order
///
/// Refunds the captured amount or a part of it. The refund is processed asynchronously: its result appears in
/// the order's `payment` and history. For an order that was paid manually it records a refund that the operator
/// has paid; without an amount, that which is due. Operators only.
#[utoipa::path(post, path = "/v1/orders/{id}/refunds", tag = "orders", params(("id" = OrderId, Path)),
    request_body = Option<RefundOrder>, responses((status = 202, body = Order)))]
async fn refund(
    worker: WorkerClient,
    order_id: Path<String>,
    body: OptionalBody,
) -> Result<Response, Problem> {
    let body = body.with(&[("id", valid_order_id(&order_id)?)])?;
    let reply = worker.call("order.refund", body).await?;
    Ok(respond(StatusCode::ACCEPTED, reply).into_response())
}

/// Lists an order's history
///
/// All events of the order, oldest first, with time, actor, intent and request id.
#[utoipa::path(get, path = "/v1/orders/{id}/history", tag = "orders",
    params(("id" = OrderId, Path), DeletedParameter, PageParameters),
    responses((status = 200, body = Page<Event>)))]
async fn history(
    worker: WorkerClient,
    order_id: Path<String>,
    parameters: QueryParameters,
    uri: Uri,
) -> Result<Response, Problem> {
    let reply = worker
        .call(
            "order.history",
            parameters.with("id", valid_order_id(&order_id)?)?,
        )
        .await?;
    Ok(respond(StatusCode::OK, reply).with_next_link(&uri, CursorParameter::Cursor))
}

/// Checks an order id. An invalid id is reported as not found, since no order can have it.
pub(super) fn valid_order_id(Path(order_id): &Path<String>) -> Result<&str, Problem> {
    parse_order_id(order_id)
}

fn parse_order_id(order_id: &str) -> Result<&str, Problem> {
    match order_id.parse::<OrderId>() {
        Ok(_) => Ok(order_id),
        Err(_) => Err(Failure::not_found("order", order_id).into()),
    }
}

/// Checks a shipment id. An invalid id is reported as not found, since no shipment can have it.
fn parse_shipment_id(shipment_id: &str) -> Result<&str, Problem> {
    match shipment_id.parse::<ShipmentId>() {
        Ok(_) => Ok(shipment_id),
        Err(_) => Err(Failure::not_found("shipment", shipment_id).into()),
    }
}
