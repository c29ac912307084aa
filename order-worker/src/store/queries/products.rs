//! Reads of products: one, a list, and those that a search finds.
//!
//! A search compares SKUs and names. Their indexes are on expressions, so that they have the values of all versions of
//! the program. Both databases change the case of ASCII letters only in these; a search compares the usual spellings of
//! a word with letters outside ASCII ([`spellings`]).

use std::collections::BTreeMap;

use shared::{
    id::{Sku, Warehouse},
    page::Rows,
    product::{ListImages, ListProducts, ProductImageIds, sku_of_cursor},
};

use crate::{
    domain::{product::Product, stock::WarehouseStock},
    store::{
        Store, StoreError,
        sql::{
            byte_limit::MAX_PAGE_BYTES,
            customer::{push_prefix_range, search_key},
            decode::{parse_field, parse_json},
            row::Row,
            statement::{Argument, Sql, StatementBuilder, arguments},
        },
    },
};

/// A product with its stock by warehouse.
pub type ProductAndStock = (Product, BTreeMap<Warehouse, WarehouseStock>);

/// Number of products after the cursor that a search compares one by one before it reads all that match. If many
/// products match, the first of them are found among these.
const SCANNED_PRODUCTS: i64 = 2_000;

/// The expressions of a search and of low stock that differ between the databases.
struct Dialect {
    /// The name in lower case; the expression of an index.
    name_sql: &'static str,
    /// Whether a product has a threshold of low stock; the condition of an index.
    has_threshold_sql: &'static str,
    /// The threshold of low stock.
    threshold_sql: &'static str,
    /// The table, read by the index of products with a threshold. PostgreSQL chooses it by itself.
    products_with_threshold: &'static str,
}

const SQLITE_DIALECT: Dialect = Dialect {
    name_sql: "CASE WHEN json_valid(state) THEN lower(json_extract(state, '$.details.name')) END",
    has_threshold_sql: "instr(state, '\"low_stock_at\":') > 0",
    threshold_sql: "json_extract(state, '$.details.low_stock_at')",
    products_with_threshold: "products INDEXED BY products_with_threshold",
};

const POSTGRES_DIALECT: Dialect = Dialect {
    name_sql: "lower((state::json #>> '{details,name}') COLLATE \"C\")",
    has_threshold_sql: "strpos(state, '\"low_stock_at\":') > 0",
    threshold_sql: "(state::json #>> '{details,low_stock_at}')::bigint",
    products_with_threshold: "products",
};

/// The products that a statement for a list of products reads.
#[derive(Clone, Copy)]
enum ReadRange<'a> {
    /// All that match.
    All,
    /// Those that match among the first, up to this SKU.
    UpToSku(Option<&'a str>),
}

impl Store {
    /// One product.
    ///
    /// # Errors
    /// When the database is unavailable.
    pub async fn product(&self, sku: &Sku) -> Result<Option<ProductAndStock>, StoreError> {
        let mut session = self.reader_session().await?;
        let rows = session
            .fetch(
                "SELECT products.sku, state, warehouse, on_hand, reserved
                 FROM products LEFT JOIN shelves ON shelves.sku = products.sku
                 WHERE products.sku = $1",
                arguments![sku.as_str()],
            )
            .await?;
        Ok(products_and_stock(&rows)?.pop())
    }

    /// Up to `filter.limit + 1` products by SKU, up to a size limit.
    ///
    /// # Errors
    /// When the database is unavailable.
    pub async fn products(
        &self,
        filter: &ListProducts,
    ) -> Result<Rows<ProductAndStock>, StoreError> {
        let mut session = self.reader_session().await?;
        if filter.q.is_some() {
            let (sql, arguments) = select_scan_end(filter);
            let rows = session.fetch(sql, arguments).await?;
            // Without an end there are few products, and all are scanned.
            let scan_end = rows.first().map(|row| row.text(0)).transpose()?;
            let (sql, arguments) = select_products(filter, ReadRange::UpToSku(scan_end));
            let rows = session.fetch_within(MAX_PAGE_BYTES, sql, arguments).await?;
            let page = rows.read(products_and_stock)?;
            if scan_end.is_none() || page.ends_early || page.rows.len() > filter.limit as usize {
                return Ok(page);
            }
        }
        let (sql, arguments) = select_products(filter, ReadRange::All);
        let rows = session.fetch_within(MAX_PAGE_BYTES, sql, arguments).await?;
        rows.read(products_and_stock)
    }

