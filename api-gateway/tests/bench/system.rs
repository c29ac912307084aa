//! The systems under test.

use std::{
    fs::{self, File},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tokio::time;

use crate::setting;

/// Number of products in the catalogue. Each order is for a random one.
pub(crate) const SKU_COUNT: usize = 100;
/// Timeout for a system to start, or to become idle.
const WAIT_TIMEOUT: Duration = Duration::from_mins(5);

/// A worker is idle if it uses less processor time than the second value during the first.
const IDLE_PERIOD_AND_CPU_TIME: (Duration, Duration) =
    (Duration::from_millis(500), Duration::from_millis(50));

/// A system under test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SystemKind {
    /// axum and lapin, one message per request, nothing stored.
    Echo,
    NestMemory,
    NestPostgres,
    /// This system as of the commit of `--before`.
    SqliteBefore,
    Sqlite,
    /// This system with a quorum request queue.
    SqliteQuorum,
    PostgresBefore,
    Postgres,
}

impl SystemKind {
    pub(crate) const ALL: [Self; 8] = [
        Self::Echo,
        Self::NestMemory,
        Self::NestPostgres,
        Self::SqliteBefore,
        Self::Sqlite,
        Self::SqliteQuorum,
        Self::PostgresBefore,
        Self::Postgres,
    ];

    /// The name for `--only`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Echo => "echo",
            Self::NestMemory => "nest-memory",
            Self::NestPostgres => "nest-postgres",
            Self::SqliteBefore => "sqlite-before",
            Self::Sqlite => "sqlite",
            Self::SqliteQuorum => "sqlite-quorum",
            Self::PostgresBefore => "postgres-before",
            Self::Postgres => "postgres",
        }
    }

    /// The name in reports.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Echo => "axum + lapin echo, stores nothing",
            Self::NestMemory => "NestJS, in memory",
            Self::NestPostgres => "NestJS on PostgreSQL",
            Self::SqliteBefore => "the version before on SQLite",
            Self::Sqlite => "this system on SQLite",
            Self::SqliteQuorum => "this system on SQLite, quorum request queue",
            Self::PostgresBefore => "the version before on PostgreSQL",
            Self::Postgres => "this system on PostgreSQL",
        }
    }

    pub(crate) fn is_ours(self) -> bool {
        !matches!(self, Self::Echo | Self::NestMemory | Self::NestPostgres)
    }

    /// The same system as of the version before.
    pub(crate) fn counterpart_before(self) -> Option<Self> {
        match self {
            Self::Sqlite => Some(Self::SqliteBefore),
            Self::Postgres => Some(Self::PostgresBefore),
            _ => None,
        }
    }

    fn uses_postgres(self) -> bool {
        matches!(
            self,
            Self::NestPostgres | Self::PostgresBefore | Self::Postgres
        )
    }

    fn uses_sqlite(self) -> bool {
        matches!(self, Self::SqliteBefore | Self::Sqlite | Self::SqliteQuorum)
    }

    /// The path of one of this system's programs.
    fn program(self, program_name: &str) -> PathBuf {
        match self {
            Self::SqliteBefore | Self::PostgresBefore => {
                PathBuf::from(setting("BENCH_BEFORE")).join(program_name)
            }
            _ => program_path(program_name),
        }
    }
}

/// A running system under test.
pub(crate) struct SystemUnderTest {
    pub(crate) kind: SystemKind,
    pub(crate) base_url: String,
    pub(crate) customer_id: String,
    pub(crate) client: reqwest::Client,
    gateway: Process,
    worker: Process,
    database_url: Option<String>,
    /// Time from the start of the processes until the system is ready.
    pub(crate) startup_time: Duration,
}

struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Processor time and peak memory of a process and its descendants.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Usage {
    pub(crate) cpu_time: Duration,
    pub(crate) peak_mib: f64,
}

