//! Metrics recorder and exporter in Prometheus' text format
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/>).
//!
//! Names follow the Prometheus conventions: base units, `_total` for counters. The suffix selects the buckets
//! of a histogram: `_seconds` or `_size`. Each program records its own metrics; docs/OPERATIONS.md lists
//! them.

use std::time::Duration;

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::time;

/// Content type of `/metrics`.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Histogram buckets in seconds.
const SECONDS_BUCKETS: [f64; 14] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
];
/// Histogram buckets for batch sizes.
const SIZE_BUCKETS: [f64; 9] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];
/// Interval of the exporter's upkeep.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// The process's metrics recorder.
#[derive(Clone)]
pub struct Metrics(PrometheusHandle);

impl Metrics {
    /// Installs the recorder of this process.
    ///
    /// # Errors
    /// When a recorder is installed already.
    pub fn install() -> Result<Self, BuildError> {
        let recorder_handle = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS_BUCKETS)?
            .set_buckets_for_metric(Matcher::Suffix("_size".to_owned()), &SIZE_BUCKETS)?
            .install_recorder()?;
        Ok(Self(recorder_handle))
    }

    /// Runs the exporter's upkeep periodically until dropped, so that histograms don't grow while nothing
    /// scrapes them.
    pub async fn run_upkeep(self) {
        loop {
            time::sleep(UPKEEP_INTERVAL).await;
            self.0.run_upkeep();
        }
    }

    /// All metrics as text.
    pub fn render(&self) -> String {
        self.0.render()
    }
}
