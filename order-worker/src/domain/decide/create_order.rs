//! Creates an order: prices it from the catalogue and reserves all of its stock, or refuses it.

use std::{collections::HashMap, num::NonZeroU32};

use shared::{
    event::{EventData, OrderCreated, Origin},
    id::{OrderId, Sku, Storefront, Warehouse},
    money::Money,
    order::{CreateOrder, LineItem},
    outcome::{Code, Failure, Violation},
    request::Caller,
};

use super::{Rules, approval::begin, low_stock};
use crate::domain::{
    decision::{Decision, OrderDraft, event},
    decision_context::DecisionContext,
    product::Product,
    stock::allocate,
    working_set::WorkingSet,
};

pub(super) fn create_order(
    world: &WorkingSet,
    caller: &Caller,
    origin: &Origin,
    request: &CreateOrder,
    id: Option<OrderId>,
    rules: &Rules,
    stamp: &mut DecisionContext,
) -> Result<Decision, Failure> {
    let checked = check(world, caller, request, rules)?;

    // Check that all items are in stock.
    let reserved = allocate(&request.items, &world.shelves)?;
    let products = &checked.products;
    let items = reserved
        .iter()
        .filter_map(|item| line(&item.sku, item.quantity, Some(&item.warehouse), products))
        .collect();

    let created = checked.order(world, request, items, rules)?;
    let mut draft = from_created(created, id, origin, stamp)?;
    let before = low_stock::available(world, &reserved);
    draft.record(EventData::StockReserved { items: reserved })?;
    low_stock::tell(&mut draft, world, before)?;
    if !rules.needs_approval {
        begin(&mut draft, rules);
    }
    Ok(draft.decide())
}

/// The validated parts of an order, apart from stock.
pub(super) struct Checked<'a> {
    pub(super) storefront: Storefront,
    pub(super) products: HashMap<&'a Sku, &'a Product>,
    pub(super) total: Money,
    pub(super) payment_method: String,
}

impl Checked<'_> {
    /// The order with its stock.
    pub(super) fn order(
        self,
        world: &WorkingSet,
        request: &CreateOrder,
        items: Vec<LineItem>,
        rules: &Rules,
    ) -> Result<OrderCreated, Failure> {
        Ok(OrderCreated {
            number: number(world)?,
            storefront: self.storefront,
            customer_id: request.customer_id,
            external_id: None,
            currency: self.total.currency,
            total: self.total.amount,
            items,
            shipping_address: request.shipping_address.clone(),
            payment_provider: rules.payment_provider.clone(),
            payment_method: self.payment_method,
            return_url: request.return_url.clone().map(Into::into),
            metadata: request.metadata.clone(),
            needs_approval: rules.needs_approval,
            awaits_stock: false,
        })
    }
}

/// The first event of an order, with the id that was acknowledged, or a new one.
pub(super) fn from_created<'a>(
    created: OrderCreated,
    id: Option<OrderId>,
    origin: &'a Origin,
    stamp: &'a mut DecisionContext,
) -> Result<OrderDraft<'a>, Failure> {
    let id = id.unwrap_or_else(|| stamp.id());
    let storefront = Some(created.storefront.clone());
    let fact = EventData::OrderCreated(Box::new(created));
    let created = event(id.to_string(), 1, storefront, origin, fact, stamp);
    OrderDraft::from_created(created, origin, stamp)
}

pub(super) fn check<'a>(
    world: &'a WorkingSet,
    caller: &Caller,
    request: &CreateOrder,
    rules: &Rules,
) -> Result<Checked<'a>, Failure> {
    // Check that the storefront is the caller's own, or the one that an operator names.
    let storefront = caller.owner(request.storefront.as_ref())?;

    // Check that the customer belongs to the storefront and is not blocked.
    match world
        .customers
        .get(&request.customer_id)
        .filter(|customer| customer.storefront == storefront)
    {
        None => {
            return Err(Failure::violation(
                "/customer_id",
                "is not a customer of this storefront",
            ));
        }
        Some(customer) if customer.erased_at.is_some() => {
            return Err(Failure::violation("/customer_id", "was erased"));
        }
        Some(customer) if rules.needs_verification && !customer.is_verified => {
            return Err(Failure::violation("/customer_id", "is not verified"));
        }
        Some(customer) if customer.is_blocked => {
            return Err(Failure::violation("/customer_id", "is blocked"));
        }
        Some(_) => {}
    }

    // Check that all products can be ordered, in one currency, and that the total is the one shown to the
    // customer.
    let products = catalogue(world, request)?;
    let total = price(request, &products)?;
    (rules.check_amount)(&rules.payment_provider, total)
        .map_err(|why| Failure::violation("/items", why))?;
    if let Some(expected) = request
        .expected_total
        .filter(|expected| *expected != total.amount)
    {
        let detail = format!("is {expected}, but the items cost {}", total.amount);
        return Err(Failure::violation("/expected_total", detail));
    }

    Ok(Checked {
        storefront,
        products,
        total,
        payment_method: payment_method(request, rules)?,
    })
}

/// The next order number.
pub(super) fn number(world: &WorkingSet) -> Result<i64, Failure> {
    let number = world.numbers.front().copied();
    number.ok_or_else(|| Failure::new(Code::Internal, "no number was drawn for the order"))
}

/// The ordered products by SKU, or all that can't be ordered.
fn catalogue<'a>(
    world: &'a WorkingSet,
    request: &CreateOrder,
) -> Result<HashMap<&'a Sku, &'a Product>, Failure> {
    let mut products = HashMap::new();
    let mut violations = Vec::new();
    for (index, item) in request.items.iter().enumerate() {
        match world.products.get_key_value(&item.sku) {
            Some((sku, product)) if !product.is_deleted => {
                products.insert(sku, product);
            }
            Some(_) | None => {
                violations.push(Violation::new(
                    format!("/items/{index}/sku"),
                    format!("no product {}", item.sku),
                ));
            }
        }
    }
    if violations.is_empty() {
        Ok(products)
    } else {
        Err(Failure::violations(&violations))
    }
}

/// The requested payment method, or the default.
fn payment_method(request: &CreateOrder, rules: &Rules) -> Result<String, Failure> {
    let named = request.payment_method.as_ref();
    named
        .or(rules.default_payment_method.as_ref())
        .cloned()
        .ok_or_else(|| Failure::violation("/payment_method", "is required"))
}

fn price(request: &CreateOrder, products: &HashMap<&Sku, &Product>) -> Result<Money, Failure> {
    let prices = request
        .items
        .iter()
        .enumerate()
        .filter_map(|(index, item)| {
            products
                .get(&item.sku)
                .map(|product| (index, product.price(), item.quantity.get()))
        });
    let mut total: Option<Money> = None;
    for (index, price, quantity) in prices {
        let sum = total.unwrap_or_else(|| Money::zero(price.currency));
        let sum = sum
            .plus(price, quantity)
            .map_err(|detail| Failure::violation(format!("/items/{index}"), detail))?;
        total = Some(sum);
    }
    total.ok_or_else(|| Failure::violation("/items", "must have at least one entry"))
}

/// A line item from this warehouse.
pub(super) fn line(
    sku: &Sku,
    quantity: NonZeroU32,
    warehouse: Option<&Warehouse>,
    products: &HashMap<&Sku, &Product>,
) -> Option<LineItem> {
    products.get(sku).map(|product| LineItem {
        sku: sku.clone(),
        name: product.details.name.clone(),
        quantity,
        unit_price: product.details.price,
        warehouse: warehouse.cloned(),
    })
}
