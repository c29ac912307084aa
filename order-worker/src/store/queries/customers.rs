//! Reads of customers: one, a list, and those that a search finds.
//!
//! A search compares names and e-mail addresses in lower case ([`search_key`]). Each has an index, for all
//! customers and for those of a storefront.

use shared::{
    customer::{Customer, ListCustomers},
    id::{CustomerId, Storefront},
    page::Rows,
};

use crate::store::{
    Store, StoreError,
    sql::{
        byte_limit::{MAX_PAGE_BYTES, bounded_sql},
        customer::{customer_at, prefix_end, search_key},
        decode::{parse_json, readable_rows},
        index_prefix::IndexPrefix,
        row::Row,
        statement::{Argument, Sql, SqlDialect, StatementBuilder, among, arguments, list},
    },
};

/// Number of the newest customers that a search compares one by one before it reads all that match. If many
/// customers match, the newest of them are found among these.
const SCANNED_CUSTOMERS: i64 = 2_000;

/// A term that orders or customers are searched by.
pub(super) struct SearchTerm {
    exact_text: String,
    /// The first key of the names and e-mail addresses that begin with the term.
    lowest_search_key: String,
    /// The end of their keys, exclusive; `None` if there is no end.
    search_keys_end: Option<String>,
}

impl SearchTerm {
    /// The term, without white space at its ends.
    pub(super) fn from_text(search_text: &str) -> Self {
        let exact_term = search_text.trim().to_owned();
        let lowest_search_key = search_key(&exact_term);
        Self {
            search_keys_end: prefix_end(&lowest_search_key),
            lowest_search_key,
            exact_text: exact_term,
        }
    }

    /// The term as it was given.
    pub(super) fn exact(&self) -> &str {
        &self.exact_text
    }

    /// The term as a tracking number, which is stored in lower case.
    pub(super) fn tracking_number(&self) -> String {
        self.exact_text.to_ascii_lowercase()
    }

    /// The term as the number of an order: `12` or `#12`.
    pub(super) fn order_number(&self) -> Option<i64> {
        let digits = self
            .exact_text
            .strip_prefix('#')
            .unwrap_or(&self.exact_text);
        let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
        digits.parse().ok().filter(|_| is_number)
    }

    /// Adds a statement for the ids of the customers whose name begins with the term.
    pub(super) fn push_customers_by_name(
        &self,
        statement: &mut StatementBuilder,
        storefront: Option<&Storefront>,
    ) {
        self.push_customers(statement, storefront, "name_key");
    }

    /// Adds a statement for the ids of the customers whose e-mail address begins with the term.
    pub(super) fn push_customers_by_email(
        &self,
        statement: &mut StatementBuilder,
        storefront: Option<&Storefront>,
    ) {
        self.push_customers(statement, storefront, "email_key");
    }

    fn push_customers(
        &self,
        statement: &mut StatementBuilder,
        storefront: Option<&Storefront>,
        column: &'static str,
    ) {
        statement.push("SELECT id FROM customers WHERE ");
        if let Some(storefront) = storefront {
            statement
                .push("storefront = ")
                .bind(storefront.to_string())
                .push(" AND ");
        }
        self.push_range(statement, column);
    }

    /// Adds the condition that a customer's name or e-mail address begins with the term. The columns are
    /// expressions, so that their indexes are not used.
    pub(super) fn push_customer_condition(&self, statement: &mut StatementBuilder) {
        self.push_range(statement, "name_key || ''");
        statement.push(" OR ");
        self.push_range(statement, "email_key || ''");
    }

    fn push_range(&self, statement: &mut StatementBuilder, column: &'static str) {
        statement
            .push(column)
            .push(" >= ")
            .bind(self.lowest_search_key.as_str());
        if let Some(key_end) = &self.search_keys_end {
            statement
                .push(" AND ")
                .push(column)
                .push(" < ")
                .bind(key_end.as_str());
        }
    }
}

/// The customers that a statement for a list of customers reads.
#[derive(Clone, Copy)]
enum ReadRange<'a> {
    /// All that match.
    All,
    /// Those that match among the newest, down to this id.
    NewestDownTo(&'a str),
}

impl Store {
    /// One customer.
    ///
    /// # Errors
    /// When the database is unavailable.
    pub async fn customer(&self, id: CustomerId) -> Result<Option<Customer>, StoreError> {
        let mut session = self.reader_session().await?;
        let rows = session
            .fetch(
                "SELECT state, version, profile FROM customers WHERE id = $1",
                arguments![id.to_string()],
            )
            .await?;
        rows.first().map(|row| customer_at(row, 0)).transpose()
    }

