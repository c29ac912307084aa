//! Messages to customers, sent to a real SMTP server (`smtp_server.py`): one for each event, whatever fails.

use std::{collections::BTreeSet, fs, path::Path};

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{
    Folder, Peer, Process, Store, System, Tables, WORKER, is_announced, order, python_with_input,
    run_worker, send, until,
};

/// A mail server, and the messages that it has taken.
struct MailServer {
    peer: Peer,
    port: String,
}

impl MailServer {
    /// Starts a server in `folder`; `mode` is an argument of `smtp_server.py`.
    async fn start(folder: &Path, mode: &str, port: &str) -> Self {
        let arguments = [folder.to_str().unwrap(), mode, port];
        let log = folder.join(format!("smtp-{}.log", uuid::Uuid::now_v7()));
        let peer = Peer::start("smtp_server.py", &arguments, log);
        let port = peer.port().await;
        Self { peer, port }
    }

    /// The messages that the server has taken.
    fn taken(&self) -> Vec<Value> {
        let printed = self.peer.printed();
        // The program also prints warnings of its libraries.
        let lines = printed.lines().filter(|line| line.starts_with('{'));
        lines
            .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{printed}")))
            .collect()
    }

    fn subjects(&self) -> Vec<String> {
        let taken = self.taken();
        taken
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
    let folder = Folder::new();
    let server = MailServer::start(&folder, "plain", "0").await;
    let url = format!("smtp://127.0.0.1:{}", server.port);
    let mut all_variables = vec![
        ("SMTP_URL", url.as_str()),
        ("MAIL_FROM", "The Shop <orders@shop.example>"),
        ("MAIL_RATE", "100"),
    ];
    all_variables.extend(variables);
    let system = System::start_in_folder(folder, &all_variables).await;
    system.stock("A", &[("main", 1000)]).await;
    (server, system)
}

impl System {
    async fn customer_with(&self, name: &str, email: &str) -> String {
        let customer = json!({"name": name, "email": email});
        let created = self.post("/v1/customers", customer).await.expect(201);
        text_of(&created["id"])
    }

    /// Creates an order of a new customer with this address, which is confirmed.
    async fn confirmed_order(&self, email: &str) -> String {
        let customer = self.customer_with("Ada", email).await;
        let created = self.post("/v1/orders", order(&customer, "A", 2)).await;
        let id = text_of(&created.expect(201)["id"]);
        self.order_until(&id, "announced", is_announced).await;
        id
    }

    async fn messages_of(&self, order: &str) -> Vec<Value> {
        let path = format!("/v1/orders/{order}/messages");
        let page = self.get(&path).await.expect(200);
        page["data"].as_array().unwrap().clone()
    }

    /// Waits for the only message of an order to have this status.
    async fn message_until(&self, order: &str, status: &str) -> Value {
        until(&format!("a message to be {status}"), async || {
            let messages = self.messages_of(order).await;
            messages.iter().any(|message| message["status"] == status)
        })
        .await;
        let messages = self.messages_of(order).await;
        assert_eq!(messages.len(), 1, "{messages:?}");
        messages[0].clone()
    }

