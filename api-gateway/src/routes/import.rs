//! `POST /v1/orders/import`: imports any number of orders, one per line (NDJSON).
//!
//! Lines are parsed as they arrive and sent to the worker in parts, so memory use does not depend on the size
//! of the file. A part that fails because the worker is unavailable is retried with the same message id, so
//! that the worker imports each of its lines once, and reports those of the first attempt as accepted.

use std::{
    collections::{HashMap, VecDeque},
    mem,
    time::Duration,
};

use axum::{
    Json,
    body::Body,
    extract::Request,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use futures_util::{StreamExt, future::BoxFuture};
use serde_json::{Value, json};
use shared::{
    body::{self, MAX_BODY_BYTES},
    order::{ImportLine, ImportReport, RejectedLine},
    outcome::{Code, Failure, RpcReply},
};
use tokio::time::{self, Instant};
use uuid::Uuid;

use crate::{problem::Problem, state::App, worker_client::WorkerClient};
use utoipa_axum::{router::OpenApiRouter, routes};

/// Maximum number of lines in a part, which is one RPC request.
const MAX_PART_LINES: usize = 250;
/// Size in bytes from which a part is full.
const MAX_PART_BYTES: usize = 128 * 1024;
/// Maximum size in bytes of a line in compact JSON: far more than any order has, and far less than the limit
/// of a message.
const MAX_LINE_BYTES: usize = MAX_BODY_BYTES / 2;
/// A line up to this size is within [`MAX_LINE_BYTES`] however its numbers are written, so it needs no check.
const SHORT_LINE_BYTES: usize = MAX_LINE_BYTES / 8;
/// Maximum number of parts at the worker at the same time: enough to fill the worker's batches.
const MAX_CONCURRENT_PARTS: usize = 4;
/// Timeout for the next chunk of the body.
const IDLE_TIMEOUT: Duration = Duration::from_secs(20);
/// Time for which a part is retried while the worker or its database is unavailable.
const MAX_RETRY_TIME: Duration = Duration::from_secs(30);
/// Delay between attempts.
const RETRY_DELAY: Duration = Duration::from_millis(500);

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(import))
}

/// Imports orders
///
/// Operators only. The body has one order per line (NDJSON). Each order is stored at once; its stock is
/// reserved when it is processed. Each line is accepted or rejected on its own, and the response lists the
/// rejected lines.
///
/// To be able to repeat an import safely, give each line an `external_id` or send an `Idempotency-Key`. A
/// line whose `external_id` already exists changes nothing. With an `Idempotency-Key`, lines without an
/// `external_id` are recognized by their content: if the file is sent again with the same key, only new lines
/// are imported, at any place in the file. Two identical lines in a file are two orders. If an import ends
/// early or lines are rejected, correct the file and send it again.
#[utoipa::path(post, path = "/v1/orders/import", tag = "orders",
    request_body(content = inline(Lines), content_type = "application/x-ndjson",
        description = "One JSON object per line: the body of `POST /v1/orders`, plus an `external_id`"),
    responses((status = 200, body = ImportReport)))]
async fn import(worker: WorkerClient, request: Request) -> Result<Response, Problem> {
    worker.require_operator()?;
    if !is_ndjson(request.headers()) {
        let failure = Failure::new(
            Code::InvalidRequest,
            "Content-Type must be application/x-ndjson, with one order per line",
        );
        return Err(Problem::with_status(
            failure,
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
        ));
    }
    let report = Import::new(&worker)
        .import_body(request.into_body())
        .await?;
    Ok(Json(report).into_response())
}

fn is_ndjson(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE);
    let content_type = content_type.and_then(|value| value.to_str().ok());
    let media_type = content_type.unwrap_or_default().split(';').next();
    let media_type = media_type.unwrap_or_default().trim().to_ascii_lowercase();
    [
        "application/x-ndjson",
        "application/ndjson",
        "application/jsonl",
    ]
    .contains(&media_type.as_str())
}

/// Schema of the request body: lines of JSON.
#[derive(utoipa::ToSchema)]
#[schema(value_type = String, format = Binary)]
#[expect(dead_code, reason = "only its OpenAPI schema is used")]
struct Lines(Vec<u8>);

