//! The latency of operations at one number of orders.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use order_worker::store::{OrderCursor, Store};
use shared::order::{CountOrders, ListOrders, OrderSort, OrderStatus, PaymentFilter};

use crate::sample_database::{SampleDatabase, commit};

/// Number of measurements, of which the median is taken.
const SAMPLE_COUNT: usize = 50;

/// The results at one number of orders.
pub(crate) struct Figures {
    pub(crate) orders: usize,
    /// Operation and median latency.
    durations: Vec<(&'static str, Duration)>,
    pub(crate) verify: Duration,
}

/// The filter for all orders, newest first.
pub(crate) fn all_orders() -> ListOrders {
    ListOrders::newest(50)
}

/// The count of all orders.
fn all_counted_orders() -> CountOrders {
    CountOrders {
        customer_id: None,
        sku: None,
        tag: None,
        storefront: None,
        created_after: None,
        created_before: None,
        include_deleted: false,
    }
}

async fn median_duration(mut operation: impl AsyncFnMut(usize)) -> Duration {
    let mut durations = Vec::with_capacity(SAMPLE_COUNT);
    for number in 0..SAMPLE_COUNT {
        let started_at = Instant::now();
        operation(number).await;
        durations.push(started_at.elapsed());
    }
    durations.sort();
    durations[SAMPLE_COUNT / 2]
}

impl Figures {
    pub(crate) async fn measure_operations(
        store: &Store,
        sample_database: &SampleDatabase,
        orders: usize,
    ) -> Self {
        let newest_order = store.orders(&all_orders(), None).await.unwrap().rows[0]
            .0
            .clone();
        let oldest_id = sample_database
            .sample_ids
            .first()
            .copied()
            .unwrap_or(newest_order.id);
        let (oldest_order, _) = store.order(oldest_id).await.unwrap().unwrap();
        let middle_time = Timestamp::from_millisecond(i64::midpoint(
            oldest_order.created_at.as_millisecond(),
            newest_order.created_at.as_millisecond(),
        ))
        .unwrap();
        let deep_cursor = OrderCursor {
            created_at_ms: middle_time.as_millisecond(),
            number: newest_order.number / 2,
        };
        let order_filter = all_orders();
        let lists: [(&'static str, ListOrders, Option<OrderCursor>); 13] = [
            ("list", order_filter.clone(), None),
            (
                "list, from the middle on",
                order_filter.clone(),
                Some(deep_cursor),
            ),
            (
                "list, oldest first",
                ListOrders {
                    sort: OrderSort::OldestFirst,
                    ..order_filter.clone()
                },
                None,
            ),
            (
                "list of orders awaiting approval",
                ListOrders {
                    awaits_approval: true,
                    ..order_filter.clone()
                },
                None,
            ),
            (
                "list by status and payment",
                ListOrders {
                    status: Some(OrderStatus::Cancelled),
                    payment_status: Some(PaymentFilter::Failed),
                    ..order_filter.clone()
                },
                None,
            ),
            (
                "list by status",
                ListOrders {
                    status: Some(OrderStatus::Processing),
                    ..order_filter.clone()
                },
                None,
            ),
            (
                "list by a status that is rare",
                ListOrders {
                    status: Some(OrderStatus::Shipped),
                    ..order_filter.clone()
                },
                None,
            ),
            (
                "list by customer",
                ListOrders {
                    customer_id: Some(sample_database.customers[7]),
                    ..order_filter.clone()
                },
                None,
            ),
            (
                "list by sku",
                ListOrders {
                    sku: Some("S7".parse().unwrap()),
                    ..order_filter.clone()
                },
                None,
            ),
            (
                "list by tag",
                ListOrders {
                    tag: Some("gift".parse().unwrap()),
                    ..order_filter.clone()
                },
                None,
            ),
            (
                "list by storefront",
                ListOrders {
                    storefront: Some(newest_order.storefront.clone()),
                    ..order_filter.clone()
                },
                None,
            ),
            (
                "list created before",
                ListOrders {
                    created_before: Some(middle_time),
                    ..order_filter.clone()
                },
                None,
            ),
            (
                "list by customer, status and sku",
                ListOrders {
                    customer_id: Some(sample_database.customers[7]),
                    status: Some(OrderStatus::Delivered),
                    sku: Some("S7".parse().unwrap()),
                    ..order_filter.clone()
                },
                None,
            ),
        ];

        let create_duration = median_duration(async |number| {
            let created_orders = commit(
                store,
                &[sample_database.create_order_command(orders + number)],
            )
            .await;
            // Ends the order, since its steps would become overdue.
            let id = created_orders[0]["id"].as_str().unwrap().parse().unwrap();
            sample_database.decline_order(id).await;
        })
        .await;
        let sample = &sample_database.sample_ids;
        let mut costs = vec![("create and decline, a commit each", create_duration)];
        let get_duration = median_duration(async |number| {
            let id = sample[number * 7919 % sample.len()];
            store.order(id).await.unwrap().unwrap();
        });
        costs.push(("get", get_duration.await));
        let history = median_duration(async |number| {
            let id = sample[number * 7919 % sample.len()].to_string();
            store.history(&id, 0, 50).await.unwrap();
        });
        costs.push(("history", history.await));
        for (name, filter, cursor) in lists {
            let list_duration = median_duration(async |_| {
                store.orders(&filter, cursor).await.unwrap();
            });
            costs.push((name, list_duration.await));
        }
        let customers = &sample_database.customers;
        let names_duration = median_duration(async |number| {
            let start = number * 10 % (customers.len() - 50);
            let page = &customers[start..start + 50];
            assert_eq!(store.customers_by_id(page).await.unwrap().len(), page.len());
        });
        costs.push(("customers of a page of orders", names_duration.await));
        let counted = all_counted_orders();
        let count_duration = median_duration(async |_| {
            store.count_orders(&counted).await.unwrap();
        });
        costs.push(("count by status", count_duration.await));
        let sweep_duration = median_duration(async |_| {
            store.has_due_step(Timestamp::now()).await.unwrap();
            store.claim_due_steps(Timestamp::now(), 500).await.unwrap();
        });
        costs.push(("sweep", sweep_duration.await));
        Self {
            orders,
            durations: costs,
            verify: Duration::ZERO,
        }
    }
}

/// Prints a Markdown table with one column per number of orders.
pub(crate) fn print_figures(store_name: &str, figures_by_size: &[Figures]) {
    let table_row = |figure_text: &dyn Fn(&Figures) -> String| {
        let table_row: Vec<_> = figures_by_size.iter().map(figure_text).collect();
        table_row.join(" | ")
    };
    println!(
        "\n| {store_name}: milliseconds | {} |",
        table_row(&|size| { format!("{} orders", size.orders) })
    );
    println!("|---|{}", "---|".repeat(figures_by_size.len()));
    for (index, (name, _)) in figures_by_size[0].durations.iter().enumerate() {
        let row = table_row(&|size| format!("{:.2}", size.durations[index].1.as_secs_f64() * 1e3));
        println!("| {name} | {row} |");
    }
    let verify = table_row(&|size| {
        format!(
            "{:.1}",
            size.verify.as_secs_f64() * 1e6 / size.orders as f64
        )
    });
    println!("| verify, each 1,000 orders | {verify} |");
}
