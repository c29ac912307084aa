//! Statistics of the worker: counts of orders and revenue computed from the event feed, the state of the system
//! for operators, and the gauges for Prometheus. Counting runs apart from decisions and lags behind them; a
//! reply includes recent events that are not counted yet. The statements are in `store/queries/stats.rs`.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use shared::{
    amqp::{
        publisher::Publisher,
        topology::{DEAD_LETTER_QUEUE, REQUEST_QUEUE, STEP_QUEUE},
    },
    money::Currency,
    order::{CancelReason, OrderStatus},
    stats::{Day, OrderCounts, OrderValue, Revenue, Stats, StepStats, SystemStats},
};
use tokio::{
    sync::watch,
    time::{self, Instant},
};

use super::jobs::{order_import, stock_refresh};
use crate::{
    runtime::priority::RequestActivity,
    store::{CountingProgress, Figure, Store, StoreError},
};

/// Maximum number of events counted at once.
const EVENTS_PER_ROUND: u32 = 2_000;
/// Maximum number of uncounted events that a reply includes.
pub const MAX_UNCOUNTED_EVENTS: u32 = 1_000;
/// Minimum interval between rounds, unless there are more events.
const ROUND_INTERVAL: Duration = Duration::from_millis(500);
/// Interval for checking for events of other workers.
const IDLE_INTERVAL: Duration = Duration::from_secs(5);
/// After a round, counting pauses for this multiple of the time it worked; for [`BUSY_PAUSE_FACTOR`] under load.
const PAUSE_FACTOR: u32 = 4;
const BUSY_PAUSE_FACTOR: u32 = 40;
/// Events older than this are no longer delayed in favour of requests.
const MAX_EVENT_DELAY: SignedDuration = SignedDuration::from_secs(30);
/// Delay while the database is unavailable.
const RETRY_DELAY: Duration = Duration::from_secs(1);
/// Number of recent durations kept per kind of step.
const MAX_DURATIONS: usize = 1_000;

/// Counts events until the future is dropped.
pub async fn count_events(
    store: Store,
    mut new_events: watch::Receiver<()>,
    activity: Arc<RequestActivity>,
) {
    loop {
        let started_at = Instant::now();
        match store.count_events(EVENTS_PER_ROUND).await {
            // There are more events; the pause leaves time for other work.
            Ok(CountingProgress {
                progress,
                counted_until,
            }) if progress.has_more => {
                let is_late = counted_until.is_some_and(|counted_until| {
                    Timestamp::now().duration_since(counted_until) > MAX_EVENT_DELAY
                });
                let is_delayed = activity.expects_requests() && !is_late;
                let pause_factor = if is_delayed {
                    BUSY_PAUSE_FACTOR
                } else {
                    PAUSE_FACTOR
                };
                time::sleep(started_at.elapsed() * pause_factor).await;
            }
            Ok(_) => {
                time::sleep(ROUND_INTERVAL).await;
                let _ = time::timeout(IDLE_INTERVAL, new_events.changed()).await;
            }
            Err(error) => {
                tracing::debug!(%error, "events could not be counted; trying again");
                time::sleep(RETRY_DELAY).await;
            }
        }
    }
}

/// State of this worker, for statistics and metrics.
#[derive(Clone)]
pub struct WorkerStats {
    /// Reads queue lengths from the broker.
    pub publisher: Arc<Publisher>,
    /// Durations of steps.
    pub latencies: Latencies,
    /// Name of this worker.
    pub worker_name: String,
}

impl WorkerStats {
    /// Number of connected workers; `None` if the broker is unavailable.
    pub async fn worker_count(&self) -> Option<u32> {
        let counts = self.publisher.queue_counts(REQUEST_QUEUE).await.ok();
        counts.map(|(_, consumers)| consumers)
    }
}

