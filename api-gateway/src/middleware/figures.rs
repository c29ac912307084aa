//! Request metrics by route; paths would be as numerous as orders.

use std::{cell::RefCell, collections::HashMap, time::Duration};

use metrics::{Counter, Histogram, counter, histogram};

/// Metric handles of a route. Looking them up by name costs more than recording, so each thread caches them.
struct Figures {
    method: &'static str,
    status: u16,
    requests: Counter,
    seconds: Histogram,
}

thread_local! {
    /// By route; the number of routes, methods and statuses is small.
    static KNOWN: RefCell<HashMap<Box<str>, Vec<Figures>>> = RefCell::default();
}

/// Records a response with its duration.
pub(super) fn note(method: &'static str, route: &str, status: u16, took: Duration) {
    KNOWN.with_borrow_mut(|known| {
        if !known.contains_key(route) {
            known.insert(route.into(), Vec::new());
        }
        let Some(of_route) = known.get_mut(route) else {
            return;
        };
        let is_it = |figures: &Figures| figures.method == method && figures.status == status;
        let place = of_route.iter().position(is_it).unwrap_or_else(|| {
            of_route.push(Figures::of(method, route, status));
            of_route.len() - 1
        });
        if let Some(figures) = of_route.get(place) {
            figures.requests.increment(1);
            figures.seconds.record(took);
        }
    });
}

impl Figures {
    fn of(method: &'static str, route: &str, status: u16) -> Self {
        let labels = [
            ("method", method.to_owned()),
            ("route", route.to_owned()),
            ("status", status.to_string()),
        ];
        Self {
            method,
            status,
            requests: counter!("http_requests_total", &labels),
            seconds: histogram!("http_request_duration_seconds", &labels[..2]),
        }
    }
}
