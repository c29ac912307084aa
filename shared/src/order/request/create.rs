//! The request to create an order ([`CreateOrder`]), and its limits.
//!
//! Only the form is checked here; the worker checks the customer, the products, the stock and the total. Card
//! numbers are refused as a payment method, so that they are never stored.

use std::{num::NonZeroU32, ops::RangeInclusive, str::FromStr};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use url::{Host, Url};

use crate::{
    body::{self, Fields},
    id::{CustomerId, Sku, Storefront},
    limits::MAX_METADATA_BYTES,
    money::MAX_AMOUNT,
    order::{
        Address,
        charge::{self, Discount, ShippingCharge, Tax},
    },
    schema,
};

/// Maximum number of line items in an order.
pub const MAX_ITEMS: usize = 500;
/// Range of a line item's quantity.
pub const QUANTITY_RANGE: RangeInclusive<i64> = 1..=1_000_000;

/// Maximum number of fields of an address.
const MAX_ADDRESS_FIELDS: usize = 20;
/// Maximum length of `return_url` in characters.
const MAX_RETURN_URL_CHARS: usize = 2_048;

/// `order.create`: the body of `POST /v1/orders`.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "customer_id": "0192f0c1-0000-7abc-8def-0123456789ab",
    "items": [{"sku": "TSHIRT", "quantity": 2}],
    "shipping_address": {"name": "Ada Lovelace", "line1": "Main Street 1", "city": "Berlin", "country": "DE"},
    "payment_method": "pm_ok", "expected_total": 3998, "metadata": {"cart": "42"}
}))]
pub struct CreateOrder {
    /// Id of the customer.
    pub customer_id: CustomerId,
    /// Line items.
    #[schema(min_items = 1, max_items = 500)]
    pub items: Vec<NewItem>,
    /// Shipping charge.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shipping: Option<Box<ShippingCharge>>,
    /// Discounts on the whole order: each is divided among the line items in proportion to their amounts, by
    /// largest remainder. They do not apply to the shipping charge.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 20, required = false)]
    pub discounts: Vec<Discount>,
    /// Whether the taxes are contained in the prices; otherwise they are added to them.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(default = false, required = false)]
    pub tax_included: bool,
    /// Shipping address.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = schema::address, required = false)]
    pub shipping_address: Option<Address>,
    /// Payment method: a token of the payment provider, or `manual` if the customer pays outside of it: by bank
    /// transfer, in cash, on an invoice. With the sandbox the default is `pm_ok`; other providers have no
    /// default.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(
        min_length = 1,
        max_length = 255,
        pattern = "^[^\\x00-\\x1f\\x7f-\\x9f]*$",
        example = "pm_ok"
    )]
    pub payment_method: Option<String>,
    /// URL to which the provider redirects the customer after authentication: `https://…`, or `http://` on
    /// this machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = schema::url, required = false)]
    pub return_url: Option<ReturnUrl>,
    /// Total in minor units that the customer was shown; the order is refused if its total differs.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 1_000_000_000_000_i64)]
    pub expected_total: Option<i64>,
    /// Metadata set by the client.
    #[serde(skip_serializing_if = "Map::is_empty")]
    #[schema(schema_with = schema::metadata, required = false)]
    pub metadata: Map<String, Value>,
    /// Storefront of the order; for operators and admins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storefront: Option<Storefront>,
}

impl CreateOrder {
    pub(crate) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let customer_id = fields.required("customer_id", body::parsed);
        let items = fields.list("items", 1..=MAX_ITEMS, NewItem::read);
        let shipping = fields.optional_object("shipping", ShippingCharge::read);
        let discounts = charge::discounts(fields);
        let tax_included = fields.optional("tax_included", body::boolean);
        let shipping_address = fields.optional("shipping_address", address);
        let payment_method = fields.optional("payment_method", payment_method);
        let return_url = fields.optional("return_url", body::parsed);
        let expected_total = fields.optional("expected_total", body::integer(0..=MAX_AMOUNT));
        let metadata = fields.optional("metadata", body::object(MAX_METADATA_BYTES));
        let storefront = fields.optional("storefront", body::parsed);
        Some(Self {
            customer_id: customer_id?,
            items: items?,
            shipping: shipping?.map(Box::new),
            discounts: discounts?,
            tax_included: tax_included.unwrap_or(false),
            shipping_address,
            payment_method,
            return_url,
            expected_total,
            metadata: metadata.unwrap_or_default(),
            storefront,
        })
    }
}

/// A URL to which the payment provider redirects the customer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(into = "String")]
pub struct ReturnUrl(Url);

