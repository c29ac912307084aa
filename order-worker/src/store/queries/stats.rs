//! Statistics counted from the event feed, by day, storefront and name, and the amount of pending work.
//! Counting runs apart from decisions; one worker at a time continues from the stored position.
//! [`background::stats`](crate::background::stats) presents the numbers.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use jiff::Timestamp;
use serde::Deserialize;
use shared::{
    id::Storefront,
    order::{CancelReason, OrderStatus},
};

use crate::store::{
    Store, StoreError,
    feed::feed_cursor::{FeedConsumer, FeedProgress},
    sql::{
        bulk::{ColumnType, Write, Writes},
        byte_limit::{MAX_FORWARD_BYTES, MAX_PAGE_BYTES, bounded_sql},
        decode::{millis, parse_json, readable_rows, timestamp},
        row::Row,
        session::Session,
        statement::{Sql, among, arguments, list},
    },
    transaction::save::latest_send_time,
};

/// Maximum count of steps that will be retried.
const MAX_COUNTED_RETRIES: u32 = 10_000;
/// Milliseconds of a day.
const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// A count of `name` on a day, or an amount in minor units.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Figure {
    /// Days since 1970-01-01.
    pub day: i64,
    /// Name: `created`, `cancelled.pending.out_of_stock`, `captured.EUR`…
    pub name: String,
    /// Count or amount.
    pub amount: i64,
}

/// Progress of counting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CountingProgress {
    /// Progress through the feed.
    pub progress: FeedProgress,
    /// Time of the last counted event.
    pub counted_until: Option<Timestamp>,
}

impl CountingProgress {
    const NO_PROGRESS: Self = Self {
        progress: FeedProgress::NO_PROGRESS,
        counted_until: None,
    };
}

/// Pending work in the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backlog {
    /// Number of due steps.
    pub due_steps: i64,
    /// Time at which the oldest of them became due.
    pub oldest_due_at: Option<Timestamp>,
    /// Number of dead steps and archived messages.
    pub dead_letters: i64,
    /// Number of steps that failed and will be retried.
    pub retries: i64,
    /// Number of unpublished events.
    pub outbox_lag: i64,
}

type FigureCounts = BTreeMap<(i64, String, String), i64>;

const ADD_FIGURES: Write = Write {
    sqlite: "
        INSERT INTO figures (day, storefront, name, amount)
        VALUES ($1, $2, $3, $4)
        ON CONFLICT (day, storefront, name) DO UPDATE SET amount = amount + excluded.amount",
    postgres:
        "
        INSERT INTO figures (day, storefront, name, amount)
        SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[], $4::bigint[])
        ON CONFLICT (day, storefront, name) DO UPDATE SET amount = figures.amount + excluded.amount",
    columns: &[
        ColumnType::Integer,
        ColumnType::Text,
        ColumnType::Text,
        ColumnType::Integer,
    ],
};

impl Store {
    /// Counts up to `limit` events after the stored position, up to a size limit; returns the progress. Does
    /// nothing if another worker holds the lease.
    ///
    /// # Errors
    /// When the database is unavailable; nothing was counted then.
    pub async fn count_events(&self, limit: u32) -> Result<CountingProgress, StoreError> {
        let Some(mut lease) = self.acquire_lease(FeedConsumer::Statistics).await? else {
            return Ok(CountingProgress::NO_PROGRESS);
        };
        let position = lease.position;
        let Some(new_counts) =
            count_tail(&mut lease.session, position, limit, MAX_FORWARD_BYTES).await?
        else {
            return Ok(CountingProgress::NO_PROGRESS);
        };
        let rows = new_counts
            .counts
            .into_iter()
            .map(|((day, storefront, name), amount)| arguments![day, storefront, name, amount]);
        let mut writes = Writes::default();
        writes.add(ADD_FIGURES, rows.collect());
        let has_advanced = lease
            .advance_with(new_counts.reached_position, writes)
            .await?;
        Ok(if has_advanced {
            new_counts.progress
        } else {
            CountingProgress::NO_PROGRESS
        })
    }

