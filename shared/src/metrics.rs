//! Metrics in Prometheus' text form (<https://prometheus.io/docs/instrumenting/exposition_formats/>), named as
//! is usual there: seconds, totals, one unit each.

use std::time::Duration;

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::time;

/// What `/metrics` answers with.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Seconds: from a fast commit to a slow partner.
const SECONDS: [f64; 14] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
];
/// How many at once.
const SIZES: [f64; 9] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];
/// Between two rounds of adding up what was noted.
const UPKEEP: Duration = Duration::from_secs(5);

/// What was noted, to be told.
#[derive(Clone)]
pub struct Metrics(PrometheusHandle);

impl Metrics {
    /// Begins to note what this process does.
    ///
    /// # Errors
    /// When something notes already: once a process.
    pub fn install() -> Result<Self, BuildError> {
        let handle = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)?
            .set_buckets_for_metric(Matcher::Suffix("_size".to_owned()), &SIZES)?
            .install_recorder()?;
        Ok(Self(handle))
    }

    /// Adds up what was noted, until it is dropped: what nobody asks for must not grow.
    pub async fn keep_up(self) {
        loop {
            time::sleep(UPKEEP).await;
            self.0.run_upkeep();
        }
    }

    /// All of it, as text.
    pub fn render(&self) -> String {
        self.0.render()
    }
}
