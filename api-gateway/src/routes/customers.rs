//! `/v1/customers`.

use axum::{
    Router,
    http::{HeaderMap, StatusCode},
    response::Response,
    routing::{get, post},
};
use serde_json::{Value, json};
use shared::{id::CustomerId, outcome::Failure};

use crate::{
    app::{App, Once},
    input::{Asker, JsonBody, Parameters, Path, once},
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
async fn create(asker: Asker, headers: HeaderMap, body: JsonBody) -> Result<Response, Problem> {
    let told = asker
        .ask("customer.create", body.0, once(&headers)?)
        .await?;
    Ok(created("/v1/customers", told))
}

/// Customers, newest first.
async fn list(asker: Asker, parameters: Parameters) -> Result<Response, Problem> {
    let told = asker
        .ask("customer.list", Value::Object(parameters.0), Once::No)
        .await?;
    Ok(answer(StatusCode::OK, told))
}

/// One customer.
async fn read(asker: Asker, id: Path<String>, parameters: Parameters) -> Result<Response, Problem> {
    let told = asker
        .ask(
            "customer.get",
            parameters.with("id", customer(&id)?)?,
            Once::No,
        )
        .await?;
    Ok(answer(StatusCode::OK, told))
}

/// Refuses the customer's orders from now on.
async fn block(asker: Asker, id: Path<String>, headers: HeaderMap) -> Result<Response, Problem> {
    set_blocked(asker, &id, &headers, true).await
}

/// Takes the customer's orders again.
async fn unblock(asker: Asker, id: Path<String>, headers: HeaderMap) -> Result<Response, Problem> {
    set_blocked(asker, &id, &headers, false).await
}

async fn set_blocked(
    asker: Asker,
    id: &Path<String>,
    headers: &HeaderMap,
    is_blocked: bool,
) -> Result<Response, Problem> {
    let body = json!({"id": customer(id)?, "is_blocked": is_blocked});
    Ok(answer(
        StatusCode::OK,
        asker.ask("customer.block", body, once(headers)?).await?,
    ))
}

/// What is not a customer's id is the id of no customer.
fn customer(Path(id): &Path<String>) -> Result<&str, Problem> {
    match id.parse::<CustomerId>() {
        Ok(_) => Ok(id),
        Err(_) => Err(Failure::not_found("customer", id).into()),
    }
}
