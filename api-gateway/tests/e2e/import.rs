//! Import of orders as NDJSON, one order per line.

use std::collections::HashMap;

use reqwest::{Body, Method};
use serde_json::{Value, json};

use crate::{
    harness::{Reply, Store, System, TestFolder, WORKER, order_body, run_script, send, wait_until},
    upgrade::previous_worker,
};

impl System {
    pub(crate) async fn import(&self, lines: &[Value], idempotency_key: Option<&str>) -> Reply {
        let line_texts: Vec<String> = lines.iter().map(Value::to_string).collect();
        self.import_text(line_texts.join("\n"), idempotency_key)
            .await
    }

    async fn import_text(&self, text: String, idempotency_key: Option<&str>) -> Reply {
        let request = self
            .request(Method::POST, "/v1/orders/import")
            .header("content-type", "application/x-ndjson");
        let request = match idempotency_key {
            Some(idempotency_key) => request.header("idempotency-key", idempotency_key),
            None => request,
        };
        // The body is chunked, without `Content-Length`.
        let body_chunks: Vec<_> = text.into_bytes().chunks(1000).map(<[u8]>::to_vec).collect();
        let chunk_results = body_chunks.into_iter().map(Ok::<_, std::io::Error>);
        let body = Body::wrap_stream(futures_util::stream::iter(chunk_results));
        send(request.body(body)).await
    }

    async fn orders_by_status(&self) -> HashMap<String, usize> {
        let mut counts = HashMap::new();
        for order in self.list_orders().await {
            let status = order["status"].as_str().unwrap().to_owned();
            *counts.entry(status).or_default() += 1;
        }
        counts
    }
}

/// Numbers of accepted, duplicate and rejected lines.
fn count_outcomes(report: &Value) -> (u64, u64, u64) {
    let count_of = |name: &str| report[name].as_u64().unwrap();
    (
        count_of("accepted"),
        count_of("duplicates"),
        count_of("rejected_count"),
    )
}

