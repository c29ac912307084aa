//! Creates an order: validates it, prices it from the catalogue and reserves all of its stock, or refuses it
//! with all reasons of the first failing check.
//!
//! `accept_order` and `import_order` use the same validation.

use std::collections::HashMap;

use shared::{
    event::{EventData, OrderCreated, Origin},
    id::{OrderId, Sku, Storefront},
    money::Money,
    order::{CreateOrder, ItemQuantity, LineItem},
    outcome::{Code, Failure, Violation},
    request::Caller,
};

use super::{Rules, approval::start_workflow, low_stock, price_order::price};
use crate::domain::{
    amounts::assign_warehouses,
    decision::{Decision, OrderDraft, new_event},
    decision_context::DecisionContext,
    payment::MANUAL,
    product::Product,
    stock::allocate,
    working_set::WorkingSet,
};

pub(super) fn create_order(
    working_set: &WorkingSet,
    caller: &Caller,
    origin: &Origin,
    request: &CreateOrder,
    id: Option<OrderId>,
    rules: &Rules,
    context: &mut DecisionContext,
) -> Result<Decision, Failure> {
    let valid_order = validate(working_set, caller, request, rules)?;

    // Check that all items are in stock.
    let requested_items: Vec<ItemQuantity> = valid_order.items.iter().map(units_of).collect();
    let reserved_items = allocate(&requested_items, &working_set.stock_levels)?;
    let items = assign_warehouses(&valid_order.items, &reserved_items);

    let order_created = valid_order.into_order_created(working_set, request, items, rules)?;
    let mut draft = new_draft(order_created, id, origin, context)?;
    low_stock::reserve(&mut draft, working_set, reserved_items, None)?;
    if !rules.needs_approval {
        start_workflow(&mut draft, rules)?;
    }
    Ok(draft.into_decision())
}

/// The units of a line item.
pub(super) fn units_of(line: &LineItem) -> ItemQuantity {
    ItemQuantity {
        sku: line.sku.clone(),
        quantity: line.quantity,
    }
}

/// The validated parts of an order, without its stock.
pub(super) struct ValidOrder {
    pub(super) storefront: Storefront,
    /// The requested line items with their prices, without warehouses.
    pub(super) items: Vec<LineItem>,
    pub(super) total: Money,
    payment_provider: String,
    payment_method: String,
}

impl ValidOrder {
    /// The data of `order.created`, with these line items.
    pub(super) fn into_order_created(
        self,
        working_set: &WorkingSet,
        request: &CreateOrder,
        items: Vec<LineItem>,
        rules: &Rules,
    ) -> Result<OrderCreated, Failure> {
        Ok(OrderCreated {
            number: next_number(working_set)?,
            storefront: self.storefront,
            customer_id: request.customer_id,
            external_id: None,
            currency: self.total.currency,
            total: self.total.amount,
            items,
            shipping: request.shipping.as_deref().cloned(),
            discounts: request.discounts.clone(),
            tax_included: request.tax_included,
            shipping_address: request.shipping_address.clone(),
            // Neither a free order nor a manual payment has an authentication to return from.
            return_url: request
                .return_url
                .clone()
                .filter(|_| self.total.amount > 0 && self.payment_provider != MANUAL)
                .map(Into::into),
            payment_provider: self.payment_provider,
            payment_method: self.payment_method,
            metadata: request.metadata.clone(),
            needs_approval: rules.needs_approval,
            awaits_stock: false,
        })
    }
}

/// A draft of a new order with its first event. `id` is the id that was acknowledged; `None` generates one.
pub(super) fn new_draft<'a>(
    order_created: OrderCreated,
    id: Option<OrderId>,
    origin: &'a Origin,
    context: &'a mut DecisionContext,
) -> Result<OrderDraft<'a>, Failure> {
    let id = id.unwrap_or_else(|| context.new_id());
    let storefront = Some(order_created.storefront.clone());
    let event_data = EventData::OrderCreated(Box::new(order_created));
    let created_event = new_event(id.to_string(), 1, storefront, origin, event_data, context);
    OrderDraft::from_created(created_event, origin, context)
}

pub(super) fn validate(
    working_set: &WorkingSet,
    caller: &Caller,
    request: &CreateOrder,
    rules: &Rules,
) -> Result<ValidOrder, Failure> {
    // Check that the storefront is the caller's own, or the one that an operator names.
    let storefront = caller.owner(request.storefront.as_ref())?;

    // Check that the customer belongs to the storefront and is not blocked.
    match working_set
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
    let products_by_sku = find_products(working_set, request)?;
    let (items, total) = price(caller, request, &products_by_sku, rules)?;
    let payment_provider = payment_provider(request, rules);
    (rules.check_amount)(payment_provider, total)
        .map_err(|reason| Failure::violation("/items", reason))?;
    if let Some(expected_total) = request
        .expected_total
        .filter(|expected_total| *expected_total != total.amount)
    {
        let detail = format!(
            "is {expected_total}, but the order's total is {}",
            total.amount
        );
        return Err(Failure::violation("/expected_total", detail));
    }

    Ok(ValidOrder {
        storefront,
        items,
        total,
        payment_provider: payment_provider.to_owned(),
        payment_method: payment_method(request, rules)?,
    })
}

/// The next order number.
pub(super) fn next_number(working_set: &WorkingSet) -> Result<i64, Failure> {
    let order_number = working_set.next_order_numbers.front().copied();
    order_number.ok_or_else(|| Failure::new(Code::Internal, "no order number was allocated"))
}

/// The ordered products by SKU; the error names all that do not exist.
fn find_products<'a>(
    working_set: &'a WorkingSet,
    request: &CreateOrder,
) -> Result<HashMap<&'a Sku, &'a Product>, Failure> {
    let mut products_by_sku = HashMap::new();
    let mut violations = Vec::new();
    for (index, item) in request.items.iter().enumerate() {
        match working_set.products.get_key_value(&item.sku) {
            Some((sku, product)) if !product.is_deleted => {
                products_by_sku.insert(sku, product);
            }
            Some(_) | None => {
                violations.push(Violation::new(
                    format!("/items/{index}/sku"),
                    format!("product {} does not exist", item.sku),
                ));
            }
        }
    }
    if violations.is_empty() {
        Ok(products_by_sku)
    } else {
        Err(Failure::violations(&violations))
    }
}

/// The requested payment method, or the default.
fn payment_method(request: &CreateOrder, rules: &Rules) -> Result<String, Failure> {
    requested_or_default_method(request, rules)
        .cloned()
        .ok_or_else(|| Failure::violation("/payment_method", "is required"))
}

fn requested_or_default_method<'a>(
    request: &'a CreateOrder,
    rules: &'a Rules,
) -> Option<&'a String> {
    let requested_method = request.payment_method.as_ref();
    requested_method.or(rules.default_payment_method.as_ref())
}

/// The provider of the order's payment; `manual` is a payment method of any shop.
pub(super) fn payment_provider<'a>(request: &CreateOrder, rules: &'a Rules) -> &'a str {
    match requested_or_default_method(request, rules) {
        Some(method) if method == MANUAL => MANUAL,
        _ => &rules.payment_provider,
    }
}
