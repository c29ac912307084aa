//! Returns: from the request to the receipt, with stock and refunds; races, isolation, lists and erasure.

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{
    Reply, System, Tables, has_shipping_label, order_body, run_script, send, wait_until,
};

const API_KEYS: &str = "storefront@eu=key-of-eu;storefront@us=key-of-us;operator=key-of-operator";

fn act_as(system: &mut System, api_key: &str) {
    system.api_key = Some(api_key.to_owned());
}

fn text_of(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

impl System {
    /// Creates an order of the product A that is shipped and captured; needs an operator's key.
    async fn create_shipped_order(&self, customer_id: &str, quantity: u32) -> String {
        let order_reply = self
            .post("/v1/orders", order_body(customer_id, "A", quantity))
            .await;
        let id = text_of(&order_reply.expect(201)["id"]);
        self.wait_for_order(&id, "announced", has_shipping_label)
            .await;
        self.post(&format!("/v1/orders/{id}/shipments"), json!({}))
            .await
            .expect(201);
        self.wait_for_order(&id, "captured", |order| {
            order["payment"]["status"] == "captured" && order["in_progress"].is_null()
        })
        .await;
        id
    }

    async fn request_return(&self, order_id: &str, quantity: u32) -> Reply {
        let items = json!([{"sku": "A", "quantity": quantity, "reason": "Lovelace: too small"}]);
        let return_body = json!({"items": items, "note": "Lovelace waits"});
        self.post(&format!("/v1/orders/{order_id}/returns"), return_body)
            .await
    }

    async fn change_return(&self, return_id: &str, action: &str, body: Value) -> Reply {
        self.post(&format!("/v1/returns/{return_id}/{action}"), body)
            .await
    }

    async fn receive_return_with_key(&self, return_id: &str, idempotency_key: &str) -> Reply {
        let path = format!("/v1/returns/{return_id}/receive");
        let request = self
            .request(Method::POST, &path)
            .json(&return_receipt_body(1));
        send(request.header("idempotency-key", idempotency_key)).await
    }
}

fn return_receipt_body(quantity: u32) -> Value {
    json!({"items": [{"sku": "A", "quantity": quantity, "restock": true}]})
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "every transition of one return")]
async fn return_is_requested_by_a_storefront_and_received_by_an_operator() {
    let mut system = System::start_with(&[("API_KEYS", API_KEYS)]).await;
    act_as(&mut system, "key-of-operator");
    system.create_product_with_stock("A", &[("main", 10)]).await;
    act_as(&mut system, "key-of-eu");
    let customer_id = system.create_customer().await;
    let order_reply = system
        .post("/v1/orders", order_body(&customer_id, "A", 3))
        .await;
    let order_id = text_of(&order_reply.expect(201)["id"]);
    let problem_reply = system.request_return(&order_id, 1).await;
    problem_reply.expect_problem(409, "INVALID_STATE");
    system
        .wait_for_order(&order_id, "announced", has_shipping_label)
        .await;
    act_as(&mut system, "key-of-operator");
    let shipments_path = format!("/v1/orders/{order_id}/shipments");
    system.post(&shipments_path, json!({})).await.expect(201);
    system
        .wait_for_order(&order_id, "captured", |order| {
            order["payment"]["status"] == "captured" && order["in_progress"].is_null()
        })
        .await;

    act_as(&mut system, "key-of-us");
    let foreign_reply = system.request_return(&order_id, 1).await;
    foreign_reply.expect_problem(404, "NOT_FOUND");
    act_as(&mut system, "key-of-eu");
    let problem = system
        .request_return(&order_id, 4)
        .await
        .expect_problem(422, "INVALID_REQUEST");
    assert_eq!(problem["errors"][0]["pointer"], "/items/0/quantity");
    let return_reply = system.request_return(&order_id, 2).await;
    let return_path = return_reply.headers["location"]
        .to_str()
        .unwrap()
        .to_owned();
    assert_eq!(return_reply.headers["etag"], "\"1\"");
    let requested_return = return_reply.expect(201);
    let return_id = text_of(&requested_return["id"]);
    assert_eq!(return_path, format!("/v1/returns/{return_id}"));
    assert_eq!(requested_return["number"], "1-R1");
    assert_eq!(requested_return["status"], "requested");
    assert_eq!(requested_return["refund_amount"], 2000);
    assert_eq!(requested_return["order_id"], json!(order_id));
    for action in ["approve", "reject", "receive"] {
        let body = if action == "receive" {
            return_receipt_body(1)
        } else {
            json!({})
        };
        let reply = system.change_return(&return_id, action, body).await;
        reply.expect_problem(403, "FORBIDDEN");
    }
    act_as(&mut system, "key-of-us");
    system
        .get(&return_path)
        .await
        .expect_problem(404, "NOT_FOUND");
    let foreign_reply = system.change_return(&return_id, "cancel", json!({})).await;
    foreign_reply.expect_problem(404, "NOT_FOUND");
    let list = system.get("/v1/returns?storefront=eu").await.expect(200);
    assert_eq!(list["data"], json!([]));

    act_as(&mut system, "key-of-operator");
    let problem = system
        .change_return(&return_id, "receive", return_receipt_body(2))
        .await
        .expect_problem(409, "INVALID_STATE");
    let detail = problem["detail"].as_str().unwrap();
    assert!(
        detail.contains("is requested") && detail.contains("must be approved"),
        "{detail}"
    );
    let approval_request = system.request(Method::POST, &format!("{return_path}/approve"));
    let stale_approval_reply = send(approval_request.header("if-match", "\"7\"")).await;
    stale_approval_reply.expect_problem(412, "VERSION_MISMATCH");
    let approval_request = system.request(Method::POST, &format!("{return_path}/approve"));
    let approved_return = send(approval_request.header("if-match", "\"1\""))
        .await
        .expect(200);
    assert_eq!(approved_return["status"], "approved");
    let mixed_return_receipt = json!({"items": [
        {"sku": "A", "quantity": 1, "restock": true, "warehouse": "outlet"},
        {"sku": "A", "quantity": 1, "restock": false},
    ], "fee": 300});
    let received_return = system
        .change_return(&return_id, "receive", mixed_return_receipt)
        .await
        .expect(200);
    assert_eq!(received_return["status"], "received");
    assert_eq!(received_return["refund_amount"], 1700);
    assert_eq!(received_return["received"].as_array().unwrap().len(), 2);
    system
        .wait_for_order(&order_id, "refunded", |order| {
            order["payment"]["refunded"] == 1700
        })
        .await;
    let product = system.get("/v1/products/A").await.expect(200);
    let stock: Vec<_> = product["stock"].as_array().unwrap().iter().collect();
    assert_eq!(stock.len(), 2, "{stock:?}");
    assert_eq!(
        (&stock[0]["on_hand"], &stock[1]["on_hand"]),
        (&json!(7), &json!(1))
    );

    // The carrier brings the whole shipment back: one unit is left to be restocked and refunded.
    let webhook_reply = system
        .send_webhook("m-back", "shipment.returned", &order_id)
        .await;
    assert_eq!(webhook_reply.status, 200);
    let order = system
        .wait_for_order(&order_id, "refunded", |order| {
            order["payment"]["refunded"] == 2700
        })
        .await;
    assert_eq!(order["returns"][0]["id"], json!(return_id));
    assert_eq!(system.stock_level("A").await, (8, 0));
    let history = system.list_event_types(&order_id).await;
    for event_type in ["return.requested", "return.approved", "return.received"] {
        assert!(
            history.iter().any(|event| event == event_type),
            "{history:?}"
        );
    }
    let events = system.get("/v1/events?type=return.*").await.expect(200);
    assert_eq!(events["data"].as_array().unwrap().len(), 3);
    system.wait_until_idle().await;
    assert_eq!(system.payment_totals().await.refunded_amount, 2700);
    system.assert_verified();
    // `verify` finds a row that differs from its order, and one without an order.
    let damaging_sql = "UPDATE order_returns SET status = 'approved'";
    system.store.run(Tables::Worker, damaging_sql);
    let (is_consistent, report) = system.verify();
    assert!(
        !is_consistent && report.contains("its returns are"),
        "{report}"
    );
    let damaging_sql = "UPDATE order_returns SET status = 'received', order_id = 'x'";
    system.store.run(Tables::Worker, damaging_sql);
    let (is_consistent, report) = system.verify();
    assert!(
        !is_consistent && report.contains("its order does not exist"),
        "{report}"
    );
}

