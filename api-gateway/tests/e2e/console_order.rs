//! One order's page in the console, its printed documents, and the form for a new order. The scenarios are in
//! `console_order.py`.

use crate::{
    console::{assert_passed, start_script, wait_for_scenario_signal},
    dead_letters::order_with_failed_capture,
    harness::{System, Tables},
    retries::orders_with_failing_payments,
};

const SCRIPT: &str = "console_order.py";

#[tokio::test]
async fn one_item_is_refunded_from_its_line() {
    let system = System::start().await;
    assert_passed(start_script(SCRIPT, &system, "refund", &[])).await;
    system.wait_until_idle().await;
    system.assert_verified();
}

#[tokio::test]
async fn order_is_shipped_in_parts() {
    let system = System::start().await;
    assert_passed(start_script(SCRIPT, &system, "parts", &[])).await;
    system.wait_until_idle().await;
    system.assert_verified();
}

#[tokio::test]
async fn failed_step_is_fixed_on_the_page_of_its_order() {
    let system = System::start().await;
    for sku in ["A", "B"] {
        system.create_product_with_stock(sku, &[("main", 5)]).await;
        order_with_failed_capture(&system, sku).await;
    }
    let scenario_run = start_script(SCRIPT, &system, "fix", &[]);
    wait_for_scenario_signal(&system.folder, "mend", &scenario_run).await;
    let repair_sql = "UPDATE payments SET status = 'authorized'";
    system.store.run(Tables::Ledger, repair_sql);
    std::fs::write(system.folder.join("mended"), "").unwrap();
    assert_passed(scenario_run).await;
}

#[tokio::test]
async fn step_that_is_retried_is_tried_at_once() {
    let (system, _provider, _) = orders_with_failing_payments(1).await;
    assert_passed(start_script(SCRIPT, &system, "retry", &[])).await;
}

#[tokio::test]
async fn bank_transfer_is_recorded_in_four_actions() {
    let system = System::start().await;
    assert_passed(start_script(SCRIPT, &system, "transfer", &[])).await;
    system.wait_until_idle().await;
    system.assert_verified();
}

#[tokio::test]
async fn every_event_type_of_an_order_has_a_sentence() {
    let system = System::start().await;
    assert_passed(start_script(SCRIPT, &system, "sentences", &[])).await;
}

#[tokio::test]
async fn timeline_tells_the_history_and_keeps_a_draft_of_the_note() {
    let system = System::start().await;
    assert_passed(start_script(SCRIPT, &system, "timeline", &[])).await;
    system.assert_verified();
}

#[tokio::test]
async fn packing_slip_and_summary_are_printed() {
    let system = System::start().await;
    assert_passed(start_script(SCRIPT, &system, "printed", &[])).await;
}

#[tokio::test]
async fn order_is_placed_with_pickers_that_search() {
    let system = System::start().await;
    assert_passed(start_script(SCRIPT, &system, "place", &[])).await;
    system.assert_verified();
}

#[tokio::test]
async fn storefront_sees_its_order_without_actions_of_operators() {
    let (operator_key, storefront_key) = ("key-of-an-operator", "key-of-the-eu-storefront");
    let keys = format!("operator={operator_key};storefront@eu={storefront_key}");
    let system = System::start_with(&[("API_KEYS", &keys)]).await;
    assert_passed(start_script(
        SCRIPT,
        &system,
        "roles",
        &[operator_key, storefront_key],
    ))
    .await;
}

#[tokio::test]
async fn order_page_is_accessible_in_light_dark_and_phone_layout() {
    let system = System::start().await;
    assert_passed(start_script(SCRIPT, &system, "appearance", &[])).await;
}
