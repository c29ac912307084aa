//! API keys: creation, use, revocation and expiry, over several gateways; roles; secrets at rest.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use futures_util::{StreamExt, stream};
use jiff::{SignedDuration, Timestamp};
use reqwest::{Body, Method, Response};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use crate::{
    endpoints::{ALLOW_PRIVATE_URLS, BrokerListener},
    harness::{Receiver, Reply, System, order_body, send, wait_until},
};

const ADMIN_SECRET: &str = "first-admin-key-of-the-test";
pub(crate) const ADMIN_KEY: (&str, &str) = ("API_KEYS", "admin=first-admin-key-of-the-test");
/// Requests that are sent to each gateway after it has refused a key.
const REPEATED_REQUEST_COUNT: usize = 50;

impl System {
    /// Starts a system whose first admin has a key from the environment.
    async fn with_admin(variables: &[(&str, &str)]) -> Self {
        let variables: Vec<_> = [ADMIN_KEY].into_iter().chain(variables.to_vec()).collect();
        let mut system = Self::start_with(&variables).await;
        system.api_key = Some(ADMIN_SECRET.to_owned());
        system
    }

    async fn create_key(&self, body: Value) -> Value {
        self.post("/v1/api-keys", body).await.expect(201)
    }

    async fn create_storefront_key(&self, storefront: &str) -> Value {
        let body = json!({"name": "shop", "role": "storefront", "storefront": storefront});
        self.create_key(body).await
    }

    /// Sends `GET base/path` with this credential.
    async fn get_with(&self, base_url: &str, path: &str, secret: &str) -> Reply {
        let request = self.client.get(format!("{base_url}{path}"));
        send(request.bearer_auth(secret)).await
    }

    /// All rows of all tables as text.
    pub(crate) fn dump_all_tables(&self) -> String {
        let tables = self.store.tables();
        let rows = tables.iter().map(|table| self.store.all_rows(table));
        rows.collect::<Vec<_>>().join("\n")
    }
}

fn text_field(value: &Value, field_name: &str) -> String {
    value[field_name].as_str().unwrap().to_owned()
}

/// Reads the stream until the gateway ends it; fails at the client's timeout.
async fn read_to_end(mut stream: Response) {
    while stream.chunk().await.unwrap().is_some() {}
}

#[tokio::test]
async fn revoked_key_is_refused_by_every_gateway_and_others_are_not_disturbed() {
    let system = System::with_admin(&[]).await;
    let (_gateway, second_gateway_url) = system.start_additional_gateway().await;
    let gateway_urls = [system.url(""), second_gateway_url];
    let other_secret = text_field(&system.create_storefront_key("us").await, "secret");
    let key = system.create_storefront_key("eu").await;
    let (secret, key_path) = (
        text_field(&key, "secret"),
        format!("/v1/api-keys/{}", text_field(&key, "id")),
    );
    // A new key works at once, on a gateway that did not create it as well.
    for base_url in &gateway_urls {
        system
            .get_with(base_url, "/v1/orders", &secret)
            .await
            .expect(200);
    }

    // Load of another key, whose requests all succeed.
    let (is_over, answered_requests) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicUsize::new(0)),
    );
    let load_tasks = gateway_urls
        .iter()
        .flat_map(|base_url| vec![base_url.clone(); 4])
        .map(|base_url| {
            let (client, secret) = (system.client.clone(), other_secret.clone());
            let (is_over, answered_requests) =
                (Arc::clone(&is_over), Arc::clone(&answered_requests));
            tokio::spawn(async move {
                while !is_over.load(Ordering::Relaxed) {
                    let request = client.get(format!("{base_url}/v1/orders"));
                    assert_eq!(send(request.bearer_auth(&secret)).await.status, 200);
                    answered_requests.fetch_add(1, Ordering::Relaxed);
                }
            })
        });
    let load_tasks: Vec<_> = load_tasks.collect();
    let mut stream_readers = Vec::new();
    let mut session_cookies = Vec::new();
    for base_url in &gateway_urls {
        let stream_request = system.client.get(format!("{base_url}/v1/events/stream"));
        let stream = stream_request.bearer_auth(&secret).send().await.unwrap();
        assert_eq!(stream.status(), 200);
        stream_readers.push(tokio::spawn(read_to_end(stream)));
        let log_in_request = system.client.post(format!("{base_url}/console/session"));
        let log_in_reply = send(log_in_request.json(&json!({"key": secret}))).await;
        assert_eq!(log_in_reply.status, 200, "{}", log_in_reply.body);
        let cookie = log_in_reply.headers["set-cookie"].to_str().unwrap();
        session_cookies.push(cookie.split(';').next().unwrap().to_owned());
    }

    send(system.request(Method::DELETE, &key_path))
        .await
        .expect(204);
    for base_url in &gateway_urls {
        wait_until("the gateway to refuse the key", async || {
            system
                .get_with(base_url, "/v1/orders", &secret)
                .await
                .status
                == 401
        })
        .await;
    }
    for base_url in &gateway_urls {
        for _ in 0..REPEATED_REQUEST_COUNT {
            let refused_reply = system.get_with(base_url, "/v1/orders", &secret).await;
            refused_reply.expect_problem(401, "UNAUTHENTICATED");
        }
        // A session works with each gateway.
        for cookie in &session_cookies {
            let request = system.client.get(format!("{base_url}/v1/orders"));
            let refused_reply = send(request.header("cookie", cookie)).await;
            refused_reply.expect_problem(401, "UNAUTHENTICATED");
        }
    }
    for stream in stream_readers {
        stream.await.unwrap();
    }
    let count_before = answered_requests.load(Ordering::Relaxed);
    wait_until("more requests of the other key", async || {
        answered_requests.load(Ordering::Relaxed) > count_before + REPEATED_REQUEST_COUNT
    })
    .await;
    is_over.store(true, Ordering::Relaxed);
    for task in load_tasks {
        task.await.unwrap();
    }
    let revoked_key = system.get(&key_path).await.expect(200);
    assert!(revoked_key["revoked_at"].is_string(), "{revoked_key}");
    system.assert_verified();
}

