//! Imports orders of other systems. Each line is decided on its own and is accepted, a duplicate, or rejected
//! with a reason.
//!
//! Repeating an import creates no order twice: the id of each order is derived from the identity of the
//! import and from the content of its line.

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
    domain::command::{Action, Command},
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
    let (mut outcomes, mut numbers, mut commands) = (Vec::new(), Vec::new(), Vec::new());
    let mut occurrences = HashMap::new();
    for import_line in lines {
        let ids = identity.map(|identity| identity.ids(&import_line, &mut occurrences));
        let ImportLine { line, order, .. } = import_line;
        match body::read(order, ImportedOrder::read) {
            Ok(order) => {
                numbers.push(line);
                let ids = ids.unwrap_or_default();
                let is_first_delivery = identity.is_some_and(|identity| identity.is_first_delivery);
                let command = command(caller, ids, is_first_delivery, order);
                commands.push((command, deadline));
            }
            Err(failure) => outcomes.push((line, Err(failure))),
        }
    }
    let decided = engine.decide_together(commands).all().await;
    outcomes.extend(
        numbers
            .into_iter()
            .zip(decided.into_iter().map(is_duplicate)),
    );
    outcomes.sort_by_key(|(line, _)| *line);
    let mut report = ImportReport::default();
    let mut unavailable = None;
    for (line, outcome) in outcomes {
        match outcome {
            Ok(true) => report.duplicates += 1,
            Ok(false) => report.accepted += 1,
            Err(failure) if is_unavailable(&failure) => unavailable = Some(failure),
            Err(failure) => report.reject(rejected(line, &failure)),
        }
    }
    match unavailable {
        Some(failure) => Err(failure),
        None => Ok(report),
    }
}

fn command(
    caller: &Caller,
    ids: LineIds,
    is_first_delivery: bool,
    order: ImportedOrder,
) -> Command {
    Command::Request {
        caller: caller.clone(),
        // The order is identified by its external id or its line.
        idempotency: None,
        if_match: None,
        action: Action::ImportOrder {
            id: ids.id,
            legacy_id: ids.legacy_id,
            is_first_delivery,
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
    pub(crate) name: &'a str,
    /// Whether the message has only a correlation id and is delivered for the first time.
    pub(crate) is_first_delivery: bool,
}

/// The ids of the order on a line.
#[derive(Debug, Clone, Copy, Default)]
struct LineIds {
    /// Id under which the order is stored.
    id: Option<OrderId>,
    /// Id under which earlier versions stored the order, if its content is the same.
    legacy_id: Option<OrderId>,
}

impl ImportIdentity<'_> {
    /// The ids of the order on `line`; `occurrences` counts lines with the same content.
    fn ids(self, line: &ImportLine, occurrences: &mut HashMap<[u8; 32], u64>) -> LineIds {
        let name = self.name;
        let digest = line.digest();
        let occurrence = occurrences.entry(digest).or_default();
        *occurrence = line.occurrence.unwrap_or(*occurrence + 1);
        let content = BASE64_URL_SAFE_NO_PAD.encode(digest);
        LineIds {
            id: Some(derived_order_id(&format!(
                "{name}/content/{content}/{occurrence}"
            ))),
            legacy_id: Some(derived_order_id(&format!("{name}/{}", line.line))),
        }
    }
}

/// Whether the order existed already.
fn is_duplicate(decided: Result<RpcReply, CommitError>) -> Result<bool, Failure> {
    let reply = match decided {
        Err(CommitError::Internal(message)) => return Err(Failure::new(Code::Internal, message)),
        reply => reply?,
    };
    Ok(reply.outcome?.value()["is_duplicate"] == true)
}

fn is_unavailable(failure: &Failure) -> bool {
    matches!(failure.code, Code::Unavailable | Code::Timeout)
}

/// A rejected line, with its violations in one sentence.
pub(crate) fn rejected(line: u64, failure: &Failure) -> RejectedLine {
    let errors = failure.errors().and_then(Value::as_array);
    let details = errors.into_iter().flatten().map(|error| {
        let text = |name: &str| error[name].as_str().unwrap_or_default();
        format!("{} {}", text("pointer"), text("detail"))
    });
    let details: Vec<String> = details.collect();
    let detail = if details.is_empty() {
        failure.message.clone()
    } else {
        details.join("; ")
    };
    RejectedLine {
        line,
        code: failure.code,
        detail: detail.chars().take(500).collect(),
    }
}

/// The order id derived from `name`, always the same: a UUID of version 8 (RFC 9562).
fn derived_order_id(name: &str) -> OrderId {
    let digest = Sha256::digest(name);
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    Builder::from_custom_bytes(bytes).into_uuid().into()
}
