//! Messages to customers, sent to a real SMTP server (`smtp_server.py`): one for each event, whatever fails.

use std::{collections::BTreeSet, fs, path::Path};

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{
    Process, PythonProgram, Store, System, Tables, TestFolder, WORKER, has_shipping_label,
    order_body, run_script_with_input, run_worker, send, wait_until,
};

/// A mail server, and the messages that it has taken.
struct MailServer {
    smtp_server: PythonProgram,
    port: String,
}

impl MailServer {
    /// Starts a server in `folder`; `mode` is an argument of `smtp_server.py`.
    async fn start(folder: &Path, mode: &str, port: &str) -> Self {
        let arguments = [folder.to_str().unwrap(), mode, port];
        let log_path = folder.join(format!("smtp-{}.log", uuid::Uuid::now_v7()));
        let smtp_server = PythonProgram::start("smtp_server.py", &arguments, log_path);
        let port = smtp_server.port().await;
        Self { smtp_server, port }
    }

    /// The messages that the server has taken.
    fn taken_messages(&self) -> Vec<Value> {
        let printed_text = self.smtp_server.printed_text();
        // The program also prints warnings of its libraries.
        let lines = printed_text.lines().filter(|line| line.starts_with('{'));
        lines
            .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{printed_text}")))
            .collect()
    }

    fn subjects(&self) -> Vec<String> {
        let taken_messages = self.taken_messages();
        taken_messages
            .iter()
            .map(|message| text_of(&message["subject"]))
            .collect()
    }
}

fn text_of(value: &Value) -> String {
    value
        .as_str()
        .unwrap_or_else(|| panic!("{value}"))
        .to_owned()
}

/// Starts a mail server, and a system that sends messages to it.
async fn start_with_mail(variables: &[(&str, &str)]) -> (MailServer, System) {
    let folder = TestFolder::new();
    let server = MailServer::start(&folder, "plain", "0").await;
    let smtp_url = format!("smtp://127.0.0.1:{}", server.port);
    let mut all_variables = vec![
        ("SMTP_URL", smtp_url.as_str()),
        ("MAIL_FROM", "The Shop <orders@shop.example>"),
        ("MAIL_RATE", "100"),
    ];
    all_variables.extend(variables);
    let system = System::start_in_folder(folder, &all_variables).await;
    system
        .create_product_with_stock("A", &[("main", 1000)])
        .await;
    (server, system)
}

impl System {
    async fn customer_with(&self, name: &str, email: &str) -> String {
        let new_customer = json!({"name": name, "email": email});
        let created_customer = self.post("/v1/customers", new_customer).await.expect(201);
        text_of(&created_customer["id"])
    }

    /// Creates an order of a new customer with this address, which is confirmed.
    async fn confirmed_order(&self, email: &str) -> String {
        let customer_id = self.customer_with("Ada", email).await;
        let order_reply = self
            .post("/v1/orders", order_body(&customer_id, "A", 2))
            .await;
        let id = text_of(&order_reply.expect(201)["id"]);
        self.wait_for_order(&id, "announced", has_shipping_label)
            .await;
        id
    }

    async fn messages_of(&self, order_id: &str) -> Vec<Value> {
        let path = format!("/v1/orders/{order_id}/messages");
        let page = self.get(&path).await.expect(200);
        page["data"].as_array().unwrap().clone()
    }

    /// Waits for the only message of an order to have this status.
    async fn wait_for_message(&self, order_id: &str, status: &str) -> Value {
        wait_until(&format!("a message to be {status}"), async || {
            let messages = self.messages_of(order_id).await;
            messages.iter().any(|message| message["status"] == status)
        })
        .await;
        let messages = self.messages_of(order_id).await;
        assert_eq!(messages.len(), 1, "{messages:?}");
        messages[0].clone()
    }

