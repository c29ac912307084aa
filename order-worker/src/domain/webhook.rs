//! Webhook endpoints and deliveries: filters, signing secrets, retries.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use shared::{
    event::EventFilter,
    id::{DeliveryId, EndpointId, EventId, Storefront},
    request::{Caller, Role},
    webhook::{
        Attempt, Delivery as DeliveryRepresentation, DeliveryStatus, DisabledReason,
        Endpoint as Representation, EndpointUrl,
    },
};

use super::step::Retry;

/// Maximum number of endpoints per owner.
pub const MAX_ENDPOINTS: usize = 100;
/// Time after which a delivery fails, and after which an endpoint without a success is disabled.
pub const RETRY_FOR: SignedDuration = SignedDuration::from_hours(24);
/// Maximum number of stored attempts.
const MAX_ATTEMPTS_KEPT: usize = 20;
/// Backoff between attempts; limited by time, not by number.
const RETRY: Retry = Retry {
    attempts: u32::MAX,
    first: SignedDuration::from_secs(5),
    longest: SignedDuration::from_hours(2),
};

/// A webhook endpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Endpoint {
    /// UUIDv7.
    pub id: EndpointId,
    /// Storefront whose events are delivered; `None`: all.
    pub storefront: Option<Storefront>,
    /// URL that webhooks are sent to.
    pub url: EndpointUrl,
    /// Description.
    pub description: Option<String>,
    /// Event types to deliver; `None`: all.
    pub event_types: Option<EventFilter>,
    /// Signing secrets, newest first.
    pub secrets: Vec<Secret>,
    /// Whether events are delivered.
    pub is_enabled: bool,
    /// Version at which it was last enabled: only later events are delivered.
    #[serde(default = "first_version")]
    pub enabled_at_version: u64,
    /// Reason why the system disabled it.
    pub disabled_reason: Option<DisabledReason>,
    /// Time of the first failure since the last success.
    pub failing_since: Option<Timestamp>,
    /// Whether it is deleted; the row stays for deliveries in progress.
    pub is_deleted: bool,
    /// `sequence` of its last event.
    pub version: u64,
    /// Time of creation.
    pub created_at: Timestamp,
    /// Time of the last change.
    pub updated_at: Timestamp,
}

/// Version of a new endpoint, which is enabled.
fn first_version() -> u64 {
    1
}

/// A signing secret.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secret {
    /// `whsec_…`
    pub key: String,
    /// Expiry; `None` for the current one.
    pub until: Option<Timestamp>,
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Secret")
            .field("until", &self.until)
            .finish_non_exhaustive()
    }
}

impl Endpoint {
    /// Whether an event of this type and storefront is delivered.
    pub fn wants(&self, kind: &str, storefront: Option<&Storefront>) -> bool {
        let is_its_own = self.storefront.is_none() || self.storefront.as_ref() == storefront;
        let types = self.event_types.as_ref();
        self.is_on() && is_its_own && types.is_none_or(|types| types.matches(kind))
    }

    /// Whether events are delivered.
    pub fn is_on(&self) -> bool {
        self.is_enabled && !self.is_deleted
    }

    /// Whether the caller can manage it: its owner and admins.
    pub fn is_managed_by(&self, caller: &Caller) -> bool {
        !self.is_deleted && manages(caller, self.storefront.as_ref())
    }

    /// Secrets that sign at `now`, newest first.
    pub fn signing(&self, now: Timestamp) -> impl Iterator<Item = &str> {
        let valid = move |secret: &&Secret| secret.until.is_none_or(|until| now < until);
        self.secrets
            .iter()
            .filter(valid)
            .map(|secret| secret.key.as_str())
    }

    /// The endpoint's representation; with its secret when that is new.
    pub fn represent(&self, with_secret: bool) -> Representation {
        let secret = self.secrets.first().filter(|_| with_secret);
        Representation {
            id: self.id,
            storefront: self.storefront.clone(),
            url: self.url.to_string(),
            description: self.description.clone(),
            event_types: self
                .event_types
                .as_ref()
                .map(|types| types.types().to_vec()),
            is_enabled: self.is_enabled,
            disabled_reason: self.disabled_reason,
            failing_since: self.failing_since,
            secret: secret.map(|secret| secret.key.clone()),
            version: self.version,
            created_at: self.created_at,
            updated_at: self.updated_at,
        }
    }
}

/// Whether `caller` can manage endpoints of `owner`.
pub fn manages(caller: &Caller, owner: Option<&Storefront>) -> bool {
    match caller.role {
        Role::Admin => true,
        Role::Storefront | Role::Operator => owner == Some(&caller.storefront),
    }
}