    /// Waits until an order has this number of messages, none of which is waiting; returns their kinds, oldest
    /// first.
    async fn kinds_of(&self, order: &str, count: usize) -> Vec<String> {
        until(&format!("{count} messages"), async || {
            let messages = self.messages_of(order).await;
            messages.len() >= count
                && messages
                    .iter()
                    .all(|message| message["status"] != "pending")
        })
        .await;
        let messages = self.messages_of(order).await.into_iter().rev();
        messages.map(|message| text_of(&message["kind"])).collect()
    }
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "all messages of one order")]
async fn each_event_of_an_order_gives_its_message_once() {
    let (server, system) = start_with_mail(&[]).await;
    let renamed = json!({"name": "Mug, blue"});
    system.patch("/v1/products/A", renamed).await.expect(200);
    let customer = system
        .customer_with("Ada Lovelace", "ada@example.com")
        .await;
    let mut new_order = order(&customer, "A", 2);
    new_order["shipping_address"] = json!({"name": "Ada Lovelace", "line1": "Main Street 1", "postal_code": "10115", "city": "Berlin"});
    new_order["discounts"] = json!([{"label": "Welcome", "amount": 100}]);
    new_order["shipping"] = json!({"label": "Standard", "amount": 490});
    let created = system.post("/v1/orders", new_order).await.expect(201);
    let (id, number) = (text_of(&created["id"]), created["number"].to_string());
    system.order_until(&id, "announced", is_announced).await;
    let shipments = format!("/v1/orders/{id}/shipments");
    let handed_over = json!({"carrier": "Swift Parcel", "tracking_number": "SP1234567890", "tracking_url": "https://track.example/SP1234567890"});
    system.post(&shipments, handed_over).await.expect(201);
    let kinds = system.kinds_of(&id, 2).await;
    assert_eq!(kinds, ["order_confirmed", "order_shipped"]);
    let shipped = system.order_until(&id, "captured", |order| {
        order["payment"]["status"] == "captured" && order["in_progress"].is_null()
    });
    shipped.await;
    system
        .webhook("d1", "shipment.delivered", &id)
        .await
        .expect(200);
    let body = json!({"items": [{"sku": "A", "quantity": 1}]});
    let path = format!("/v1/orders/{id}/returns");
    let requested = system.post(&path, body.clone()).await.expect(201);
    let path = format!("/v1/returns/{}", text_of(&requested["id"]));
    system
        .post(&format!("{path}/approve"), json!({}))
        .await
        .expect(200);
    let receipt = json!({"items": [{"sku": "A", "quantity": 1, "restock": true}]});
    system
        .post(&format!("{path}/receive"), receipt)
        .await
        .expect(200);
    let kinds = system.kinds_of(&id, 5).await;
    let expected = [
        "order_confirmed",
        "order_shipped",
        "order_delivered",
        "return_received",
        "order_refunded",
    ];
    assert_eq!(kinds, expected);

    let cancelled = system.confirmed_order("ada@example.com").await;
    let path = format!("/v1/orders/{cancelled}/cancel");
    system.post(&path, json!({})).await.expect(200);
    assert_eq!(
        system.kinds_of(&cancelled, 2).await,
        ["order_confirmed", "order_cancelled"]
    );

    let taken = server.taken();
    let ids: BTreeSet<_> = taken
        .iter()
        .map(|message| text_of(&message["id"]))
        .collect();
    assert_eq!((taken.len(), ids.len()), (7, 7), "{:?}", server.subjects());
    let confirmation = &taken[0];
    assert_eq!(
        confirmation["subject"],
        format!("Your order {number} is confirmed")
    );
    assert_eq!(confirmation["sender"], "orders@shop.example");
    for part in ["text", "html"] {
        let text = text_of(&confirmation[part]);
        for expected in [
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
            assert!(text.contains(expected), "{expected} in {text}");
        }
    }
    let stored = &system.messages_of(&id).await[4];
    assert_eq!(stored["recipient"], "ada@example.com");
    assert_eq!(stored["subject"], confirmation["subject"]);
    assert!(text_of(&stored["text"]).contains("23.90 EUR"), "{stored}");
    let shipped = taken
        .iter()
        .find(|message| text_of(&message["subject"]).contains("on its way"));
    let link = "href=\"https://track.example/SP1234567890\"";
    let html = text_of(&shipped.unwrap()["html"]).replace("&#x2f;", "/");
    assert!(html.contains(link), "{html}");
    let refund = taken
        .iter()
        .find(|message| text_of(&message["subject"]).contains("refund"));
    assert!(
        text_of(&refund.unwrap()["text"]).contains("9.50 EUR"),
        "{refund:?}"
    );

    // All kinds fit into narrow windows.
    let mut kinds = BTreeSet::new();
    let mut pages = Vec::new();
    for order in [&id, &cancelled] {
        for message in system.messages_of(order).await {
            let id = text_of(&message["id"]);
            let sent = taken.iter().find(|sent| text_of(&sent["id"]).contains(&id));
            let page = json!({"kind": message["kind"], "html": sent.unwrap()["html"]});
            if kinds.insert(text_of(&message["kind"])) {
                pages.push(page.to_string());
            }
        }
    }
    assert_eq!(kinds.len(), 6);
    python_with_input("message_pictures.py", &pages.join("\n"));

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
    let unknown = format!("/v1/orders/{}/messages", uuid::Uuid::now_v7());
    system.get(&unknown).await.expect_problem(404, "NOT_FOUND");
    system.assert_verified();
    let address = system.worker.logged("health", 0).unwrap();
    let metrics = system.client.get(format!("http://{address}/metrics"));
    let metrics = metrics.send().await.unwrap().text().await.unwrap();
    for sample in [
        "message_attempts_total{kind=\"order_confirmed\",outcome=\"sent\"} 2",
        "messages_waiting 0",
        "messages_oldest_waiting_age_seconds 0",
    ] {
        assert!(metrics.contains(sample), "{sample} in {metrics}");
    }
    let exported = run_worker(&system, &["export", "messages"]);
    assert_eq!(
        String::from_utf8(exported.stdout).unwrap().lines().count(),
        7
    );
}