    /// Waits until an order has this number of messages, none of which is waiting; returns their kinds, oldest
    /// first.
    async fn wait_for_message_kinds(&self, order_id: &str, message_count: usize) -> Vec<String> {
        wait_until(&format!("{message_count} messages"), async || {
            let messages = self.messages_of(order_id).await;
            messages.len() >= message_count
                && messages
                    .iter()
                    .all(|message| message["status"] != "pending")
        })
        .await;
        let messages = self.messages_of(order_id).await.into_iter().rev();
        messages.map(|message| text_of(&message["kind"])).collect()
    }
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "all messages of one order")]
async fn each_event_of_an_order_gives_its_message_once() {
    let (server, system) = start_with_mail(&[]).await;
    let new_name = json!({"name": "Mug, blue"});
    system.patch("/v1/products/A", new_name).await.expect(200);
    let customer_id = system
        .customer_with("Ada Lovelace", "ada@example.com")
        .await;
    let mut new_order = order_body(&customer_id, "A", 2);
    new_order["shipping_address"] = json!({"name": "Ada Lovelace", "line1": "Main Street 1", "postal_code": "10115", "city": "Berlin"});
    new_order["discounts"] = json!([{"label": "Welcome", "amount": 100}]);
    new_order["shipping"] = json!({"label": "Standard", "amount": 490});
    let created_order = system.post("/v1/orders", new_order).await.expect(201);
    let (id, number) = (
        text_of(&created_order["id"]),
        created_order["number"].to_string(),
    );
    system
        .wait_for_order(&id, "announced", has_shipping_label)
        .await;
    let shipments_path = format!("/v1/orders/{id}/shipments");
    let shipment_body = json!({"carrier": "Swift Parcel", "tracking_number": "SP1234567890", "tracking_url": "https://track.example/SP1234567890"});
    system
        .post(&shipments_path, shipment_body)
        .await
        .expect(201);
    let kinds = system.wait_for_message_kinds(&id, 2).await;
    assert_eq!(kinds, ["order_confirmed", "order_shipped"]);
    let wait_until_captured = system.wait_for_order(&id, "captured", |order| {
        order["payment"]["status"] == "captured" && order["in_progress"].is_null()
    });
    wait_until_captured.await;
    system
        .send_webhook("d1", "shipment.delivered", &id)
        .await
        .expect(200);
    let return_body = json!({"items": [{"sku": "A", "quantity": 1}]});
    let path = format!("/v1/orders/{id}/returns");
    let requested_return = system.post(&path, return_body.clone()).await.expect(201);
    let path = format!("/v1/returns/{}", text_of(&requested_return["id"]));
    system
        .post(&format!("{path}/approve"), json!({}))
        .await
        .expect(200);
    let return_receipt_body = json!({"items": [{"sku": "A", "quantity": 1, "restock": true}]});
    system
        .post(&format!("{path}/receive"), return_receipt_body)
        .await
        .expect(200);
    let kinds = system.wait_for_message_kinds(&id, 5).await;
    let expected_kinds = [
        "order_confirmed",
        "order_shipped",
        "order_delivered",
        "return_received",
        "order_refunded",
    ];
    assert_eq!(kinds, expected_kinds);

    let cancelled_id = system.confirmed_order("ada@example.com").await;
    let path = format!("/v1/orders/{cancelled_id}/cancel");
    system.post(&path, json!({})).await.expect(200);
    assert_eq!(
        system.wait_for_message_kinds(&cancelled_id, 2).await,
        ["order_confirmed", "order_cancelled"]
    );

    let taken_messages = server.taken_messages();
    let message_ids: BTreeSet<_> = taken_messages
        .iter()
        .map(|message| text_of(&message["id"]))
        .collect();
    assert_eq!(
        (taken_messages.len(), message_ids.len()),
        (7, 7),
        "{:?}",
        server.subjects()
    );
    let confirmation = &taken_messages[0];
    assert_eq!(
        confirmation["subject"],
        format!("Your order {number} is confirmed")
    );
    assert_eq!(confirmation["sender"], "orders@shop.example");
    for body_part in ["text", "html"] {
        let text = text_of(&confirmation[body_part]);
        for expected_text in [
            "Ada Lovelace",
            "Mug, blue",
            "20.00 EUR",
            "Welcome",
            "-1.00 EUR",
            "Standard",
            "4.90 EUR",
            "23.90 EUR",
            "10115 Berlin",
        ] {
            assert!(text.contains(expected_text), "{expected_text} in {text}");
        }
    }
    let stored_message = &system.messages_of(&id).await[4];
    assert_eq!(stored_message["recipient"], "ada@example.com");
    assert_eq!(stored_message["subject"], confirmation["subject"]);
    assert!(
        text_of(&stored_message["text"]).contains("23.90 EUR"),
        "{stored_message}"
    );
    let shipping_message = taken_messages
        .iter()
        .find(|message| text_of(&message["subject"]).contains("on its way"));
    let link = "href=\"https://track.example/SP1234567890\"";
    let html = text_of(&shipping_message.unwrap()["html"]).replace("&#x2f;", "/");
    assert!(html.contains(link), "{html}");
    let refund_message = taken_messages
        .iter()
        .find(|message| text_of(&message["subject"]).contains("refund"));
    assert!(
        text_of(&refund_message.unwrap()["text"]).contains("9.50 EUR"),
        "{refund_message:?}"
    );

    // All kinds fit into narrow windows.
    let mut kinds = BTreeSet::new();
    let mut pages_to_render = Vec::new();
    for order_id in [&id, &cancelled_id] {
        for message in system.messages_of(order_id).await {
            let id = text_of(&message["id"]);
            let sent_message = taken_messages
                .iter()
                .find(|sent_message| text_of(&sent_message["id"]).contains(&id));
            let page = json!({"kind": message["kind"], "html": sent_message.unwrap()["html"]});
            if kinds.insert(text_of(&message["kind"])) {
                pages_to_render.push(page.to_string());
            }
        }
    }
    assert_eq!(kinds.len(), 6);
    run_script_with_input("message_pictures.py", &pages_to_render.join("\n"));

    // The list is paged, and messages of a deleted order are not found.
    let page = system
        .get(&format!("/v1/orders/{id}/messages?limit=2"))
        .await
        .expect(200);
    assert_eq!(page["data"].as_array().unwrap().len(), 2);
    let cursor = text_of(&page["next_cursor"]);
    let path = format!("/v1/orders/{id}/messages?limit=9&cursor={cursor}");
    assert_eq!(
        system.get(&path).await.expect(200)["data"]
            .as_array()
            .unwrap()
            .len(),
        3
    );
    let unknown_path = format!("/v1/orders/{}/messages", uuid::Uuid::now_v7());
    system
        .get(&unknown_path)
        .await
        .expect_problem(404, "NOT_FOUND");
    system.assert_verified();
    let health_address = system.worker.find_logged_field("health", 0).unwrap();
    let metrics_request = system
        .client
        .get(format!("http://{health_address}/metrics"));
    let metrics_text = metrics_request.send().await.unwrap().text().await.unwrap();
    for metric_sample in [
        "message_attempts_total{kind=\"order_confirmed\",outcome=\"sent\"} 2",
        "messages_waiting 0",
        "messages_oldest_waiting_age_seconds 0",
    ] {
        assert!(
            metrics_text.contains(metric_sample),
            "{metric_sample} in {metrics_text}"
        );
    }
    let export_output = run_worker(&system, &["export", "messages"]);
    assert_eq!(
        String::from_utf8(export_output.stdout)
            .unwrap()
            .lines()
            .count(),
        7
    );
}

