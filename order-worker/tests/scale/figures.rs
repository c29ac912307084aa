//! The latency of operations at one number of orders.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use order_worker::store::{OrderCursor, Store};
use shared::order::{CountOrders, ListOrders, OrderSort, OrderStatus, PaymentFilter};

use crate::sample_database::{SampleDatabase, commit};

/// Number of measurements, of which the median is taken.
const SAMPLE_COUNT: usize = 50;

const MILLISECONDS_PER_DAY: i64 = 24 * 60 * 60 * 1_000;

/// The results at one number of orders.
pub(crate) struct Figures {
    pub(crate) order_count: usize,
    /// Operation and median latency.
    durations: Vec<(&'static str, Duration)>,
    /// `None` if `verify` was not run.
    pub(crate) verify_duration: Option<Duration>,
    /// Orders that were added per second, with their later events.
    pub(crate) orders_per_second: f64,
    pub(crate) database_bytes: u64,
    pub(crate) peak_memory_kib: u64,
}

/// The filter for all orders, newest first.
pub(crate) fn all_orders() -> ListOrders {
    ListOrders::newest(50)
}

/// The filter for the count of all orders.
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
    for sample_number in 0..SAMPLE_COUNT {
        let started_at = Instant::now();
        operation(sample_number).await;
        durations.push(started_at.elapsed());
    }
    durations.sort();
    durations[SAMPLE_COUNT / 2]
}

impl Figures {
    pub(crate) async fn measure_operations(
        store: &Store,
        sample_database: &SampleDatabase,
        order_count: usize,
    ) -> Self {
        let newest_order = store.orders(&all_orders(), None).await.unwrap().rows[0]
            .0
            .clone();
        let sample_ids = sample_database.sample_ids().await;
        let oldest_id = sample_ids[0];
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
        let tracking_number = format!("SBX{}", oldest_id.to_string().replace('-', ""));
        let search = |search_text: &str| ListOrders {
            q: Some(search_text.to_owned()),
            ..all_orders()
        };
        let measured_lists: [(&'static str, ListOrders, Option<OrderCursor>); 17] = [
            (
                "search for a number",
                search(&(order_count / 2).to_string()),
                None,
            ),
            (
                "search for a tracking number",
                search(&tracking_number),
                None,
            ),
            (
                "search for an e-mail address",
                search("customer7@example.com"),
                None,
            ),
            ("search for nothing that exists", search("nobody"), None),
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
                    customer_id: Some(oldest_order.customer_id),
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
                    customer_id: Some(oldest_order.customer_id),
                    status: Some(OrderStatus::Delivered),
                    sku: Some("S7".parse().unwrap()),
                    ..order_filter.clone()
                },
                None,
            ),
        ];