/// Recent durations of steps in this process; clones share them.
#[derive(Clone, Default)]
pub struct Latencies(Arc<Mutex<HashMap<&'static str, StepDurations>>>);

#[derive(Default)]
struct StepDurations {
    done_count: u64,
    failed_count: u64,
    durations_ms: VecDeque<u64>,
}

impl Latencies {
    /// Records an attempt of a step that was due at `due_at` and has ended now.
    pub fn record(&self, step_kind: &'static str, due_at: Timestamp, is_failed: bool) {
        let duration_ms = Timestamp::now().duration_since(due_at).as_millis();
        let mut durations = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let durations = durations.entry(step_kind).or_default();
        if is_failed {
            durations.failed_count += 1;
            return;
        }
        durations.done_count += 1;
        if durations.durations_ms.len() >= MAX_DURATIONS {
            durations.durations_ms.pop_front();
        }
        durations
            .durations_ms
            .push_back(u64::try_from(duration_ms).unwrap_or_default());
    }

    fn summarize(&self) -> BTreeMap<String, StepStats> {
        let durations = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let summarize_kind = |(step_kind, durations): (&&str, &StepDurations)| {
            let mut sorted_durations_ms: Vec<u64> =
                durations.durations_ms.iter().copied().collect();
            sorted_durations_ms.sort_unstable();
            let percentile_of = |percent: usize| {
                let percentile_index = (sorted_durations_ms.len() * percent / 100)
                    .min(sorted_durations_ms.len().saturating_sub(1));
                sorted_durations_ms
                    .get(percentile_index)
                    .copied()
                    .unwrap_or_default()
            };
            let summary = StepStats {
                done: durations.done_count,
                failed: durations.failed_count,
                p50_ms: percentile_of(50),
                p90_ms: percentile_of(90),
                p99_ms: percentile_of(99),
            };
            ((*step_kind).to_owned(), summary)
        };
        durations.iter().map(summarize_kind).collect()
    }
}

/// State of the system as seen by this worker.
///
/// # Errors
/// When the database is unavailable.
pub async fn read_system_stats(
    store: &Store,
    worker_stats: &WorkerStats,
) -> Result<SystemStats, StoreError> {
    let backlog = store.backlog(Timestamp::now()).await?;
    let (mut queues, mut workers) = (BTreeMap::new(), None);
    for queue_name in [REQUEST_QUEUE, STEP_QUEUE, DEAD_LETTER_QUEUE] {
        let queue_state = worker_stats.publisher.queue_counts(queue_name).await.ok();
        queues.insert(
            queue_name.to_owned(),
            queue_state.map(|(messages, _)| messages),
        );
        if queue_name == REQUEST_QUEUE {
            workers = queue_state.map(|(_, consumers)| consumers);
        }
    }
    Ok(SystemStats {
        workers,
        worker: worker_stats.worker_name.clone(),
        queues,
        due_steps: backlog.due_steps,
        oldest_due_at: backlog.oldest_due_at,
        dead_letters: backlog.dead_letters,
        retries: backlog.retries,
        outbox_lag: backlog.outbox_lag,
        sends_messages: store.are_messages_on().await?,
        steps: worker_stats.latencies.summarize(),
        last_warehouse_sync: store.job_state(stock_refresh::NAME).await?,
        last_import: store.job_state(order_import::NAME).await?,
    })
}

/// Sets the gauges of queue lengths. They keep their last values while the broker is unavailable.
pub async fn set_queue_gauges(worker_stats: &WorkerStats) {
    for queue_name in [REQUEST_QUEUE, STEP_QUEUE, DEAD_LETTER_QUEUE] {
        if let Ok((messages, consumers)) = worker_stats.publisher.queue_counts(queue_name).await {
            metrics::gauge!("queue_messages", "queue" => queue_name).set(f64::from(messages));
            metrics::gauge!("queue_consumers", "queue" => queue_name).set(f64::from(consumers));
        }
    }
}

/// Sets the gauges of pending work and of orders by status.
///
/// # Errors
/// When the database is unavailable.
pub async fn set_work_and_order_gauges(store: &Store) -> Result<(), StoreError> {
    let now = Timestamp::now();
    let backlog = store.backlog(now).await?;
    let oldest_due_at = backlog.oldest_due_at;
    let oldest_step_age_seconds =
        oldest_due_at.map_or(0.0, |due_at| now.duration_since(due_at).as_secs_f64());
    metrics::gauge!("steps_oldest_pending_age_seconds").set(oldest_step_age_seconds.max(0.0));
    for (gauge_name, pending_count) in [
        ("steps_due", backlog.due_steps),
        ("dead_letters", backlog.dead_letters),
        ("steps_to_retry", backlog.retries),
        ("outbox_lag_events", backlog.outbox_lag),
    ] {
        metrics::gauge!(gauge_name).set(to_f64(pending_count));
    }
    let (waiting_count, oldest_created_ms) = store.waiting_messages().await?;
    metrics::gauge!("messages_waiting").set(to_f64(waiting_count));
    let oldest_message_age_seconds = oldest_created_ms.map_or(0.0, |created_ms| {
        to_f64(now.as_millisecond() - created_ms) / 1_000.0
    });
    metrics::gauge!("messages_oldest_waiting_age_seconds").set(oldest_message_age_seconds.max(0.0));
    let (current_figures, _) = store.figures(None, 0, MAX_UNCOUNTED_EVENTS).await?;
    for (status, order_count) in add_up(&current_figures, 0, 0, 0).orders.by_status {
        metrics::gauge!("orders", "status" => status).set(to_f64(order_count));
    }
    Ok(())
}

/// Exact up to 2^53.
#[expect(
    clippy::cast_precision_loss,
    reason = "no installation has that many orders"
)]
fn to_f64(count: i64) -> f64 {
    count as f64
}

