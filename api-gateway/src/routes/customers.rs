//! `/v1/customers`.

use axum::{
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use shared::{
    customer::{Customer, NewCustomer},
    id::CustomerId,
    order::Order,
    outcome::Failure,
    page::Page,
};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    input::{JsonBody, NoBody, Parameters, Path, Uri},
    openapi::{PageParameters, StorefrontParameter},
    output::{Cursor, answer},
    problem::Problem,
    state::App,
    worker_client::WorkerClient,
};

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(create, list))
        .routes(routes!(read, erase))
        .routes(routes!(verify))
        .routes(routes!(orders))
        .routes(routes!(block))
        .routes(routes!(unblock))
}

/// Creates a customer
#[utoipa::path(post, path = "/v1/customers", tag = "customers", request_body = NewCustomer,
    responses((status = 201, body = Customer)))]
async fn create(asker: WorkerClient, body: JsonBody) -> Result<Response, Problem> {
    let told = asker.ask("customer.create", body.0).await?;
    Ok(answer(StatusCode::CREATED, told).located("/v1/customers"))
}

/// Lists customers
///
/// Newest first.
#[utoipa::path(get, path = "/v1/customers", tag = "customers",
    params(StorefrontParameter, PageParameters), responses((status = 200, body = Page<Customer>)))]
async fn list(asker: WorkerClient, parameters: Parameters, uri: Uri) -> Result<Response, Problem> {
    let told = asker
        .ask("customer.list", Value::Object(parameters.0))
        .await?;
    Ok(answer(StatusCode::OK, told).page(&uri, Cursor::Cursor))
}

/// Reads a customer
#[utoipa::path(get, path = "/v1/customers/{id}", tag = "customers", params(("id" = CustomerId, Path)),
    responses((status = 200, body = Customer)))]
async fn read(
    asker: WorkerClient,
    id: Path<String>,
    parameters: Parameters,
) -> Result<Response, Problem> {
    let told = asker
        .ask("customer.get", parameters.with("id", customer(&id)?)?)
        .await?;
    Ok(asker.conditional(answer(StatusCode::OK, told)))
}

/// Erases a customer
///
/// Erases the personal data of the customer, of their orders and of the events, on their request. Items and
/// payments are kept. Refused while the customer has open orders.
#[utoipa::path(delete, path = "/v1/customers/{id}", tag = "customers",
    params(("id" = CustomerId, Path)), responses((status = 204)))]
async fn erase(asker: WorkerClient, id: Path<String>, _: NoBody) -> Result<Response, Problem> {
    let body = json!({"id": customer(&id)?});
    let told = asker.ask("customer.erase", body).await?;
    Ok(answer(StatusCode::NO_CONTENT, told).into_response())
}

/// Verifies a customer
///
/// Marks the customer's identity as verified. With `CUSTOMER_VERIFICATION=required`, only verified customers can
/// order.
#[utoipa::path(post, path = "/v1/customers/{id}/verify", tag = "customers",
    params(("id" = CustomerId, Path)), responses((status = 200, body = Customer)))]
async fn verify(asker: WorkerClient, id: Path<String>, _: NoBody) -> Result<Response, Problem> {
    let body = json!({"id": customer(&id)?});
    let told = asker.ask("customer.verify", body).await?;
    Ok(answer(StatusCode::OK, told).into_response())
}

/// Lists a customer's orders
///
/// Newest first.
#[utoipa::path(get, path = "/v1/customers/{id}/orders", tag = "customers",
    params(("id" = CustomerId, Path), PageParameters), responses((status = 200, body = Page<Order>)))]
async fn orders(
    asker: WorkerClient,
    id: Path<String>,
    parameters: Parameters,
    uri: Uri,
) -> Result<Response, Problem> {
    let body = json!({"id": customer(&id)?});
    let known = answer(StatusCode::OK, asker.ask("customer.get", body).await?);
    if known.value().is_none() {
        return Ok(known.into_response());
    }
    let body = parameters.with("customer_id", customer(&id)?)?;
    let told = asker.ask("order.list", body).await?;
    Ok(answer(StatusCode::OK, told).page(&uri, Cursor::Cursor))
}

/// Blocks a customer
///
/// New orders of the customer are refused.
#[utoipa::path(post, path = "/v1/customers/{id}/block", tag = "customers",
    params(("id" = CustomerId, Path)), responses((status = 200, body = Customer)))]
async fn block(asker: WorkerClient, id: Path<String>, _: NoBody) -> Result<Response, Problem> {
    set_blocked(&asker, &id, true).await
}

/// Unblocks a customer
///
/// New orders of the customer are accepted again.
#[utoipa::path(post, path = "/v1/customers/{id}/unblock", tag = "customers",
    params(("id" = CustomerId, Path)), responses((status = 200, body = Customer)))]
async fn unblock(asker: WorkerClient, id: Path<String>, _: NoBody) -> Result<Response, Problem> {
    set_blocked(&asker, &id, false).await
}

async fn set_blocked(
    asker: &WorkerClient,
    id: &Path<String>,
    is_blocked: bool,
) -> Result<Response, Problem> {
    let body = json!({"id": customer(id)?, "is_blocked": is_blocked});
    let told = asker.ask("customer.block", body).await?;
    Ok(answer(StatusCode::OK, told).into_response())
}

/// An invalid customer id is not found.
fn customer(Path(id): &Path<String>) -> Result<&str, Problem> {
    match id.parse::<CustomerId>() {
        Ok(_) => Ok(id),
        Err(_) => Err(Failure::not_found("customer", id).into()),
    }
}