impl FromStr for ReturnUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.len() > MAX_RETURN_URL_CHARS {
            return Err(format!(
                "must have at most {MAX_RETURN_URL_CHARS} characters"
            ));
        }
        if !text.chars().all(|c| c.is_ascii_graphic()) {
            return Err(
                "must consist of the characters of a URI (RFC 3986); percent-encode others"
                    .to_owned(),
            );
        }
        let url = Url::parse(text).map_err(|error| format!("is not a URL: {error}"))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err("must have no user name or password".to_owned());
        }
        let is_local = match url.host() {
            Some(Host::Domain(host_name)) => host_name == "localhost",
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            None => return Err("must have a host".to_owned()),
        };
        match url.scheme() {
            "https" => Ok(Self(url)),
            "http" if is_local => Ok(Self(url)),
            _ => Err("must begin with https:// (http:// is allowed for localhost only)".to_owned()),
        }
    }
}

impl From<ReturnUrl> for String {
    fn from(return_url: ReturnUrl) -> Self {
        return_url.0.into()
    }
}

/// A line item of a new order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewItem {
    /// SKU of the product.
    pub sku: Sku,
    /// Number of units.
    #[schema(value_type = u32, minimum = 1, maximum = 1_000_000)]
    pub quantity: NonZeroU32,
    /// Price per unit in minor units, if another one than the catalogue's was agreed. For operators and admins;
    /// for storefronts if `STOREFRONT_PRICES` is set.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 1_000_000_000_000_i64)]
    pub unit_price: Option<i64>,
    /// Discounts on all units together.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 20, required = false)]
    pub discounts: Vec<Discount>,
    /// Taxes on all units together.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 20, required = false)]
    pub taxes: Vec<Tax>,
}

impl NewItem {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let item_quantity = ItemQuantity::read(fields);
        let unit_price = fields.optional("unit_price", body::integer(0..=MAX_AMOUNT));
        let discounts = charge::discounts(fields);
        let taxes = charge::taxes(fields);
        let ItemQuantity { sku, quantity } = item_quantity?;
        Some(Self {
            sku,
            quantity,
            unit_price,
            discounts: discounts?,
            taxes: taxes?,
        })
    }

    /// Whether the price is not simply the catalogue's.
    pub fn has_own_price(&self) -> bool {
        self.unit_price.is_some() || !self.discounts.is_empty() || !self.taxes.is_empty()
    }
}

/// A number of units of a product.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ItemQuantity {
    /// SKU of the product.
    pub sku: Sku,
    /// Number of units.
    #[schema(value_type = u32, minimum = 1, maximum = 1_000_000)]
    pub quantity: NonZeroU32,
}

impl ItemQuantity {
    pub(crate) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let sku = fields.required("sku", body::parsed);
        let quantity = fields.required("quantity", quantity);
        Some(Self {
            sku: sku?,
            quantity: quantity?,
        })
    }
}

fn quantity(value: Value) -> Result<NonZeroU32, String> {
    let unit_count = body::integer(QUANTITY_RANGE)(value)?;
    u32::try_from(unit_count)
        .ok()
        .and_then(NonZeroU32::new)
        .ok_or_else(|| "must be positive".to_owned())
}

/// An address of at most 20 fields with at most 200 characters each.
pub(crate) fn address(value: Value) -> Result<Address, String> {
    let address_fields = address_fields(value)?;
    address_fields
        .filter_map(|field| {
            field
                .map(|(field_name, text)| Some((field_name, text?)))
                .transpose()
        })
        .collect()
}

/// The fields of an address; `None` stands for `null`.
pub(super) fn address_fields(
    value: Value,
) -> Result<impl Iterator<Item = Result<(String, Option<String>), String>>, String> {
    let Value::Object(map) = value else {
        return Err("must be an object".to_owned());
    };
    check_address_size(map.len())?;
    Ok(map.into_iter().map(|(field_name, value)| {
        if value.is_null() {
            return Ok((field_name, None));
        }
        let checked_name = body::text(1..=64)(Value::String(field_name))
            .map_err(|error| format!("field name {error}"))?;
        let field_text =
            body::text(0..=200)(value).map_err(|error| format!("{checked_name} {error}"))?;
        Ok((checked_name, Some(field_text)))
    }))
}

/// Refuses an address with too many fields.
pub(super) fn check_address_size(field_count: usize) -> Result<(), String> {
    if field_count > MAX_ADDRESS_FIELDS {
        return Err(format!("must have at most {MAX_ADDRESS_FIELDS} fields"));
    }
    Ok(())
}

/// A token of the payment provider; refuses card numbers, so that they are never stored.
pub(super) fn payment_method(value: Value) -> Result<String, String> {
    let token = body::text(1..=255)(value)?;
    let digit_count = token.chars().filter(char::is_ascii_digit).count();
    let is_card = (12..=19).contains(&digit_count)
        && token
            .chars()
            .all(|c| c.is_ascii_digit() || c == ' ' || c == '-');
    if is_card {
        return Err(
            "looks like a card number; send a token of the payment provider instead".to_owned(),
        );
    }
    Ok(token)
}