    /// The ids of the photos of up to `limit` products that have photos, by SKU. Reads the primary database: a
    /// replica that is behind would let gateways delete files that are in use.
    ///
    /// # Errors
    /// When the database is unavailable.
    pub async fn image_ids(&self, query: &ListImages) -> Result<Rows<ProductImageIds>, StoreError> {
        let mut sql = StatementBuilder::new(
            "SELECT sku, state FROM products WHERE state LIKE '%\"images\":%'",
        );
        if let Some(cursor) = &query.cursor {
            sql.push(" AND sku > ").bind(cursor.to_string());
        }
        sql.push(" ORDER BY sku LIMIT ").bind(query.limit + 1);
        let (sql, arguments) = sql.finish();
        let mut session = self.primary_session().await?;
        let rows = session.fetch_within(MAX_PAGE_BYTES, sql, arguments).await?;
        rows.read(|rows| {
            rows.iter()
                .map(|row| {
                    let product: Product = parse_json("product", row.text(1)?)?;
                    Ok(ProductImageIds {
                        sku: product.details.sku,
                        ids: product.images.iter().map(|image| image.id).collect(),
                    })
                })
                .collect()
        })
    }
}

/// The keys to search for: the term in lower case, in upper case, and with a capital first letter, each with its ASCII
/// letters in lower case. For a term of ASCII letters they are the same.
fn spellings(search_text: &str) -> Vec<String> {
    let lower_term = search_key(search_text.trim());
    let upper_term: String = lower_term.chars().flat_map(char::to_uppercase).collect();
    let mut letters = lower_term.chars();
    let first_upper = letters.next().into_iter().flat_map(char::to_uppercase);
    let capitalized_term: String = first_upper.chain(letters).collect();
    let mut keys = vec![lower_term, upper_term, capitalized_term];
    for key in &mut keys {
        key.make_ascii_lowercase();
    }
    keys.sort_unstable();
    keys.dedup();
    keys
}

/// The statement for the SKU up to which a search compares products one by one. It returns no row if there are fewer
/// products.
fn select_scan_end(filter: &ListProducts) -> (Sql, Vec<Argument>) {
    let mut sql = StatementBuilder::new("SELECT sku FROM products WHERE true");
    push_cursor(&mut sql, filter);
    sql.push(" ORDER BY sku LIMIT 1 OFFSET ")
        .bind(SCANNED_PRODUCTS);
    let (sql, arguments) = sql.finish();
    (sql.into(), arguments)
}

/// The statement for a page of products with their stock levels.
fn select_products(filter: &ListProducts, read_range: ReadRange<'_>) -> (Sql, Vec<Argument>) {
    let (sqlite_sql, arguments) = products_page_sql(filter, read_range, &SQLITE_DIALECT);
    let (postgres_sql, _) = products_page_sql(filter, read_range, &POSTGRES_DIALECT);
    let with_stock = |page_sql| {
        format!(
            "SELECT page.sku, state, warehouse, on_hand, reserved
             FROM ({page_sql}) AS page LEFT JOIN shelves ON shelves.sku = page.sku
             ORDER BY page.sku"
        )
    };
    let sql = Sql::texts(with_stock(sqlite_sql), with_stock(postgres_sql));
    (sql, arguments)
}

fn products_page_sql(
    filter: &ListProducts,
    read_range: ReadRange<'_>,
    dialect: &Dialect,
) -> (String, Vec<Argument>) {
    let mut sql = StatementBuilder::new("SELECT sku, state FROM ");
    let is_read_by_threshold = filter.low_stock && filter.q.is_none();
    sql.push(if is_read_by_threshold {
        dialect.products_with_threshold
    } else {
        "products"
    });
    sql.push(" WHERE true");
    if filter.low_stock {
        sql.push(" AND NOT is_deleted AND ")
            .push(dialect.has_threshold_sql)
            .push(" AND ")
            .push(dialect.threshold_sql)
            .push(
                " >= (SELECT coalesce(sum(on_hand - reserved), 0) FROM shelves
                      WHERE shelves.sku = products.sku)",
            );
    } else if !filter.include_deleted {
        sql.push(" AND NOT is_deleted");
    }
    if let Some(search_text) = &filter.q {
        let keys = spellings(search_text);
        match read_range {
            ReadRange::All => {
                sql.push(" AND sku IN (");
                push_matching_skus(&mut sql, &keys, dialect);
                sql.push(")");
            }
            ReadRange::UpToSku(last_sku) => {
                if let Some(last_sku) = last_sku {
                    sql.push(" AND sku <= ").bind(last_sku);
                }
                push_match_condition(&mut sql, &keys, dialect);
            }
        }
    }
    push_cursor(&mut sql, filter);
    sql.push(" ORDER BY sku LIMIT ").bind(filter.limit + 1);
    sql.finish()
}

