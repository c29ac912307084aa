//! Counts work for an operator, within bounded time: no count reads more than a fixed number of rows.
//!
//! The fields of orders and products are compared as text, so that a state that can't be decoded does no harm. The
//! first occurrence of a name is the field itself: the fields before it have known names, and a text in JSON has no
//! quotation mark without a backslash.

use shared::{
    id::Storefront,
    order::{OrderStatus, ReturnStatus},
    stats::Attention,
};

use crate::{
    domain::payment::MANUAL,
    store::{
        Store, StoreError,
        sql::{
            index_prefix::IndexPrefix,
            session::Session,
            statement::{Argument, Sql, SqlDialect, StatementBuilder},
        },
    },
};

/// Maximum of each number, and of the pending orders that are read.
const MAX_COUNT: u32 = 10_000;
/// Maximum number of products whose stock is compared with their threshold.
const MAX_COMPARED_PRODUCTS: u32 = 100_000;

/// The functions that differ between the databases.
struct Dialect {
    /// The database of these texts.
    database: SqlDialect,
    /// Finds a text in a text.
    position_function: &'static str,
    /// The threshold of low stock in a product's state.
    threshold_sql: &'static str,
    /// The condition of the index `products_with_threshold`.
    has_threshold_sql: &'static str,
}

const SQLITE_DIALECT: Dialect = Dialect {
    database: SqlDialect::Sqlite,
    position_function: "instr",
    threshold_sql: r#"CAST(substr(state, instr(state, '"low_stock_at":') + 15, 19) AS INTEGER)"#,
    has_threshold_sql: r#"instr(state, '"low_stock_at":') > 0"#,
};
const POSTGRES_DIALECT: Dialect = Dialect {
    database: SqlDialect::Postgres,
    position_function: "strpos",
    threshold_sql: r#"CAST(substring(state FROM '"low_stock_at":([0-9]+)') AS BIGINT)"#,
    has_threshold_sql: r#"strpos(state, '"low_stock_at":') > 0"#,
};

impl Store {
    /// Work for an operator: that of one storefront, or of all. Products belong to all storefronts.
    ///
    /// # Errors
    /// When the database is unavailable.
    pub async fn attention(
        &self,
        storefront: Option<&Storefront>,
    ) -> Result<Attention, StoreError> {
        let mut session = self.reader_session().await?;
        let [orders_awaiting_approval, outstanding_payments] =
            read_counts(&mut session, count_pending_orders(storefront)).await?;
        let [requested_returns] =
            read_counts(&mut session, count_requested_returns(storefront)).await?;
        let [low_stock_products] = read_counts(&mut session, count_low_stock_products()).await?;
        Ok(Attention {
            low_stock_products,
            requested_returns,
            orders_awaiting_approval,
            outstanding_payments,
        })
    }
}

/// Reads the numbers in the first row.
async fn read_counts<const N: usize>(
    session: &mut Session,
    (sql, arguments): (Sql, Vec<Argument>),
) -> Result<[i64; N], StoreError> {
    let rows = session.fetch(sql, arguments).await?;
    let mut counts = [0; N];
    if let Some(row) = rows.first() {
        for (index, count) in counts.iter_mut().enumerate() {
            *count = row.integer(index)?;
        }
    }
    Ok(counts)
}

/// The statement in both dialects.
fn in_both_dialects(
    statement: impl Fn(&Dialect) -> (String, Vec<Argument>),
) -> (Sql, Vec<Argument>) {
    let (sqlite_sql, arguments) = statement(&SQLITE_DIALECT);
    let (postgres_sql, _) = statement(&POSTGRES_DIALECT);
    (Sql::texts(sqlite_sql, postgres_sql), arguments)
}

