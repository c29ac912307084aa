//! Metrics of requests, by pattern and result.

use std::{cell::RefCell, collections::HashMap, time::Duration};

use metrics::{Counter, Histogram, counter, histogram};
use shared::outcome::Code;

/// Metric handles of a pattern. Looking them up by name costs more than recording, so each thread caches them.
struct RequestMetrics {
    request_counter: Counter,
    duration_histogram: Histogram,
}

thread_local! {
    /// By pattern and code; there are few of both.
    static CACHED_METRICS: RefCell<HashMap<(&'static str, Option<Code>), RequestMetrics>> = RefCell::default();
}

/// Records a request with its result and duration.
pub(super) fn record(pattern: &'static str, code: Option<Code>, duration: Duration) {
    CACHED_METRICS.with_borrow_mut(|cached_metrics| {
        let cached_entry = cached_metrics.entry((pattern, code));
        let request_metrics =
            cached_entry.or_insert_with(|| RequestMetrics::for_request(pattern, code));
        request_metrics.request_counter.increment(1);
        request_metrics.duration_histogram.record(duration);
    });
}

impl RequestMetrics {
    fn for_request(pattern: &'static str, code: Option<Code>) -> Self {
        let code_text = code.map_or_else(|| "OK".to_owned(), |code| code.to_string());
        Self {
            request_counter: counter!("rpc_requests_total", "pattern" => pattern, "code" => code_text),
            duration_histogram: histogram!("rpc_request_duration_seconds", "pattern" => pattern),
        }
    }
}
