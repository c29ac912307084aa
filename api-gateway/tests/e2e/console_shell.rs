//! The console's frame, dashboard and settings in a browser, and the console in German.

use crate::{
    console::{assert_passed, start_script},
    harness::System,
};

const SCRIPT: &str = "console_shell.py";

#[tokio::test]
async fn frame_has_navigation_search_shortcuts_and_language() {
    let (operator_key, storefront_key) = ("key-of-an-operator", "key-of-the-eu-storefront");
    let keys =
        format!("admin=key-of-the-admin;operator={operator_key};storefront@eu={storefront_key}");
    let system = System::start_with(&[("API_KEYS", &keys)]).await;
    let keys = ["key-of-the-admin", operator_key, storefront_key];
    assert_passed(start_script(SCRIPT, &system, "frame", &keys)).await;
}

#[tokio::test]
async fn dashboard_shows_figures_of_periods_and_work_to_do() {
    let system = System::start_with(&[("ORDER_APPROVAL", "manual")]).await;
    assert_passed(start_script(SCRIPT, &system, "dashboard", &[])).await;
}

#[tokio::test]
async fn settings_show_configuration_systems_and_health() {
    let system = System::start_with(&[("CUSTOMER_VERIFICATION", "off")]).await;
    assert_passed(start_script(SCRIPT, &system, "settings", &[])).await;
}

#[tokio::test]
async fn console_speaks_german() {
    let system = System::start().await;
    assert_passed(start_script(SCRIPT, &system, "german", &[])).await;
}

#[tokio::test]
async fn first_page_is_small() {
    let system = System::start().await;
    assert_passed(start_script(SCRIPT, &system, "size", &[])).await;
}
