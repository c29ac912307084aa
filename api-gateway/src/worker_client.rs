//! [`WorkerClient`]: an extractor that authenticates the caller and sends RPC requests to the worker in the
//! caller's name.
//!
//! It parses the headers that all routes share: `Authorization` (with [`crate::auth`]), `Idempotency-Key`,
//! `If-Match`, `If-None-Match`, `Prefer` and `X-Intent`. It also counts the request for the rate limit, and
//! publishes orders for asynchronous processing (`Prefer: respond-async`).

use std::{sync::Arc, time::Duration};

use axum::{
    extract::{FromRequestParts, Query},
    http::{HeaderMap, HeaderName, header, request::Parts},
    response::Response,
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use shared::{
    amqp::{
        publisher::{PublishError, Target},
        rpc_client::CallOptions,
        topology::STEP_QUEUE,
    },
    etag::{IfMatch, TagList},
    id::{OrderId, Storefront},
    order::AcceptOrder,
    outcome::{Code, Failure, RpcReply, Violation},
    request::{Caller, Request, Role},
};
use tokio::time;
use uuid::{Builder, Uuid};

use crate::{
    auth::{Identity, validity::Validity},
    headers::{self, Preference, preferences},
    input::unreadable_query,
    middleware::RequestContext,
    output::ReplyResponse,
    problem::Problem,
    state::App,
};

/// Header that makes a request safe to retry.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Header with the client's name for the purpose of its request.
const INTENT: HeaderName = HeaderName::from_static("x-intent");
/// Maximum length of `X-Intent`; a longer one is ignored.
const MAX_INTENT_CHARS: usize = 64;
/// Maximum length of `Idempotency-Key`; a longer one is refused.
const MAX_IDEMPOTENCY_KEY_CHARS: usize = 255;
/// Maximum of `Prefer: wait`, in seconds; larger values are reduced to it.
const MAX_WAIT_SECONDS: u64 = 30;

/// Sends RPC requests to the worker with the caller, conditions and preferences of an HTTP request.
#[derive(Clone)]
pub(crate) struct WorkerClient {
    app: App,
    identity: Identity,
    context: Arc<RequestContext>,
    intent: Option<String>,
    idempotency_key: Option<String>,
    if_match: Option<IfMatch>,
    if_none_match: Option<TagList>,
    preferred_wait: Option<Duration>,
    prefers_async: bool,
}

impl FromRequestParts<App> for WorkerClient {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let (headers, extensions) = (&parts.headers, &parts.extensions);
        let context: Option<Arc<RequestContext>> = extensions.get().cloned();
        let context = context.unwrap_or_else(|| Arc::new(RequestContext::from_headers(headers)));
        let identity = app.auth.identify(headers, &parts.method).await?;
        if let Some(rate_limit) = &app.rate_limit {
            rate_limit.count(&identity.credential_id, &context.remaining_quota)?;
        }
        refuse_query_parameters(parts)?;
        let preferences = preferences(headers);
        Ok(Self {
            app: app.clone(),
            identity,
            context,
            intent: intent(headers),
            idempotency_key: idempotency_key(headers)?,
            if_match: if_match(headers)?,
            if_none_match: if_none_match(headers),
            preferred_wait: preferred_wait(&preferences),
            prefers_async: prefers_async(&preferences),
        })
    }
}

impl WorkerClient {
    /// Sends the RPC request `pattern` with `body` to the worker and waits for the reply.
    ///
    /// # Errors
    /// `INVALID_REQUEST` when the body is invalid, `FORBIDDEN` when the request is for operators or admins only,
    /// `UNAUTHENTICATED` when the credential has ended meanwhile. The worker's failures are in the [`RpcReply`].
    pub(crate) async fn call(&self, pattern: &str, body: Value) -> Result<RpcReply, Problem> {
        // The credential may have ended since the request began, while it waited or received its body.
        self.identity.validity.check()?;
        let request = Request::read(pattern, body)?;
        let caller = self.caller_with_intent(pattern);
        if request.is_for_admins() {
            caller.require_admin()?;
        }
        if request.is_for_operators() {
            caller.require_operator()?;
        }
        let call = CallOptions {
            caller,
            idempotency_key: self.idempotency_key.as_deref(),
            if_match: self.if_match.clone(),
            message_id: None,
            timeout: self.app.request_timeout,
        };
        Ok(self.app.rpc.call(&request, call).await)
    }