#[tokio::test]
async fn responses_of_the_mail_server_decide_about_another_attempt() {
    let (server, system) = start_with_mail(&[("MAIL_TIMEOUT_SECONDS", "2")]).await;
    let local_parts = ["refused", "spam", "greylisted", "silent", "dropped"];
    let addresses = local_parts.map(|name| format!("{name}@example.com"));
    let order_ids = join_all(addresses.iter().map(|email| system.confirmed_order(email))).await;
    let [refused_id, spam_id, greylisted_id, silent_id, dropped_id] = order_ids.try_into().unwrap();
    let bounced_message = system.wait_for_message(&refused_id, "bounced").await;
    assert_eq!(
        (
            &bounced_message["attempts"],
            &bounced_message["next_attempt_at"]
        ),
        (&json!(1), &Value::Null)
    );
    assert!(
        text_of(&bounced_message["error"]).contains("user unknown"),
        "{bounced_message}"
    );
    assert_eq!(bounced_message["recipient"], "refused@example.com");
    let bounced_message = system.wait_for_message(&spam_id, "bounced").await;
    assert!(
        text_of(&bounced_message["error"]).contains("message refused"),
        "{bounced_message}"
    );
    assert_eq!(
        system.wait_for_message(&greylisted_id, "sent").await["attempts"],
        3
    );
    assert_eq!(
        system.wait_for_message(&silent_id, "sent").await["attempts"],
        2
    );
    // The server took the first message, but the worker can't know.
    assert_eq!(
        system.wait_for_message(&dropped_id, "sent").await["attempts"],
        2
    );
    let taken_messages = server.taken_messages();
    let messages_to_dropped = taken_messages
        .iter()
        .filter(|message| message["recipient"] == "dropped@example.com");
    let message_ids: Vec<_> = messages_to_dropped
        .map(|message| text_of(&message["id"]))
        .collect();
    assert_eq!((message_ids.len(), &message_ids[0]), (2, &message_ids[1]));
    assert_eq!(taken_messages.len(), 4, "{:?}", server.subjects());
    // Logs contain no personal data, also none that the server quotes.
    let worker_log = fs::read_to_string(system.folder.join("worker.log")).unwrap();
    assert!(
        worker_log.contains("user unknown") && !worker_log.contains("@example.com"),
        "{worker_log}"
    );
}

#[tokio::test]
async fn messages_wait_while_the_mail_server_is_down() {
    let (server, system) = start_with_mail(&[]).await;
    let port = server.port.clone();
    drop(server);
    let id = system.confirmed_order("ada@example.com").await;
    wait_until("an attempt to fail", async || {
        let messages = system.messages_of(&id).await;
        messages
            .first()
            .is_some_and(|message| !message["error"].is_null())
    })
    .await;
    let waiting_message = system.wait_for_message(&id, "pending").await;
    assert!(
        waiting_message["next_attempt_at"].is_string(),
        "{waiting_message}"
    );
    let server = MailServer::start(&system.folder, "plain", &port).await;
    system.wait_for_message(&id, "sent").await;
    assert_eq!(server.taken_messages().len(), 1);
}

