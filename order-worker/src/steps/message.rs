//! Messages on the step queue: which attempt of which step it is time for. Steps that were put
//! together may travel together, as requests do ([`shared::amqp::batch`]); each is performed, and
//! its result committed, by itself.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use shared::{
    amqp::{
        batch::{self, BATCH, CallHeaders, Entry},
        message::{Incoming, Outgoing},
    },
    id::OrderId,
};
use uuid::Uuid;

use crate::domain::step::{Step, StepKey, StepRow};

/// Steps of one message at most: it is settled with the last of them, and after the death of its
/// worker all are looked at again.
const MAX_STEPS: usize = 50;

/// It is time for this attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepMessage {
    /// Of which order.
    pub order_id: OrderId,
    /// Which step.
    pub step: Step,
    /// Which attempt.
    pub attempt: u32,
}

/// What a message says it is time for, and why some of it can't be read, if so.
pub type Read = (Vec<StepMessage>, Option<serde_json::Error>);

impl StepMessage {
    /// The key of the step's row.
    pub fn key(&self) -> StepKey {
        StepKey {
            order_id: self.order_id,
            step: self.step.clone(),
        }
    }

    /// What `delivery` says it is time for, and why some of it can't be read, if so.
    pub fn read(delivery: &Incoming) -> Read {
        if delivery.kind != BATCH {
            return match serde_json::from_slice(&delivery.body) {
                Ok(message) => (vec![message], None),
                Err(error) => (Vec::new(), Some(error)),
            };
        }
        let parts = match batch::parts(&delivery.body) {
            Ok(parts) => parts,
            Err(error) => return (Vec::new(), Some(error)),
        };
        let (mut messages, mut unreadable) = (Vec::with_capacity(parts.len()), None);
        for part in parts {
            match Self::read_entry(part) {
                Ok(message) => messages.push(message),
                Err(error) => unreadable = Some(error),
            }
        }
        (messages, unreadable)
    }

    fn read_entry(part: &RawValue) -> serde_json::Result<Self> {
        let entry: Entry<'_> = serde_json::from_str(part.get())?;
        serde_json::from_str(entry.body.get())
    }
}

/// The messages that say it is time for `rows`, each with the rows it is about: a plain one for one.
pub fn messages(rows: &[StepRow]) -> impl Iterator<Item = (&[StepRow], Outgoing)> {
    rows.chunks(MAX_STEPS).map(|rows| {
        let message = match rows {
            [row] => Outgoing {
                kind: Some(row.key.step.kind().to_owned()),
                message_id: Some(Name(row).to_string()),
                headers: headers(row).into_headers(),
                body: serde_json::to_vec(&step(row)).unwrap_or_default(),
                ..Outgoing::default()
            },
            rows => Outgoing {
                kind: Some(BATCH.to_owned()),
                message_id: Some(Uuid::now_v7().to_string()),
                body: together(rows),
                ..Outgoing::default()
            },
        };
        let persistent = Outgoing {
            persistent: true,
            ..message
        };
        (rows, persistent)
    })
}

fn together(rows: &[StepRow]) -> Vec<u8> {
    let bodies: Vec<_> = rows
        .iter()
        .map(|row| to_raw_value(&step(row)).unwrap_or_default())
        .collect();
    let entries = rows.iter().zip(&bodies).map(|(row, body)| Entry {
        kind: row.key.step.kind().into(),
        correlation_id: None,
        message_id: Some(Name(row).to_string().into()),
        expiration: None,
        headers: headers(row),
        body,
    });
    let bytes = bodies.iter().map(|body| body.get().len()).sum();
    batch::together(&entries.collect::<Vec<_>>(), bytes)
}

fn step(row: &StepRow) -> StepMessage {
    let StepKey { order_id, step } = row.key.clone();
    StepMessage {
        order_id,
        step,
        attempt: row.attempt,
    }
}

/// What a message is called: the attempt that it is time for.
pub(super) struct Name<'a>(pub(super) &'a StepRow);

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.0.key, self.0.attempt)
    }
}

fn headers(row: &StepRow) -> CallHeaders<'_> {
    CallHeaders {
        intent: Some(row.key.step.kind().into()),
        request_id: Some(row.request_id.as_str().into()),
        traceparent: row.traceparent.as_deref().map(Into::into),
        ..CallHeaders::default()
    }
}