/// An import in progress.
struct Import<'a> {
    worker: &'a WorkerClient,
    /// Generated id of this import; with the number of its first line, it is a part's message id.
    message_id_prefix: String,
    report: ImportReport,
    pending_parts: VecDeque<BoxFuture<'a, Result<ImportReport, Failure>>>,
    part_lines: Vec<ImportLine>,
    part_bytes: usize,
    /// Number of the current line, from 1.
    line_number: u64,
    /// Number of lines with the same content so far, by digest. `None` without an `Idempotency-Key`.
    occurrences: Option<HashMap<u64, u64>>,
}

impl<'a> Import<'a> {
    fn new(worker: &'a WorkerClient) -> Self {
        Self {
            worker,
            message_id_prefix: Uuid::now_v7().to_string(),
            report: ImportReport::default(),
            pending_parts: VecDeque::new(),
            part_lines: Vec::new(),
            part_bytes: 0,
            line_number: 0,
            occurrences: worker.has_idempotency_key().then(HashMap::new),
        }
    }

    async fn import_body(mut self, body: Body) -> Result<ImportReport, Problem> {
        let read_result = self.read_lines(body).await;
        let send_result = self.wait_for_parts().await;
        match read_result.and(send_result) {
            Ok(()) => Ok(self.report),
            Err(failure) => Err(self.ended_early(failure).into()),
        }
    }

    async fn read_lines(&mut self, body: Body) -> Result<(), Failure> {
        let mut body_stream = body.into_data_stream();
        let mut line_buffer = LineBuffer::default();
        loop {
            let next_chunk = time::timeout(IDLE_TIMEOUT, body_stream.next())
                .await
                .map_err(|_| {
                    Failure::new(
                        Code::InvalidRequest,
                        format!("no more data was received within {IDLE_TIMEOUT:?}"),
                    )
                })?;
            let Some(chunk) = next_chunk else { break };
            let chunk = chunk.map_err(|error| {
                Failure::new(
                    Code::InvalidRequest,
                    format!("the body ended unexpectedly: {error}"),
                )
            })?;
            let mut remaining_bytes = &chunk[..];
            while let Some(line_end) = remaining_bytes.iter().position(|byte| *byte == b'\n') {
                line_buffer.append_bytes(&remaining_bytes[..line_end]);
                self.finish_line(&mut line_buffer).await?;
                remaining_bytes = &remaining_bytes[line_end + 1..];
            }
            line_buffer.append_bytes(remaining_bytes);
        }
        if !line_buffer.is_empty() {
            self.finish_line(&mut line_buffer).await?;
        }
        Ok(())
    }

    async fn finish_line(&mut self, line_buffer: &mut LineBuffer) -> Result<(), Failure> {
        self.line_number += 1;
        let LineBuffer {
            bytes: line_bytes,
            is_too_long,
        } = mem::take(line_buffer);
        let line_text = line_bytes.trim_ascii();
        if line_text.is_empty() && !is_too_long {
            return Ok(());
        }
        let line_value = if is_too_long {
            Err(line_too_long_failure(MAX_BODY_BYTES))
        } else {
            body::parse_line(line_text).and_then(ensure_line_length(line_text.len()))
        };
        match line_value {
            Ok(order) => {
                if self.part_bytes + line_text.len() > MAX_PART_BYTES {
                    self.send_part().await?;
                }
                self.part_bytes += line_text.len();
                let mut import_line = ImportLine {
                    line: self.line_number,
                    occurrence: None,
                    order,
                };
                import_line.occurrence = self.occurrence(&import_line);
                self.part_lines.push(import_line);
            }
            Err(Failure { code, message, .. }) => self.report.reject(RejectedLine {
                line: self.line_number,
                code,
                detail: message,
            }),
        }
        if self.part_lines.len() >= MAX_PART_LINES || self.part_bytes >= MAX_PART_BYTES {
            self.send_part().await?;
        }
        Ok(())
    }

    /// The line's number among the lines with the same content, for the second and later ones. Lines with an
    /// `external_id` are recognized by that instead.
    fn occurrence(&mut self, import_line: &ImportLine) -> Option<u64> {
        let occurrences = self.occurrences.as_mut()?;
        if !import_line.order["external_id"].is_null() {
            return None;
        }
        let mut digest_beginning = [0; 8];
        digest_beginning.copy_from_slice(&import_line.digest()[..8]);
        let digest = u64::from_be_bytes(digest_beginning);
        let count = occurrences.entry(digest).or_default();
        *count += 1;
        (*count > 1).then_some(*count)
    }

