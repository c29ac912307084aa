//! Reads the whole database for [`order-worker verify`](crate::cli::verify): one snapshot, page by page, so
//! that memory use does not depend on the number of orders. A row that can't be decoded is a finding, not the
//! end of the audit.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::LazyLock,
};

use anyhow::Context;
use jiff::Timestamp;
use shared::{customer::Customer, event::Event, id::OrderId};

use crate::{
    domain::{api_key::ApiKey, order::Order, product::Product, step::StepRow, stock::ProductStock},
    store::{
        StoreError,
        feed::{events::last_assigned_position, feed_cursor::PositionedEvent},
        location, postgres,
        queries::api_keys::api_key_at,
        schema::Schema,
        sql::{
            byte_limit::{MAX_FORWARD_BYTES, bounded_sql},
            customer::{customer_at, search_key},
            decode::{
                add_stock_level, event_at, millis, parse_field, parse_json, parse_unsigned,
                read_step, select_events, select_steps, timestamp,
            },
            session::Session,
            statement::{Sql, among, arguments, list},
        },
        sqlite,
    },
};

/// A step whose message is overdue, or that belongs to no order.
#[derive(Debug, Clone)]
pub struct OverdueOrOrphanedStep {
    /// The step.
    pub row: StepRow,
    /// Time by which the step's message should have been sent.
    pub publish_at: Option<Timestamp>,
}

/// Reads the version of the database's schema, and the oldest program that may read it. `known_version` is the
/// newest version that this program knows.
async fn fetch_schema(snapshot: &mut Session, known_version: i64) -> Result<Schema, StoreError> {
    let version_sql = Sql::for_dialects(
        "SELECT user_version FROM pragma_user_version",
        "SELECT coalesce(max(version), 0) FROM _sqlx_migrations",
    );
    let version = fetch_number(snapshot, version_sql).await?;
    let needed_version = if version > known_version {
        fetch_number(snapshot, "SELECT max(version) FROM schema_needs".into()).await?
    } else {
        version
    };
    Ok(Schema {
        version,
        needed_version,
    })
}

async fn fetch_number(snapshot: &mut Session, sql: Sql) -> Result<i64, StoreError> {
    let rows = snapshot.fetch(sql, Vec::new()).await?;
    rows.first().map_or(Ok(0), |row| row.integer(0))
}

