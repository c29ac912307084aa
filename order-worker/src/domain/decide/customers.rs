//! Customers: each belongs to one storefront. They are personal data, so no event contains them.

use shared::{
    customer::{BlockCustomer, Customer, NewCustomer},
    event::{EventData, Origin},
    id::{CustomerId, OrderId},
    outcome::Failure,
    request::Caller,
};

use crate::domain::{
    command::ResourceRef,
    decision::{Changes, Decision, OrderDraft},
    decision_context::DecisionContext,
    working_set::WorkingSet,
};

pub(super) fn create_customer(
    caller: &Caller,
    new: &NewCustomer,
    context: &mut DecisionContext,
) -> Result<Decision, Failure> {
    let storefront = caller.owner(new.storefront.as_ref())?;
    Ok(changed(Customer {
        id: context.id(),
        name: new.name.clone(),
        email: new.email.clone(),
        storefront,
        is_blocked: false,
        is_verified: false,
        erased_at: None,
        created_at: context.now(),
    }))
}

pub(super) fn block_customer(
    working_set: &WorkingSet,
    caller: &Caller,
    request: &BlockCustomer,
) -> Result<Decision, Failure> {
    let customer = visible_customer(working_set, caller, request.id)?;
    Ok(changed(Customer {
        is_blocked: request.is_blocked,
        ..customer.clone()
    }))
}

pub(super) fn verify_customer(
    working_set: &WorkingSet,
    caller: &Caller,
    id: CustomerId,
) -> Result<Decision, Failure> {
    Ok(changed(Customer {
        is_verified: true,
        ..visible_customer(working_set, caller, id)?.clone()
    }))
}

/// Erases the personal data; the row stays, for the orders that refer to it.
pub(super) fn erase_customer(
    working_set: &WorkingSet,
    caller: &Caller,
    id: CustomerId,
    context: &mut DecisionContext,
) -> Result<Decision, Failure> {
    let customer = visible_customer(working_set, caller, id)?;
    Ok(changed(Customer {
        name: String::new(),
        email: String::new(),
        is_verified: false,
        erased_at: customer.erased_at.or(Some(context.now())),
        ..customer.clone()
    }))
}

/// Removes the customer's data from a closed order; open orders still need it.
pub(super) fn redact_order(
    working_set: &WorkingSet,
    caller: &Caller,
    origin: &Origin,
    id: OrderId,
    context: &mut DecisionContext,
) -> Result<Decision, Failure> {
    let order = super::visible_order(working_set, caller, id)?;
    let mut draft = OrderDraft::from_order(order, origin, context);
    let has_no_personal_data = order.shipping_address.is_none()
        && order.metadata.is_empty()
        && order.payment_method.is_empty();
    if order.is_closed() && !has_no_personal_data {
        draft.record(EventData::OrderRedacted {})?;
    }
    Ok(draft.into_decision())
}

fn visible_customer<'a>(
    working_set: &'a WorkingSet,
    caller: &Caller,
    id: CustomerId,
) -> Result<&'a Customer, Failure> {
    let customer = working_set.customers.get(&id);
    customer
        .filter(|customer| caller.may_see(&customer.storefront))
        .ok_or_else(|| Failure::not_found("customer", id))
}

fn changed(customer: Customer) -> Decision {
    let reply = Ok(ResourceRef::Customer(customer.id));
    Decision {
        reply,
        changes: Changes {
            customers: vec![customer],
            ..Changes::default()
        },
    }
}
