//! Webhook endpoints and deliveries. An endpoint of another owner is not found.

use jiff::SignedDuration;
use shared::{
    event::{EventData, Origin},
    id::{DeliveryId, EndpointId, Storefront},
    outcome::{Code, Failure},
    request::{Caller, Role},
    webhook::{NewEndpoint, Redeliver, RotateSecret, UpdateEndpoint},
};

use crate::domain::{
    command::Answer,
    decision::{Changes, Decision, event},
    decision_context::DecisionContext,
    webhook::{Answered, EVENT_IS_FORGOTTEN, Endpoint, MAX_ENDPOINTS, Secret, Verdict},
    working_set::WorkingSet,
};

pub(super) fn create_endpoint(
    world: &WorkingSet,
    caller: &Caller,
    origin: &Origin,
    new: &NewEndpoint,
    secret: &str,
    stamp: &mut DecisionContext,
) -> Result<Decision, Failure> {
    let storefront = owner(caller, new.storefront.as_ref())?;
    let count = world.endpoint_counts.get(&storefront).copied();
    if count.unwrap_or_default() >= MAX_ENDPOINTS {
        return Err(Failure::invalid_state(format!(
            "there are {MAX_ENDPOINTS} endpoints already: delete one"
        )));
    }
    let now = stamp.now();
    let endpoint = Endpoint {
        id: stamp.id(),
        storefront,
        url: new.url.clone(),
        description: new.description.clone(),
        event_types: new.event_types.clone(),
        secrets: vec![Secret {
            key: secret.to_owned(),
            until: None,
        }],
        is_enabled: true,
        enabled_at_version: 1,
        disabled_reason: None,
        failing_since: None,
        is_deleted: false,
        version: 0,
        created_at: now,
        updated_at: now,
    };
    let url = endpoint.url.clone();
    let answer = Answer::EndpointSecret(endpoint.id);
    Ok(changed(
        endpoint,
        answer,
        origin,
        EventData::EndpointCreated { url },
        stamp,
    ))
}

pub(super) fn update_endpoint(
    world: &WorkingSet,
    caller: &Caller,
    origin: &Origin,
    update: &UpdateEndpoint,
    stamp: &mut DecisionContext,
) -> Result<Decision, Failure> {
    let was = managed(world, caller, update.id)?;
    let mut endpoint = was.clone();
    let UpdateEndpoint {
        id,
        url,
        description,
        event_types,
        is_enabled,
    } = update.clone();
    endpoint.url = url.unwrap_or(endpoint.url);
    endpoint.description = description.unwrap_or(endpoint.description);
    endpoint.event_types = event_types.unwrap_or(endpoint.event_types);
    if let Some(is_enabled) = is_enabled {
        if is_enabled && !endpoint.is_enabled {
            endpoint.enabled_at_version = endpoint.version + 1;
        }
        endpoint.is_enabled = is_enabled;
        endpoint.disabled_reason = None;
        endpoint.failing_since = None;
    }
    if endpoint == *was {
        return Ok(Decision {
            answer: Ok(Answer::Endpoint(id)),
            changes: Changes::default(),
        });
    }
    let url = endpoint.url.clone();
    Ok(changed(
        endpoint,
        Answer::Endpoint(id),
        origin,
        EventData::EndpointUpdated { url },
        stamp,
    ))
}

pub(super) fn delete_endpoint(
    world: &WorkingSet,
    caller: &Caller,
    origin: &Origin,
    id: EndpointId,
    stamp: &mut DecisionContext,
) -> Result<Decision, Failure> {
    let mut endpoint = managed(world, caller, id)?.clone();
    endpoint.is_deleted = true;
    // The secrets are not needed any more.
    endpoint.secrets.clear();
    Ok(changed(
        endpoint,
        Answer::Done,
        origin,
        EventData::EndpointDeleted {},
        stamp,
    ))
}

/// Rotates the secret: the new one signs at once, the old one signs as well for a while, so that the receiver
/// can switch.
pub(super) fn rotate_secret(
    world: &WorkingSet,
    caller: &Caller,
    origin: &Origin,
    request: &RotateSecret,
    secret: &str,
    stamp: &mut DecisionContext,
) -> Result<Decision, Failure> {
    let mut endpoint = managed(world, caller, request.id)?.clone();
    let now = stamp.now();
    let until = now + SignedDuration::from_secs(request.overlap_seconds.into());
    endpoint
        .secrets
        .retain(|secret| secret.until.is_none_or(|until| now < until));
    for old in &mut endpoint.secrets {
        old.until = Some(old.until.map_or(until, |earlier| earlier.min(until)));
    }
    let current = Secret {
        key: secret.to_owned(),
        until: None,
    };
    endpoint.secrets.insert(0, current);
    endpoint.secrets.truncate(MAX_SECRETS);
    let url = endpoint.url.clone();
    Ok(changed(
        endpoint,
        Answer::EndpointSecret(request.id),
        origin,
        EventData::EndpointUpdated { url },
        stamp,
    ))
}

