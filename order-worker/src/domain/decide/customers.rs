//! Customers: each belongs to one storefront. They are personal data, so no event contains them: the event
//! `customer.updated` has the names of the changed fields.

use serde_json::{Map, Value};
use shared::{
    customer::{BlockCustomer, Customer, NewCustomer, UpdateCustomer},
    event::{EventData, Origin},
    id::{CustomerId, OrderId},
    limits::MAX_METADATA_BYTES,
    order::Shipment,
    outcome::Failure,
    request::Caller,
};

use crate::domain::{
    command::ResourceRef,
    decision::{Changes, Decision, OrderDraft, new_event},
    decision_context::DecisionContext,
    step::{Step, StepRow},
    working_set::WorkingSet,
};

/// Replaces the error of a step of an order whose customer was erased.
const ERASED_ERROR: &str = "the error was erased with the customer's data";

pub(super) fn create_customer(
    caller: &Caller,
    new_customer: &NewCustomer,
    context: &mut DecisionContext,
) -> Result<Decision, Failure> {
    let storefront = caller.owner(new_customer.storefront.as_ref())?;
    let customer = Customer {
        id: context.new_id(),
        name: new_customer.name.clone(),
        email: new_customer.email.clone(),
        phone: new_customer.phone.clone(),
        addresses: new_customer.addresses.clone(),
        metadata: new_customer.metadata.clone(),
        storefront,
        is_blocked: false,
        is_verified: false,
        version: 0,
        erased_at: None,
        created_at: context.now(),
    };
    let changes = Changes {
        customers: vec![customer.clone()],
        ..Changes::default()
    };
    Ok(new_decision(customer.id, changes))
}

/// Changes the given fields. A customer with another e-mail address is no longer verified.
pub(super) fn update_customer(
    working_set: &WorkingSet,
    caller: &Caller,
    origin: &Origin,
    update: &UpdateCustomer,
    context: &mut DecisionContext,
) -> Result<Decision, Failure> {
    let customer = visible_customer(working_set, caller, update.id)?;
    if let Some(erased_at) = customer.erased_at {
        return Err(Failure::invalid_state(format!(
            "customer {} was erased at {erased_at} and can't be changed",
            update.id
        )));
    }
    let UpdateCustomer {
        id: _,
        name,
        email,
        phone,
        addresses,
        metadata,
    } = update.clone();
    let mut changed_customer = customer.clone();
    if let Some(name) = name {
        changed_customer.name = name;
    }
    if let Some(email) = email {
        changed_customer.is_verified &= email == customer.email;
        changed_customer.email = email;
    }
    if let Some(phone) = phone {
        changed_customer.phone = phone;
    }
    if let Some(addresses) = addresses {
        changed_customer.addresses = addresses;
    }
    match metadata {
        Some(Some(metadata_patch)) => {
            merge_metadata(&mut changed_customer.metadata, metadata_patch)?;
        }
        Some(None) => changed_customer.metadata.clear(),
        None => {}
    }
    Ok(change_customer(customer, changed_customer, origin, context))
}

pub(super) fn block_customer(
    working_set: &WorkingSet,
    caller: &Caller,
    origin: &Origin,
    request: &BlockCustomer,
    context: &mut DecisionContext,
) -> Result<Decision, Failure> {
    let customer = visible_customer(working_set, caller, request.id)?;
    let changed_customer = Customer {
        is_blocked: request.is_blocked,
        ..customer.clone()
    };
    Ok(change_customer(customer, changed_customer, origin, context))
}

pub(super) fn verify_customer(
    working_set: &WorkingSet,
    caller: &Caller,
    origin: &Origin,
    customer_id: CustomerId,
    context: &mut DecisionContext,
) -> Result<Decision, Failure> {
    let customer = visible_customer(working_set, caller, customer_id)?;
    let changed_customer = Customer {
        is_verified: true,
        ..customer.clone()
    };
    Ok(change_customer(customer, changed_customer, origin, context))
}

/// Erases the personal data; the row stays, for the orders that refer to it.
pub(super) fn erase_customer(
    working_set: &WorkingSet,
    caller: &Caller,
    origin: &Origin,
    customer_id: CustomerId,
    context: &mut DecisionContext,
) -> Result<Decision, Failure> {
    let customer = visible_customer(working_set, caller, customer_id)?;
    let changed_customer = Customer {
        name: String::new(),
        email: String::new(),
        phone: None,
        addresses: Vec::new(),
        metadata: Map::new(),
        is_verified: false,
        erased_at: customer.erased_at.or(Some(context.now())),
        ..customer.clone()
    };
    Ok(change_customer(customer, changed_customer, origin, context))
}

/// Applies `patch`, a JSON Merge Patch, to `metadata`.
///
/// # Errors
/// `INVALID_REQUEST` if the result exceeds the limit of metadata. Its nesting can't exceed that of its parts.
pub(super) fn merge_metadata(
    metadata: &mut Map<String, Value>,
    patch: Map<String, Value>,
) -> Result<(), Failure> {
    merge(metadata, patch);
    let metadata_bytes = serde_json::to_string(metadata).map_or(usize::MAX, |text| text.len());
    if metadata_bytes > MAX_METADATA_BYTES {
        return Err(Failure::violation(
            "/metadata",
            format!("would have {metadata_bytes} bytes as JSON; {MAX_METADATA_BYTES} are allowed"),
        ));
    }
    Ok(())
}

/// Merges `patch` into `target` (RFC 7396, section 2).
fn merge(target: &mut Map<String, Value>, patch: Map<String, Value>) {
    for (member_name, patch_value) in patch {
        match patch_value {
            Value::Null => {
                target.remove(&member_name);
            }
            Value::Object(patch_object) => {
                let member = target.entry(member_name).or_insert(Value::Null);
                if !member.is_object() {
                    *member = Value::Object(Map::new());
                }
                if let Value::Object(member) = member {
                    merge(member, patch_object);
                }
            }
            patch_value => {
                target.insert(member_name, patch_value);
            }
        }
    }
}

