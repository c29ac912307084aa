//! Imports orders of other systems: each line is decided on its own.

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
    /// Takes over the lines of a request. `name` is what makes its lines the same when they come again.
    pub(super) async fn import(
        &self,
        caller: &Caller,
        request: ImportOrders,
        name: Option<ImportName<'_>>,
        deadline: Option<Instant>,
    ) -> Result<Json, Failure> {
        caller.require_operator()?;
        Json::of(&import(&self.engine, caller, request.lines, name, deadline).await?)
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
    name: Option<ImportName<'_>>,
    deadline: Option<Instant>,
) -> Result<ImportReport, Failure> {
    let (mut outcomes, mut numbers, mut commands) = (Vec::new(), Vec::new(), Vec::new());
    let mut occurrences = HashMap::new();
    for read in lines {
        let ids = name.map(|name| name.ids(&read, &mut occurrences));
        let ImportLine { line, order, .. } = read;
        match body::read(order, ImportedOrder::read) {
            Ok(order) => {
                numbers.push(line);
                let ids = ids.unwrap_or_default();
                commands.push((command(caller, ids, order), deadline));
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
    let mut undecided = None;
    for (line, outcome) in outcomes {
        match outcome {
            Ok(true) => report.duplicates += 1,
            Ok(false) => report.accepted += 1,
            Err(failure) if is_undecided(&failure) => undecided = Some(failure),
            Err(failure) => report.reject(rejected(line, &failure)),
        }
    }
    match undecided {
        Some(failure) => Err(failure),
        None => Ok(report),
    }
}

fn command(caller: &Caller, ids: LineIds, order: ImportedOrder) -> Command {
    Command::Request {
        caller: caller.clone(),
        // The order is identified by its external id or its line.
        idempotency: None,
        if_match: None,
        action: Action::ImportOrder {
            id: ids.id,
            former_id: ids.former_id,
            order,
        },
    }
}

/// The identity of an import, by which repeated lines are recognized.
#[derive(Debug, Clone, Copy)]
pub(crate) enum ImportName<'a> {
    /// The client's idempotency key: its lines are known by their content, so that a corrected or reordered
    /// file can be sent under the same key.
    Key(&'a str),
    /// The message's id: the same message has the same lines, which are known by their numbers.
    Message(&'a str),
}

/// The ids of the order on a line.
#[derive(Debug, Clone, Copy, Default)]
struct LineIds {
    /// Under which it is stored.
    id: Option<OrderId>,
    /// Under which an earlier version stored it, if the content is the same.
    former_id: Option<OrderId>,
}

impl ImportName<'_> {
    /// The ids of the order on `line`; `occurrences` counts lines with the same content.
    fn ids(self, line: &ImportLine, occurrences: &mut HashMap<[u8; 32], u64>) -> LineIds {
        match self {
            Self::Message(name) => LineIds {
                id: Some(id_of(&format!("{name}/{}", line.line))),
                former_id: None,
            },
            Self::Key(name) => {
                let digest = line.digest();
                let counted = occurrences.entry(digest).or_default();
                *counted = line.occurrence.unwrap_or(*counted + 1);
                let content = BASE64_URL_SAFE_NO_PAD.encode(digest);
                LineIds {
                    id: Some(id_of(&format!("{name}/content/{content}/{counted}"))),
                    former_id: Some(id_of(&format!("{name}/{}", line.line))),
                }
            }
        }
    }
}

/// Whether the order existed already.
fn is_duplicate(decided: Result<RpcReply, CommitError>) -> Result<bool, Failure> {
    let reply = match decided {
        Err(CommitError::Internal(why)) => return Err(Failure::new(Code::Internal, why)),
        reply => reply?,
    };
    Ok(reply.outcome?.value()["is_duplicate"] == true)
}

fn is_undecided(failure: &Failure) -> bool {
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

/// The id of the order that `name` stands for, whenever it comes. A UUID of our own making (RFC 9562,
/// version 8).
fn id_of(name: &str) -> OrderId {
    let digest = Sha256::digest(name);
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    Builder::from_custom_bytes(bytes).into_uuid().into()
}
