//! Large orders: pages are limited in bytes as well as rows, since the broker closes the channel of a message
//! that is too large.

use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::{StreamExt, future::join_all, stream};
use serde_json::{Value, json};

use crate::harness::System;

const LINES: usize = 500;
/// Half a megabyte each: more than 16 MiB in total.
const ORDERS: usize = 40;
/// A page is closed after a megabyte, and has at least one order.
const LARGEST_PAGE: usize = 2 * 1024 * 1024;

/// Reads a list page by page, and returns its entries and the number of pages.
async fn read_all_pages(system: &System, list: &str, cursor: &str) -> (Vec<Value>, usize) {
    let (mut found, mut pages, mut path) = (Vec::new(), 0, list.to_owned());
    loop {
        let mut page = system.get(&path).await.expect(200);
        assert!(page.to_string().len() < LARGEST_PAGE, "a page of {list}");
        pages += 1;
        let Value::Array(data) = page["data"].take() else {
            panic!("a page of {list}")
        };
        found.extend(data);
        let Some(next) = page["next_cursor"].as_str() else {
            return (found, pages);
        };
        path = format!("{list}&{cursor}={next}");
    }
}

#[tokio::test]
async fn large_results_are_split_into_several_messages() {
    let system = System::start().await;
    let name = "\u{1f4e6}".repeat(200);
    let setting_up = (0..LINES).map(async |line| {
        let sku = format!("S{line}");
        let product = json!({"sku": sku, "name": name, "price": 1, "currency": "EUR"});
        system.post("/v1/products", product).await.expect(201);
        let stock_level = format!("/v1/products/{sku}/stock/main");
        let stock = json!({"on_hand": ORDERS});
        system.put(&stock_level, stock).await.expect(200);
    });
    let setting_up = stream::iter(setting_up).buffer_unordered(50);
    setting_up.collect::<()>().await;
    let customer = system.customer().await;
    let items: Vec<_> = (0..LINES)
        .map(|line| json!({"sku": format!("S{line}"), "quantity": 1}))
        .collect();
    let order = json!({"customer_id": customer, "items": items});
    let ordering = (0..ORDERS).map(async |_| {
        let order = system.post("/v1/orders", order.clone()).await.expect(201);
        order["id"].as_str().unwrap().to_owned()
    });
    let ordering = stream::iter(ordering).buffer_unordered(4);
    let mut created: Vec<String> = ordering.collect().await;
    created.sort();

    let is_over = AtomicBool::new(false);
    let neighbour = async {
        while !is_over.load(Ordering::Relaxed) {
            let customer = format!("/v1/customers/{customer}");
            system.get(&customer).await.expect(200);
        }
    };
    let reader = async {
        let ids = |found: &[Value], name: &str| {
            let ids = found.iter().map(|entry| entry[name].as_str().unwrap());
            ids.map(str::to_owned).collect::<Vec<_>>()
        };
        let (listed, pages) = read_all_pages(&system, "/v1/orders?limit=200", "cursor").await;
        let mut listed = ids(&listed, "id");
        assert!(pages > 8, "{pages} pages");
        listed.sort();
        assert_eq!(listed, created);

        let list = "/v1/events?limit=200&type=order.created";
        let (events, pages) = read_all_pages(&system, list, "after").await;
        let mut subjects = ids(&events, "subject");
        assert!(pages > 8, "{pages} pages");
        subjects.sort();
        assert_eq!(subjects, created);

        let looked_up = join_all(created.iter().map(async |id| {
            let order = system.get(&format!("/v1/orders/{id}")).await.expect(200);
            order["items"].as_array().unwrap().len()
        }));
        assert_eq!(looked_up.await, [LINES; ORDERS]);

        let history = format!("/v1/orders/{}/history?limit=200", created[0]);
        let (history, _) = read_all_pages(&system, &history, "cursor").await;
        assert_eq!(history[0]["type"], "order.created");
        is_over.store(true, Ordering::Relaxed);
    };
    tokio::join!(neighbour, reader);

    // Cancelled concurrently, the orders exceed the limit of a batch.
    let cancelling = created.iter().map(async |id| {
        let cancel = format!("/v1/orders/{id}/cancel");
        let cancelled = system.post(&cancel, json!({})).await.expect(200);
        assert_eq!(cancelled["status"], "cancelled");
    });
    join_all(cancelling).await;
    system.wait_until_idle().await;
    let stock = i64::try_from(ORDERS).unwrap();
    assert_eq!(system.stock_level("S0").await, (stock, 0));
}
