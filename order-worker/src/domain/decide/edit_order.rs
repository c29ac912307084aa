//! Edits an order before anything was shipped: quantities, new line items, discounts and the shipping charge.
//!
//! An edit takes effect at once if its total is authorized already, or if no payment was requested yet. Otherwise
//! it is pending: its additional units are reserved, and the step `authorize_edit` authorizes a new payment over
//! the new total. When that succeeded, the edit takes effect and the step `void_authorization` voids the earlier
//! authorization. When the edit is rejected, its units are released and the same step voids the new
//! authorization, whether it exists, is being requested, or never will be. So no two authorizations of an order
//! stay open.

use std::collections::BTreeSet;

use shared::{
    event::{EditRequested, EventData, OrderEdited, Origin, RefundCause},
    id::{Sku, Warehouse},
    order::{CancelEdit, EditOrder, EditRejectReason, OrderStatus, PaymentStatus, StockItem},
    outcome::{Code, Failure},
    request::Caller,
};

use super::{
    Rules, edit_stock, labels, low_stock,
    manual_payment::start_when_paid,
    price_edit::{EditedOrder, price_edit},
    refunds::schedule_refund,
    undeleted_order,
};
use crate::domain::{
    decision::{Decision, OrderDraft},
    decision_context::DecisionContext,
    order::Order,
    step::{Step, StepKey},
    working_set::WorkingSet,
};

/// Reason of released stock and cancelled shipments.
const EDIT_REASON: &str = "the order was edited";

pub(super) fn edit_order(
    working_set: &WorkingSet,
    caller: &Caller,
    origin: &Origin,
    request: &EditOrder,
    rules: &Rules,
    context: &mut DecisionContext,
) -> Result<Decision, Failure> {
    let order = undeleted_order(working_set, caller, request.id)?;
    ensure_editable(order)?;
    let priced_order = price_edit(working_set, caller, order, request, rules)?;
    let needs_authorization = order.status == OrderStatus::Processing
        && priced_order.total > 0
        && priced_order.total > order.payable_amount();
    if needs_authorization && priced_order.changes(order) {
        ensure_payment_replaceable(working_set, order, request)?;
    }

    // Check that the additional units are in stock.
    let allocation = edit_stock::allocate_lines(working_set, order, &priced_order)?;

    let mut draft = OrderDraft::from_order(order, origin, context);
    if !priced_order.changes(order) {
        return Ok(draft.into_decision());
    }
    let edited_order = EditedOrder {
        items: allocation.items,
        ..priced_order
    };
    if needs_authorization {
        request_authorization(
            &mut draft,
            working_set,
            request,
            edited_order,
            allocation.additional_items,
            rules,
        )?;
    } else {
        low_stock::reserve(&mut draft, working_set, allocation.additional_items, None)?;
        apply_edit(
            &mut draft,
            working_set,
            edited_order,
            None,
            request.reason.clone(),
        )?;
    }
    Ok(draft.into_decision())
}

pub(super) fn cancel_edit(
    working_set: &WorkingSet,
    caller: &Caller,
    origin: &Origin,
    request: &CancelEdit,
    context: &mut DecisionContext,
) -> Result<Decision, Failure> {
    let order = undeleted_order(working_set, caller, request.id)?;
    if order.pending_edit.is_none() {
        return Err(Failure::invalid_state(format!(
            "order {} is {} and has no pending edit to cancel: it has taken effect or was rejected",
            order.id,
            order.status.as_str()
        )));
    }
    let mut draft = OrderDraft::from_order(order, origin, context);
    let (reject_reason, note) = (EditRejectReason::Cancelled, request.reason.clone());
    reject_edit(&mut draft, reject_reason, None, note)?;
    Ok(draft.into_decision())
}

/// Checks that nothing was shipped, and that neither an edit nor the order's first authorization is in progress.
fn ensure_editable(order: &Order) -> Result<(), Failure> {
    order.ensure_no_pending_edit()?;
    let refuse = |refusal_reason: &str| {
        Err(Failure::invalid_state(format!(
            "order {} is {} and can't be edited: {refusal_reason}",
            order.id,
            order.status.as_str()
        )))
    };
    match order.status {
        OrderStatus::Pending if order.awaits_approval || order.awaits_stock => Ok(()),
        OrderStatus::Pending if order.is_paid_manually() => Ok(()),
        OrderStatus::Pending => refuse(
            "its payment is being authorized; edit it when it is processing, or cancel it and place another order",
        ),
        OrderStatus::Processing | OrderStatus::Shipped | OrderStatus::Delivered => {
            order.ensure_not_shipped("edited")
        }
        OrderStatus::Cancelled => refuse("cancelled orders stay as they are"),
    }
}

