//! Webhook endpoints and deliveries. An endpoint of another owner is reported as not found.

use jiff::SignedDuration;
use shared::{
    event::{EventData, Origin},
    id::{DeliveryId, EndpointId, Storefront},
    outcome::{Code, Failure},
    request::{Caller, Role},
    webhook::{NewEndpoint, Redeliver, RotateSecret, UpdateEndpoint},
};

use crate::domain::{
    command::ResourceRef,
    decision::{Changes, Decision, new_event},
    decision_context::DecisionContext,
    webhook::{DeliveryOutcome, DeliveryResult, EVENT_DELETED, Endpoint, MAX_ENDPOINTS, Secret},
    working_set::WorkingSet,
};

pub(super) fn create_endpoint(
    working_set: &WorkingSet,
    caller: &Caller,
    origin: &Origin,
    new_endpoint: &NewEndpoint,
    new_secret: &str,
    context: &mut DecisionContext,
) -> Result<Decision, Failure> {
    let storefront = endpoint_owner(caller, new_endpoint.storefront.as_ref())?;
    let endpoint_count = working_set.endpoint_counts.get(&storefront).copied();
    if endpoint_count.unwrap_or_default() >= MAX_ENDPOINTS {
        return Err(Failure::invalid_state(format!(
            "there are {MAX_ENDPOINTS} endpoints already: delete one first"
        )));
    }
    let now = context.now();
    let endpoint = Endpoint {
        id: context.new_id(),
        storefront,
        url: new_endpoint.url.clone(),
        description: new_endpoint.description.clone(),
        event_types: new_endpoint.event_types.clone(),
        secrets: vec![Secret {
            key: new_secret.to_owned(),
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
    let reply = ResourceRef::EndpointSecret(endpoint.id);
    Ok(with_event(
        endpoint,
        reply,
        origin,
        EventData::EndpointCreated { url },
        context,
    ))
}

pub(super) fn update_endpoint(
    working_set: &WorkingSet,
    caller: &Caller,
    origin: &Origin,
    update: &UpdateEndpoint,
    context: &mut DecisionContext,
) -> Result<Decision, Failure> {
    let endpoint_before = managed_endpoint(working_set, caller, update.id)?;
    let mut endpoint = endpoint_before.clone();
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
    if endpoint == *endpoint_before {
        return Ok(Decision {
            reply: Ok(ResourceRef::Endpoint(id)),
            changes: Changes::default(),
        });
    }
    let url = endpoint.url.clone();
    Ok(with_event(
        endpoint,
        ResourceRef::Endpoint(id),
        origin,
        EventData::EndpointUpdated { url },
        context,
    ))
}

pub(super) fn delete_endpoint(
    working_set: &WorkingSet,
    caller: &Caller,
    origin: &Origin,
    endpoint_id: EndpointId,
    context: &mut DecisionContext,
) -> Result<Decision, Failure> {
    let mut endpoint = managed_endpoint(working_set, caller, endpoint_id)?.clone();
    endpoint.is_deleted = true;
    // The secrets are not needed any more.
    endpoint.secrets.clear();
    Ok(with_event(
        endpoint,
        ResourceRef::NoContent,
        origin,
        EventData::EndpointDeleted {},
        context,
    ))
}

/// Rotates the secret: the new secret signs at once, and the old one signs as well for the overlap period, so
/// that the receiver can switch.
pub(super) fn rotate_secret(
    working_set: &WorkingSet,
    caller: &Caller,
    origin: &Origin,
    request: &RotateSecret,
    new_secret: &str,
    context: &mut DecisionContext,
) -> Result<Decision, Failure> {
    let mut endpoint = managed_endpoint(working_set, caller, request.id)?.clone();
    let now = context.now();
    let valid_until = now + SignedDuration::from_secs(request.overlap_seconds.into());
    endpoint.secrets.retain(|signing_secret| {
        signing_secret
            .until
            .is_none_or(|valid_until| now < valid_until)
    });
    for old_secret in &mut endpoint.secrets {
        old_secret.until = Some(
            old_secret
                .until
                .map_or(valid_until, |earlier_end| earlier_end.min(valid_until)),
        );
    }
    let current_secret = Secret {
        key: new_secret.to_owned(),
        until: None,
    };
    endpoint.secrets.insert(0, current_secret);
    endpoint.secrets.truncate(MAX_SECRETS);
    let url = endpoint.url.clone();
    Ok(with_event(
        endpoint,
        ResourceRef::EndpointSecret(request.id),
        origin,
        EventData::EndpointUpdated { url },
        context,
    ))
}

/// Maximum number of active secrets: each makes the signature header longer.
const MAX_SECRETS: usize = 5;

pub(super) fn redeliver(
    working_set: &WorkingSet,
    caller: &Caller,
    request: &Redeliver,
    context: &mut DecisionContext,
) -> Result<Decision, Failure> {
    let endpoint = managed_endpoint(working_set, caller, request.id)?;
    let delivery = working_set
        .deliveries
        .get(&request.delivery_id)
        .filter(|delivery| delivery.endpoint_id == endpoint.id)
        .ok_or_else(|| Failure::not_found("delivery", request.delivery_id))?;
    if !endpoint.is_enabled {
        return Err(Failure::invalid_state(
            "the endpoint is disabled: enable it first",
        ));
    }
    if working_set.deleted_events.contains(&delivery.event_id) {
        return Err(Failure::invalid_state(EVENT_DELETED));
    }
    let mut delivery = delivery.clone();
    delivery.redeliver_now(context.now());
    Ok(Decision {
        reply: Ok(ResourceRef::Delivery(delivery.id)),
        changes: Changes {
            deliveries: vec![delivery],
            ..Changes::default()
        },
    })
}

/// Applies the result of an attempt, if it is the expected one.
pub(super) fn finish_delivery(
    working_set: &WorkingSet,
    (endpoint_id, delivery_id): (EndpointId, DeliveryId),
    attempt: u32,
    result: &DeliveryResult,
    context: &mut DecisionContext,
) -> Decision {
    let mut changes = Changes::default();
    let expected_delivery = working_set
        .deliveries
        .get(&delivery_id)
        .filter(|delivery| delivery.attempt == attempt && delivery.due_at.is_some());
    if let (Some(delivery), Some(endpoint)) =
        (expected_delivery, working_set.endpoints.get(&endpoint_id))
    {
        let (mut delivery, mut endpoint) = (delivery.clone(), endpoint.clone());
        let now = context.now();
        if result.error.is_some() && working_set.deleted_events.contains(&delivery.event_id) {
            // The event was deleted, which is not a failure of the endpoint.
            delivery.fail_permanently(result, now);
            changes.deliveries.push(delivery);
            return Decision {
                reply: Ok(ResourceRef::NoContent),
                changes,
            };
        }
        let origin = Origin {
            actor: "worker".to_owned(),
            intent: "deliver_webhook".to_owned(),
            request_id: delivery.request_id.clone(),
            attempt: Some(attempt),
            trace_context: None,
        };
        let failing_since = endpoint.failing_since;
        if result.error.is_some() {
            endpoint.failing_since = failing_since.or(Some(now));
        }
        match delivery.record_attempt(result, &endpoint, now, context.random_jitter()) {
            DeliveryOutcome::Succeeded => endpoint.failing_since = None,
            DeliveryOutcome::Failed => {}
            DeliveryOutcome::DisableEndpoint(reason) => {
                endpoint.is_enabled = false;
                endpoint.disabled_reason = Some(reason);
                let url = endpoint.url.clone();
                let event_data = EventData::EndpointDisabled { url, reason };
                changes = with_event(
                    endpoint.clone(),
                    ResourceRef::NoContent,
                    &origin,
                    event_data,
                    context,
                )
                .changes;
            }
        }
        if changes.endpoints.is_empty() && endpoint.failing_since != failing_since {
            changes.endpoints.push(endpoint);
        }
        changes.deliveries.push(delivery);
    }
    Decision {
        reply: Ok(ResourceRef::NoContent),
        changes,
    }
}

/// The owner of a new endpoint: the caller's storefront; for admins the named storefront, or all storefronts.
fn endpoint_owner(
    caller: &Caller,
    named_storefront: Option<&Storefront>,
) -> Result<Option<Storefront>, Failure> {
    match (caller.role, named_storefront) {
        (Role::Admin, named_storefront) => Ok(named_storefront.cloned()),
        (Role::Storefront | Role::Operator, named_storefront)
            if named_storefront
                .is_none_or(|named_storefront| *named_storefront == caller.storefront) =>
        {
            Ok(Some(caller.storefront.clone()))
        }
        (Role::Storefront | Role::Operator, _) => Err(Failure::new(
            Code::Forbidden,
            "only an admin can create an endpoint for another storefront",
        )),
    }
}

fn managed_endpoint<'a>(
    working_set: &'a WorkingSet,
    caller: &Caller,
    endpoint_id: EndpointId,
) -> Result<&'a Endpoint, Failure> {
    let endpoint = working_set.endpoints.get(&endpoint_id);
    endpoint
        .filter(|endpoint| endpoint.is_managed_by(caller))
        .ok_or_else(|| Failure::not_found("webhook endpoint", endpoint_id))
}

/// The decision that changes `endpoint` with this event, which gets the endpoint's next version.
fn with_event(
    mut endpoint: Endpoint,
    reply: ResourceRef,
    origin: &Origin,
    event_data: EventData,
    context: &mut DecisionContext,
) -> Decision {
    endpoint.version += 1;
    endpoint.updated_at = context.now();
    let event = new_event(
        endpoint.id.to_string(),
        endpoint.version,
        endpoint.storefront.clone(),
        origin,
        event_data,
        context,
    );
    Decision {
        reply: Ok(reply),
        changes: Changes {
            events: vec![event],
            endpoints: vec![endpoint],
            ..Changes::default()
        },
    }
}
