//! Sample values, with which templates are checked at the start and shown in docs/messages.

use shared::message::MessageKind;

use crate::domain::message_content::{
    CustomerContent, DiscountContent, ItemContent, MessageContent, OrderContent, RefundContent,
    ReturnContent, ShipmentContent,
};

/// Values for a message of `kind`: with all optional ones, and with none.
pub fn sample_contents(kind: MessageKind) -> [MessageContent; 2] {
    [sample(kind, true), sample(kind, false)]
}

fn sample(kind: MessageKind, is_full: bool) -> MessageContent {
    let shipment = ShipmentContent {
        carrier: "Swift Parcel".to_owned(),
        tracking_number: "SP1234567890".to_owned(),
        tracking_url: is_full.then(|| "https://track.example/SP1234567890".to_owned()),
        items: items(),
    };
    let refund = RefundContent { amount: 1_999 };
    let order_return = ReturnContent {
        number: "1001-R1".to_owned(),
        items: items(),
        refund_amount: if is_full { 1_999 } else { 0 },
        fee: if is_full { 300 } else { 0 },
    };
    MessageContent {
        order: order(kind, is_full),
        customer: CustomerContent {
            name: "Ada Lovelace".to_owned(),
            email: "ada@example.com".to_owned(),
        },
        shipment: (kind == MessageKind::OrderShipped).then_some(shipment),
        refund: (kind == MessageKind::OrderRefunded).then_some(refund),
        order_return: (kind == MessageKind::ReturnReceived).then_some(order_return),
    }
}

fn order(kind: MessageKind, is_full: bool) -> OrderContent {
    let discounts = vec![DiscountContent {
        label: "Welcome".to_owned(),
        amount: 500,
    }];
    let address_lines = ["Ada Lovelace", "Main Street 1", "10115 Berlin", "DE"];
    let (discount_total, shipping_total) = if is_full { (500, 490) } else { (0, 0) };
    let subtotal = 7_997;
    OrderContent {
        id: "0192f0c1-2345-7abc-8def-0123456789ab".to_owned(),
        number: 1001,
        storefront: "eu".to_owned(),
        currency: "EUR".to_owned(),
        items: items(),
        discounts: if is_full { discounts } else { Vec::new() },
        shipping_label: is_full.then(|| "Standard shipping".to_owned()),
        subtotal,
        discount_total,
        shipping_total,
        tax_total: if is_full { 1_275 } else { 0 },
        tax_included: is_full,
        total: subtotal - discount_total + shipping_total,
        address: if is_full {
            address_lines.map(str::to_owned).into()
        } else {
            Vec::new()
        },
        cancel_reason: (kind == MessageKind::OrderCancelled).then_some(if is_full {
            "out_of_stock"
        } else {
            "customer_request"
        }),
    }
}

fn items() -> Vec<ItemContent> {
    [
        ("MUG-BLUE", "Mug, blue", 2, 1_999),
        ("TEA-250", "Darjeeling, first flush, 250 g", 1, 3_999),
    ]
    .map(|(sku, name, quantity, unit_price)| ItemContent {
        sku: sku.to_owned(),
        name: name.to_owned(),
        quantity,
        unit_price,
        discount_total: 0,
        subtotal: unit_price * i64::from(quantity),
    })
    .into()
}