/// The first of the last `days` days including today, in days since 1970-01-01.
pub fn first_day(now: Timestamp, days: u32) -> i64 {
    now.as_second().div_euclid(24 * 60 * 60) - i64::from(days) + 1
}

/// Sums up `figures`: totals, and one entry for each of the `days` days since `first_day`.
pub fn add_up(figures: &[Figure], first_day: i64, days: u32, position: i64) -> Stats {
    let mut total_figures: BTreeMap<&str, i64> = BTreeMap::new();
    for figure in figures {
        *total_figures.entry(&figure.name).or_default() += figure.amount;
    }
    let stats_of_day = |day: i64| {
        let figures = figures.iter().filter(move |figure| figure.day == day);
        let figures_by_name: BTreeMap<&str, i64> = figures
            .map(|figure| (figure.name.as_str(), figure.amount))
            .collect();
        let figure_of = |figure_name: &str| {
            figures_by_name
                .get(figure_name)
                .copied()
                .unwrap_or_default()
        };
        Day {
            day: date_of_day(day),
            created: figure_of("created"),
            processing: figure_of("processing"),
            shipped: figure_of("shipped"),
            delivered: figure_of("delivered"),
            cancelled: figures_with_prefix(&figures_by_name, "cancelled.")
                .map(|(_, amount)| amount)
                .sum(),
            revenue: revenue(&figures_by_name),
            order_values: order_values(&figures_by_name),
        }
    };
    Stats {
        orders: orders(&total_figures),
        revenue: revenue(&total_figures),
        order_values: order_values(&total_figures),
        days: (first_day..first_day + i64::from(days))
            .map(stats_of_day)
            .collect(),
        position: position.to_string(),
        attention: None,
        system: None,
    }
}

