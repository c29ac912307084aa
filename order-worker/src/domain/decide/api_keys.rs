//! API keys: creation and revocation, by admins.

use shared::{
    api_key::{CreateApiKey, MAX_ACTIVE_KEYS},
    event::{EventData, Origin},
    id::ApiKeyId,
    outcome::Failure,
    request::Caller,
};

use crate::domain::{
    api_key::ApiKey,
    command::ResourceRef,
    decision::{Changes, Decision, new_event},
    decision_context::DecisionContext,
    working_set::WorkingSet,
};

pub(super) fn create_api_key(
    working_set: &WorkingSet,
    caller: &Caller,
    origin: &Origin,
    request: &CreateApiKey,
    context: &mut DecisionContext,
) -> Result<Decision, Failure> {
    caller.require_admin()?;
    let now = context.now();
    let CreateApiKey {
        new_key,
        digest,
        prefix,
        sealed_secret,
    } = request.clone();
    if new_key
        .expires_at
        .is_some_and(|expires_at| expires_at <= now)
    {
        return Err(Failure::violation("/expires_at", "must be in the future"));
    }
    if working_set
        .api_keys
        .values()
        .any(|key| key.digest == digest)
    {
        return Err(Failure::violation(
            "/digest",
            "is the digest of an existing key",
        ));
    }
    if working_set.active_api_keys >= MAX_ACTIVE_KEYS {
        return Err(Failure::invalid_state(format!(
            "there are {MAX_ACTIVE_KEYS} active API keys already: revoke one first"
        )));
    }
    let key = ApiKey {
        id: context.new_id(),
        name: new_key.name,
        role: new_key.role,
        storefront: new_key.storefront,
        digest,
        prefix,
        expires_at: new_key.expires_at,
        revoked_at: None,
        version: 0,
        created_at: now,
        last_used_at: None,
        sealed_secret,
    };
    let event_data = EventData::ApiKeyCreated {
        key_name: key.name.clone(),
        role: key.role,
        storefront: key.storefront.clone(),
        prefix: key.prefix.clone(),
        expires_at: key.expires_at,
    };
    let reply = ResourceRef::NewApiKey(key.id);
    Ok(with_event(key, reply, origin, event_data, context))
}

/// Revokes a key. A key that is revoked already stays as it is.
pub(super) fn revoke_api_key(
    working_set: &WorkingSet,
    caller: &Caller,
    origin: &Origin,
    id: ApiKeyId,
    context: &mut DecisionContext,
) -> Result<Decision, Failure> {
    caller.require_admin()?;
    let key = working_set.api_keys.get(&id);
    let mut key = key
        .ok_or_else(|| Failure::not_found("API key", id))?
        .clone();
    if key.revoked_at.is_some() {
        return Ok(Decision {
            reply: Ok(ResourceRef::NoContent),
            changes: Changes::default(),
        });
    }
    key.revoked_at = Some(context.now());
    let event_data = EventData::ApiKeyRevoked {
        key_name: key.name.clone(),
        prefix: key.prefix.clone(),
    };
    Ok(with_event(
        key,
        ResourceRef::NoContent,
        origin,
        event_data,
        context,
    ))
}

/// The decision that changes `key` with this event, which gets the key's next version.
fn with_event(
    mut key: ApiKey,
    reply: ResourceRef,
    origin: &Origin,
    event_data: EventData,
    context: &mut DecisionContext,
) -> Decision {
    key.version += 1;
    let event = new_event(
        key.id.to_string(),
        key.version,
        None,
        origin,
        event_data,
        context,
    );
    Decision {
        reply: Ok(reply),
        changes: Changes {
            events: vec![event],
            api_keys: vec![key],
            ..Changes::default()
        },
    }
}
