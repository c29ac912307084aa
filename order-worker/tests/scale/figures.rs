//! The latency of operations at one number of orders.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use order_worker::store::{OrderCursor, Store};
use shared::order::{ListOrders, OrderStatus};

use crate::sample_database::{SampleDatabase, commit};

/// Number of measurements, of which the median is taken.
const SAMPLES: usize = 50;

/// The results at one number of orders.
pub(crate) struct Figures {
    pub(crate) orders: usize,
    /// Operation and median latency.
    costs: Vec<(&'static str, Duration)>,
    pub(crate) verify: Duration,
}

/// The filter for all orders, newest first.
pub(crate) fn all_orders() -> ListOrders {
    ListOrders {
        number: None,
        external_id: None,
        status: None,
        customer_id: None,
        sku: None,
        storefront: None,
        created_after: None,
        created_before: None,
        include_deleted: false,
        limit: 50,
        cursor: None,
    }
}

async fn median(mut what: impl AsyncFnMut(usize)) -> Duration {
    let mut times = Vec::with_capacity(SAMPLES);
    for number in 0..SAMPLES {
        let began = Instant::now();
        what(number).await;
        times.push(began.elapsed());
    }
    times.sort();
    times[SAMPLES / 2]
}

impl Figures {
    pub(crate) async fn measure(
        store: &Store,
        sample_database: &SampleDatabase,
        orders: usize,
    ) -> Self {
        let newest = store.orders(&all_orders(), None).await.unwrap().rows[0]
            .0
            .clone();
        let oldest = sample_database.sample.first().copied().unwrap_or(newest.id);
        let (oldest, _) = store.order(oldest).await.unwrap().unwrap();
        let middle = Timestamp::from_millisecond(i64::midpoint(
            oldest.created_at.as_millisecond(),
            newest.created_at.as_millisecond(),
        ))
        .unwrap();
        let deep = OrderCursor {
            created_at_ms: middle.as_millisecond(),
            number: newest.number / 2,
        };
        let filter = all_orders();
        let lists: [(&'static str, ListOrders, Option<OrderCursor>); 9] = [
            ("list", filter.clone(), None),
            ("list, from the middle on", filter.clone(), Some(deep)),
            (
                "list by status",
                ListOrders {
                    status: Some(OrderStatus::Processing),
                    ..filter.clone()
                },
                None,
            ),
            (
                "list by a status that is rare",
                ListOrders {
                    status: Some(OrderStatus::Shipped),
                    ..filter.clone()
                },
                None,
            ),
            (
                "list by customer",
                ListOrders {
                    customer_id: Some(sample_database.customers[7]),
                    ..filter.clone()
                },
                None,
            ),
            (
                "list by sku",
                ListOrders {
                    sku: Some("S7".parse().unwrap()),
                    ..filter.clone()
                },
                None,
            ),
            (
                "list by storefront",
                ListOrders {
                    storefront: Some(newest.storefront.clone()),
                    ..filter.clone()
                },
                None,
            ),
            (
                "list created before",
                ListOrders {
                    created_before: Some(middle),
                    ..filter.clone()
                },
                None,
            ),
            (
                "list by customer, status and sku",
                ListOrders {
                    customer_id: Some(sample_database.customers[7]),
                    status: Some(OrderStatus::Delivered),
                    sku: Some("S7".parse().unwrap()),
                    ..filter.clone()
                },
                None,
            ),
        ];

        let create = median(async |number| {
            let made = commit(
                store,
                &[sample_database.create_order_command(orders + number)],
            )
            .await;
            // Ends the order, since its steps would become overdue.
            let id = made[0]["id"].as_str().unwrap().parse().unwrap();
            sample_database.decline(id).await;
        })
        .await;
        let sample = &sample_database.sample;
        let mut costs = vec![("create and decline, a commit each", create)];
        let get = median(async |number| {
            let id = sample[number * 7919 % sample.len()];
            store.order(id).await.unwrap().unwrap();
        });
        costs.push(("get", get.await));
        let history = median(async |number| {
            let id = sample[number * 7919 % sample.len()].to_string();
            store.history(&id, 0, 50).await.unwrap();
        });
        costs.push(("history", history.await));
        for (name, filter, after) in lists {
            let list = median(async |_| {
                store.orders(&filter, after).await.unwrap();
            });
            costs.push((name, list.await));
        }
        let sweep = median(async |_| {
            store.has_due_step(Timestamp::now()).await.unwrap();
            store.claim_due_steps(Timestamp::now(), 500).await.unwrap();
        });
        costs.push(("sweep", sweep.await));
        Self {
            orders,
            costs,
            verify: Duration::ZERO,
        }
    }
}

/// Prints a Markdown table with one column per number of orders.
pub(crate) fn print_figures(store: &str, sizes: &[Figures]) {
    let cells = |of: &dyn Fn(&Figures) -> String| {
        let cells: Vec<_> = sizes.iter().map(of).collect();
        cells.join(" | ")
    };
    println!(
        "\n| {store}: milliseconds | {} |",
        cells(&|size| { format!("{} orders", size.orders) })
    );
    println!("|---|{}", "---|".repeat(sizes.len()));
    for (index, (name, _)) in sizes[0].costs.iter().enumerate() {
        let row = cells(&|size| format!("{:.2}", size.costs[index].1.as_secs_f64() * 1e3));
        println!("| {name} | {row} |");
    }
    let verify = cells(&|size| {
        format!(
            "{:.1}",
            size.verify.as_secs_f64() * 1e6 / size.orders as f64
        )
    });
    println!("| verify, each 1,000 orders | {verify} |");
}
