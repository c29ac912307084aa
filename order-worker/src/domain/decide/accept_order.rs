//! Creates an order that was acknowledged asynchronously: it is validated, priced and its stock reserved now.
//! An order that can't be fulfilled is stored as cancelled, with the reason.

use shared::{
    event::{EventData, OrderCreated, Origin},
    money::{Currency, MAX_AMOUNT},
    order::{AcceptOrder, CancelReason, LineItem, OrderStatus},
    outcome::{Code, Failure, Json},
    request::Caller,
};

use super::{
    Rules,
    create_order::{create_order, payment_provider},
};
use crate::domain::{
    command::{Action, Command, ResourceRef, origin_of_request},
    decision::{Changes, Decision, OrderDraft, new_event},
    decision_context::DecisionContext,
    working_set::{WorkingSet, order_alias_key},
};

/// Currency of an order that could not be priced (ISO 4217: no currency).
const NO_CURRENCY: &str = "XXX";
/// Maximum length of a stored cancellation reason, in characters.
const MAX_NOTE_CHARS: usize = 500;

pub(super) fn accept_order(
    working_set: &WorkingSet,
    caller: &Caller,
    origin: &Origin,
    accept: &AcceptOrder,
    rules: &Rules,
    context: &mut DecisionContext,
) -> Result<Decision, Failure> {
    let AcceptOrder { id, order: request } = accept;
    // The message was processed before.
    if working_set.orders.contains_key(id) {
        return Ok(Decision {
            reply: Ok(ResourceRef::Order(*id)),
            changes: Changes::default(),
        });
    }
    match create_order(
        working_set,
        caller,
        origin,
        request,
        Some(*id),
        rules,
        context,
    ) {
        Err(failure) if failure.code != Code::Internal => create_cancelled_order(
            working_set,
            caller,
            origin,
            accept,
            &failure,
            rules,
            context,
        ),
        decision => decision,
    }
}

/// Handles an asynchronous order whose idempotency key was used for another request before: its id then refers
/// to the order of the first request, or to a cancelled order that gives the reason.
pub(super) fn decide_reused_key(
    working_set: &WorkingSet,
    command: &Command,
    recorded_reply: &Result<Json, Failure>,
    rules: &Rules,
    context: &mut DecisionContext,
) -> Option<Decision> {
    let Command::Request {
        caller,
        idempotency: Some(idempotency),
        action: Action::AcceptOrder(accept),
        ..
    } = command
    else {
        return None;
    };
    let recorded_order = working_set
        .idempotency_records
        .get(&idempotency.key)?
        .resource_ref
        .as_ref();
    if recorded_order == Some(&ResourceRef::Order(accept.id)) {
        return None;
    }
    let mut decision = Decision {
        reply: Ok(ResourceRef::NoContent),
        changes: Changes::default(),
    };
    let is_recorded = working_set.orders.contains_key(&accept.id)
        || working_set
            .idempotency_records
            .contains_key(&order_alias_key(accept.id));
    match (recorded_reply, recorded_order) {
        // The message was processed before.
        _ if is_recorded => {}
        (Ok(_), Some(ResourceRef::Order(order_id))) => {
            decision.changes.order_aliases.push((accept.id, *order_id));
        }
        (Ok(_), _) => return None,
        (Err(failure), _) => {
            let origin = &origin_of_request(caller);
            let cancelled_order_decision = create_cancelled_order(
                working_set,
                caller,
                origin,
                accept,
                failure,
                rules,
                context,
            );
            decision = cancelled_order_decision.unwrap_or_else(Decision::from);
        }
    }
    Some(decision)
}

/// Creates the order as cancelled, with the data that is known and the reason.
fn create_cancelled_order(
    working_set: &WorkingSet,
    caller: &Caller,
    origin: &Origin,
    AcceptOrder { id, order: request }: &AcceptOrder,
    failure: &Failure,
    rules: &Rules,
    context: &mut DecisionContext,
) -> Result<Decision, Failure> {
    let order_number = working_set.next_order_numbers.front().copied();
    let internal_error = |message: String| Failure::new(Code::Internal, message);
    let products: Vec<_> = request
        .items
        .iter()
        .map(|item| working_set.products.get(&item.sku))
        .collect();
    let known_product = products.iter().flatten().next();
    let currency: Currency = match known_product {
        Some(product) => product.details.currency,
        None => NO_CURRENCY.parse().map_err(internal_error)?,
    };
    let items: Vec<LineItem> = request
        .items
        .iter()
        .zip(&products)
        .map(|(item, product)| LineItem {
            sku: item.sku.clone(),
            name: product.map_or_else(
                || item.sku.to_string(),
                |product| product.details.name.clone(),
            ),
            quantity: item.quantity,
            unit_price: item
                .unit_price
                .or(product.map(|product| product.details.price))
                .unwrap_or(0),
            warehouse: None,
            discounts: Vec::new(),
            order_discount: 0,
            taxes: Vec::new(),
        })
        .collect();
    let total_amount = items.iter().fold(0_i64, |sum, item| {
        sum.saturating_add(item.unit_price.saturating_mul(item.quantity.get().into()))
    });
    let storefront = caller
        .owner(request.storefront.as_ref())
        .unwrap_or_else(|_| caller.storefront.clone());
    // Stores nothing about a customer who was erased meanwhile.
    let customer = working_set.customers.get(&request.customer_id);
    let is_erased = customer.is_some_and(|customer| customer.erased_at.is_some());
    let kept_request = (!is_erased).then_some(request);
    let order_created = OrderCreated {
        number: order_number
            .ok_or_else(|| internal_error("no order number was allocated".to_owned()))?,
        storefront: storefront.clone(),
        customer_id: request.customer_id,
        external_id: None,
        currency,
        total: total_amount.min(MAX_AMOUNT),
        items,
        // An order that was refused may have discounts and taxes that don't fit: they are not kept.
        shipping: None,
        discounts: Vec::new(),
        tax_included: false,
        shipping_address: kept_request.and_then(|request| request.shipping_address.clone()),
        payment_provider: payment_provider(request, rules).to_owned(),
        payment_method: kept_request
            .and_then(|request| {
                let requested_method = request.payment_method.as_ref();
                requested_method
                    .or(rules.default_payment_method.as_ref())
                    .cloned()
            })
            .unwrap_or_default(),
        return_url: None,
        metadata: kept_request
            .map(|request| request.metadata.clone())
            .unwrap_or_default(),
        needs_approval: false,
        awaits_stock: false,
    };
    let created_event = new_event(
        id.to_string(),
        1,
        Some(storefront),
        origin,
        EventData::OrderCreated(Box::new(order_created)),
        context,
    );
    let reason = match failure.code {
        Code::OutOfStock => CancelReason::OutOfStock,
        _ => CancelReason::Rejected,
    };
    let mut draft = OrderDraft::from_created(created_event, origin, context)?;
    draft.record(EventData::OrderCancelled {
        reason,
        note: Some(failure.message.chars().take(MAX_NOTE_CHARS).collect()),
        previous_status: Some(OrderStatus::Pending),
    })?;
    Ok(draft.into_decision())
}
