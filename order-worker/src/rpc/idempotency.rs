//! What makes asking twice the same as asking once.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};
use shared::{
    amqp::rpc_server::{Identity, RpcRequest},
    etag::IfMatch,
    outcome::Failure,
    request::{Caller, Request, Role},
};

use crate::domain::command::{Idempotency, Trust};

/// The client's own key, or else the message's id. Both are the caller's: two storefronts may use
/// the same key for different things.
pub(super) fn idempotency(request: &RpcRequest) -> Result<Option<Idempotency>, Failure> {
    if request.request.is_read() {
        return Ok(None);
    }
    if let Some(key) = &request.idempotency_key {
        let condition = request.if_match.as_ref();
        return by_client(&request.caller, &request.request, condition, key).map(Some);
    }
    let scope = scope(&request.caller, &request.request);
    let (key, trust) = match &request.identity {
        Some(Identity::Named(id)) => (format!("{scope}/message/{id}"), Trust::Message),
        Some(Identity::Waiting {
            place,
            is_redelivered,
        }) => {
            let trust = if *is_redelivered {
                Trust::Message
            } else {
                Trust::FirstDelivery
            };
            (format!("{scope}/delivery/{place}"), trust)
        }
        None => return Ok(None),
    };
    Ok(Some(Idempotency {
        key,
        fingerprint: fingerprint(&request.request)?,
        trust,
    }))
}

/// What was answered under the client's own key is answered again, whichever way it asks.
pub(crate) fn by_client(
    caller: &Caller,
    request: &Request,
    condition: Option<&IfMatch>,
    key: &str,
) -> Result<Idempotency, Failure> {
    let mut fingerprint = fingerprint(request)?;
    // The condition is part of the request.
    if let Some(condition) = condition {
        fingerprint = format!("{fingerprint} {}", digest(&condition.to_string()));
    }
    Ok(Idempotency {
        key: format!("{}/key/{key}", scope(caller, request)),
        fingerprint,
        trust: Trust::Client,
    })
}

fn scope(caller: &Caller, request: &Request) -> String {
    let (storefront, pattern) = (&caller.storefront, request.pattern());
    match caller.role {
        Role::Storefront => format!("{storefront}/{pattern}"),
        Role::Operator | Role::Admin => format!("*/{pattern}"),
    }
}

fn fingerprint(request: &Request) -> Result<String, Failure> {
    Ok(match request {
        // A webhook is what its id says, however often and in whatever words it is repeated.
        Request::UpdateShipment(_) | Request::NotifyPayment(_) => String::new(),
        request => digest(request.to_body()?.get()),
    })
}

fn digest(text: &str) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(text))
}
