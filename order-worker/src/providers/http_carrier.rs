//! A carrier over HTTP: a small adapter, run by the operator, connects any carrier or aggregator.
//! docs/CARRIER.md has the protocol and an example.
//!
//! Requests are signed according to Standard Webhooks (<https://www.standardwebhooks.com>). Their `webhook-id`
//! is the same in all attempts, and the adapter creates at most one label for each shipment id. A cancelled id
//! never gets a label, even if the request for it arrives later; so cancelling is safe whether the request was
//! executed, is running, or never arrives.

use std::{
    error::Error,
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::Context;
use jiff::{SignedDuration, Timestamp};
use reqwest::{Client, StatusCode, Url, header::CONTENT_TYPE, redirect::Policy};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use shared::{body, order::Label};
use standardwebhooks::{
    HEADER_WEBHOOK_ID, HEADER_WEBHOOK_SIGNATURE, HEADER_WEBHOOK_TIMESTAMP, Webhook,
};

use super::{LabelRef, LabelRequest, ProviderError};
use crate::{error_cause::innermost_message, retry_after::retry_after};

/// Timeout for connecting.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Timeout for the complete reply; shorter than the step's timeout.
const REPLY_TIMEOUT: Duration = Duration::from_secs(15);
/// Maximum size of a reply in bytes.
const MAX_REPLY_BYTES: usize = 64 * 1024;
/// Maximum length of a stored error message of the carrier, in characters.
const MAX_MESSAGE_CHARS: usize = 500;
/// Code of a 409 reply while another attempt with the same id is being executed.
const IN_PROGRESS_CODE: &str = "in_progress";

/// Settings of the HTTP carrier.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Base URL of the adapter.
    pub base_url: Url,
    /// Secret that signs the requests: `whsec_…`.
    pub signing_secret: String,
    /// Whether it creates new labels (`CARRIER=http`). Otherwise it only cancels labels that it created before.
    pub creates_labels: bool,
}

/// The HTTP carrier.
#[derive(Clone)]
pub struct HttpCarrier {
    client: Client,
    base_url: Url,
    signer: Arc<Webhook>,
    creates_labels: bool,
}

/// An unsuccessful reply, or none.
enum CallError {
    /// The carrier replied with this status.
    Status {
        status: StatusCode,
        error: Option<ErrorObject>,
        retry_after: Option<SignedDuration>,
    },
    /// There was no usable reply: the request may have been executed.
    NoReply(String),
}

#[derive(Deserialize)]
struct ErrorObject {
    code: String,
    message: String,
}