#[tokio::test]
async fn responses_of_the_mail_server_decide_about_another_attempt() {
    let (server, system) = start_with_mail(&[("MAIL_TIMEOUT_SECONDS", "2")]).await;
    let addresses = ["refused", "spam", "greylisted", "silent", "dropped"];
    let addresses = addresses.map(|name| format!("{name}@example.com"));
    let orders = join_all(addresses.iter().map(|email| system.confirmed_order(email))).await;
    let [refused, spam, greylisted, silent, dropped] = orders.try_into().unwrap();
    let bounced = system.message_until(&refused, "bounced").await;
    assert_eq!(
        (&bounced["attempts"], &bounced["next_attempt_at"]),
        (&json!(1), &Value::Null)
    );
    assert!(
        text_of(&bounced["error"]).contains("user unknown"),
        "{bounced}"
    );
    assert_eq!(bounced["recipient"], "refused@example.com");
    let bounced = system.message_until(&spam, "bounced").await;
    assert!(
        text_of(&bounced["error"]).contains("message refused"),
        "{bounced}"
    );
    assert_eq!(
        system.message_until(&greylisted, "sent").await["attempts"],
        3
    );
    assert_eq!(system.message_until(&silent, "sent").await["attempts"], 2);
    // The server took the first message, but the worker can't know.
    assert_eq!(system.message_until(&dropped, "sent").await["attempts"], 2);
    let taken = server.taken();
    let of_dropped = taken
        .iter()
        .filter(|message| message["recipient"] == "dropped@example.com");
    let ids: Vec<_> = of_dropped.map(|message| text_of(&message["id"])).collect();
    assert_eq!((ids.len(), &ids[0]), (2, &ids[1]));
    assert_eq!(taken.len(), 4, "{:?}", server.subjects());
    // Logs contain no personal data, also none that the server quotes.
    let log = fs::read_to_string(system.folder.join("worker.log")).unwrap();
    assert!(
        log.contains("user unknown") && !log.contains("@example.com"),
        "{log}"
    );
}

#[tokio::test]
async fn messages_wait_while_the_mail_server_is_down() {
    let (server, system) = start_with_mail(&[]).await;
    let port = server.port.clone();
    drop(server);
    let id = system.confirmed_order("ada@example.com").await;
    until("an attempt to fail", async || {
        let messages = system.messages_of(&id).await;
        messages
            .first()
            .is_some_and(|message| !message["error"].is_null())
    })
    .await;
    let waiting = system.message_until(&id, "pending").await;
    assert!(waiting["next_attempt_at"].is_string(), "{waiting}");
    let server = MailServer::start(&system.folder, "plain", &port).await;
    system.message_until(&id, "sent").await;
    assert_eq!(server.taken().len(), 1);
}

