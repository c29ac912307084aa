//! The worker's end of RPC: what a delivered message asks for, on whose behalf, until when; and
//! the envelope that answers it.

use std::time::{Duration, Instant};

use super::{
    connection::{Away, Broker},
    consumer,
    message::{Headers, Incoming, Outgoing, Receipt, unix_now},
    publisher::Replier,
    topology::REQUEST_QUEUE,
};
use crate::{
    body,
    id::Storefront,
    outcome::{Code, Failure, Outcome, Told},
    request::{Caller, Request, Role},
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Names of the headers of a request; all are optional.
pub mod header {
    /// `storefront`, `operator` or `admin`; default `storefront`.
    pub const ROLE: &str = "role";
    /// Whose data the caller sees; default `default`.
    pub const STOREFRONT: &str = "storefront";
    /// The credential's name.
    pub const ACTOR: &str = "actor";
    /// What the caller wants.
    pub const INTENT: &str = "intent";
    /// The HTTP request's id.
    pub const REQUEST_ID: &str = "request_id";
    /// Unix milliseconds after which nobody waits for the answer.
    pub const DEADLINE: &str = "deadline";
    /// The client's `Idempotency-Key`.
    pub const IDEMPOTENCY_KEY: &str = "idempotency_key";
    /// On a reply: `true` when this answer was given before.
    pub const REPLAYED: &str = "idempotent_replayed";
}

/// Characters of a header's value that are kept.
const MAX_HEADER: usize = 200;

/// A request as it was delivered. What is wrong with it is known only after [`Delivered::read`].
pub struct Delivered {
    message: Incoming,
}

/// Where the answer goes, and the receipt that settles the request once it is answered.
pub struct Asker {
    reply_to: Option<String>,
    correlation_id: Option<String>,
    receipt: Receipt,
}

/// What a delivered message asks for.
#[derive(Debug)]
pub struct Asked {
    /// What.
    pub request: Request,
    /// On whose behalf.
    pub caller: Caller,
    /// The client's own key, scoped to the caller by whoever uses it.
    pub idempotency_key: Option<String>,
    /// Tells this message from every other.
    pub identity: Option<Identity>,
    /// After this nobody waits for the answer.
    pub deadline: Option<Instant>,
}

/// The idempotency key of last resort: what was done for a message is found again when the broker
/// delivers it again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// The sender named the message: the same name is the same message, however it comes.
    Named(String),
    /// The sender did not, but told where it waits and for what. Who reuses a correlation id means
    /// another request, so this tells only of redeliveries.
    Waiting {
        /// Reply queue and correlation id.
        place: String,
        /// Whether the broker delivered the message before.
        is_redelivered: bool,
    },
}

/// Requests from [`REQUEST_QUEUE`], until `stop`.
pub fn requests(
    broker: Broker,
    prefetch: u16,
    stop: CancellationToken,
) -> mpsc::Receiver<Incoming> {
    // A classic queue has no delivery limit.
    consumer::consume(
        broker,
        REQUEST_QUEUE,
        prefetch,
        consumer::Undecodable::Discard,
        stop,
    )
}

impl From<Incoming> for Delivered {
    fn from(message: Incoming) -> Self {
        Self { message }
    }
}

impl Delivered {
    /// Reads the message; whatever is wrong with it becomes the answer.
    pub fn read(self) -> (Asker, Result<Asked, Failure>) {
        let Incoming {
            kind,
            correlation_id,
            reply_to,
            message_id,
            expiration,
            headers,
            body,
            ..
        } = self.message;
        let (received_at, is_redelivered) = (self.message.received_at, self.message.redelivered);
        let identity = match (message_id, &reply_to, &correlation_id) {
            (Some(id), _, _) => Some(Identity::Named(id)),
            (None, Some(queue), Some(id)) => Some(Identity::Waiting {
                place: format!("{queue}/{id}"),
                is_redelivered,
            }),
            (None, _, _) => None,
        };
        let receipt = self.message.receipt;
        let asker = Asker {
            reply_to,
            correlation_id,
            receipt,
        };
        let asked = read(&kind, &body, &headers).map(|(request, caller)| Asked {
            request,
            caller,
            idempotency_key: headers.get(header::IDEMPOTENCY_KEY).cloned(),
            identity,
            deadline: deadline(&headers, expiration, received_at),
        });
        (asker, asked)
    }
}

impl Asker {
    /// Sends the answer to where the asker listens, if it does.
    ///
    /// # Errors
    /// [`Away`] when it could not be sent.
    pub async fn reply(&self, replier: &Replier, told: Told) -> Result<(), Away> {
        if let Some(reply_to) = &self.reply_to {
            let envelope = envelope(self.correlation_id.clone(), told);
            return replier.reply(reply_to, &envelope).await;
        }
        if let Err(failure) = told.outcome {
            tracing::warn!(%failure, "a request without reply_to failed");
        }
        Ok(())
    }

    /// Leaves the request to be asked again: it is done, but not answered.
    pub async fn leave(self) {
        self.receipt.requeue().await;
    }

    /// Settles the request, after it was answered: a worker that dies in between is asked again
    /// and finds what it did by the message's id.
    pub async fn settle(self) {
        self.receipt.ack().await;
    }
}