/// Maximum number of active secrets: each makes the signature header longer.
const MAX_SECRETS: usize = 5;

pub(super) fn redeliver(
    world: &WorkingSet,
    caller: &Caller,
    request: &Redeliver,
    stamp: &mut DecisionContext,
) -> Result<Decision, Failure> {
    let endpoint = managed(world, caller, request.id)?;
    let delivery = world
        .deliveries
        .get(&request.delivery_id)
        .filter(|delivery| delivery.endpoint_id == endpoint.id)
        .ok_or_else(|| Failure::not_found("delivery", request.delivery_id))?;
    if !endpoint.is_enabled {
        return Err(Failure::invalid_state(
            "the endpoint is disabled: enable it first",
        ));
    }
    if world.forgotten_events.contains(&delivery.event_id) {
        return Err(Failure::invalid_state(EVENT_IS_FORGOTTEN));
    }
    let mut delivery = delivery.clone();
    delivery.ask_again(stamp.now());
    Ok(Decision {
        answer: Ok(Answer::Delivery(delivery.id)),
        changes: Changes {
            deliveries: vec![delivery],
            ..Changes::default()
        },
    })
}

/// Applies the result of an attempt, if it is the expected one.
pub(super) fn finish_delivery(
    world: &WorkingSet,
    (endpoint_id, id): (EndpointId, DeliveryId),
    attempt: u32,
    answered: &Answered,
    stamp: &mut DecisionContext,
) -> Decision {
    let mut changes = Changes::default();
    let awaited = world
        .deliveries
        .get(&id)
        .filter(|delivery| delivery.attempt == attempt && delivery.due_at.is_some());
    if let (Some(delivery), Some(endpoint)) = (awaited, world.endpoints.get(&endpoint_id)) {
        let (mut delivery, mut endpoint) = (delivery.clone(), endpoint.clone());
        let now = stamp.now();
        if answered.error.is_some() && world.forgotten_events.contains(&delivery.event_id) {
            // There is nothing to send, which says nothing about the endpoint.
            delivery.give_up(answered, now);
            changes.deliveries.push(delivery);
            return Decision {
                answer: Ok(Answer::Done),
                changes,
            };
        }
        let origin = Origin {
            actor: "worker".to_owned(),
            intent: "deliver_webhook".to_owned(),
            request_id: delivery.request_id.clone(),
            attempt: Some(attempt),
            traceparent: None,
        };
        let failing_since = endpoint.failing_since;
        if answered.error.is_some() {
            endpoint.failing_since = failing_since.or(Some(now));
        }
        match delivery.note(answered, &endpoint, now, stamp.jitter()) {
            Verdict::Taken => endpoint.failing_since = None,
            Verdict::Refused => {}
            Verdict::GiveUp(reason) => {
                endpoint.is_enabled = false;
                endpoint.disabled_reason = Some(reason);
                let url = endpoint.url.clone();
                let fact = EventData::EndpointDisabled { url, reason };
                changes = changed(endpoint.clone(), Answer::Done, &origin, fact, stamp).changes;
            }
        }
        if changes.endpoints.is_empty() && endpoint.failing_since != failing_since {
            changes.endpoints.push(endpoint);
        }
        changes.deliveries.push(delivery);
    }
    Decision {
        answer: Ok(Answer::Done),
        changes,
    }
}

/// The owner of a new endpoint: the caller's storefront, or the one that an admin names, or all.
fn owner(caller: &Caller, named: Option<&Storefront>) -> Result<Option<Storefront>, Failure> {
    match (caller.role, named) {
        (Role::Admin, named) => Ok(named.cloned()),
        (Role::Storefront | Role::Operator, named)
            if named.is_none_or(|named| *named == caller.storefront) =>
        {
            Ok(Some(caller.storefront.clone()))
        }
        (Role::Storefront | Role::Operator, _) => Err(Failure::new(
            Code::Forbidden,
            "only an admin may have another storefront's events sent",
        )),
    }
}

fn managed<'a>(
    world: &'a WorkingSet,
    caller: &Caller,
    id: EndpointId,
) -> Result<&'a Endpoint, Failure> {
    let endpoint = world.endpoints.get(&id);
    endpoint
        .filter(|endpoint| endpoint.is_managed_by(caller))
        .ok_or_else(|| Failure::not_found("webhook endpoint", id))
}

/// `endpoint` after `fact`, with the next version.
fn changed(
    mut endpoint: Endpoint,
    answer: Answer,
    origin: &Origin,
    fact: EventData,
    stamp: &mut DecisionContext,
) -> Decision {
    endpoint.version += 1;
    endpoint.updated_at = stamp.now();
    let event = event(
        endpoint.id.to_string(),
        endpoint.version,
        endpoint.storefront.clone(),
        origin,
        fact,
        stamp,
    );
    Decision {
        answer: Ok(answer),
        changes: Changes {
            events: vec![event],
            endpoints: vec![endpoint],
            ..Changes::default()
        },
    }
}
