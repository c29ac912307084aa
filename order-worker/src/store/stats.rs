//! Figures, counted from the feed apart from what is decided: by day, storefront and what is counted. One
//! worker at a time counts on from where the last one ended.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;
use shared::{
    event::{Event, Fact},
    id::{OrderId, Storefront},
    order::OrderStatus,
};

use super::{
    Store, StoreError,
    bulk::{Kind, Write},
    database::{Session, Sql, among, arguments, list},
    row::{event, json, millis, select_events, timestamp},
};
use crate::domain::order::Order;

/// Milliseconds of a day.
const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// A figure: so many, or minor units, of `name` on a day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Figure {
    /// Days since 1970-01-01.
    pub day: i64,
    /// What is counted: `created`, `cancelled.pending.out_of_stock`, `captured.EUR`…
    pub name: String,
    /// How many.
    pub amount: i64,
}

/// What waits in the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backlog {
    /// Steps whose time has come.
    pub due_steps: i64,
    /// Since when the oldest of them is due.
    pub oldest_due_at: Option<Timestamp>,
    /// Dead steps and archived messages.
    pub dead_letters: i64,
    /// Events that are not published yet.
    pub outbox_lag: i64,
}

type Counts = BTreeMap<(i64, String, String), i64>;

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
    columns: &[Kind::Integer, Kind::Text, Kind::Text, Kind::Integer],
};

impl Store {
    /// Counts up to `limit` events behind those that were counted before; tells how many. None if another
    /// worker is at it.
    ///
    /// # Errors
    /// When the database is away; then nothing was counted.
    pub async fn count_events(&self, limit: u32) -> Result<usize, StoreError> {
        let mut session = self.transaction().await?;
        let sql = Sql::dialects(
            "SELECT position FROM relay WHERE name = 'figures'",
            "SELECT position FROM relay WHERE name = 'figures' FOR UPDATE SKIP LOCKED",
        );
        let rows = session.fetch(sql, Vec::new()).await?;
        let Some(position) = rows.first().map(|row| row.integer(0)).transpose()? else {
            return Ok(0);
        };
        let rows = session
            .fetch(
                select_events!("WHERE position > $1 ORDER BY position LIMIT $2"),
                arguments![position, limit],
            )
            .await?;
        let events = rows.iter().map(event).collect::<Result<Vec<_>, _>>()?;
        let Some((reached, _)) = events.last() else {
            return Ok(0);
        };
        let currencies = currencies(&mut session, &events).await?;
        let counts = counted(&events, &currencies);
        let rows = counts
            .into_iter()
            .map(|((day, storefront, name), amount)| arguments![day, storefront, name, amount]);
        session.write(ADD_FIGURES, rows.collect()).await?;
        let sql = "UPDATE relay SET position = $1 WHERE name = 'figures'";
        session.execute(sql, arguments![*reached]).await?;
        session.commit().await?;
        Ok(events.len())
    }