fn envelope(correlation_id: Option<String>, told: Told) -> Outgoing {
    let body = serde_json::to_vec(&Outcome::from(told.outcome)).unwrap_or_else(|error| {
        format!(r#"{{"status":"FAILURE","error":{{"code":"INTERNAL","message":"{error}"}}}}"#)
            .into_bytes()
    });
    let headers = if told.is_replay {
        Headers::from([(header::REPLAYED.to_owned(), "true".to_owned())])
    } else {
        Headers::new()
    };
    Outgoing {
        correlation_id,
        headers,
        body,
        ..Outgoing::default()
    }
}

fn read(pattern: &str, bytes: &[u8], headers: &Headers) -> Result<(Request, Caller), Failure> {
    if pattern.is_empty() {
        return Err(Failure::new(
            Code::InvalidRequest,
            format!(
                "the property type must name the pattern: one of {}",
                Request::PATTERNS.join(", ")
            ),
        ));
    }
    let caller = caller(pattern, headers)?;
    let request = Request::read(pattern, body::parse(bytes)?)?;
    Ok((request, caller))
}

fn caller(pattern: &str, headers: &Headers) -> Result<Caller, Failure> {
    let wrong = |name: &str, error: String| {
        Failure::new(Code::InvalidRequest, format!("header {name}: {error}"))
    };
    let role = match headers.get(header::ROLE) {
        Some(role) => role.parse().map_err(|error| wrong(header::ROLE, error))?,
        None => Role::Storefront,
    };
    let storefront = match headers.get(header::STOREFRONT) {
        Some(name) => name
            .parse()
            .map_err(|error| wrong(header::STOREFRONT, error))?,
        None => Storefront::default(),
    };
    let text = |name: &str| {
        headers
            .get(name)
            .map(|text| printable(text))
            .filter(|text| !text.is_empty())
    };
    Ok(Caller {
        role,
        storefront,
        actor: text(header::ACTOR).unwrap_or_else(|| "amqp".to_owned()),
        intent: text(header::INTENT).unwrap_or_else(|| pattern.to_owned()),
        request_id: text(header::REQUEST_ID).unwrap_or_else(|| Uuid::now_v7().to_string()),
    })
}

/// Header values end up in logs and in the history: no control characters, no novels.
fn printable(text: &str) -> String {
    text.chars()
        .filter(|c| !c.is_control())
        .take(MAX_HEADER)
        .collect()
}

/// The earlier of the two deadlines that a request may carry: ours, a time of day, and the standard
/// `expiration`, of which nobody knows how much is left, so it is counted from delivery.
///
/// The broker drops a request that has waited longer than its `expiration`. So one that comes later
/// than that by our clock does not come late: the sender's clock or ours is wrong, and only
/// `expiration` counts.
fn deadline(
    headers: &Headers,
    expiration: Option<Duration>,
    received_at: Instant,
) -> Option<Instant> {
    let theirs = expiration.map(|left| left.min(MAX_DEADLINE));
    let ours = headers
        .get(header::DEADLINE)
        .and_then(|millis| millis.parse().ok())
        .map(Duration::from_millis)
        .and_then(|time| {
            let now = unix_now();
            let is_by_another_clock =
                theirs.is_some_and(|expiration| now.saturating_sub(time) > expiration);
            (!is_by_another_clock).then(|| time.saturating_sub(now).min(MAX_DEADLINE))
        });
    [ours, theirs]
        .into_iter()
        .flatten()
        .min()
        .map(|left| received_at + left)
}

/// Nobody waits longer than a day.
const MAX_DEADLINE: Duration = Duration::from_hours(24);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_headers_the_caller_is_the_default_storefront() {
        let caller = caller("order.get", &Headers::new()).unwrap();
        assert_eq!(caller.role, Role::Storefront);
        assert_eq!(caller.storefront.as_str(), "default");
        assert_eq!(caller.intent, "order.get");
        assert!(!caller.request_id.is_empty());
    }

    #[test]
    fn a_wrong_role_is_refused_and_control_characters_are_dropped() {
        let headers = Headers::from([("role".to_owned(), "root".to_owned())]);
        assert!(caller("order.get", &headers).is_err());
        let headers = Headers::from([("actor".to_owned(), "a\n2026 ERROR forged".to_owned())]);
        assert_eq!(
            caller("order.get", &headers).unwrap().actor,
            "a2026 ERROR forged"
        );
    }

    #[test]
    fn the_earlier_deadline_counts() {
        let now = Instant::now();
        let minute = Duration::from_mins(1);
        let passed = unix_now()
            .saturating_sub(Duration::from_secs(2))
            .as_millis();
        let passed = Headers::from([(header::DEADLINE.to_owned(), passed.to_string())]);
        assert!(deadline(&passed, Some(minute), now).unwrap() <= Instant::now());
        // An hour ago: the broker would have dropped it, so the clocks differ. And in an hour.
        for millis in [1, (unix_now() + Duration::from_hours(1)).as_millis()] {
            let odd = Headers::from([(header::DEADLINE.to_owned(), millis.to_string())]);
            assert_eq!(deadline(&odd, Some(minute), now), Some(now + minute));
        }
        assert_eq!(
            deadline(&Headers::new(), Some(Duration::from_millis(7)), now),
            Some(now + Duration::from_millis(7))
        );
        assert_eq!(deadline(&Headers::new(), None, now), None);
    }
}