#[tokio::test]
async fn worker_crash_loses_no_message_and_a_repetition_has_the_same_id() {
    let variables = [
        ("MAIL_TIMEOUT_SECONDS", "2"),
        ("CRASH_AT", "after_messages_created"),
    ];
    let (server, mut system) = start_with_mail(&variables).await;
    let customer_id = system.create_customer().await;
    for (crash_point, expected_count) in [("after_messages_created", 1), ("after_message_sent", 2)]
    {
        let crash_count_before = system.worker_crash_count();
        system.worker.kill();
        system.set_variable("CRASH_AT", Some(crash_point));
        system.restart_worker().await;
        let taken_count = server.taken_messages().len();
        let order_reply = system
            .post("/v1/orders", order_body(&customer_id, "A", 1))
            .await;
        let id = text_of(&order_reply.expect(201)["id"]);
        wait_until("the crash", async || {
            system.worker_crash_count() > crash_count_before
        })
        .await;
        system.set_variable("CRASH_AT", None);
        system.restart_worker().await;
        assert_eq!(
            system.wait_for_message_kinds(&id, 1).await,
            ["order_confirmed"]
        );
        let taken_messages: Vec<_> = server.taken_messages().split_off(taken_count);
        let message_ids: BTreeSet<_> = taken_messages
            .iter()
            .map(|message| text_of(&message["id"]))
            .collect();
        assert_eq!(
            (taken_messages.len(), message_ids.len()),
            (expected_count, 1),
            "{crash_point}"
        );
    }
}

#[tokio::test]
async fn several_workers_send_each_message_once() {
    let (server, system) = start_with_mail(&[]).await;
    if system.store.is_sqlite() {
        return;
    }
    let second_worker = system.start_additional_worker(WORKER);
    wait_until("the second worker to start", async || {
        second_worker.find_logged_field("health", 0).is_some()
    })
    .await;
    let emails: Vec<_> = (0..30)
        .map(|customer_number| format!("customer{customer_number}@example.com"))
        .collect();
    let order_ids = join_all(emails.iter().map(|email| system.confirmed_order(email))).await;
    for order_id in &order_ids {
        system.wait_for_message(order_id, "sent").await;
    }
    let taken_messages = server.taken_messages();
    let message_ids: BTreeSet<_> = taken_messages
        .iter()
        .map(|message| text_of(&message["id"]))
        .collect();
    assert_eq!((taken_messages.len(), message_ids.len()), (30, 30));
}

#[tokio::test]
async fn operators_resend_a_message_to_the_present_address() {
    let keys = "storefront@eu=key-of-eu;operator=key-of-operator";
    let (server, mut system) = {
        let folder = TestFolder::new();
        let server = MailServer::start(&folder, "plain", "0").await;
        let smtp_url = format!("smtp://127.0.0.1:{}", server.port);
        let variables = [
            ("SMTP_URL", smtp_url.as_str()),
            ("MAIL_FROM", "a@shop.example"),
            ("API_KEYS", keys),
        ];
        (server, System::start_in_folder(folder, &variables).await)
    };
    system.api_key = Some("key-of-operator".to_owned());
    system.create_product_with_stock("A", &[("main", 10)]).await;
    system.api_key = Some("key-of-eu".to_owned());
    let customer_id = system.customer_with("Ada", "refused@example.com").await;
    let created_order = system
        .post("/v1/orders", order_body(&customer_id, "A", 1))
        .await
        .expect(201);
    let id = text_of(&created_order["id"]);
    system
        .wait_for_order(&id, "announced", has_shipping_label)
        .await;
    let bounced_message = system.wait_for_message(&id, "bounced").await;
    let path = format!(
        "/v1/orders/{id}/messages/{}/resend",
        text_of(&bounced_message["id"])
    );
    system
        .post(&path, json!({}))
        .await
        .expect_problem(403, "FORBIDDEN");
    let new_email = json!({"email": "ada@example.com"});
    system
        .patch(&format!("/v1/customers/{customer_id}"), new_email)
        .await
        .expect(200);

    system.api_key = Some("key-of-operator".to_owned());
    let stale_request = system
        .request(Method::POST, &path)
        .header("if-match", "\"0\"")
        .json(&json!({}));
    send(stale_request)
        .await
        .expect_problem(412, "VERSION_MISMATCH");
    let etag = system.get(&format!("/v1/orders/{id}")).await.headers["etag"].clone();
    let resend = || {
        let request = system.request(Method::POST, &path).json(&json!({}));
        send(
            request
                .header("idempotency-key", "resend-1")
                .header("if-match", etag.clone()),
        )
    };
    let first_resend = resend().await.expect(202);
    assert_eq!(
        (&first_resend["status"], &first_resend["recipient"]),
        (&json!("pending"), &Value::Null)
    );
    let sent_message = system.wait_for_message(&id, "sent").await;
    assert_eq!(sent_message["recipient"], "ada@example.com");
    assert_eq!(resend().await.expect(202), first_resend);
    let unknown_path = format!("/v1/orders/{id}/messages/{}/resend", uuid::Uuid::now_v7());
    system
        .post(&unknown_path, json!({}))
        .await
        .expect_problem(404, "NOT_FOUND");
    // A message that was sent can be sent once more, with another id.
    system.post(&path, json!({})).await.expect(202);
    wait_until("the second message", async || {
        server.taken_messages().len() == 2
    })
    .await;
    let taken_messages = server.taken_messages();
    assert_ne!(taken_messages[0]["id"], taken_messages[1]["id"]);
    system.wait_for_message(&id, "sent").await;
    system.assert_verified();
}

