//! Products and stock: representations and requests.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    body::{self, Fields},
    id::{Sku, Warehouse},
    money::{Currency, MAX_AMOUNT},
    order::limit,
    schema,
    web_url::web_url,
};

/// Maximum number of image URLs of a product.
pub const MAX_IMAGES: usize = 20;
/// Maximum number of units on hand in one warehouse.
pub const MAX_ON_HAND: i64 = 1_000_000_000;

/// A product; shared by all storefronts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(example = json!({
    "sku": "TSHIRT", "name": "T-shirt", "price": 1999, "currency": "EUR",
    "image_urls": ["https://example.com/shirt.jpg"],
    "stock": [{"warehouse": "berlin", "on_hand": 100, "reserved": 2, "available": 98}],
    "is_deleted": false, "version": 2,
    "created_at": "2026-01-31T12:00:00Z", "updated_at": "2026-01-31T12:00:01Z"
}))]
pub struct Product {
    /// Stock keeping unit.
    pub sku: Sku,
    /// Name.
    pub name: String,
    /// Price per unit in minor units.
    pub price: i64,
    /// Currency of `price`.
    pub currency: Currency,
    /// URLs of images.
    pub image_urls: Vec<String>,
    /// Threshold of available units at which the event `stock.low` is emitted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub low_stock_at: Option<i64>,
    /// Stock levels, sorted by warehouse.
    pub stock: Vec<StockLevel>,
    /// Whether the product is soft-deleted and can't be ordered.
    pub is_deleted: bool,
    /// Counts changes of the product and of its stock levels; also its `ETag`.
    pub version: u64,
    /// Time of creation.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// Time of the last change.
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Timestamp,
}

/// Stock level of a product in one warehouse.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct StockLevel {
    /// Warehouse.
    pub warehouse: Warehouse,
    /// Units on hand.
    pub on_hand: i64,
    /// Units reserved for open orders.
    pub reserved: i64,
    /// `on_hand - reserved`.
    pub available: i64,
}

/// `product.create`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"sku": "TSHIRT", "name": "T-shirt", "price": 1999, "currency": "EUR", "image_urls": []}))]
pub struct NewProduct {
    /// Stock keeping unit.
    pub sku: Sku,
    /// Name.
    #[schema(min_length = 1, max_length = 200)]
    pub name: String,
    /// Price per unit in minor units.
    #[schema(minimum = 0, maximum = 1_000_000_000_000_i64)]
    pub price: i64,
    /// Currency of `price`.
    pub currency: Currency,
    /// URLs of images.
    #[serde(default)]
    #[schema(schema_with = schema::image_urls, required = false)]
    pub image_urls: Vec<String>,
    /// Threshold of available units, over all warehouses, at which the event `stock.low` is emitted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 1_000_000_000)]
    pub low_stock_at: Option<i64>,
}

impl NewProduct {
    pub(crate) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let sku = fields.required("sku", body::parsed);
        let name = fields.required("name", name);
        let price = fields.required("price", price);
        let currency = fields.required("currency", currency);
        let image_urls = fields.optional("image_urls", image_urls);
        let low_stock_at = fields.optional("low_stock_at", body::integer(0..=MAX_ON_HAND));
        Some(Self {
            sku: sku?,
            name: name?,
            price: price?,
            currency: currency?,
            image_urls: image_urls.unwrap_or_default(),
            low_stock_at,
        })
    }
}

/// `product.update`: a JSON Merge Patch (RFC 7396). What is given changes, `null` removes, the rest stays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"price": 2499}))]
pub struct UpdateProduct {
    /// SKU of the product.
    #[schema(ignore)]
    pub sku: Sku,
    /// Name.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 200, nullable = false)]
    pub name: Option<String>,
    /// Price per unit in minor units; existing orders keep their price.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 1_000_000_000_000_i64, nullable = false)]
    pub price: Option<i64>,
    /// Currency of `price`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, value_type = Currency)]
    pub currency: Option<Currency>,
    /// New photos; `null` removes all.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = schema::image_urls, required = false)]
    pub image_urls: Option<Vec<String>>,
    /// Tell `stock.low` when no more than this many units are available, in all warehouses; `null`: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<i64>, minimum = 0, maximum = 1_000_000_000)]
    pub low_stock_at: Option<Option<i64>>,
}

impl UpdateProduct {
    pub(crate) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let sku = fields.required("sku", body::parsed);
        let name = fields.replace("name", name);
        let price = fields.replace("price", price);
        let currency = fields.replace("currency", currency);
        let image_urls = fields.change("image_urls", image_urls);
        let low_stock_at = fields.change("low_stock_at", body::integer(0..=MAX_ON_HAND));
        Some(Self {
            sku: sku?,
            name,
            price,
            currency,
            image_urls: image_urls.map(Option::unwrap_or_default),
            low_stock_at,
        })
    }
}

/// `product.get`, `product.delete`: a product's SKU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProductRef {
    /// SKU of the product.
    pub sku: Sku,
}

impl ProductRef {
    pub(crate) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let sku = fields.required("sku", body::parsed);
        Some(Self { sku: sku? })
    }
}

/// `product.list`: products by SKU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ListProducts {
    /// Whether to include soft-deleted products.
    pub include_deleted: bool,
    /// Maximum number of entries.
    pub limit: u32,
    /// [Behind](cursor_behind) the sku that the last page ended with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