/// Begins a transaction that reads one moment of the database.
pub(in crate::store) fn begin_snapshot_sql() -> Sql {
    Sql::for_dialects("BEGIN", "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
}

/// Opens a connection to the database at `url`, in a transaction that reads a snapshot taken now.
///
/// # Errors
/// When the database does not exist or can't be read.
pub(in crate::store) async fn open_snapshot_session(url: &str) -> anyhow::Result<Session> {
    let (mut snapshot, known_version) = if postgres::is_postgres_url(url) {
        let session = postgres::open_audit_session(url, None).await?;
        (session, postgres::newest_schema())
    } else {
        let session = sqlite::open_audit_session(&sqlite::path(url)?)?;
        (session, sqlite::newest_schema())
    };
    let unreadable_message = || format!("can't read {}", location(url));
    snapshot
        .begin(begin_snapshot_sql())
        .await
        .with_context(unreadable_message)?;
    // The snapshot begins with the first read.
    let first_read = snapshot.fetch("SELECT position FROM relay", Vec::new());
    first_read.await.with_context(unreadable_message)?;
    let schema = fetch_schema(&mut snapshot, known_version)
        .await
        .with_context(unreadable_message)?;
    schema
        .check_readable(known_version)
        .with_context(unreadable_message)?;
    Ok(snapshot)
}

/// Selects up to `$2` orders with a number above `$1`, by number, up to a size limit: number, id and state.
pub(in crate::store) fn next_orders() -> Sql {
    const NEXT_ORDERS_SQL: &str =
        "SELECT number, id, state FROM orders WHERE number > $1 ORDER BY number LIMIT $2";
    static BOUNDED_ORDERS_SQL: LazyLock<String> =
        LazyLock::new(|| bounded_sql(NEXT_ORDERS_SQL, MAX_FORWARD_BYTES, "state", "number"));
    Sql::for_dialects(NEXT_ORDERS_SQL, &BOUNDED_ORDERS_SQL)
}

/// A row, or the reason why it can't be decoded.
pub type Audited<T> = Result<T, Unreadable>;

/// A row that can't be decoded.
#[derive(Debug, Clone)]
pub struct Unreadable {
    /// The subject of the row: the id of an order or a customer, a product's SKU.
    pub subject: String,
    /// The reason.
    pub reason: String,
}

/// Turns a corrupt row into a finding about `subject`. Any other error ends the audit.
pub(in crate::store) fn audited_row<T>(
    subject: &str,
    row: Result<T, StoreError>,
) -> Result<Audited<T>, StoreError> {
    match row {
        Ok(row) => Ok(Ok(row)),
        Err(StoreError::Corrupt(reason)) => Ok(Err(Unreadable {
            subject: subject.to_owned(),
            reason,
        })),
        Err(error) => Err(error),
    }
}

/// A customer, and what is stored about it elsewhere.
pub struct AuditedCustomer {
    /// The customer.
    pub customer: Customer,
    /// The sequence of its last event; 0 if it has none.
    pub last_sequence: u64,
    /// Whether its search keys are those of its name and e-mail address. Missing ones are still to be computed.
    pub has_current_search_keys: bool,
}

/// An API key and what is stored beside its state.
#[derive(Debug)]
pub struct AuditedApiKey {
    /// The key.
    pub key: ApiKey,
    /// The sequence of its last event; 0 if it has none.
    pub last_sequence: u64,
    /// Whether its columns are those of its state.
    pub has_current_columns: bool,
}

/// Selects up to `$2` customers with an id above `$1`, by id, up to a size limit.
fn next_customers() -> Sql {
    const NEXT_CUSTOMERS_SQL: &str = "SELECT id, state, version, profile, name_key, email_key,
                (SELECT max(sequence) FROM events WHERE subject = customers.id) AS last_sequence
         FROM customers WHERE id > $1 ORDER BY id LIMIT $2";
    static BOUNDED_CUSTOMERS_SQL: LazyLock<String> = LazyLock::new(|| {
        bounded_sql(
            NEXT_CUSTOMERS_SQL,
            MAX_FORWARD_BYTES,
            "state || coalesce(profile, '')",
            "id",
        )
    });
    Sql::for_dialects(NEXT_CUSTOMERS_SQL, &BOUNDED_CUSTOMERS_SQL)
}

/// A snapshot of the whole database: later changes are not visible in it. Workers may be running; nothing is
/// locked.
pub struct Audit {
    pub(super) snapshot: Session,
}

impl Audit {
    /// Opens the database of `url`.
    ///
    /// # Errors
    /// When it does not exist or can't be read.
    pub async fn open(url: &str) -> anyhow::Result<Self> {
        let snapshot = open_snapshot_session(url).await?;
        Ok(Self { snapshot })
    }

    /// Up to `limit` orders with a number above `after_number`, by number, up to a size limit.
    ///
    /// # Errors
    /// When the database is unavailable, or a row can't be decoded.
    pub async fn orders(
        &mut self,
        after_number: i64,
        limit: u32,
    ) -> Result<Vec<(i64, Audited<Order>)>, StoreError> {
        let arguments = arguments![after_number, limit];
        let read_rows = self
            .snapshot
            .fetch_within(MAX_FORWARD_BYTES, next_orders(), arguments);
        let read_rows = read_rows.await?;
        let orders = read_rows.rows.iter().map(|row| {
            let order = parse_json("order", row.text(2)?);
            Ok((row.integer(0)?, audited_row(row.text(1)?, order)?))
        });
        orders.collect()
    }

    /// The tags by which the orders with these numbers are listed.
    ///
    /// # Errors
    /// When the database can't be read.
    pub async fn order_tags(
        &mut self,
        order_numbers: &[i64],
    ) -> Result<HashMap<i64, BTreeSet<String>>, StoreError> {
        let sql = Sql::for_dialects(
            "SELECT number, tag FROM order_tags WHERE number IN (SELECT value FROM json_each($1))",
            "SELECT number, tag FROM order_tags
             WHERE number IN (SELECT json_array_elements_text($1::json)::bigint)",
        );
        let numbers_json = serde_json::to_string(order_numbers)
            .map_err(|error| StoreError::Failed(error.to_string()))?;
        let mut tags_by_number: HashMap<i64, BTreeSet<String>> = HashMap::new();
        for row in self.snapshot.fetch(sql, arguments![numbers_json]).await? {
            let tags_of_order = tags_by_number.entry(row.integer(0)?).or_default();
            tags_of_order.insert(row.text(1)?.to_owned());
        }
        Ok(tags_by_number)
    }

    /// Up to `limit` customers with an id above `after_id`, by id, up to a size limit.
    ///
    /// # Errors
    /// When the database is unavailable.
    pub async fn customers(
        &mut self,
        after_id: &str,
        limit: u32,
    ) -> Result<Vec<(String, Audited<AuditedCustomer>)>, StoreError> {
        let arguments = arguments![after_id, limit];
        let read_rows = self
            .snapshot
            .fetch_within(MAX_FORWARD_BYTES, next_customers(), arguments);
        let rows = read_rows.await?.rows;
        let customers = rows.iter().map(|row| {
            let customer_id = row.text(0)?;
            let customer = customer_at(row, 1).and_then(|customer| {
                let stored_search_keys = (row.maybe_text(4)?, row.maybe_text(5)?);
                let (name_key, email_key) =
                    (search_key(&customer.name), search_key(&customer.email));
                Ok(AuditedCustomer {
                    last_sequence: parse_unsigned("sequence", row.maybe_integer(6)?.unwrap_or(0))?,
                    has_current_search_keys: stored_search_keys.1.is_none()
                        || stored_search_keys == (Some(&*name_key), Some(&*email_key)),
                    customer,
                })
            });
            Ok((customer_id.to_owned(), audited_row(customer_id, customer)?))
        });
        customers.collect()
    }

    /// All API keys, by id.
    ///
    /// # Errors
    /// When the database is unavailable.
    pub async fn api_keys(&mut self) -> Result<Vec<(String, Audited<AuditedApiKey>)>, StoreError> {
        let sql = "SELECT state, last_used_at, id, digest, expires_at, revoked_at,
                          (SELECT max(sequence) FROM events WHERE subject = api_keys.id)
                   FROM api_keys ORDER BY id";
        let rows = self.snapshot.fetch(sql, Vec::new()).await?;
        let audited_keys = rows.iter().map(|row| {
            let key_id = row.text(2)?;
            let key = api_key_at(row).and_then(|key| {
                let columns = (row.text(3)?, row.maybe_integer(4)?, row.maybe_integer(5)?);
                Ok(AuditedApiKey {
                    last_sequence: parse_unsigned("sequence", row.maybe_integer(6)?.unwrap_or(0))?,
                    has_current_columns: columns
                        == (
                            key.digest.as_str(),
                            key.expires_at.map(millis),
                            key.revoked_at.map(millis),
                        ),
                    key,
                })
            });
            Ok((key_id.to_owned(), audited_row(key_id, key)?))
        });
        audited_keys.collect()
    }

    /// Orders whose events were partly deleted after their retention period.
    ///
    /// # Errors
    /// When the database is unavailable.
    pub async fn condensed_orders(&mut self) -> Result<HashSet<OrderId>, StoreError> {
        let sql = "SELECT id FROM orders WHERE condensed_at IS NOT NULL";
        let rows = self.snapshot.fetch(sql, Vec::new()).await?;
        rows.iter()
            .map(|row| parse_field("id", row.text(0)?))
            .collect()
    }

    /// The rows of the returns of orders: the order's id, and the return's id with the other columns as one text.
    ///
    /// # Errors
    /// When the database is unavailable, or an order's id can't be decoded.
    pub async fn returns(
        &mut self,
        order_ids: &[OrderId],
    ) -> Result<Vec<(OrderId, (String, String))>, StoreError> {
        let sql = among!(
            "SELECT order_id, id, storefront, status, created_at FROM order_returns WHERE order_id",
            ""
        );
        let rows = self.snapshot.fetch(sql, vec![list(order_ids)]).await?;
        let returns = rows.iter().map(|row| {
            let columns = format!("{} {} {}", row.text(2)?, row.text(3)?, row.integer(4)?);
            let order_id = parse_field("order_id", row.text(0)?)?;
            Ok((order_id, (row.text(1)?.to_owned(), columns)))
        });
        returns.collect()
    }

    /// Ids of the rows of returns that have no order.
    ///
    /// # Errors
    /// When the database is unavailable.
    pub async fn orphaned_returns(&mut self) -> Result<Vec<String>, StoreError> {
        let sql = "SELECT id FROM order_returns
                   WHERE NOT EXISTS (SELECT 1 FROM orders WHERE orders.id = order_returns.order_id)
                   ORDER BY id";
        let rows = self.snapshot.fetch(sql, Vec::new()).await?;
        rows.iter().map(|row| Ok(row.text(0)?.to_owned())).collect()
    }

    /// All events of `subjects`, ordered by subject and sequence.
    ///
    /// # Errors
    /// When the database is unavailable, or a row can't be decoded.
    pub async fn events(&mut self, subjects: &[String]) -> Result<Vec<Audited<Event>>, StoreError> {
        let sql = among!(
            select_events!("WHERE subject"),
            "ORDER BY subject, sequence"
        );
        let rows = self.snapshot.fetch(sql, vec![list(subjects)]).await?;
        rows.iter()
            .map(|row| audited_row(row.text(2)?, event_at(row).map(|(_, event)| event)))
            .collect()
    }

    /// Up to `limit` events after `after_position` that change stock levels.
    ///
    /// # Errors
    /// When the database is unavailable, or a row can't be decoded.
    pub async fn stock_events(
        &mut self,
        after_position: i64,
        limit: u32,
    ) -> Result<Vec<(i64, Audited<PositionedEvent>)>, StoreError> {
        let rows = self
            .snapshot
            .fetch(
                select_events!(
                    "WHERE position > $1
                       AND type IN ('stock.reserved', 'stock.released', 'stock.adjusted', 'shipment.shipped', 'shipment.returned',
                                    'return.received')
                     ORDER BY position
                     LIMIT $2"
                ),
                arguments![after_position, limit],
            )
            .await?;
        rows.iter()
            .map(|row| {
                let event =
                    event_at(row).map(|(position, event)| PositionedEvent { position, event });
                Ok((row.integer(0)?, audited_row(row.text(2)?, event)?))
            })
            .collect()
    }

    /// All products.
    ///
    /// # Errors
    /// When the database is unavailable, or a row can't be decoded.
    pub async fn products(&mut self) -> Result<Vec<Product>, StoreError> {
        let rows = self
            .snapshot
            .fetch("SELECT state FROM products ORDER BY sku", Vec::new())
            .await?;
        rows.iter()
            .map(|row| parse_json("product", row.text(0)?))
            .collect()
    }

    /// All stock levels.
    ///
    /// # Errors
    /// When the database is unavailable, or a row can't be decoded.
    pub async fn stock_levels(&mut self) -> Result<ProductStock, StoreError> {
        let rows = self
            .snapshot
            .fetch(
                "SELECT sku, warehouse, on_hand, reserved FROM shelves",
                Vec::new(),
            )
            .await?;
        let mut stock_levels = ProductStock::new();
        for row in rows {
            add_stock_level(&row, &mut stock_levels)?;
        }
        Ok(stock_levels)
    }

    /// Subjects of `order.created` events whose order does not exist.
    ///
    /// # Errors
    /// When the database is unavailable.
    pub async fn ids_of_missing_orders(&mut self) -> Result<Vec<String>, StoreError> {
        let rows = self
            .snapshot
            .fetch(
                "SELECT subject FROM events
                 WHERE type = 'order.created' AND NOT EXISTS (SELECT 1 FROM orders WHERE orders.id = events.subject)
                 ORDER BY position",
                Vec::new(),
            )
            .await?;
        rows.iter().map(|row| Ok(row.text(0)?.to_owned())).collect()
    }

    /// Feed consumers whose position is beyond the end of the feed.
    ///
    /// # Errors
    /// When the database is unavailable.
    pub async fn consumers_ahead_of_feed(&mut self) -> Result<Vec<String>, StoreError> {
        let feed_end = last_assigned_position(&mut self.snapshot).await?;
        let sql = "SELECT name FROM relay WHERE name <> 'probe' AND position > $1 ORDER BY name";
        let rows = self.snapshot.fetch(sql, arguments![feed_end]).await?;
        rows.iter().map(|row| Ok(row.text(0)?.to_owned())).collect()
    }

    /// Steps that should have been sent before `deadline`, and steps without an order.
    ///
    /// # Errors
    /// When the database is unavailable, or a row can't be decoded.
    pub async fn overdue_or_orphaned_steps(
        &mut self,
        deadline: Timestamp,
    ) -> Result<Vec<OverdueOrOrphanedStep>, StoreError> {
        let rows = self
            .snapshot
            .fetch(
                select_steps!(
                    "WHERE publish_at < $1 OR NOT EXISTS (SELECT 1 FROM orders WHERE orders.id = steps.order_id)
                     ORDER BY due_at"
                ),
                arguments![millis(deadline)],
            )
            .await?;
        rows.iter()
            .map(|row| {
                let publish_at = row.maybe_integer(5)?.map(timestamp).transpose()?;
                Ok(OverdueOrOrphanedStep {
                    row: read_step(row)?,
                    publish_at,
                })
            })
            .collect()
    }

    /// All steps by order.
    ///
    /// # Errors
    /// When the database is unavailable, or a row can't be decoded.
    pub async fn all_steps(&mut self) -> Result<HashMap<OrderId, Vec<StepRow>>, StoreError> {
        let rows = self.snapshot.fetch(select_steps!(""), Vec::new()).await?;
        let mut steps_by_order: HashMap<OrderId, Vec<StepRow>> = HashMap::new();
        for row in &rows {
            let step_row = read_step(row)?;
            steps_by_order
                .entry(step_row.key.order_id)
                .or_default()
                .push(step_row);
        }
        Ok(steps_by_order)
    }
}