    /// The customers among `ids`, without the values that have columns of their own. A customer that can't be
    /// decoded is left out.
    ///
    /// # Errors
    /// When the database is unavailable.
    pub async fn customers_by_id(&self, ids: &[CustomerId]) -> Result<Vec<Customer>, StoreError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let mut session = self.reader_session().await?;
        let sql = among!("SELECT state FROM customers WHERE id", "");
        let rows = session.fetch(sql, vec![list(ids)]).await?;
        readable_rows(&rows, |row| parse_json("customer", row.text(0)?))
    }

    /// Up to `filter.limit + 1` customers, newest first, up to a size limit.
    ///
    /// # Errors
    /// When the database is unavailable.
    pub async fn customers(&self, filter: &ListCustomers) -> Result<Rows<Customer>, StoreError> {
        let mut session = self.reader_session().await?;
        let mut search_scan_end = None;
        if filter.q.is_some() && filter.email.is_none() {
            let (sql, arguments) = select_scan_end(filter);
            let rows = session.fetch(sql, arguments).await?;
            let scan_end = rows.first().map(|row| row.text(0).map(str::to_owned));
            // Without an end there are few customers, and all are scanned.
            search_scan_end = Some(scan_end.transpose()?);
        }
        if let Some(scan_end) = &search_scan_end {
            let newest_customers = ReadRange::NewestDownTo(scan_end.as_deref().unwrap_or_default());
            let (sql, arguments) = select_customers(filter, newest_customers);
            let rows = session.fetch_within(MAX_PAGE_BYTES, sql, arguments).await?;
            if scan_end.is_none() || rows.ends_early || rows.rows.len() > filter.limit as usize {
                return rows.read(read_customers);
            }
        }
        let (sql, arguments) = select_customers(filter, ReadRange::All);
        let rows = session.fetch_within(MAX_PAGE_BYTES, sql, arguments).await?;
        rows.read(read_customers)
    }
}

fn read_customers(rows: &[Row]) -> Result<Vec<Customer>, StoreError> {
    rows.iter().map(|row| customer_at(row, 1)).collect()
}

/// The statement for the id up to which a search compares customers one by one. It returns no row if there
/// are fewer customers.
fn select_scan_end(filter: &ListCustomers) -> (Sql, Vec<Argument>) {
    Sql::for_each_dialect(|dialect| {
        let mut statement = StatementBuilder::new("SELECT id FROM customers WHERE true");
        let index_prefix = push_filters(&mut statement, filter, dialect, false);
        index_prefix.push_order_by(&mut statement, " DESC");
        statement
            .push("id DESC LIMIT 1 OFFSET ")
            .bind(SCANNED_CUSTOMERS);
        statement.finish()
    })
}

fn select_customers(filter: &ListCustomers, read_range: ReadRange<'_>) -> (Sql, Vec<Argument>) {
    let (sqlite_sql, arguments) = customers_page_sql(filter, read_range, SqlDialect::Sqlite);
    let (postgres_sql, _) = customers_page_sql(filter, read_range, SqlDialect::Postgres);
    let size_column = "state || coalesce(profile, '')";
    let bounded_postgres_sql = bounded_sql(&postgres_sql, MAX_PAGE_BYTES, size_column, "id DESC");
    (Sql::texts(sqlite_sql, bounded_postgres_sql), arguments)
}

fn customers_page_sql(
    filter: &ListCustomers,
    read_range: ReadRange<'_>,
    dialect: SqlDialect,
) -> (String, Vec<Argument>) {
    let mut statement =
        StatementBuilder::new("SELECT id, state, version, profile FROM customers WHERE true");
    let search_term = filter.q.as_deref().map(SearchTerm::from_text);
    let uses_search_index =
        filter.email.is_some() || (search_term.is_some() && matches!(read_range, ReadRange::All));
    if let Some(email) = &filter.email {
        statement
            .push(" AND email_key = ")
            .bind(search_key(email.trim()));
    }
    match (search_term, read_range) {
        (Some(term), ReadRange::All) if filter.email.is_none() => {
            let storefront = filter.storefront.as_ref();
            statement.push(" AND id IN (");
            term.push_customers_by_name(&mut statement, storefront);
            statement.push(" UNION ");
            term.push_customers_by_email(&mut statement, storefront);
            statement.push(")");
        }
        (Some(term), read_range) => {
            if let ReadRange::NewestDownTo(scan_end) = read_range {
                statement.push(" AND id >= ").bind(scan_end);
            }
            statement.push(" AND (");
            term.push_customer_condition(&mut statement);
            statement.push(")");
        }
        (None, _) => {}
    }
    let index_prefix = push_filters(&mut statement, filter, dialect, uses_search_index);
    index_prefix.push_order_by(&mut statement, " DESC");
    statement.push("id DESC LIMIT ").bind(filter.limit + 1);
    statement.finish()
}