/// Checks that a new payment can replace the present one.
fn ensure_payment_replaceable(
    working_set: &WorkingSet,
    order: &Order,
    request: &EditOrder,
) -> Result<(), Failure> {
    let capture_key = StepKey {
        order_id: order.id,
        step: Step::CapturePayment,
    };
    if !has_replaceable_payment(order) || working_set.steps.contains_key(&capture_key) {
        return Err(Failure::invalid_state(format!(
            "order {} is {}, and its payment is captured or needs an operator: its total can't rise above {} minor units; place another order for the additional items",
            order.id,
            order.status.as_str(),
            order.payable_amount()
        )));
    }
    if order.payment_method.is_empty() && request.payment_method.is_none() {
        return Err(Failure::violation(
            "/payment_method",
            "is required: the order has none, and its higher total has to be authorized",
        ));
    }
    Ok(())
}

/// Whether nothing was captured: the payment is authorized, or the order is free.
fn has_replaceable_payment(order: &Order) -> bool {
    let payment = &order.payment;
    match payment.status {
        PaymentStatus::Authorized => payment.captured == 0,
        PaymentStatus::Captured => order.total == 0 && payment.captured == 0,
        PaymentStatus::Pending
        | PaymentStatus::Voided
        | PaymentStatus::PartiallyRefunded
        | PaymentStatus::Refunded
        | PaymentStatus::Failed => false,
    }
}

/// Records the edit as pending, and requests the authorization of its total.
fn request_authorization(
    draft: &mut OrderDraft<'_>,
    working_set: &WorkingSet,
    request: &EditOrder,
    edited_order: EditedOrder,
    additional_items: Vec<StockItem>,
    rules: &Rules,
) -> Result<(), Failure> {
    let edit_number = draft.order.last_edit_number + 1;
    draft.record(EventData::OrderEditRequested(Box::new(EditRequested {
        edit_number,
        total: edited_order.total,
        items: edited_order.items,
        shipping: edited_order.shipping,
        discounts: edited_order.discounts,
        payment_method: request.payment_method.clone(),
        reason: request.reason.clone(),
    })))?;
    low_stock::reserve(draft, working_set, additional_items, Some(edit_number))?;
    draft.schedule(Step::AuthorizeEdit(edit_number));
    let expires_at = draft.context().now() + rules.reservation_ttl;
    draft.schedule_later(Step::ExpireEdit(edit_number), expires_at);
    Ok(())
}

/// The total of a pending edit is authorized: the edit takes effect, and the earlier authorization is voided.
pub(super) fn on_edit_authorized(
    draft: &mut OrderDraft<'_>,
    working_set: &WorkingSet,
    edit_number: u32,
    (provider, payment_reference, amount): (&str, &str, i64),
) -> Result<(), Failure> {
    let pending_edit = draft.order.pending_edit.clone();
    let Some(pending_edit) = pending_edit.filter(|pending_edit| pending_edit.number == edit_number)
    else {
        return Err(Failure::new(
            Code::Internal,
            format!("edit {edit_number} is not pending"),
        ));
    };
    // The earlier payment was captured in the provider's dashboard, for example.
    if !has_replaceable_payment(&draft.order) {
        return reject_edit(draft, EditRejectReason::PaymentChanged, None, None);
    }
    let replaced_authorization_number = draft.order.authorized_edit_number;
    let replaces_authorization = draft.order.payment.status == PaymentStatus::Authorized;
    draft.record(EventData::PaymentAuthorized {
        provider: provider.to_owned(),
        reference: payment_reference.to_owned(),
        amount,
        edit_number: Some(edit_number),
    })?;
    if replaces_authorization {
        draft.schedule(Step::VoidAuthorization(replaced_authorization_number));
    }
    draft.remove_step(Step::ExpireEdit(edit_number));
    draft.remove_step(Step::CheckPayment);
    let edited_order = EditedOrder {
        items: pending_edit.items,
        are_items_changed: true,
        shipping: pending_edit.shipping,
        discounts: pending_edit.discounts,
        total: pending_edit.total,
    };
    apply_edit(
        draft,
        working_set,
        edited_order,
        Some(edit_number),
        pending_edit.reason,
    )
}

/// Rejects the pending edit, if there is one: releases its units and voids its authorization, whether that exists,
/// is being requested, or never will be.
pub(super) fn reject_edit(
    draft: &mut OrderDraft<'_>,
    reason: EditRejectReason,
    provider_code: Option<String>,
    note: Option<String>,
) -> Result<(), Failure> {
    let Some(pending_edit) = draft.order.pending_edit.clone() else {
        return Ok(());
    };
    let edit_number = pending_edit.number;
    if !pending_edit.reserved.is_empty() {
        draft.record(EventData::StockReleased {
            items: pending_edit.reserved,
            reason: None,
            edit_number: Some(edit_number),
        })?;
    }
    draft.record(EventData::OrderEditRejected {
        edit_number,
        reason,
        code: provider_code,
        note,
    })?;
    draft.remove_step(Step::AuthorizeEdit(edit_number));
    draft.remove_step(Step::ExpireEdit(edit_number));
    draft.schedule(Step::VoidAuthorization(edit_number));
    Ok(())
}

