//! Webhook endpoints: retries, disabling, and the events that they receive.

use jiff::{SignedDuration, Timestamp};
use order_worker::domain::{
    command::{Action, Command},
    decide::{Rules, carry_out},
    decision_context::DecisionContext,
    webhook::{Delivery, DeliveryResult, MAX_ENDPOINTS, RETRY_PERIOD},
    working_set::WorkingSet,
};
use proptest::prelude::*;
use serde_json::{Value, json};
use shared::{
    etag::IfMatch,
    id::{DeliveryId, EndpointId},
    outcome::{Code, Failure},
    request::{Caller, Request, Role},
    webhook::{DeliveryStatus, DisabledReason, Redeliver},
};

use crate::shop::operator;

const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

fn failed_response() -> DeliveryResult {
    DeliveryResult {
        response_code: Some(500),
        latency_ms: 3,
        error: Some("answered 500".to_owned()),
        retry_after: None,
    }
}

fn successful_response() -> DeliveryResult {
    DeliveryResult {
        response_code: Some(200),
        latency_ms: 3,
        error: None,
        retry_after: None,
    }
}

/// A working set at a point in time.
struct Fixture {
    working_set: WorkingSet,
    now: Timestamp,
}

impl Fixture {
    fn new() -> Self {
        Self {
            working_set: WorkingSet::default(),
            now: "2026-01-31T12:00:00Z".parse().unwrap(),
        }
    }

    fn carry_out(&mut self, command: &Command) -> Result<Value, Failure> {
        let rules = Rules {
            reservation_ttl: SignedDuration::from_mins(30),
            manual_payment_ttl: jiff::SignedDuration::from_hours(168),
            needs_approval: false,
            payment_provider: "sandbox".to_owned(),
            check_amount: order_worker::providers::check_amount,
            default_payment_method: Some("pm_ok".to_owned()),
            needs_verification: false,
            refunds_returns: true,
            sends_messages: false,
            allows_storefront_prices: false,
        };
        let seed = self.now.as_millisecond().unsigned_abs();
        let mut context = DecisionContext::new(self.now, seed);
        let reply = carry_out(&mut self.working_set, command, &rules, &mut context);
        reply.outcome.map(|reply_json| reply_json.value())
    }

    fn create_endpoint(&mut self, body: Value) -> Result<EndpointId, Failure> {
        let Request::CreateEndpoint(new_endpoint) = Request::read("webhook_endpoint.create", body)?
        else {
            unreachable!("the request was parsed as another type")
        };
        let create_reply = self.carry_out(&Command::Request {
            caller: operator(),
            idempotency: None,
            if_match: None,
            action: Action::CreateEndpoint {
                new_endpoint,
                secret: SECRET.to_owned(),
            },
        })?;
        // The store counts the endpoints.
        let owner = Some(operator().storefront);
        *self.working_set.endpoint_counts.entry(owner).or_default() += 1;
        self.now += SignedDuration::from_secs(1);
        Ok(create_reply["id"].as_str().unwrap().parse().unwrap())
    }

    /// Creates a delivery to the endpoint that is due now.
    fn create_delivery(&mut self, endpoint_id: EndpointId) -> DeliveryId {
        let now = self.now;
        let id: DeliveryId = uuid::Uuid::now_v7().into();
        let delivery = Delivery {
            id,
            endpoint_id,
            event_id: uuid::Uuid::now_v7().into(),
            event_type: "order.created".to_owned(),
            event_position: 1,
            request_id: "r".to_owned(),
            status: DeliveryStatus::Pending,
            attempt: 1,
            failures: 0,
            attempts: Vec::new(),
            due_at: Some(now),
            last_requested_at: now,
            created_at: now,
        };
        self.working_set.deliveries.insert(id, delivery);
        id
    }