#[tokio::test]
async fn storefront_of_a_new_key_is_known_to_every_gateway_at_once() {
    let system = System::with_admin(&[ALLOW_PRIVATE_URLS]).await;
    let receiver = Receiver::start().await;
    let (_gateway, second_gateway_url) = system.start_additional_gateway().await;
    let create_endpoint = async |storefront: &str| {
        let request = system
            .client
            .post(format!("{second_gateway_url}/v1/webhook-endpoints"));
        let endpoint = json!({"url": receiver.url("/"), "storefront": storefront});
        send(request.bearer_auth(ADMIN_SECRET).json(&endpoint)).await
    };
    for storefront in ["eu", "us", "uk"] {
        create_endpoint(storefront)
            .await
            .expect_problem(422, "INVALID_REQUEST");
        system.create_storefront_key(storefront).await;
        create_endpoint(storefront).await.expect(201);
    }
}

#[tokio::test]
async fn waiting_request_of_a_revoked_key_ends_unauthorized() {
    let system = System::with_admin(&[("REQUEST_TIMEOUT_MS", "30000")]).await;
    let key = system.create_storefront_key("eu").await;
    let request = system
        .client
        .get(system.url("/v1/events?after=now&wait_ms=30000"))
        .bearer_auth(text_field(&key, "secret"));
    let waiting_request = tokio::spawn(send(request));
    let key_path = format!("/v1/api-keys/{}", text_field(&key, "id"));
    // The key is used as soon as the request has arrived.
    wait_until("the use of the key", async || {
        system.get(&key_path).await.expect(200)["last_used_at"].is_string()
    })
    .await;
    assert!(!waiting_request.is_finished());
    send(system.request(Method::DELETE, &key_path))
        .await
        .expect(204);
    let late_reply = waiting_request.await.unwrap();
    late_reply.expect_problem(401, "UNAUTHENTICATED");
}