/// Removes the customer's data from a closed order; open orders still need it.
pub(super) fn redact_order(
    working_set: &WorkingSet,
    caller: &Caller,
    origin: &Origin,
    order_id: OrderId,
    context: &mut DecisionContext,
) -> Result<Decision, Failure> {
    let order = super::visible_order(working_set, caller, order_id)?;
    let mut draft = OrderDraft::from_order(order, origin, context);
    let has_url =
        |shipment: &Shipment| shipment.tracking_url.is_some() || shipment.label_url.is_some();
    let has_no_personal_data = order.shipping_address.is_none()
        && order.metadata.is_empty()
        && order.note.is_none()
        && order.is_redacted()
        && !order.shipments.iter().any(has_url)
        && !order.has_return_texts()
        && !(order.is_paid_manually() && order.transactions().has_references());
    if order.is_closed() {
        if !has_no_personal_data {
            draft.record(EventData::OrderRedacted {})?;
        }
        redact_step_errors(&mut draft, working_set);
    }
    Ok(draft.into_decision())
}

/// Removes the errors of the order's steps: a carrier may quote the address. Those of manual refunds are the
/// worker's own.
fn redact_step_errors(draft: &mut OrderDraft<'_>, working_set: &WorkingSet) {
    let is_manual = draft.order.is_paid_manually();
    for row in working_set.steps_of(draft.order.id) {
        let is_worker_error = is_manual && row.key.step == Step::RefundPayment;
        let has_error = row
            .last_error
            .as_ref()
            .is_some_and(|error| error != ERASED_ERROR);
        if has_error && !is_worker_error {
            draft.put_step(StepRow {
                last_error: Some(ERASED_ERROR.to_owned()),
                ..row.clone()
            });
        }
    }
}

fn visible_customer<'a>(
    working_set: &'a WorkingSet,
    caller: &Caller,
    customer_id: CustomerId,
) -> Result<&'a Customer, Failure> {
    let customer = working_set.customers.get(&customer_id);
    customer
        .filter(|customer| caller.may_see(&customer.storefront))
        .ok_or_else(|| Failure::not_found("customer", customer_id))
}

/// The decision that changes `customer` to `changed_customer`, with the event that names the changed fields. Without a
/// difference there is neither a change nor an event.
fn change_customer(
    customer: &Customer,
    mut changed_customer: Customer,
    origin: &Origin,
    context: &mut DecisionContext,
) -> Decision {
    let changed_field_names = changed_fields(customer, &changed_customer);
    if changed_field_names.is_empty() {
        return new_decision(customer.id, Changes::default());
    }
    changed_customer.version += 1;
    let event = new_event(
        customer.id.to_string(),
        changed_customer.version,
        Some(customer.storefront.clone()),
        origin,
        EventData::CustomerUpdated {
            changed: changed_field_names,
        },
        context,
    );
    let changes = Changes {
        events: vec![event],
        customers: vec![changed_customer],
        ..Changes::default()
    };
    new_decision(customer.id, changes)
}

/// Names of the fields that differ.
fn changed_fields(customer_before: &Customer, customer_after: &Customer) -> Vec<String> {
    let field_changes = [
        ("name", customer_before.name != customer_after.name),
        ("email", customer_before.email != customer_after.email),
        ("phone", customer_before.phone != customer_after.phone),
        (
            "addresses",
            customer_before.addresses != customer_after.addresses,
        ),
        (
            "metadata",
            customer_before.metadata != customer_after.metadata,
        ),
        (
            "is_blocked",
            customer_before.is_blocked != customer_after.is_blocked,
        ),
        (
            "is_verified",
            customer_before.is_verified != customer_after.is_verified,
        ),
        (
            "erased_at",
            customer_before.erased_at != customer_after.erased_at,
        ),
    ];
    let changed_fields = field_changes
        .into_iter()
        .filter(|(_, is_different)| *is_different);
    changed_fields.map(|(name, _)| name.to_owned()).collect()
}

fn new_decision(customer_id: CustomerId, changes: Changes) -> Decision {
    Decision {
        reply: Ok(ResourceRef::Customer(customer_id)),
        changes,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn metadata_is_merged_as_in_rfc_7396() {
        // The examples of appendix A in which both are objects.
        for (target, patch, expected_result) in [
            (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
            (
                json!({"a": "b"}),
                json!({"b": "c"}),
                json!({"a": "b", "b": "c"}),
            ),
            (json!({"a": "b"}), json!({"a": null}), json!({})),
            (
                json!({"a": "b", "b": "c"}),
                json!({"a": null}),
                json!({"b": "c"}),
            ),
            (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "c"}), json!({"a": ["b"]}), json!({"a": ["b"]})),
            (
                json!({"a": {"b": "c"}}),
                json!({"a": {"b": "d", "c": null}}),
                json!({"a": {"b": "d"}}),
            ),
            (
                json!({"a": [{"b": "c"}]}),
                json!({"a": [1]}),
                json!({"a": [1]}),
            ),
            (
                json!({}),
                json!({"a": {"bb": {"ccc": null}}}),
                json!({"a": {"bb": {}}}),
            ),
            (
                json!({"e": null}),
                json!({"a": 1}),
                json!({"e": null, "a": 1}),
            ),
        ] {
            let (Value::Object(mut target_object), Value::Object(patch_object)) = (target, patch)
            else {
                panic!("both are objects")
            };
            merge(&mut target_object, patch_object);
            assert_eq!(Value::Object(target_object), expected_result);
        }
    }
}