#[tokio::test]
async fn erased_and_blocked_customers_get_no_messages_and_nothing_of_them_is_kept() {
    let (server, system) = start_with_mail(&[]).await;
    let customer_id = system.customer_with("Hopper", "hopper@example.com").await;
    let created_order = system
        .post("/v1/orders", order_body(&customer_id, "A", 1))
        .await
        .expect(201);
    let id = text_of(&created_order["id"]);
    system
        .wait_for_order(&id, "announced", has_shipping_label)
        .await;
    system.wait_for_message(&id, "sent").await;
    let cancel_path = format!("/v1/orders/{id}/cancel");
    let block_path = format!("/v1/customers/{customer_id}/block");
    system.post(&block_path, json!({})).await.expect(200);
    system.post(&cancel_path, json!({})).await.expect(200);
    system.wait_for_message_kinds(&id, 2).await;
    let messages = system.messages_of(&id).await;
    assert_eq!(
        (&messages[0]["status"], &messages[0]["error"]),
        (&json!("not_sent"), &json!("the customer is blocked"))
    );
    assert_eq!(messages[1]["recipient"], "hopper@example.com");

    system.wait_until_idle().await;
    system
        .delete(&format!("/v1/customers/{customer_id}"))
        .await
        .expect(204);
    for message in system.messages_of(&id).await {
        for field_name in ["recipient", "subject", "text"] {
            assert!(message[field_name].is_null(), "{message}");
        }
        let path = format!(
            "/v1/orders/{id}/messages/{}/resend",
            text_of(&message["id"])
        );
        system.post(&path, json!({})).await.expect(202);
    }
    system.wait_for_message_kinds(&id, 2).await;
    for message in system.messages_of(&id).await {
        assert_eq!(message["error"], "the customer was erased", "{message}");
    }
    let messages_contain_name = || {
        let rows = system.store.all_rows("messages").to_lowercase();
        rows.contains("hopper")
    };
    assert!(!messages_contain_name());
    // An earlier version erased orders without their messages: repeating the erasure erases these, too.
    let address_sql = "UPDATE messages SET state =
        replace(state, '\"recipient\":null', '\"recipient\":\"hopper@example.com\"')";
    system.store.run(Tables::Worker, address_sql);
    assert!(messages_contain_name());
    system
        .delete(&format!("/v1/customers/{customer_id}"))
        .await
        .expect(204);
    assert!(!messages_contain_name());
    assert_eq!(server.taken_messages().len(), 1);
    system.assert_verified();
}

#[tokio::test]
async fn imported_orders_give_messages_only_if_that_is_switched_on() {
    for (switch_value, expected_count) in [("0", 0), ("1", 2)] {
        let (server, system) = start_with_mail(&[("MAIL_IMPORTED_ORDERS", switch_value)]).await;
        let customer_id = system.create_customer().await;
        let mut order_with_external_id = order_body(&customer_id, "A", 1);
        order_with_external_id["external_id"] = json!("legacy-1");
        let import_text = format!(
            "{order_with_external_id}\n{}\n",
            order_body(&customer_id, "A", 2)
        );
        let request = system.request(Method::POST, "/v1/orders/import");
        let request = request
            .header("content-type", "application/x-ndjson")
            .body(import_text);
        let report = send(request).await.expect(200);
        assert_eq!(report["accepted"], 2, "{report}");
        system.wait_until_idle().await;
        // The message of a later order shows that the events of the imported ones were processed.
        let id = system.confirmed_order("later@example.com").await;
        system.wait_for_message(&id, "sent").await;
        wait_until("the messages", async || {
            server.taken_messages().len() == expected_count + 1
        })
        .await;
    }
}