#[tokio::test]
async fn order_whose_key_was_revoked_while_its_body_was_received_is_refused() {
    let system = System::with_admin(&[]).await;
    let customer_id = system.create_customer().await;
    let key = system.create_storefront_key("eu").await;
    let (secret, key_path) = (
        text_field(&key, "secret"),
        format!("/v1/api-keys/{}", text_field(&key, "id")),
    );
    let body = order_body(&customer_id, "A", 1).to_string();
    let (body_beginning, body_ending) = body.split_at(body.len() / 2);
    let (body_end, rest_receiver) = oneshot::channel::<String>();
    let chunks = stream::iter([Ok(body_beginning.to_owned())]).chain(stream::once(rest_receiver));
    let request = system.client.post(system.url("/v1/orders"));
    let request = request
        .bearer_auth(&secret)
        .header("content-type", "application/json")
        .header("prefer", "respond-async")
        .body(Body::wrap_stream(chunks));
    let unfinished_request = tokio::spawn(send(request));
    // The key is used as soon as the head of the request has arrived.
    wait_until("the use of the key", async || {
        system.get(&key_path).await.expect(200)["last_used_at"].is_string()
    })
    .await;
    send(system.request(Method::DELETE, &key_path))
        .await
        .expect(204);
    wait_until("the gateway to refuse the key", async || {
        let base_url = system.url("");
        system
            .get_with(&base_url, "/v1/orders", &secret)
            .await
            .status
            == 401
    })
    .await;
    assert!(!unfinished_request.is_finished());
    body_end.send(body_ending.to_owned()).unwrap();
    let late_reply = unfinished_request.await.unwrap();
    late_reply.expect_problem(401, "UNAUTHENTICATED");
}

#[tokio::test]
async fn known_keys_stay_valid_without_a_worker() {
    let mut system = System::with_admin(&[]).await;
    system.create_product_with_stock("A", &[("main", 5)]).await;
    let key = system.create_storefront_key("eu").await;
    let secret = text_field(&key, "secret");
    system.api_key = Some(secret.clone());
    let customer_id = system.create_customer().await;
    system.worker.kill();
    let place_order = async |system: &System, secret: &str| {
        let request = system.client.post(system.url("/v1/orders"));
        let request = request
            .header("prefer", "respond-async")
            .bearer_auth(secret);
        send(request.json(&order_body(&customer_id, "A", 1))).await
    };
    for _ in 0..3 {
        place_order(&system, &secret).await.expect(202);
    }
    // Whether another key exists can't be known now.
    let unknown_key_reply = place_order(&system, "owk_unknown").await;
    unknown_key_reply.expect_problem(503, "UNAVAILABLE");
    place_order(&system, "no key at all")
        .await
        .expect_problem(401, "UNAUTHENTICATED");
    place_order(&system, &secret).await.expect(202);
    system.restart_worker().await;
    wait_until("the refusal of the unknown key", async || {
        place_order(&system, "owk_unknown").await.status == 401
    })
    .await;
    wait_until("the accepted orders", async || {
        system.list_orders().await.len() == 4
    })
    .await;
}

#[tokio::test]
async fn expired_key_is_refused_and_its_stream_ends() {
    let system = System::with_admin(&[]).await;
    let mut body = json!({"name": "till", "role": "operator", "expires_at": Timestamp::now()});
    let refused_reply = system.post("/v1/api-keys", body.clone()).await;
    let problem = refused_reply.expect_problem(422, "INVALID_REQUEST");
    assert_eq!(problem["errors"][0]["pointer"], "/expires_at");

    body["expires_at"] = json!(Timestamp::now() + SignedDuration::from_secs(5));
    let secret = text_field(&system.create_key(body).await, "secret");
    let base_url = system.url("");
    let stream_request = system.client.get(system.url("/v1/events/stream"));
    let stream = stream_request.bearer_auth(&secret).send().await.unwrap();
    assert_eq!(stream.status(), 200);
    read_to_end(stream).await;
    for _ in 0..REPEATED_REQUEST_COUNT {
        let refused_reply = system.get_with(&base_url, "/v1/orders", &secret).await;
        refused_reply.expect_problem(401, "UNAUTHENTICATED");
    }
}