    /// Executes attempts until the delivery ends, and returns their number and the time.
    fn attempt_until_ended(
        &mut self,
        id: DeliveryId,
        attempt_result: &DeliveryResult,
    ) -> (u32, Timestamp) {
        let mut attempt_count = 0;
        while let Delivery {
            due_at: Some(due_at),
            endpoint_id,
            attempt,
            ..
        } = self.working_set.deliveries[&id].clone()
        {
            self.now = due_at.max(self.now);
            self.carry_out(&Command::FinishDelivery {
                endpoint_id,
                id,
                attempt,
                result: attempt_result.clone(),
            })
            .unwrap();
            attempt_count += 1;
        }
        (attempt_count, self.now)
    }

    /// The error of a redelivery.
    fn redelivery_error(
        &mut self,
        caller: &Caller,
        if_match: Option<IfMatch>,
        id: DeliveryId,
    ) -> Code {
        let endpoint_id = self.working_set.deliveries[&id].endpoint_id;
        let reply = self.carry_out(&Command::Request {
            caller: caller.clone(),
            idempotency: None,
            if_match,
            action: Action::Redeliver(Redeliver {
                id: endpoint_id,
                delivery_id: id,
            }),
        });
        reply.unwrap_err().code
    }

    fn event_types(&self) -> Vec<&'static str> {
        self.working_set
            .changes
            .events
            .iter()
            .map(|event| event.event_data.kind())
            .collect()
    }
}

#[test]
fn delivery_of_a_deleted_event_does_not_count_as_a_failure_of_the_endpoint() {
    let mut fixture = Fixture::new();
    let endpoint_id = fixture
        .create_endpoint(json!({"url": "https://example.com"}))
        .unwrap();
    let id = fixture.create_delivery(endpoint_id);
    let event_id = fixture.working_set.deliveries[&id].event_id;
    fixture.working_set.deleted_events.insert(event_id);
    assert_eq!(fixture.attempt_until_ended(id, &failed_response()).0, 1);
    let delivery = &fixture.working_set.deliveries[&id];
    assert_eq!(delivery.status, DeliveryStatus::Failed);
    assert_eq!(delivery.due_at, None);
    assert_eq!(
        fixture.working_set.endpoints[&endpoint_id].failing_since,
        None
    );
    let error_code = fixture.redelivery_error(&operator(), None, id);
    assert_eq!(error_code, Code::InvalidState);

    // The event was deleted during the attempt; the delivery succeeded nevertheless.
    let id = fixture.create_delivery(endpoint_id);
    let event_id = fixture.working_set.deliveries[&id].event_id;
    fixture.working_set.deleted_events.insert(event_id);
    fixture.attempt_until_ended(id, &successful_response());
    assert_eq!(
        fixture.working_set.deliveries[&id].status,
        DeliveryStatus::Succeeded
    );
}

#[test]
fn delivery_is_retried_for_a_day_then_the_endpoint_is_disabled() {
    let mut fixture = Fixture::new();
    let endpoint_id = fixture
        .create_endpoint(json!({"url": "https://example.com"}))
        .unwrap();
    let id = fixture.create_delivery(endpoint_id);
    let started_at = fixture.now;
    let (attempt_count, ended_at) = fixture.attempt_until_ended(id, &failed_response());
    assert!(ended_at.duration_since(started_at) >= RETRY_PERIOD);
    assert!(ended_at.duration_since(started_at) < RETRY_PERIOD + SignedDuration::from_hours(3));
    assert!((15..60).contains(&attempt_count), "{attempt_count}");
    assert_eq!(
        fixture.working_set.deliveries[&id].status,
        DeliveryStatus::Failed
    );
    assert!(fixture.working_set.deliveries[&id].attempts.len() <= 20);
    let disabled_endpoint = &fixture.working_set.endpoints[&endpoint_id];
    assert_eq!(
        (
            disabled_endpoint.is_enabled,
            disabled_endpoint.disabled_reason
        ),
        (false, Some(DisabledReason::Failing))
    );
    assert_eq!(
        fixture.event_types().last(),
        Some(&"webhook_endpoint.disabled")
    );
}