impl SystemUnderTest {
    pub(crate) async fn start(kind: SystemKind) -> Self {
        let folder = PathBuf::from(setting("BENCH_FOLDER")).join(kind.name());
        fs::create_dir(&folder).unwrap();
        let port = free_port();
        let database_url = match kind {
            _ if kind.uses_sqlite() => Some(format!("sqlite://{}/orders.db", folder.display())),
            _ if kind.uses_postgres() => Some(create_database(kind)),
            _ => None,
        };
        let started_at = Instant::now();
        let spawn_program = |role: &str| {
            let mut command = command(kind, role);
            command
                .env(
                    "AMQP_URL",
                    format!("{}/{}", setting("BENCH_AMQP"), kind.name()),
                )
                .env("HTTP_ADDR", format!("127.0.0.1:{port}"))
                .env("WORKER_HTTP_ADDR", "127.0.0.1:0")
                .env("RUST_LOG", "warn")
                .env("NODE_ENV", "production");
            if let (Some(url), "worker") = (&database_url, role) {
                command.env("DATABASE_URL", url);
            }
            if kind == SystemKind::SqliteQuorum {
                command.env("REQUEST_QUEUE_TYPE", "quorum");
            }
            let log_file = File::create(folder.join(format!("{role}.log"))).unwrap();
            command
                .stdout(log_file.try_clone().unwrap())
                .stderr(log_file)
                .stdin(Stdio::null());
            Process(command.spawn().unwrap())
        };
        let worker = spawn_program("worker");
        if !kind.is_ours() {
            // These gateways require a running service.
            wait_until("the service", async || {
                let log = fs::read_to_string(folder.join("worker.log"));
                log.is_ok_and(|log| log.contains("serving"))
            })
            .await;
        }
        let gateway = spawn_program("gateway");
        let mut system = Self {
            kind,
            base_url: format!("http://127.0.0.1:{port}"),
            customer_id: uuid::Uuid::now_v7().to_string(),
            client: reqwest::Client::new(),
            gateway,
            worker,
            database_url,
            startup_time: Duration::ZERO,
        };
        wait_until("the gateway", async || system.is_up().await).await;
        system.startup_time = started_at.elapsed();
        if kind.is_ours() {
            system.create_catalogue().await;
        }
        system
    }

    async fn is_up(&self) -> bool {
        let path = if self.kind.is_ours() { "/readyz" } else { "/" };
        let response = self
            .client
            .get(format!("{}{path}", self.base_url))
            .send()
            .await;
        response.is_ok_and(|answer| !self.kind.is_ours() || answer.status() == 200)
    }

    async fn create_catalogue(&mut self) {
        let new_customer = json!({"name": "Ada", "email": "ada@example.com"});
        let customer = self.post("/v1/customers", &new_customer).await;
        customer["id"]
            .as_str()
            .unwrap()
            .clone_into(&mut self.customer_id);
        for product_number in 0..SKU_COUNT {
            let sku = format!("S{product_number}");
            let product = json!({"sku": sku, "name": sku, "price": 1000, "currency": "EUR"});
            self.post("/v1/products", &product).await;
            let url = format!("{}/v1/products/{sku}/stock/main", self.base_url);
            let stock_level = json!({"on_hand": 1_000_000_000});
            let stock_reply = self
                .client
                .put(url)
                .json(&stock_level)
                .send()
                .await
                .unwrap();
            assert_eq!(stock_reply.status(), 200);
        }
    }

    async fn post(&self, path: &str, body: &Value) -> Value {
        let url = format!("{}{path}", self.base_url);
        let response = self.client.post(url).json(body).send().await.unwrap();
        assert_eq!(response.status(), 201);
        response.json().await.unwrap()
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        let url = format!("{}{path}", self.base_url);
        self.client
            .get(url)
            .send()
            .await
            .unwrap()
            .json()
            .await
            .unwrap()
    }

    /// Waits until all payments are processed and the worker is idle, and returns how long the payments took.
    pub(crate) async fn wait_until_idle(&self) -> Option<Duration> {
        if !self.kind.is_ours() {
            return None;
        }
        let started_at = Instant::now();
        wait_until("all payments to be processed", async || {
            let page = self.get("/v1/orders?status=pending&limit=1").await;
            page["data"] == json!([])
        })
        .await;
        let catch_up_time = started_at.elapsed();
        wait_until("the worker to be idle", async || {
            let cpu_before = usage(self.worker.0.id()).cpu_time;
            time::sleep(IDLE_PERIOD_AND_CPU_TIME.0).await;
            usage(self.worker.0.id())
                .cpu_time
                .saturating_sub(cpu_before)
                < IDLE_PERIOD_AND_CPU_TIME.1
        })
        .await;
        Some(catch_up_time)
    }