#[tokio::test]
async fn names_and_texts_can_neither_add_headers_nor_html() {
    let (server, system) = start_with_mail(&[]).await;
    let product =
        json!({"sku": "X", "name": "<b>Bold</b> & \"quoted\"", "price": 100, "currency": "EUR"});
    system.post("/v1/products", product).await.expect(201);
    system
        .put("/v1/products/X/stock/main", json!({"on_hand": 99}))
        .await
        .expect(200);
    let names = [
        "Ada\r\nBcc: victim@example.com",
        "Ada \"The\" <boss@example.com>, other@example.com",
        "Ада Лавлейс 🦀",
        "a\u{2028}b; c: d@e.example;",
        "=?utf-8?q?Bcc:_x?=",
        "<script>alert(1)</script>",
    ];
    let mut accepted_count = 0;
    for name in names {
        let new_customer = json!({"name": name, "email": "ada@example.com"});
        let reply = system.post("/v1/customers", new_customer).await;
        if reply.status != 201 {
            // Control characters are refused where they arrive.
            assert_eq!(reply.status, 422, "{name:?}");
            continue;
        }
        let customer_id = text_of(&reply.body["id"]);
        let mut new_order = order_body(&customer_id, "X", 1);
        new_order["discounts"] = json!([{"label": "<i>Deal</i>", "amount": 1}]);
        let id = text_of(&system.post("/v1/orders", new_order).await.expect(201)["id"]);
        system
            .wait_for_order(&id, "announced", has_shipping_label)
            .await;
        system.wait_for_message(&id, "sent").await;
        accepted_count += 1;
        let taken_message = server.taken_messages().pop().unwrap();
        assert_eq!(taken_message["recipient"], "ada@example.com");
        let headers = taken_message["headers"].as_array().unwrap();
        let headers: BTreeSet<_> = headers.iter().map(|header| text_of(&header[0])).collect();
        let expected_headers = [
            "Auto-Submitted",
            "Content-Type",
            "Date",
            "From",
            "MIME-Version",
            "Message-ID",
            "Subject",
            "To",
        ];
        assert_eq!(
            headers,
            expected_headers.map(str::to_owned).into(),
            "{name:?}"
        );
        let html = text_of(&taken_message["html"]);
        for tag in ["<b>Bold", "<i>Deal", "<script>"] {
            assert!(!html.contains(tag), "{html}");
        }
        assert!(html.contains("&lt;b&gt;Bold&lt;"), "{html}");
        assert!(
            text_of(&taken_message["text"]).contains("<b>Bold</b> & \"quoted\""),
            "{taken_message}"
        );
    }
    assert!(accepted_count >= 4, "{accepted_count}");
    assert_eq!(server.taken_messages().len(), accepted_count);
}

#[tokio::test]
async fn storefronts_have_templates_of_their_own() {
    let folder = TestFolder::new();
    let templates_folder = folder.join("templates");
    fs::create_dir_all(templates_folder.join("us")).unwrap();
    let template_text = "Subject: {{ order.number }}: all shops\n\n{{ order.total | money(order.currency, group='.', decimal=',') }}";
    fs::write(templates_folder.join("order_confirmed.txt"), template_text).unwrap();
    fs::write(
        templates_folder.join("us/order_confirmed.txt"),
        "Subject: US\n\n{{ customer.name }}",
    )
    .unwrap();
    fs::write(
        templates_folder.join("us/_items.html"),
        "<p>{{ items | length }} lines</p>",
    )
    .unwrap();
    let server = MailServer::start(&folder, "plain", "0").await;
    let smtp_url = format!("smtp://127.0.0.1:{}", server.port);
    let variables = [
        ("SMTP_URL", smtp_url.as_str()),
        ("MAIL_FROM", "a@shop.example"),
        ("MAIL_TEMPLATES", templates_folder.to_str().unwrap()),
        (
            "API_KEYS",
            "storefront@eu=key-of-eu;storefront@us=key-of-us;operator=key-of-operator",
        ),
    ];
    let mut system = System::start_in_folder(folder, &variables).await;
    system.api_key = Some("key-of-operator".to_owned());
    system.create_product_with_stock("A", &[("main", 10)]).await;
    for (api_key, expected_subject) in [("key-of-eu", "1: all shops"), ("key-of-us", "US")] {
        system.api_key = Some(api_key.to_owned());
        let id = system.confirmed_order("ada@example.com").await;
        system.wait_for_message(&id, "sent").await;
        assert_eq!(
            server.taken_messages().last().unwrap()["subject"],
            expected_subject
        );
    }
    let taken_messages = server.taken_messages();
    assert_eq!(text_of(&taken_messages[0]["text"]).trim(), "20,00 EUR");
    assert!(
        text_of(&taken_messages[1]["html"]).contains("<p>1 lines</p>"),
        "{}",
        taken_messages[1]
    );
    // Another storefront's messages are not found.
    let id = text_of(&system.get("/v1/orders").await.expect(200)["data"][0]["id"]);
    system.api_key = Some("key-of-eu".to_owned());
    let path = format!("/v1/orders/{id}/messages");
    system.get(&path).await.expect_problem(404, "NOT_FOUND");

    // An order for another storefront's customer is accepted asynchronously and refused. The customer is not
    // written to, and the storefront does not learn their name.
    let customer_id = system.customer_with("Hopper", "hopper@example.com").await;
    system.api_key = Some("key-of-us".to_owned());
    let request = system.request(Method::POST, "/v1/orders");
    let request = request.header("prefer", "respond-async");
    let order_reply = send(request.json(&order_body(&customer_id, "A", 1))).await;
    let id = text_of(&order_reply.expect(202)["id"]);
    system
        .wait_for_order(&id, "refused", |order| order["status"] == "cancelled")
        .await;
    wait_until("the message", async || {
        system.messages_of(&id).await.len() == 1
    })
    .await;
    let message = system.wait_for_message(&id, "not_sent").await;
    assert!(
        message["recipient"].is_null() && message["text"].is_null(),
        "{message}"
    );
    assert_eq!(server.taken_messages().len(), 2);
}