#[test]
fn endpoint_is_not_disabled_for_one_failing_delivery() {
    let mut fixture = Fixture::new();
    let endpoint_id = fixture
        .create_endpoint(json!({"url": "https://example.com"}))
        .unwrap();
    let (failing_delivery_id, successful_delivery_id) = (
        fixture.create_delivery(endpoint_id),
        fixture.create_delivery(endpoint_id),
    );
    let started_at = fixture.now;
    while fixture.now.duration_since(started_at) < SignedDuration::from_hours(20) {
        let Delivery {
            attempt, due_at, ..
        } = fixture.working_set.deliveries[&failing_delivery_id].clone();
        fixture.now = due_at.unwrap();
        fixture
            .carry_out(&Command::FinishDelivery {
                endpoint_id,
                id: failing_delivery_id,
                attempt,
                result: failed_response(),
            })
            .unwrap();
    }
    fixture.attempt_until_ended(successful_delivery_id, &successful_response());
    assert_eq!(
        fixture.working_set.endpoints[&endpoint_id].failing_since,
        None
    );
    fixture.attempt_until_ended(failing_delivery_id, &failed_response());
    assert_eq!(
        fixture.working_set.deliveries[&failing_delivery_id].status,
        DeliveryStatus::Failed
    );
    assert!(fixture.working_set.endpoints[&endpoint_id].is_enabled);
}

#[test]
fn result_of_an_unexpected_attempt_is_ignored() {
    let mut fixture = Fixture::new();
    let endpoint_id = fixture
        .create_endpoint(json!({"url": "https://example.com"}))
        .unwrap();
    let id = fixture.create_delivery(endpoint_id);
    for attempt in [0, 2, 7] {
        let delivery_result = successful_response();
        fixture
            .carry_out(&Command::FinishDelivery {
                endpoint_id,
                id,
                attempt,
                result: delivery_result,
            })
            .unwrap();
    }
    assert_eq!(
        fixture.working_set.deliveries[&id].status,
        DeliveryStatus::Pending
    );
    fixture.attempt_until_ended(id, &successful_response());
    // The result is delivered again, as if a worker died after storing it.
    let delivery_result = failed_response();
    fixture
        .carry_out(&Command::FinishDelivery {
            endpoint_id,
            id,
            attempt: 1,
            result: delivery_result,
        })
        .unwrap();
    assert_eq!(
        fixture.working_set.deliveries[&id].status,
        DeliveryStatus::Succeeded
    );
}

#[test]
fn endpoint_gets_subscribed_events_of_its_storefront() {
    let mut fixture = Fixture::new();
    let body = json!({"url": "https://example.com", "event_types": ["order.*"]});
    let endpoint_id = fixture.create_endpoint(body).unwrap();
    let mut endpoint = fixture.working_set.endpoints[&endpoint_id].clone();
    let (own_storefront, other_storefront) = (operator().storefront, "other".parse().unwrap());
    assert!(endpoint.accepts("order.created", Some(&own_storefront)));
    assert!(!endpoint.accepts("payment.voided", Some(&own_storefront)));
    assert!(!endpoint.accepts("order.created", Some(&other_storefront)));
    assert!(!endpoint.accepts("order.created", None));
    endpoint.storefront = None;
    assert!(endpoint.accepts("order.created", Some(&other_storefront)));
    endpoint.is_enabled = false;
    assert!(!endpoint.accepts("order.created", Some(&own_storefront)));
    // The debug output does not contain the secret.
    assert!(!format!("{endpoint:?}").contains("whsec_"));
}

