//! Synchronization with an external warehouse and import from an external order system, which may return any
//! response.

use std::sync::{Arc, Mutex};

use axum::{
    Router,
    extract::{Query, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::harness::{System, order_body, wait_until};

/// A paginated list on an HTTP server, with injected faults.
#[derive(Clone)]
struct PagedServer(Arc<ServerState>);

struct ServerState {
    url: String,
    pages: Mutex<Vec<Value>>,
    fault: Mutex<Option<Fault>>,
    /// Method of each request, and whether the response was 304.
    request_log: Mutex<Vec<(String, bool)>>,
}

#[derive(Debug, Clone, Copy)]
enum Fault {
    ErrorStatus(u16),
    InvalidJson,
    /// The second page links to the first.
    CircularPages,
    TruncatedBody,
}

#[derive(serde::Deserialize)]
struct PageQuery {
    page: Option<usize>,
}

impl PagedServer {
    async fn start(pages: Vec<Value>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self(Arc::new(ServerState {
            url: format!("http://{}/list?of=all", listener.local_addr().unwrap()),
            pages: Mutex::new(pages),
            fault: Mutex::default(),
            request_log: Mutex::default(),
        }));
        let router = Router::new()
            .fallback(serve_page)
            .with_state(server.clone());
        tokio::spawn(axum::serve(listener, router).into_future());
        server
    }

    fn set_pages(&self, pages: Vec<Value>) {
        *self.0.pages.lock().unwrap() = pages;
    }

    fn set_fault(&self, fault: Option<Fault>) {
        *self.0.fault.lock().unwrap() = fault;
    }

    fn request_count(&self) -> usize {
        self.0.request_log.lock().unwrap().len()
    }
}

async fn serve_page(
    State(server): State<PagedServer>,
    Query(PageQuery { page }): Query<PageQuery>,
    method: axum::http::Method,
    headers: HeaderMap,
) -> Response {
    let pages = server.0.pages.lock().unwrap().clone();
    let page_number = page.unwrap_or(1);
    let etag = format!(
        "\"{}\"",
        pages.iter().map(Value::to_string).collect::<String>().len()
    );
    let has_current_etag = headers
        .get(header::IF_NONE_MATCH)
        .is_some_and(|if_none_match| if_none_match.as_bytes() == etag.as_bytes());
    let fault = *server.0.fault.lock().unwrap();
    let is_unchanged = has_current_etag && fault.is_none();
    let mut request_log = server.0.request_log.lock().unwrap();
    request_log.push((method.to_string(), is_unchanged));
    match fault {
        Some(Fault::ErrorStatus(status_code)) => {
            return StatusCode::from_u16(status_code).unwrap().into_response();
        }
        Some(Fault::InvalidJson) => return "<html>Monday</html>".into_response(),
        Some(Fault::CircularPages) => {
            return axum::Json(json!({"data": [], "next": "/list?of=all"})).into_response();
        }
        Some(Fault::TruncatedBody) => {
            let body_chunks = futures_util::stream::iter([
                Ok("{\"data\": ["),
                Err(std::io::Error::other("the connection was closed")),
            ]);
            return axum::body::Body::from_stream(body_chunks).into_response();
        }
        None => {}
    }
    if is_unchanged {
        return StatusCode::NOT_MODIFIED.into_response();
    }
    let rows = pages.get(page_number - 1).cloned().unwrap_or(json!([]));
    let mut response = axum::Json(json!({"data": rows})).into_response();
    response
        .headers_mut()
        .insert(header::ETAG, etag.parse().unwrap());
    if page_number < pages.len() {
        let link_header = format!("</list?of=all&page={}>; rel=\"next\"", page_number + 1);
        response
            .headers_mut()
            .insert(header::LINK, link_header.parse().unwrap());
    }
    response
}

impl System {
    async fn source_report(&self, source: &str) -> Value {
        let stats = self.get("/v1/stats").await.expect(200);
        stats["system"][source].clone()
    }

    /// Waits for a run that starts after now, and returns its report.
    async fn next_report(&self, source: &str) -> Value {
        let now = jiff::Timestamp::now().to_string();
        let mut report = Value::Null;
        wait_until("a run to end", async || {
            report = self.source_report(source).await;
            let started_at = report["report"]["started_at"].as_str().unwrap_or_default();
            started_at > now.as_str() && report["report"]["finished_at"].is_string()
        })
        .await;
        report["report"].clone()
    }

    async fn stock_of(&self, sku: &str) -> Vec<(String, i64, i64)> {
        let product = self.get(&format!("/v1/products/{sku}")).await.expect(200);
        let stock_levels = product["stock"].as_array().unwrap().iter();
        stock_levels
            .map(|stock_level| {
                (
                    stock_level["warehouse"].as_str().unwrap().to_owned(),
                    stock_level["on_hand"].as_i64().unwrap(),
                    stock_level["reserved"].as_i64().unwrap(),
                )
            })
            .collect()
    }
}

#[tokio::test]
async fn stock_is_synchronized_with_the_warehouse_without_blocking_orders() {
    let warehouse = PagedServer::start(vec![]).await;
    warehouse.set_fault(Some(Fault::ErrorStatus(503)));
    let system = System::start_with(&[
        ("WAREHOUSE_URL", &warehouse.0.url),
        ("WAREHOUSE_SYNC_SECONDS", "1"),
    ])
    .await;
    system.create_product_with_stock("A", &[("main", 5)]).await;
    system
        .create_product_with_stock("B", &[("east", 4), ("west", 4)])
        .await;
    // While the warehouse is unavailable, orders use the local stock.
    let customer_id = system.create_customer().await;
    for (fault, expected_error) in [
        (Fault::ErrorStatus(503), "responded with status 503"),
        (Fault::ErrorStatus(404), "responded with status 404"),
        (Fault::InvalidJson, "not JSON"),
        (Fault::CircularPages, "links back to a page"),
        (Fault::TruncatedBody, ""),
    ] {
        warehouse.set_fault(Some(fault));
        let report = system.next_report("warehouse").await;
        let error = report["error"].as_str().unwrap();
        assert!(error.contains(expected_error), "{fault:?}: {error}");
        assert_eq!(system.get("/readyz").await.status, 200);
    }
    let order_reply = system
        .post("/v1/orders", order_body(&customer_id, "A", 3))
        .await;
    let order_id = order_reply.expect(201)["id"].as_str().unwrap().to_owned();

    // The warehouse returns two pages, with invalid rows and one with less stock than reserved.
    warehouse.set_pages(vec![
        json!([
            {"sku": "A", "on_hand": 1, "aisle": 7},
            {"sku": "B", "warehouse": "east", "on_hand": 40},
            {"sku": "nothing of ours", "on_hand": 1},
            {"sku": "GONE", "on_hand": 1}
        ]),
        json!([
            {"sku": "B", "warehouse": "north", "quantity": 9},
            {"sku": "B", "on_hand": 9},
            {"sku": "B", "warehouse": "west", "on_hand": -1},
            {"sku": "B", "warehouse": "west", "on_hand": "many"},
            17
        ]),
    ]);
    warehouse.set_fault(None);
    let report = system.next_report("warehouse").await;
    assert_eq!(report["error"], Value::Null, "{report}");
    assert_eq!((&report["pages"], &report["rows"]), (&json!(2), &json!(9)));
    assert_eq!(report["skipped_count"], 6, "{report}");
    let position_of = |skipped_row: &Value| {
        (
            skipped_row["page"].as_u64().unwrap(),
            skipped_row["row"].as_u64().unwrap(),
        )
    };
    let skipped_rows = report["skipped"].as_array().unwrap().iter();
    let positions: Vec<_> = skipped_rows.map(position_of).collect();
    assert_eq!(positions, [(1, 3), (1, 4), (2, 2), (2, 3), (2, 4), (2, 5)]);
    assert_eq!(report["conflict_count"], 1);
    assert_eq!(report["conflicts"][0]["reserved"], 3);
    assert_eq!(system.stock_of("A").await, [("main".to_owned(), 3, 3)]);
    assert_eq!(
        system.stock_of("B").await,
        [
            ("east".to_owned(), 40, 0),
            ("north".to_owned(), 9, 0),
            ("west".to_owned(), 4, 0)
        ]
    );
    // Unchanged stock creates no events.
    let count_events = async || {
        let events_reply = system.get("/v1/events?type=stock.adjusted&limit=200").await;
        events_reply.expect(200)["data"].as_array().unwrap().len()
    };
    let events_before = count_events().await;
    let report = system.next_report("warehouse").await;
    assert_eq!(count_events().await, events_before);
    assert_eq!(report["changed"], 0, "{report}");
    // A single page without skipped rows is requested with its ETag.
    warehouse.set_pages(vec![
        json!([{"sku": "B", "warehouse": "west", "on_hand": 5}]),
    ]);
    wait_until("a 304 response", async || {
        system.source_report("warehouse").await["report"]["is_unchanged"] == true
    })
    .await;
    assert!(
        warehouse
            .0
            .request_log
            .lock()
            .unwrap()
            .iter()
            .any(|(_, is_304)| *is_304)
    );
    system
        .wait_for_order(&order_id, "announced", crate::harness::has_shipping_label)
        .await;
    system.wait_until_idle().await;
    system.assert_verified();
}

#[tokio::test]
async fn external_orders_are_imported_once_with_get_requests_only() {
    let remote_list = PagedServer::start(vec![]).await;
    let system =
        System::start_with(&[("IMPORT_URL", &remote_list.0.url), ("IMPORT_SECONDS", "1")]).await;
    system.create_product_with_stock("A", &[("main", 5)]).await;
    let customer_id = system.create_customer().await;
    let external_order = |row_id: Value, quantity: u32| json!({"id": row_id, "status": "new", "customer_id": customer_id, "items": [{"sku": "A", "quantity": quantity}]});
    remote_list.set_pages(vec![
        json!([external_order(json!(1), 2), external_order(json!("two"), 2), {"customer_id": customer_id}]),
        json!([external_order(json!(3), 2), external_order(json!(4), 0)]),
    ]);
    wait_until("all orders to be imported", async || {
        system.list_orders().await.len() == 3
    })
    .await;
    system.wait_until_idle().await;
    let report = system.next_report("import").await;
    assert_eq!(
        (&report["changed"], &report["skipped_count"]),
        (&json!(0), &json!(2))
    );
    let mut external_ids: Vec<_> = system
        .list_orders()
        .await
        .iter()
        .map(|order| order["external_id"].as_str().unwrap().to_owned())
        .collect();
    external_ids.sort();
    assert_eq!(external_ids, ["1", "3", "two"]);
    // Two orders were fulfilled, and one failed because of stock.
    wait_until("all orders to be counted", async || {
        let stats = system.get("/v1/stats").await.expect(200);
        let orders = &stats["orders"];
        orders["imported"] == 3
            && orders["new"] == 0
            && orders["processed"] == 2
            && orders["failed"] == 1
    })
    .await;
    let stats = system.get("/v1/stats").await.expect(200);
    assert_eq!(stats["orders"]["cancelled"], json!({"out_of_stock": 1}));
    // A new order is added; changes of known orders in the external system are ignored.
    remote_list.set_pages(vec![json!([
        external_order(json!(1), 9),
        external_order(json!(5), 1)
    ])]);
    wait_until("the new order", async || {
        system.list_orders().await.len() == 4
    })
    .await;
    let request_count = remote_list.request_count();
    wait_until("another run", async || {
        remote_list.request_count() > request_count
    })
    .await;
    assert!(
        remote_list
            .0
            .request_log
            .lock()
            .unwrap()
            .iter()
            .all(|(method, _)| method == "GET")
    );
    assert_eq!(system.list_orders().await.len(), 4);
    system.wait_until_idle().await;
    system.assert_verified();
}
