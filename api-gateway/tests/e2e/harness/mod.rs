//! Starts a complete system for one test: gateway and worker as processes with their own database in a temporary
//! folder, and their own vhost on the shared broker, or their own broker for tests of outages.
//!
//! This module starts and restarts the processes; [`requests`] contains the requests.

mod broker;
mod checks;
mod process;
mod python;
mod python_program;
mod receiver;
mod requests;
mod store;
mod stripe;

use std::{
    env, fs,
    ops::Deref,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

pub(crate) use self::{
    broker::Broker,
    process::Process,
    requests::send,
    store::{Store, Tables},
};
#[allow(
    unused_imports,
    reason = "chaos and bench start no provider of their own"
)]
pub(crate) use self::{
    checks::PaymentTotals,
    python::{run_script, run_script_with_input},
    python_program::PythonProgram,
    receiver::{CannedResponse, Receiver},
    requests::{Reply, has_shipping_label, order_body, order_body_with_method, try_send},
    stripe::{ProxyMode, Stripe},
};

/// The name of the worker's binary.
pub(crate) const WORKER: &str = "order-worker";
/// The secret that signs the shipper's webhooks.
pub(crate) const SHIPPER_SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
/// Timeout of [`wait_until`] and of requests: generous, since machines differ in speed.
const TIMEOUT: Duration = Duration::from_mins(1);

/// An environment variable set by scripts/test.sh.
pub(crate) fn setting(variable_name: &str) -> String {
    env::var(variable_name).unwrap_or_else(|_| {
        panic!("{variable_name} is not set: run the tests with scripts/test.sh")
    })
}

/// Gateway, worker, broker and database.
pub(crate) struct System {
    pub(crate) worker: Process,
    pub(crate) gateway: Process,
    pub(crate) broker: Broker,
    pub(crate) store: Store,
    /// The payment provider, unless it is the sandbox.
    pub(crate) stripe: Option<Stripe>,
    pub(crate) client: reqwest::Client,
    /// The API key of every request.
    pub(crate) api_key: Option<String>,
    base_url: String,
    worker_program: String,
    variables: Vec<(String, String)>,
    /// Dropped last, since the processes and the broker use it.
    pub(crate) folder: TestFolder,
}

impl System {
    /// Starts a system with the default configuration.
    pub(crate) async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// Starts a system with additional variables.
    pub(crate) async fn start_with(variables: &[(&str, &str)]) -> Self {
        let folder = TestFolder::new();
        let store = Store::new(&folder);
        Self::assemble((folder, store), Broker::vhost(), WORKER, variables).await
    }

    /// Starts a system on an existing store, with this worker binary.
    pub(crate) async fn start_with_store(
        folder: TestFolder,
        store: Store,
        worker_program: &str,
    ) -> Self {
        Self::assemble((folder, store), Broker::vhost(), worker_program, &[]).await
    }

    /// Starts a system with this worker binary and additional variables.
    pub(crate) async fn start_with_worker(
        worker_program: &str,
        variables: &[(&str, &str)],
    ) -> Self {
        let folder = TestFolder::new();
        let store = Store::new(&folder);
        Self::assemble((folder, store), Broker::vhost(), worker_program, variables).await
    }

    /// Starts a system in a folder that other processes share.
    pub(crate) async fn start_in_folder(folder: TestFolder, variables: &[(&str, &str)]) -> Self {
        let store = Store::new(&folder);
        Self::assemble((folder, store), Broker::vhost(), WORKER, variables).await
    }

    /// Starts a system with its own broker, which can be stopped and killed.
    pub(crate) async fn start_with_own_broker(variables: &[(&str, &str)]) -> Self {
        let folder = TestFolder::new();
        let (store, broker) = (Store::new(&folder), Broker::own(&folder));
        Self::assemble((folder, store), broker, WORKER, variables).await
    }

