//! Messages to customers: results of attempts, and messages to send again.

use shared::{
    id::MessageId,
    message::{MessageStatus, ResendMessage},
    outcome::Failure,
    request::Caller,
};

use super::{Rules, undeleted_order};
use crate::domain::{
    command::ResourceRef,
    decision::{Changes, Decision},
    decision_context::DecisionContext,
    message::{Message, MessageResult},
    working_set::WorkingSet,
};

/// Applies the result of an attempt, if it is the expected one.
pub(super) fn finish_message(
    working_set: &WorkingSet,
    id: MessageId,
    attempt: u32,
    result: &MessageResult,
    context: &mut DecisionContext,
) -> Decision {
    let expected_message = working_set
        .messages
        .get(&id)
        .filter(|message| message.attempt == attempt && message.due_at.is_some());
    let changed_message = expected_message.map(|message| {
        let mut message = message.clone();
        message.record_attempt(result, context.now(), context.random_jitter());
        message
    });
    new_decision(ResourceRef::NoContent, changed_message)
}

/// Sends a message again that is not waiting for an attempt.
pub(super) fn resend_message(
    working_set: &WorkingSet,
    caller: &Caller,
    request: &ResendMessage,
    rules: &Rules,
    context: &mut DecisionContext,
) -> Result<Decision, Failure> {
    caller.require_operator()?;
    let order = undeleted_order(working_set, caller, request.id)?;
    let message = working_set
        .messages
        .get(&request.message_id)
        .filter(|message| message.order_id == order.id)
        .ok_or_else(|| Failure::not_found("message", request.message_id))?;
    if !rules.sends_messages {
        return Err(Failure::invalid_state(
            "messages are switched off: the worker has no SMTP_URL",
        ));
    }
    if message.status == MessageStatus::Pending {
        return Err(Failure::invalid_state(
            "the message is waiting for its next attempt",
        ));
    }
    let mut message = message.clone();
    message.resend_now(context.now());
    Ok(new_decision(
        ResourceRef::Message(message.id),
        Some(message),
    ))
}

fn new_decision(reply: ResourceRef, changed_message: Option<Message>) -> Decision {
    Decision {
        reply: Ok(reply),
        changes: Changes {
            messages: changed_message.into_iter().collect(),
            ..Changes::default()
        },
    }
}
