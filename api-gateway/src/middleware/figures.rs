//! Request metrics by route; paths would be as numerous as orders.

use std::{cell::RefCell, collections::HashMap, time::Duration};

use metrics::{Counter, Histogram, counter, histogram};

/// Metric handles of a route. Looking them up by name costs more than recording, so each thread caches them.
struct RouteMetrics {
    method: &'static str,
    status: u16,
    requests: Counter,
    seconds: Histogram,
}

thread_local! {
    /// By route; the number of routes, methods and statuses is small.
    static METRICS: RefCell<HashMap<Box<str>, Vec<RouteMetrics>>> = RefCell::default();
}

/// Records a response with its duration.
pub(super) fn record(method: &'static str, route: &str, status: u16, duration: Duration) {
    METRICS.with_borrow_mut(|by_route| {
        if !by_route.contains_key(route) {
            by_route.insert(route.into(), Vec::new());
        }
        let Some(of_route) = by_route.get_mut(route) else {
            return;
        };
        let is_same =
            |metrics_of: &RouteMetrics| metrics_of.method == method && metrics_of.status == status;
        let index = of_route.iter().position(is_same).unwrap_or_else(|| {
            of_route.push(RouteMetrics::of(method, route, status));
            of_route.len() - 1
        });
        if let Some(metrics_of) = of_route.get(index) {
            metrics_of.requests.increment(1);
            metrics_of.seconds.record(duration);
        }
    });
}

impl RouteMetrics {
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