    /// Like [`Self::call`], with a message id: the worker executes only one request for each id. Does not
    /// check whether the caller is an operator.
    ///
    /// # Errors
    /// `INVALID_REQUEST` when the body is invalid, `UNAUTHENTICATED` when the credential has ended meanwhile.
    pub(crate) async fn call_with_message_id(
        &self,
        pattern: &str,
        body: Value,
        message_id: &str,
    ) -> Result<RpcReply, Failure> {
        self.identity.validity.check()?;
        let request = Request::read(pattern, body)?;
        let call = CallOptions {
            caller: self.caller_with_intent(pattern),
            idempotency_key: self.idempotency_key.as_deref(),
            if_match: self.if_match.clone(),
            message_id: Some(message_id),
            timeout: self.app.request_timeout,
        };
        Ok(self.app.rpc.call(&request, call).await)
    }

    /// Refuses an unknown storefront: one without a credential, customer or order.
    ///
    /// # Errors
    /// `INVALID_REQUEST` when the storefront is unknown; the worker's failure when the lookup fails.
    pub(crate) async fn require_known_storefront(
        &self,
        storefront: &Storefront,
    ) -> Result<(), Problem> {
        if self.app.auth.may_have_credentials_of(storefront) {
            return Ok(());
        }
        for list_pattern in ["customer.list", "order.list"] {
            let list_reply = self.call(list_pattern, json!({"storefront": storefront, "limit": 1}));
            let list_reply = list_reply.await?.outcome?.value();
            if list_reply["data"]
                .as_array()
                .is_some_and(|data| !data.is_empty())
            {
                return Ok(());
            }
        }
        if self.app.auth.has_stored_key_of(storefront).await? {
            return Ok(());
        }
        let detail = format!("storefront {storefront} has no credential, customer or order");
        Err(Failure::violation("/storefront", detail).into())
    }

    /// Refuses callers with the role `storefront`.
    ///
    /// # Errors
    /// `FORBIDDEN`.
    pub(crate) fn require_operator(&self) -> Result<(), Failure> {
        self.caller_with_intent("").require_operator()
    }

    /// The caller for an RPC request; `intent` is used if the client sent no `X-Intent`.
    pub(crate) fn caller_with_intent(&self, intent: &str) -> Caller {
        let Identity {
            role,
            storefront,
            actor,
            ..
        } = self.identity.clone();
        Caller {
            role,
            storefront,
            actor,
            intent: self.intent.clone().unwrap_or_else(|| intent.to_owned()),
            request_id: self.context.request_id.as_str().to_owned(),
            trace_context: Some(self.context.trace.context().clone()),
        }
    }

    /// The time for which the caller's credential is valid.
    pub(crate) fn validity(&self) -> &Validity {
        &self.identity.validity
    }

    /// The client's `Idempotency-Key`.
    pub(crate) fn idempotency_key(&self) -> Option<&str> {
        self.idempotency_key.as_deref()
    }

    /// Requested time to wait for the result (`Prefer: wait=N`).
    pub(crate) fn preferred_wait(&self) -> Option<Duration> {
        self.preferred_wait
    }

    /// Whether the client sent an `Idempotency-Key`.
    pub(crate) fn has_idempotency_key(&self) -> bool {
        self.idempotency_key.is_some()
    }

    /// Whether the client sent `Prefer: respond-async`.
    pub(crate) fn prefers_async(&self) -> bool {
        self.prefers_async
    }

