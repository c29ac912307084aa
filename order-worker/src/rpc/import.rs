//! Imports orders of other systems. Each line is decided on its own and is accepted, a duplicate, or rejected
//! with a reason.
//!
//! Repeating an import creates no order twice: the id of each order is derived from the identity of the
//! import and from the content of its line. The identity is the client's key, or else the message's identity.
//!
//! A repeated message has the report of its first execution. Under a client's key, which several imports can
//! have, the lines that a message has imported are recorded; otherwise the orders' ids tell.

use std::collections::HashMap;

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::Value;
use sha2::{Digest, Sha256};
use shared::{
    body,
    id::OrderId,
    order::{ImportLine, ImportOrders, ImportReport, ImportedOrder, RejectedLine},
    outcome::{Code, Failure, Json, RpcReply},
    request::Caller,
};
use tokio::time::Instant;
use uuid::Builder;

use super::Rpc;
use crate::{
    domain::command::{Action, Command, Idempotency, KeyOrigin, MessageKey},
    engine::{CommitError, Engine},
};

impl Rpc {
    /// Imports the lines of a request. `identity` identifies them when the request is repeated.
    pub(super) async fn import(
        &self,
        caller: &Caller,
        request: ImportOrders,
        identity: Option<ImportIdentity<'_>>,
        deadline: Option<Instant>,
    ) -> Result<Json, Failure> {
        caller.require_operator()?;
        Json::of(&import(&self.engine, caller, request.lines, identity, deadline).await?)
    }
}

/// Imports `lines`: each is accepted, a duplicate, or rejected with a reason.
///
/// # Errors
/// `UNAVAILABLE` and `TIMEOUT` when not all lines were decided; repeating the request detects those that were.
pub(crate) async fn import(
    engine: &Engine,
    caller: &Caller,
    lines: Vec<ImportLine>,
    identity: Option<ImportIdentity<'_>>,
    deadline: Option<Instant>,
) -> Result<ImportReport, Failure> {
    let (mut line_outcomes, mut line_numbers, mut commands) = (Vec::new(), Vec::new(), Vec::new());
    let mut occurrence_counts = HashMap::new();
    for import_line in lines {
        let line_ids =
            identity.map(|identity| identity.line_ids(&import_line, &mut occurrence_counts));
        let ImportLine {
            line: line_number,
            order,
            ..
        } = import_line;
        match body::read(order, ImportedOrder::read) {
            Ok(order) => {
                line_numbers.push(line_number);
                let line_ids = line_ids.unwrap_or_default();
                commands.push((import_command(caller, line_ids, identity, order), deadline));
            }
            Err(failure) => line_outcomes.push((line_number, Err(failure))),
        }
    }
    let decided_replies = engine.decide_together(commands).wait_for_all().await;
    line_outcomes.extend(
        line_numbers
            .into_iter()
            .zip(decided_replies.into_iter().map(is_duplicate)),
    );
    line_outcomes.sort_by_key(|(line_number, _)| *line_number);
    let mut report = ImportReport::default();
    let mut unavailable_error = None;
    for (line_number, outcome) in line_outcomes {
        match outcome {
            Ok(true) => report.duplicates += 1,
            Ok(false) => report.accepted += 1,
            Err(failure) if is_unavailable(&failure) => unavailable_error = Some(failure),
            Err(failure) => report.reject(rejected_line(line_number, &failure)),
        }
    }
    match unavailable_error {
        Some(failure) => Err(failure),
        None => Ok(report),
    }
}

fn import_command(
    caller: &Caller,
    line_ids: LineIds,
    identity: Option<ImportIdentity<'_>>,
    order: ImportedOrder,
) -> Command {
    Command::Request {
        caller: caller.clone(),
        // The order is identified by its external id or its line.
        idempotency: identity
            .and_then(|identity| identity.message_line_idempotency(line_ids.order_id?)),
        if_match: None,
        action: Action::ImportOrder {
            id: line_ids.order_id,
            legacy_id: line_ids.legacy_order_id,
            key_origin: identity.map(|identity| identity.key_origin),
            order,
        },
    }
}

