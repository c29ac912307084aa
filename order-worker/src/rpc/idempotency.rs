//! Idempotency keys of requests: the client's key, or the identity of the message.
//!
//! Keys are scoped to the caller and the kind of request; a fingerprint detects a key that is reused for
//! another request.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};
use shared::{
    amqp::rpc_server::{MessageIdentity, RpcRequest},
    etag::IfMatch,
    outcome::{Failure, Json},
    request::{Caller, Request, Role},
};

use crate::domain::command::{CREATE_ORDER, Idempotency, KeyOperation, KeyOrigin, MessageKey};

/// The client's key, or the message's identity. Both are scoped to the caller: two storefronts may use the same
/// key.
pub(super) fn idempotency(request: &RpcRequest) -> Result<Option<Idempotency>, Failure> {
    if request.request.is_read() {
        return Ok(None);
    }
    if let Some(key) = &request.idempotency_key {
        let if_match = request.if_match.as_ref();
        return client_idempotency(&request.caller, &request.request, if_match, key).map(Some);
    }
    let Some(MessageKey { key, key_origin }) = message_key(request) else {
        return Ok(None);
    };
    Ok(Some(Idempotency {
        key,
        fingerprint: fingerprint(&request.request)?,
        key_origin,
        operation: None,
    }))
}

/// The message's identity as a key, scoped to the caller.
pub(super) fn message_key(request: &RpcRequest) -> Option<MessageKey> {
    let key_scope = scope(&request.caller, &request.request);
    let (key, key_origin) = match request.identity.as_ref()? {
        MessageIdentity::MessageId(message_id) => (
            format!("{key_scope}/message/{message_id}"),
            KeyOrigin::Message,
        ),
        MessageIdentity::Correlation {
            key,
            is_redelivered,
        } => {
            let key_origin = if *is_redelivered {
                KeyOrigin::Message
            } else {
                KeyOrigin::FirstMessageDelivery
            };
            (format!("{key_scope}/delivery/{key}"), key_origin)
        }
    };
    Some(MessageKey { key, key_origin })
}

/// The idempotency of a client's key, the same for synchronous and asynchronous requests.
pub(crate) fn client_idempotency(
    caller: &Caller,
    request: &Request,
    condition: Option<&IfMatch>,
    key: &str,
) -> Result<Idempotency, Failure> {
    let mut fingerprint = digest(&identifying_body(request)?);
    // The condition is part of the request.
    if let Some(condition) = condition {
        fingerprint = format!("{fingerprint} {}", digest(&condition.to_string()));
    }
    let key_owner = owner(caller);
    Ok(Idempotency {
        key: format!("{}/key/{key}", scope(caller, request)),
        fingerprint,
        key_origin: KeyOrigin::Client,
        operation: Some(KeyOperation {
            operation_name: request.pattern(),
            earlier_record_key: format!("{key_owner}/operation/key/{key}"),
            create_order_key: format!("{key_owner}/{CREATE_ORDER}/key/{key}"),
        }),
    })
}

fn scope(caller: &Caller, request: &Request) -> String {
    format!("{}/{}", owner(caller), request.pattern())
}

/// The owner of a key: a storefront, or `*` for all operators and admins.
fn owner(caller: &Caller) -> &str {
    match caller.role {
        Role::Storefront => caller.storefront.as_str(),
        Role::Operator | Role::Admin => "*",
    }
}

fn fingerprint(request: &Request) -> Result<String, Failure> {
    Ok(match request {
        // A repeated webhook is identified by its id alone.
        Request::UpdateShipment(_) | Request::NotifyPayment(_) => String::new(),
        request => digest(&identifying_body(request)?),
    })
}

/// The parts of the request's body by which a repeated request is recognized. A gateway creates another secret
/// for each attempt to create an API key, and another id for each upload of an image; the first one counts.
fn identifying_body(request: &Request) -> Result<String, Failure> {
    match request {
        Request::CreateApiKey(create_request) => Ok(Json::of(&create_request.new_key)?.into_text()),
        Request::AddImage(request) => {
            let image_body = Request::AddImage(request.without_id()).to_body()?;
            Ok(image_body.get().to_owned())
        }
        request => Ok(request.to_body()?.get().to_owned()),
    }
}

fn digest(text: &str) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(text))
}
