//! The console's lists and their entries in a browser: products, customers, returns, messages, webhooks, keys and
//! failures.

use serde_json::json;
use tokio::task::JoinHandle;

use crate::{
    console::{assert_passed, start_script, wait_for_scenario_signal},
    harness::{CannedResponse, Receiver, System, Tables},
};

fn start_scenario(system: &System, scenario: &str, more_arguments: &[&str]) -> JoinHandle<String> {
    start_script("console_lists.py", system, scenario, more_arguments)
}

#[tokio::test]
async fn console_manages_products_stock_and_photos() {
    let system = System::start().await;
    assert_passed(start_scenario(&system, "products", &[])).await;
    system.wait_until_idle().await;
    system.assert_verified();
}

#[tokio::test]
async fn console_manages_customers_and_addresses() {
    let system = System::start().await;
    assert_passed(start_scenario(&system, "customers", &[])).await;
    system.wait_until_idle().await;
    system.assert_verified();
}

#[tokio::test]
async fn console_keeps_loaded_pages_of_lists() {
    let system = System::start().await;
    assert_passed(start_scenario(&system, "loaded_pages", &[])).await;
}

#[tokio::test]
async fn console_requests_approves_and_receives_returns() {
    let system = System::start().await;
    assert_passed(start_scenario(&system, "returns", &[])).await;
    system.wait_until_idle().await;
    system.assert_verified();
}

#[tokio::test]
async fn console_manages_webhook_endpoints_and_redelivers() {
    let system = System::start_with(&[("WEBHOOK_ALLOW_PRIVATE", "1")]).await;
    let receiver = Receiver::start().await;
    assert_passed(start_scenario(&system, "hooks", &[&receiver.url("/hook")])).await;
}

#[tokio::test]
async fn console_creates_finds_and_revokes_keys() {
    let key = "first-admin-key-of-the-console";
    let system = System::start_with(&[("API_KEYS", &format!("admin={key}"))]).await;
    assert_passed(start_scenario(&system, "api_keys", &[key])).await;
}

#[tokio::test]
async fn console_shows_why_steps_failed_and_redrives_them() {
    let system = System::start().await;
    for sku in ["A", "B", "C"] {
        system.create_product_with_stock(sku, &[("main", 5)]).await;
        crate::dead_letters::order_with_failed_capture(&system, sku).await;
    }
    let scenario_run = start_scenario(&system, "stuck", &[]);
    wait_for_scenario_signal(&system.folder, "mend", &scenario_run).await;
    let repair_sql = "UPDATE payments SET status = 'authorized'";
    system.store.run(Tables::Ledger, repair_sql);
    std::fs::write(system.folder.join("mended"), "").unwrap();
    assert_passed(scenario_run).await;
}

#[tokio::test]
async fn console_shows_pending_retries_and_retries_them_now() {
    let (system, provider, _) = crate::retries::orders_with_failing_payments(3).await;
    let new_endpoint = json!({"url": provider.url("/hook"), "event_types": ["order.*"]});
    system.post("/v1/webhook-endpoints", new_endpoint).await;
    assert_passed(start_scenario(&system, "retried", &[])).await;
}

#[tokio::test]
async fn console_lists_and_resends_messages_of_all_orders() {
    // No mail server: a message waits, unless it is not to be sent.
    let system = System::start_with(&[
        ("ORDER_APPROVAL", "manual"),
        ("SMTP_URL", "smtp://127.0.0.1:9"),
        ("MAIL_FROM", "orders@shop.example"),
    ])
    .await;
    assert_passed(start_scenario(&system, "message_list", &[])).await;
}

#[tokio::test]
async fn console_says_that_no_messages_are_sent() {
    let system = System::start().await;
    assert_passed(start_scenario(&system, "messages_off", &[])).await;
}

#[tokio::test]
async fn console_lists_show_storefronts_only_their_actions() {
    let (operator_key, storefront_key) = ("key-of-an-operator", "key-of-the-eu-storefront");
    let keys = format!("operator={operator_key};storefront@eu={storefront_key}");
    let system = System::start_with(&[("API_KEYS", &keys)]).await;
    assert_passed(start_scenario(
        &system,
        "roles",
        &[operator_key, storefront_key],
    ))
    .await;
}

#[tokio::test]
async fn console_lists_escape_external_texts() {
    let system = System::start_with(&[("WEBHOOK_ALLOW_PRIVATE", "1")]).await;
    let response = json!({"oops": "<script>window.hacked=1</script>"}).to_string();
    let receiver = Receiver::with_responses(vec![CannedResponse::Json(response)]).await;
    let url = receiver.url("/hook");
    assert_passed(start_scenario(&system, "hostile_lists", &[&url])).await;
}

#[tokio::test]
async fn console_lists_can_be_used_with_the_keyboard_alone() {
    let system = System::start().await;
    assert_passed(start_scenario(&system, "keyboard_lists", &[])).await;
}

#[tokio::test]
async fn axe_finds_no_issues_in_lists_and_entries() {
    let system = System::start().await;
    assert_passed(start_scenario(&system, "looks_lists", &[])).await;
}

#[tokio::test]
async fn console_stays_usable_with_a_hundred_thousand_customers_and_products() {
    let system = System::start().await;
    // Lists are read in the same way from both databases, so one of them is enough here.
    if !system.store.is_sqlite() {
        return;
    }
    let customer = json!({"name": "Person", "email": "p@example.com"});
    system.post("/v1/customers", customer).await.expect(201);
    let product =
        json!({"sku": "P", "name": "Thing", "price": 1, "currency": "EUR", "low_stock_at": 5});
    system.post("/v1/products", product).await.expect(201);
    let copy_sql = "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 100000)
         INSERT INTO customers (id, storefront, state, version, name_key, email_key)
         SELECT substr(id, 1, 24) || printf('%012x', n), storefront,
                json_set(state, '$.id', substr(id, 1, 24) || printf('%012x', n), '$.name', 'Person ' || n,
                         '$.email', 'p' || n || '@example.com'), 0, 'person ' || n, 'p' || n || '@example.com'
         FROM customers, numbers WHERE name_key = 'person';
         WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 100000)
         INSERT INTO products (sku, is_deleted, state)
         SELECT 'P' || printf('%06d', n), 0,
                json_set(state, '$.details.sku', 'P' || printf('%06d', n), '$.details.name', 'Thing ' || n)
         FROM products, numbers WHERE sku = 'P';
         INSERT INTO shelves (sku, warehouse, on_hand, reserved)
         SELECT sku, 'main', CASE sku WHEN 'P099999' THEN 3 ELSE 9 END, 0 FROM products;";
    system.store.run(Tables::Worker, copy_sql);
    assert_passed(start_scenario(&system, "many_entries", &[])).await;
}
