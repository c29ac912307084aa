//! `/v1/customers`.

use axum::{
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use shared::{
    customer::{Customer, NewCustomer},
    id::CustomerId,
    outcome::Failure,
    page::Page,
};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    app::App,
    input::{Asker, JsonBody, Parameters, Path, Uri},
    openapi::{PageParameters, StorefrontParameter},
    output::{Cursor, answer},
    problem::Problem,
};

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(create, list))
        .routes(routes!(read))
        .routes(routes!(block))
        .routes(routes!(unblock))
}

/// Creates a customer
#[utoipa::path(post, path = "/customers", tag = "customers", request_body = NewCustomer,
    responses((status = 201, body = Customer)))]
async fn create(asker: Asker, body: JsonBody) -> Result<Response, Problem> {
    let told = asker.ask("customer.create", body.0).await?;
    Ok(answer(StatusCode::CREATED, told).located("/v1/customers"))
}

/// Lists customers
///
/// Newest first.
#[utoipa::path(get, path = "/customers", tag = "customers",
    params(StorefrontParameter, PageParameters), responses((status = 200, body = Page<Customer>)))]
async fn list(asker: Asker, parameters: Parameters, uri: Uri) -> Result<Response, Problem> {
    let told = asker
        .ask("customer.list", Value::Object(parameters.0))
        .await?;
    Ok(answer(StatusCode::OK, told).page(&uri, Cursor::Cursor))
}

/// Reads a customer
#[utoipa::path(get, path = "/customers/{id}", tag = "customers", params(("id" = CustomerId, Path)),
    responses((status = 200, body = Customer)))]
async fn read(asker: Asker, id: Path<String>, parameters: Parameters) -> Result<Response, Problem> {
    let told = asker
        .ask("customer.get", parameters.with("id", customer(&id)?)?)
        .await?;
    Ok(asker.conditional(answer(StatusCode::OK, told)))
}

/// Blocks a customer
///
/// Its orders are refused from now on.
#[utoipa::path(post, path = "/customers/{id}/block", tag = "customers",
    params(("id" = CustomerId, Path)), responses((status = 200, body = Customer)))]
async fn block(asker: Asker, id: Path<String>) -> Result<Response, Problem> {
    set_blocked(&asker, &id, true).await
}

/// Unblocks a customer
///
/// Its orders are taken again.
#[utoipa::path(post, path = "/customers/{id}/unblock", tag = "customers",
    params(("id" = CustomerId, Path)), responses((status = 200, body = Customer)))]
async fn unblock(asker: Asker, id: Path<String>) -> Result<Response, Problem> {
    set_blocked(&asker, &id, false).await
}

async fn set_blocked(
    asker: &Asker,
    id: &Path<String>,
    is_blocked: bool,
) -> Result<Response, Problem> {
    let body = json!({"id": customer(id)?, "is_blocked": is_blocked});
    let told = asker.ask("customer.block", body).await?;
    Ok(answer(StatusCode::OK, told).into_response())
}

/// What is not a customer's id is the id of no customer.
fn customer(Path(id): &Path<String>) -> Result<&str, Problem> {
    match id.parse::<CustomerId>() {
        Ok(_) => Ok(id),
        Err(_) => Err(Failure::not_found("customer", id).into()),
    }
}