    /// All figures since `day`, and the sums of all days before as those of day 0; and the position up to
    /// which events are counted.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn figures(
        &self,
        storefront: Option<&Storefront>,
        day: i64,
    ) -> Result<(Vec<Figure>, i64), StoreError> {
        let mut session = self.reader().await?;
        let rows = session
            .fetch(
                "SELECT CASE WHEN day < $1 THEN 0 ELSE day END AS since, name, CAST(sum(amount) AS BIGINT)
                 FROM figures WHERE $2 = '' OR storefront = $2 GROUP BY since, name",
                arguments![day, storefront.map_or("", Storefront::as_str)],
            )
            .await?;
        let figures = rows.iter().map(|row| {
            Ok(Figure {
                day: row.integer(0)?,
                name: row.text(1)?.to_owned(),
                amount: row.integer(2)?,
            })
        });
        let figures = figures.collect::<Result<_, StoreError>>()?;
        let rows = session
            .fetch(
                "SELECT position FROM relay WHERE name = 'figures'",
                Vec::new(),
            )
            .await?;
        let position = rows.first().map(|row| row.integer(0)).transpose()?;
        Ok((figures, position.unwrap_or_default()))
    }

    /// What waits.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn backlog(&self, now: Timestamp) -> Result<Backlog, StoreError> {
        let mut session = self.primary().await?;
        // Sent is as good as due: its message is on its way. A million of them need not be counted.
        let rows = session
            .fetch(
                "SELECT count(*), min(due_at) FROM (
                     SELECT due_at FROM steps
                     WHERE publish_at IS NOT NULL AND due_at <= $1 LIMIT 100000
                 ) AS due",
                arguments![millis(now)],
            )
            .await?;
        let due = rows.first();
        let oldest = due.map(|row| row.maybe_integer(1)).transpose()?.flatten();
        let count =
            |rows: Vec<super::database::Row>| rows.first().map_or(Ok(0), |row| row.integer(0));
        let due_steps = due
            .map(|row| row.integer(0))
            .transpose()?
            .unwrap_or_default();
        let dead = "SELECT (SELECT count(*) FROM steps WHERE publish_at IS NULL)
                         + (SELECT count(*) FROM dead_letters)";
        let dead_letters = count(session.fetch(dead, Vec::new()).await?)?;
        let lag = "SELECT coalesce((SELECT max(position) FROM events), 0) - position
                   FROM relay WHERE name = 'events'";
        let outbox_lag = count(session.fetch(lag, Vec::new()).await?)?;
        Ok(Backlog {
            due_steps,
            oldest_due_at: oldest.map(timestamp).transpose()?,
            dead_letters,
            outbox_lag: outbox_lag.max(0),
        })
    }
}

/// Money's events don't say in what: their orders do.
async fn currencies(
    session: &mut Session,
    events: &[(i64, Event)],
) -> Result<HashMap<String, String>, StoreError> {
    let moved = events.iter().filter(|(_, event)| moves_money(&event.fact));
    let mut ids: Vec<&str> = moved.map(|(_, event)| event.subject.as_str()).collect();
    ids.sort_unstable();
    ids.dedup();
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let sql = among!("SELECT state FROM orders WHERE id", "");
    let rows = session.fetch(sql, vec![list(ids)]).await?;
    let currencies = rows.iter().map(|row| {
        let order: Order = json("order", row.text(0)?)?;
        let id: OrderId = order.id;
        Ok((id.to_string(), order.currency.as_str().to_owned()))
    });
    currencies.collect()
}

fn moves_money(fact: &Fact) -> bool {
    matches!(
        fact,
        Fact::PaymentCaptured { .. } | Fact::PaymentRefunded { .. } | Fact::RefundFailed { .. }
    )
}

fn counted(events: &[(i64, Event)], currencies: &HashMap<String, String>) -> Counts {
    let mut counts = Counts::new();
    for (_, event) in events {
        let Some(storefront) = &event.storefront else {
            continue;
        };
        let day = millis(event.time).div_euclid(DAY_MS);
        let mut add = |name: String, amount: i64| {
            let key = (day, storefront.as_str().to_owned(), name);
            *counts.entry(key).or_default() += amount;
        };
        let currency = || currencies.get(&event.subject).map_or("XXX", String::as_str);
        match &event.fact {
            Fact::OrderCreated(created) => {
                add("created".to_owned(), 1);
                if created.awaits_stock {
                    add("imported".to_owned(), 1);
                }
            }
            Fact::OrderProcessing {} => add("processing".to_owned(), 1),
            Fact::OrderShipped {} => add("shipped".to_owned(), 1),
            Fact::OrderDelivered {} => add("delivered".to_owned(), 1),
            Fact::OrderCancelled { reason, was, .. } => {
                let was = was.unwrap_or(OrderStatus::Pending);
                add(format!("cancelled.{}.{}", was.as_str(), reason.as_str()), 1);
            }
            Fact::PaymentCaptured { amount } => add(format!("captured.{}", currency()), *amount),
            Fact::PaymentRefunded { amount } => add(format!("refunded.{}", currency()), *amount),
            Fact::RefundFailed { amount } => add(format!("refunded.{}", currency()), -amount),
            _ => {}
        }
    }
    counts
}
