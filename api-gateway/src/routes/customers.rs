//! `/v1/customers`.

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::Response,
    routing::{get, post},
};
use serde_json::Value;
use shared::{customer::BlockCustomer, id::CustomerId, outcome::Failure, request::Request};

use crate::{
    app::{App, Once},
    input::{JsonBody, Parameters, Path, Who, once},
    output::{answer, created},
    problem::Problem,
};

pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/customers", post(create).get(list))
        .route("/customers/{id}", get(read))
        .route("/customers/{id}/block", post(block))
        .route("/customers/{id}/unblock", post(unblock))
}

/// Adds a customer.
async fn create(
    State(app): State<App>,
    who: Who,
    headers: HeaderMap,
    body: JsonBody,
) -> Result<Response, Problem> {
    let request = Request::read("customer.create", body.0)?;
    let told = app
        .call(&who.calls(&request), &request, once(&headers)?)
        .await;
    Ok(created("/v1/customers", "id", told))
}

/// Customers, newest first.
async fn list(
    State(app): State<App>,
    who: Who,
    parameters: Parameters,
) -> Result<Response, Problem> {
    let request = Request::read("customer.list", Value::Object(parameters.0))?;
    Ok(answer(
        StatusCode::OK,
        app.call(&who.calls(&request), &request, Once::No).await,
    ))
}

/// One customer.
async fn read(
    State(app): State<App>,
    who: Who,
    Path(id): Path<String>,
    parameters: Parameters,
) -> Result<Response, Problem> {
    customer(&id)?;
    let request = Request::read("customer.get", parameters.with("id", &id)?)?;
    Ok(answer(
        StatusCode::OK,
        app.call(&who.calls(&request), &request, Once::No).await,
    ))
}

/// Refuses the customer's orders from now on.
async fn block(
    State(app): State<App>,
    who: Who,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    set_blocked(&app, who, &id, true).await
}

/// Takes the customer's orders again.
async fn unblock(
    State(app): State<App>,
    who: Who,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    set_blocked(&app, who, &id, false).await
}

async fn set_blocked(app: &App, who: Who, id: &str, is_blocked: bool) -> Result<Response, Problem> {
    let request = Request::BlockCustomer(BlockCustomer {
        id: customer(id)?,
        is_blocked,
    });
    Ok(answer(
        StatusCode::OK,
        app.call(&who.calls(&request), &request, Once::No).await,
    ))
}

/// What is not a customer's id is the id of no customer.
fn customer(id: &str) -> Result<CustomerId, Problem> {
    id.parse()
        .map_err(|_| Failure::not_found("customer", id).into())
}
