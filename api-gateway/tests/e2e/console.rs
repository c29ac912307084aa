//! The console in a browser: all screens and actions, two windows at once, an outage, hostile input,
//! keyboard-only use, and an accessibility check by axe-core.

use std::path::Path;

use serde_json::json;
use tokio::task::{JoinHandle, spawn_blocking};

use crate::harness::{Receiver, System, wait_until};

/// Runs a scenario of console.py next to the rest of the test.
fn start_scenario(system: &System, scenario: &str, more_arguments: &[&str]) -> JoinHandle<String> {
    start_script("console.py", system, scenario, more_arguments)
}

/// Runs a scenario of a script that uses `console_driver.py`, next to the rest of the test.
pub(crate) fn start_script(
    script: &'static str,
    system: &System,
    scenario: &str,
    more_arguments: &[&str],
) -> JoinHandle<String> {
    let mut arguments = vec![
        scenario.to_owned(),
        system.url(""),
        system.folder.display().to_string(),
    ];
    arguments.extend(more_arguments.iter().map(|argument| (*argument).to_owned()));
    spawn_blocking(move || {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        crate::harness::run_script(script, &arguments)
    })
}

pub(crate) async fn assert_passed(scenario_run: JoinHandle<String>) {
    let script_output = scenario_run.await.unwrap();
    assert!(
        script_output.trim_end().ends_with("seen"),
        "{script_output}"
    );
}

/// Waits until the scenario requests an action from the test.
pub(crate) async fn wait_for_scenario_signal(
    folder: &Path,
    file_name: &str,
    scenario_run: &JoinHandle<String>,
) {
    wait_until(file_name, async || {
        assert!(
            !scenario_run.is_finished(),
            "the scenario ended before {file_name}"
        );
        folder.join(file_name).exists()
    })
    .await;
}

#[tokio::test]
async fn change_in_one_window_appears_in_the_other() {
    let system = System::start().await;
    assert_passed(start_scenario(&system, "live", &[])).await;
    system.wait_until_idle().await;
    system.assert_verified();
}

#[tokio::test]
async fn console_approves_ships_refunds_deletes_and_resets_orders() {
    let system = System::start_with(&[("ORDER_APPROVAL", "manual"), ("DEMO", "1")]).await;
    assert_passed(start_scenario(&system, "operate", &[])).await;
    system.assert_verified();
}

#[tokio::test]
async fn console_edits_address_note_and_tags_and_filters_by_tag() {
    let system = System::start().await;
    assert_passed(start_scenario(&system, "edit", &[])).await;
    system.wait_until_idle().await;
    system.assert_verified();
}

#[tokio::test]
async fn console_records_manual_payments_and_their_refunds() {
    let system = System::start().await;
    assert_passed(start_scenario(&system, "paid_manually", &[])).await;
    system.wait_until_idle().await;
    system.assert_verified();
}

#[tokio::test]
async fn console_shows_and_resends_messages() {
    // No mail server: a message waits, unless it is not to be sent.
    let system = System::start_with(&[
        ("ORDER_APPROVAL", "manual"),
        ("SMTP_URL", "smtp://127.0.0.1:9"),
        ("MAIL_FROM", "orders@shop.example"),
    ])
    .await;
    assert_passed(start_scenario(&system, "messages", &[])).await;
}

#[tokio::test]
async fn console_session_has_its_keys_rights_and_is_safe_from_other_sites() {
    let (operator_key, storefront_key) = ("key-of-an-operator", "key-of-the-eu-storefront");
    let keys = format!("operator={operator_key};storefront@eu={storefront_key}");
    let system = System::start_with(&[("API_KEYS", &keys)]).await;
    assert_passed(start_scenario(
        &system,
        "enter",
        &[operator_key, storefront_key],
    ))
    .await;
}

#[tokio::test]
async fn console_reports_a_worker_outage_and_recovers() {
    let mut system = System::start_with(&[("REQUEST_TIMEOUT_MS", "2000")]).await;
    let running_scenario = start_scenario(&system, "outage", &[]);
    wait_for_scenario_signal(&system.folder, "kill", &running_scenario).await;
    system.worker.kill();
    wait_for_scenario_signal(&system.folder, "restart", &running_scenario).await;
    system.restart_worker().await;
    assert_passed(running_scenario).await;
}

#[tokio::test]
async fn console_escapes_external_texts() {
    let system = System::start_with(&[("WEBHOOK_ALLOW_PRIVATE", "1")]).await;
    let response = json!({"oops": "<script>window.hacked=1</script>"}).to_string();
    let receiver =
        Receiver::with_responses(vec![crate::harness::CannedResponse::Json(response)]).await;
    assert_passed(start_scenario(
        &system,
        "hostile",
        &[&receiver.url("/hook")],
    ))
    .await;
}

#[tokio::test]
async fn console_can_be_used_with_the_keyboard_alone() {
    let system = System::start().await;
    assert_passed(start_scenario(&system, "keyboard", &[])).await;
}

#[tokio::test]
async fn axe_finds_no_issues_in_light_dark_and_phone_layout() {
    let system = System::start().await;
    assert_passed(start_scenario(&system, "looks", &[])).await;
}
