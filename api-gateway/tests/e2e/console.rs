//! The console in a browser: all screens and actions, two windows at once, an outage, hostile input,
//! keyboard-only use, and an accessibility check by axe-core.

use std::path::Path;

use serde_json::json;
use tokio::task::{JoinHandle, spawn_blocking};

use crate::harness::{Receiver, System, until};

/// Runs a scenario of console.py next to the rest of the test.
fn scenario(system: &System, name: &str, more: &[&str]) -> JoinHandle<String> {
    let mut arguments = vec![
        name.to_owned(),
        system.url(""),
        system.folder.display().to_string(),
    ];
    arguments.extend(more.iter().map(|argument| (*argument).to_owned()));
    spawn_blocking(move || {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        crate::harness::python("console.py", &arguments)
    })
}

async fn seen(running: JoinHandle<String>) {
    let told = running.await.unwrap();
    assert!(told.trim_end().ends_with("seen"), "{told}");
}

/// Waits until the scenario requests an action from the test.
async fn wanted(folder: &Path, what: &str, running: &JoinHandle<String>) {
    until(what, async || {
        assert!(!running.is_finished(), "it ended before {what}");
        folder.join(what).exists()
    })
    .await;
}

#[tokio::test]
async fn change_in_one_window_appears_in_the_other() {
    let system = System::start().await;
    seen(scenario(&system, "live", &[])).await;
    system.wait_until_idle().await;
    system.assert_verified();
}

#[tokio::test]
async fn console_approves_ships_refunds_deletes_and_resets_orders() {
    let system = System::start_with(&[("ORDER_APPROVAL", "manual"), ("DEMO", "1")]).await;
    seen(scenario(&system, "operate", &[])).await;
    system.assert_verified();
}

#[tokio::test]
async fn console_manages_products_stock_and_customers() {
    let system = System::start().await;
    seen(scenario(&system, "stock", &[])).await;
    system.wait_until_idle().await;
    system.assert_verified();
}

#[tokio::test]
async fn console_manages_webhook_endpoints_and_redelivers() {
    let system = System::start_with(&[("WEBHOOK_ALLOW_PRIVATE", "1")]).await;
    let receiver = Receiver::start().await;
    seen(scenario(&system, "hooks", &[&receiver.url("/hook")])).await;
}

#[tokio::test]
async fn console_shows_why_steps_failed_and_redrives_them() {
    let system = System::start().await;
    for sku in ["A", "B", "C"] {
        system.stock(sku, &[("main", 5)]).await;
        crate::dead_letters::order_with_failed_capture(&system, sku).await;
    }
    let running = scenario(&system, "stuck", &[]);
    wanted(&system.folder, "mend", &running).await;
    let mend = "UPDATE payments SET status = 'authorized'";
    system.store.run(crate::harness::Tables::Ledger, mend);
    std::fs::write(system.folder.join("mended"), "").unwrap();
    seen(running).await;
}

#[tokio::test]
async fn console_shows_pending_retries_and_retries_them_now() {
    let (system, provider, _) = crate::retries::orders_with_failing_payments(3).await;
    let types = json!({"url": provider.url("/hook"), "event_types": ["order.*"]});
    system.post("/v1/webhook-endpoints", types).await;
    seen(scenario(&system, "retried", &[])).await;
}

#[tokio::test]
async fn console_session_has_its_keys_rights_and_is_safe_from_other_sites() {
    let (operator, storefront) = ("key-of-an-operator", "key-of-the-eu-storefront");
    let keys = format!("operator={operator};storefront@eu={storefront}");
    let system = System::start_with(&[("API_KEYS", &keys)]).await;
    seen(scenario(&system, "enter", &[operator, storefront])).await;
}

#[tokio::test]
async fn console_reports_a_worker_outage_and_recovers() {
    let mut system = System::start_with(&[("REQUEST_TIMEOUT_MS", "2000")]).await;
    let running = scenario(&system, "outage", &[]);
    wanted(&system.folder, "kill", &running).await;
    system.worker.kill();
    wanted(&system.folder, "restart", &running).await;
    system.restart_worker().await;
    seen(running).await;
}

#[tokio::test]
async fn console_escapes_external_texts() {
    let system = System::start_with(&[("WEBHOOK_ALLOW_PRIVATE", "1")]).await;
    let says = json!({"oops": "<script>window.hacked=1</script>"}).to_string();
    let receiver = Receiver::with(vec![crate::harness::CannedResponse::Json(says)]).await;
    seen(scenario(&system, "hostile", &[&receiver.url("/hook")])).await;
}

#[tokio::test]
async fn console_can_be_used_with_the_keyboard_alone() {
    let system = System::start().await;
    seen(scenario(&system, "keyboard", &[])).await;
}

#[tokio::test]
async fn axe_finds_no_issues_in_light_dark_and_phone_layout() {
    let system = System::start().await;
    seen(scenario(&system, "looks", &[])).await;
}

#[tokio::test]
async fn console_stays_fast_with_a_hundred_thousand_orders() {
    let system = System::start_with(&[("ORDER_APPROVAL", "manual")]).await;
    // The store reads lists the same way for all databases, so one of them is enough here.
    if system.store.is_sqlite() {
        seen(scenario(&system, "many", &[])).await;
    }
}