    /// Publishes the order in `body` for asynchronous processing, waits until the broker has stored it, and
    /// returns the order's id.
    ///
    /// # Errors
    /// `INVALID_REQUEST` when the body is invalid; `UNAUTHENTICATED` when the credential has ended meanwhile;
    /// `IDEMPOTENCY_CONFLICT` when this gateway has recently accepted a different order with the key;
    /// `UNAVAILABLE` when the broker did not take the order; `TIMEOUT` when it is unknown whether it did.
    pub(crate) async fn accept_async(&self, body: Value) -> Result<OrderId, Problem> {
        // As in `call`.
        self.identity.validity.check()?;
        let request = Request::read("order.create", body)?;
        let order_json = request.to_body()?;
        let Request::CreateOrder(order) = request else {
            return Err(Failure::new(
                Code::Internal,
                "order.create was parsed as a different request",
            )
            .into());
        };
        let caller = self.caller_with_intent("order.accept");
        // Only checks that need no worker. The worker stores an order that fails a later check as cancelled.
        caller.owner(order.storefront.as_ref())?;
        // A new order has no entity tag yet.
        if let Some(condition) = &self.if_match {
            condition.check_untagged()?;
        }
        let order_id = match &self.idempotency_key {
            Some(idempotency_key) => {
                self.accepted_order_id(&caller, idempotency_key, order_json.get())?
            }
            None => Uuid::now_v7(),
        };
        let accept_order = AcceptOrder {
            id: order_id.into(),
            order,
        };
        let message = accept_order.message(&caller, self.idempotency_key.as_deref());
        let messages = [(Target::Queue(STEP_QUEUE), message)];
        let publishing = self.app.publisher.publish(&messages);
        let publish_results = time::timeout(self.app.request_timeout, publishing).await;
        match publish_results
            .ok()
            .and_then(|results| results.into_iter().next())
        {
            Some(Ok(())) => Ok(accept_order.id),
            Some(Err(
                error @ (PublishError::Unavailable(_)
                | PublishError::Refused
                | PublishError::Unroutable(_)),
            )) => {
                // The broker does not have the order, so the key is free again.
                self.app.accepted_idempotency_keys.forget(order_id);
                Err(Failure::new(Code::Unavailable, error.to_string()).into())
            }
            Some(Err(error @ PublishError::Unconfirmed(_))) => {
                Err(Failure::new(Code::Timeout, error.to_string()).into())
            }
            None => Err(Failure::new(Code::Timeout, "the broker did not confirm the order in time; repeat the request with the same Idempotency-Key").into()),
        }
    }

    /// The id for an order with this `order_json` and `idempotency_key`; records the key.
    ///
    /// # Errors
    /// `IDEMPOTENCY_CONFLICT` when this gateway has recently accepted a different order with the key.
    fn accepted_order_id(
        &self,
        caller: &Caller,
        idempotency_key: &str,
        order_json: &str,
    ) -> Result<Uuid, Failure> {
        let key_scope = match caller.role {
            Role::Storefront => caller.storefront.as_str(),
            Role::Operator | Role::Admin => "*",
        };
        let scoped_key = format!("order.accept/{key_scope}/{idempotency_key}");
        let order_id = order_id_for_key(&scoped_key, order_json);
        if !self
            .app
            .accepted_idempotency_keys
            .record(scoped_key, order_id)
        {
            return Err(Failure::new(
                Code::IdempotencyConflict,
                "this idempotency key was used with a different request",
            ));
        }
        Ok(order_id)
    }

    /// The response, or 304 if the client's `If-None-Match` has the current `ETag`.
    pub(crate) fn or_not_modified(&self, response: ReplyResponse) -> Response {
        response.or_not_modified(self.if_none_match.as_ref())
    }
}

/// The client's `X-Intent`, stored with the resulting events. An invalid value is ignored.
fn intent(headers: &HeaderMap) -> Option<String> {
    let intent = headers.get(INTENT)?.to_str().ok()?;
    let is_safe = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | ':');
    let is_word = (1..=MAX_INTENT_CHARS).contains(&intent.len()) && intent.chars().all(is_safe);
    is_word.then(|| intent.to_owned())
}