#[tokio::test]
async fn wrong_settings_and_templates_end_the_start_with_one_line() {
    let folder = TestFolder::new();
    let templates_folder = folder.join("templates");
    fs::create_dir_all(templates_folder.join("us")).unwrap();
    let store = Store::new(&folder);
    let error_text_with = |smtp_url: &str| {
        let variables = [
            ("DATABASE_URL", store.url()),
            ("WORKER_HTTP_ADDR", "127.0.0.1:0".to_owned()),
            ("SMTP_URL", smtp_url.to_owned()),
            ("MAIL_FROM", "a@shop.example".to_owned()),
            (
                "MAIL_TEMPLATES",
                templates_folder.to_str().unwrap().to_owned(),
            ),
        ];
        let worker_output = Process::command(WORKER).envs(variables).output().unwrap();
        assert!(!worker_output.status.success());
        String::from_utf8_lossy(&worker_output.stderr).into_owned()
    };
    let error_text = error_text_with("smtp://shop:hunter2@mail.example");
    assert!(
        error_text.contains("SMTP_URL: a password needs TLS"),
        "{error_text}"
    );
    assert!(!error_text.contains("hunter2"), "{error_text}");
    for (template_name, template_text, expected_error) in [
        (
            "order_shipped.html",
            "a\n{% if %}",
            "order_shipped.html: line 2: ",
        ),
        (
            "us/order_shipped.html",
            "a\n\n{{ ordre.number }}",
            "us/order_shipped.html: line 3: unknown variable ordre",
        ),
        (
            "order_refunded.html",
            "{{ order.number }}\n{{ refund.sum }}",
            "order_refunded.html: line 2: ",
        ),
        (
            "order_refunded.txt",
            "Refund\n",
            "order_refunded.txt: line 1: must begin with Subject:",
        ),
        (
            "order_canceled.html",
            "typo",
            "order_canceled.html: must be named after a kind of message",
        ),
        ("us/x/_a.html", "", "us/x: unexpected folder"),
    ] {
        let template_path = templates_folder.join(template_name);
        fs::create_dir_all(template_path.parent().unwrap()).unwrap();
        fs::write(&template_path, template_text).unwrap();
        let error_text = error_text_with("smtp://mail.example");
        assert!(
            error_text.contains(expected_error),
            "{template_name}: {error_text}"
        );
        assert_eq!(error_text.trim().lines().count(), 1, "{error_text}");
        fs::remove_file(&template_path).unwrap();
    }
}

#[tokio::test]
async fn events_from_before_messages_were_switched_on_give_none() {
    let (server, mut system) = start_with_mail(&[]).await;
    let smtp_url = format!("smtp://127.0.0.1:{}", server.port);
    for round in 1..=2 {
        system.worker.terminate();
        system.set_variable("SMTP_URL", None);
        system.restart_worker().await;
        let id_before_switch_on = system.confirmed_order("before@example.com").await;
        assert_eq!(
            system.messages_of(&id_before_switch_on).await,
            Vec::<Value>::new()
        );
        system.worker.terminate();
        system.set_variable("SMTP_URL", Some(&smtp_url));
        system.restart_worker().await;
        let id_after_switch_on = system.confirmed_order("after@example.com").await;
        system.wait_for_message(&id_after_switch_on, "sent").await;
        assert_eq!(
            system.messages_of(&id_before_switch_on).await,
            Vec::<Value>::new()
        );
        assert_eq!(server.taken_messages().len(), round);
    }
    // Messages that wait when they are switched off are not sent later.
    let port = server.port.clone();
    drop(server);
    let id_with_waiting_message = system.confirmed_order("waiting@example.com").await;
    system
        .wait_for_message(&id_with_waiting_message, "pending")
        .await;
    system.worker.terminate();
    system.set_variable("SMTP_URL", None);
    system.restart_worker().await;
    let message = system
        .wait_for_message(&id_with_waiting_message, "not_sent")
        .await;
    let path = format!(
        "/v1/orders/{id_with_waiting_message}/messages/{}/resend",
        text_of(&message["id"])
    );
    system
        .post(&path, json!({}))
        .await
        .expect_problem(409, "INVALID_STATE");
    drop(MailServer::start(&system.folder, "plain", &port).await);
    system.assert_verified();
}

