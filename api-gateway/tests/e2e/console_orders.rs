//! The console's order list in a browser. The scenarios are in `console_orders.py`.

use crate::{
    console::{assert_passed, start_script},
    harness::{System, Tables},
};

const SCRIPT: &str = "console_orders.py";

#[tokio::test]
async fn order_list_is_searched_filtered_and_sorted() {
    let system = System::start().await;
    assert_passed(start_script(SCRIPT, &system, "find", &[])).await;
    system.assert_verified();
}

#[tokio::test]
async fn loaded_orders_stay_and_change_without_a_reload() {
    let system = System::start_with(&[("ORDER_APPROVAL", "manual")]).await;
    assert_passed(start_script(SCRIPT, &system, "stay", &[])).await;
}

#[tokio::test]
async fn selected_orders_are_approved_shipped_tagged_and_cancelled() {
    let system = System::start_with(&[("ORDER_APPROVAL", "manual")]).await;
    assert_passed(start_script(SCRIPT, &system, "bulk", &[])).await;
    system.wait_until_idle().await;
    system.assert_verified();
}

#[tokio::test]
async fn orders_are_exported_as_csv() {
    let system = System::start_with(&[("ORDER_APPROVAL", "manual")]).await;
    assert_passed(start_script(SCRIPT, &system, "export", &[])).await;
}

#[tokio::test]
async fn order_list_is_used_with_the_keyboard_alone() {
    let system = System::start_with(&[("ORDER_APPROVAL", "manual")]).await;
    assert_passed(start_script(SCRIPT, &system, "keys_alone", &[])).await;
}

#[tokio::test]
async fn storefront_sees_its_part_of_the_order_list() {
    let keys = "storefront@eu=key-of-the-eu-storefront;operator=key-of-an-operator";
    let system = System::start_with(&[("API_KEYS", keys), ("ORDER_APPROVAL", "manual")]).await;
    let arguments = ["key-of-an-operator", "key-of-the-eu-storefront"];
    assert_passed(start_script(SCRIPT, &system, "of_storefront", &arguments)).await;
}

#[tokio::test]
async fn order_list_is_accessible_in_all_its_states() {
    let system = System::start_with(&[("ORDER_APPROVAL", "manual")]).await;
    assert_passed(start_script(SCRIPT, &system, "list_looks", &[])).await;
}

/// Adds customers with the names `Customer 1`…
fn insert_customers_sql() -> String {
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000)
     INSERT INTO customers (id, storefront, state, name_key, email_key)
     SELECT printf('01a205f2-115c-7001-8d8a-%012x', i), 'default',
            json_object('id', printf('01a205f2-115c-7001-8d8a-%012x', i), 'name', 'Customer ' || i,
                        'email', 'c' || i || '@example.com', 'storefront', 'default', 'is_blocked', json('false'),
                        'is_verified', json('false'), 'created_at', '2026-01-31T12:00:00Z'),
            'customer ' || i, 'c' || i || '@example.com'
     FROM n;"
    .to_owned()
}

#[tokio::test]
async fn order_list_stays_fast_with_a_hundred_thousand_orders_and_customers() {
    let system = System::start_with(&[("ORDER_APPROVAL", "manual")]).await;
    // Lists are read in the same way from both databases, so one of them is enough here.
    if system.store.is_sqlite() {
        system.store.run(Tables::Worker, &insert_customers_sql());
        assert_passed(start_script(SCRIPT, &system, "many", &[])).await;
    }
}