/// The client's `Idempotency-Key`.
fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(header_value) = headers::single_value(headers, &IDEMPOTENCY_KEY)? else {
        return Ok(None);
    };
    match header_value.to_str() {
        Ok(header_value)
            if (1..=MAX_IDEMPOTENCY_KEY_CHARS).contains(&header_value.len())
                && !header_value.contains('\t') =>
        {
            Ok(Some(header_value.to_owned()))
        }
        _ => Err(Failure::new(
            Code::InvalidRequest,
            format!(
                "Idempotency-Key must have 1 to {MAX_IDEMPOTENCY_KEY_CHARS} printable ASCII characters"
            ),
        )
        .into()),
    }
}

/// The client's `If-Match`.
fn if_match(headers: &HeaderMap) -> Result<Option<IfMatch>, Problem> {
    let Some(if_match_text) = headers::list_value(headers, &header::IF_MATCH)? else {
        return Ok(None);
    };
    let invalid_if_match =
        |message: String| Failure::new(Code::InvalidRequest, format!("If-Match: {message}"));
    Ok(Some(if_match_text.parse().map_err(invalid_if_match)?))
}

/// The client's `If-None-Match`. An invalid one is ignored: the client gets the complete response.
fn if_none_match(headers: &HeaderMap) -> Option<TagList> {
    headers::list_value(headers, &header::IF_NONE_MATCH)
        .ok()??
        .parse()
        .ok()
}

/// Refuses query parameters on requests that change something; these have none. Handlers of `GET` requests
/// check their own parameters.
fn refuse_query_parameters(parts: &Parts) -> Result<(), Failure> {
    if parts.method.is_safe() {
        return Ok(());
    }
    let Query(name_value_pairs) = Query::<Vec<(String, String)>>::try_from_uri(&parts.uri)
        .map_err(|error| unreadable_query(&error))?;
    let violations: Vec<_> = name_value_pairs
        .iter()
        .map(|(name, _)| {
            let name = name.replace('~', "~0").replace('/', "~1");
            Violation::new(format!("/{name}"), "is not a known query parameter")
        })
        .collect();
    if violations.is_empty() {
        return Ok(());
    }
    Err(Failure::violations(&violations))
}

/// Derives an order id from the idempotency key and the order (`order_json`), so that a repeated request
/// gets the same id without stored state. A different order with the same key gets a different id, which the
/// worker uses to store the conflict as a cancelled order. The id is a custom UUID (RFC 9562, version 8).
fn order_id_for_key(scoped_key: &str, order_json: &str) -> Uuid {
    let content_digest = Sha256::digest(order_json);
    let digest = Sha256::new()
        .chain_update(scoped_key)
        .chain_update([0])
        .chain_update(content_digest)
        .finalize();
    let mut id_bytes = [0; 16];
    id_bytes.copy_from_slice(&digest[..16]);
    Builder::from_custom_bytes(id_bytes).into_uuid()
}

/// `Prefer: respond-async` (RFC 7240).
fn prefers_async(preferences: &[Preference]) -> bool {
    preferences
        .iter()
        .any(|preference| preference.name == "respond-async")
}

/// `Prefer: wait=N` (RFC 7240), in seconds.
fn preferred_wait(preferences: &[Preference]) -> Option<Duration> {
    let mut preferences = preferences.iter();
    let wait_preference = preferences.find(|preference| preference.name == "wait")?;
    let seconds: u64 = wait_preference.value.parse().ok()?;
    Some(Duration::from_secs(seconds.min(MAX_WAIT_SECONDS)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wait_preference_is_parsed_among_other_preferences() {
        let seconds_of_wait = |text: &str| {
            let headers =
                HeaderMap::from_iter([("prefer".parse().unwrap(), text.parse().unwrap())]);
            super::preferred_wait(&preferences(&headers)).map(|wait| wait.as_secs())
        };
        assert_eq!(seconds_of_wait("wait=5"), Some(5));
        assert_eq!(seconds_of_wait("handling=strict, Wait=\"7\"; x=1"), Some(7));
        assert_eq!(seconds_of_wait("wait=1000"), Some(MAX_WAIT_SECONDS));
        for invalid_preference in ["", "wait", "wait=soon", "wait=-1", "waiting=3"] {
            assert_eq!(
                seconds_of_wait(invalid_preference),
                None,
                "{invalid_preference}"
            );
        }
    }
}