#[tokio::test]
async fn key_has_the_rights_of_its_role_and_storefront_only() {
    let mut system = System::with_admin(&[]).await;
    system.create_product_with_stock("A", &[("main", 5)]).await;
    for (body, pointer) in [
        (json!({"name": "a", "role": "storefront"}), "/storefront"),
        (
            json!({"name": "a", "role": "admin", "storefront": "eu"}),
            "/storefront",
        ),
        (json!({"name": "a", "role": "root"}), "/role"),
        (
            json!({"name": "a", "role": "admin", "sealed_secret": "x"}),
            "/sealed_secret",
        ),
        (json!({"role": "admin"}), "/name"),
    ] {
        let refused_reply = system.post("/v1/api-keys", body).await;
        let problem = refused_reply.expect_problem(422, "INVALID_REQUEST");
        assert_eq!(problem["errors"][0]["pointer"], pointer);
    }
    let eu_key = system.create_storefront_key("eu").await;
    let us_key = system.create_storefront_key("us").await;
    let operator_key = system
        .create_key(json!({"name": "office", "role": "operator"}))
        .await;
    let admin_key = system
        .create_key(json!({"name": "boss", "role": "admin"}))
        .await;

    system.api_key = Some(text_field(&eu_key, "secret"));
    let customer_id = system.create_customer().await;
    let created_order = system
        .post("/v1/orders", order_body(&customer_id, "A", 1))
        .await
        .expect(201);
    assert_eq!(created_order["storefront"], "eu");
    let order_path = format!("/v1/orders/{}", text_field(&created_order, "id"));
    let order_history = system
        .get(&format!("{order_path}/history"))
        .await
        .expect(200);
    assert_eq!(order_history["data"][0]["actor"], "shop");
    system
        .put("/v1/products/A/stock/main", json!({"on_hand": 9}))
        .await
        .expect_problem(403, "FORBIDDEN");
    system.api_key = Some(text_field(&us_key, "secret"));
    system
        .get(&order_path)
        .await
        .expect_problem(404, "NOT_FOUND");
    system.api_key = Some(text_field(&operator_key, "secret"));
    system.get(&order_path).await.expect(200);

    let key_path = format!("/v1/api-keys/{}", text_field(&eu_key, "id"));
    for key in [&eu_key, &operator_key] {
        system.api_key = Some(text_field(key, "secret"));
        let new_key = json!({"name": "a", "role": "operator"});
        for refused_reply in [
            system.post("/v1/api-keys", new_key).await,
            system.get("/v1/api-keys").await,
            system.get(&key_path).await,
            system.get("/v1/api-keys/none").await,
            system.delete(&key_path).await,
        ] {
            refused_reply.expect_problem(403, "FORBIDDEN");
        }
    }
    system.api_key = Some(text_field(&admin_key, "secret"));
    assert!(system.get(&key_path).await.expect(200)["revoked_at"].is_null());
    // Pages, newest first.
    let page = system.get("/v1/api-keys?limit=3").await.expect(200);
    assert_eq!(page["data"][0]["name"], "boss");
    assert!(!page.to_string().contains("secret"), "{page}");
    let next_page_path = format!(
        "/v1/api-keys?limit=3&cursor={}",
        text_field(&page, "next_cursor")
    );
    let last_page = system.get(&next_page_path).await.expect(200);
    assert_eq!(last_page["data"][0]["id"], eu_key["id"]);
    assert!(last_page["next_cursor"].is_null());
}

