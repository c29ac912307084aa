//! Creates an order that was acknowledged asynchronously: it is validated, priced and its stock reserved now. An
//! order that can't be fulfilled is stored as cancelled, with the reason.

use shared::{
    event::{EventData, OrderCreated, Origin},
    money::{Currency, MAX_AMOUNT},
    order::{AcceptOrder, CancelReason, LineItem, OrderStatus},
    outcome::{Code, Failure, Json},
    request::Caller,
};

use super::{Rules, create_order::create_order};
use crate::domain::{
    command::{Action, Answer, Command, origin_of_request},
    decision::{Changes, Decision, OrderDraft, event},
    decision_context::DecisionContext,
    working_set::{WorkingSet, stand_in_key},
};

/// Currency of an order that could not be priced (ISO 4217: no currency).
const NO_CURRENCY: &str = "XXX";
/// Maximum length of a stored reason in characters.
const MAX_NOTE: usize = 500;

pub(super) fn accept_order(
    world: &WorkingSet,
    caller: &Caller,
    origin: &Origin,
    accept: &AcceptOrder,
    rules: &Rules,
    stamp: &mut DecisionContext,
) -> Result<Decision, Failure> {
    let AcceptOrder { id, order: request } = accept;
    // The message was processed before.
    if world.orders.contains_key(id) {
        return Ok(Decision {
            answer: Ok(Answer::Order(*id)),
            changes: Changes::default(),
        });
    }
    match create_order(world, caller, origin, request, Some(*id), rules, stamp) {
        Err(failure) if failure.code != Code::Internal => {
            refuse(world, caller, origin, accept, &failure, rules, stamp)
        }
        decided => decided,
    }
}

/// Handles an asynchronous order whose idempotency key was used for another request before: its id then refers
/// to the order of the first request, or to a cancelled order that gives the reason.
pub(super) fn promised_besides(
    world: &WorkingSet,
    command: &Command,
    before: &Result<Json, Failure>,
    rules: &Rules,
    stamp: &mut DecisionContext,
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
    let stands_for = world.recorded.get(&idempotency.key)?.answer.as_ref();
    if stands_for == Some(&Answer::Order(accept.id)) {
        return None;
    }
    let mut decision = Decision {
        answer: Ok(Answer::Done),
        changes: Changes::default(),
    };
    let is_kept = world.orders.contains_key(&accept.id)
        || world.recorded.contains_key(&stand_in_key(accept.id));
    match (before, stands_for) {
        // The message was processed before.
        _ if is_kept => {}
        (Ok(_), Some(Answer::Order(order))) => {
            decision.changes.stand_ins.push((accept.id, *order));
        }
        (Ok(_), _) => return None,
        (Err(failure), _) => {
            let origin = &origin_of_request(caller);
            let refused = refuse(world, caller, origin, accept, failure, rules, stamp);
            decision = refused.unwrap_or_else(Decision::from);
        }
    }
    Some(decision)
}

/// The order as far as it is known, and the reason for its cancellation.
fn refuse(
    world: &WorkingSet,
    caller: &Caller,
    origin: &Origin,
    AcceptOrder { id, order: request }: &AcceptOrder,
    failure: &Failure,
    rules: &Rules,
    stamp: &mut DecisionContext,
) -> Result<Decision, Failure> {
    let number = world.numbers.front().copied();
    let defect = |what: String| Failure::new(Code::Internal, what);
    let products: Vec<_> = request
        .items
        .iter()
        .map(|item| world.products.get(&item.sku))
        .collect();
    let known = products.iter().flatten().next();
    let currency: Currency = match known {
        Some(product) => product.details.currency,
        None => NO_CURRENCY.parse().map_err(defect)?,
    };
    let items: Vec<LineItem> = request
        .items
        .iter()
        .zip(&products)
        .map(|(item, product)| LineItem {
            sku: item.sku.clone(),
            name: product.map_or_else(|| item.sku.to_string(), |one| one.details.name.clone()),
            quantity: item.quantity,
            unit_price: product.map_or(0, |one| one.details.price),
            warehouse: None,
        })
        .collect();
    let total = items.iter().fold(0_i64, |sum, item| {
        sum.saturating_add(item.unit_price.saturating_mul(item.quantity.get().into()))
    });
    let storefront = caller
        .owner(request.storefront.as_ref())
        .unwrap_or_else(|_| caller.storefront.clone());
    // Stores nothing about a customer who was erased meanwhile.
    let customer = world.customers.get(&request.customer_id);
    let is_erased = customer.is_some_and(|customer| customer.erased_at.is_some());
    let said = (!is_erased).then_some(request);
    let created = OrderCreated {
        number: number.ok_or_else(|| defect("no number was drawn for the order".to_owned()))?,
        storefront: storefront.clone(),
        customer_id: request.customer_id,
        external_id: None,
        currency,
        total: total.min(MAX_AMOUNT),
        items,
        shipping_address: said.and_then(|request| request.shipping_address.clone()),
        payment_provider: rules.payment_provider.clone(),
        payment_method: said
            .and_then(|request| request.payment_method.clone())
            .unwrap_or_default(),
        return_url: None,
        metadata: said
            .map(|request| request.metadata.clone())
            .unwrap_or_default(),
        needs_approval: false,
        awaits_stock: false,
    };
    let created = event(
        id.to_string(),
        1,
        Some(storefront),
        origin,
        EventData::OrderCreated(Box::new(created)),
        stamp,
    );
    let reason = match failure.code {
        Code::OutOfStock => CancelReason::OutOfStock,
        _ => CancelReason::Rejected,
    };
    let mut draft = OrderDraft::from_created(created, origin, stamp)?;
    draft.record(EventData::OrderCancelled {
        reason,
        note: Some(failure.message.chars().take(MAX_NOTE).collect()),
        was: Some(OrderStatus::Pending),
    })?;
    Ok(draft.decide())
}