    async fn assemble(
        (folder, store): (TestFolder, Store),
        broker: Broker,
        worker_program: &str,
        additional_variables: &[(&str, &str)],
    ) -> Self {
        let is_provider_given = additional_variables
            .iter()
            .any(|(name, _)| *name == "PAYMENT_PROVIDER");
        let uses_stripe = env::var("TEST_PROVIDER").is_ok_and(|provider| provider == "stripe");
        let stripe = if uses_stripe && !is_provider_given {
            Some(Stripe::start(&folder).await)
        } else {
            None
        };
        // `Client::new` requires a TLS provider, although these tests use plain HTTP.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut variables: Vec<(String, String)> = [
            ("PATH", env::var("PATH").unwrap()),
            ("AMQP_URL", broker.url()),
            ("DATABASE_URL", store.url()),
            ("HTTP_ADDR", "127.0.0.1:0".to_owned()),
            ("WORKER_HTTP_ADDR", "127.0.0.1:0".to_owned()),
            ("SHIPPER_WEBHOOK_SECRET", SHIPPER_SECRET.to_owned()),
            ("LOG_FORMAT", "json".to_owned()),
            ("MEDIA_URL", folder.join("media").display().to_string()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        let stripe_variables = stripe.iter().flat_map(Stripe::variables);
        variables.extend(stripe_variables.map(|(name, value)| (name.to_owned(), value)));
        variables.extend(
            additional_variables
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
        );
        let worker = Process::start(worker_program, folder.join("worker.log"), &variables);
        let gateway = Process::start("api-gateway", folder.join("gateway.log"), &variables);
        let client = reqwest::Client::builder()
            .timeout(TIMEOUT)
            // Shorter than the gateway's idle timeout (`HTTP_IDLE_SECONDS`), as recommended for clients.
            .pool_idle_timeout(Duration::from_mins(1))
            .build()
            .unwrap();
        let mut system = Self {
            worker,
            gateway,
            broker,
            store,
            stripe,
            folder,
            client,
            api_key: None,
            base_url: String::new(),
            worker_program: worker_program.to_owned(),
            variables,
        };
        system.wait_for_gateway(0).await;
        system.wait_for_worker(0).await;
        system
    }

    /// Sets a variable for processes that are started later.
    pub(crate) fn set_variable(&mut self, variable_name: &str, value: Option<&str>) {
        self.variables
            .retain(|(stored_name, _)| stored_name != variable_name);
        self.variables
            .extend(value.map(|value| (variable_name.to_owned(), value.to_owned())));
    }

    /// Starts a worker as the replacement of a dead one and waits until it is ready.
    pub(crate) async fn restart_worker(&mut self) {
        let log_offset = self.launch_worker();
        self.wait_for_worker(log_offset).await;
    }

    /// As [`Self::restart_worker`], without waiting. Returns the length of the log before the start.
    pub(crate) fn launch_worker(&mut self) -> u64 {
        let log_path = self.folder.join("worker.log");
        let log_offset = fs::metadata(&log_path).unwrap().len();
        self.worker = Process::start(&self.worker_program, log_path, &self.variables);
        log_offset
    }

    /// Sets the binary of workers that are started later.
    pub(crate) fn set_worker(&mut self, program: &str) {
        program.clone_into(&mut self.worker_program);
    }

    /// Starts an additional worker with this binary.
    pub(crate) fn start_additional_worker(&self, program: &str) -> Process {
        Process::start(program, self.folder.join("beside.log"), &self.variables)
    }

    /// Starts an additional gateway, and returns it with its base URL once it is ready.
    pub(crate) async fn start_additional_gateway(&self) -> (Process, String) {
        let log_path = self.folder.join("additional-gateway.log");
        let gateway = Process::start("api-gateway", log_path, &self.variables);
        wait_until("the additional gateway to listen", async || {
            gateway.find_logged_field("address", 0).is_some()
        })
        .await;
        let base_url = format!(
            "http://{}",
            gateway.find_logged_field("address", 0).unwrap()
        );
        wait_until("the additional gateway to be ready", async || {
            self.is_ready(&base_url).await
        })
        .await;
        (gateway, base_url)
    }

    /// Takes the broker out, so that it can be killed while requests are in flight.
    pub(crate) fn take_broker(&mut self) -> Broker {
        std::mem::replace(&mut self.broker, Broker::Vhost { url: String::new() })
    }

    /// Takes the worker out, so that it can be killed while requests are in flight.
    pub(crate) fn take_worker(&mut self) -> Process {
        std::mem::replace(&mut self.worker, Process::placeholder())
    }

    /// Starts a replacement worker without `CRASH_AT`.
    pub(crate) fn spawn_replacement_worker(&self) -> Process {
        let variables: Vec<_> = self
            .variables
            .iter()
            .filter(|(name, _)| name != "CRASH_AT")
            .cloned()
            .collect();
        Process::start("order-worker", self.folder.join("worker.log"), &variables)
    }

    /// Number of worker crashes caused by `CRASH_AT`.
    pub(crate) fn worker_crash_count(&self) -> usize {
        let log_text = fs::read_to_string(self.folder.join("worker.log"));
        log_text
            .unwrap_or_default()
            .matches("as CRASH_AT says")
            .count()
    }

    /// Starts a gateway as the replacement of a dead one and waits until it is ready.
    pub(crate) async fn restart_gateway(&mut self) {
        let log_offset = self.launch_gateway();
        self.wait_for_gateway(log_offset).await;
    }

    /// As [`Self::restart_gateway`], without waiting. Returns the length of the log before the start.
    pub(crate) fn launch_gateway(&mut self) -> u64 {
        let log_path = self.folder.join("gateway.log");
        let log_offset = fs::metadata(&log_path).unwrap().len();
        self.gateway = Process::start("api-gateway", log_path, &self.variables);
        log_offset
    }

    async fn wait_for_worker(&self, log_offset: u64) {
        wait_until("the worker to be ready", async || {
            let Some(worker_address) = self.worker.find_logged_field("health", log_offset) else {
                return false;
            };
            self.is_ready(&format!("http://{worker_address}")).await
        })
        .await;
    }

    /// Status and body of the worker's `/readyz`.
    pub(crate) async fn worker_readiness(&self) -> Option<(u16, serde_json::Value)> {
        let worker_address = self.worker.find_logged_field("health", 0)?;
        let url = format!("http://{worker_address}/readyz");
        let response = self.client.get(url).send().await.ok()?;
        Some((response.status().as_u16(), response.json().await.ok()?))
    }

    /// Starts a gateway as the replacement of a dead one, without waiting for a worker.
    pub(crate) async fn restart_gateway_without_worker(&mut self) {
        let log_offset = self.launch_gateway();
        self.wait_for_gateway_address(log_offset).await;
        wait_until("the gateway to be connected to the broker", async || {
            self.get("/readyz").await.body["broker"] == "ok"
        })
        .await;
    }

    async fn wait_for_gateway_address(&mut self, log_offset: u64) {
        wait_until("the gateway to listen", async || {
            self.gateway
                .find_logged_field("address", log_offset)
                .is_some()
        })
        .await;
        self.base_url = format!(
            "http://{}",
            self.gateway
                .find_logged_field("address", log_offset)
                .unwrap()
        );
    }

    pub(crate) async fn wait_for_gateway(&mut self, log_offset: u64) {
        self.wait_for_gateway_address(log_offset).await;
        wait_until("the gateway to be ready", async || {
            self.is_ready(&self.base_url).await
        })
        .await;
    }

    async fn is_ready(&self, base_url: &str) -> bool {
        let response = self.client.get(format!("{base_url}/readyz")).send().await;
        response.is_ok_and(|response| response.status() == 200)
    }
}

/// The folder of a test, deleted afterwards unless the test failed.
pub(crate) struct TestFolder(PathBuf);

impl TestFolder {
    pub(crate) fn new() -> Self {
        let folder =
            Path::new(&setting("TEST_FOLDER")).join(format!("system-{}", uuid::Uuid::now_v7()));
        fs::create_dir(&folder).unwrap();
        Self(folder)
    }
}

impl Deref for TestFolder {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.0
    }
}

impl Drop for TestFolder {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}

/// Polls a condition until it holds, or fails the test after [`TIMEOUT`].
pub(crate) async fn wait_until(condition_name: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + TIMEOUT;
    while !condition().await {
        assert!(
            Instant::now() < deadline,
            "timed out waiting for {condition_name}"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Runs the worker program with these arguments over the system's database.
pub(crate) fn run_worker(system: &System, arguments: &[&str]) -> std::process::Output {
    Process::command(WORKER)
        .args(arguments)
        .env("DATABASE_URL", system.store.url())
        .output()
        .unwrap()
}
