//! Tests of the plans that SQLite makes for lists of orders.

use rusqlite::Connection;
use serde_json::{Value, json};
use shared::request::Request;

use crate::store::queries::order_list::*;
use crate::store::sqlite;

/// The index that a list with `filter` uses.
fn index_used(connection: &Connection, filter: Value) -> String {
    let Ok(Request::ListOrders(filter)) = Request::read("order.list", filter) else {
        panic!("it is a list of orders")
    };
    let cursor = OrderCursor {
        created_at_ms: 1,
        number: 1,
    };
    let (sql, arguments) = select_orders(&filter, Some(cursor), None);
    let plan_lines = sqlite::query_plan(connection, sql.sqlite(), arguments);
    let mut page_lines = plan_lines.iter().take_while(|line| *line != "SCAN page");
    page_lines
        .find(|line| line.starts_with("SEARCH") || line.starts_with("SCAN"))
        .unwrap()
        .clone()
}

#[test]
fn order_list_uses_the_most_selective_index() {
    let connection = sqlite::in_memory();
    let customer_id = "01a205f2-115c-7001-8d8a-8446d457e741";
    for (filter, expected_index) in [
        (json!({}), "INDEX orders_by_created "),
        (json!({"storefront": "eu"}), "INDEX orders_by_storefront "),
        (json!({"status": "pending"}), "INDEX orders_by_status "),
        (
            json!({"storefront": "eu", "status": "pending"}),
            "INDEX orders_by_storefront_and_status ",
        ),
        (
            json!({"customer_id": customer_id}),
            "INDEX orders_by_customer ",
        ),
        (
            json!({"customer_id": customer_id, "storefront": "eu", "status": "pending"}),
            "INDEX orders_by_customer ",
        ),
        (
            json!({"customer_id": customer_id, "storefront": "eu", "sku": "A"}),
            "INDEX orders_by_customer ",
        ),
        (json!({"sort": "created_at"}), "INDEX orders_by_created "),
        (
            json!({"sort": "created_at", "storefront": "eu", "status": "shipped"}),
            "INDEX orders_by_storefront_and_status ",
        ),
        (json!({"awaits_approval": true}), "INDEX orders_by_status "),
        (
            json!({"payment_status": "outstanding", "storefront": "eu"}),
            "INDEX orders_by_storefront_and_status ",
        ),
        (
            json!({"payment_status": "failed", "status": "cancelled"}),
            "INDEX orders_by_status ",
        ),
        (
            json!({"customer_id": customer_id, "payment_status": "failed", "awaits_approval": true}),
            "INDEX orders_by_customer ",
        ),
        (json!({"sku": "A"}), "line USING PRIMARY KEY "),
        (
            json!({"sku": "A", "storefront": "eu", "status": "pending"}),
            "line USING PRIMARY KEY ",
        ),
        (json!({"tag": "VIP"}), "tagged USING PRIMARY KEY "),
        (
            json!({"tag": "vip", "storefront": "eu", "status": "pending", "sku": "A"}),
            "tagged USING PRIMARY KEY ",
        ),
        (
            json!({"customer_id": customer_id, "tag": "vip", "storefront": "eu"}),
            "INDEX orders_by_customer ",
        ),
        (
            json!({"external_id": "x", "storefront": "eu", "status": "pending"}),
            "INDEX orders_by_external_id ",
        ),
        (
            json!({"number": 1, "storefront": "eu", "status": "pending"}),
            "INTEGER PRIMARY KEY ",
        ),
    ] {
        let used_index = index_used(&connection, filter.clone());
        assert!(
            used_index.contains(expected_index),
            "{filter}: {used_index}"
        );
    }
}

#[test]
fn lists_in_both_sort_orders_are_read_from_an_index_without_sorting() {
    let connection = sqlite::in_memory();
    let cursor = Some(OrderCursor {
        created_at_ms: 1,
        number: 1,
    });
    for sort in ["-created_at", "created_at"] {
        for filter in [
            json!({"sort": sort}),
            json!({"sort": sort, "storefront": "eu"}),
            json!({"sort": sort, "status": "pending", "awaits_approval": true}),
            json!({"sort": sort, "sku": "A"}),
            json!({"sort": sort, "tag": "vip"}),
        ] {
            let (sql, arguments) = select_orders(&search_filter(filter.clone()), cursor, None);
            let plan_lines = sqlite::query_plan(&connection, sql.sqlite(), arguments);
            let page_lines = plan_lines.iter().take_while(|line| *line != "SCAN page");
            let page_lines: Vec<_> = page_lines.collect();
            assert!(
                !page_lines.iter().any(|line| line.contains("TEMP B-TREE")),
                "{filter}: {page_lines:#?}"
            );
        }
    }
}

/// The filter of a search.
fn search_filter(filter: Value) -> ListOrders {
    let Ok(Request::ListOrders(filter)) = Request::read("order.list", filter) else {
        panic!("it is a list of orders")
    };
    filter
}