    /// All counts since `first_day`, with the sums of earlier days as day 0, and the position up to which events
    /// are included: the stored counts, and up to `limit` later events, up to a size limit.
    ///
    /// # Errors
    /// When the database is unavailable.
    pub async fn figures(
        &self,
        storefront: Option<&Storefront>,
        first_day: i64,
        limit: u32,
    ) -> Result<(Vec<Figure>, i64), StoreError> {
        let mut session = self.reader_session().await?;
        let rows = session
            .fetch(
                "SELECT CASE WHEN day < $1 THEN 0 ELSE day END AS since, name, CAST(sum(amount) AS BIGINT)
                 FROM figures WHERE $2 = '' OR storefront = $2 GROUP BY since, name
                 UNION ALL
                 SELECT NULL, name, position FROM relay WHERE name = 'figures'",
                arguments![first_day, storefront.map_or("", Storefront::as_str)],
            )
            .await?;
        let (mut figure_sums, mut position) = (BTreeMap::<_, i64>::new(), 0);
        for row in &rows {
            let amount = row.integer(2)?;
            match row.maybe_integer(0)? {
                Some(day) => {
                    *figure_sums
                        .entry((day, row.text(1)?.to_owned()))
                        .or_default() += amount;
                }
                None => position = amount,
            }
        }
        if let Some(tail) = count_tail(&mut session, position, limit, MAX_PAGE_BYTES).await? {
            position = tail.reached_position;
            for ((event_day, storefront_name, name), amount) in tail.counts {
                if storefront.is_none_or(|storefront| storefront.as_str() == storefront_name) {
                    let since_day = if event_day < first_day { 0 } else { event_day };
                    *figure_sums.entry((since_day, name)).or_default() += amount;
                }
            }
        }
        let figures = figure_sums.into_iter();
        let figures = figures.map(|((day, name), amount)| Figure { day, name, amount });
        Ok((figures.collect(), position))
    }

    /// The pending work.
    ///
    /// # Errors
    /// When the database is unavailable.
    pub async fn backlog(&self, now: Timestamp) -> Result<Backlog, StoreError> {
        let retries = self.count_retries(MAX_COUNTED_RETRIES).await?;
        let mut session = self.primary_session().await?;
        // Steps whose message was just sent are not counted; there may be a million of them.
        let rows = session
            .fetch(
                "SELECT count(*), min(due_at) FROM (
                     SELECT due_at FROM steps WHERE publish_at <= $2 AND due_at <= $1 LIMIT 100000
                 ) AS due",
                arguments![millis(now), millis(latest_send_time(now))],
            )
            .await?;
        let due_row = rows.first();
        let oldest_due_ms = due_row
            .map(|row| row.maybe_integer(1))
            .transpose()?
            .flatten();
        let read_count = |rows: Vec<Row>| rows.first().map_or(Ok(0), |row| row.integer(0));
        let due_steps = due_row
            .map(|row| row.integer(0))
            .transpose()?
            .unwrap_or_default();
        let dead_letters_sql = "SELECT (SELECT count(*) FROM steps WHERE publish_at IS NULL)
                         + (SELECT count(*) FROM dead_letters)";
        let dead_letters = read_count(session.fetch(dead_letters_sql, Vec::new()).await?)?;
        let outbox_lag_sql = "SELECT coalesce((SELECT max(position) FROM events), 0) - position
                   FROM relay WHERE name = 'events'";
        let outbox_lag = read_count(session.fetch(outbox_lag_sql, Vec::new()).await?)?;
        Ok(Backlog {
            due_steps,
            oldest_due_at: oldest_due_ms.map(timestamp).transpose()?,
            dead_letters,
            retries,
            outbox_lag: outbox_lag.max(0),
        })
    }
}

/// Counts of events after the stored position.
struct TailCounts {
    counts: FigureCounts,
    /// Position of the last counted event.
    reached_position: i64,
    progress: CountingProgress,
}

/// Counts up to `limit` events after `position`, up to a size limit; `None` if there are no events.
async fn count_tail(
    session: &mut Session,
    position: i64,
    limit: u32,
    max_bytes: usize,
) -> Result<Option<TailCounts>, StoreError> {
    // The data of events that are not counted is not read.
    const NEXT_EVENTS_SQL: &str = "
        SELECT position, subject, time, storefront, type,
               CASE WHEN type IN ('order.created', 'order.cancelled', 'payment.captured',
                                  'payment.refunded', 'payment.refund_failed') THEN data END AS data
        FROM events WHERE position > $1 ORDER BY position LIMIT $2";
    let sql = Sql::texts(
        NEXT_EVENTS_SQL.to_owned(),
        bounded_sql(NEXT_EVENTS_SQL, max_bytes, "data", "position"),
    );
    let arguments = arguments![position, limit];
    let read_rows = session.fetch_within(max_bytes, sql, arguments).await?;
    let Some(last_event) = read_rows.rows.last() else {
        return Ok(None);
    };
    let (last_position, last_time) = (last_event.integer(0)?, timestamp(last_event.integer(2)?)?);
    let counted_events = readable_rows(&read_rows.rows, CountedEvent::read)?;
    let counted_events: Vec<_> = counted_events.into_iter().flatten().collect();
    let currencies = load_currencies(session, &counted_events).await?;
    Ok(Some(TailCounts {
        counts: count_figures(counted_events, &currencies),
        reached_position: last_position,
        progress: CountingProgress {
            progress: FeedProgress::of_read(&read_rows, limit),
            counted_until: Some(last_time),
        },
    }))
}

/// An event to count.
struct CountedEvent {
    subject: String,
    day: i64,
    storefront: String,
    kind: CountedKind,
}