#[tokio::test]
async fn concurrent_requests_and_receipts_have_one_winner() {
    let mut system = System::start().await;
    let mut second_worker = None;
    if !system.store.is_sqlite() {
        let worker_process = system.start_additional_worker("order-worker");
        wait_until("the second worker to be ready", async || {
            worker_process.find_logged_field("health", 0).is_some()
        })
        .await;
        second_worker = Some(worker_process);
    }
    system.create_product_with_stock("A", &[("main", 10)]).await;
    let customer_id = system.create_customer().await;
    let order_id = system.create_shipped_order(&customer_id, 2).await;
    // Ten customers' clicks for two units: two requests of one unit fit.
    let replies = join_all((0..10).map(|_| system.request_return(&order_id, 1))).await;
    let statuses: Vec<_> = replies.iter().map(|reply| reply.status).collect();
    let count_replies = |status| {
        statuses
            .iter()
            .filter(|reply_status| **reply_status == status)
            .count()
    };
    assert_eq!(
        (count_replies(201), count_replies(422)),
        (2, 8),
        "{statuses:?}"
    );
    let return_ids: Vec<String> = replies
        .iter()
        .filter(|reply| reply.status == 201)
        .map(|reply| text_of(&reply.body["id"]))
        .collect();
    for return_id in &return_ids {
        let approval_reply = system.change_return(return_id, "approve", json!({})).await;
        approval_reply.expect(200);
    }
    // Operators who receive one return at once, and refund by amount meanwhile.
    let receipt_replies = join_all(
        (0..10).map(|_| system.change_return(&return_ids[0], "receive", return_receipt_body(1))),
    );
    let refunds_path = format!("/v1/orders/{order_id}/refunds");
    let refund_reply = system.post(&refunds_path, json!({"amount": 1500}));
    let (receipt_replies, refund_reply) = tokio::join!(receipt_replies, refund_reply);
    let accepted_count = receipt_replies
        .iter()
        .filter(|reply| reply.status == 200)
        .count();
    let refused_count = receipt_replies
        .iter()
        .filter(|reply| reply.status == 409)
        .count();
    assert_eq!((accepted_count, refused_count), (1, 9));
    // A key is used once: the second reply is the first one.
    let (first_receipt, repeated_receipt) = tokio::join!(
        system.receive_return_with_key(&return_ids[1], "receipt-1"),
        system.receive_return_with_key(&return_ids[1], "receipt-1"),
    );
    assert_eq!((first_receipt.status, repeated_receipt.status), (200, 200));
    assert_eq!(first_receipt.body, repeated_receipt.body);
    if let Some(mut second_worker) = second_worker.take() {
        second_worker.kill();
    }
    system.worker.kill();
    system.restart_worker().await;
    let replayed_receipt_reply = system
        .receive_return_with_key(&return_ids[1], "receipt-1")
        .await;
    assert_eq!(replayed_receipt_reply.expect(200), first_receipt.body);
    system.wait_until_idle().await;
    let refunded_amount = system.payment_totals().await.refunded_amount;
    // Whichever was first: the refund leaves 500 for the receipts, or a receipt leaves too little for the refund.
    assert!(
        [202, 422].contains(&refund_reply.status),
        "{}",
        refund_reply.body
    );
    assert_eq!(refunded_amount, 2000);
    assert_eq!(system.stock_level("A").await, (10, 0));
    system.assert_verified();
}