/// The plan of a statement that must not scan a table, apart from the rows of its own parts.
fn query_plan(connection: &Connection, (sql, arguments): (Sql, Vec<Argument>)) -> String {
    let plan_lines = sqlite::query_plan(connection, sql.sqlite(), arguments);
    for table in ["orders", "recent", "customers", "events", "steps"] {
        let full_scan = format!("SCAN {table}");
        let full_scan_line = plan_lines.iter().find(|line| {
            line.starts_with(&full_scan) && !line.contains("USING INDEX orders_by_created")
        });
        assert!(
            full_scan_line.is_none(),
            "{full_scan_line:?} in {plan_lines:#?}"
        );
    }
    plan_lines.join("\n")
}

#[test]
fn order_search_uses_an_index_for_each_kind_of_term() {
    let connection = sqlite::in_memory();
    let cursor = Some(OrderCursor {
        created_at_ms: 1,
        number: 1,
    });
    for (filter, customer_indexes) in [
        (
            json!({"q": "#12"}),
            ["customers_by_name", "customers_by_email"],
        ),
        (
            json!({"q": "12", "storefront": "eu", "status": "pending", "sku": "A"}),
            [
                "customers_by_storefront_and_name",
                "customers_by_storefront_and_email",
            ],
        ),
    ] {
        let filter = search_filter(filter);
        let plan_of_search = query_plan(&connection, select_found_orders(&filter, cursor, None));
        for expected_index in [
            "INTEGER PRIMARY KEY (rowid=?)",
            "INDEX orders_by_external_id (external_id=?)",
            "INDEX shipments_by_tracking_number (<expr>=?)",
            "INDEX sqlite_autoindex_orders_1 (id=?)",
            "INDEX orders_by_customer (customer_id=? AND created_at<?)",
            customer_indexes[0],
            customer_indexes[1],
        ] {
            assert!(
                plan_of_search.contains(expected_index),
                "{expected_index} in {plan_of_search}"
            );
        }
        let plan_of_count = query_plan(&connection, count_matching_customers(&filter));
        for expected_index in customer_indexes {
            assert!(
                plan_of_count.contains(&format!("COVERING INDEX {expected_index} (")),
                "{plan_of_count}"
            );
        }
        assert!(!plan_of_count.contains("ORDER BY"), "{plan_of_count}");
    }
}

#[test]
fn search_for_many_customers_reads_the_newest_orders_by_their_index() {
    let connection = sqlite::in_memory();
    for after_cursor in [
        None,
        Some(OrderCursor {
            created_at_ms: 1,
            number: 1,
        }),
    ] {
        let plan_of_distant_order = query_plan(
            &connection,
            select_distant_order(OrderSort::NewestFirst, after_cursor, SCANNED_ORDERS),
        );
        assert!(
            plan_of_distant_order.contains("USING INTEGER PRIMARY KEY (rowid<?)"),
            "{plan_of_distant_order}"
        );
        assert!(
            !plan_of_distant_order.contains("ORDER BY"),
            "{plan_of_distant_order}"
        );
        let oldest_first_statement =
            select_distant_order(OrderSort::OldestFirst, after_cursor, SCANNED_ORDERS);
        let plan_of_oldest_first = query_plan(&connection, oldest_first_statement);
        assert!(
            plan_of_oldest_first.contains("USING INTEGER PRIMARY KEY (rowid>?)"),
            "{plan_of_oldest_first}"
        );
    }
    let cursor = OrderCursor {
        created_at_ms: 1,
        number: 1,
    };
    for (filter, expected_index) in [
        (json!({"q": "a"}), "INDEX orders_by_created (created_at>?"),
        (
            json!({"q": "a", "storefront": "eu"}),
            "INDEX orders_by_storefront (storefront=? AND created_at>?",
        ),
        (
            json!({"q": "a", "sku": "A"}),
            "line USING PRIMARY KEY (sku=? AND (created_at,number)>(?,?)",
        ),
        (
            json!({"q": "a", "tag": "vip"}),
            "tagged USING PRIMARY KEY (tag=? AND (created_at,number)>(?,?)",
        ),
    ] {
        let filter = search_filter(filter);
        let plan_of_scan = query_plan(
            &connection,
            select_orders(&filter, Some(cursor), Some(cursor)),
        );
        assert!(plan_of_scan.contains(expected_index), "{plan_of_scan}");
        let expected_index = "INDEX shipments_by_tracking_number (<expr>=?)";
        assert!(plan_of_scan.contains(expected_index), "{plan_of_scan}");
        assert!(
            plan_of_scan.contains("SEARCH customers USING PRIMARY KEY (id=?)"),
            "{plan_of_scan}"
        );
        let plan_of_found_orders = query_plan(
            &connection,
            select_found_orders(&filter, Some(cursor), Some(cursor)),
        );
        let expected_index =
            "INDEX orders_by_customer (customer_id=? AND created_at>? AND created_at<?)";
        assert!(
            plan_of_found_orders.contains(expected_index),
            "{plan_of_found_orders}"
        );
    }
}