#[tokio::test]
async fn connection_is_encrypted_and_authenticated_as_smtp_url_says() {
    let password = "s3cret%2F%C3%BC";
    for (mode, scheme, parameters, user_name) in [
        ("starttls", "smtp", "?tls=required", ""),
        ("starttls", "smtp", "", ""),
        ("implicit", "smtps", "", ""),
        ("auth", "smtp", "?tls=required", "shop"),
    ] {
        let folder = TestFolder::new();
        let server = MailServer::start(&folder, mode, "0").await;
        let credentials = if user_name.is_empty() {
            String::new()
        } else {
            format!("{user_name}:{password}@")
        };
        let smtp_url = format!(
            "{scheme}://{credentials}localhost:{}{parameters}",
            server.port
        );
        let certificate = folder.join("cert.pem");
        let variables = [
            ("SMTP_URL", smtp_url.as_str()),
            ("MAIL_FROM", "a@shop.example"),
            ("SSL_CERT_FILE", certificate.to_str().unwrap()),
        ];
        let system = System::start_in_folder(folder, &variables).await;
        system.create_product_with_stock("A", &[("main", 10)]).await;
        let id = system.confirmed_order("ada@example.com").await;
        system.wait_for_message(&id, "sent").await;
        let taken_messages = server.taken_messages();
        assert_eq!(taken_messages.len(), 1);
        assert_eq!(taken_messages[0]["tls"], true, "{mode}");
        assert_eq!(
            taken_messages[0]["user"].as_str().unwrap_or_default(),
            user_name,
            "{mode}"
        );
    }
}

#[tokio::test]
async fn nothing_is_sent_without_the_required_encryption_or_with_a_wrong_password() {
    for (mode, smtp_url) in [
        ("plain", "smtp://localhost:PORT?tls=required"),
        ("auth", "smtp://shop:wrong@localhost:PORT?tls=required"),
    ] {
        let folder = TestFolder::new();
        let server = MailServer::start(&folder, mode, "0").await;
        let smtp_url = smtp_url.replace("PORT", &server.port);
        let certificate = folder.join("cert.pem");
        let mut variables = vec![
            ("SMTP_URL", smtp_url.as_str()),
            ("MAIL_FROM", "a@shop.example"),
        ];
        if mode != "plain" {
            variables.push(("SSL_CERT_FILE", certificate.to_str().unwrap()));
        }
        let system = System::start_in_folder(folder, &variables).await;
        system.create_product_with_stock("A", &[("main", 10)]).await;
        let id = system.confirmed_order("ada@example.com").await;
        wait_until("an attempt to fail", async || {
            let messages = system.messages_of(&id).await;
            messages
                .first()
                .is_some_and(|message| !message["error"].is_null())
        })
        .await;
        // It is a fault of the configuration, and no bounce.
        let message = system.wait_for_message(&id, "pending").await;
        assert!(!message.to_string().contains("wrong"), "{message}");
        assert!(server.taken_messages().is_empty());
    }
}

#[tokio::test]
async fn expired_messages_are_deleted_and_verify_reports_inconsistent_ones() {
    let (_server, mut system) = start_with_mail(&[("MESSAGES_KEPT_DAYS", "1")]).await;
    let (old_id, recent_id) = (
        system.confirmed_order("old@example.com").await,
        system.confirmed_order("recent@example.com").await,
    );
    system.wait_for_message(&old_id, "sent").await;
    let message = system.wait_for_message(&recent_id, "sent").await;
    system.assert_verified();
    let aging_sql = format!("UPDATE messages SET created_at = 1 WHERE order_id = '{old_id}'");
    system.store.run(Tables::Worker, &aging_sql);
    system.worker.terminate();
    system.restart_worker().await;
    wait_until("the old message to be deleted", async || {
        system.messages_of(&old_id).await.is_empty()
    })
    .await;
    system.wait_for_message(&recent_id, "sent").await;

    let message_id = text_of(&message["id"]);
    for (damaging_change, expected_finding) in [
        ("event_id = 'x'", "its event does not exist"),
        ("status = 'pending'", "its row differs from its state"),
        ("order_id = 'x'", "its order does not exist"),
    ] {
        let damage_sql = format!("UPDATE messages SET {damaging_change} WHERE id = '{message_id}'");
        system.store.run(Tables::Worker, &damage_sql);
        let (_, report) = system.verify();
        assert!(
            report.contains(&format!("message {message_id}: {expected_finding}")),
            "{report}"
        );
    }
}