fn orders(counts_by_name: &BTreeMap<&str, i64>) -> OrderCounts {
    let count_of = |figure_name: &str| counts_by_name.get(figure_name).copied().unwrap_or_default();
    let cancelled_from = |status: OrderStatus| -> i64 {
        let prefix = format!("cancelled.{}.", status.as_str());
        figures_with_prefix(counts_by_name, &prefix)
            .map(|(_, amount)| amount)
            .sum()
    };
    let cancelled_from_pending = cancelled_from(OrderStatus::Pending);
    let cancelled_from_processing = cancelled_from(OrderStatus::Processing);
    let (created_count, processing_count) = (count_of("created"), count_of("processing"));
    let (shipped_count, delivered_count) = (count_of("shipped"), count_of("delivered"));
    let counts_by_status = [
        (
            OrderStatus::Pending,
            created_count - processing_count - cancelled_from_pending,
        ),
        (
            OrderStatus::Processing,
            processing_count - shipped_count - cancelled_from_processing,
        ),
        (OrderStatus::Shipped, shipped_count - delivered_count),
        (OrderStatus::Delivered, delivered_count),
        (
            OrderStatus::Cancelled,
            cancelled_from_pending + cancelled_from_processing,
        ),
    ];
    let mut counts_by_reason: BTreeMap<String, i64> = BTreeMap::new();
    for reason in CancelReason::ALL {
        let suffix = format!(".{}", reason.as_str());
        let matching_figures = figures_with_prefix(counts_by_name, "cancelled.")
            .filter(|(figure_name, _)| figure_name.ends_with(&suffix));
        let cancelled_count: i64 = matching_figures.map(|(_, amount)| amount).sum();
        if cancelled_count > 0 {
            counts_by_reason.insert(reason.as_str().to_owned(), cancelled_count);
        }
    }
    OrderCounts {
        total: created_count,
        cancelled: counts_by_reason,
        imported: count_of("imported"),
        pending_orders: counts_by_status[0].1,
        processed: counts_by_status[1].1 + counts_by_status[2].1 + counts_by_status[3].1,
        cancelled_orders: counts_by_status[4].1,
        by_status: counts_by_status
            .map(|(status, count)| (status.as_str().to_owned(), count))
            .into(),
    }
}

fn figures_with_prefix<'a>(
    counts_by_name: &'a BTreeMap<&str, i64>,
    prefix: &'a str,
) -> impl Iterator<Item = (&'a str, i64)> {
    counts_by_name
        .iter()
        .filter_map(move |(figure_name, amount)| Some((figure_name.strip_prefix(prefix)?, *amount)))
}

fn revenue(figures: &BTreeMap<&str, i64>) -> Vec<Revenue> {
    let mut amounts_by_currency: BTreeMap<&str, (i64, i64)> = BTreeMap::new();
    for (currency, amount) in figures_with_prefix(figures, "captured.") {
        amounts_by_currency.entry(currency).or_default().0 += amount;
    }
    for (currency, amount) in figures_with_prefix(figures, "refunded.") {
        amounts_by_currency.entry(currency).or_default().1 += amount;
    }
    let revenue = amounts_by_currency.into_iter();
    let revenue = revenue.filter_map(|(currency, (captured_amount, refunded_amount))| {
        let currency: Currency = currency.parse().ok()?;
        Some(Revenue {
            currency,
            captured: captured_amount,
            refunded: refunded_amount,
            net: captured_amount - refunded_amount,
        })
    });
    revenue.collect()
}

fn order_values(figures: &BTreeMap<&str, i64>) -> Vec<OrderValue> {
    let values_by_currency =
        figures_with_prefix(figures, "orders.").filter_map(|(currency, order_count)| {
            let ordered_total = figures.get(format!("ordered.{currency}").as_str());
            Some(OrderValue {
                currency: currency.parse().ok()?,
                orders: order_count,
                total: ordered_total.copied().unwrap_or_default(),
            })
        });
    values_by_currency.collect()
}

fn date_of_day(day: i64) -> String {
    let day_start = Timestamp::UNIX_EPOCH + SignedDuration::from_hours(24 * day);
    day_start.to_zoned(TimeZone::UTC).date().to_string()
}
