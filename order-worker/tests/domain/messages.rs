//! Messages to customers: which event gives which message, and their retries.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use order_worker::domain::message::{
    AttemptOutcome, EVENT_TYPES, MAX_UNCONFIRMED_ATTEMPTS, Message, MessageResult, MessageTopic,
    RETRY_PERIOD, SentContent, message_of,
};
use shared::{
    event::EventData,
    message::{MessageKind, MessageStatus},
};
use uuid::Uuid;

fn start_time() -> Timestamp {
    "2026-01-31T12:00:00Z".parse().unwrap()
}

fn new_message() -> Message {
    Message::new(
        Uuid::now_v7().into(),
        Uuid::now_v7().into(),
        (Uuid::now_v7().into(), 7),
        (MessageKind::OrderConfirmed, MessageTopic::Order),
        start_time(),
    )
}

fn message_result(outcome: AttemptOutcome) -> MessageResult {
    let sent_content = SentContent {
        recipient: "ada@example.com".to_owned(),
        subject: "Order 1".to_owned(),
        text: "Hello".to_owned(),
    };
    MessageResult {
        outcome,
        content: Some(sent_content),
    }
}

fn failed_result() -> MessageResult {
    message_result(AttemptOutcome::Failed("451 try again later".to_owned()))
}

#[test]
fn each_kind_of_message_is_given_by_one_event_type() {
    let events = [
        EventData::OrderProcessing {},
        EventData::ShipmentShipped {
            shipment_id: Uuid::now_v7().into(),
            items: Vec::new(),
            carrier: String::new(),
            tracking_number: String::new(),
            tracking_url: None,
            occurred_at: None,
        },
        EventData::OrderDelivered {},
        EventData::OrderCancelled {
            reason: shared::order::CancelReason::Expired,
            note: None,
            previous_status: None,
        },
        EventData::refunded(5),
        EventData::ReturnReceived {
            return_id: Uuid::now_v7().into(),
            items: Vec::new(),
            refund_amount: 0,
            fee: 0,
        },
    ];
    let event_types: Vec<_> = events.iter().map(EventData::kind).collect();
    assert_eq!(event_types, EVENT_TYPES);
    let message_kinds: BTreeSet<_> = events
        .iter()
        .map(|event| message_of(event).unwrap().0)
        .collect();
    assert_eq!(message_kinds, MessageKind::ALL.into());
    for event in [EventData::OrderShipped {}, EventData::captured(5, true)] {
        assert_eq!(message_of(&event), None);
    }
}

#[test]
fn message_is_retried_with_growing_delays_for_two_days() {
    let (mut message, mut current_time) = (new_message(), start_time());
    let mut delays = Vec::new();
    while message.status == MessageStatus::Pending {
        let due_at = message.due_at.unwrap();
        delays.push(due_at.duration_since(current_time));
        current_time = due_at;
        message.record_attempt(&failed_result(), current_time, 1.0);
    }
    assert_eq!(message.status, MessageStatus::Failed);
    assert_eq!(delays[1..4], [5, 10, 20].map(SignedDuration::from_secs));
    assert_eq!(delays.last(), Some(&SignedDuration::from_mins(30)));
    let retry_duration = current_time.duration_since(start_time());
    assert!(
        retry_duration >= RETRY_PERIOD
            && retry_duration <= RETRY_PERIOD + SignedDuration::from_hours(1)
    );
    assert_eq!(message.attempts as usize, delays.len());
    assert_eq!(message.error.as_deref(), Some("451 try again later"));
}

#[test]
fn message_that_may_have_been_accepted_is_repeated_a_few_times_only() {
    let mut message = new_message();
    let unconfirmed_result = message_result(AttemptOutcome::Unconfirmed("no response".to_owned()));
    message.record_attempt(&failed_result(), start_time(), 0.5);
    for _ in 0..MAX_UNCONFIRMED_ATTEMPTS {
        assert_eq!(message.status, MessageStatus::Pending);
        message.record_attempt(&unconfirmed_result, start_time(), 0.5);
    }
    assert_eq!(message.status, MessageStatus::Failed);
    message.resend_now(start_time());
    message.record_attempt(&unconfirmed_result, start_time(), 0.5);
    assert_eq!(message.status, MessageStatus::Pending);
}

#[test]
fn bounced_and_unrenderable_messages_are_not_retried() {
    for (outcome, status) in [
        (
            AttemptOutcome::Bounced("550".to_owned()),
            MessageStatus::Bounced,
        ),
        (
            AttemptOutcome::Unrenderable("line 1".to_owned()),
            MessageStatus::Failed,
        ),
        (
            AttemptOutcome::NotSent("blocked".to_owned()),
            MessageStatus::NotSent,
        ),
        (AttemptOutcome::Sent, MessageStatus::Sent),
    ] {
        let mut message = new_message();
        message.record_attempt(&message_result(outcome), start_time(), 0.5);
        assert_eq!((message.status, message.due_at), (status, None));
        assert_eq!(message.sent_at.is_some(), status == MessageStatus::Sent);
    }
}

#[test]
fn message_id_changes_only_when_it_is_resent() {
    let mut message = new_message();
    let first_header_id = message.header_id();
    message.record_attempt(&failed_result(), start_time(), 0.5);
    assert_eq!(message.header_id(), first_header_id);
    message.record_attempt(&message_result(AttemptOutcome::Sent), start_time(), 0.5);
    message.resend_now(start_time());
    assert_ne!(message.header_id(), first_header_id);
    assert_eq!(
        (message.status, message.failures),
        (MessageStatus::Pending, 0)
    );
}

#[test]
fn redacted_message_has_no_personal_data_and_is_not_sent() {
    let mut sent_message = new_message();
    sent_message.record_attempt(&message_result(AttemptOutcome::Sent), start_time(), 0.5);
    let mut waiting_message = new_message();
    waiting_message.record_attempt(&failed_result(), start_time(), 0.5);
    for (message, status) in [
        (&mut sent_message, MessageStatus::Sent),
        (&mut waiting_message, MessageStatus::NotSent),
    ] {
        let attempt = message.attempt;
        message.redact();
        assert_eq!((message.status, message.due_at), (status, None));
        let message_json = serde_json::to_string(message).unwrap();
        assert!(
            !message_json.contains("ada@")
                && !message_json.contains("Order 1")
                && !message_json.contains("451"),
            "{message_json}"
        );
        // The result of an attempt in progress does not match the number of the next one.
        assert!(status == MessageStatus::Sent || message.attempt > attempt);
    }
}