#[tokio::test]
async fn import_reports_each_line_as_accepted_duplicate_or_rejected() {
    let mut system = System::start_with(&[
        ("ORDER_APPROVAL", "manual"),
        (
            "API_KEYS",
            "operator=key-of-operator;storefront@eu=key-of-eu",
        ),
    ])
    .await;
    system.api_key = Some("key-of-operator".to_owned());
    system
        .create_product_with_stock("A", &[("east", 5), ("west", 2)])
        .await;
    let customer_id = system.create_customer().await;
    let line = |external_id: &str, quantity: u32| json!({"external_id": external_id, "customer_id": customer_id, "items": [{"sku": "A", "quantity": quantity}]});
    let long_line = format!("{{\"external_id\": \"{}\"}}", "x".repeat(1_100_000));
    let unknown_id = "0192f0c1-2345-7abc-8def-0123456789ab";
    let line_texts = [
        line("x-1", 3).to_string(),
        String::new(),
        "{\"external_id\": ".to_owned(),
        line("x-2", 3).to_string(),
        json!({"customer_id": unknown_id, "items": [{"sku": "A", "quantity": 1}]}).to_string(),
        json!({"customer_id": customer_id, "items": [{"sku": "B", "quantity": 0}], "colour": 1})
            .to_string(),
        line("x-1", 1).to_string(),
        long_line,
        "  \r".to_owned(),
        line("x-3", 3).to_string(),
        "[1]".to_owned(),
    ];
    let report = system
        .import_text(line_texts.join("\n"), None)
        .await
        .expect(200);
    assert_eq!(count_outcomes(&report), (3, 1, 5), "{report}");
    let rejected_lines: Vec<_> = report["rejected"].as_array().unwrap().iter().collect();
    let reported_lines: Vec<_> = rejected_lines
        .iter()
        .map(|line| {
            (
                line["line"].as_u64().unwrap(),
                line["code"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        reported_lines,
        [
            (3, "INVALID_REQUEST"),
            (5, "INVALID_REQUEST"),
            (6, "INVALID_REQUEST"),
            (8, "PAYLOAD_TOO_LARGE"),
            (11, "INVALID_REQUEST")
        ]
    );
    let detail = rejected_lines[2]["detail"].as_str().unwrap();
    assert!(
        detail.contains("/items/0/quantity") && detail.contains("/colour"),
        "{detail}"
    );
    // No stock is reserved before the orders are approved.
    let orders = system.list_orders().await;
    assert!(orders.iter().all(|order| order["status"] == "pending"));
    assert_eq!(orders[0]["items"][0]["warehouse"], Value::Null);
    let product = system.get("/v1/products/A").await.expect(200);
    assert!(
        product["stock"]
            .as_array()
            .unwrap()
            .iter()
            .all(|stock_level| stock_level["reserved"] == 0)
    );

    // A later line for a known external id changes nothing.
    let repeated_lines = [line("x-1", 5), line("x-2", 1), line("x-3", 1)];
    let report = system.import(&repeated_lines, None).await.expect(200);
    assert_eq!(count_outcomes(&report), (0, 3, 0));

    // After approval, two orders get stock and one does not.
    let approval_report = system
        .post("/v1/orders/approve", json!({"all": true}))
        .await
        .expect(200);
    assert_eq!(approval_report["approved"], 3);
    system.wait_until_idle().await;
    assert_eq!(
        system.orders_by_status().await,
        [("processing".to_owned(), 2), ("cancelled".to_owned(), 1)].into()
    );
    for order in system.list_orders().await {
        match order["status"].as_str().unwrap() {
            "cancelled" => assert_eq!(order["cancel_reason"], "out_of_stock"),
            _ => assert!(
                order["items"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .all(|line| line["warehouse"].is_string())
            ),
        }
    }
    system.assert_verified();
}

#[tokio::test]
async fn import_requires_an_operator_and_ndjson() {
    let mut system = System::start_with(&[(
        "API_KEYS",
        "operator=key-of-operator;storefront@eu=key-of-eu",
    )])
    .await;
    let line_json = json!({"external_id": "x-1"});
    system.api_key = Some("key-of-eu".to_owned());
    system
        .import(std::slice::from_ref(&line_json), None)
        .await
        .expect_problem(403, "FORBIDDEN");
    system.api_key = Some("key-of-operator".to_owned());
    system
        .post("/v1/orders/import", line_json)
        .await
        .expect_problem(415, "INVALID_REQUEST");
    let empty_report = system.import(&[], None).await.expect(200);
    assert_eq!(count_outcomes(&empty_report), (0, 0, 0));
}

#[tokio::test]
async fn import_survives_worker_death_and_is_idempotent() {
    const LINE_COUNT: u64 = 3_000;
    let mut system = System::start_with(&[("ORDER_APPROVAL", "manual")]).await;
    system
        .create_product_with_stock("A", &[("main", 1_000_000)])
        .await;
    let customer_id = system.create_customer().await;
    // The lines have no external id: only the idempotency key identifies them.
    let line_text =
        json!({"customer_id": customer_id, "items": [{"sku": "A", "quantity": 1}]}).to_string();
    let text = vec![line_text; usize::try_from(LINE_COUNT).unwrap()].join("\n");
    let mut worker = system.take_worker();
    let (report, replacement_worker) =
        tokio::join!(system.import_text(text.clone(), Some("import-1")), async {
            // The worker is killed in the middle of the import.
            crate::harness::wait_until("the first imported orders", async || {
                let page = system.get("/v1/orders?limit=1").await;
                page.status == 200 && !page.body["data"].as_array().unwrap().is_empty()
            })
            .await;
            worker.kill();
            system.spawn_replacement_worker()
        });
    system.worker = replacement_worker;
    let report = report.expect(200);
    // Parts that were repeated are reported as by their first attempt.
    assert_eq!(count_outcomes(&report), (LINE_COUNT, 0, 0), "{report}");
    let repeated_report = system
        .import_text(text.clone(), Some("import-1"))
        .await
        .expect(200);
    assert_eq!(count_outcomes(&repeated_report), (0, LINE_COUNT, 0));
    assert_eq!(system.list_orders().await.len() as u64, LINE_COUNT);
    let other_key_report = system.import_text(text, Some("import-2")).await.expect(200);
    assert_eq!(count_outcomes(&other_key_report), (LINE_COUNT, 0, 0));
    system.assert_verified();
}

/// An import over AMQP that is identified only by its correlation id.
#[tokio::test]
async fn redelivered_import_without_a_message_id_creates_no_order_twice() {
    let mut system = System::start_with(&[("ORDER_APPROVAL", "manual")]).await;
    system
        .create_product_with_stock("A", &[("main", 100)])
        .await;
    let customer_id = system.create_customer().await;
    // All earlier requests are acknowledged, so the first reply is that to the import.
    system.worker.terminate();
    system.set_variable("CRASH_AT", Some("after_reply:1"));
    system.launch_worker();
    let (url, import_customer_id) = (system.broker.url(), customer_id.clone());
    let client_run = tokio::task::spawn_blocking(move || {
        run_script("foreign.py", &["imports", &url, &import_customer_id])
    });
    wait_until(
        "the worker to crash before it acknowledges the import",
        async || system.worker_crash_count() == 1,
    )
    .await;
    system.set_variable("CRASH_AT", None);
    system.restart_worker().await;
    let script_output = client_run.await.unwrap();
    assert!(script_output.contains("imported"), "{script_output}");
    assert_eq!(system.list_orders().await.len(), 6);
    system.assert_verified();
}

/// The worker dies after the commit of an import and before its reply, so that the gateway repeats the part.
#[tokio::test]
async fn part_repeated_by_the_gateway_is_reported_as_by_its_first_attempt() {
    let mut system = System::start_with(&[("ORDER_APPROVAL", "manual")]).await;
    system
        .create_product_with_stock("A", &[("main", 100)])
        .await;
    let customer_id = system.create_customer().await;
    // The client's key is claimed with a commit of its own. A line that was imported before remains a duplicate.
    let known_line = json!({"customer_id": customer_id, "items": [{"sku": "A", "quantity": 1}], "external_id": "known"});
    system
        .import(std::slice::from_ref(&known_line), Some("keyed"))
        .await
        .expect(200);
    let mut expected_orders = 1;
    for (idempotency_key, commit_count) in [(None, 1), (Some("keyed"), 2)] {
        let line = |line_name: &str| {
            let external_id =
                (line_name == "b").then(|| format!("{line_name}-{idempotency_key:?}"));
            json!({"customer_id": customer_id, "items": [{"sku": "A", "quantity": 1}],
                   "metadata": {"key": idempotency_key, "line": line_name}, "external_id": external_id})
        };
        let lines = [
            line("a"),
            known_line.clone(),
            line("b"),
            line("a"),
            json!({}),
        ];
        system.worker.terminate();
        system.set_variable("CRASH_AT", Some(&format!("after_commit:{commit_count}")));
        system.launch_worker();
        let crash_count_before = system.worker_crash_count();
        let mut worker = system.take_worker();
        system.set_variable("CRASH_AT", None);
        let (report, replacement_worker) =
            tokio::join!(system.import(&lines, idempotency_key), async {
                wait_until("the worker to crash", async || worker.has_ended()).await;
                assert_eq!(system.worker_crash_count(), crash_count_before + 1);
                system.spawn_replacement_worker()
            });
        system.worker = replacement_worker;
        let report = report.expect(200);
        assert_eq!(
            count_outcomes(&report),
            (3, 1, 1),
            "{idempotency_key:?} {report}"
        );
        expected_orders += 3;
        assert_eq!(system.list_orders().await.len(), expected_orders);
    }
    system.assert_verified();
}

/// Imports over AMQP whose message ids and idempotency keys are repeated.
#[tokio::test]
async fn repeated_import_message_has_the_first_report() {
    let system = System::start_with(&[("ORDER_APPROVAL", "manual")]).await;
    system
        .create_product_with_stock("A", &[("main", 100)])
        .await;
    let (url, customer) = (system.broker.url(), system.create_customer().await);
    let client_run = tokio::task::spawn_blocking(move || {
        run_script("foreign.py", &["import_messages", &url, &customer])
    });
    let script_output = client_run.await.unwrap();
    assert!(script_output.contains("imported"), "{script_output}");
    assert_eq!(system.list_orders().await.len(), 14);
    system.assert_verified();
}

#[tokio::test]
async fn import_with_a_key_identifies_lines_by_content() {
    let system = System::start_with(&[("ORDER_APPROVAL", "manual")]).await;
    system
        .create_product_with_stock("A", &[("main", 100)])
        .await;
    let customer_id = system.create_customer().await;
    let line = |name: &str| json!({"customer_id": customer_id, "items": [{"sku": "A", "quantity": 1}], "metadata": {"line": name}});
    let order_without_items = json!({"customer_id": customer_id, "items": []});
    let idempotency_key = Some("import-1");
    let import = async |lines: &[Value]| {
        count_outcomes(&system.import(lines, idempotency_key).await.expect(200))
    };
    // Two identical lines are two orders.
    assert_eq!(
        import(&[line("a"), order_without_items, line("a"), line("b")]).await,
        (3, 0, 1)
    );
    // The lines are corrected, reordered, and one is added.
    let corrected_lines = [line("c"), line("b"), line("a"), line("d"), line("a")];
    assert_eq!(import(&corrected_lines).await, (2, 3, 0));
    assert_eq!(import(&corrected_lines).await, (0, 5, 0));
    // Other lines with the same key, and a third copy of a line.
    let other_lines = [line("e"), line("f"), line("a"), line("a"), line("a")];
    assert_eq!(import(&other_lines).await, (3, 2, 0));
    // Lines are compared by content, not by spelling.
    let text = line("e").to_string().replace(':', " : ");
    let report = system.import_text(text, idempotency_key).await.expect(200);
    assert_eq!(count_outcomes(&report), (0, 1, 0));
    let mut orders: Vec<_> = system.list_orders().await;
    orders.sort_by_key(|order| order["metadata"]["line"].to_string());
    let line_names: Vec<_> = orders
        .iter()
        .map(|order| order["metadata"]["line"].as_str().unwrap())
        .collect();
    assert_eq!(line_names, ["a", "a", "a", "b", "c", "d", "e", "f"]);
    system.assert_verified();
}

#[tokio::test]
async fn import_begun_by_an_earlier_version_is_recognized() {
    let Some(previous_worker) = previous_worker() else {
        return;
    };
    let folder = TestFolder::new();
    let store = Store::new(&folder);
    let mut system = System::start_with_store(folder, store, &previous_worker).await;
    system
        .create_product_with_stock("A", &[("main", 100)])
        .await;
    let customer_id = system.create_customer().await;
    let line = |quantity: u32| order_body(&customer_id, "A", quantity);
    let idempotency_key = Some("import-1");
    let report_reply = system
        .import(&[line(1), line(2), line(3)], idempotency_key)
        .await;
    assert_eq!(count_outcomes(&report_reply.expect(200)), (3, 0, 0));
    system.wait_until_idle().await;
    system.worker.kill();
    system.set_worker(WORKER);
    system.restart_worker().await;
    // The second line is changed.
    let report_reply = system
        .import(&[line(1), line(4), line(3)], idempotency_key)
        .await;
    assert_eq!(count_outcomes(&report_reply.expect(200)), (1, 2, 0));
    system.wait_until_idle().await;
    system.assert_verified();
}

#[tokio::test]
async fn overlong_lines_are_rejected_with_their_line_numbers() {
    const LINE_LIMIT: usize = 1024 * 1024;
    let system = System::start_with(&[("ORDER_APPROVAL", "manual")]).await;
    system
        .create_product_with_stock("A", &[("main", 100)])
        .await;
    let customer_id = system.create_customer().await;
    let valid_order_text = order_body(&customer_id, "A", 1).to_string();
    let long_line = |bytes: usize| {
        let empty_external_id = json!({"external_id": ""}).to_string();
        json!({"external_id": "x".repeat(bytes - empty_external_id.len())}).to_string()
    };
    // Numbers that become longer when they are serialized.
    let line_of_numbers = format!(
        "{{\"metadata\": [{}1]}}",
        "1e15,".repeat(LINE_LIMIT / 5 - 10)
    );
    let lines = [
        valid_order_text.clone(),
        long_line(LINE_LIMIT),
        valid_order_text.clone(),
        long_line(LINE_LIMIT - 1),
        long_line(LINE_LIMIT - 60),
        long_line(LINE_LIMIT / 2),
        line_of_numbers,
        long_line(LINE_LIMIT / 2 - 1),
        "{\"a\": }".to_owned(),
        valid_order_text.clone(),
        long_line(LINE_LIMIT + 1),
        valid_order_text,
    ];
    let report = system.import_text(lines.join("\n"), None).await.expect(200);
    assert_eq!(count_outcomes(&report), (4, 0, 8), "{report}");
    let rejected_lines = report["rejected"].as_array().unwrap();
    let rejected_line_numbers: Vec<_> = rejected_lines
        .iter()
        .map(|rejected_line| rejected_line["line"].as_u64().unwrap())
        .collect();
    assert_eq!(rejected_line_numbers, [2, 4, 5, 6, 7, 8, 9, 11]);
    let detail = rejected_lines[6]["detail"].as_str().unwrap();
    assert!(
        detail.contains("at column 7") && !detail.contains("line 1"),
        "{detail}"
    );
    system.assert_verified();
}
