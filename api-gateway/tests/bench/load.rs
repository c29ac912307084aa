//! Load generation with `oha`.

use std::{
    fs::{self, File},
    io::{BufWriter, Write},
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

use serde_json::{Value, json};

use crate::{
    setting,
    system::{Kind, SKUS, SystemUnderTest, cpu_times},
};

/// Number of distinct bodies; oha sends one of them at random.
const BODIES: usize = 20_000;

/// Load on a system for a fixed time.
pub(crate) struct Load {
    pub(crate) time: Duration,
}

/// The result of a load.
#[derive(Debug, Clone)]
pub(crate) struct Figures {
    /// Responses per second.
    pub(crate) rate: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    /// Number of responses other than 2xx.
    pub(crate) failed_count: u64,
    /// Milliseconds of processor time per thousand requests, by process.
    pub(crate) cpu_ms: Vec<(&'static str, f64)>,
}

impl Figures {
    /// The median of each figure over several runs; the processor times are those of the first run.
    pub(crate) fn median(mut runs: Vec<Self>) -> Self {
        fn median(values: impl Iterator<Item = f64>) -> f64 {
            let mut sorted_values: Vec<f64> = values.collect();
            sorted_values.sort_by(f64::total_cmp);
            sorted_values[sorted_values.len() / 2]
        }
        Self {
            rate: median(runs.iter().map(|figures| figures.rate)),
            p50_ms: median(runs.iter().map(|figures| figures.p50_ms)),
            p99_ms: median(runs.iter().map(|run| run.p99_ms)),
            failed_count: runs.iter().map(|run| run.failed_count).sum(),
            cpu_ms: runs.swap_remove(0).cpu_ms,
        }
    }

    pub(crate) fn document(&self, kind: Kind, connections: usize) -> Value {
        let cpu_values: serde_json::Map<_, _> = self
            .cpu_ms
            .iter()
            .map(|(name, milliseconds)| ((*name).to_owned(), json!(milliseconds.round())))
            .collect();
        json!({
            "system": kind.name(),
            "connections": connections,
            "per_second": self.rate.round(),
            "p50_ms": (self.p50_ms * 100.0).round() / 100.0,
            "p99_ms": (self.p99_ms * 100.0).round() / 100.0,
            "failed": self.failed_count,
            "cpu_ms_per_1000": cpu_values,
        })
    }
}

impl Load {
    pub(crate) fn new(run_time: Duration) -> Self {
        Self { time: run_time }
    }

    /// Creates orders of `skus` products in a closed loop, with one request at a time per connection.
    pub(crate) fn closed_loop(
        &self,
        system: &SystemUnderTest,
        connections: usize,
        skus: usize,
    ) -> Figures {
        let bodies_file = write_bodies(system, skus);
        let bodies = bodies_file.to_string_lossy();
        let connection_count = connections.to_string();
        let arguments = ["-m", "POST", "-Z", &bodies, "-c", &connection_count];
        self.run(
            &format!("{}/v1/orders", system.base_url),
            system,
            &arguments,
        )
    }

    /// Creates orders at a fixed rate. The latency includes the delay caused by earlier slow responses.
    pub(crate) fn open_loop(&self, system: &SystemUnderTest, rate: u64) -> Figures {
        let bodies = write_bodies(system, SKUS);
        let (bodies, rate) = (bodies.to_string_lossy(), rate.to_string());
        let arguments = [
            "-m",
            "POST",
            "-Z",
            &bodies,
            "-c",
            "64",
            "-q",
            &rate,
            "--latency-correction",
        ];
        self.run(
            &format!("{}/v1/orders", system.base_url),
            system,
            &arguments,
        )
    }

    /// Reads one path.
    pub(crate) fn get_path(
        &self,
        system: &SystemUnderTest,
        path: &str,
        connections: usize,
    ) -> Figures {
        let connection_count = connections.to_string();
        self.run(
            &format!("{}{path}", system.base_url),
            system,
            &["-c", &connection_count],
        )
    }

    /// Reads paths at random.
    pub(crate) fn get_any(
        &self,
        system: &SystemUnderTest,
        paths: &[String],
        connections: usize,
    ) -> Figures {
        let file = PathBuf::from(setting("BENCH_FOLDER")).join("urls");
        let urls = paths
            .iter()
            .map(|path| format!("{}{path}\n", system.base_url));
        fs::write(&file, urls.collect::<String>()).unwrap();
        let connection_count = connections.to_string();
        let arguments = ["--urls-from-file", "-c", &connection_count];
        self.run(&file.to_string_lossy(), system, &arguments)
    }

    /// Runs oha. Blocks the thread, since nothing else runs meanwhile.
    fn run(&self, target: &str, system: &SystemUnderTest, arguments: &[&str]) -> Figures {
        let usage_before = system.usage();
        let load_cpu_before = child_cpu_time();
        let run_time_text = format!("{}s", self.time.as_secs());
        let output = Command::new(setting("BENCH_OHA"))
            .args([
                "--no-tui",
                "--output-format",
                "json",
                "-T",
                "application/json",
                "-z",
                &run_time_text,
            ])
            .args(arguments)
            .arg(target)
            .stderr(Stdio::null())
            .output()
            .unwrap();
        let load_cpu_time = child_cpu_time().saturating_sub(load_cpu_before);
        let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
            panic!("oha: {error}: {}", String::from_utf8_lossy(&output.stdout))
        });
        let statuses = report["statusCodeDistribution"].as_object().unwrap();
        let count = |is_good: bool| -> u64 {
            let status_count = statuses
                .iter()
                .filter(|(status, _)| status.starts_with('2') == is_good);
            status_count.map(|(_, count)| count.as_u64().unwrap()).sum()
        };
        let (successes, failed_count) = (count(true), count(false));
        let thousand_requests = successes.max(1) as f64 / 1000.0;
        let per_thousand = |run_time: Duration| run_time.as_secs_f64() * 1000.0 / thousand_requests;
        let usage_after = system.usage();
        let mut cpu_ms: Vec<_> = usage_before
            .iter()
            .zip(usage_after)
            .map(|((name, time_before), (_, time_after))| {
                (
                    *name,
                    per_thousand(time_after.cpu_time.saturating_sub(time_before.cpu_time)),
                )
            })
            .collect();
        cpu_ms.push(("load", per_thousand(load_cpu_time)));
        let percentile = |name: &str| {
            report["latencyPercentiles"][name]
                .as_f64()
                .unwrap_or(f64::NAN)
        };
        Figures {
            rate: successes as f64 / report["summary"]["total"].as_f64().unwrap(),
            p50_ms: percentile("p50") * 1000.0,
            p99_ms: percentile("p99") * 1000.0,
            failed_count,
            cpu_ms,
        }
    }
}

/// Processor time of all terminated child processes, which are the runs of oha.
fn child_cpu_time() -> Duration {
    cpu_times(std::process::id()).map_or(Duration::ZERO, |[_, _, user, system_time]| {
        user + system_time
    })
}

/// Writes a file of distinct order bodies.
fn write_bodies(system: &SystemUnderTest, skus: usize) -> PathBuf {
    let path = PathBuf::from(setting("BENCH_FOLDER")).join("bodies");
    let _ = fs::remove_file(&path);
    let mut file = BufWriter::new(File::create(&path).unwrap());
    for number in 0..BODIES {
        let body = json!({
            "customer_id": system.customer,
            "items": [{"sku": format!("S{}", number * 7 % skus), "quantity": 1 + number % 3}],
            "metadata": {"cart": number.to_string()},
        });
        writeln!(file, "{body}").unwrap();
    }
    file.flush().unwrap();
    path
}
