//! Returns: requested by the storefront or an operator, decided and received by operators. A return is part of
//! its order, so that shipments, refunds and returns are decided over the same state.
//!
//! The receipt fixes the refund. By default that is the units' exact share of the total without the fee,
//! whatever the setting for returned shipments; captured money limits it. Received units count as refunded,
//! so that no line is refunded with more than its total, and a fee is never refunded by a later rule.

use std::collections::BTreeMap;

use shared::{
    event::{EventData, Origin, RefundCause},
    id::{OrderId, ReturnId, Sku},
    money::Money,
    order::{
        CreateReturn, ReceiptRefund, ReceiveReturn, ReceivedItem, ReceivedQuantity, ReturnStatus,
        ReturnedItem,
    },
    outcome::{Failure, Violation},
    request::Caller,
};

use super::{Rules, refunds::schedule_refund, undeleted_order};
use crate::domain::{
    command::{ResourceRef, ReturnChange},
    decision::{Decision, OrderDraft},
    decision_context::DecisionContext,
    order::{Order, Return},
    working_set::WorkingSet,
};

/// Maximum number of returns of an order.
const MAX_RETURNS: usize = 100;
/// Maximum number of items of all returns of an order: the order contains them with their texts.
const MAX_RETURNED_ITEMS: usize = 2_000;

pub(super) fn create_return(
    working_set: &WorkingSet,
    caller: &Caller,
    origin: &Origin,
    request: &CreateReturn,
    rules: &Rules,
    context: &mut DecisionContext,
) -> Result<Decision, Failure> {
    let order = undeleted_order(working_set, caller, request.id)?;
    if order.shipped_shipments().next().is_none() {
        return Err(Failure::invalid_state(format!(
            "order {} is {}: nothing was shipped, so there is nothing to return",
            order.id,
            order.status.as_str()
        )));
    }
    let existing_item_count: usize = order
        .returns
        .iter()
        .map(|order_return| order_return.items.len())
        .sum();
    if order.returns.len() >= MAX_RETURNS
        || existing_item_count + request.items.len() > MAX_RETURNED_ITEMS
    {
        return Err(Failure::invalid_state(format!(
            "order {} has {} returns with {existing_item_count} items; at most {MAX_RETURNS} with {MAX_RETURNED_ITEMS} are allowed",
            order.id,
            order.returns.len()
        )));
    }
    check_requested_units(order, &request.items)?;
    let expected_quantities: Vec<_> = request.items.iter().map(expected_quantity).collect();
    let expected_items = order.receive_units(&expected_quantities, true, rules.refunds_returns);
    let refundable_amount = order.refundable_automatically() + order.outstanding_capture();
    let refund_amount = paid_value(&expected_items).min(refundable_amount.max(0));
    let mut draft = OrderDraft::from_order(order, origin, context);
    let return_id = draft.context().new_id();
    draft.record(EventData::ReturnRequested {
        return_id,
        return_number: format!("{}-R{}", order.number, order.returns.len() + 1),
        items: request.items.clone(),
        note: request.note.clone(),
        refund_amount,
    })?;
    Ok(into_decision(draft, return_id))
}

/// A requested item as if it had arrived, for the estimate of the refund.
fn expected_quantity(returned_item: &ReturnedItem) -> ReceivedQuantity {
    ReceivedQuantity {
        sku: returned_item.sku.clone(),
        quantity: returned_item.quantity,
        restock: false,
        warehouse: None,
    }
}

/// Checks that the units were shipped, have not come back, and are in no other open return.
fn check_requested_units(order: &Order, items: &[ReturnedItem]) -> Result<(), Failure> {
    let units = items
        .iter()
        .map(|returned_item| (&returned_item.sku, u64::from(returned_item.quantity.get())));
    check_units(
        units,
        |sku| order.returnable_units(sku),
        "were shipped and are not returned or in an open return yet",
    )
}

