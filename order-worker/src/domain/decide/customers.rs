//! Customers: each belongs to one storefront. They are personal data, so no event contains them.

use shared::{
    customer::{BlockCustomer, Customer, NewCustomer},
    event::{EventData, Origin},
    id::{CustomerId, OrderId},
    outcome::Failure,
    request::Caller,
};

use crate::domain::{
    command::Answer,
    decision::{Changes, Decision, OrderDraft},
    decision_context::DecisionContext,
    working_set::WorkingSet,
};

pub(super) fn create_customer(
    caller: &Caller,
    new: &NewCustomer,
    stamp: &mut DecisionContext,
) -> Result<Decision, Failure> {
    let storefront = caller.owner(new.storefront.as_ref())?;
    Ok(changed(Customer {
        id: stamp.id(),
        name: new.name.clone(),
        email: new.email.clone(),
        storefront,
        is_blocked: false,
        is_verified: false,
        erased_at: None,
        created_at: stamp.now(),
    }))
}

pub(super) fn block_customer(
    world: &WorkingSet,
    caller: &Caller,
    request: &BlockCustomer,
) -> Result<Decision, Failure> {
    let customer = visible(world, caller, request.id)?;
    Ok(changed(Customer {
        is_blocked: request.is_blocked,
        ..customer.clone()
    }))
}

pub(super) fn verify_customer(
    world: &WorkingSet,
    caller: &Caller,
    id: CustomerId,
) -> Result<Decision, Failure> {
    Ok(changed(Customer {
        is_verified: true,
        ..visible(world, caller, id)?.clone()
    }))
}

/// Erases the personal data; the row stays, for the orders that refer to it.
pub(super) fn erase_customer(
    world: &WorkingSet,
    caller: &Caller,
    id: CustomerId,
    stamp: &mut DecisionContext,
) -> Result<Decision, Failure> {
    let customer = visible(world, caller, id)?;
    Ok(changed(Customer {
        name: String::new(),
        email: String::new(),
        is_verified: false,
        erased_at: customer.erased_at.or(Some(stamp.now())),
        ..customer.clone()
    }))
}

/// Removes the customer's data from a closed order; open orders still need it.
pub(super) fn redact_order(
    world: &WorkingSet,
    caller: &Caller,
    origin: &Origin,
    id: OrderId,
    stamp: &mut DecisionContext,
) -> Result<Decision, Failure> {
    let order = super::visible(world, caller, id)?;
    let mut draft = OrderDraft::of(order, origin, stamp);
    let says_nothing = order.shipping_address.is_none()
        && order.metadata.is_empty()
        && order.payment_method.is_empty();
    if order.is_over() && !says_nothing {
        draft.record(EventData::OrderRedacted {})?;
    }
    Ok(draft.decide())
}

fn visible<'a>(
    world: &'a WorkingSet,
    caller: &Caller,
    id: CustomerId,
) -> Result<&'a Customer, Failure> {
    let customer = world.customers.get(&id);
    customer
        .filter(|customer| caller.may_see(&customer.storefront))
        .ok_or_else(|| Failure::not_found("customer", id))
}

fn changed(customer: Customer) -> Decision {
    let answer = Ok(Answer::Customer(customer.id));
    Decision {
        answer,
        changes: Changes {
            customers: vec![customer],
            ..Changes::default()
        },
    }
}
