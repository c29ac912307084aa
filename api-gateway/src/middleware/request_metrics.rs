//! Metrics of HTTP requests: their number and duration.
//!
//! The label is the route's pattern, such as `/v1/orders/{id}`: paths contain ids, and would create a time
//! series for each order. Recorded by [`crate::middleware`], served at `/metrics`.

use std::{cell::RefCell, collections::HashMap, time::Duration};

use metrics::{Counter, Histogram, counter, histogram};

/// Metric handles of a route, method and status. Each thread caches them, because looking up a handle by its
/// labels costs more than recording a value.
struct RouteMetrics {
    method: &'static str,
    status: u16,
    request_counter: Counter,
    duration_histogram: Histogram,
}

thread_local! {
    /// Handles by route. Bounded, because the numbers of routes, methods and statuses are small.
    static METRICS: RefCell<HashMap<Box<str>, Vec<RouteMetrics>>> = RefCell::default();
}

/// Records a response: its method, route, status and duration.
pub(super) fn record(method: &'static str, route: &str, status: u16, duration: Duration) {
    METRICS.with_borrow_mut(|metrics_by_route| {
        if !metrics_by_route.contains_key(route) {
            metrics_by_route.insert(route.into(), Vec::new());
        }
        let Some(metrics_of_route) = metrics_by_route.get_mut(route) else {
            return;
        };
        let is_same = |route_metrics: &RouteMetrics| {
            route_metrics.method == method && route_metrics.status == status
        };
        let metrics_index = metrics_of_route
            .iter()
            .position(is_same)
            .unwrap_or_else(|| {
                metrics_of_route.push(RouteMetrics::for_response(method, route, status));
                metrics_of_route.len() - 1
            });
        if let Some(route_metrics) = metrics_of_route.get(metrics_index) {
            route_metrics.request_counter.increment(1);
            route_metrics.duration_histogram.record(duration);
        }
    });
}

impl RouteMetrics {
    fn for_response(method: &'static str, route: &str, status: u16) -> Self {
        let labels = [
            ("method", method.to_owned()),
            ("route", route.to_owned()),
            ("status", status.to_string()),
        ];
        Self {
            method,
            status,
            request_counter: counter!("http_requests_total", &labels),
            duration_histogram: histogram!("http_request_duration_seconds", &labels[..2]),
        }
    }
}