/// Identity of an import, by which repeated lines are recognized.
///
/// Lines are identified by their content, so that a corrected or reordered file can be sent under the same
/// key, and another import can have the same correlation id.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ImportIdentity<'a> {
    /// The client's idempotency key, or the key derived from the message.
    pub(crate) import_key: &'a str,
    /// Origin of the key.
    pub(crate) key_origin: KeyOrigin,
    /// Key of the message, if it has an identity.
    pub(crate) message_key: Option<&'a MessageKey>,
}

/// The ids of the order on a line.
#[derive(Debug, Clone, Copy, Default)]
struct LineIds {
    /// Id under which the order is stored.
    order_id: Option<OrderId>,
    /// Id under which earlier versions stored the order, if its content is the same.
    legacy_order_id: Option<OrderId>,
}

impl ImportIdentity<'_> {
    /// The idempotency of a line within its message, for messages under a client's key. `order_id` is derived
    /// from that key and from the line's content, so that another message with the line has a record of its
    /// own.
    fn message_line_idempotency(self, order_id: OrderId) -> Option<Idempotency> {
        let is_client_key = self.key_origin == KeyOrigin::Client;
        let message_key = self.message_key.filter(|_| is_client_key)?;
        Some(Idempotency {
            key: format!("{}/{order_id}", message_key.key),
            fingerprint: String::new(),
            key_origin: message_key.key_origin,
            operation: None,
        })
    }

    /// The ids of the order on `import_line`; `occurrence_counts` counts lines with the same content.
    fn line_ids(
        self,
        import_line: &ImportLine,
        occurrence_counts: &mut HashMap<[u8; 32], u64>,
    ) -> LineIds {
        let import_key = self.import_key;
        let line_digest = import_line.digest();
        let occurrence_count = occurrence_counts.entry(line_digest).or_default();
        *occurrence_count = import_line.occurrence.unwrap_or(*occurrence_count + 1);
        let content_digest = BASE64_URL_SAFE_NO_PAD.encode(line_digest);
        LineIds {
            order_id: Some(derived_order_id(&format!(
                "{import_key}/content/{content_digest}/{occurrence_count}"
            ))),
            legacy_order_id: Some(derived_order_id(&format!(
                "{import_key}/{}",
                import_line.line
            ))),
        }
    }
}

/// Whether the order existed already.
fn is_duplicate(reply: Result<RpcReply, CommitError>) -> Result<bool, Failure> {
    let reply = match reply {
        Err(CommitError::Internal(message)) => return Err(Failure::new(Code::Internal, message)),
        reply => reply?,
    };
    Ok(reply.outcome?.value()["is_duplicate"] == true)
}

fn is_unavailable(failure: &Failure) -> bool {
    matches!(failure.code, Code::Unavailable | Code::Timeout)
}

/// A rejected line, with its violations in one sentence.
pub(crate) fn rejected_line(line_number: u64, failure: &Failure) -> RejectedLine {
    let field_errors = failure.errors().and_then(Value::as_array);
    let details = field_errors.into_iter().flatten().map(|error| {
        let text_of = |member_name: &str| error[member_name].as_str().unwrap_or_default();
        format!("{} {}", text_of("pointer"), text_of("detail"))
    });
    let details: Vec<String> = details.collect();
    let detail = if details.is_empty() {
        failure.message.clone()
    } else {
        details.join("; ")
    };
    RejectedLine {
        line: line_number,
        code: failure.code,
        detail: detail.chars().take(500).collect(),
    }
}

/// The order id derived from `seed_text`, always the same: a UUID of version 8 (RFC 9562).
fn derived_order_id(seed_text: &str) -> OrderId {
    let digest = Sha256::digest(seed_text);
    let mut uuid_bytes = [0; 16];
    uuid_bytes.copy_from_slice(&digest[..16]);
    Builder::from_custom_bytes(uuid_bytes).into_uuid().into()
}