    /// Sends the current part to the worker; waits while [`MAX_CONCURRENT_PARTS`] are pending.
    async fn send_part(&mut self) -> Result<(), Failure> {
        if self.part_lines.is_empty() {
            return Ok(());
        }
        let part_lines = mem::take(&mut self.part_lines);
        self.part_bytes = 0;
        let message_id = format!("{}/{}", self.message_id_prefix, part_lines[0].line);
        let send_task = tokio::spawn(send_with_retries(
            self.worker.clone(),
            part_lines,
            message_id,
        ));
        self.pending_parts.push_back(Box::pin(async move {
            send_task
                .await
                .unwrap_or_else(|error| Err(Failure::new(Code::Internal, error.to_string())))
        }));
        while self.pending_parts.len() >= MAX_CONCURRENT_PARTS {
            self.collect_report().await?;
        }
        Ok(())
    }

    async fn collect_report(&mut self) -> Result<(), Failure> {
        if let Some(next_part) = self.pending_parts.pop_front() {
            self.report.add(next_part.await?);
        }
        Ok(())
    }

    async fn wait_for_parts(&mut self) -> Result<(), Failure> {
        let mut report_result = self.send_part().await;
        while !self.pending_parts.is_empty() {
            report_result = report_result.and(self.collect_report().await);
        }
        self.report
            .rejected
            .sort_by_key(|rejected_line| rejected_line.line);
        report_result
    }

    /// The failure of an import that ended early, with the report of the lines imported so far.
    fn ended_early(&self, failure: Failure) -> Failure {
        let message = format!(
            "{}; the import ended at line {}. Imported orders are kept; send the file again to import the rest",
            failure.message, self.line_number
        );
        Failure::new(failure.code, message)
            .with(json!({"report": self.report, "line": self.line_number}))
    }
}

fn line_too_long_failure(byte_count: usize) -> Failure {
    Failure::new(
        Code::PayloadTooLarge,
        format!("the line exceeds {byte_count} bytes"),
    )
}

/// Returns a check that refuses an order of more than [`MAX_LINE_BYTES`] in compact JSON; `byte_count` is the
/// size of the line as received.
fn ensure_line_length(byte_count: usize) -> impl Fn(Value) -> Result<Value, Failure> {
    move |order| {
        if byte_count > SHORT_LINE_BYTES && order.to_string().len() > MAX_LINE_BYTES {
            return Err(line_too_long_failure(MAX_LINE_BYTES));
        }
        Ok(order)
    }
}

/// The current line as received so far. The content of a line that is too long is dropped.
#[derive(Default)]
struct LineBuffer {
    bytes: Vec<u8>,
    is_too_long: bool,
}

impl LineBuffer {
    fn append_bytes(&mut self, bytes: &[u8]) {
        if self.is_too_long || self.bytes.len() + bytes.len() > MAX_BODY_BYTES {
            self.is_too_long = true;
            self.bytes = Vec::new();
        } else {
            self.bytes.extend_from_slice(bytes);
        }
    }

    fn is_empty(&self) -> bool {
        self.bytes.is_empty() && !self.is_too_long
    }
}

/// Sends a part to the worker and retries while the worker is unavailable or does not reply. The message id
/// makes sure that each line is imported once, and that the report is that of the first attempt.
async fn send_with_retries(
    worker: WorkerClient,
    part_lines: Vec<ImportLine>,
    message_id: String,
) -> Result<ImportReport, Failure> {
    let part_body =
        json!({ "lines": part_lines.iter().map(|line| json!(line)).collect::<Vec<Value>>() });
    drop(part_lines);
    let deadline = Instant::now() + MAX_RETRY_TIME;
    loop {
        let reply = worker.call_with_message_id("order.import", part_body.clone(), &message_id);
        let failure = match reply.await {
            Ok(RpcReply {
                outcome: Ok(report),
                ..
            }) => {
                return serde_json::from_str(report.text()).map_err(|error| {
                    Failure::new(
                        Code::Internal,
                        format!("the worker's import report can't be parsed: {error}"),
                    )
                });
            }
            Ok(RpcReply {
                outcome: Err(failure),
                ..
            })
            | Err(failure) => failure,
        };
        let is_retryable = matches!(failure.code, Code::Unavailable | Code::Timeout);
        if !is_retryable || Instant::now() >= deadline {
            return Err(failure);
        }
        time::sleep(RETRY_DELAY).await;
    }
}