#[tokio::test]
async fn worker_crash_loses_no_message_and_a_repetition_has_the_same_id() {
    let variables = [
        ("MAIL_TIMEOUT_SECONDS", "2"),
        ("CRASH_AT", "after_messages_created"),
    ];
    let (server, mut system) = start_with_mail(&variables).await;
    let customer = system.customer().await;
    for (point, count) in [("after_messages_created", 1), ("after_message_sent", 2)] {
        let crashes = system.worker_crashes();
        system.worker.kill();
        system.set("CRASH_AT", Some(point));
        system.restart_worker().await;
        let taken = server.taken().len();
        let created = system.post("/v1/orders", order(&customer, "A", 1)).await;
        let id = text_of(&created.expect(201)["id"]);
        until("the crash", async || system.worker_crashes() > crashes).await;
        system.set("CRASH_AT", None);
        system.restart_worker().await;
        assert_eq!(system.kinds_of(&id, 1).await, ["order_confirmed"]);
        let taken: Vec<_> = server.taken().split_off(taken);
        let ids: BTreeSet<_> = taken
            .iter()
            .map(|message| text_of(&message["id"]))
            .collect();
        assert_eq!((taken.len(), ids.len()), (count, 1), "{point}");
    }
}

#[tokio::test]
async fn several_workers_send_each_message_once() {
    let (server, system) = start_with_mail(&[]).await;
    if system.store.is_sqlite() {
        return;
    }
    let second = system.start_additional_worker(WORKER);
    until("the second worker to start", async || {
        second.logged("health", 0).is_some()
    })
    .await;
    let emails: Vec<_> = (0..30)
        .map(|number| format!("customer{number}@example.com"))
        .collect();
    let orders = join_all(emails.iter().map(|email| system.confirmed_order(email))).await;
    for id in &orders {
        system.message_until(id, "sent").await;
    }
    let taken = server.taken();
    let ids: BTreeSet<_> = taken
        .iter()
        .map(|message| text_of(&message["id"]))
        .collect();
    assert_eq!((taken.len(), ids.len()), (30, 30));
}

#[tokio::test]
async fn operators_resend_a_message_to_the_present_address() {
    let keys = "storefront@eu=key-of-eu;operator=key-of-operator";
    let (server, mut system) = {
        let folder = Folder::new();
        let server = MailServer::start(&folder, "plain", "0").await;
        let url = format!("smtp://127.0.0.1:{}", server.port);
        let variables = [
            ("SMTP_URL", url.as_str()),
            ("MAIL_FROM", "a@shop.example"),
            ("API_KEYS", keys),
        ];
        (server, System::start_in_folder(folder, &variables).await)
    };
    system.key = Some("key-of-operator".to_owned());
    system.stock("A", &[("main", 10)]).await;
    system.key = Some("key-of-eu".to_owned());
    let customer = system.customer_with("Ada", "refused@example.com").await;
    let created = system
        .post("/v1/orders", order(&customer, "A", 1))
        .await
        .expect(201);
    let id = text_of(&created["id"]);
    system.order_until(&id, "announced", is_announced).await;
    let bounced = system.message_until(&id, "bounced").await;
    let path = format!(
        "/v1/orders/{id}/messages/{}/resend",
        text_of(&bounced["id"])
    );
    system
        .post(&path, json!({}))
        .await
        .expect_problem(403, "FORBIDDEN");
    let address = json!({"email": "ada@example.com"});
    system
        .patch(&format!("/v1/customers/{customer}"), address)
        .await
        .expect(200);

    system.key = Some("key-of-operator".to_owned());
    let stale = system
        .request(Method::POST, &path)
        .header("if-match", "\"0\"")
        .json(&json!({}));
    send(stale).await.expect_problem(412, "VERSION_MISMATCH");
    let etag = system.get(&format!("/v1/orders/{id}")).await.headers["etag"].clone();
    let resend = || {
        let request = system.request(Method::POST, &path).json(&json!({}));
        send(
            request
                .header("idempotency-key", "resend-1")
                .header("if-match", etag.clone()),
        )
    };
    let first = resend().await.expect(202);
    assert_eq!(
        (&first["status"], &first["recipient"]),
        (&json!("pending"), &Value::Null)
    );
    let sent = system.message_until(&id, "sent").await;
    assert_eq!(sent["recipient"], "ada@example.com");
    assert_eq!(resend().await.expect(202), first);
    let unknown = format!("/v1/orders/{id}/messages/{}/resend", uuid::Uuid::now_v7());
    system
        .post(&unknown, json!({}))
        .await
        .expect_problem(404, "NOT_FOUND");
    // A message that was sent can be sent once more, with another id.
    system.post(&path, json!({})).await.expect(202);
    until("the second message", async || server.taken().len() == 2).await;
    let taken = server.taken();
    assert_ne!(taken[0]["id"], taken[1]["id"]);
    system.message_until(&id, "sent").await;
    system.assert_verified();
}

