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
async fn a_change_in_one_window_appears_in_the_other() {
    let system = System::start().await;
    seen(scenario(&system, "live", &[])).await;
    system.wait_until_idle().await;
    system.assert_verified();
}

#[tokio::test]
async fn orders_are_approved_shipped_refunded_deleted_and_reset() {
    let system = System::start_with(&[("ORDER_APPROVAL", "manual"), ("DEMO", "1")]).await;
    seen(scenario(&system, "operate", &[])).await;
    system.assert_verified();
}

#[tokio::test]
async fn products_shelves_and_customers_are_kept() {
    let system = System::start().await;
    seen(scenario(&system, "stock", &[])).await;
    system.wait_until_idle().await;
    system.assert_verified();
}

#[tokio::test]
async fn endpoints_are_kept_and_what_they_were_told_is_sent_again() {
    let system = System::start_with(&[("WEBHOOK_ALLOW_PRIVATE", "1")]).await;
    let receiver = Receiver::start().await;
    seen(scenario(&system, "hooks", &[&receiver.url("/hook")])).await;
}

#[tokio::test]
async fn what_is_stuck_says_why_and_has_its_button() {
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
async fn what_is_being_tried_again_says_why_and_is_tried_now() {
    let (system, provider, _) = crate::retries::orders_with_failing_payments(3).await;
    let types = json!({"url": provider.url("/hook"), "event_types": ["order.*"]});
    system.post("/v1/webhook-endpoints", types).await;
    seen(scenario(&system, "retried", &[])).await;
}

#[tokio::test]
async fn a_session_is_its_credential_and_no_other_page_can_use_it() {
    let (operator, storefront) = ("key-of-an-operator", "key-of-the-eu-storefront");
    let keys = format!("operator={operator};storefront@eu={storefront}");
    let system = System::start_with(&[("API_KEYS", &keys)]).await;
    seen(scenario(&system, "enter", &[operator, storefront])).await;
}

#[tokio::test]
async fn while_the_worker_is_away_the_console_says_so_and_recovers() {
    let mut system = System::start_with(&[("REQUEST_TIMEOUT_MS", "2000")]).await;
    let running = scenario(&system, "outage", &[]);
    wanted(&system.folder, "kill", &running).await;
    system.worker.kill();
    wanted(&system.folder, "restart", &running).await;
    system.restart_worker().await;
    seen(running).await;
}

#[tokio::test]
async fn what_outsiders_write_is_text() {
    let system = System::start_with(&[("WEBHOOK_ALLOW_PRIVATE", "1")]).await;
    let says = json!({"oops": "<script>window.hacked=1</script>"}).to_string();
    let receiver = Receiver::with(vec![crate::harness::CannedResponse::Json(says)]).await;
    seen(scenario(&system, "hostile", &[&receiver.url("/hook")])).await;
}

#[tokio::test]
async fn the_keyboard_is_enough() {
    let system = System::start().await;
    seen(scenario(&system, "keyboard", &[])).await;
}

#[tokio::test]
async fn axe_finds_nothing_in_light_in_dark_and_on_a_phone() {
    let system = System::start().await;
    seen(scenario(&system, "looks", &[])).await;
}

#[tokio::test]
async fn a_hundred_thousand_orders_are_like_ten() {
    let system = System::start_with(&[("ORDER_APPROVAL", "manual")]).await;
    // The store reads lists the same way for all databases, so one of them is enough here.
    if system.store.is_sqlite() {
        seen(scenario(&system, "many", &[])).await;
    }
}
