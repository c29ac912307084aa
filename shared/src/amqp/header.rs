//! Names of the headers of request and reply messages; those of a request are optional.

/// `storefront`, `operator` or `admin`; default `storefront`.
pub const ROLE: &str = "role";
/// The storefront whose data the caller can see; default `default`.
pub const STOREFRONT: &str = "storefront";
/// Name of the credential.
pub const ACTOR: &str = "actor";
/// Purpose of the request.
pub const INTENT: &str = "intent";
/// Id of the HTTP request.
pub const REQUEST_ID: &str = "request_id";
/// Deadline of the request in Unix milliseconds.
pub const DEADLINE: &str = "deadline";
/// The deadline by the clocks of workers whose clock differs from the sender's: `WORKER=MILLIS`,
/// separated by commas.
pub const WORKER_DEADLINES: &str = "worker_deadlines";
/// The client's `Idempotency-Key`.
pub const IDEMPOTENCY_KEY: &str = "idempotency_key";
/// Entity tags that the resource must match, as in HTTP's `If-Match`.
pub const IF_MATCH: &str = "if_match";
/// Trace and parent span of the message (<https://www.w3.org/TR/trace-context/>).
pub const TRACEPARENT: &str = "traceparent";
/// Data of tracing systems about the trace.
pub const TRACESTATE: &str = "tracestate";
/// On a reply: `true` when the reply was replayed from the idempotency record.
pub const REPLAYED: &str = "idempotent_replayed";
/// On a reply message: the worker's id, new with each start.
pub const WORKER: &str = "worker";
/// On a reply message: the worker's time in Unix milliseconds.
pub const WORKER_TIME: &str = "worker_time";