#[tokio::test]
async fn erased_and_blocked_customers_get_no_messages_and_nothing_of_them_is_kept() {
    let (server, system) = start_with_mail(&[]).await;
    let customer = system.customer_with("Hopper", "hopper@example.com").await;
    let created = system
        .post("/v1/orders", order(&customer, "A", 1))
        .await
        .expect(201);
    let id = text_of(&created["id"]);
    system.order_until(&id, "announced", is_announced).await;
    system.message_until(&id, "sent").await;
    let cancel = format!("/v1/orders/{id}/cancel");
    let block = format!("/v1/customers/{customer}/block");
    system.post(&block, json!({})).await.expect(200);
    system.post(&cancel, json!({})).await.expect(200);
    system.kinds_of(&id, 2).await;
    let messages = system.messages_of(&id).await;
    assert_eq!(
        (&messages[0]["status"], &messages[0]["error"]),
        (&json!("not_sent"), &json!("the customer is blocked"))
    );
    assert_eq!(messages[1]["recipient"], "hopper@example.com");

    system.wait_until_idle().await;
    system
        .delete(&format!("/v1/customers/{customer}"))
        .await
        .expect(204);
    for message in system.messages_of(&id).await {
        for member in ["recipient", "subject", "text"] {
            assert!(message[member].is_null(), "{message}");
        }
        let path = format!(
            "/v1/orders/{id}/messages/{}/resend",
            text_of(&message["id"])
        );
        system.post(&path, json!({})).await.expect(202);
    }
    system.kinds_of(&id, 2).await;
    for message in system.messages_of(&id).await {
        assert_eq!(message["error"], "the customer was erased", "{message}");
    }
    let is_named = || {
        let rows = system.store.all_rows("messages").to_lowercase();
        rows.contains("hopper")
    };
    assert!(!is_named());
    // An earlier version erased orders without their messages: repeating the erasure erases these, too.
    let with_address = "UPDATE messages SET state =
        replace(state, '\"recipient\":null', '\"recipient\":\"hopper@example.com\"')";
    system.store.run(Tables::Orders, with_address);
    assert!(is_named());
    system
        .delete(&format!("/v1/customers/{customer}"))
        .await
        .expect(204);
    assert!(!is_named());
    assert_eq!(server.taken().len(), 1);
    system.assert_verified();
}

