//! Large orders: pages are limited in bytes as well as rows, since the broker closes the channel of a message
//! that is too large.

use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::{StreamExt, future::join_all, stream};
use serde_json::{Value, json};

use crate::harness::System;

const LINES_PER_ORDER: usize = 500;
/// Half a megabyte each: more than 16 MiB in total.
const ORDER_COUNT: usize = 40;
/// A page is closed after a megabyte, and has at least one order.
const MAX_PAGE_BYTES: usize = 2 * 1024 * 1024;

/// Reads a list page by page, and returns its entries and the number of pages.
async fn read_all_pages(system: &System, list_path: &str, cursor: &str) -> (Vec<Value>, usize) {
    let (mut found_entries, mut pages, mut path) = (Vec::new(), 0, list_path.to_owned());
    loop {
        let mut page = system.get(&path).await.expect(200);
        assert!(
            page.to_string().len() < MAX_PAGE_BYTES,
            "a page of {list_path}"
        );
        pages += 1;
        let Value::Array(data) = page["data"].take() else {
            panic!("a page of {list_path}")
        };
        found_entries.extend(data);
        let Some(next_cursor) = page["next_cursor"].as_str() else {
            return (found_entries, pages);
        };
        path = format!("{list_path}&{cursor}={next_cursor}");
    }
}

#[tokio::test]
async fn large_results_are_split_into_several_messages() {
    let system = System::start().await;
    let name = "\u{1f4e6}".repeat(200);
    let create_products = (0..LINES_PER_ORDER).map(async |line_number| {
        let sku = format!("S{line_number}");
        let product = json!({"sku": sku, "name": name, "price": 1, "currency": "EUR"});
        system.post("/v1/products", product).await.expect(201);
        let stock_path = format!("/v1/products/{sku}/stock/main");
        let stock_body = json!({"on_hand": ORDER_COUNT});
        system.put(&stock_path, stock_body).await.expect(200);
    });
    let create_requests = stream::iter(create_products).buffer_unordered(50);
    create_requests.collect::<()>().await;
    let customer_id = system.create_customer().await;
    let items: Vec<_> = (0..LINES_PER_ORDER)
        .map(|line| json!({"sku": format!("S{line}"), "quantity": 1}))
        .collect();
    let order = json!({"customer_id": customer_id, "items": items});
    let create_orders = (0..ORDER_COUNT).map(async |_| {
        let order = system.post("/v1/orders", order.clone()).await.expect(201);
        order["id"].as_str().unwrap().to_owned()
    });
    let ordering = stream::iter(create_orders).buffer_unordered(4);
    let mut created_ids: Vec<String> = ordering.collect().await;
    created_ids.sort();

    let is_over = AtomicBool::new(false);
    let read_small_order = async {
        while !is_over.load(Ordering::Relaxed) {
            let customer_path = format!("/v1/customers/{customer_id}");
            system.get(&customer_path).await.expect(200);
        }
    };
    let read_everything = async {
        let sorted_ids = |found_rows: &[Value], name: &str| {
            let ids = found_rows.iter().map(|entry| entry[name].as_str().unwrap());
            ids.map(str::to_owned).collect::<Vec<_>>()
        };
        let (listed_orders, pages) =
            read_all_pages(&system, "/v1/orders?limit=200", "cursor").await;
        let mut listed_ids = sorted_ids(&listed_orders, "id");
        assert!(pages > 8, "{pages} pages");
        listed_ids.sort();
        assert_eq!(listed_ids, created_ids);

        let list_path = "/v1/events?limit=200&type=order.created";
        let (events, pages) = read_all_pages(&system, list_path, "after").await;
        let mut subjects = sorted_ids(&events, "subject");
        assert!(pages > 8, "{pages} pages");
        subjects.sort();
        assert_eq!(subjects, created_ids);

        let orders_by_id = join_all(created_ids.iter().map(async |id| {
            let order = system.get(&format!("/v1/orders/{id}")).await.expect(200);
            order["items"].as_array().unwrap().len()
        }));
        assert_eq!(orders_by_id.await, [LINES_PER_ORDER; ORDER_COUNT]);

        let history_path = format!("/v1/orders/{}/history?limit=200", created_ids[0]);
        let (history, _) = read_all_pages(&system, &history_path, "cursor").await;
        assert_eq!(history[0]["type"], "order.created");
        is_over.store(true, Ordering::Relaxed);
    };
    tokio::join!(read_small_order, read_everything);

    // Cancelled concurrently, the orders exceed the limit of a batch.
    let cancel_orders = created_ids.iter().map(async |id| {
        let cancel_path = format!("/v1/orders/{id}/cancel");
        let cancelled_order = system.post(&cancel_path, json!({})).await.expect(200);
        assert_eq!(cancelled_order["status"], "cancelled");
    });
    join_all(cancel_orders).await;
    system.wait_until_idle().await;
    let stock = i64::try_from(ORDER_COUNT).unwrap();
    assert_eq!(system.stock_level("S0").await, (stock, 0));
}
