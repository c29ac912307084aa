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
async fn read_all_pages(
    system: &System,
    list_path: &str,
    cursor_parameter: &str,
) -> (Vec<Value>, usize) {
    let (mut found_entries, mut page_count, mut page_path) = (Vec::new(), 0, list_path.to_owned());
    loop {
        let mut page = system.get(&page_path).await.expect(200);
        assert!(
            page.to_string().len() < MAX_PAGE_BYTES,
            "a page of {list_path}"
        );
        page_count += 1;
        let Value::Array(page_entries) = page["data"].take() else {
            panic!("a page of {list_path}")
        };
        found_entries.extend(page_entries);
        let Some(next_cursor) = page["next_cursor"].as_str() else {
            return (found_entries, page_count);
        };
        page_path = format!("{list_path}&{cursor_parameter}={next_cursor}");
    }
}

#[tokio::test]
async fn large_results_are_split_into_several_messages() {
    let system = System::start().await;
    let product_name = "\u{1f4e6}".repeat(200);
    let create_products = (0..LINES_PER_ORDER).map(async |line_number| {
        let sku = format!("S{line_number}");
        let product = json!({"sku": sku, "name": product_name, "price": 1, "currency": "EUR"});
        system.post("/v1/products", product).await.expect(201);
        let stock_path = format!("/v1/products/{sku}/stock/main");
        let stock_body = json!({"on_hand": ORDER_COUNT});
        system.put(&stock_path, stock_body).await.expect(200);
    });
    let create_requests = stream::iter(create_products).buffer_unordered(50);
    create_requests.collect::<()>().await;
    let customer_id = system.create_customer().await;
    let items: Vec<_> = (0..LINES_PER_ORDER)
        .map(|line_number| json!({"sku": format!("S{line_number}"), "quantity": 1}))
        .collect();
    let order = json!({"customer_id": customer_id, "items": items});
    let create_orders = (0..ORDER_COUNT).map(async |_| {
        let order = system.post("/v1/orders", order.clone()).await.expect(201);
        order["id"].as_str().unwrap().to_owned()
    });
    let created_orders = stream::iter(create_orders).buffer_unordered(4);
    let mut created_ids: Vec<String> = created_orders.collect().await;
    created_ids.sort();

    let is_over = AtomicBool::new(false);
    let read_customer = async {
        while !is_over.load(Ordering::Relaxed) {
            let customer_path = format!("/v1/customers/{customer_id}");
            system.get(&customer_path).await.expect(200);
        }
    };
    let read_everything = async {
        let texts_of = |entries: &[Value], field_name: &str| {
            let field_values = entries
                .iter()
                .map(|entry| entry[field_name].as_str().unwrap());
            field_values.map(str::to_owned).collect::<Vec<_>>()
        };
        let (listed_orders, page_count) =
            read_all_pages(&system, "/v1/orders?limit=200", "cursor").await;
        let mut listed_ids = texts_of(&listed_orders, "id");
        assert!(page_count > 8, "{page_count} pages");
        listed_ids.sort();
        assert_eq!(listed_ids, created_ids);

        let list_path = "/v1/events?limit=200&type=order.created";
        let (events, page_count) = read_all_pages(&system, list_path, "after").await;
        let mut subjects = texts_of(&events, "subject");
        assert!(page_count > 8, "{page_count} pages");
        subjects.sort();
        assert_eq!(subjects, created_ids);

        let line_counts = join_all(created_ids.iter().map(async |id| {
            let order = system.get(&format!("/v1/orders/{id}")).await.expect(200);
            order["items"].as_array().unwrap().len()
        }));
        assert_eq!(line_counts.await, [LINES_PER_ORDER; ORDER_COUNT]);

        let history_path = format!("/v1/orders/{}/history?limit=200", created_ids[0]);
        let (history, _) = read_all_pages(&system, &history_path, "cursor").await;
        assert_eq!(history[0]["type"], "order.created");
        is_over.store(true, Ordering::Relaxed);
    };
    tokio::join!(read_customer, read_everything);

    // Cancelled concurrently, the orders exceed the limit of a batch.
    let cancel_orders = created_ids.iter().map(async |id| {
        let cancel_path = format!("/v1/orders/{id}/cancel");
        let cancelled_order = system.post(&cancel_path, json!({})).await.expect(200);
        assert_eq!(cancelled_order["status"], "cancelled");
    });
    join_all(cancel_orders).await;
    system.wait_until_idle().await;
    let units_on_hand = i64::try_from(ORDER_COUNT).unwrap();
    assert_eq!(system.stock_level("S0").await, (units_on_hand, 0));
}
