//! Customers: known to one storefront each. They are personal data, so no event carries them.

use shared::{
    customer::{BlockCustomer, Customer, NewCustomer},
    outcome::Failure,
    request::Caller,
};

use crate::domain::{
    command::Answer,
    decision::{Changes, Decision},
    stamp::Stamp,
    world::World,
};

pub(super) fn create_customer(
    caller: &Caller,
    new: &NewCustomer,
    stamp: &mut Stamp,
) -> Result<Decision, Failure> {
    let storefront = caller.owner(new.storefront.as_ref())?;
    Ok(changed(Customer {
        id: stamp.id(),
        name: new.name.clone(),
        email: new.email.clone(),
        storefront,
        is_blocked: false,
        created_at: stamp.now(),
    }))
}

pub(super) fn block_customer(
    world: &World,
    caller: &Caller,
    request: &BlockCustomer,
) -> Result<Decision, Failure> {
    let customer = world
        .customers
        .get(&request.id)
        .filter(|customer| caller.may_see(&customer.storefront))
        .ok_or_else(|| Failure::not_found("customer", request.id))?;
    Ok(changed(Customer {
        is_blocked: request.is_blocked,
        ..customer.clone()
    }))
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
