//! Request metrics by pattern.

use std::{cell::RefCell, collections::HashMap, time::Duration};

use metrics::{Counter, Histogram, counter, histogram};
use shared::outcome::Code;

/// Metric handles of a pattern. Looking them up by name costs more than recording, so each thread caches them.
struct Figures {
    requests: Counter,
    seconds: Histogram,
}

thread_local! {
    /// By pattern and code; there are few of both.
    static KNOWN: RefCell<HashMap<(&'static str, Option<Code>), Figures>> = RefCell::default();
}

/// Records a request with its result and duration.
pub(super) fn note(pattern: &'static str, code: Option<Code>, took: Duration) {
    KNOWN.with_borrow_mut(|known| {
        let known = known.entry((pattern, code));
        let figures = known.or_insert_with(|| Figures::of(pattern, code));
        figures.requests.increment(1);
        figures.seconds.record(took);
    });
}

impl Figures {
    fn of(pattern: &'static str, code: Option<Code>) -> Self {
        let code = code.map_or_else(|| "OK".to_owned(), |code| code.to_string());
        Self {
            requests: counter!("rpc_requests_total", "pattern" => pattern, "code" => code),
            seconds: histogram!("rpc_request_duration_seconds", "pattern" => pattern),
        }
    }
}