        let create_duration = median_duration(async |sample_number| {
            let created_orders = commit(
                store,
                &[sample_database.create_order_command(order_count + sample_number)],
            )
            .await;
            // Ends the order, since its steps would become overdue.
            let order_id = created_orders[0]["id"].as_str().unwrap().parse().unwrap();
            sample_database.decline_order(order_id).await;
        })
        .await;
        let mut durations = vec![("create and decline, a commit each", create_duration)];
        let get_duration = median_duration(async |sample_number| {
            let order_id = sample_ids[sample_number * 7919 % sample_ids.len()];
            store.order(order_id).await.unwrap().unwrap();
        });
        durations.push(("get", get_duration.await));
        let history_duration = median_duration(async |sample_number| {
            let order_id = sample_ids[sample_number * 7919 % sample_ids.len()].to_string();
            store.events_of_subject(&order_id, 0, 50).await.unwrap();
        });
        durations.push(("history", history_duration.await));
        for (operation_name, list_filter, cursor) in measured_lists {
            let list_duration = median_duration(async |_| {
                store.orders(&list_filter, cursor).await.unwrap();
            });
            durations.push((operation_name, list_duration.await));
        }
        let customer_ids = &sample_database.customer_ids;
        let customers_duration = median_duration(async |sample_number| {
            let page_start = sample_number * 10 % (customer_ids.len() - 50);
            let page_ids = &customer_ids[page_start..page_start + 50];
            assert_eq!(
                store.customers_by_id(page_ids).await.unwrap().len(),
                page_ids.len()
            );
        });
        durations.push(("customers of a page of orders", customers_duration.await));
        let count_filter = all_counted_orders();
        let count_duration = median_duration(async |_| {
            store.count_orders(&count_filter).await.unwrap();
        });
        durations.push(("count by status", count_duration.await));
        let claim_duration = median_duration(async |_| {
            store.has_due_step(Timestamp::now()).await.unwrap();
            store.claim_due_steps(Timestamp::now(), 500).await.unwrap();
        });
        durations.push(("claim of due steps", claim_duration.await));
        let today = Timestamp::now().as_millisecond() / MILLISECONDS_PER_DAY;
        let statistics_duration = median_duration(async |_| {
            store.figures(None, today - 13, 1_000).await.unwrap();
        });
        durations.push(("statistics of 14 days", statistics_duration.await));
        let backlog_duration = median_duration(async |_| {
            store.backlog(Timestamp::now()).await.unwrap();
        });
        durations.push(("pending work, as in metrics", backlog_duration.await));
        for (operation_name, cutoff) in [
            ("retention, nothing to delete", Timestamp::UNIX_EPOCH),
            ("retention, events of 10 orders", Timestamp::now()),
        ] {
            let retention_duration = median_duration(async |_| {
                let condensed_orders = store.condense_ended_orders(cutoff, Timestamp::now(), 10);
                condensed_orders.await.unwrap();
            });
            durations.push((operation_name, retention_duration.await));
        }
        Self {
            order_count,
            durations,
            verify_duration: None,
            orders_per_second: 0.0,
            database_bytes: 0,
            peak_memory_kib: 0,
        }
    }
}

/// Prints a Markdown table with one column per number of orders.
pub(crate) fn print_figures(store_name: &str, figures_by_size: &[Figures]) {
    let Some(first_figures) = figures_by_size.first() else {
        return;
    };
    let table_row = |figure_text: &dyn Fn(&Figures) -> String| {
        let table_row: Vec<_> = figures_by_size.iter().map(figure_text).collect();
        table_row.join(" | ")
    };
    println!(
        "\n| {store_name}: milliseconds | {} |",
        table_row(&|figures| { format!("{} orders", figures.order_count) })
    );
    println!("|---|{}", "---|".repeat(figures_by_size.len()));
    for (operation_index, (operation_name, _)) in first_figures.durations.iter().enumerate() {
        let row_text = table_row(&|figures| {
            format!(
                "{:.2}",
                figures.durations[operation_index].1.as_secs_f64() * 1e3
            )
        });
        println!("| {operation_name} | {row_text} |");
    }
    let print_row = |row_name: &str, figure_text: &dyn Fn(&Figures) -> String| {
        println!("| {row_name} | {} |", table_row(figure_text));
    };
    let verify_text = |figures: &Figures, orders: f64| {
        figures
            .verify_duration
            .map_or("not run".to_owned(), |duration| {
                format!("{:.1}", duration.as_secs_f64() / orders)
            })
    };
    print_row("verify, each 1,000 orders", &|figures| {
        verify_text(figures, figures.order_count as f64 / 1e6)
    });
    print_row("orders added per second", &|figures| {
        format!("{:.0}", figures.orders_per_second)
    });
    print_row("verify in all, seconds", &|figures| {
        verify_text(figures, 1.0)
    });
    print_row("size on disk, MiB", &|figures| {
        (figures.database_bytes >> 20).to_string()
    });
    print_row("peak memory with verify, MiB", &|figures| {
        (figures.peak_memory_kib >> 10).to_string()
    });
}