#[tokio::test]
async fn repeated_request_gets_the_same_key_and_its_secret_is_stored_nowhere() {
    let mut system = System::with_admin(&[]).await;
    let body = json!({"name": "shop", "role": "admin"});
    let create_with_key = async |system: &System, idempotency_key: &str, body: &Value| {
        let request = system.request(Method::POST, "/v1/api-keys");
        let request = request.header("idempotency-key", idempotency_key);
        send(request.json(body)).await
    };
    let created_api_key = create_with_key(&system, "k-1", &body).await.expect(201);
    let (_gateway, second_gateway_url) = system.start_additional_gateway().await;
    let repeated_reply = create_with_key(&system, "k-1", &body).await;
    assert_eq!(repeated_reply.headers["idempotent-replayed"], "true");
    assert_eq!(repeated_reply.expect(201), created_api_key);
    let request = system
        .client
        .post(format!("{second_gateway_url}/v1/api-keys"));
    let request = request
        .header("idempotency-key", "k-1")
        .bearer_auth(ADMIN_SECRET);
    assert_eq!(send(request.json(&body)).await.expect(201), created_api_key);
    let other_body = json!({"name": "shop", "role": "operator"});
    let conflict_reply = create_with_key(&system, "k-1", &other_body).await;
    conflict_reply.expect_problem(422, "IDEMPOTENCY_CONFLICT");

    // Another admin does not get the secret.
    let secret = text_field(&created_api_key, "secret");
    system.api_key = Some(secret.clone());
    let mut without_secret = created_api_key.clone();
    without_secret.as_object_mut().unwrap().remove("secret");
    assert_eq!(
        create_with_key(&system, "k-1", &body).await.expect(201),
        without_secret
    );
    // In a console session, the session's cookie is the credential.
    let log_in_request = system.client.post(system.url("/console/session"));
    let log_in_reply = send(log_in_request.json(&json!({"key": secret}))).await;
    let cookie = log_in_reply.headers["set-cookie"]
        .to_str()
        .unwrap()
        .to_owned();
    let create_in_session = async || {
        let request = system.client.post(system.url("/v1/api-keys"));
        let request = request.header("cookie", cookie.split(';').next().unwrap());
        let request = request
            .header("x-console", "1")
            .header("idempotency-key", "k-2");
        send(request.json(&other_body)).await.expect(201)
    };
    let key_created_in_session = create_in_session().await;
    assert_eq!(create_in_session().await, key_created_in_session);

    let keys = system.get("/v1/api-keys").await.expect(200);
    assert_eq!(keys["data"].as_array().unwrap().len(), 2);
    let dump = system.dump_all_tables();
    assert!(dump.contains(created_api_key["id"].as_str().unwrap()));
    for secret in [
        secret,
        text_field(&key_created_in_session, "secret"),
        ADMIN_SECRET.to_owned(),
    ] {
        assert!(!dump.contains(&secret));
    }

    // If-Match compares the version, which uses of the key do not change.
    let key_path = format!("/v1/api-keys/{}", text_field(&key_created_in_session, "id"));
    let revoke = async |entity_tag: &str| {
        let request = system.request(Method::DELETE, &key_path);
        send(request.header("if-match", entity_tag)).await
    };
    let unused_key_reply = system.get(&key_path).await;
    let entity_tag = unused_key_reply.headers["etag"]
        .to_str()
        .unwrap()
        .to_owned();
    let base_url = system.url("");
    system
        .get_with(
            &base_url,
            "/v1/orders",
            &text_field(&key_created_in_session, "secret"),
        )
        .await
        .expect(200);
    wait_until("the use of the key", async || {
        system.get(&key_path).await.expect(200)["last_used_at"].is_string()
    })
    .await;
    revoke("\"7\"")
        .await
        .expect_problem(412, "VERSION_MISMATCH");
    revoke(&entity_tag).await.expect(204);
    revoke(&entity_tag)
        .await
        .expect_problem(412, "VERSION_MISMATCH");
    system.assert_verified();
}

#[tokio::test]
async fn events_of_keys_are_visible_to_admins_only() {
    let mut system = System::with_admin(&[ALLOW_PRIVATE_URLS]).await;
    let receiver = Receiver::start().await;
    let mut broker_listener = BrokerListener::start(&system, 60).await;
    let endpoint_with_unknown_type =
        json!({"url": receiver.url("/"), "event_types": ["api_key.*"]});
    let refused_reply = system
        .post("/v1/webhook-endpoints", endpoint_with_unknown_type)
        .await;
    refused_reply.expect_problem(422, "INVALID_REQUEST");
    // An admin's endpoint gets all events of all storefronts.
    system.create_endpoint(&receiver.url("/"), &["*"]).await;
    let key = system.create_storefront_key("eu").await;
    let operator_key = system
        .create_key(json!({"name": "office", "role": "operator"}))
        .await;
    let key_id = text_field(&key, "id");
    send(system.request(Method::DELETE, &format!("/v1/api-keys/{key_id}")))
        .await
        .expect(204);
    system.create_product_with_stock("A", &[("main", 5)]).await;
    wait_until("the webhooks of the stock", async || {
        !receiver.received().is_empty()
    })
    .await;

    let event_types_at = async |system: &System, path: &str| {
        let page = system.get(path).await.expect(200);
        let events = page["data"].as_array().unwrap().iter();
        events
            .map(|event| text_field(event, "type"))
            .collect::<Vec<_>>()
    };
    let event_types_for_admin = event_types_at(&system, "/v1/events?type=api_key.*").await;
    assert_eq!(
        event_types_for_admin,
        ["api_key.created", "api_key.created", "api_key.revoked"]
    );
    for secret in [
        text_field(&operator_key, "secret"),
        text_field(&system.create_storefront_key("us").await, "secret"),
    ] {
        system.api_key = Some(secret.clone());
        assert_eq!(
            event_types_at(&system, "/v1/events?type=api_key.*").await,
            [""; 0]
        );
        let all_types = event_types_at(&system, "/v1/events").await;
        assert!(
            all_types
                .iter()
                .all(|event_type| !event_type.starts_with("api_key")),
            "{all_types:?}"
        );
        system.api_key = Some(ADMIN_SECRET.to_owned());
    }

    // The same in the live stream: the event of the product is the first one that the operator gets.
    let request = system.client.get(system.url("/v1/events/stream"));
    let mut stream = request
        .bearer_auth(text_field(&operator_key, "secret"))
        .send()
        .await
        .unwrap();
    system.create_storefront_key("us").await;
    system.create_product_with_stock("B", &[]).await;
    let mut received_text = String::new();
    while !received_text.contains("event: product.created") {
        let chunk = stream.chunk().await.unwrap().unwrap();
        received_text.push_str(&String::from_utf8_lossy(&chunk));
    }
    assert!(!received_text.contains("api_key"), "{received_text}");
    let webhooks = receiver.received();
    let is_of_key = |body: &[u8]| String::from_utf8_lossy(body).contains("api_key");
    assert!(webhooks.iter().all(|webhook| !is_of_key(&webhook.body)));

    // On the broker as well: the products are created after the keys.
    let mut product_event_count = 0;
    while product_event_count < 2 {
        let event = broker_listener.next().await.expect("both products");
        assert!(!event.contains("api_key"), "{event}");
        product_event_count += usize::from(event.contains("product.created"));
    }
    system.assert_verified();
}

