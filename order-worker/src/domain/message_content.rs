//! The values that the templates of messages can use. docs/OPERATIONS.md lists them.
//!
//! Every value exists in every message; one that does not apply is `none`. Amounts are integers in minor units of
//! `order.currency`.

use serde::Serialize;
use shared::{
    customer::Customer,
    order::{Address, CancelReason, LineItem, StockItem},
};

use super::{
    amounts::{Totals, sum_of_discounts},
    message::MessageTopic,
    order::Order,
};

/// The values of a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MessageContent {
    /// The order.
    pub order: OrderContent,
    /// The customer.
    pub customer: CustomerContent,
    /// The shipment that the message is about.
    pub shipment: Option<ShipmentContent>,
    /// The refund that the message is about.
    pub refund: Option<RefundContent>,
    /// The return that the message is about.
    #[serde(rename = "return")]
    pub order_return: Option<ReturnContent>,
}

/// The order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OrderContent {
    /// Id.
    pub id: String,
    /// Number.
    pub number: i64,
    /// Storefront.
    pub storefront: String,
    /// Currency of all amounts.
    pub currency: String,
    /// Line items.
    pub items: Vec<ItemContent>,
    /// Discounts on the whole order.
    pub discounts: Vec<DiscountContent>,
    /// Label of the shipping charge.
    pub shipping_label: Option<String>,
    /// Price of all items before discounts.
    pub subtotal: i64,
    /// All discounts on items.
    pub discount_total: i64,
    /// Shipping charge after its discounts.
    pub shipping_total: i64,
    /// All taxes.
    pub tax_total: i64,
    /// Whether the taxes are contained in the prices.
    pub tax_included: bool,
    /// Total.
    pub total: i64,
    /// Lines of the shipping address.
    pub address: Vec<String>,
    /// Reason of the cancellation: `customer_request`, `out_of_stock`…
    pub cancel_reason: Option<&'static str>,
}

/// A line item, or units of a shipment or return.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ItemContent {
    /// SKU.
    pub sku: String,
    /// Name of the product at the time of the order.
    pub name: String,
    /// Number of units.
    pub quantity: u32,
    /// Price per unit.
    pub unit_price: i64,
    /// Discounts, the share of those on the whole order included.
    pub discount_total: i64,
    /// Price before discounts.
    pub subtotal: i64,
}

/// A discount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DiscountContent {
    /// Label.
    pub label: String,
    /// Amount.
    pub amount: i64,
}

/// The customer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CustomerContent {
    /// Name.
    pub name: String,
    /// E-mail address.
    pub email: String,
}

/// A shipment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ShipmentContent {
    /// Carrier.
    pub carrier: String,
    /// Tracking number.
    pub tracking_number: String,
    /// URL of the tracking page, if it is an `https` or `http` URL.
    pub tracking_url: Option<String>,
    /// Items.
    pub items: Vec<ItemContent>,
}

/// A refund.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RefundContent {
    /// Amount.
    pub amount: i64,
}

/// A return.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReturnContent {
    /// Number.
    pub number: String,
    /// Received units.
    pub items: Vec<ItemContent>,
    /// Amount that is refunded.
    pub refund_amount: i64,
    /// Amount that is kept.
    pub fee: i64,
}

/// Members of an address in the order in which they are written.
const ADDRESS_MEMBERS: [&str; 8] = [
    "name",
    "company",
    "line1",
    "line2",
    "postal_code",
    "city",
    "region",
    "country",
];