impl HttpCarrier {
    /// Creates a client for the carrier.
    ///
    /// # Errors
    /// When the secret is invalid, or the HTTP client can't be created.
    pub fn new(settings: Settings) -> anyhow::Result<Self> {
        let client = Client::builder()
            // A redirected request would be signed for another server.
            .redirect(Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(REPLY_TIMEOUT)
            .user_agent(concat!("order-worker/", env!("CARGO_PKG_VERSION")))
            .build()
            .context("can't create an HTTP client")?;
        let signer = Webhook::new(&settings.signing_secret).context("CARRIER_SECRET")?;
        Ok(Self {
            client,
            base_url: settings.base_url,
            signer: Arc::new(signer),
            creates_labels: settings.creates_labels,
        })
    }

    /// Whether it creates new labels.
    pub fn creates_labels(&self) -> bool {
        self.creates_labels
    }

    /// Requests the label, once for each shipment id.
    ///
    /// # Errors
    /// `Permanent` when the carrier refuses it; otherwise the outcome is unknown.
    pub async fn create_label(&self, request: &LabelRequest) -> Result<Label, ProviderError> {
        let webhook_id = format!("label_{}", request.label.shipment_id);
        let reply_body = self.call(&["shipments"], &webhook_id, request).await?;
        read_label(&reply_body).map_err(|reason| {
            ProviderError::Transient(format!("the carrier's reply can't be used: {reason}"))
        })
    }

    /// Cancels the label, or makes sure that there will be none.
    ///
    /// # Errors
    /// `Permanent` when the carrier refuses it, because it has the goods; otherwise the outcome is unknown.
    pub async fn cancel_label(&self, label: &LabelRef) -> Result<(), ProviderError> {
        let shipment_id = label.shipment_id.to_string();
        let webhook_id = format!("cancel_{shipment_id}");
        let path_segments = ["shipments", &shipment_id, "cancel"];
        match self.call(&path_segments, &webhook_id, label).await {
            Ok(_) => Ok(()),
            Err(CallError::Status { status, .. }) if status == StatusCode::GONE => Ok(()),
            Err(call_error) => Err(call_error.into()),
        }
    }

    /// Sends a signed request and returns the body of a successful reply.
    async fn call(
        &self,
        path_segments: &[&str],
        webhook_id: &str,
        request_body: &impl Serialize,
    ) -> Result<Vec<u8>, CallError> {
        let no_reply_error = |failed_action: &str, error: &dyn Error| {
            CallError::NoReply(format!("{failed_action}: {}", innermost_message(error)))
        };
        let request_body = serde_json::to_vec(request_body)
            .map_err(|error| no_reply_error("the request can't be serialized", &error))?;
        let timestamp = Timestamp::now().as_second();
        let signature = self
            .signer
            .sign(webhook_id, timestamp, &request_body)
            .map_err(|error| no_reply_error("the request can't be signed", &error))?;
        let response = self
            .client
            .post(self.url_of(path_segments))
            .header(HEADER_WEBHOOK_ID, webhook_id)
            .header(HEADER_WEBHOOK_TIMESTAMP, timestamp)
            .header(HEADER_WEBHOOK_SIGNATURE, signature)
            .header(CONTENT_TYPE, "application/json")
            .body(request_body)
            .send()
            .await;
        let mut response =
            response.map_err(|error| no_reply_error("the carrier did not respond", &error))?;
        let status = response.status();
        let retry_after = retry_after(response.headers(), SystemTime::now());
        let mut reply_bytes = Vec::new();
        while let Some(chunk) = response
            .chunk()
            .await
            .map_err(|error| no_reply_error("the carrier's reply was interrupted", &error))?
        {
            if reply_bytes.len() + chunk.len() > MAX_REPLY_BYTES {
                return Err(CallError::NoReply(format!(
                    "the carrier's reply is larger than {MAX_REPLY_BYTES} bytes"
                )));
            }
            reply_bytes.extend_from_slice(&chunk);
        }
        if status.is_success() {
            return Ok(reply_bytes);
        }
        Err(CallError::Status {
            status,
            error: read_error(&reply_bytes),
            retry_after,
        })
    }

    fn url_of(&self, path_segments: &[&str]) -> Url {
        let mut call_url = self.base_url.clone();
        if let Ok(mut segments) = call_url.path_segments_mut() {
            segments.pop_if_empty().extend(path_segments);
        }
        call_url
    }
}

/// Classifies an unsuccessful reply. An invalid signature counts as temporary, since the secret or the clock
/// can be corrected. A reply without an error object may come from a proxy, which does not know the outcome.
impl From<CallError> for ProviderError {
    fn from(call_error: CallError) -> Self {
        let (status, error_object, retry_after) = match call_error {
            CallError::NoReply(reason) => return Self::Transient(reason),
            CallError::Status {
                status,
                error,
                retry_after,
            } => (status, error, retry_after),
        };
        let is_temporary = match status {
            StatusCode::UNAUTHORIZED
            | StatusCode::FORBIDDEN
            | StatusCode::REQUEST_TIMEOUT
            | StatusCode::TOO_EARLY
            | StatusCode::TOO_MANY_REQUESTS => true,
            StatusCode::CONFLICT => error_object
                .as_ref()
                .is_none_or(|error_object| error_object.code == IN_PROGRESS_CODE),
            status => !status.is_client_error() || error_object.is_none(),
        };
        let status_code = status.as_u16();
        let message = match error_object {
            Some(ErrorObject {
                code: error_code,
                message,
            }) if is_temporary => {
                format!("the carrier responded with status {status_code}: {message} ({error_code})")
            }
            Some(ErrorObject {
                code: error_code,
                message,
            }) => {
                format!("the carrier refused the request: {message} ({error_code})")
            }
            None if status.is_redirection() => {
                format!(
                    "the carrier responded with status {status_code}; redirects are not followed"
                )
            }
            None => format!("the carrier responded with status {status_code}"),
        };
        match retry_after {
            _ if !is_temporary => Self::Permanent(message),
            Some(delay) => Self::RetryAfter { message, delay },
            None => Self::Transient(message),
        }
    }
}

/// Reads the label from a reply; fields that are not part of it are ignored.
fn read_label(reply_body: &[u8]) -> Result<Label, String> {
    let reply_json: Value =
        serde_json::from_slice(reply_body).map_err(|error| format!("it is not JSON: {error}"))?;
    let Value::Object(mut fields) = reply_json else {
        return Err("it is not a JSON object".to_owned());
    };
    fields.retain(|field_name, _| Label::FIELDS.contains(&field_name.as_str()));
    body::read(Value::Object(fields), Label::read).map_err(|failure| {
        let errors = failure.errors().and_then(Value::as_array);
        let errors = errors.into_iter().flatten().map(|error_entry| {
            let text_of = |member_name: &str| error_entry[member_name].as_str().unwrap_or_default();
            format!("{} {}", text_of("pointer"), text_of("detail"))
        });
        replace_control_characters(&errors.collect::<Vec<_>>().join("; "))
    })
}

/// The error object in a reply: `{"error": {"code", "message"}}`.
fn read_error(reply_body: &[u8]) -> Option<ErrorObject> {
    #[derive(Deserialize)]
    struct ErrorReply {
        error: ErrorObject,
    }
    let ErrorReply { error } = serde_json::from_slice(reply_body).ok()?;
    Some(ErrorObject {
        code: replace_control_characters(&error.code),
        message: replace_control_characters(&error.message),
    })
}

/// The beginning of a text of the carrier, without control characters.
fn replace_control_characters(carrier_text: &str) -> String {
    let replaced_characters = carrier_text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c });
    replaced_characters.take(MAX_MESSAGE_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classify(status: u16, reply_text: &str) -> ProviderError {
        CallError::Status {
            status: StatusCode::from_u16(status).unwrap(),
            error: read_error(reply_text.as_bytes()),
            retry_after: None,
        }
        .into()
    }

    #[test]
    fn refusals_are_permanent_and_everything_else_is_retried() {
        let refusal_reply =
            r#"{"error": {"code": "bad_address", "message": "no such street\u0000"}}"#;
        let message = "the carrier refused the request: no such street  (bad_address)";
        for status in [400, 402, 404, 409, 410, 413, 422] {
            let expected_error = ProviderError::Permanent(message.to_owned());
            assert_eq!(classify(status, refusal_reply), expected_error, "{status}");
        }
        for (status, reply_text) in [
            (302, ""),
            (302, refusal_reply),
            (400, "<html>"),
            (401, refusal_reply),
            (403, refusal_reply),
            (404, r#"{"detail": "not found"}"#),
            (408, refusal_reply),
            (409, ""),
            (
                409,
                r#"{"error": {"code": "in_progress", "message": "wait"}}"#,
            ),
            (425, refusal_reply),
            (429, refusal_reply),
            (500, refusal_reply),
            (503, ""),
        ] {
            let classified_error = classify(status, reply_text);
            assert!(
                matches!(classified_error, ProviderError::Transient(_)),
                "{classified_error:?}"
            );
        }
        let delay = SignedDuration::from_secs(7);
        let busy_error = CallError::Status {
            status: StatusCode::SERVICE_UNAVAILABLE,
            error: None,
            retry_after: Some(delay),
        };
        let classified_error = ProviderError::from(busy_error);
        assert!(
            matches!(classified_error, ProviderError::RetryAfter { delay: read_delay, .. } if read_delay == delay),
            "{classified_error:?}"
        );
    }

    #[test]
    fn label_has_the_same_rules_as_a_manual_shipment() {
        let read_reply = |reply_text: &str| read_label(reply_text.as_bytes());
        let label = read_reply(
            r#"{"carrier": "DHL", "tracking_number": "0034", "tracking_url": null, "price": 1.0,
                "label_url": "https://labels.example.com/1.pdf"}"#,
        );
        let expected_label = Label {
            label_url: Some("https://labels.example.com/1.pdf".to_owned()),
            ..Label::new("DHL", "0034")
        };
        assert_eq!(label, Ok(expected_label));
        for (reply_text, field) in [
            (r#"{"carrier": "DHL"}"#, "/tracking_number"),
            (r#"{"carrier": "", "tracking_number": "1"}"#, "/carrier"),
            (
                r#"{"carrier": "DHL", "tracking_number": 34}"#,
                "/tracking_number",
            ),
            (
                r#"{"carrier": "DHL", "tracking_number": "1\u0000"}"#,
                "/tracking_number",
            ),
            (
                r#"{"carrier": "DHL", "tracking_number": "1", "label_url": "javascript:alert(1)"}"#,
                "/label_url",
            ),
            (
                r#"{"carrier": "DHL", "tracking_number": "1", "tracking_url": "https:///x"}"#,
                "/tracking_url",
            ),
            ("[]", "object"),
            ("", "JSON"),
        ] {
            let label_error = read_reply(reply_text).unwrap_err();
            assert!(label_error.contains(field), "{reply_text}: {label_error}");
        }
    }
}
