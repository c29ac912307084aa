//! `/v1/customers`: create, list, read, change, erase, verify, block and unblock customers; list their orders.
//!
//! A customer belongs to one storefront; the worker hides it from callers of other storefronts. Erasure
//! removes personal data for good.

use axum::{
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use shared::{
    customer::{Customer, NewCustomer, UpdateCustomer},
    id::CustomerId,
    order::Order,
    outcome::Failure,
    page::Page,
};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    input::{EmptyBody, JsonBody, Path, QueryParameters, Uri},
    openapi::{CustomerListParameters, PageParameters, StorefrontParameter},
    output::{CursorParameter, respond},
    problem::Problem,
    state::App,
    worker_client::WorkerClient,
};

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(create, list))
        .routes(routes!(read, update, erase))
        .routes(routes!(verify))
        .routes(routes!(orders))
        .routes(routes!(block))
        .routes(routes!(unblock))
}

/// Creates a customer
#[utoipa::path(post, path = "/v1/customers", tag = "customers", request_body = NewCustomer,
    responses((status = 201, body = Customer)))]
async fn create(worker: WorkerClient, body: JsonBody) -> Result<Response, Problem> {
    let reply = worker.call("customer.create", body.0).await?;
    Ok(respond(StatusCode::CREATED, reply).with_location("/v1/customers"))
}

/// Lists customers
///
/// Newest first.
#[utoipa::path(get, path = "/v1/customers", tag = "customers",
    params(CustomerListParameters, StorefrontParameter, PageParameters),
    responses((status = 200, body = Page<Customer>)))]
async fn list(
    worker: WorkerClient,
    parameters: QueryParameters,
    uri: Uri,
) -> Result<Response, Problem> {
    let reply = worker
        .call("customer.list", Value::Object(parameters.0))
        .await?;
    Ok(respond(StatusCode::OK, reply).with_next_link(&uri, CursorParameter::Cursor))
}

/// Reads a customer
#[utoipa::path(get, path = "/v1/customers/{id}", tag = "customers", params(("id" = CustomerId, Path)),
    responses((status = 200, body = Customer)))]
async fn read(
    worker: WorkerClient,
    customer_id: Path<String>,
    parameters: QueryParameters,
) -> Result<Response, Problem> {
    let reply = worker
        .call(
            "customer.get",
            parameters.with("id", parse_customer_id(&customer_id)?)?,
        )
        .await?;
    Ok(worker.or_not_modified(respond(StatusCode::OK, reply)))
}

/// Changes a customer
///
/// Takes a JSON Merge Patch: changes the given fields, and removes a value that is given as `null`. A customer
/// with another e-mail address has to be verified again. An erased customer can't be changed (409).
#[utoipa::path(patch, path = "/v1/customers/{id}", tag = "customers", params(("id" = CustomerId, Path)),
    request_body = UpdateCustomer, responses((status = 200, body = Customer)))]
async fn update(
    worker: WorkerClient,
    customer_id: Path<String>,
    body: JsonBody,
) -> Result<Response, Problem> {
    let request_body = body.with(&[("id", parse_customer_id(&customer_id)?)])?;
    let reply = worker.call("customer.update", request_body).await?;
    Ok(respond(StatusCode::OK, reply).into_response())
}

/// Erases a customer
///
/// Removes the customer's personal data from the customer, its orders and its events. Line items and payments
/// are kept. Refused while the customer has open orders.
#[utoipa::path(delete, path = "/v1/customers/{id}", tag = "customers",
    params(("id" = CustomerId, Path)), responses((status = 204)))]
async fn erase(
    worker: WorkerClient,
    customer_id: Path<String>,
    _: EmptyBody,
) -> Result<Response, Problem> {
    let body = json!({"id": parse_customer_id(&customer_id)?});
    let reply = worker.call("customer.erase", body).await?;
    Ok(respond(StatusCode::NO_CONTENT, reply).into_response())
}

/// Verifies a customer
///
/// Marks the customer's identity as verified. With `CUSTOMER_VERIFICATION=required`, only verified customers
/// can order.
#[utoipa::path(post, path = "/v1/customers/{id}/verify", tag = "customers",
    params(("id" = CustomerId, Path)), responses((status = 200, body = Customer)))]
async fn verify(
    worker: WorkerClient,
    customer_id: Path<String>,
    _: EmptyBody,
) -> Result<Response, Problem> {
    let body = json!({"id": parse_customer_id(&customer_id)?});
    let reply = worker.call("customer.verify", body).await?;
    Ok(respond(StatusCode::OK, reply).into_response())
}

/// Lists a customer's orders
///
/// Newest first.
#[utoipa::path(get, path = "/v1/customers/{id}/orders", tag = "customers",
    params(("id" = CustomerId, Path), PageParameters), responses((status = 200, body = Page<Order>)))]
async fn orders(
    worker: WorkerClient,
    customer_id: Path<String>,
    parameters: QueryParameters,
    uri: Uri,
) -> Result<Response, Problem> {
    let body = json!({"id": parse_customer_id(&customer_id)?});
    let customer_reply = respond(StatusCode::OK, worker.call("customer.get", body).await?);
    if customer_reply.value().is_none() {
        return Ok(customer_reply.into_response());
    }
    let order_query = parameters.with("customer_id", parse_customer_id(&customer_id)?)?;
    let reply = worker.call("order.list", order_query).await?;
    Ok(respond(StatusCode::OK, reply).with_next_link(&uri, CursorParameter::Cursor))
}

/// Blocks a customer
///
/// New orders of the customer are refused until the customer is unblocked.
#[utoipa::path(post, path = "/v1/customers/{id}/block", tag = "customers",
    params(("id" = CustomerId, Path)), responses((status = 200, body = Customer)))]
async fn block(
    worker: WorkerClient,
    customer_id: Path<String>,
    _: EmptyBody,
) -> Result<Response, Problem> {
    set_blocked(&worker, &customer_id, true).await
}

/// Unblocks a customer
///
/// New orders of the customer are accepted again.
#[utoipa::path(post, path = "/v1/customers/{id}/unblock", tag = "customers",
    params(("id" = CustomerId, Path)), responses((status = 200, body = Customer)))]
async fn unblock(
    worker: WorkerClient,
    customer_id: Path<String>,
    _: EmptyBody,
) -> Result<Response, Problem> {
    set_blocked(&worker, &customer_id, false).await
}

async fn set_blocked(
    worker: &WorkerClient,
    customer_id: &Path<String>,
    is_blocked: bool,
) -> Result<Response, Problem> {
    let body = json!({"id": parse_customer_id(customer_id)?, "is_blocked": is_blocked});
    let reply = worker.call("customer.block", body).await?;
    Ok(respond(StatusCode::OK, reply).into_response())
}

/// Checks a customer id. An invalid id is reported as not found, since no customer can have it.
fn parse_customer_id(Path(customer_id): &Path<String>) -> Result<&str, Problem> {
    match customer_id.parse::<CustomerId>() {
        Ok(_) => Ok(customer_id),
        Err(_) => Err(Failure::not_found("customer", customer_id).into()),
    }
}
