//! Decisions: functions from a working set and a command to a decision, one file per command or group of
//! related commands.
//!
//! [`carry_out`] handles idempotency keys and preconditions for all commands, and applies the decision to the
//! working set; [`decide`] only decides.

mod accept_order;
mod api_keys;
mod approval;
mod cancel_order;
mod create_order;
mod create_shipment;
mod customers;
mod delete_order;
mod edit_order;
mod edit_stock;
mod failed_steps;
mod finish_step;
mod fulfillment;
mod import_order;
mod labels;
mod low_stock;
mod manual_payment;
mod messages;
mod payment;
mod price_edit;
mod price_order;
mod product_images;
mod products;
mod refund_order;
mod refunds;
mod returns;
mod update_order;
mod update_shipment;
mod webhooks;

use jiff::SignedDuration;
use serde_json::json;
use shared::{
    etag,
    id::OrderId,
    money::Money,
    outcome::{Code, Failure, RpcReply},
    request::{Caller, Role},
};

use super::{
    command::{Action, Command, KeyOrigin, ResourceRef, origin_of_request},
    decide::{
        customers::{
            block_customer, create_customer, erase_customer, redact_order, update_customer,
            verify_customer,
        },
        failed_steps::{discard_step, redrive_step},
    },
    decision::{Changes, Decision},
    decision_context::DecisionContext,
    order::Order,
    working_set::WorkingSet,
};

/// Business rules set by the configuration.
#[expect(clippy::struct_excessive_bools, reason = "independent settings")]
#[derive(Debug, Clone)]
pub struct Rules {
    /// Time for which stock is reserved for an outstanding payment.
    pub reservation_ttl: SignedDuration,
    /// Time for which stock is reserved for an outstanding manual payment.
    pub manual_payment_ttl: SignedDuration,
    /// Whether orders need approval.
    pub needs_approval: bool,
    /// Payment provider of new orders.
    pub payment_provider: String,
    /// Checks whether the named payment provider can charge and refund an amount; the error is the reason why
    /// not.
    pub check_amount: fn(&str, Money) -> Result<(), String>,
    /// Payment method of requests that name none. Without it, every request has to name one.
    pub default_payment_method: Option<String>,
    /// Whether only verified customers can order.
    pub needs_verification: bool,
    /// Whether returned goods are refunded automatically.
    pub refunds_returns: bool,
    /// Whether messages to customers are switched on.
    pub sends_messages: bool,
    /// Whether storefronts can set prices other than the catalogue's.
    pub allows_storefront_prices: bool,
}

/// Decides `command`, applies the decision to `working_set`, and returns the reply.
pub fn carry_out(
    working_set: &mut WorkingSet,
    command: &Command,
    rules: &Rules,
    context: &mut DecisionContext,
) -> RpcReply {
    let (idempotency, role) = match command {
        Command::Request {
            idempotency,
            caller,
            ..
        } => (idempotency.as_ref(), caller.role),
        Command::FinishStep { .. }
        | Command::FinishDelivery { .. }
        | Command::FinishMessage { .. } => (None, Role::Operator),
    };
    if let Some(idempotency) = idempotency {
        let recorded_reply = match working_set.recorded_reply(idempotency, role) {
            Ok(None) => None,
            Ok(Some(outcome)) => Some(RpcReply {
                outcome,
                is_replay: idempotency.key_origin == KeyOrigin::Client,
            }),
            Err(failure) => Some(Err(failure).into()),
        };
        if let Some(recorded_result) = recorded_reply {
            let reused_key_decision = accept_order::decide_reused_key(
                working_set,
                command,
                &recorded_result.outcome,
                rules,
                context,
            );
            let Some(Decision { reply, changes }) = reused_key_decision else {
                return recorded_result;
            };
            working_set.apply(changes);
            return reply
                .and_then(|resource| working_set.render(&resource, role))
                .into();
        }
    }
    // A failed precondition is not recorded: the client can read the resource and repeat the request. A
    // resumed task met its precondition when it started, and may have changed the resource since.
    let is_resumed =
        idempotency.is_some_and(|idempotency| working_set.has_unfinished_task(idempotency));
    if !is_resumed && let Err(mismatch) = check_if_match(working_set, command) {
        return Err(mismatch).into();
    }
    let Decision { reply, changes } = decide(working_set, command, rules, context);
    working_set.apply(changes);
    let outcome = match command {
        Command::Request {
            action: Action::EndTask { outcome },
            ..
        } => outcome.clone(),
        _ => reply
            .clone()
            .and_then(|resource| working_set.render(&resource, role)),
    };
    let is_task_start = matches!(
        command,
        Command::Request {
            action: Action::BeginTask { .. },
            ..
        }
    );
    match idempotency {
        Some(idempotency) if is_task_start => working_set.record_task_start(idempotency),
        Some(idempotency) => working_set.record_reply(idempotency, reply.ok(), &outcome),
        None => {}
    }
    outcome.into()
}