/// Adds a statement for the SKUs of the products whose SKU or name begins with one of the keys.
fn push_matching_skus(sql: &mut StatementBuilder, keys: &[String], dialect: &Dialect) {
    for (index, key) in keys.iter().enumerate() {
        for (column, needs_union) in [("lower(sku)", index > 0), (dialect.name_sql, true)] {
            if needs_union {
                sql.push(" UNION ");
            }
            sql.push("SELECT sku FROM products WHERE ");
            push_prefix_range(sql, column, "", key);
        }
    }
}

/// Adds the condition that the SKU or the name begins with one of the keys. The columns are expressions that have no
/// index, so that the products are read in their order.
fn push_match_condition(sql: &mut StatementBuilder, keys: &[String], dialect: &Dialect) {
    sql.push(" AND (false");
    for key in keys {
        for column in ["lower(sku)", dialect.name_sql] {
            sql.push(" OR (");
            push_prefix_range(sql, column, " || ''", key);
            sql.push(")");
        }
    }
    sql.push(")");
}

fn push_cursor(sql: &mut StatementBuilder, filter: &ListProducts) {
    if let Some(cursor) = &filter.cursor {
        sql.push(" AND sku > ")
            .bind(sku_of_cursor(cursor).to_owned());
    }
}

/// Decodes rows of a product's SKU and state, and one of its stock levels or `NULL`s. Rows of the same
/// product are adjacent.
fn products_and_stock(rows: &[Row]) -> Result<Vec<ProductAndStock>, StoreError> {
    let mut products: Vec<ProductAndStock> = Vec::new();
    let mut last_sku = "";
    for row in rows {
        let sku = row.text(0)?;
        if sku != last_sku {
            products.push((parse_json("product", row.text(1)?)?, BTreeMap::new()));
            last_sku = sku;
        }
        if let (Some((_, stock_levels)), Some(warehouse)) =
            (products.last_mut(), row.maybe_text(2)?)
        {
            let stock_level = WarehouseStock {
                on_hand: row.integer(3)?,
                reserved: row.integer(4)?,
            };
            stock_levels.insert(parse_field("warehouse", warehouse)?, stock_level);
        }
    }
    Ok(products)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use shared::request::Request;

    use super::*;
    use crate::store::sqlite;

    fn query_plan(filter_json: Value, read_range: ReadRange<'_>) -> String {
        let Ok(Request::ListProducts(filter)) = Request::read("product.list", filter_json) else {
            panic!("it is a list of products")
        };
        let (sql, arguments) = select_products(&filter, read_range);
        let plan_steps = sqlite::query_plan(&sqlite::in_memory(), sql.sqlite(), arguments);
        plan_steps.join("\n")
    }

    #[test]
    fn products_are_found_by_index() {
        for (filter, read_range, expected_indexes) in [
            (
                json!({"q": "shirt", "cursor": "SKU-1!"}),
                ReadRange::All,
                vec![
                    "INDEX products_by_sku_key (<expr>>? AND <expr><?)",
                    "INDEX products_by_name (<expr>>? AND <expr><?)",
                ],
            ),
            (
                json!({"q": "shirt", "cursor": "SKU-1!"}),
                ReadRange::UpToSku(Some("SKU-9")),
                vec!["SEARCH products USING PRIMARY KEY (sku>? AND sku<?)"],
            ),
            (
                json!({"low_stock": true, "cursor": "SKU-1!"}),
                ReadRange::All,
                vec!["INDEX products_with_threshold (sku>?)", "shelves"],
            ),
            (
                json!({"cursor": "SKU-1!"}),
                ReadRange::All,
                vec!["SEARCH products USING PRIMARY KEY (sku>?)"],
            ),
        ] {
            let plan = query_plan(filter.clone(), read_range);
            for index in expected_indexes {
                assert!(plan.contains(index), "{filter}: {index} in {plan}");
            }
            assert!(!plan.contains("SCAN products"), "{filter}: {plan}");
        }
    }

    #[test]
    fn spellings_of_non_ascii_letters_are_compared() {
        assert_eq!(spellings(" Shirt "), ["shirt"]);
        assert_eq!(spellings("öl"), ["Öl", "öl"]);
        assert_eq!(spellings("größe"), ["grÖsse", "größe"]);
    }
}
