//! The result envelope of every RPC reply.
//!
//! `{"status":"SUCCESS","value":…}` or
//! `{"status":"FAILURE","error":{"code":"OUT_OF_STOCK","message":"…","details":{…}}}`. Functions return
//! [`Result<T, Failure>`](Failure); [`crate::amqp::rpc_server`] converts it to an [`Outcome`]. The gateway
//! maps a [`Failure`] to an HTTP problem with [`Failure::http_status`].

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{
    Value,
    value::{RawValue, to_raw_value},
};

use crate::body;
pub use crate::failure::{Code, Failure, MAX_VIOLATIONS, Violation};

/// The envelope, tagged by `status`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "status", try_from = "Envelope<T>")]
#[serde(bound(deserialize = "T: Deserialize<'de>"))]
pub enum Outcome<T> {
    /// The request succeeded.
    #[serde(rename = "SUCCESS")]
    Success {
        /// The result.
        value: T,
    },
    /// The request was refused or failed.
    #[serde(rename = "FAILURE")]
    Failure {
        /// The error.
        error: Failure,
    },
}

/// The envelope for parsing. serde buffers an internally tagged enum, which a [`RawValue`] does not support;
/// this struct is parsed in one pass.
#[derive(Deserialize)]
#[serde(bound(deserialize = "T: Deserialize<'de>"))]
struct Envelope<T> {
    status: EnvelopeStatus,
    // `null` is a value, not an absent one.
    #[serde(default, deserialize_with = "deserialize_present")]
    value: Option<T>,
    #[serde(default)]
    error: Option<Failure>,
}

#[derive(Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum EnvelopeStatus {
    Success,
    Failure,
}

fn deserialize_present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

impl<T> TryFrom<Envelope<T>> for Outcome<T> {
    type Error = &'static str;

    fn try_from(envelope: Envelope<T>) -> Result<Self, Self::Error> {
        match envelope {
            Envelope {
                status: EnvelopeStatus::Success,
                value: Some(value),
                ..
            } => Ok(Self::Success { value }),
            Envelope {
                status: EnvelopeStatus::Failure,
                error: Some(error),
                ..
            } => Ok(Self::Failure { error }),
            Envelope {
                status: EnvelopeStatus::Success,
                ..
            } => Err("SUCCESS without a value"),
            Envelope {
                status: EnvelopeStatus::Failure,
                ..
            } => Err("FAILURE without an error"),
        }
    }
}

/// A serialized JSON value, passed on without parsing.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Json(Box<RawValue>);

impl Json {
    /// Serializes `value`.
    ///
    /// # Errors
    /// `INTERNAL` if it can't be serialized, which does not happen for the types of this crate.
    pub fn of(value: &impl Serialize) -> Result<Self, Failure> {
        to_raw_value(value)
            .map(Self)
            .map_err(|serialization_error| {
                Failure::new(
                    Code::Internal,
                    format!("a reply can't be serialized: {serialization_error}"),
                )
            })
    }

    /// The JSON text.
    pub fn text(&self) -> &str {
        self.0.get()
    }

    /// The JSON text.
    pub fn into_text(self) -> String {
        let boxed_text: Box<str> = self.0.into();
        boxed_text.into()
    }

    /// The parsed value.
    pub fn value(&self) -> Value {
        body::from_stored(self.text()).unwrap_or_default()
    }
}

impl PartialEq for Json {
    fn eq(&self, other: &Self) -> bool {
        self.text() == other.text()
    }
}

impl<T> From<Result<T, Failure>> for Outcome<T> {
    fn from(result: Result<T, Failure>) -> Self {
        match result {
            Ok(value) => Self::Success { value },
            Err(error) => Self::Failure { error },
        }
    }
}

impl<T> From<Outcome<T>> for Result<T, Failure> {
    fn from(outcome: Outcome<T>) -> Self {
        match outcome {
            Outcome::Success { value } => Ok(value),
            Outcome::Failure { error } => Err(error),
        }
    }
}

/// The reply to an RPC request, and whether it was replayed from the idempotency record.
#[derive(Debug, Clone, PartialEq)]
pub struct RpcReply {
    /// The result of the request.
    pub outcome: Result<Json, Failure>,
    /// Whether the reply was replayed from the idempotency record.
    pub is_replay: bool,
}

impl From<Result<Json, Failure>> for RpcReply {
    fn from(outcome: Result<Json, Failure>) -> Self {
        Self {
            outcome,
            is_replay: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn envelope_is_tagged_by_status() {
        let success = Outcome::from(Ok::<_, Failure>(json!({"id": 1})));
        assert_eq!(
            serde_json::to_value(&success).unwrap(),
            json!({"status": "SUCCESS", "value": {"id": 1}})
        );
        let failure = Outcome::<Value>::from(Err(Failure::new(Code::OutOfStock, "none left")));
        assert_eq!(
            serde_json::to_value(&failure).unwrap(),
            json!({"status": "FAILURE", "error": {"code": "OUT_OF_STOCK", "message": "none left"}})
        );
    }

    #[test]
    fn envelope_fields_can_have_any_order_and_value_is_unchanged() {
        let parse_outcome = |text| serde_json::from_str::<Outcome<Json>>(text);
        let Ok(Outcome::Success { value }) =
            parse_outcome(r#"{"value":{"b": 1, "a":2},"status":"SUCCESS"}"#)
        else {
            panic!("not a success")
        };
        assert_eq!(value.text(), r#"{"b": 1, "a":2}"#);
        assert_eq!(
            parse_outcome(r#"{"status":"SUCCESS","value":null}"#).unwrap(),
            Outcome::Success {
                value: Json::of(&Value::Null).unwrap()
            }
        );
        let failure =
            parse_outcome(r#"{"status":"FAILURE","error":{"code":"TIMEOUT","message":"late"}}"#);
        assert!(matches!(failure, Ok(Outcome::Failure { error }) if error.code == Code::Timeout));
        for invalid_envelope in [
            r#"{"status":"SUCCESS"}"#,
            r#"{"status":"FAILURE","value":1}"#,
            "{}",
            "7",
        ] {
            assert!(
                parse_outcome(invalid_envelope).is_err(),
                "{invalid_envelope}"
            );
        }
    }
}