/// Delivery of one event to one endpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Delivery {
    /// UUIDv7.
    pub id: DeliveryId,
    /// Id of the endpoint.
    pub endpoint_id: EndpointId,
    /// Id of the event.
    pub event_id: EventId,
    /// Event type.
    pub event_type: String,
    /// Position of the event in the feed.
    pub position: i64,
    /// Id of the request that caused the event.
    pub request_id: String,
    /// Status.
    pub status: DeliveryStatus,
    /// Number of the next attempt, from 1; never reused.
    pub attempt: u32,
    /// Number of failures since it was created or redelivered.
    pub failures: u32,
    /// The latest attempts.
    pub attempts: Vec<Attempt>,
    /// Time of the next attempt.
    pub due_at: Option<Timestamp>,
    /// Time at which it was last requested.
    pub asked_at: Timestamp,
    /// Time of creation.
    pub created_at: Timestamp,
}

/// Error of deliveries whose event has been removed.
pub const EVENT_IS_FORGOTTEN: &str = "the event is not kept any more";

/// Result of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// HTTP status of the response, if there was one.
    pub response_code: Option<u16>,
    /// Time until the response, in milliseconds.
    pub latency_ms: u64,
    /// Error.
    pub error: Option<String>,
    /// How long the endpoint asked not to be tried again (`Retry-After`).
    pub retry_after: Option<SignedDuration>,
}

/// Consequence of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It succeeded.
    Taken,
    /// It failed and is retried, or was the last attempt.
    Refused,
    /// It failed, and the endpoint is disabled.
    GiveUp(DisabledReason),
}

impl Delivery {
    /// Records the result of the attempt that ended at `now`. `jitter` is from 0 to 1.
    pub fn note(
        &mut self,
        answered: &Answered,
        endpoint: &Endpoint,
        now: Timestamp,
        jitter: f64,
    ) -> Verdict {
        self.end_attempt(answered, now);
        if answered.error.is_none() {
            self.status = DeliveryStatus::Succeeded;
            return Verdict::Taken;
        }

        self.failures += 1;
        // 410 means: never again (Standard Webhooks, "Operational considerations").
        let is_gone = answered.response_code == Some(410);
        let is_over = now.duration_since(self.asked_at) >= RETRY_FOR;
        if let Some(delay) = RETRY
            .delay(self.failures, jitter)
            .filter(|_| !is_gone && !is_over && endpoint.is_on())
        {
            self.attempt += 1;
            self.due_at = Some(now + self.postponed(delay, answered.retry_after, now));
            return Verdict::Refused;
        }
        self.status = DeliveryStatus::Failed;
        let has_failed_for_long = endpoint
            .failing_since
            .is_some_and(|since| now.duration_since(since) >= RETRY_FOR);
        match endpoint.is_on() {
            true if is_gone => Verdict::GiveUp(DisabledReason::Gone),
            true if has_failed_for_long => Verdict::GiveUp(DisabledReason::Failing),
            _ => Verdict::Refused,
        }
    }

    /// The longer of our own delay and what the endpoint asks for, which may not put the last attempt off
    /// beyond the time for which a webhook is tried.
    fn postponed(
        &self,
        delay: SignedDuration,
        retry_after: Option<SignedDuration>,
        now: Timestamp,
    ) -> SignedDuration {
        let left = RETRY_FOR - now.duration_since(self.asked_at);
        let asked_for = retry_after.unwrap_or_default().min(left);
        delay.max(asked_for)
    }

    /// Notes that there was nothing to send, and never will be.
    pub fn give_up(&mut self, why: &Answered, now: Timestamp) {
        self.end_attempt(why, now);
        self.status = DeliveryStatus::Failed;
    }

    fn end_attempt(&mut self, answered: &Answered, now: Timestamp) {
        self.attempts.push(Attempt {
            at: now,
            response_code: answered.response_code,
            latency_ms: answered.latency_ms,
            error: answered.error.clone(),
        });
        let forgotten = self.attempts.len().saturating_sub(MAX_ATTEMPTS_KEPT);
        self.attempts.drain(..forgotten);
        self.due_at = None;
    }

    /// Schedules it again, whatever its status.
    pub fn ask_again(&mut self, now: Timestamp) {
        self.status = DeliveryStatus::Pending;
        self.attempt += 1;
        self.failures = 0;
        self.asked_at = now;
        self.due_at = Some(now);
    }

    /// The delivery's representation.
    pub fn represent(&self) -> DeliveryRepresentation {
        DeliveryRepresentation {
            id: self.id,
            endpoint_id: self.endpoint_id,
            event_id: self.event_id,
            event_type: self.event_type.clone(),
            status: self.status,
            attempts: self.attempts.clone(),
            next_attempt_at: self.due_at,
            created_at: self.created_at,
        }
    }
}
