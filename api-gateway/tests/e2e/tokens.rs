//! Authentication with JSON Web Tokens, issued by a third-party library.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::harness::{CannedResponse, Receiver, System, run_script, wait_until};

const JWT_SECRET: &str = "a secret that both sides know, and nobody else";

fn generate_tokens(arguments: &[&str]) -> Value {
    serde_json::from_str(&run_script("tokens.py", arguments)).unwrap()
}

async fn assert_tokens_are_verified(system: &mut System, tokens: &Value) {
    for (token_name, token) in tokens["good"].as_object().unwrap() {
        system.api_key = Some(token.as_str().unwrap().to_owned());
        let reply = system.get("/v1/orders").await;
        assert_eq!(reply.status, 200, "{token_name}: {}", reply.body);
    }
    for (token_name, token) in tokens["bad"].as_object().unwrap() {
        system.api_key = Some(token.as_str().unwrap().to_owned());
        let reply = system.get("/v1/orders").await;
        assert_eq!(reply.status, 401, "{token_name}: {}", reply.body);
        reply.expect_problem(401, "UNAUTHENTICATED");
    }
}

#[tokio::test]
async fn tokens_signed_with_the_secret_are_accepted_and_forged_ones_refused() {
    let mut system = System::start_with(&[
        ("JWT_SECRET", JWT_SECRET),
        ("API_KEYS", "operator=key-of-operator"),
    ])
    .await;
    let tokens = generate_tokens(&["secret", JWT_SECRET]);
    assert_tokens_are_verified(&mut system, &tokens).await;
    // API keys remain valid.
    system.api_key = Some("key-of-operator".to_owned());
    system.create_product_with_stock("A", &[("main", 5)]).await;
    // The storefront is taken from the token.
    system.api_key = Some(tokens["good"]["HS256"].as_str().unwrap().to_owned());
    let customer_id = system.create_customer().await;
    let customer_reply = system.get(&format!("/v1/customers/{customer_id}")).await;
    assert_eq!(customer_reply.expect(200)["storefront"], "eu");
    let product = json!({"sku": "B", "name": "B", "price": 1, "currency": "EUR"});
    system
        .post("/v1/products", product)
        .await
        .expect_problem(403, "FORBIDDEN");
}

#[tokio::test]
async fn concurrent_requests_share_the_first_fetch_of_the_jwks() {
    let tokens = generate_tokens(&["keys"]);
    let jwks_server =
        Receiver::with_responses(vec![CannedResponse::Late(Duration::from_mins(2))]).await;
    let url = jwks_server.url("/jwks");
    let mut system = System::start_with(&[("JWT_JWKS_URL", &url)]).await;
    system.api_key = Some(tokens["good"]["ES256"].as_str().unwrap().to_owned());
    for reply in join_all((0..5).map(|_| system.get("/v1/orders"))).await {
        reply.expect_problem(503, "UNAVAILABLE");
    }
    assert_eq!(jwks_server.received().len(), 1);
}

#[tokio::test]
async fn jwks_rotation_is_followed_and_keys_outlive_an_outage() {
    let tokens = generate_tokens(&["keys"]);
    let jwks_server = Receiver::with_responses(vec![CannedResponse::Status(500)]).await;
    let url = jwks_server.url("/jwks");
    let mut system = System::start_with(&[("JWT_JWKS_URL", &url)]).await;
    // Without keys no token can be verified.
    system.api_key = Some(tokens["good"]["ES256"].as_str().unwrap().to_owned());
    system
        .get("/v1/orders")
        .await
        .expect_problem(503, "UNAVAILABLE");

    jwks_server.set_response(CannedResponse::Json(tokens["keys"].to_string()));
    assert_tokens_are_verified(&mut system, &tokens).await;
    // Unknown key ids do not cause repeated requests for the keys.
    let fetch_count = jwks_server.received().len();
    assert!(
        fetch_count < 10,
        "the keys were fetched {fetch_count} times"
    );

    jwks_server.set_response(CannedResponse::Json(tokens["later_keys"].to_string()));
    system.api_key = Some(tokens["later"].as_str().unwrap().to_owned());
    wait_until("the new key to be accepted", async || {
        system.get("/v1/orders").await.status == 200
    })
    .await;
    system.api_key = Some(tokens["good"]["RS256"].as_str().unwrap().to_owned());
    system
        .get("/v1/orders")
        .await
        .expect_problem(401, "UNAUTHENTICATED");

    // Another key with the same id is accepted after the next permitted fetch.
    jwks_server.set_response(CannedResponse::Json(tokens["replaced_keys"].to_string()));
    system.api_key = Some(tokens["replaced"].as_str().unwrap().to_owned());
    wait_until("the replaced key to be accepted", async || {
        system.get("/v1/orders").await.status == 200
    })
    .await;
    system.api_key = Some(tokens["nameless"].as_str().unwrap().to_owned());
    let refused_reply = system.get("/v1/orders").await;
    let problem = refused_reply.expect_problem(401, "UNAUTHENTICATED");
    assert!(
        problem["detail"]
            .as_str()
            .unwrap()
            .contains("has no key id (kid)")
    );

    jwks_server.set_response(CannedResponse::Status(500));
    system.api_key = Some(tokens["replaced"].as_str().unwrap().to_owned());
    system.get("/v1/orders").await.expect(200);
}