#[tokio::test]
async fn imported_orders_give_messages_only_if_that_is_switched_on() {
    for (value, count) in [("0", 0), ("1", 2)] {
        let (server, system) = start_with_mail(&[("MAIL_IMPORTED_ORDERS", value)]).await;
        let customer = system.customer().await;
        let mut with_id = order(&customer, "A", 1);
        with_id["external_id"] = json!("legacy-1");
        let lines = format!("{with_id}\n{}\n", order(&customer, "A", 2));
        let request = system.request(Method::POST, "/v1/orders/import");
        let request = request
            .header("content-type", "application/x-ndjson")
            .body(lines);
        let report = send(request).await.expect(200);
        assert_eq!(report["accepted"], 2, "{report}");
        system.wait_until_idle().await;
        // The message of a later order shows that the events of the imported ones were processed.
        let id = system.confirmed_order("later@example.com").await;
        system.message_until(&id, "sent").await;
        until("the messages", async || server.taken().len() == count + 1).await;
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
    let mut accepted = 0;
    for name in names {
        let customer = json!({"name": name, "email": "ada@example.com"});
        let reply = system.post("/v1/customers", customer).await;
        if reply.status != 201 {
            // Control characters are refused where they arrive.
            assert_eq!(reply.status, 422, "{name:?}");
            continue;
        }
        let customer = text_of(&reply.body["id"]);
        let mut new_order = order(&customer, "X", 1);
        new_order["discounts"] = json!([{"label": "<i>Deal</i>", "amount": 1}]);
        let id = text_of(&system.post("/v1/orders", new_order).await.expect(201)["id"]);
        system.order_until(&id, "announced", is_announced).await;
        system.message_until(&id, "sent").await;
        accepted += 1;
        let taken = server.taken().pop().unwrap();
        assert_eq!(taken["recipient"], "ada@example.com");
        let headers = taken["headers"].as_array().unwrap();
        let headers: BTreeSet<_> = headers.iter().map(|header| text_of(&header[0])).collect();
        let expected = [
            "Auto-Submitted",
            "Content-Type",
            "Date",
            "From",
            "MIME-Version",
            "Message-ID",
            "Subject",
            "To",
        ];
        assert_eq!(headers, expected.map(str::to_owned).into(), "{name:?}");
        let html = text_of(&taken["html"]);
        for tag in ["<b>Bold", "<i>Deal", "<script>"] {
            assert!(!html.contains(tag), "{html}");
        }
        assert!(html.contains("&lt;b&gt;Bold&lt;"), "{html}");
        assert!(
            text_of(&taken["text"]).contains("<b>Bold</b> & \"quoted\""),
            "{taken}"
        );
    }
    assert!(accepted >= 4, "{accepted}");
    assert_eq!(server.taken().len(), accepted);
}

#[tokio::test]
async fn storefronts_have_templates_of_their_own() {
    let folder = Folder::new();
    let templates = folder.join("templates");
    fs::create_dir_all(templates.join("us")).unwrap();
    let text = "Subject: {{ order.number }}: all shops\n\n{{ order.total | money(order.currency, group='.', decimal=',') }}";
    fs::write(templates.join("order_confirmed.txt"), text).unwrap();
    fs::write(
        templates.join("us/order_confirmed.txt"),
        "Subject: US\n\n{{ customer.name }}",
    )
    .unwrap();
    fs::write(
        templates.join("us/_items.html"),
        "<p>{{ items | length }} lines</p>",
    )
    .unwrap();
    let server = MailServer::start(&folder, "plain", "0").await;
    let url = format!("smtp://127.0.0.1:{}", server.port);
    let variables = [
        ("SMTP_URL", url.as_str()),
        ("MAIL_FROM", "a@shop.example"),
        ("MAIL_TEMPLATES", templates.to_str().unwrap()),
        (
            "API_KEYS",
            "storefront@eu=key-of-eu;storefront@us=key-of-us;operator=key-of-operator",
        ),
    ];
    let mut system = System::start_in_folder(folder, &variables).await;
    system.key = Some("key-of-operator".to_owned());
    system.stock("A", &[("main", 10)]).await;
    for (key, subject) in [("key-of-eu", "1: all shops"), ("key-of-us", "US")] {
        system.key = Some(key.to_owned());
        let id = system.confirmed_order("ada@example.com").await;
        system.message_until(&id, "sent").await;
        assert_eq!(server.taken().last().unwrap()["subject"], subject);
    }
    let taken = server.taken();
    assert_eq!(text_of(&taken[0]["text"]).trim(), "20,00 EUR");
    assert!(
        text_of(&taken[1]["html"]).contains("<p>1 lines</p>"),
        "{}",
        taken[1]
    );
    // Another storefront's messages are not found.
    let id = text_of(&system.get("/v1/orders").await.expect(200)["data"][0]["id"]);
    system.key = Some("key-of-eu".to_owned());
    let path = format!("/v1/orders/{id}/messages");
    system.get(&path).await.expect_problem(404, "NOT_FOUND");

    // An order for another storefront's customer is accepted asynchronously and refused. The customer is not
    // written to, and the storefront does not learn their name.
    let customer = system.customer_with("Hopper", "hopper@example.com").await;
    system.key = Some("key-of-us".to_owned());
    let request = system.request(Method::POST, "/v1/orders");
    let request = request.header("prefer", "respond-async");
    let accepted = send(request.json(&order(&customer, "A", 1))).await;
    let id = text_of(&accepted.expect(202)["id"]);
    system
        .order_until(&id, "refused", |order| order["status"] == "cancelled")
        .await;
    until("the message", async || {
        system.messages_of(&id).await.len() == 1
    })
    .await;
    let message = system.message_until(&id, "not_sent").await;
    assert!(
        message["recipient"].is_null() && message["text"].is_null(),
        "{message}"
    );
    assert_eq!(server.taken().len(), 2);
}

#[tokio::test]
async fn wrong_settings_and_templates_end_the_start_with_one_line() {
    let folder = Folder::new();
    let templates = folder.join("templates");
    fs::create_dir_all(templates.join("us")).unwrap();
    let store = Store::new(&folder);
    let output_of = |url: &str| {
        let variables = [
            ("DATABASE_URL", store.url()),
            ("WORKER_HTTP_ADDR", "127.0.0.1:0".to_owned()),
            ("SMTP_URL", url.to_owned()),
            ("MAIL_FROM", "a@shop.example".to_owned()),
            ("MAIL_TEMPLATES", templates.to_str().unwrap().to_owned()),
        ];
        let output = Process::command(WORKER).envs(variables).output().unwrap();
        assert!(!output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let error = output_of("smtp://shop:hunter2@mail.example");
    assert!(error.contains("SMTP_URL: a password needs TLS"), "{error}");
    assert!(!error.contains("hunter2"), "{error}");
    for (file, text, expected) in [
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
        let path = templates.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        let error = output_of("smtp://mail.example");
        assert!(error.contains(expected), "{file}: {error}");
        assert_eq!(error.trim().lines().count(), 1, "{error}");
        fs::remove_file(&path).unwrap();
    }
}

#[tokio::test]
async fn events_from_before_messages_were_switched_on_give_none() {
    let (server, mut system) = start_with_mail(&[]).await;
    let url = format!("smtp://127.0.0.1:{}", server.port);
    for round in 1..=2 {
        system.worker.terminate();
        system.set("SMTP_URL", None);
        system.restart_worker().await;
        let before = system.confirmed_order("before@example.com").await;
        assert_eq!(system.messages_of(&before).await, Vec::<Value>::new());
        system.worker.terminate();
        system.set("SMTP_URL", Some(&url));
        system.restart_worker().await;
        let after = system.confirmed_order("after@example.com").await;
        system.message_until(&after, "sent").await;
        assert_eq!(system.messages_of(&before).await, Vec::<Value>::new());
        assert_eq!(server.taken().len(), round);
    }
    // Messages that wait when they are switched off are not sent later.
    let port = server.port.clone();
    drop(server);
    let waiting = system.confirmed_order("waiting@example.com").await;
    system.message_until(&waiting, "pending").await;
    system.worker.terminate();
    system.set("SMTP_URL", None);
    system.restart_worker().await;
    let message = system.message_until(&waiting, "not_sent").await;
    let path = format!(
        "/v1/orders/{waiting}/messages/{}/resend",
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
    for (mode, scheme, parameters, user) in [
        ("starttls", "smtp", "?tls=required", ""),
        ("starttls", "smtp", "", ""),
        ("implicit", "smtps", "", ""),
        ("auth", "smtp", "?tls=required", "shop"),
    ] {
        let folder = Folder::new();
        let server = MailServer::start(&folder, mode, "0").await;
        let credentials = if user.is_empty() {
            String::new()
        } else {
            format!("{user}:{password}@")
        };
        let url = format!(
            "{scheme}://{credentials}localhost:{}{parameters}",
            server.port
        );
        let certificate = folder.join("cert.pem");
        let variables = [
            ("SMTP_URL", url.as_str()),
            ("MAIL_FROM", "a@shop.example"),
            ("SSL_CERT_FILE", certificate.to_str().unwrap()),
        ];
        let system = System::start_in_folder(folder, &variables).await;
        system.stock("A", &[("main", 10)]).await;
        let id = system.confirmed_order("ada@example.com").await;
        system.message_until(&id, "sent").await;
        let taken = server.taken();
        assert_eq!(taken.len(), 1);
        assert_eq!(taken[0]["tls"], true, "{mode}");
        assert_eq!(
            taken[0]["user"].as_str().unwrap_or_default(),
            user,
            "{mode}"
        );
    }
}

#[tokio::test]
async fn nothing_is_sent_without_the_required_encryption_or_with_a_wrong_password() {
    for (mode, url) in [
        ("plain", "smtp://localhost:PORT?tls=required"),
        ("auth", "smtp://shop:wrong@localhost:PORT?tls=required"),
    ] {
        let folder = Folder::new();
        let server = MailServer::start(&folder, mode, "0").await;
        let url = url.replace("PORT", &server.port);
        let certificate = folder.join("cert.pem");
        let mut variables = vec![("SMTP_URL", url.as_str()), ("MAIL_FROM", "a@shop.example")];
        if mode != "plain" {
            variables.push(("SSL_CERT_FILE", certificate.to_str().unwrap()));
        }
        let system = System::start_in_folder(folder, &variables).await;
        system.stock("A", &[("main", 10)]).await;
        let id = system.confirmed_order("ada@example.com").await;
        until("an attempt to fail", async || {
            let messages = system.messages_of(&id).await;
            messages
                .first()
                .is_some_and(|message| !message["error"].is_null())
        })
        .await;
        // It is a fault of the configuration, and no bounce.
        let message = system.message_until(&id, "pending").await;
        assert!(!message.to_string().contains("wrong"), "{message}");
        assert!(server.taken().is_empty());
    }
}

#[tokio::test]
async fn expired_messages_are_deleted_and_verify_reports_inconsistent_ones() {
    let (_server, mut system) = start_with_mail(&[("MESSAGES_KEPT_DAYS", "1")]).await;
    let (old, recent) = (
        system.confirmed_order("old@example.com").await,
        system.confirmed_order("recent@example.com").await,
    );
    system.message_until(&old, "sent").await;
    let message = system.message_until(&recent, "sent").await;
    system.assert_verified();
    let aged = format!("UPDATE messages SET created_at = 1 WHERE order_id = '{old}'");
    system.store.run(Tables::Orders, &aged);
    system.worker.terminate();
    system.restart_worker().await;
    until("the old message to be deleted", async || {
        system.messages_of(&old).await.is_empty()
    })
    .await;
    system.message_until(&recent, "sent").await;

    let id = text_of(&message["id"]);
    for (change, finding) in [
        ("event_id = 'x'", "its event does not exist"),
        ("status = 'pending'", "its row differs from its state"),
        ("order_id = 'x'", "its order does not exist"),
    ] {
        let sql = format!("UPDATE messages SET {change} WHERE id = '{id}'");
        system.store.run(Tables::Orders, &sql);
        let (_, report) = system.verify();
        assert!(
            report.contains(&format!("message {id}: {finding}")),
            "{report}"
        );
    }
}