/// Checks the `If-Match` precondition of `command`. Resources that are not visible to the caller are left to
/// the decision.
///
/// # Errors
/// `VERSION_MISMATCH`.
fn check_if_match(working_set: &WorkingSet, command: &Command) -> Result<(), Failure> {
    let Command::Request {
        caller,
        if_match: Some(condition),
        action,
        ..
    } = command
    else {
        return Ok(());
    };
    let Some(target_resource) = action.target() else {
        return condition.check_untagged();
    };
    if !working_set.is_visible(&target_resource, caller) {
        return Ok(());
    }
    condition.check(&etag::of(
        &working_set.render(&target_resource, caller.role)?,
    ))
}

/// Decides `command` without applying the decision.
pub fn decide(
    working_set: &WorkingSet,
    command: &Command,
    rules: &Rules,
    context: &mut DecisionContext,
) -> Decision {
    let decision = match command {
        Command::FinishStep {
            key,
            attempt,
            result,
        } => finish_step::finish_step(working_set, key, *attempt, result, rules, context),
        Command::FinishDelivery {
            endpoint_id,
            id,
            attempt,
            result,
        } => {
            let delivery = (*endpoint_id, *id);
            Ok(webhooks::finish_delivery(
                working_set,
                delivery,
                *attempt,
                result,
                context,
            ))
        }
        Command::FinishMessage {
            id,
            attempt,
            result,
        } => Ok(messages::finish_message(
            working_set,
            *id,
            *attempt,
            result,
            context,
        )),
        Command::Request { caller, action, .. } => {
            let decision = decide_action(working_set, caller, action, rules, context);
            decision.map_err(|failure| add_order_version(working_set, action, failure))
        }
    };
    decision.unwrap_or_else(Decision::from)
}

/// Adds the order's version to an `INVALID_STATE` failure: the history up to that version explains it.
fn add_order_version(working_set: &WorkingSet, action: &Action, mut failure: Failure) -> Failure {
    if failure.code == Code::InvalidState
        && let Some(
            ResourceRef::Order(order_id)
            | ResourceRef::Return {
                order_id: Some(order_id),
                ..
            },
        ) = action.target()
        && let Some(order) = working_set.orders.get(&order_id)
    {
        failure.details["order"] =
            json!({"id": order.id, "status": order.status, "version": order.version});
    }
    failure
}