#[tokio::test]
async fn returns_are_listed_page_by_page() {
    let system = System::start().await;
    system
        .create_product_with_stock("A", &[("main", 100)])
        .await;
    let customer_id = system.create_customer().await;
    let first_order_id = system.create_shipped_order(&customer_id, 10).await;
    let second_order_id = system.create_shipped_order(&customer_id, 1).await;
    let mut return_ids = Vec::new();
    for _ in 0..5 {
        let requested_return = system.request_return(&first_order_id, 1).await.expect(201);
        return_ids.insert(0, text_of(&requested_return["id"]));
    }
    let return_id_of_second_order =
        text_of(&system.request_return(&second_order_id, 1).await.expect(201)["id"]);
    let rejection = json!({"reason": "too late"});
    let rejection_reply = system
        .change_return(&return_ids[1], "reject", rejection)
        .await;
    assert_eq!(rejection_reply.expect(200)["reason"], "too late");

    let list_ids = async |query: &str| {
        let mut listed_ids = Vec::new();
        let mut cursor = String::new();
        loop {
            let path = format!("/v1/returns?limit=2&{query}{cursor}");
            let page = system.get(&path).await.expect(200);
            let page_entries = page["data"].as_array().unwrap();
            assert!(page_entries.len() <= 2);
            listed_ids.extend(page_entries.iter().map(|entry| text_of(&entry["id"])));
            match page["next_cursor"].as_str() {
                Some(next_cursor) => cursor = format!("&cursor={next_cursor}"),
                None => return listed_ids,
            }
        }
    };
    assert_eq!(
        list_ids(&format!("order_id={first_order_id}")).await,
        return_ids
    );
    assert_eq!(
        list_ids("").await,
        [vec![return_id_of_second_order.clone()], return_ids.clone()].concat()
    );
    assert_eq!(list_ids("status=rejected").await, [return_ids[1].clone()]);
    assert_eq!(list_ids("storefront=other").await, Vec::<String>::new());
    let query_of_open_returns =
        format!("status=requested&order_id={first_order_id}&storefront=default");
    assert_eq!(list_ids(&query_of_open_returns).await.len(), 4);
    for (query, pointer) in [
        ("status=lost", "/status"),
        ("order_id=1", "/order_id"),
        ("cursor=x", "/cursor"),
        ("limit=0", "/limit"),
    ] {
        let problem_reply = system.get(&format!("/v1/returns?{query}")).await;
        let problem = problem_reply.expect_problem(422, "INVALID_REQUEST");
        assert_eq!(problem["errors"][0]["pointer"], pointer);
    }
    // A deleted order hides its returns.
    let cancellation_reply = system
        .change_return(&return_id_of_second_order, "cancel", json!({}))
        .await;
    cancellation_reply.expect(200);
    let webhook_reply = system
        .send_webhook("m-back", "shipment.returned", &second_order_id)
        .await;
    assert_eq!(webhook_reply.status, 200);
    system.wait_until_idle().await;
    let deletion_reply = system
        .delete(&format!("/v1/orders/{second_order_id}"))
        .await;
    deletion_reply.expect(204);
    assert_eq!(list_ids("").await, return_ids);
    let hidden_return_reply = system
        .get(&format!("/v1/returns/{return_id_of_second_order}"))
        .await;
    hidden_return_reply.expect_problem(404, "NOT_FOUND");
    system.assert_verified();
}

