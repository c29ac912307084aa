//! Orders that are accepted before anybody has looked at them: a message on the durable step queue,
//! under an id that the gateway minted. What comes of it is stored under that id, whatever it is.

use serde::Serialize;
use serde_json::Value;

use super::CreateOrder;
use crate::{
    amqp::{
        batch::{self, CallHeaders},
        message::{Incoming, Outgoing},
        rpc_server,
    },
    body::{self, Fields},
    id::OrderId,
    outcome::{Code, Failure},
    request::{Caller, Request},
};

/// The property `type` of the message.
pub const ACCEPT_ORDER: &str = "order.accept";

/// An order that is to be accepted.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AcceptOrder {
    /// Under which id; one that is there already was accepted before.
    pub id: OrderId,
    /// What was wished for.
    pub order: CreateOrder,
}

impl AcceptOrder {
    /// The message, which the broker has to confirm before anybody is told that it is accepted.
    pub fn message(&self, caller: &Caller, idempotency_key: Option<&str>) -> Outgoing {
        Outgoing {
            kind: Some(ACCEPT_ORDER.to_owned()),
            message_id: Some(self.id.to_string()),
            persistent: true,
            headers: CallHeaders {
                idempotency_key: idempotency_key.map(Into::into),
                ..CallHeaders::of_caller(caller)
            }
            .into_headers(),
            body: batch::json(self),
            ..Outgoing::default()
        }
    }

    /// What `message` asks for, on whose behalf, and under which key of the client's.
    ///
    /// # Errors
    /// `INVALID_REQUEST` when it can't be read, which no gateway's message allows.
    pub fn read(message: &Incoming) -> Result<(Self, Caller, Option<String>), Failure> {
        let headers = CallHeaders::of(&message.headers);
        let caller = rpc_server::caller(ACCEPT_ORDER, &headers)?;
        let idempotency_key: Option<String> = headers.idempotency_key.map(Into::into);
        body::without_nul(idempotency_key.as_deref().unwrap_or_default()).map_err(|error| {
            Failure::new(
                Code::InvalidRequest,
                format!("header idempotency_key: {error}"),
            )
        })?;
        let (id, order) = body::read(body::parse_message(&message.body)?, Self::fields)?;
        match Request::read("order.create", order)? {
            Request::CreateOrder(order) => Ok((Self { id, order }, caller, idempotency_key)),
            other => Err(Failure::violation(
                "/order",
                format!("is {}", other.pattern()),
            )),
        }
    }

    fn fields(fields: &mut Fields<'_>) -> Option<(OrderId, Value)> {
        let id = fields.required("id", body::parsed);
        let order = fields.required("order", Ok);
        Some((id?, order?))
    }
}