/// Makes an edit take effect: releases units that are not needed any more, replaces the labels of warehouses whose
/// items change, and settles the payment. Additional units are reserved already, for the order or for the pending
/// edit with number `edit_number`.
fn apply_edit(
    draft: &mut OrderDraft<'_>,
    working_set: &WorkingSet,
    edited_order: EditedOrder,
    edit_number: Option<u32>,
    edit_reason: Option<String>,
) -> Result<(), Failure> {
    let order = draft.order.clone();
    let additional_items: Vec<StockItem> = order
        .pending_edit
        .iter()
        .flat_map(|pending_edit| pending_edit.reserved.clone())
        .collect();
    let unneeded_items =
        edit_stock::unneeded_items(&order, &additional_items, &edited_order.items)?;
    let changed_warehouses = edit_stock::changed_warehouses(&order, &edited_order.items);
    // An awaited label is replaced, too: the release of units below ends the waiting for it.
    let labelled_warehouses = labels::warehouses_with_or_awaiting_label(working_set, &order);
    let relabelled_warehouses: Vec<Warehouse> = labelled_warehouses
        .into_iter()
        .filter(|warehouse| changed_warehouses.contains(warehouse))
        .collect();
    for warehouse in &relabelled_warehouses {
        labels::withdraw_label(draft, warehouse);
    }
    // Released before the labels are replaced: with the release of its units, no label is awaited any more.
    if !unneeded_items.is_empty() {
        draft.record(EventData::StockReleased {
            items: unneeded_items,
            reason: Some(EDIT_REASON.to_owned()),
            edit_number: None,
        })?;
    }
    let skus_after: BTreeSet<&Sku> = edited_order.items.iter().map(|line| &line.sku).collect();
    let skus_before: BTreeSet<&Sku> = order.items.iter().map(|line| &line.sku).collect();
    let removed_skus = skus_before
        .difference(&skus_after)
        .map(|sku| (*sku).clone())
        .collect();
    draft.record(EventData::OrderEdited(Box::new(OrderEdited {
        edit_number,
        removed: removed_skus,
        total: edited_order.total,
        previous_total: order.total,
        items: edited_order.items,
        shipping: edited_order.shipping,
        discounts: edited_order.discounts,
        replaced_labels: relabelled_warehouses.clone(),
        reason: edit_reason,
    })))?;
    labels::cancel_shipments(draft, &relabelled_warehouses, EDIT_REASON)?;
    if order.status == OrderStatus::Processing {
        let warehouses_before = order.warehouses();
        for warehouse in draft.order.warehouses().difference(&warehouses_before) {
            let label_id = draft.order.label_id(warehouse);
            draft.schedule(Step::RequestShipment(label_id));
        }
        settle_payment(draft, &order)?;
    } else if awaits_manual_payment(&order) {
        settle_payment(draft, &order)?;
        start_when_paid(draft)?;
    }
    Ok(())
}

/// Whether the order waits for money that is received outside of a payment provider, and for nothing else.
fn awaits_manual_payment(order: &Order) -> bool {
    order.is_paid_manually()
        && order.status == OrderStatus::Pending
        && !order.awaits_approval
        && !order.awaits_stock
}

/// Settles the payment of an order whose edit took effect; `order_before` is the order before the edit.
/// Without anything to pay, the authorization is voided; what was captured beyond the new total is refunded. A
/// manual payment that is now received in full starts the fulfilment.
fn settle_payment(draft: &mut OrderDraft<'_>, order_before: &Order) -> Result<(), Failure> {
    let has_abandoned_authorization = draft
        .order
        .open_authorizations
        .contains_key(&order_before.authorized_edit_number);
    let is_free = draft.order.total == 0 && draft.order.payment.status == PaymentStatus::Pending;
    if is_free {
        draft.record(EventData::captured(0, true))?;
        draft.remove_step(Step::CheckPayment);
        draft.remove_step(Step::CapturePayment);
        if has_abandoned_authorization {
            draft.schedule(Step::VoidAuthorization(order_before.authorized_edit_number));
        }
    }
    let mut excess_amount =
        draft.order.payment.captured - draft.order.total - draft.order.edit_refunds;
    if draft.order.is_paid_manually() {
        // An earlier overpayment stays until an operator refunds it.
        excess_amount = excess_amount.min(order_before.total - draft.order.total);
    }
    let refund_amount = excess_amount.min(draft.order.refundable_automatically());
    if refund_amount > 0 {
        draft.record(EventData::refund_requested(
            refund_amount,
            RefundCause::OrderEdited,
            Some("edited".to_owned()),
        ))?;
        schedule_refund(draft)?;
    }
    Ok(())
}
