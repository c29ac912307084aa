//! Webhook endpoints and deliveries: event filters, signing secrets, retries.
//!
//! An endpoint belongs to one storefront, or to all (admins). A delivery is one event for one endpoint; it is
//! retried for 24 hours, and an endpoint that fails for as long is disabled.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use shared::{
    event::{EventFilter, is_for_admins},
    id::{DeliveryId, EndpointId, EventId, Storefront},
    request::{Caller, Role},
    webhook::{
        Attempt, Delivery as DeliveryRepresentation, DeliveryStatus, DisabledReason,
        Endpoint as Representation, EndpointUrl,
    },
};

use super::step::RetryPolicy;

/// Maximum number of endpoints per owner.
pub const MAX_ENDPOINTS: usize = 100;
/// Period for which a delivery is retried. An endpoint without a success for this long is disabled.
pub const RETRY_PERIOD: SignedDuration = SignedDuration::from_hours(24);
/// Maximum number of stored attempts.
const MAX_STORED_ATTEMPTS: usize = 20;
/// Backoff between attempts; limited by time, not by number.
const RETRY_POLICY: RetryPolicy = RetryPolicy {
    attempts: u32::MAX,
    first_delay: SignedDuration::from_secs(5),
    max_delay: SignedDuration::from_hours(2),
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
    /// Whether an event of this type and storefront is delivered. No endpoint gets the events of API keys: a URL
    /// outside must not learn who has access.
    pub fn accepts(&self, event_type: &str, storefront: Option<&Storefront>) -> bool {
        let is_own_storefront = self.storefront.is_none() || self.storefront.as_ref() == storefront;
        let event_filter = self.event_types.as_ref();
        self.is_active()
            && is_own_storefront
            && !is_for_admins(event_type)
            && event_filter.is_none_or(|event_filter| event_filter.matches(event_type))
    }

    /// Whether events are delivered.
    pub fn is_active(&self) -> bool {
        self.is_enabled && !self.is_deleted
    }

    /// Whether the caller can manage it: its owner and admins.
    pub fn is_managed_by(&self, caller: &Caller) -> bool {
        !self.is_deleted && manages(caller, self.storefront.as_ref())
    }

    /// Secrets that are valid at `now`, newest first.
    pub fn signing_secrets(&self, now: Timestamp) -> impl Iterator<Item = &str> {
        let is_valid =
            move |secret: &&Secret| secret.until.is_none_or(|valid_until| now < valid_until);
        self.secrets
            .iter()
            .filter(is_valid)
            .map(|secret| secret.key.as_str())
    }

    /// The representation of the endpoint, with its secret if that is new.
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
    #[serde(rename = "position")]
    pub event_position: i64,
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
    #[serde(rename = "asked_at")]
    pub last_requested_at: Timestamp,
    /// Time of creation.
    pub created_at: Timestamp,
}

/// Error of deliveries whose event was deleted.
pub const EVENT_DELETED: &str =
    "the event was deleted after its retention period and can't be delivered";

/// Result of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryResult {
    /// HTTP status of the response, if there was one.
    pub response_code: Option<u16>,
    /// Time until the response, in milliseconds.
    pub latency_ms: u64,
    /// Error message; `None` if the endpoint accepted the event.
    pub error: Option<String>,
    /// Delay before the next attempt that the endpoint requested (`Retry-After`).
    pub retry_after: Option<SignedDuration>,
}

/// Outcome of a delivery attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryOutcome {
    /// The endpoint accepted the event.
    Succeeded,
    /// The attempt failed; another follows, unless it was the last.
    Failed,
    /// The attempt failed, and the endpoint is disabled.
    DisableEndpoint(DisabledReason),
}

impl Delivery {
    /// Records the result of the attempt that ended at `now`. `jitter` is from 0 to 1.
    pub fn record_attempt(
        &mut self,
        result: &DeliveryResult,
        endpoint: &Endpoint,
        now: Timestamp,
        jitter: f64,
    ) -> DeliveryOutcome {
        self.end_attempt(result, now);
        if result.error.is_none() {
            self.status = DeliveryStatus::Succeeded;
            return DeliveryOutcome::Succeeded;
        }

        self.failures += 1;
        // 410 means: never again (Standard Webhooks, "Operational considerations").
        let is_gone = result.response_code == Some(410);
        let has_expired = now.duration_since(self.last_requested_at) >= RETRY_PERIOD;
        if let Some(delay) = RETRY_POLICY
            .delay(self.failures, jitter)
            .filter(|_| !is_gone && !has_expired && endpoint.is_active())
        {
            self.attempt += 1;
            self.due_at = Some(now + self.retry_delay(delay, result.retry_after, now));
            return DeliveryOutcome::Failed;
        }
        self.status = DeliveryStatus::Failed;
        let has_failed_for_long = endpoint
            .failing_since
            .is_some_and(|since| now.duration_since(since) >= RETRY_PERIOD);
        match endpoint.is_active() {
            true if is_gone => DeliveryOutcome::DisableEndpoint(DisabledReason::Gone),
            true if has_failed_for_long => {
                DeliveryOutcome::DisableEndpoint(DisabledReason::Failing)
            }
            _ => DeliveryOutcome::Failed,
        }
    }

    /// Delay before the next attempt: the longer of the backoff and the endpoint's `Retry-After`, which can't
    /// postpone the last attempt beyond the retry period.
    fn retry_delay(
        &self,
        backoff_delay: SignedDuration,
        retry_after: Option<SignedDuration>,
        now: Timestamp,
    ) -> SignedDuration {
        let remaining_period = RETRY_PERIOD - now.duration_since(self.last_requested_at);
        let requested_delay = retry_after.unwrap_or_default().min(remaining_period);
        backoff_delay.max(requested_delay)
    }

    /// Fails the delivery for good: its event was deleted.
    pub fn fail_permanently(&mut self, result: &DeliveryResult, now: Timestamp) {
        self.end_attempt(result, now);
        self.status = DeliveryStatus::Failed;
    }

    fn end_attempt(&mut self, result: &DeliveryResult, now: Timestamp) {
        self.attempts.push(Attempt {
            at: now,
            response_code: result.response_code,
            latency_ms: result.latency_ms,
            error: result.error.clone(),
        });
        let excess_count = self.attempts.len().saturating_sub(MAX_STORED_ATTEMPTS);
        self.attempts.drain(..excess_count);
        self.due_at = None;
    }

    /// Schedules the delivery again, in any status.
    pub fn redeliver_now(&mut self, now: Timestamp) {
        self.status = DeliveryStatus::Pending;
        self.attempt += 1;
        self.failures = 0;
        self.last_requested_at = now;
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
