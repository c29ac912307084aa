//! Endpoints of others, and what they are told: which events, signed with what, how often until it
//! is given up.

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

/// Endpoints of one owner.
pub const MAX_ENDPOINTS: usize = 100;
/// A webhook is tried for so long; an endpoint that takes nothing for so long is given up.
pub const RETRY_FOR: SignedDuration = SignedDuration::from_hours(24);
/// Attempts that are remembered.
const MAX_ATTEMPTS_KEPT: usize = 20;
/// Between attempts; time ends them, not their number.
const RETRY: Retry = Retry {
    attempts: u32::MAX,
    first: SignedDuration::from_secs(5),
    longest: SignedDuration::from_hours(2),
};

/// Somebody who is told of events.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Endpoint {
    /// UUIDv7.
    pub id: EndpointId,
    /// Whose events; none: everybody's.
    pub storefront: Option<Storefront>,
    /// Where to.
    pub url: EndpointUrl,
    /// What it is for.
    pub description: Option<String>,
    /// Only these; none: all.
    pub event_types: Option<EventFilter>,
    /// What signs, the newest first.
    pub secrets: Vec<Secret>,
    /// Whether it is told of anything.
    pub is_enabled: bool,
    /// The version at which it was enabled last: it is told of what happened after that.
    #[serde(default = "first_version")]
    pub enabled_at_version: u64,
    /// Why it is not, if that was not an owner's wish.
    pub disabled_reason: Option<DisabledReason>,
    /// Since when nothing was taken.
    pub failing_since: Option<Timestamp>,
    /// Forgotten; its row stays for the deliveries under way.
    pub is_deleted: bool,
    /// The `sequence` of its last event.
    pub version: u64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// Endpoints are enabled when they are made.
fn first_version() -> u64 {
    1
}

/// What signs webhooks.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secret {
    /// `whsec_…`
    pub key: String,
    /// Until when it signs; none: it is the current one.
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
    /// Whether it is to be told of an event of this type, of this storefront or of none.
    pub fn wants(&self, kind: &str, storefront: Option<&Storefront>) -> bool {
        let is_its_own = self.storefront.is_none() || self.storefront.as_ref() == storefront;
        let types = self.event_types.as_ref();
        self.is_on() && is_its_own && types.is_none_or(|types| types.matches(kind))
    }

    /// Whether it is told of anything.
    pub fn is_on(&self) -> bool {
        self.is_enabled && !self.is_deleted
    }

    /// Whether it is there for this caller: its owner's and admins'.
    pub fn is_managed_by(&self, caller: &Caller) -> bool {
        !self.is_deleted && manages(caller, self.storefront.as_ref())
    }

    /// What signs at `now`, the newest first.
    pub fn signing(&self, now: Timestamp) -> impl Iterator<Item = &str> {
        let valid = move |secret: &&Secret| secret.until.is_none_or(|until| now < until);
        self.secrets
            .iter()
            .filter(valid)
            .map(|secret| secret.key.as_str())
    }

    /// The endpoint as callers see it; with its secret when that is new.
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

/// Whether `caller` manages the endpoints of `owner`.
pub fn manages(caller: &Caller, owner: Option<&Storefront>) -> bool {
    match caller.role {
        Role::Admin => true,
        Role::Storefront | Role::Operator => owner == Some(&caller.storefront),
    }
}

/// One event on its way to one endpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Delivery {
    /// UUIDv7.
    pub id: DeliveryId,
    /// To whom.
    pub endpoint_id: EndpointId,
    /// What.
    pub event_id: EventId,
    /// Its type.
    pub event_type: String,
    /// Its place in the feed.
    pub position: i64,
    /// The request that led to it.
    pub request_id: String,
    /// What has come of it.
    pub status: DeliveryStatus,
    /// The attempt it waits for, from 1; never the same twice.
    pub attempt: u32,
    /// How often it failed since it was last asked for.
    pub failures: u32,
    /// The latest attempts.
    pub attempts: Vec<Attempt>,
    /// When it is tried next.
    pub due_at: Option<Timestamp>,
    /// When it was last asked for.
    pub asked_at: Timestamp,
    /// When it was first asked for.
    pub created_at: Timestamp,
}

/// What a webhook comes to that is kept for longer than its event.
pub const EVENT_IS_FORGOTTEN: &str = "the event is not kept any more";

/// What came of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// What the endpoint answered, if it did.
    pub response_code: Option<u16>,
    /// Milliseconds until it did.
    pub latency_ms: u64,
    /// What went wrong.
    pub error: Option<String>,
    /// How long the endpoint asked not to be tried again (`Retry-After`).
    pub retry_after: Option<SignedDuration>,
}

/// What follows from an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It was taken.
    Taken,
    /// It was not, and is tried again or given up.
    Refused,
    /// The endpoint is to be given up with it.
    GiveUp(DisabledReason),
}

impl Delivery {
    /// Notes what came of the attempt that ended at `now`. `jitter` from 0 to 1.
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

    /// Has it sent again, whatever has come of it.
    pub fn ask_again(&mut self, now: Timestamp) {
        self.status = DeliveryStatus::Pending;
        self.attempt += 1;
        self.failures = 0;
        self.asked_at = now;
        self.due_at = Some(now);
    }

    /// The delivery as callers see it.
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
