//! API keys: creation, revocation, and who may do it.

use jiff::{SignedDuration, Timestamp};
use order_worker::domain::{
    command::{Action, Command},
    decide::{Rules, carry_out},
    decision_context::DecisionContext,
    working_set::WorkingSet,
};
use serde_json::{Value, json};
use shared::{
    api_key::{ApiKeyRef, KeyDigest, MAX_ACTIVE_KEYS},
    id::ApiKeyId,
    outcome::{Code, Failure},
    request::{Caller, Request, Role},
};

use crate::shop::operator;

struct Fixture {
    working_set: WorkingSet,
    role: Role,
    now: Timestamp,
}

impl Fixture {
    fn new() -> Self {
        Self {
            working_set: WorkingSet::default(),
            role: Role::Admin,
            now: "2026-01-31T12:00:00Z".parse().unwrap(),
        }
    }

    fn carry_out(&mut self, action: Action, if_match: Option<&str>) -> Result<Value, Failure> {
        let rules = Rules {
            reservation_ttl: SignedDuration::from_mins(30),
            manual_payment_ttl: SignedDuration::from_hours(168),
            needs_approval: false,
            payment_provider: "sandbox".to_owned(),
            check_amount: order_worker::providers::check_amount,
            default_payment_method: None,
            needs_verification: false,
            refunds_returns: true,
            allows_storefront_prices: false,
            sends_messages: false,
        };
        let command = Command::Request {
            caller: Caller {
                role: self.role,
                ..operator()
            },
            idempotency: None,
            if_match: if_match.map(|etags| etags.parse().unwrap()),
            action,
        };
        self.now += SignedDuration::from_secs(1);
        let seed = self.now.as_millisecond().unsigned_abs();
        let mut context = DecisionContext::new(self.now, seed);
        let reply = carry_out(&mut self.working_set, &command, &rules, &mut context);
        reply.outcome.map(|reply_json| reply_json.value())
    }

    fn create(&mut self, secret: &str, more_fields: &Value) -> Result<Value, Failure> {
        let mut body = json!({
            "name": "office", "role": "operator", "digest": KeyDigest::of(secret), "prefix": "owk_abc"
        });
        for (field_name, field_value) in more_fields.as_object().unwrap() {
            body[field_name] = field_value.clone();
        }
        let Request::CreateApiKey(request) = Request::read("api_key.create", body)? else {
            panic!("api_key.create was parsed as a different request");
        };
        self.carry_out(Action::CreateApiKey(request), None)
    }

    fn revoke(&mut self, id: ApiKeyId, if_match: Option<&str>) -> Result<Value, Failure> {
        self.carry_out(Action::RevokeApiKey(ApiKeyRef { id }), if_match)
    }

    fn event_types(&self) -> Vec<&str> {
        let events = self.working_set.changes.events.iter();
        events.map(|event| event.event_data.kind()).collect()
    }
}

#[test]
fn admins_create_and_revoke_keys_and_the_events_contain_no_digest() {
    let mut fixture = Fixture::new();
    let created_key = fixture
        .create("owk_one", &json!({"sealed_secret": "x"}))
        .unwrap();
    assert_eq!(created_key["sealed_secret"], "x");
    assert!(created_key.get("digest").is_none() && created_key.get("secret").is_none());
    let id: ApiKeyId = created_key["id"].as_str().unwrap().parse().unwrap();
    // Only the reply has the sealed secret.
    let key_state = serde_json::to_string(&fixture.working_set.api_keys[&id]).unwrap();
    assert!(!key_state.contains("sealed"), "{key_state}");

    fixture.revoke(id, Some("\"2\"")).unwrap_err();
    fixture.revoke(id, Some("\"1\"")).unwrap();
    let revoked_at = fixture.working_set.api_keys[&id].revoked_at;
    assert!(revoked_at.is_some());
    // A repeated revocation changes nothing.
    fixture.revoke(id, None).unwrap();
    assert_eq!(fixture.working_set.api_keys[&id].revoked_at, revoked_at);
    assert_eq!(
        fixture.event_types(),
        ["api_key.created", "api_key.revoked"]
    );
    let events_json = serde_json::to_string(&fixture.working_set.changes.events).unwrap();
    assert!(
        !events_json.contains(KeyDigest::of("owk_one").as_str()),
        "{events_json}"
    );

    let unknown_id = "0192f0c1-2345-7abc-8def-0123456789ab".parse().unwrap();
    assert_eq!(
        fixture.revoke(unknown_id, None).unwrap_err().code,
        Code::NotFound
    );
}

#[test]
fn operators_and_storefronts_can_neither_create_nor_revoke_keys() {
    let mut fixture = Fixture::new();
    let created_key = fixture.create("owk_one", &json!({})).unwrap();
    let id: ApiKeyId = created_key["id"].as_str().unwrap().parse().unwrap();
    for role in [Role::Operator, Role::Storefront] {
        fixture.role = role;
        let refusal = fixture.create("owk_two", &json!({})).unwrap_err();
        assert_eq!(refusal.code, Code::Forbidden);
        assert_eq!(fixture.revoke(id, None).unwrap_err().code, Code::Forbidden);
        assert_eq!(
            fixture.revoke(id, Some("\"9\"")).unwrap_err().code,
            Code::Forbidden
        );
    }
    assert_eq!(fixture.event_types(), ["api_key.created"]);
}

#[test]
fn expired_or_repeated_keys_and_too_many_are_refused() {
    let mut fixture = Fixture::new();
    let expiry = json!({"expires_at": "2026-01-31T12:00:00Z"});
    let refusal = fixture.create("owk_one", &expiry).unwrap_err();
    assert_eq!(refusal.errors().unwrap()[0]["pointer"], "/expires_at");
    let expiry = json!({"expires_at": "2026-02-01T12:00:00Z"});
    let created_key = fixture.create("owk_one", &expiry).unwrap();
    assert_eq!(created_key["expires_at"], "2026-02-01T12:00:00Z");
    let refusal = fixture.create("owk_one", &json!({})).unwrap_err();
    assert_eq!(refusal.errors().unwrap()[0]["pointer"], "/digest");
    fixture.working_set.active_api_keys = MAX_ACTIVE_KEYS;
    let refusal = fixture.create("owk_two", &json!({})).unwrap_err();
    assert_eq!(refusal.code, Code::InvalidState);
}
