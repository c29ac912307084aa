//! `/webhooks/stripe`: Stripe's webhooks, signed as specified by Stripe
//! (<https://docs.stripe.com/webhooks#verify-manually>).
//!
//! Events can arrive late, more than once and out of order. So the content of an event is not used: it only
//! makes the worker retrieve the payment's current state from Stripe.

use std::sync::Arc;

use axum::{Extension, extract::State, http::HeaderMap, response::Response};
use jiff::Timestamp;
use ring::hmac;
use serde_json::{Value, json};
use shared::{
    body,
    id::OrderId,
    outcome::{Code, Failure},
    request::Request,
};

use super::{MAX_ID_CHARS, acknowledged_response, forward_to_worker};
use crate::{
    input::RawBody, middleware::RequestContext, openapi::StripeWebhook, problem::Problem,
    state::App,
};

/// Header with the signatures: `t=SECONDS,v1=HEX,v1=HEX`.
const SIGNATURE_HEADER: &str = "stripe-signature";
/// Maximum age of a signature, as in Stripe's libraries.
const TOLERANCE_SECONDS: i64 = 300;

/// Receives a webhook from Stripe
///
/// An event about a payment of an order. Events about other payments are acknowledged and ignored. A
/// duplicate is acknowledged, but processed only once.
#[utoipa::path(post, path = "/webhooks/stripe", tag = "webhooks", request_body = StripeWebhook,
    security(("stripe_signature" = [])), params(("stripe-signature" = String, Header)),
    responses((status = 200, description = "The event has been processed, or is ignored")))]
pub(super) async fn stripe(
    State(app): State<App>,
    Extension(context): Extension<Arc<RequestContext>>,
    headers: HeaderMap,
    body: RawBody,
) -> Result<Response, Problem> {
    let Some(secret) = &app.stripe_webhook_key else {
        return Err(Failure::new(
            Code::Unauthenticated,
            "STRIPE_WEBHOOK_SECRET is not set, so no webhook can be verified",
        )
        .into());
    };
    let signature = headers
        .get(SIGNATURE_HEADER)
        .and_then(|text| text.to_str().ok());
    verify(
        secret,
        signature.unwrap_or_default(),
        &body.bytes,
        Timestamp::now().as_second(),
    )
    .map_err(|message| Failure::new(Code::Unauthenticated, message))?;

    let event = body::parse(&body.bytes)?;
    let event_id = event["id"].as_str();
    let event_id = event_id.filter(|id| id.len() <= MAX_ID_CHARS && body::without_nul(id).is_ok());
    let event_id = event_id.ok_or_else(|| Failure::violation("/id", "must be an event id"))?;
    let request = payment_reference(&event)
        .and_then(|notification_body| Request::read("payment.notify", notification_body).ok());
    let Some(request) = request else {
        return Ok(acknowledged_response("ignored"));
    };
    match forward_to_worker(&app, "stripe", &request, event_id, &context).await {
        Ok(()) => Ok(acknowledged_response("ok")),
        // Other systems may use the same Stripe account. Acknowledge their events: Stripe disables endpoints
        // that return errors.
        Err(failure) if failure.code == Code::NotFound => {
            tracing::debug!(
                event = event_id,
                "ignored a Stripe event: its payment belongs to no order"
            );
            Ok(acknowledged_response("ignored"))
        }
        Err(failure) => Err(failure.into()),
    }
}

/// The payment that the event is about: a `PaymentIntent`, or the one that the event's object belongs to. The
/// order id comes from the object's metadata, if the gateway's system created the object or the object
/// inherited the metadata. A refund that was made in Stripe's dashboard has none.
fn payment_reference(event: &Value) -> Option<Value> {
    let object = &event["data"]["object"];
    let payment_intent = match object["object"].as_str()? {
        "payment_intent" => &object["id"],
        _ => &object["payment_intent"],
    };
    // Stripe sends the id or the expanded object.
    let reference = payment_intent.as_str().or(payment_intent["id"].as_str())?;
    let order_id = object["metadata"]["order_id"].as_str();
    // Objects of other systems may have an `order_id` of another form.
    let order_id = order_id.filter(|id| id.parse::<OrderId>().is_ok());
    Some(json!({"order_id": order_id, "reference": reference}))
}

fn verify(
    secret: &hmac::Key,
    signature_header: &str,
    payload: &[u8],
    now_seconds: i64,
) -> Result<(), String> {
    let name_value_pairs = || {
        signature_header
            .split(',')
            .filter_map(|pair| pair.split_once('='))
    };
    let signed_at =
        name_value_pairs().find_map(|(name, value)| (name.trim() == "t").then_some(value));
    let Some(signed_at) = signed_at.and_then(|signed_at| signed_at.parse::<i64>().ok()) else {
        return Err(format!("{SIGNATURE_HEADER} must be t=SECONDS,v1=SIGNATURE"));
    };
    let mut signed_bytes = format!("{signed_at}.").into_bytes();
    signed_bytes.extend_from_slice(payload);
    let is_signed = name_value_pairs()
        .filter(|(name, _)| name.trim() == "v1")
        .filter_map(|(_, hex)| from_hex(hex.trim()))
        .any(|signature| hmac::verify(secret, &signed_bytes, &signature).is_ok());
    if !is_signed {
        return Err("no signature matches the body; check STRIPE_WEBHOOK_SECRET".to_owned());
    }
    if now_seconds.abs_diff(signed_at) > TOLERANCE_SECONDS.unsigned_abs() {
        return Err(format!(
            "the signature's time differs by more than {TOLERANCE_SECONDS} seconds from the gateway's clock"
        ));
    }
    Ok(())
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> = text
        .chars()
        .map(|digit| u8::try_from(digit.to_digit(16)?).ok())
        .collect::<Option<_>>()?;
    let pairs = digits.chunks(2);
    pairs
        .map(|pair| match pair {
            [high_digit, low_digit] => Some(high_digit << 4 | low_digit),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use super::*;

    #[test]
    fn signature_must_be_valid_and_recent() {
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"whsec_test");
        let payload = br#"{"id": "evt_1"}"#;
        let tag = hmac::sign(&key, &[b"1700000000.", &payload[..]].concat());
        let hex = tag.as_ref().iter().fold(String::new(), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        });
        let valid_header = format!("t=1700000000,v1={},v1={hex},v0=abc", "0".repeat(64));
        assert_eq!(verify(&key, &valid_header, payload, 1_700_000_299), Ok(()));
        assert!(verify(&key, &valid_header, payload, 1_700_000_301).is_err());
        assert!(verify(&key, &valid_header, payload, 1_699_999_000).is_err());
        assert!(verify(&key, &valid_header, b"{}", 1_700_000_000).is_err());
        for invalid_header in [
            "",
            "t=,v1=",
            "v1=aa",
            "t=1700000000,v1=",
            "t=1700000000,v1=\u{e9}\u{e9}",
        ] {
            assert!(
                verify(&key, invalid_header, payload, 1_700_000_000).is_err(),
                "{invalid_header}"
            );
        }
    }
}