#[tokio::test]
async fn restored_backup_has_its_keys_and_verify_knows_them() {
    let mut system = System::with_admin(&[]).await;
    let kept_key = system.create_storefront_key("eu").await;
    let revoked_key = system.create_storefront_key("us").await;
    let revoked_key_path = format!("/v1/api-keys/{}", text_field(&revoked_key, "id"));
    send(system.request(Method::DELETE, &revoked_key_path))
        .await
        .expect(204);
    system.worker.terminate();
    system.store = system.store.copy(&system.folder);
    let url = system.store.url();
    system.set_variable("DATABASE_URL", Some(&url));
    system.restart_worker().await;
    let base_url = system.url("");
    system
        .get_with(&base_url, "/v1/orders", &text_field(&kept_key, "secret"))
        .await
        .expect(200);
    let refused_reply = system
        .get_with(&base_url, "/v1/orders", &text_field(&revoked_key, "secret"))
        .await;
    refused_reply.expect_problem(401, "UNAUTHENTICATED");
    system.assert_verified();
    system.store.run(
        crate::harness::Tables::Worker,
        &format!(
            "UPDATE api_keys SET revoked_at = NULL WHERE id = '{}'",
            text_field(&revoked_key, "id")
        ),
    );
    let output = crate::harness::run_worker(&system, &["verify"]);
    assert!(!output.status.success());
    let findings = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(findings.contains("differs from its state"), "{findings}");
}

#[tokio::test]
async fn rate_limit_counts_each_new_key_for_itself_and_wrong_keys_cost_others_nothing() {
    let system = System::with_admin(&[("RATE_LIMIT", "5/s")]).await;
    let first_secret = text_field(&system.create_storefront_key("eu").await, "secret");
    let second_secret = text_field(&system.create_storefront_key("eu").await, "secret");
    let base_url = system.url("");
    let mut statuses = Vec::new();
    let wrong_key_requests = (0..200).map(|number| {
        let request = system.client.get(system.url("/v1/orders"));
        tokio::spawn(send(request.bearer_auth(format!("owk_wrong-{number}"))))
    });
    let wrong_key_requests: Vec<_> = wrong_key_requests.collect();
    wait_until("the rate limit", async || {
        let requests = (0..20).map(|_| system.get_with(&base_url, "/v1/orders", &first_secret));
        let replies = futures_util::future::join_all(requests).await;
        statuses.extend(replies.iter().map(|reply| reply.status));
        statuses.contains(&429)
    })
    .await;
    assert!(
        statuses.iter().all(|status| matches!(status, 200 | 429)),
        "{statuses:?}"
    );
    system
        .get_with(&base_url, "/v1/orders", &second_secret)
        .await
        .expect(200);
    for wrong_key_request in wrong_key_requests {
        wrong_key_request
            .await
            .unwrap()
            .expect_problem(401, "UNAUTHENTICATED");
    }
}
