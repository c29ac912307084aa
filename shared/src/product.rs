//! Products and stock levels: representations and requests.
//!
//! Products are shared by all storefronts. Stock is kept per product and warehouse: units on hand, of which
//! some are reserved for orders.

mod image;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use image::{
    AddImage, ImageSize, ImageType, ImageVariant, ListImages, MAX_PHOTOS,
    MAX_PRODUCTS_PER_IMAGE_PAGE, MAX_SIDE, MEDIA_PATH, ProductImage, ProductImageIds, RemoveImage,
    ReorderImages, id_of_media_url, media_url,
};

use crate::{
    body::{self, Fields},
    id::{Sku, Warehouse},
    money::{Currency, MAX_AMOUNT},
    order::limit,
    schema,
    web_url::web_url_text,
};

/// Maximum number of URLs of images on other servers.
pub const MAX_EXTERNAL_IMAGES: usize = 20;
/// Maximum number of units on hand in one warehouse.
pub const MAX_ON_HAND: i64 = 1_000_000_000;

/// A product; shared by all storefronts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(example = json!({
    "sku": "TSHIRT", "name": "T-shirt", "price": 1999, "currency": "EUR",
    "image_urls": ["https://example.com/shirt.jpg"], "images": [],
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
    /// URLs of all images: first the uploaded photos in their order, as paths at the gateway, then those on
    /// other servers.
    pub image_urls: Vec<String>,
    /// Uploaded photos in their order.
    #[serde(default)]
    pub images: Vec<ProductImage>,
    /// Threshold of available units at which the event `stock.low` is emitted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub low_stock_at: Option<i64>,
    /// Stock levels, sorted by warehouse.
    pub stock: Vec<StockLevel>,
    /// Whether the product is soft-deleted and can't be ordered.
    pub is_deleted: bool,
    /// Counts changes of the product, and of its stock levels when they are set, adjusted or removed. Reservations and
    /// shipments do not count: the `ETag` has a digest of the stock in addition.
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

/// `product.update`: a JSON Merge Patch (RFC 7396). Given values are changed, `null` removes a value, absent
/// values stay.
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
    /// URLs of images on other servers; `null` removes all. Paths of the product's own photos are allowed and
    /// change nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = schema::image_urls, required = false)]
    pub image_urls: Option<Vec<String>>,
    /// Threshold of available units, over all warehouses, at which the event `stock.low` is emitted; `null`:
    /// never.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<i64>, minimum = 0, maximum = 1_000_000_000)]
    pub low_stock_at: Option<Option<i64>>,
}

impl UpdateProduct {
    pub(crate) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let sku = fields.required("sku", body::parsed);
        let name = fields.patch("name", name);
        let price = fields.patch("price", price);
        let currency = fields.patch("currency", currency);
        let image_urls = fields.patch_nullable("image_urls", image_urls);
        let low_stock_at = fields.patch_nullable("low_stock_at", body::integer(0..=MAX_ON_HAND));
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

/// `product.get`, `product.delete`: the SKU of a product.
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
    /// Whether to list only products at or below their threshold of low stock.
    pub low_stock: bool,
    /// Only products whose SKU or name begins with this text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub q: Option<String>,
    /// Maximum number of entries.
    pub limit: u32,
    /// Cursor of the previous page; see [`cursor_after`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

impl ListProducts {
    #[expect(clippy::unnecessary_wraps, reason = "the shape of every reader")]
    pub(crate) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let include_deleted = fields.optional("include_deleted", body::boolean);
        let low_stock = fields.optional("low_stock", body::boolean);
        let q = fields.optional("q", body::visible_text(1..=200));
        let limit = limit(fields);
        let cursor = fields.optional("cursor", product_cursor);
        Some(Self {
            include_deleted: include_deleted.unwrap_or(false),
            low_stock: low_stock.unwrap_or(false),
            q,
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

/// `stock.adjust`: changes a stock level by a difference, for units that were received, found, damaged or
/// stolen.
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
        let delta = fields.required("delta", |delta_value| {
            match body::integer(-MAX_ON_HAND..=MAX_ON_HAND)(delta_value)? {
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

/// `stock.remove`: removes the stock level of a product in a warehouse.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"move_to": "berlin"}))]
pub struct RemoveStock {
    /// SKU of the product.
    #[schema(ignore)]
    pub sku: Sku,
    /// Warehouse.
    #[schema(ignore)]
    pub warehouse: Warehouse,
    /// Warehouse to which the units are moved; absent: the stock level must be zero.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub move_to: Option<Warehouse>,
    /// Free-text reason, kept in the event.
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
            fields.report("move_to", "must be another warehouse");
        }
        Some(Self {
            sku: sku?,
            warehouse: warehouse?,
            move_to,
            reason,
        })
    }
}

/// The cursor after `sku` in a list of products. Its last character distinguishes it from a SKU, so that
/// other text is refused as a cursor.
pub fn cursor_after(sku: &Sku) -> String {
    format!("{sku}{CURSOR_END}")
}

/// The SKU of a cursor in a list of products; the next page starts after it.
pub fn sku_of_cursor(cursor: &str) -> &str {
    cursor.strip_suffix(CURSOR_END).unwrap_or(cursor)
}

/// Last character of a cursor. No SKU contains it, and it sorts before every character of a SKU, so that a
/// worker of an earlier version, which compares the cursor as a SKU, continues at the same position.
const CURSOR_END: char = '!';

fn product_cursor(value: Value) -> Result<String, String> {
    let cursor = body::string(value)?;
    let last_sku = cursor.strip_suffix(CURSOR_END).map(str::parse::<Sku>);
    match last_sku {
        Some(Ok(_)) => Ok(cursor),
        Some(Err(_)) | None => {
            Err("is not a cursor of this list; pass next_cursor of the previous page".to_owned())
        }
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
        Err(format!("{currency} is not an ISO 4217 currency code"))
    }
}

fn price(value: Value) -> Result<i64, String> {
    body::integer(0..=MAX_AMOUNT)(value)
}

fn image_urls(value: Value) -> Result<Vec<String>, String> {
    let Value::Array(url_values) = value else {
        return Err("must be a list of URLs".to_owned());
    };
    let is_external = |url: &&Value| url.as_str().and_then(id_of_media_url).is_none();
    if url_values.iter().filter(is_external).count() > MAX_EXTERNAL_IMAGES {
        return Err(format!(
            "must have at most {MAX_EXTERNAL_IMAGES} URLs on other servers"
        ));
    }
    if url_values.len() > MAX_EXTERNAL_IMAGES + MAX_PHOTOS {
        let max_urls = MAX_EXTERNAL_IMAGES + MAX_PHOTOS;
        return Err(format!("must have at most {max_urls} entries"));
    }
    url_values
        .into_iter()
        .map(|url| match url.as_str().and_then(id_of_media_url) {
            Some(id) => Ok(media_url(id)),
            None => web_url_text(url).map_err(|error| format!("each entry {error}")),
        })
        .collect()
}
