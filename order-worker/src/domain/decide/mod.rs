//! Decisions, one file per command: functions from a working set and a command to a decision.

mod accept_order;
mod approval;
mod cancel_order;
mod create_order;
mod create_shipment;
mod customers;
mod dead_steps;
mod delete_order;
mod finish_step;
mod import_order;
mod low_stock;
mod payment;
mod products;
mod refund_order;
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
    command::{Action, Answer, Command, Trust, origin_of_request},
    decision::{Changes, Decision},
    decision_context::DecisionContext,
    order::Order,
    working_set::WorkingSet,
};

/// Business rules set by the configuration.
#[derive(Debug, Clone)]
pub struct Rules {
    /// Time for which stock is reserved for an outstanding payment.
    pub reservation_ttl: SignedDuration,
    /// Whether orders need approval.
    pub needs_approval: bool,
    /// Payment provider of new orders.
    pub payment_provider: String,
    /// Says why the provider of this name can't charge or refund an amount, if it can't.
    pub check_amount: fn(&str, Money) -> Result<(), String>,
    /// What pays when a caller names nothing; without it, every caller has to.
    pub default_payment_method: Option<String>,
    /// Whether only verified customers can order.
    pub needs_verification: bool,
    /// Whether returned goods are refunded automatically.
    pub refunds_returns: bool,
}

/// Decides `command`, applies the decision to `world`, and returns the reply.
pub fn carry_out(
    world: &mut WorkingSet,
    command: &Command,
    rules: &Rules,
    stamp: &mut DecisionContext,
) -> RpcReply {
    let idempotency = match command {
        Command::Request { idempotency, .. } => idempotency.as_ref(),
        Command::Finish { .. } | Command::FinishDelivery { .. } => None,
    };
    if let Some(idempotency) = idempotency {
        let before = match world.answered_before(idempotency) {
            Ok(None) => None,
            Ok(Some(outcome)) => Some(RpcReply {
                outcome,
                is_replay: idempotency.trust == Trust::Client,
            }),
            Err(conflict) => Some(Err(conflict).into()),
        };
        if let Some(before) = before {
            let besides =
                accept_order::promised_besides(world, command, &before.outcome, rules, stamp);
            let Some(Decision { answer, changes }) = besides else {
                return before;
            };
            world.apply(changes);
            return answer.and_then(|answer| world.render(&answer)).into();
        }
    }
    // No answer to keep: the client looks again, and may ask the same of what it finds. A task that goes on
    // after it was interrupted has met its condition before, and has changed what that was about.
    let is_resumed = idempotency.is_some_and(|idempotency| world.has_begun(idempotency));
    if !is_resumed && let Err(mismatch) = check_condition(world, command) {
        return Err(mismatch).into();
    }
    let Decision { answer, changes } = decide(world, command, rules, stamp);
    world.apply(changes);
    let outcome = match command {
        Command::Request {
            action: Action::EndTask { outcome },
            ..
        } => outcome.clone(),
        _ => answer.clone().and_then(|answer| world.render(&answer)),
    };
    let is_begin = matches!(
        command,
        Command::Request {
            action: Action::BeginTask { .. },
            ..
        }
    );
    match idempotency {
        Some(idempotency) if is_begin => world.begin(idempotency),
        Some(idempotency) => world.record(idempotency, answer.ok(), &outcome),
        None => {}
    }
    outcome.into()
}

/// Checks the precondition of `command`. Resources that are not visible to the caller are left to the decision.
///
/// # Errors
/// `VERSION_MISMATCH`.
fn check_condition(world: &WorkingSet, command: &Command) -> Result<(), Failure> {
    let Command::Request {
        caller,
        if_match: Some(condition),
        action,
        ..
    } = command
    else {
        return Ok(());
    };
    let Some(target) = action.target() else {
        return condition.check_untagged();
    };
    if !world.is_visible(&target, caller) {
        return Ok(());
    }
    condition.check(&etag::of(&world.render(&target)?))
}

/// Decides `command` without applying the decision.
pub fn decide(
    world: &WorkingSet,
    command: &Command,
    rules: &Rules,
    stamp: &mut DecisionContext,
) -> Decision {
    let decided = match command {
        Command::Finish {
            key,
            attempt,
            result,
        } => finish_step::finish_step(world, key, *attempt, result, rules, stamp),
        Command::FinishDelivery {
            endpoint_id,
            id,
            attempt,
            answered,
        } => {
            let delivery = (*endpoint_id, *id);
            Ok(webhooks::finish_delivery(
                world, delivery, *attempt, answered, stamp,
            ))
        }
        Command::Request { caller, action, .. } => {
            let acted = act(world, caller, action, rules, stamp);
            acted.map_err(|failure| explain(world, action, failure))
        }
    };
    decided.unwrap_or_else(Decision::from)
}

/// Adds the order's version to an `INVALID_STATE` failure: the history up to that version explains it.
fn explain(world: &WorkingSet, action: &Action, mut failure: Failure) -> Failure {
    if failure.code == Code::InvalidState
        && let Some(Answer::Order(id)) = action.target()
        && let Some(order) = world.orders.get(&id)
    {
        failure.details["order"] =
            json!({"id": order.id, "status": order.status, "version": order.version});
    }
    failure
}

