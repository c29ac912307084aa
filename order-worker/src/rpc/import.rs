//! Taking over orders of another system: each line is decided on its own.

use serde_json::Value;
use sha2::{Digest, Sha256};
use shared::{
    body,
    id::OrderId,
    order::{ImportLine, ImportOrders, ImportReport, ImportedOrder, RejectedLine},
    outcome::{Code, Failure, Json, Told},
    request::Caller,
};
use tokio::time::Instant;
use uuid::Builder;

use super::Rpc;
use crate::{
    domain::command::{Action, Command},
    engine::{Engine, Undecided},
};

impl Rpc {
    /// Takes over the lines of a request. `name` is what makes its lines the same when it comes again.
    pub(super) async fn import(
        &self,
        caller: &Caller,
        request: ImportOrders,
        name: Option<&str>,
        deadline: Option<Instant>,
    ) -> Result<Json, Failure> {
        caller.must_operate()?;
        Json::of(&import(&self.engine, caller, request.lines, name, deadline).await?)
    }
}

/// Takes over `lines`: each is accepted, was accepted before, or is rejected and says why.
///
/// # Errors
/// `UNAVAILABLE` and `TIMEOUT` when not all of them were decided; asking again finds those that were.
pub(crate) async fn import(
    engine: &Engine,
    caller: &Caller,
    lines: Vec<ImportLine>,
    name: Option<&str>,
    deadline: Option<Instant>,
) -> Result<ImportReport, Failure> {
    let (mut outcomes, mut numbers, mut commands) = (Vec::new(), Vec::new(), Vec::new());
    for ImportLine { line, order } in lines {
        match body::read(order, ImportedOrder::read) {
            Ok(order) => {
                let id = name.map(|name| line_id(name, line));
                numbers.push(line);
                commands.push((command(caller, id, order), deadline));
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

fn command(caller: &Caller, id: Option<OrderId>, order: ImportedOrder) -> Command {
    Command::Request {
        caller: caller.clone(),
        // It is known again by its name or by its line.
        idempotency: None,
        if_match: None,
        action: Action::ImportOrder { id, order },
    }
}

/// Whether the order was there already.
fn is_duplicate(decided: Result<Told, Undecided>) -> Result<bool, Failure> {
    let told = match decided {
        Err(Undecided::Defect(why)) => return Err(Failure::new(Code::Internal, why)),
        told => told?,
    };
    Ok(told.outcome?.value()["is_duplicate"] == true)
}

fn is_undecided(failure: &Failure) -> bool {
    matches!(failure.code, Code::Unavailable | Code::Timeout)
}

/// A line by what is wrong with it, in one sentence.
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

/// The id of the order on a line of this request, whenever it comes. A UUID of our own making (RFC 9562,
/// version 8).
fn line_id(name: &str, line: u64) -> OrderId {
    let digest = Sha256::digest(format!("{name}/{line}"));
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    Builder::from_custom_bytes(bytes).into_uuid().into()
}