/// Adds the conditions of the storefront and of the cursor. Returns the storefront as the prefix of the index that the
/// customers are read by; it is empty if they are read by another index. The sort order has to begin with the prefix.
fn push_filters(
    statement: &mut StatementBuilder,
    filter: &ListCustomers,
    dialect: SqlDialect,
    uses_search_index: bool,
) -> IndexPrefix {
    let mut index_prefix = IndexPrefix::new(dialect);
    if let Some(storefront) = &filter.storefront {
        let storefront = storefront.to_string();
        // As an expression, the storefront disables its own index, so that of the e-mail address is used.
        if uses_search_index {
            statement.push(" AND storefront || '' = ").bind(storefront);
        } else {
            index_prefix.push_condition(statement, "storefront", storefront);
        }
    }
    if let Some(cursor_id) = &filter.cursor {
        statement.push(" AND id < ").bind(cursor_id.as_str());
    }
    index_prefix
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use shared::request::Request;

    use super::*;
    use crate::store::sqlite;

    fn query_plan(filter_json: Value, read_range: ReadRange<'_>) -> String {
        let Ok(Request::ListCustomers(filter)) = Request::read("customer.list", filter_json) else {
            panic!("it is a list of customers")
        };
        let (sql, arguments) = select_customers(&filter, read_range);
        let plan_steps = sqlite::query_plan(&sqlite::in_memory(), sql.sqlite(), arguments);
        let full_scan_step = plan_steps
            .iter()
            .find(|plan_step| plan_step.starts_with("SCAN customers"));
        assert!(
            full_scan_step.is_none(),
            "{full_scan_step:?} in {plan_steps:#?}"
        );
        plan_steps.join("\n")
    }

    #[test]
    fn customers_are_found_by_index() {
        let cursor = "01a205f2-115c-7001-8d8a-8446d457e741";
        for (filter, expected_indexes) in [
            (
                json!({"email": "a@b.c"}),
                vec!["customers_by_email (email_key=? AND id<?)"],
            ),
            (
                json!({"email": "a@b.c", "q": "a", "storefront": "eu"}),
                vec!["customers_by_email (email_key=? AND id<?)"],
            ),
            (
                json!({"q": "a"}),
                vec![
                    "COVERING INDEX customers_by_name (name_key>? AND name_key<?)",
                    "COVERING INDEX customers_by_email (email_key>? AND email_key<?)",
                ],
            ),
            (
                json!({"q": "a", "storefront": "eu"}),
                vec![
                    "COVERING INDEX customers_by_storefront_and_name (storefront=? AND name_key>? AND name_key<?)",
                    "COVERING INDEX customers_by_storefront_and_email (storefront=? AND email_key>? AND email_key<?)",
                ],
            ),
        ] {
            let mut filter = filter;
            filter["cursor"] = json!(cursor);
            let plan = query_plan(filter, ReadRange::All);
            for index in expected_indexes {
                assert!(plan.contains(index), "{index} in {plan}");
            }
        }
        for (filter, index) in [
            (json!({"q": "a"}), "PRIMARY KEY (id>?"),
            (
                json!({"q": "a", "storefront": "eu"}),
                "customers_by_storefront (storefront=? AND id>?",
            ),
        ] {
            let plan = query_plan(filter, ReadRange::NewestDownTo(cursor));
            assert!(plan.contains(index), "{plan}");
            assert!(!plan.contains("ORDER BY"), "{plan}");
        }
    }

    #[test]
    fn order_number_is_read_with_and_without_its_sign() {
        let parse_order_number = |search_text| SearchTerm::from_text(search_text).order_number();
        assert_eq!(parse_order_number("12"), Some(12));
        assert_eq!(parse_order_number(" #12 "), Some(12));
        for other_text in ["", "#", "##1", "+1", "-1", "1a", "99999999999999999999"] {
            assert_eq!(parse_order_number(other_text), None, "{other_text}");
        }
    }
}