fn count_pending_orders(storefront: Option<&Storefront>) -> (Sql, Vec<Argument>) {
    in_both_dialects(|dialect| {
        let position_function = dialect.position_function;
        let outstanding_text = format!(r#"pending","provider":"{MANUAL}""#);
        let mut sql = StatementBuilder::new(
            "SELECT count(CASE WHEN awaits_approval THEN 1 END), count(CASE WHEN is_outstanding THEN 1 END) FROM (SELECT ",
        );
        sql.push("substr(state, ").push(position_function).push(
            r#"(state, '"awaits_approval":') + 18, 4) = 'true' AS awaits_approval, substr(state, "#,
        );
        sql.push(position_function)
            .push(r#"(state, '"payment":{"status":"') + 21, CAST("#);
        sql.bind(i64::try_from(outstanding_text.len()).unwrap_or_default());
        sql.push(" AS INTEGER)) = ").bind(outstanding_text);
        sql.push(" AS is_outstanding FROM orders WHERE NOT is_deleted");
        let pending_status = OrderStatus::Pending.as_str();
        push_storefront_and_status(&mut sql, dialect, storefront, pending_status)
            .push_order_of_index(&mut sql);
        sql.push(" LIMIT ").bind(MAX_COUNT).push(") AS pending");
        sql.finish()
    })
}

fn count_requested_returns(storefront: Option<&Storefront>) -> (Sql, Vec<Argument>) {
    in_both_dialects(|dialect| {
        let mut sql = StatementBuilder::new(
            "SELECT count(*) FROM (SELECT 1 FROM order_returns
             WHERE EXISTS (SELECT 1 FROM orders WHERE orders.id = order_returns.order_id AND NOT is_deleted)",
        );
        let requested_status = ReturnStatus::Requested.as_str();
        push_storefront_and_status(&mut sql, dialect, storefront, requested_status)
            .push_order_of_index(&mut sql);
        sql.push(" LIMIT ").bind(MAX_COUNT).push(") AS requested");
        sql.finish()
    })
}

fn count_low_stock_products() -> (Sql, Vec<Argument>) {
    in_both_dialects(|dialect| {
        let mut sql = StatementBuilder::new("SELECT count(*) FROM (SELECT 1 FROM (SELECT sku, ");
        sql.push(dialect.threshold_sql)
            .push(" AS threshold FROM products WHERE NOT is_deleted AND ")
            .push(dialect.has_threshold_sql);
        sql.push(" LIMIT ").bind(MAX_COMPARED_PRODUCTS);
        sql.push(") AS watched WHERE coalesce((SELECT sum(on_hand - reserved) FROM shelves WHERE shelves.sku = watched.sku), 0) <= threshold");
        sql.push(" LIMIT ").bind(MAX_COUNT).push(") AS low");
        sql.finish()
    })
}

/// Adds the conditions of the storefront and the status, in the order of the columns of their index.
fn push_storefront_and_status(
    sql: &mut StatementBuilder,
    dialect: &Dialect,
    storefront: Option<&Storefront>,
    status: &'static str,
) -> IndexPrefix {
    let mut index_prefix = IndexPrefix::new(dialect.database);
    if let Some(storefront) = storefront {
        index_prefix.push_condition(sql, "storefront", storefront.to_string());
    }
    index_prefix.push_condition(sql, "status", status);
    index_prefix
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::sqlite;

    #[test]
    fn counts_use_indexes() {
        let connection = sqlite::in_memory();
        let eu_storefront: Storefront = "eu".parse().unwrap();
        for (statement, expected_index) in [
            (count_pending_orders(None), "orders_by_status (status=?"),
            (
                count_pending_orders(Some(&eu_storefront)),
                "orders_by_storefront_and_status (storefront=? AND status=?",
            ),
            (count_requested_returns(None), "returns_by_status (status=?"),
            (
                count_requested_returns(Some(&eu_storefront)),
                "returns_by_storefront_and_status (storefront=? AND status=?",
            ),
            (count_low_stock_products(), "products_with_threshold"),
        ] {
            let (sql, arguments) = statement;
            let plan_steps = sqlite::query_plan(&connection, sql.sqlite(), arguments);
            assert!(
                plan_steps
                    .iter()
                    .any(|plan_step| plan_step.contains(expected_index)),
                "{plan_steps:?}"
            );
        }
    }
}