/// Checks that each product has as many units as `limit_of` allows; `units_description` describes these units.
fn check_units<'a>(
    items: impl Iterator<Item = (&'a Sku, u64)>,
    limit_of: impl Fn(&Sku) -> u64,
    units_description: &str,
) -> Result<(), Failure> {
    let mut counted_units: BTreeMap<&Sku, u64> = BTreeMap::new();
    let mut violations = Vec::new();
    for (index, (sku, units)) in items.enumerate() {
        let earlier_units = counted_units.get(sku).copied().unwrap_or(0);
        let unit_limit = limit_of(sku);
        if earlier_units + units > unit_limit {
            let remaining_units = unit_limit.saturating_sub(earlier_units);
            violations.push(Violation::new(
                format!("/items/{index}/quantity"),
                format!("only {remaining_units} units of {sku} {units_description}"),
            ));
        } else {
            counted_units.insert(sku, earlier_units + units);
        }
    }
    if violations.is_empty() {
        Ok(())
    } else {
        Err(Failure::violations(&violations))
    }
}

pub(super) fn change_return(
    working_set: &WorkingSet,
    caller: &Caller,
    origin: &Origin,
    (order_id, change): (Option<OrderId>, &ReturnChange),
    rules: &Rules,
    context: &mut DecisionContext,
) -> Result<Decision, Failure> {
    match change {
        ReturnChange::Approve(_) | ReturnChange::Reject(_) | ReturnChange::Receive(_) => {
            caller.require_operator()?;
        }
        ReturnChange::Cancel(_) => {}
    }
    let return_id = change.id();
    let not_found = || Failure::not_found("return", return_id);
    let order = order_id.and_then(|order_id| undeleted_order(working_set, caller, order_id).ok());
    let order = order.ok_or_else(not_found)?;
    let order_return = order.find_return(return_id).ok_or_else(not_found)?;
    let mut draft = OrderDraft::from_order(order, origin, context);
    match change {
        ReturnChange::Approve(_) => {
            check_status(order, order_return, &[ReturnStatus::Requested], "approved")?;
            draft.record(EventData::ReturnApproved { return_id })?;
        }
        ReturnChange::Reject(request) => {
            check_status(order, order_return, &[ReturnStatus::Requested], "rejected")?;
            draft.record(EventData::ReturnRejected {
                return_id,
                reason: request.reason.clone(),
            })?;
        }
        ReturnChange::Cancel(request) => {
            let open_statuses = [ReturnStatus::Requested, ReturnStatus::Approved];
            check_status(order, order_return, &open_statuses, "cancelled")?;
            draft.record(EventData::ReturnCancelled {
                return_id,
                reason: request.reason.clone(),
            })?;
        }
        ReturnChange::Receive(request) => {
            check_status(order, order_return, &[ReturnStatus::Approved], "received")?;
            receive_return(&mut draft, working_set, order_return, request, rules)?;
        }
    }
    Ok(into_decision(draft, return_id))
}

/// Checks that the status of a return allows the change.
fn check_status(
    order: &Order,
    order_return: &Return,
    allowed_statuses: &[ReturnStatus],
    action_name: &str,
) -> Result<(), Failure> {
    if allowed_statuses.contains(&order_return.status) {
        return Ok(());
    }
    let status_names: Vec<&str> = allowed_statuses
        .iter()
        .map(|status| status.as_str())
        .collect();
    Err(Failure::invalid_state(format!(
        "return {} of order {} is {} and can't be {action_name}: it must be {}",
        order_return.number,
        order.id,
        order_return.status.as_str(),
        status_names.join(" or ")
    )))
}

/// Checks that a warehouse that has no stock level of a product can get one: the product is not deleted.
fn check_warehouses(working_set: &WorkingSet, request: &ReceiveReturn) -> Result<(), Failure> {
    let is_stocked = |received_quantity: &ReceivedQuantity| {
        let Some(warehouse) = &received_quantity.warehouse else {
            return true;
        };
        let stock_levels = working_set.stock_levels.get(&received_quantity.sku);
        stock_levels.is_some_and(|stock_levels| stock_levels.contains_key(warehouse))
    };
    let is_sold = |sku: &Sku| {
        let product = working_set.products.get(sku);
        product.is_some_and(|product| !product.is_deleted)
    };
    let items = request.items.iter().enumerate();
    let invalid_items = items.filter(|(_, received_quantity)| {
        !is_stocked(received_quantity) && !is_sold(&received_quantity.sku)
    });
    let violations: Vec<_> = invalid_items
        .map(|(index, received_quantity)| {
            Violation::new(
                format!("/items/{index}/warehouse"),
                format!(
                    "has never stocked {}, and the product is deleted",
                    received_quantity.sku
                ),
            )
        })
        .collect();
    if violations.is_empty() {
        Ok(())
    } else {
        Err(Failure::violations(&violations))
    }
}