#[test]
fn foreign_delivery_is_not_found_even_with_if_match() {
    let mut fixture = Fixture::new();
    let endpoint_id = fixture
        .create_endpoint(json!({"url": "https://example.com"}))
        .unwrap();
    let id = fixture.create_delivery(endpoint_id);
    let other_caller = Caller {
        role: Role::Storefront,
        storefront: "other".parse().unwrap(),
        ..operator()
    };
    for if_match in [None, Some("\"1\"".parse().unwrap())] {
        let error_code = fixture.redelivery_error(&other_caller, if_match, id);
        assert_eq!(error_code, Code::NotFound);
    }
}

#[test]
fn number_of_endpoints_is_limited() {
    let mut fixture = Fixture::new();
    for _ in 0..MAX_ENDPOINTS {
        fixture
            .create_endpoint(json!({"url": "https://example.com"}))
            .unwrap();
    }
    let refusal = fixture.create_endpoint(json!({"url": "https://example.com"}));
    assert_eq!(refusal.unwrap_err().code, Code::InvalidState);
}

proptest! {
    /// A delivery always ends, and is due exactly while it is pending.
    #[test]
    fn delivery_always_ends(status_codes in proptest::collection::vec(200u16..600, 1..80)) {
        let mut fixture = Fixture::new();
        let endpoint_id = fixture.create_endpoint(json!({"url": "https://example.com"})).unwrap();
        let id = fixture.create_delivery(endpoint_id);
        let mut status_codes = status_codes.into_iter().cycle();
        let mut attempt_count = 0;
        while let Delivery { due_at: Some(due_at), attempt, .. } = fixture.working_set.deliveries[&id].clone() {
            prop_assert_eq!(fixture.working_set.deliveries[&id].status, DeliveryStatus::Pending);
            fixture.now = due_at.max(fixture.now);
            let status_code = status_codes.next().unwrap();
            let error = (!(200..300).contains(&status_code)).then(|| format!("answered {status_code}"));
            let delivery_result = DeliveryResult { response_code: Some(status_code), latency_ms: 1, error, retry_after: None };
            fixture.carry_out(&Command::FinishDelivery { endpoint_id, id, attempt, result: delivery_result })
            .unwrap();
            attempt_count += 1;
            prop_assert!(attempt_count < 100);
        }
        let delivery = &fixture.working_set.deliveries[&id];
        prop_assert_ne!(delivery.status, DeliveryStatus::Pending);
        let last_attempt = delivery.attempts.last().unwrap();
        prop_assert_eq!(delivery.status == DeliveryStatus::Succeeded, last_attempt.error.is_none());
    }
}

#[test]
fn reenabling_an_endpoint_records_the_version() {
    let mut fixture = Fixture::new();
    let endpoint_id = fixture
        .create_endpoint(json!({"url": "https://example.com/"}))
        .unwrap();
    let mut update_endpoint = |body: Value| {
        let mut body = body;
        body["id"] = json!(endpoint_id);
        let Ok(Request::UpdateEndpoint(update)) = Request::read("webhook_endpoint.update", body)
        else {
            unreachable!("the request was parsed as another type")
        };
        let command = Command::Request {
            caller: operator(),
            idempotency: None,
            if_match: None,
            action: Action::UpdateEndpoint(update),
        };
        fixture.carry_out(&command).unwrap();
        let endpoint = &fixture.working_set.endpoints[&endpoint_id];
        (endpoint.version, endpoint.enabled_at_version)
    };
    assert_eq!(update_endpoint(json!({"is_enabled": true})), (1, 1));
    assert_eq!(update_endpoint(json!({"is_enabled": false})), (2, 1));
    assert_eq!(update_endpoint(json!({"description": "off"})), (3, 1));
    assert_eq!(update_endpoint(json!({"is_enabled": true})), (4, 4));
    // An update without an effect is not a change.
    for patch_without_effect in [
        json!({}),
        json!({"is_enabled": true}),
        json!({"description": "off"}),
    ] {
        assert_eq!(update_endpoint(patch_without_effect), (4, 4));
    }
}