/// Decides a caller's action.
fn act(
    world: &WorkingSet,
    caller: &Caller,
    action: &Action,
    rules: &Rules,
    stamp: &mut DecisionContext,
) -> Result<Decision, Failure> {
    let origin = &origin_of_request(caller);
    match action {
        Action::CreateOrder(request) => {
            create_order::create_order(world, caller, origin, request, None, rules, stamp)
        }
        Action::AcceptOrder(accept) => {
            accept_order::accept_order(world, caller, origin, accept, rules, stamp)
        }
        Action::ImportOrder {
            id,
            former_id,
            order,
        } => {
            let ids = (*id, *former_id);
            import_order::import_order(world, caller, origin, ids, order, rules, stamp)
        }
        Action::CancelOrder(request) => {
            cancel_order::cancel_order(world, caller, origin, request, stamp)
        }
        Action::DeleteOrder(request) => {
            delete_order::delete_order(world, caller, origin, request.id, stamp)
        }
        Action::RestoreOrder(request) => {
            delete_order::restore_order(world, caller, origin, request.id, stamp)
        }
        Action::ApproveOrder(request) => {
            approval::approve_order(world, caller, origin, request.id, rules, stamp)
        }
        Action::RejectOrder(request) => {
            approval::reject_order(world, caller, origin, request, stamp)
        }
        Action::RefundOrder(request) => {
            refund_order::refund_order(world, caller, origin, request, rules, stamp)
        }
        Action::CreateShipment(request) => {
            create_shipment::create_shipment(world, caller, origin, request, stamp)
        }
        Action::CancelShipment(request) => {
            create_shipment::cancel_shipment(world, caller, origin, request, stamp)
        }
        Action::CancelRemaining(request) => {
            cancel_order::cancel_remaining(world, caller, origin, request, stamp)
        }
        Action::NotifyPayment {
            order_id,
            reference,
        } => payment::notify_payment(world, caller, origin, *order_id, reference, stamp),
        Action::UpdateShipment(update) => {
            update_shipment::update_shipment(world, caller, origin, update, rules, stamp)
        }
        Action::CreateProduct(new) => products::create_product(world, caller, origin, new, stamp),
        Action::UpdateProduct(update) => {
            products::update_product(world, caller, origin, update, stamp)
        }
        Action::DeleteProduct(product) => {
            products::delete_product(world, caller, origin, &product.sku, stamp)
        }
        Action::SetStock(count) => products::set_stock(world, caller, origin, count, stamp),
        Action::AdjustStock(change) => products::adjust_stock(world, caller, origin, change, stamp),
        Action::RemoveStock(request) => {
            products::remove_stock(world, caller, origin, request, stamp)
        }
        Action::CreateCustomer(new) => customers::create_customer(caller, new, stamp),
        Action::BlockCustomer(request) => customers::block_customer(world, caller, request),
        Action::VerifyCustomer(customer) => customers::verify_customer(world, caller, customer.id),
        Action::EraseCustomer(customer) => {
            customers::erase_customer(world, caller, customer.id, stamp)
        }
        Action::RedactOrder(id) => customers::redact_order(world, caller, origin, *id, stamp),
        Action::RedriveStep(key) => dead_steps::redrive_step(world, caller, origin, key, stamp),
        Action::DiscardStep(key) => dead_steps::discard_step(world, caller, origin, key, stamp),
        Action::CreateEndpoint { new, secret } => {
            webhooks::create_endpoint(world, caller, origin, new, secret, stamp)
        }
        Action::UpdateEndpoint(update) => {
            webhooks::update_endpoint(world, caller, origin, update, stamp)
        }
        Action::DeleteEndpoint(endpoint) => {
            webhooks::delete_endpoint(world, caller, origin, endpoint.id, stamp)
        }
        Action::RotateSecret { request, secret } => {
            webhooks::rotate_secret(world, caller, origin, request, secret, stamp)
        }
        Action::Redeliver(request) => webhooks::redeliver(world, caller, request, stamp),
        Action::BeginTask { .. } | Action::EndTask { .. } => Ok(Decision {
            answer: Ok(Answer::Done),
            changes: Changes::default(),
        }),
    }
}

/// The order, if it is visible to the caller.
fn visible<'a>(world: &'a WorkingSet, caller: &Caller, id: OrderId) -> Result<&'a Order, Failure> {
    world
        .orders
        .get(&id)
        .filter(|order| caller.may_see(&order.storefront))
        .ok_or_else(|| Failure::not_found("order", id))
}

/// The order, if it is visible to the caller and not deleted.
fn present<'a>(world: &'a WorkingSet, caller: &Caller, id: OrderId) -> Result<&'a Order, Failure> {
    visible(world, caller, id).and_then(|order| {
        if order.is_deleted {
            Err(Failure::not_found("order", id))
        } else {
            Ok(order)
        }
    })
}

/// Whether the change is requested by the customer rather than by the shop.
fn is_customer_request(caller: &Caller) -> bool {
    match caller.role {
        Role::Storefront => true,
        Role::Operator | Role::Admin => false,
    }
}