fn receive_return(
    draft: &mut OrderDraft<'_>,
    working_set: &WorkingSet,
    order_return: &Return,
    request: &ReceiveReturn,
    rules: &Rules,
) -> Result<(), Failure> {
    let units = || {
        let items = request.items.iter();
        items.map(|received_quantity| {
            (
                &received_quantity.sku,
                u64::from(received_quantity.quantity.get()),
            )
        })
    };
    let order = &draft.order;
    check_units(
        units(),
        |sku| order_return.requested_units(sku),
        &format!("are part of return {}", order_return.number),
    )?;
    check_units(
        units(),
        |sku| order.unreturned_units(sku),
        "have not come back yet: a shipment was returned",
    )?;
    check_warehouses(working_set, request)?;
    let is_to_be_refunded = request.refund != Some(ReceiptRefund::None);
    let items = order.receive_units(&request.items, is_to_be_refunded, rules.refunds_returns);
    let (refund_amount, fee) = refund_of_receipt(order, request, &items, rules)?;
    draft.record(EventData::ReturnReceived {
        return_id: order_return.id,
        items,
        refund_amount,
        fee,
    })?;
    if refund_amount > 0 {
        draft.record(EventData::refund_requested(
            refund_amount,
            RefundCause::ReturnReceived,
            Some(format!("return {}", order_return.number)),
        ))?;
        schedule_refund(draft)?;
    }
    Ok(())
}

/// The refund and the fee, in minor units.
fn refund_of_receipt(
    order: &Order,
    request: &ReceiveReturn,
    items: &[ReceivedItem],
    rules: &Rules,
) -> Result<(i64, i64), Failure> {
    let units_value = paid_value(items);
    let fee = request.fee.unwrap_or(0);
    match request.refund {
        Some(ReceiptRefund::None) => Ok((0, 0)),
        Some(ReceiptRefund::Amount(amount)) => {
            let refundable_amount = order.refundable_amount().max(0);
            if amount > refundable_amount {
                return Err(Failure::violation(
                    "/refund/amount",
                    format!("is {amount}, but only {refundable_amount} can be refunded"),
                ));
            }
            let refund_money = Money {
                amount,
                currency: order.currency,
            };
            (rules.check_amount)(&order.payment.provider, refund_money)
                .map_err(|reason| Failure::violation("/refund/amount", reason))?;
            Ok((amount, 0))
        }
        None if fee > units_value => Err(Failure::violation(
            "/fee",
            format!("is {fee}, but the received units are worth {units_value}"),
        )),
        None => {
            // The amount of units whose capture is not finished is not known yet.
            if units_value > 0 && order.outstanding_capture() > 0 {
                return Err(Failure::invalid_state(format!(
                    "order {}: {} minor units of its shipped items are not captured yet; receive the return after the \
                     capture, or with refund \"none\" or an amount",
                    order.id,
                    order.outstanding_capture()
                )));
            }
            let refundable_amount = order.refundable_automatically().max(0);
            Ok(((units_value - fee).min(refundable_amount), fee))
        }
    }
}

/// Amount that the customer was charged for the units, in minor units.
fn paid_value(items: &[ReceivedItem]) -> i64 {
    items
        .iter()
        .map(|received_item| received_item.value - received_item.unpaid)
        .sum()
}

/// The decision, with the return as its reply.
fn into_decision(draft: OrderDraft<'_>, return_id: ReturnId) -> Decision {
    let order_id = Some(draft.order.id);
    Decision {
        reply: Ok(ResourceRef::Return {
            order_id,
            id: return_id,
        }),
        ..draft.into_decision()
    }
}