    /// Resource usage so far of the gateway, the worker, the broker and the database.
    pub(crate) fn usage(&self) -> [(&'static str, Usage); 4] {
        let server_usage = |pid_setting: &str| usage(setting(pid_setting).parse().unwrap());
        let database_usage = if self.kind.uses_postgres() {
            server_usage("BENCH_POSTGRES_PID")
        } else {
            Usage::default()
        };
        [
            ("gateway", usage(self.gateway.0.id())),
            ("worker", usage(self.worker.0.id())),
            ("broker", server_usage("BENCH_RABBITMQ_PID")),
            ("database", database_usage),
        ]
    }

    pub(crate) fn memory(&self) -> Value {
        let [(_, gateway_usage), (_, worker_usage), ..] = self.usage();
        json!({
            "system": self.kind.name(),
            "gateway_peak_mib": gateway_usage.peak_mib.round(),
            "worker_peak_mib": worker_usage.peak_mib.round(),
            "startup_ms": self.startup_time.as_millis() as u64,
        })
    }

    /// Whether `order-worker verify` succeeds.
    pub(crate) fn verify_succeeds(&self) -> bool {
        let Some(url) = self.database_url.as_ref().filter(|_| self.kind.is_ours()) else {
            return true;
        };
        let mut verify_command = Command::new(self.kind.program("order-worker"));
        let exit_status = verify_command
            .arg("verify")
            .env("DATABASE_URL", url)
            .status();
        exit_status.unwrap().success()
    }
}

fn program_path(program_name: &str) -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_api-gateway")).with_file_name(program_name)
}

fn command(kind: SystemKind, role: &str) -> Command {
    match kind {
        SystemKind::Echo => {
            let mut echo_command = Command::new(program_path("examples").join("echo"));
            echo_command.arg(if role == "worker" { "service" } else { role });
            echo_command
        }
        SystemKind::NestMemory | SystemKind::NestPostgres => {
            let script_name = if role == "worker" { "service" } else { role };
            let mut node_command = Command::new("node");
            node_command
                .arg(Path::new(&setting("BENCH_NEST")).join(format!("dist/{script_name}.js")));
            node_command
        }
        _ => Command::new(kind.program(match role {
            "worker" => "order-worker",
            _ => "api-gateway",
        })),
    }
}

fn create_database(kind: SystemKind) -> String {
    let server_url = setting("BENCH_POSTGRES");
    let database_name = format!("bench_{}", kind.name().replace('-', "_"));
    let mut psql_command = Command::new(Path::new(&setting("BENCH_POSTGRES_BIN")).join("psql"));
    let exit_status = psql_command
        .args(["-qX", "-c", &format!("CREATE DATABASE {database_name}")])
        .arg(format!("{server_url}/postgres"))
        .status();
    assert!(exit_status.unwrap().success());
    format!("{server_url}/{database_name}")
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

pub(crate) async fn wait_until(condition_name: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + WAIT_TIMEOUT;
    while !condition().await {
        assert!(
            Instant::now() < deadline,
            "timed out waiting for {condition_name}"
        );
        time::sleep(Duration::from_millis(20)).await;
    }
}

/// User and kernel time of a process, then user and kernel time of its terminated children.
pub(crate) fn cpu_times(pid: u32) -> Option<[Duration; 4]> {
    let process_stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // After the command name in parentheses, which may contain any character: utime, stime, cutime and cstime
    // are fields 14 to 17 (proc(5)), in hundredths of a second.
    let stat_fields: Vec<&str> = process_stat
        .rsplit(')')
        .next()?
        .split_whitespace()
        .collect();
    let cpu_ticks = |field_index: usize| stat_fields[field_index].parse::<u64>().unwrap();
    Some([11, 12, 13, 14].map(|stat_index| Duration::from_millis(cpu_ticks(stat_index) * 10)))
}

/// Resource usage of a process and its descendants, including terminated ones.
pub(crate) fn usage(root_pid: u32) -> Usage {
    let mut usage = Usage::default();
    let mut pids_to_visit = vec![root_pid];
    while let Some(pid) = pids_to_visit.pop() {
        let Some(cpu_times) = cpu_times(pid) else {
            continue;
        };
        usage.cpu_time += cpu_times.iter().sum::<Duration>();
        let process_status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let peak_line = process_status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"));
        let peak_kib_text = peak_line.and_then(|line| line.split_whitespace().next());
        usage.peak_mib +=
            peak_kib_text.map_or(0.0, |peak_kib| peak_kib.parse::<f64>().unwrap() / 1024.0);
        let thread_folders = fs::read_dir(format!("/proc/{pid}/task"))
            .into_iter()
            .flatten();
        for thread_folder in thread_folders.flatten() {
            let child_pids =
                fs::read_to_string(thread_folder.path().join("children")).unwrap_or_default();
            pids_to_visit.extend(
                child_pids
                    .split_whitespace()
                    .map(|pid| pid.parse::<u32>().unwrap()),
            );
        }
    }
    usage
}
