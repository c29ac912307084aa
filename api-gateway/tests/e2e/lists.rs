//! Lists: filters, cursors and empty lists.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::harness::{System, Tables, order_body, order_body_with_method};

fn ids_of_page(page: &Value) -> Vec<String> {
    page["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|order| order["id"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn orders_are_listed_newest_first_in_pages() {
    let system = System::start().await;
    let empty_list = system.get("/v1/orders").await.expect(200);
    assert_eq!(empty_list, json!({"data": [], "next_cursor": null}));

    system
        .create_product_with_stock("A", &[("main", 100)])
        .await;
    let customer_id = system.create_customer().await;
    let mut created_ids = Vec::new();
    for _ in 0..7 {
        let order = system
            .post("/v1/orders", order_body(&customer_id, "A", 1))
            .await
            .expect(201);
        created_ids.push(order["id"].as_str().unwrap().to_owned());
    }
    created_ids.reverse();
    let (mut listed_ids, mut path, mut page_count) =
        (Vec::new(), "/v1/orders?limit=3".to_owned(), 0);
    loop {
        let page = system.get(&path).await.expect(200);
        listed_ids.extend(ids_of_page(&page));
        page_count += 1;
        let Some(cursor) = page["next_cursor"].as_str() else {
            break;
        };
        path = format!("/v1/orders?limit=3&cursor={cursor}");
    }
    assert_eq!((listed_ids, page_count), (created_ids, 3));
    for invalid_query in [
        "limit=0",
        "limit=201",
        "limit=x",
        "cursor=nonsense",
        "status=lost",
        "unknown=1",
        "customer_id=1",
        "created_after=yesterday",
    ] {
        system
            .get(&format!("/v1/orders?{invalid_query}"))
            .await
            .expect_problem(422, "INVALID_REQUEST");
    }
}

#[tokio::test]
async fn orders_can_be_filtered() {
    let system = System::start().await;
    system
        .create_product_with_stock("A", &[("main", 100)])
        .await;
    system
        .create_product_with_stock("B", &[("main", 100)])
        .await;
    let (ada_id, bob_id) = (
        system.create_customer().await,
        system.create_customer().await,
    );
    let declined_order = system
        .post(
            "/v1/orders",
            order_body_with_method(&ada_id, "A", 1, "pm_declined"),
        )
        .await
        .expect(201);
    let plain_order = system
        .post("/v1/orders", order_body(&bob_id, "A", 1))
        .await
        .expect(201);
    let both_items = json!([{"sku": "A", "quantity": 1}, {"sku": "B", "quantity": 1}]);
    let mixed_order = system
        .post(
            "/v1/orders",
            json!({"customer_id": bob_id, "items": both_items}),
        )
        .await
        .expect(201);
    system.wait_until_idle().await;
    let [declined_id, plain_id, mixed_id] = [declined_order, plain_order, mixed_order]
        .map(|order| order["id"].as_str().unwrap().to_owned());

    let list_ids = async |query: &str| {
        ids_of_page(&system.get(&format!("/v1/orders?{query}")).await.expect(200))
    };
    assert_eq!(list_ids("status=cancelled").await, [declined_id.as_str()]);
    assert_eq!(
        list_ids("status=processing").await,
        [mixed_id.as_str(), &plain_id]
    );
    assert_eq!(
        list_ids(&format!("customer_id={bob_id}")).await,
        [mixed_id.as_str(), &plain_id]
    );
    assert_eq!(
        list_ids(&format!("customer_id={bob_id}&sku=B")).await,
        [mixed_id.as_str()]
    );
    assert_eq!(list_ids("sku=B").await, [mixed_id.as_str()]);
    assert_eq!(list_ids("sku=A&limit=1").await, [mixed_id.as_str()]);
    assert_eq!(list_ids("storefront=default").await.len(), 3);
    assert_eq!(list_ids("storefront=other").await, Vec::<String>::new());
    assert_eq!(
        list_ids("created_after=2020-01-01T00:00:00Z").await.len(),
        3
    );
    assert_eq!(
        list_ids("created_before=2020-01-01T00:00:00Z").await,
        Vec::<String>::new()
    );
    let read_order = system
        .get(&format!("/v1/orders/{plain_id}"))
        .await
        .expect(200);
    let created_at = read_order["created_at"].as_str().unwrap();
    assert!(
        list_ids(&format!("created_after={created_at}"))
            .await
            .contains(&plain_id)
    );
    assert!(
        !list_ids(&format!("created_before={created_at}"))
            .await
            .contains(&plain_id)
    );
}

#[tokio::test]
async fn history_is_listed_oldest_first_in_pages() {
    let system = System::start().await;
    system.create_product_with_stock("A", &[("main", 1)]).await;
    let created_order = system
        .post(
            "/v1/orders",
            order_body(&system.create_customer().await, "A", 1),
        )
        .await
        .expect(201);
    let id = created_order["id"].as_str().unwrap();
    system.wait_until_idle().await;
    let first_page = system
        .get(&format!("/v1/orders/{id}/history?limit=2"))
        .await
        .expect(200);
    assert_eq!(first_page["data"][0]["type"], "order.created");
    assert_eq!(first_page["data"][0]["intent"], "order.create");
    let cursor = first_page["next_cursor"].as_str().unwrap();
    let next_page = system
        .get(&format!("/v1/orders/{id}/history?limit=2&cursor={cursor}"))
        .await
        .expect(200);
    assert_eq!(next_page["data"][0]["sequence"], 3);
    assert_eq!(
        (
            &next_page["data"][0]["actor"],
            &next_page["data"][0]["attempt"]
        ),
        (&json!("worker"), &json!(1))
    );
    assert_eq!(
        next_page["data"][0]["request_id"], first_page["data"][0]["request_id"],
        "the events of the worker have the request id of the client's request"
    );
    system
        .get(&format!("/v1/orders/{id}/history?cursor=x"))
        .await
        .expect_problem(422, "INVALID_REQUEST");
}

#[tokio::test]
async fn reads_do_not_wait_for_writes() {
    let system = System::start_with(&[("REQUEST_TIMEOUT_MS", "2000")]).await;
    system.create_product_with_stock("A", &[("main", 5)]).await;
    let customer_id = system.create_customer().await;
    let order_reply = system
        .post("/v1/orders", order_body(&customer_id, "A", 1))
        .await;
    let id = order_reply.expect(201)["id"].as_str().unwrap().to_owned();
    system
        .wait_for_order(&id, "announced", crate::harness::has_shipping_label)
        .await;
    system.wait_until_idle().await;
    let write_lock = system.store.lock_writes();
    // The result of the write is unknown or refused, but all reads succeed.
    let refused_reply = system
        .post("/v1/orders", order_body(&customer_id, "A", 1))
        .await;
    assert!(
        matches!(refused_reply.status, 503 | 504),
        "{}",
        refused_reply.body
    );
    for path in [
        &format!("/v1/orders/{id}"),
        &format!("/v1/orders/{id}/history"),
        "/v1/orders?status=processing",
        "/v1/products/A",
        "/v1/products",
        &format!("/v1/customers/{customer_id}"),
        "/v1/customers",
        "/v1/events",
        "/v1/stats",
        "/v1/dead-letters",
    ] {
        system.get(path).await.expect(200);
    }
    drop(write_lock);
    crate::harness::wait_until("orders to be accepted again", async || {
        system
            .post("/v1/orders", order_body(&customer_id, "A", 1))
            .await
            .status
            == 201
    })
    .await;
    system.wait_until_idle().await;
    system.assert_verified();
}

/// Number of orders of another storefront, all with the product `A`.
const OTHER_ORDERS: usize = 200_000;

fn insert_orders_sql(is_sqlite: bool) -> String {
    let (number_series_sql, false_sql) = if is_sqlite {
        let series_sql = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i <";
        (format!("{series_sql} {OTHER_ORDERS}) SELECT i FROM n"), "0")
    } else {
        (
            format!("SELECT i FROM generate_series(1, {OTHER_ORDERS}) AS i"),
            "false",
        )
    };
    format!(
        "INSERT INTO order_items (sku, created_at, number)
         SELECT 'A', 2000000000000 + i, 1000 + i FROM ({number_series_sql}) AS numbers;
         INSERT INTO orders (number, id, storefront, customer_id, status, is_deleted, created_at, state)
         SELECT 1000 + i, 'order-' || i, 'others', 'customer', 'delivered', {false_sql}, 2000000000000 + i, '{{}}'
         FROM ({number_series_sql}) AS numbers;"
    )
}

#[tokio::test]
async fn selective_list_queries_do_not_block_reads() {
    let system = System::start().await;
    system
        .create_product_with_stock("A", &[("main", 100)])
        .await;
    let customer_id = system.create_customer().await;
    let order_reply = system
        .post("/v1/orders", order_body(&customer_id, "A", 1))
        .await;
    let id = order_reply.expect(201)["id"].as_str().unwrap().to_owned();
    let insert_sql = insert_orders_sql(system.store.is_sqlite());
    system.store.run(Tables::Worker, &insert_sql);

    let path = format!("/v1/orders/{id}");
    let (is_reading, list_count) = (AtomicBool::new(true), AtomicUsize::new(0));
    let list_repeatedly = (0..12).map(|_| async {
        while is_reading.load(Ordering::Relaxed) {
            // Slow lists that find no free place in time are refused (503), or end at their time limit (504).
            let list_reply = system.get("/v1/orders?sku=A&status=shipped").await;
            assert!(
                matches!(list_reply.status, 200 | 503 | 504),
                "{list_reply:?}"
            );
            list_count.fetch_add(1, Ordering::Relaxed);
        }
    });
    let read_orders = async {
        for _ in 0..50 {
            system.get(&path).await.expect(200);
        }
        is_reading.store(false, Ordering::Relaxed);
        // Reads of single orders do not wait for these queries.
        let completed_list_count = list_count.load(Ordering::Relaxed);
        assert!(
            completed_list_count < 50,
            "reads while the queries ran: {completed_list_count}"
        );
    };
    tokio::join!(join_all(list_repeatedly), read_orders);
    // A filter by storefront and status does not scan the other storefront's orders.
    let list_path = "/v1/orders?storefront=default&status=delivered";
    let delivered_list = system.get(list_path).await.expect(200);
    assert_eq!(delivered_list["data"], json!([]));
}