#[tokio::test]
async fn erasure_waits_for_returns_and_removes_their_texts() {
    let system = System::start().await;
    system.create_product_with_stock("A", &[("main", 10)]).await;
    let customer_id = system.create_customer().await;
    let order_id = system.create_shipped_order(&customer_id, 2).await;
    let webhook_reply = system
        .send_webhook("m-delivered", "shipment.delivered", &order_id)
        .await;
    assert_eq!(webhook_reply.status, 200);
    let return_id = text_of(&system.request_return(&order_id, 1).await.expect(201)["id"]);
    let customer_path = format!("/v1/customers/{customer_id}");
    let problem = system
        .delete(&customer_path)
        .await
        .expect_problem(409, "INVALID_STATE");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("1-R1"), "{detail}");
    let cancellation = json!({"reason": "Lovelace keeps it"});
    system
        .change_return(&return_id, "cancel", cancellation)
        .await
        .expect(200);
    system.delete(&customer_path).await.expect(204);
    let return_json = system
        .get(&format!("/v1/returns/{return_id}"))
        .await
        .expect(200);
    assert_eq!(return_json["note"], Value::Null);
    let history = system
        .get(&format!("/v1/orders/{order_id}/history"))
        .await
        .expect(200);
    for shown_text in [return_json.to_string(), history.to_string()] {
        assert!(!shown_text.contains("Lovelace"), "{shown_text}");
    }
    for table in ["orders", "events", "idempotency"] {
        let column = match table {
            "orders" => "state",
            "events" => "data",
            _ => "coalesce(outcome, '')",
        };
        let sql = format!("SELECT count(*) FROM {table} WHERE {column} LIKE '%Lovelace%'");
        assert_eq!(system.store.run(Tables::Worker, &sql), "0", "{table}");
    }
    system.assert_verified();
}

#[tokio::test]
async fn returns_are_handled_over_amqp() {
    let system = System::start().await;
    system.create_product_with_stock("A", &[("main", 10)]).await;
    let customer_id = system.create_customer().await;
    let order_id = system.create_shipped_order(&customer_id, 2).await;
    let script_output = run_script("foreign.py", &["returns", &system.broker.url(), &order_id]);
    assert!(script_output.contains("returned"), "{script_output}");
    system.wait_until_idle().await;
    assert_eq!(system.stock_level("A").await, (10, 0));
    assert_eq!(system.payment_totals().await.refunded_amount, 2000);
    system.assert_verified();
}