/// Decides a caller's action.
#[expect(clippy::too_many_lines, reason = "one arm per action")]
fn decide_action(
    working_set: &WorkingSet,
    caller: &Caller,
    action: &Action,
    rules: &Rules,
    context: &mut DecisionContext,
) -> Result<Decision, Failure> {
    let origin = &origin_of_request(caller);
    match action {
        Action::CreateOrder(request) => {
            create_order::create_order(working_set, caller, origin, request, None, rules, context)
        }
        Action::AcceptOrder(accept) => {
            accept_order::accept_order(working_set, caller, origin, accept, rules, context)
        }
        Action::ImportOrder {
            id,
            legacy_id,
            key_origin,
            order,
        } => {
            let ids = (*id, *legacy_id, *key_origin);
            import_order::import_order(working_set, caller, origin, ids, order, rules, context)
        }
        Action::CancelOrder(request) => {
            cancel_order::cancel_order(working_set, caller, origin, request, context)
        }
        Action::DeleteOrder(request) => {
            delete_order::delete_order(working_set, caller, origin, request.id, context)
        }
        Action::RestoreOrder(request) => {
            delete_order::restore_order(working_set, caller, origin, request.id, context)
        }
        Action::ApproveOrder(request) => {
            approval::approve_order(working_set, caller, origin, request.id, rules, context)
        }
        Action::RejectOrder(request) => {
            approval::reject_order(working_set, caller, origin, request, context)
        }
        Action::UpdateOrder(request) => {
            update_order::update_order(working_set, caller, origin, request, context)
        }
        Action::RefundOrder(request) => {
            refund_order::refund_order(working_set, caller, origin, request, rules, context)
        }
        Action::RecordPayment(request) => {
            manual_payment::record_payment(working_set, caller, origin, request, context)
        }
        Action::CreateShipment(request) => {
            create_shipment::create_shipment(working_set, caller, origin, request, context)
        }
        Action::CancelShipment(request) => {
            create_shipment::cancel_shipment(working_set, caller, origin, request, context)
        }
        Action::CancelRemaining(request) => {
            cancel_order::cancel_remaining(working_set, caller, origin, request, context)
        }
        Action::EditOrder(request) => {
            edit_order::edit_order(working_set, caller, origin, request, rules, context)
        }
        Action::CancelEdit(request) => {
            edit_order::cancel_edit(working_set, caller, origin, request, context)
        }
        Action::NotifyPayment {
            order_id,
            reference: payment_reference,
        } => payment::notify_payment(
            working_set,
            caller,
            origin,
            *order_id,
            payment_reference,
            context,
        ),
        Action::UpdateShipment(request) => {
            update_shipment::update_shipment(working_set, caller, origin, request, rules, context)
        }
        Action::CreateReturn(request) => {
            returns::create_return(working_set, caller, origin, request, rules, context)
        }
        Action::ChangeReturn { order_id, change } => returns::change_return(
            working_set,
            caller,
            origin,
            (*order_id, change),
            rules,
            context,
        ),
        Action::ResendMessage(request) => {
            messages::resend_message(working_set, caller, request, rules, context)
        }
        Action::CreateProduct(new_product) => {
            products::create_product(working_set, caller, origin, new_product, context)
        }
        Action::UpdateProduct(request) => {
            products::update_product(working_set, caller, origin, request, context)
        }
        Action::DeleteProduct(product) => {
            products::delete_product(working_set, caller, origin, &product.sku, context)
        }
        Action::AddImage(request) => {
            product_images::add_image(working_set, caller, origin, request, context)
        }
        Action::RemoveImage(request) => {
            product_images::remove_image(working_set, caller, origin, request, context)
        }
        Action::ReorderImages(request) => {
            product_images::reorder_images(working_set, caller, origin, request, context)
        }
        Action::SetStock(count) => products::set_stock(working_set, caller, origin, count, context),
        Action::AdjustStock(change) => {
            products::adjust_stock(working_set, caller, origin, change, context)
        }
        Action::RemoveStock(request) => {
            products::remove_stock(working_set, caller, origin, request, context)
        }
        Action::CreateCustomer(new_customer) => create_customer(caller, new_customer, context),
        Action::UpdateCustomer(request) => {
            update_customer(working_set, caller, origin, request, context)
        }
        Action::BlockCustomer(request) => {
            block_customer(working_set, caller, origin, request, context)
        }
        Action::VerifyCustomer(request) => {
            verify_customer(working_set, caller, origin, request.id, context)
        }
        Action::EraseCustomer(request) => {
            erase_customer(working_set, caller, origin, request.id, context)
        }
        Action::RedactOrder(order_id) => {
            redact_order(working_set, caller, origin, *order_id, context)
        }
        Action::RedriveStep(step_key) => {
            redrive_step(working_set, caller, origin, step_key, context)
        }
        Action::DiscardStep(step_key) => {
            discard_step(working_set, caller, origin, step_key, context)
        }
        Action::CreateEndpoint {
            new_endpoint,
            secret,
        } => webhooks::create_endpoint(working_set, caller, origin, new_endpoint, secret, context),
        Action::UpdateEndpoint(request) => {
            webhooks::update_endpoint(working_set, caller, origin, request, context)
        }
        Action::DeleteEndpoint(endpoint) => {
            webhooks::delete_endpoint(working_set, caller, origin, endpoint.id, context)
        }
        Action::RotateSecret { request, secret } => {
            webhooks::rotate_secret(working_set, caller, origin, request, secret, context)
        }
        Action::Redeliver(request) => webhooks::redeliver(working_set, caller, request, context),
        Action::CreateApiKey(request) => {
            api_keys::create_api_key(working_set, caller, origin, request, context)
        }
        Action::RevokeApiKey(request) => {
            api_keys::revoke_api_key(working_set, caller, origin, request.id, context)
        }
        Action::BeginTask { .. } | Action::EndTask { .. } => Ok(Decision {
            reply: Ok(ResourceRef::NoContent),
            changes: Changes::default(),
        }),
    }
}

/// The order, if it is visible to the caller.
fn visible_order<'a>(
    working_set: &'a WorkingSet,
    caller: &Caller,
    order_id: OrderId,
) -> Result<&'a Order, Failure> {
    working_set
        .orders
        .get(&order_id)
        .filter(|order| caller.may_see(&order.storefront))
        .ok_or_else(|| Failure::not_found("order", order_id))
}

/// The order, if it is visible to the caller and not deleted.
fn undeleted_order<'a>(
    working_set: &'a WorkingSet,
    caller: &Caller,
    order_id: OrderId,
) -> Result<&'a Order, Failure> {
    visible_order(working_set, caller, order_id).and_then(|order| {
        if order.is_deleted {
            Err(Failure::not_found("order", order_id))
        } else {
            Ok(order)
        }
    })
}

/// Whether the change counts as requested by the customer: storefronts send the requests of customers, operators and
/// admins those of the shop.
fn is_customer_request(caller: &Caller) -> bool {
    match caller.role {
        Role::Storefront => true,
        Role::Operator | Role::Admin => false,
    }
}
