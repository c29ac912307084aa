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
    system::{SKU_COUNT, SystemKind, SystemUnderTest, cpu_times},
};

/// Number of distinct bodies; oha sends one of them at random.
const BODY_COUNT: usize = 20_000;

/// Load on a system for a fixed time.
pub(crate) struct Load {
    pub(crate) run_time: Duration,
}

/// The result of a load.
#[derive(Debug, Clone)]
pub(crate) struct Figures {
    /// Successful (2xx) responses per second.
    pub(crate) rate: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    /// Number of responses other than 2xx.
    pub(crate) failed_count: u64,
    /// Milliseconds of processor time per thousand successful requests, by process.
    pub(crate) cpu_ms_per_thousand_requests: Vec<(&'static str, f64)>,
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
            cpu_ms_per_thousand_requests: runs.swap_remove(0).cpu_ms_per_thousand_requests,
        }
    }

    pub(crate) fn to_json(&self, kind: SystemKind, connections: usize) -> Value {
        let cpu_ms_by_process: serde_json::Map<_, _> = self
            .cpu_ms_per_thousand_requests
            .iter()
            .map(|(process_name, milliseconds)| {
                ((*process_name).to_owned(), json!(milliseconds.round()))
            })
            .collect();
        json!({
            "system": kind.name(),
            "connections": connections,
            "per_second": self.rate.round(),
            "p50_ms": (self.p50_ms * 100.0).round() / 100.0,
            "p99_ms": (self.p99_ms * 100.0).round() / 100.0,
            "failed": self.failed_count,
            "cpu_ms_per_1000": cpu_ms_by_process,
        })
    }
}

impl Load {
    pub(crate) fn new(run_time: Duration) -> Self {
        Self { run_time }
    }

    /// Creates orders of `sku_count` products in a closed loop, with one request at a time per connection.
    pub(crate) fn closed_loop(
        &self,
        system: &SystemUnderTest,
        connections: usize,
        sku_count: usize,
    ) -> Figures {
        let bodies_path = write_bodies(system, sku_count);
        let bodies_path_text = bodies_path.to_string_lossy();
        let connection_count = connections.to_string();
        let arguments = [
            "-m",
            "POST",
            "-Z",
            &bodies_path_text,
            "-c",
            &connection_count,
        ];
        self.run(
            &format!("{}/v1/orders", system.base_url),
            system,
            &arguments,
        )
    }

    /// Creates orders at a fixed rate. The latency includes the delay caused by earlier slow responses.
    pub(crate) fn open_loop(&self, system: &SystemUnderTest, request_rate: u64) -> Figures {
        let bodies_path = write_bodies(system, SKU_COUNT);
        let (bodies_path_text, request_rate) =
            (bodies_path.to_string_lossy(), request_rate.to_string());
        let arguments = [
            "-m",
            "POST",
            "-Z",
            &bodies_path_text,
            "-c",
            "64",
            "-q",
            &request_rate,
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
    pub(crate) fn get_random_paths(
        &self,
        system: &SystemUnderTest,
        paths: &[String],
        connections: usize,
    ) -> Figures {
        let urls_file = PathBuf::from(setting("BENCH_FOLDER")).join("urls");
        let urls = paths
            .iter()
            .map(|path| format!("{}{path}\n", system.base_url));
        fs::write(&urls_file, urls.collect::<String>()).unwrap();
        let connection_count = connections.to_string();
        let arguments = ["--urls-from-file", "-c", &connection_count];
        self.run(&urls_file.to_string_lossy(), system, &arguments)
    }

    /// Runs oha. Blocks the thread, since nothing else runs meanwhile.
    fn run(&self, target_url: &str, system: &SystemUnderTest, arguments: &[&str]) -> Figures {
        let usage_before = system.usage();
        let load_cpu_before = child_cpu_time();
        let run_time_text = format!("{}s", self.run_time.as_secs());
        let oha_output = Command::new(setting("BENCH_OHA"))
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
            .arg(target_url)
            .stderr(Stdio::null())
            .output()
            .unwrap();
        let load_cpu_time = child_cpu_time().saturating_sub(load_cpu_before);
        let oha_report: Value =
            serde_json::from_slice(&oha_output.stdout).unwrap_or_else(|error| {
                panic!(
                    "oha: {error}: {}",
                    String::from_utf8_lossy(&oha_output.stdout)
                )
            });
        let counts_by_status = oha_report["statusCodeDistribution"].as_object().unwrap();
        let count_responses = |is_success: bool| -> u64 {
            let selected_counts = counts_by_status
                .iter()
                .filter(|(status, _)| status.starts_with('2') == is_success);
            selected_counts
                .map(|(_, count)| count.as_u64().unwrap())
                .sum()
        };
        let (successes, failed_count) = (count_responses(true), count_responses(false));
        let thousands_of_requests = successes.max(1) as f64 / 1000.0;
        let to_ms_per_thousand_requests =
            |cpu_time: Duration| cpu_time.as_secs_f64() * 1000.0 / thousands_of_requests;
        let usage_after = system.usage();
        let mut cpu_ms_per_thousand_requests: Vec<_> = usage_before
            .iter()
            .zip(usage_after)
            .map(|((name, process_before), (_, process_after))| {
                (
                    *name,
                    to_ms_per_thousand_requests(
                        process_after
                            .cpu_time
                            .saturating_sub(process_before.cpu_time),
                    ),
                )
            })
            .collect();
        cpu_ms_per_thousand_requests.push(("load", to_ms_per_thousand_requests(load_cpu_time)));
        let percentile = |percentile_name: &str| {
            oha_report["latencyPercentiles"][percentile_name]
                .as_f64()
                .unwrap_or(f64::NAN)
        };
        Figures {
            rate: successes as f64 / oha_report["summary"]["total"].as_f64().unwrap(),
            p50_ms: percentile("p50") * 1000.0,
            p99_ms: percentile("p99") * 1000.0,
            failed_count,
            cpu_ms_per_thousand_requests,
        }
    }
}

/// Processor time of all terminated child processes, which are the runs of oha.
fn child_cpu_time() -> Duration {
    cpu_times(std::process::id()).map_or(Duration::ZERO, |[_, _, user_time, system_time]| {
        user_time + system_time
    })
}

/// Writes a file of distinct order bodies.
fn write_bodies(system: &SystemUnderTest, sku_count: usize) -> PathBuf {
    let bodies_path = PathBuf::from(setting("BENCH_FOLDER")).join("bodies");
    let _ = fs::remove_file(&bodies_path);
    let mut bodies_file = BufWriter::new(File::create(&bodies_path).unwrap());
    for body_number in 0..BODY_COUNT {
        let order_body = json!({
            "customer_id": system.customer_id,
            "items": [{"sku": format!("S{}", body_number * 7 % sku_count), "quantity": 1 + body_number % 3}],
            "metadata": {"cart": body_number.to_string()},
        });
        writeln!(bodies_file, "{order_body}").unwrap();
    }
    bodies_file.flush().unwrap();
    bodies_path
}
