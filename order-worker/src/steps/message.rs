//! Messages of the step queue: each names an attempt of a step. Several steps may be sent as one batch, like
//! requests ([`shared::amqp::batch`]); each is executed and committed on its own.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use shared::{
    amqp::{
        batch::{self, BATCH_MESSAGE_TYPE, CallHeaders, Entry},
        message::{Incoming, OutgoingMessage},
    },
    id::OrderId,
};
use uuid::Uuid;

use crate::domain::step::{Step, StepKey, StepRow};

/// Maximum number of steps per message: it is settled after the last of them, and redelivered as a whole.
const MAX_STEPS_PER_MESSAGE: usize = 50;

/// An attempt of a step is due.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepMessage {
    /// Id of the order.
    pub order_id: OrderId,
    /// The step.
    pub step: Step,
    /// Number of the attempt.
    pub attempt: u32,
}

/// The steps of a message, and the parse error if some of them are unreadable.
pub type ParsedSteps = (Vec<StepMessage>, Option<serde_json::Error>);

impl StepMessage {
    /// Key of the step's row.
    pub fn key(&self) -> StepKey {
        StepKey {
            order_id: self.order_id,
            step: self.step.clone(),
        }
    }

    /// Parses the steps of `delivery`.
    pub fn read(delivery: &Incoming) -> ParsedSteps {
        if delivery.kind != BATCH_MESSAGE_TYPE {
            return match serde_json::from_slice(&delivery.body) {
                Ok(message) => (vec![message], None),
                Err(error) => (Vec::new(), Some(error)),
            };
        }
        let entries = match batch::split_entries(&delivery.body) {
            Ok(entries) => entries,
            Err(error) => return (Vec::new(), Some(error)),
        };
        let (mut messages, mut parse_error) = (Vec::with_capacity(entries.len()), None);
        for entry in entries {
            match Self::read_entry(entry) {
                Ok(message) => messages.push(message),
                Err(error) => parse_error = Some(error),
            }
        }
        (messages, parse_error)
    }

    fn read_entry(entry_json: &RawValue) -> serde_json::Result<Self> {
        let entry: Entry<'_> = serde_json::from_str(entry_json.get())?;
        serde_json::from_str(entry.body.get())
    }
}

/// The messages for `rows`, each with its rows; a single step is a plain message.
pub fn step_messages(rows: &[StepRow]) -> impl Iterator<Item = (&[StepRow], OutgoingMessage)> {
    rows.chunks(MAX_STEPS_PER_MESSAGE).map(|rows| {
        let message = match rows {
            [row] => OutgoingMessage {
                kind: Some(row.key.step.kind().to_owned()),
                message_id: Some(StepMessageId(row).to_string()),
                headers: call_headers(row).into_headers(),
                body: serde_json::to_vec(&step_message(row)).unwrap_or_default(),
                ..OutgoingMessage::default()
            },
            rows => OutgoingMessage {
                kind: Some(BATCH_MESSAGE_TYPE.to_owned()),
                message_id: Some(Uuid::now_v7().to_string()),
                body: batch_body(rows),
                ..OutgoingMessage::default()
            },
        };
        let persistent_message = OutgoingMessage {
            persistent: true,
            ..message
        };
        (rows, persistent_message)
    })
}

fn batch_body(rows: &[StepRow]) -> Vec<u8> {
    let bodies: Vec<_> = rows
        .iter()
        .map(|row| to_raw_value(&step_message(row)).unwrap_or_default())
        .collect();
    let entries = rows.iter().zip(&bodies).map(|(row, body)| Entry {
        kind: row.key.step.kind().into(),
        correlation_id: None,
        message_id: Some(StepMessageId(row).to_string().into()),
        expiration: None,
        headers: call_headers(row),
        body,
    });
    let body_bytes = bodies.iter().map(|body| body.get().len()).sum();
    batch::to_json_array(&entries.collect::<Vec<_>>(), body_bytes)
}

fn step_message(row: &StepRow) -> StepMessage {
    let StepKey { order_id, step } = row.key.clone();
    StepMessage {
        order_id,
        step,
        attempt: row.attempt,
    }
}

/// Id of a message: order, step and attempt.
pub(super) struct StepMessageId<'a>(pub(super) &'a StepRow);

impl fmt::Display for StepMessageId<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.0.key, self.0.attempt)
    }
}

fn call_headers(row: &StepRow) -> CallHeaders<'_> {
    CallHeaders {
        intent: Some(row.key.step.kind().into()),
        request_id: Some(row.request_id.as_str().into()),
        ..CallHeaders::from_trace_context(row.trace_context.as_ref())
    }
}