/// The kind of count.
enum CountedKind {
    Created {
        is_imported: bool,
        /// Currency and total.
        currency_and_total: Option<(String, i64)>,
    },
    /// The status that the order reached.
    ReachedStatus(&'static str),
    /// The previous status, and the reason of the cancellation.
    Cancelled(OrderStatus, CancelReason),
    /// Captured minor units.
    Captured(i64),
    Refunded(i64),
}

impl CountedEvent {
    /// Decodes a row; `None` if its event is not counted.
    fn read(row: &Row) -> Result<Option<Self>, StoreError> {
        #[derive(Deserialize)]
        struct Created {
            #[serde(default)]
            awaits_stock: bool,
            currency: Option<String>,
            total: Option<i64>,
        }
        #[derive(Deserialize)]
        struct Cancelled {
            reason: CancelReason,
            #[serde(rename = "was")]
            previous_status: Option<OrderStatus>,
        }
        #[derive(Deserialize)]
        struct MovedAmount {
            amount: i64,
        }
        let Some(storefront_text) = row.maybe_text(3)? else {
            return Ok(None);
        };
        let event_data = row.maybe_text(5)?.unwrap_or_default();
        let amount_of_event =
            || parse_json::<MovedAmount>("event", event_data).map(|amount_data| amount_data.amount);
        let kind = match row.text(4)? {
            "order.created" => {
                let created: Created = parse_json("event", event_data)?;
                CountedKind::Created {
                    is_imported: created.awaits_stock,
                    currency_and_total: created.currency.zip(created.total),
                }
            }
            "order.processing" => CountedKind::ReachedStatus("processing"),
            "order.shipped" => CountedKind::ReachedStatus("shipped"),
            "order.delivered" => CountedKind::ReachedStatus("delivered"),
            "order.cancelled" => {
                let Cancelled {
                    reason,
                    previous_status,
                } = parse_json("event", event_data)?;
                CountedKind::Cancelled(previous_status.unwrap_or(OrderStatus::Pending), reason)
            }
            "payment.captured" => CountedKind::Captured(amount_of_event()?),
            "payment.refunded" => CountedKind::Refunded(amount_of_event()?),
            "payment.refund_failed" => CountedKind::Refunded(-amount_of_event()?),
            _ => return Ok(None),
        };
        Ok(Some(Self {
            subject: row.text(1)?.to_owned(),
            day: row.integer(2)?.div_euclid(DAY_MS),
            storefront: storefront_text.to_owned(),
            kind,
        }))
    }
}

/// The currencies of the orders of payment events, which don't contain a currency.
async fn load_currencies(
    session: &mut Session,
    events: &[CountedEvent],
) -> Result<HashMap<String, String>, StoreError> {
    #[derive(Deserialize)]
    struct OrderCurrency {
        currency: String,
    }

    let payment_events = events.iter().filter(|event| {
        matches!(
            event.kind,
            CountedKind::Captured(_) | CountedKind::Refunded(_)
        )
    });
    let order_ids: BTreeSet<&str> = payment_events.map(|event| event.subject.as_str()).collect();
    if order_ids.is_empty() {
        return Ok(HashMap::new());
    }
    let sql = among!("SELECT id, state FROM orders WHERE id", "");
    let rows = session.fetch(sql, vec![list(order_ids)]).await?;
    let currencies = readable_rows(&rows, |row| {
        let order: OrderCurrency = parse_json("order", row.text(1)?)?;
        Ok((row.text(0)?.to_owned(), order.currency))
    })?;
    Ok(currencies.into_iter().collect())
}

fn count_figures(events: Vec<CountedEvent>, currencies: &HashMap<String, String>) -> FigureCounts {
    let mut counts = FigureCounts::new();
    for event in events {
        let currency = || currencies.get(&event.subject).map_or("XXX", String::as_str);
        let (name, amount) = match event.kind {
            CountedKind::Created {
                is_imported,
                currency_and_total,
            } => {
                let mut add_figure = |name: String, amount: i64| {
                    let key = (event.day, event.storefront.clone(), name);
                    *counts.entry(key).or_default() += amount;
                };
                if is_imported {
                    add_figure("imported".to_owned(), 1);
                }
                if let Some((currency, total)) = currency_and_total {
                    add_figure(format!("orders.{currency}"), 1);
                    add_figure(format!("ordered.{currency}"), total);
                }
                ("created".to_owned(), 1)
            }
            CountedKind::ReachedStatus(status) => (status.to_owned(), 1),
            CountedKind::Cancelled(previous_status, reason) => (
                format!("cancelled.{}.{}", previous_status.as_str(), reason.as_str()),
                1,
            ),
            CountedKind::Captured(amount) => (format!("captured.{}", currency()), amount),
            CountedKind::Refunded(amount) => (format!("refunded.{}", currency()), amount),
        };
        *counts
            .entry((event.day, event.storefront, name))
            .or_default() += amount;
    }
    counts
}