impl MessageContent {
    /// The values of a message about `topic`.
    pub fn new(order: &Order, customer: &Customer, topic: MessageTopic) -> Self {
        let shipment = match topic {
            MessageTopic::Shipment(shipment_id) => order
                .shipments
                .iter()
                .find(|shipment| shipment.id == shipment_id),
            _ => None,
        };
        let order_return = match topic {
            MessageTopic::Return(return_id) => order.find_return(return_id),
            _ => None,
        };
        Self {
            order: OrderContent::new(order),
            customer: CustomerContent {
                name: customer.name.clone(),
                email: customer.email.clone(),
            },
            shipment: shipment.map(|shipment| ShipmentContent {
                carrier: shipment.carrier.clone(),
                tracking_number: shipment.tracking_number.clone(),
                tracking_url: shipment.tracking_url.clone().filter(|url| is_web_url(url)),
                items: unit_contents(order, &shipment.items),
            }),
            refund: match topic {
                MessageTopic::Refund(amount) => Some(RefundContent { amount }),
                _ => None,
            },
            order_return: order_return.map(|order_return| ReturnContent {
                number: order_return.number.clone(),
                items: order_return
                    .received
                    .iter()
                    .map(|item| content_of_units(order, item.sku.as_str(), item.quantity.get()))
                    .collect(),
                refund_amount: order_return.refund_amount,
                fee: order_return.fee,
            }),
        }
    }
}

impl OrderContent {
    fn new(order: &Order) -> Self {
        let item_totals = Totals::of_lines(&order.items, order.tax_included);
        let shipping_totals = order.shipping_totals();
        let discounts = order.discounts.iter().map(|discount| DiscountContent {
            label: discount.label.clone(),
            amount: discount.amount,
        });
        Self {
            id: order.id.to_string(),
            number: order.number,
            storefront: order.storefront.to_string(),
            currency: order.currency.to_string(),
            items: order.items.iter().map(item_content).collect(),
            discounts: discounts.collect(),
            shipping_label: order.shipping.as_ref().map(|charge| charge.label.clone()),
            subtotal: item_totals.subtotal,
            discount_total: item_totals.discount_total,
            shipping_total: shipping_totals.subtotal - shipping_totals.discount_total,
            tax_total: item_totals.tax_total + shipping_totals.tax_total,
            tax_included: order.tax_included,
            total: order.total,
            address: order
                .shipping_address
                .as_ref()
                .map(address_lines)
                .unwrap_or_default(),
            cancel_reason: order.cancel_reason.map(CancelReason::as_str),
        }
    }
}

fn item_content(line: &LineItem) -> ItemContent {
    ItemContent {
        sku: line.sku.to_string(),
        name: line.name.clone(),
        quantity: line.quantity.get(),
        unit_price: line.unit_price,
        discount_total: sum_of_discounts(&line.discounts) + line.order_discount,
        subtotal: line
            .unit_price
            .saturating_mul(i64::from(line.quantity.get())),
    }
}

fn unit_contents(order: &Order, items: &[StockItem]) -> Vec<ItemContent> {
    let items = items.iter();
    items
        .map(|item| content_of_units(order, item.sku.as_str(), item.quantity.get()))
        .collect()
}

/// Units of a product, with the name and the price of its line item.
fn content_of_units(order: &Order, sku: &str, quantity: u32) -> ItemContent {
    let line = order.items.iter().find(|line| line.sku.as_str() == sku);
    let unit_price = line.map_or(0, |line| line.unit_price);
    ItemContent {
        sku: sku.to_owned(),
        name: line.map_or_else(|| sku.to_owned(), |line| line.name.clone()),
        quantity,
        unit_price,
        discount_total: 0,
        subtotal: unit_price.saturating_mul(i64::from(quantity)),
    }
}

/// The lines of an address; postal code and city share one.
fn address_lines(address: &Address) -> Vec<String> {
    let member = |name: &str| address.get(name).map(String::as_str).unwrap_or_default();
    let mut lines = Vec::new();
    for member_name in ADDRESS_MEMBERS {
        match member_name {
            "postal_code" => {
                lines.push(
                    format!("{} {}", member(member_name), member("city"))
                        .trim()
                        .to_owned(),
                );
            }
            "city" => {}
            _ => lines.push(member(member_name).trim().to_owned()),
        }
    }
    lines.retain(|line| !line.is_empty());
    lines
}

/// Whether a link to `url` opens a web page: another scheme, such as `javascript:`, is not linked.
fn is_web_url(url: &str) -> bool {
    let scheme = url.split_once("://").map(|(scheme, _)| scheme);
    scheme.is_some_and(|scheme| {
        scheme.eq_ignore_ascii_case("https") || scheme.eq_ignore_ascii_case("http")
    })
}