impl ListProducts {
    #[expect(clippy::unnecessary_wraps, reason = "the shape of every reader")]
    pub(crate) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let include_deleted = fields.optional("include_deleted", body::boolean);
        let limit = limit(fields);
        let cursor = fields.optional("cursor", product_cursor);
        Some(Self {
            include_deleted: include_deleted.unwrap_or(false),
            limit,
            cursor,
        })
    }
}

/// `stock.set`: sets the stock level of a warehouse after a count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"on_hand": 100}))]
pub struct SetStock {
    /// SKU of the product.
    #[schema(ignore)]
    pub sku: Sku,
    /// Warehouse.
    #[schema(ignore)]
    pub warehouse: Warehouse,
    /// Units on hand, including reserved ones.
    #[schema(minimum = 0, maximum = 1_000_000_000)]
    pub on_hand: i64,
    /// Free-text reason, kept in the event.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 200)]
    pub reason: Option<String>,
}

impl SetStock {
    pub(crate) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let sku = fields.required("sku", body::parsed);
        let warehouse = fields.required("warehouse", body::parsed);
        let on_hand = fields.required("on_hand", body::integer(0..=MAX_ON_HAND));
        let reason = fields.optional("reason", body::text(1..=200));
        Some(Self {
            sku: sku?,
            warehouse: warehouse?,
            on_hand: on_hand?,
            reason,
        })
    }
}

/// `stock.adjust`: changes a stock level by a difference: found, damaged, stolen, received.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"delta": -2, "reason": "broken"}))]
pub struct AdjustStock {
    /// SKU of the product.
    #[schema(ignore)]
    pub sku: Sku,
    /// Warehouse.
    #[schema(ignore)]
    pub warehouse: Warehouse,
    /// Difference in units; not zero.
    #[schema(minimum = -1_000_000_000, maximum = 1_000_000_000)]
    pub delta: i64,
    /// Free-text reason, kept in the event.
    #[schema(min_length = 1, max_length = 200)]
    pub reason: String,
}

impl AdjustStock {
    pub(crate) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let sku = fields.required("sku", body::parsed);
        let warehouse = fields.required("warehouse", body::parsed);
        let delta = fields.required("delta", |value| {
            match body::integer(-MAX_ON_HAND..=MAX_ON_HAND)(value)? {
                0 => Err("must not be 0".to_owned()),
                delta => Ok(delta),
            }
        });
        let reason = fields.required("reason", body::text(1..=200));
        Some(Self {
            sku: sku?,
            warehouse: warehouse?,
            delta: delta?,
            reason: reason?,
        })
    }
}

/// `stock.remove`: a product has no place in a warehouse any more, or never had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"move_to": "berlin"}))]
pub struct RemoveStock {
    /// Of which product.
    #[schema(ignore)]
    pub sku: Sku,
    /// Which warehouse.
    #[schema(ignore)]
    pub warehouse: Warehouse,
    /// Warehouse that its units are moved to; absent: it must have none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub move_to: Option<Warehouse>,
    /// Why, in the caller's words; kept in the event.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 200)]
    pub reason: Option<String>,
}

impl RemoveStock {
    pub(crate) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let sku = fields.required("sku", body::parsed);
        let warehouse = fields.required("warehouse", body::parsed);
        let move_to = fields.optional("move_to", body::parsed);
        let reason = fields.optional("reason", body::text(1..=200));
        if move_to.is_some() && move_to == warehouse {
            fields.report("move_to", "is the warehouse itself");
        }
        Some(Self {
            sku: sku?,
            warehouse: warehouse?,
            move_to,
            reason,
        })
    }
}

/// The cursor behind `sku` in a list of products: not every word is one.
pub fn cursor_behind(sku: &Sku) -> String {
    format!("{sku}{CURSOR_END}")
}

/// The sku that a cursor of a list of products is behind.
pub fn sku_before(cursor: &str) -> &str {
    cursor.strip_suffix(CURSOR_END).unwrap_or(cursor)
}

/// Ends a cursor: in no sku, and before every character of one, so that a worker that takes the cursor for a
/// sku finds the same place.
const CURSOR_END: char = '!';

fn product_cursor(value: Value) -> Result<String, String> {
    let cursor = body::string(value)?;
    let sku = cursor.strip_suffix(CURSOR_END).map(str::parse::<Sku>);
    match sku {
        Some(Ok(_)) => Ok(cursor),
        Some(Err(_)) | None => Err("is not a cursor of this list".to_owned()),
    }
}

fn name(value: Value) -> Result<String, String> {
    body::visible_text(1..=200)(value)
}

/// Unknown currencies are refused in requests only; stored data stays readable if ISO 4217 changes.
fn currency(value: Value) -> Result<Currency, String> {
    let currency: Currency = body::parsed(value)?;
    if currency.is_listed() {
        Ok(currency)
    } else {
        Err(format!("{currency} is not an ISO 4217 code"))
    }
}

fn price(value: Value) -> Result<i64, String> {
    body::integer(0..=MAX_AMOUNT)(value)
}

fn image_urls(value: Value) -> Result<Vec<String>, String> {
    let Value::Array(urls) = value else {
        return Err("must be a list of URLs".to_owned());
    };
    if urls.len() > MAX_IMAGES {
        return Err(format!("must have at most {MAX_IMAGES} entries"));
    }
    urls.into_iter()
        .map(|url| {
            let url = body::text(1..=2000)(url).map_err(|error| format!("each entry {error}"))?;
            // Only what a browser loads as a picture: `javascript:` and `data:` have no business here.
            match web_url(&url) {
                Ok(_) => Ok(url),
                Err(why) => Err(format!("each entry must be an http(s) URL; {url} {why}")),
            }
        })
        .collect()
}
