//! A production-like system: two gateways, one or two workers, a broker and a database, with proxies in between.

use std::{
    collections::{BTreeSet, HashMap},
    env, fs,
    net::TcpListener,
    path::PathBuf,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    harness::{Broker, Process, SHIPPER_SECRET, Store, Tables, TestFolder, send, wait_until},
    load::{AcknowledgedOrder, Load},
    proxy::Proxy,
    servers::{Cluster, Postgres},
};

/// The kind of database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StoreKind {
    Sqlite,
    Postgres,
}

impl StoreKind {
    /// The value of `--store`.
    pub(crate) fn argument(self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Postgres => "postgres",
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "SQLite",
            Self::Postgres => "PostgreSQL",
        }
    }
}

/// The broker of a system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BrokerKind {
    SingleNode,
    /// Three nodes, with a classic request queue.
    Cluster,
    /// Three nodes, with a quorum request queue.
    ClusterWithQuorumRequests,
}

/// All processes of the system.
pub(crate) struct Stack {
    pub(crate) kind: StoreKind,
    pub(crate) gateways: Vec<Process>,
    pub(crate) workers: Vec<Process>,
    pub(crate) broker: Option<Broker>,
    pub(crate) cluster: Option<Cluster>,
    pub(crate) postgres: Option<Postgres>,
    pub(crate) amqp_proxy: Proxy,
    pub(crate) database_proxy: Proxy,
    pub(crate) store: Store,
    client: reqwest::Client,
    gateway_ports: Vec<u16>,
    worker_ports: Vec<u16>,
    amqp_url: String,
    /// Additional variables of workers that are started later.
    pub(crate) worker_variables: Vec<(String, String)>,
    pub(crate) customer_id: String,
    /// The folder of the SQLite database.
    pub(crate) data_folder: PathBuf,
    /// Dropped last.
    pub(crate) folder: TestFolder,
}

/// A currently unused port.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// Inconsistencies found after the load.
#[derive(Debug, Default, Clone)]
pub(crate) struct Findings {
    pub(crate) lost_orders: Vec<String>,
    pub(crate) duplicated_orders: Vec<String>,
    pub(crate) stuck_orders: Vec<String>,
    /// Violations that `order-worker verify` found, and unexpected responses.
    pub(crate) discrepancies: Vec<String>,
}

impl Findings {
    pub(crate) fn is_clean(&self) -> bool {
        [
            &self.lost_orders,
            &self.duplicated_orders,
            &self.stuck_orders,
            &self.discrepancies,
        ]
        .iter()
        .all(|list| list.is_empty())
    }
}

impl Stack {
    pub(crate) async fn start(kind: StoreKind, broker_kind: BrokerKind) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let folder = TestFolder::new();
        let data_folder = folder.join("data");
        fs::create_dir(&data_folder).unwrap();
        let (broker, cluster) = match broker_kind {
            BrokerKind::SingleNode => (Some(Broker::own(&folder)), None),
            _ => (None, Some(Cluster::start(&folder).await)),
        };
        let request_queue_type = match broker_kind {
            BrokerKind::ClusterWithQuorumRequests => "quorum",
            _ => "classic",
        };
        let amqp_proxy = Proxy::start(broker.as_ref().map_or(0, Broker::port)).await;
        let amqp_url = match &cluster {
            Some(cluster) => cluster.url(),
            None => format!("amqp://guest:guest@127.0.0.1:{}/%2f", amqp_proxy.port),
        };
        let postgres = match kind {
            StoreKind::Postgres => Some(Postgres::start(&folder).await),
            StoreKind::Sqlite => None,
        };
        let database_proxy = Proxy::start(postgres.as_ref().map_or(0, |server| server.port)).await;
        let store = match kind {
            StoreKind::Sqlite => Store::Sqlite {
                folder: data_folder.clone(),
            },
            StoreKind::Postgres => Store::postgres_at(database_proxy.port, "postgres"),
        };
        let worker_count = if kind == StoreKind::Sqlite { 1 } else { 2 };
        let mut stack = Self {
            kind,
            gateways: Vec::new(),
            workers: Vec::new(),
            broker,
            cluster,
            postgres,
            amqp_proxy,
            database_proxy,
            store,
            client: reqwest::Client::builder()
                .timeout(Duration::from_secs(30))
                .build()
                .unwrap(),
            gateway_ports: (0..2).map(|_| free_port()).collect(),
            worker_ports: (0..worker_count).map(|_| free_port()).collect(),
            amqp_url,
            worker_variables: vec![variable("REQUEST_QUEUE_TYPE", request_queue_type)],
            customer_id: String::new(),
            data_folder,
            folder,
        };
        stack.workers = (0..worker_count)
            .map(|worker_number| stack.spawn_worker(worker_number))
            .collect();
        stack.gateways = (0..2)
            .map(|gateway_number| stack.spawn_gateway(gateway_number))
            .collect();
        stack.wait_until_healthy().await;
        stack.create_catalogue().await;
        stack
    }

    pub(crate) fn spawn_worker(&self, worker_number: usize) -> Process {
        self.spawn_worker_with(worker_number, &[])
    }

    pub(crate) fn spawn_worker_with(
        &self,
        worker_number: usize,
        more_variables: &[(&str, &str)],
    ) -> Process {
        let mut variables = self.variables();
        variables.extend(self.worker_variables.clone());
        variables.extend(
            more_variables
                .iter()
                .map(|(name, value)| variable(name, value)),
        );
        let address = format!("127.0.0.1:{}", self.worker_ports[worker_number]);
        variables.push(variable("WORKER_HTTP_ADDR", &address));
        let log_path = self.folder.join(format!("worker-{worker_number}.log"));
        Process::start("order-worker", log_path, &variables)
    }

    pub(crate) fn spawn_gateway(&self, gateway_number: usize) -> Process {
        let mut variables = self.variables();
        let address = format!("127.0.0.1:{}", self.gateway_ports[gateway_number]);
        variables.push(variable("HTTP_ADDR", &address));
        variables.push(variable("REQUEST_TIMEOUT_MS", "4000"));
        let log_path = self.folder.join(format!("gateway-{gateway_number}.log"));
        Process::start("api-gateway", log_path, &variables)
    }

    fn variables(&self) -> Vec<(String, String)> {
        vec![
            variable("PATH", &env::var("PATH").unwrap()),
            variable("AMQP_URL", &self.amqp_url),
            variable("DATABASE_URL", &self.store.url()),
            variable("SHIPPER_WEBHOOK_SECRET", SHIPPER_SECRET),
            variable("LOG_FORMAT", "json"),
        ]
    }

    pub(crate) fn restart_worker(&mut self, worker_number: usize) {
        self.workers[worker_number].kill();
        self.workers[worker_number] = self.spawn_worker(worker_number);
    }

    pub(crate) fn restart_gateway(&mut self, gateway_number: usize) {
        self.gateways[gateway_number].kill();
        self.gateways[gateway_number] = self.spawn_gateway(gateway_number);
    }

    /// Waits until all processes are ready.
    pub(crate) async fn wait_until_healthy(&self) {
        let ports = self.gateway_ports.iter().chain(&self.worker_ports);
        for port in ports {
            let url = format!("http://127.0.0.1:{port}/readyz");
            wait_until("all processes to be ready", async || {
                let response = self.client.get(&url).send().await;
                response.is_ok_and(|answer| answer.status() == 200)
            })
            .await;
        }
        for base_url in self.base_urls() {
            let url = format!("{base_url}/v1/orders?limit=1");
            wait_until("a worker to answer", async || {
                let answer = self.client.get(&url).send().await;
                answer.is_ok_and(|answer| answer.status() == 200)
            })
            .await;
        }
    }

    /// The worker's readiness report.
    pub(crate) async fn worker_readiness(&self, worker_number: usize) -> Option<Value> {
        let url = format!(
            "http://127.0.0.1:{}/readyz",
            self.worker_ports[worker_number]
        );
        let response = self.client.get(url).send().await.ok()?;
        response.json().await.ok()
    }

    pub(crate) fn base_urls(&self) -> Vec<String> {
        let ports = self.gateway_ports.iter();
        ports
            .map(|port| format!("http://127.0.0.1:{port}"))
            .collect()
    }

    async fn create_catalogue(&mut self) {
        let base_url = &self.base_urls()[0];
        let skus = (0..10).map(|product_number| format!("S{product_number}"));
        for sku in skus.chain(["HOT".to_owned()]) {
            let product = json!({"sku": sku, "name": sku, "price": 1000, "currency": "EUR"});
            let create_request = self.client.post(format!("{base_url}/v1/products"));
            send(create_request.json(&product)).await.expect(201);
            let stock_request = self
                .client
                .put(format!("{base_url}/v1/products/{sku}/stock/main"));
            send(stock_request.json(&json!({"on_hand": 10_000_000})))
                .await
                .expect(200);
        }
        let customer_request = self.client.post(format!("{base_url}/v1/customers"));
        let customer_request =
            customer_request.json(&json!({"name": "Ada", "email": "ada@example.com"}));
        let customer = send(customer_request).await.expect(201);
        customer["id"]
            .as_str()
            .unwrap()
            .clone_into(&mut self.customer_id);
    }

    /// Waits until all steps are finished, and compares the recorded responses with the database.
    pub(crate) async fn check_data(&self, load: &Load) -> Findings {
        let mut findings = Findings {
            stuck_orders: self.find_stuck_orders().await,
            ..Findings::default()
        };
        let stored_orders = self.stored_orders(load.run_name());
        let recorded_replies = load.recorded_replies();
        let cancelled_ids: BTreeSet<&String> = recorded_replies.cancelled_ids.iter().collect();
        let delivered_ids: BTreeSet<&String> = recorded_replies.delivered_ids.iter().collect();
        findings
            .discrepancies
            .extend(recorded_replies.unexpected_replies.iter().cloned());
        for recorded_order in &recorded_replies.orders {
            let stored_order = stored_orders
                .get(&recorded_order.order_id)
                .unwrap_or(&Value::Null);
            if let Err(mismatch) =
                compare_order(recorded_order, stored_order, &cancelled_ids, &delivered_ids)
            {
                findings
                    .lost_orders
                    .push(format!("{}: {mismatch}", recorded_order.order_id));
            }
        }
        if recorded_replies.duplicated_key_count > 0 {
            let duplicates_finding = format!(
                "{} keys were answered with two different orders",
                recorded_replies.duplicated_key_count
            );
            findings.duplicated_orders.push(duplicates_finding);
        }
        drop(recorded_replies);
        let key_sql = self.key_sql();
        let duplicates_sql = format!(
            "SELECT {key_sql} FROM orders WHERE {key_sql} IS NOT NULL GROUP BY 1 HAVING count(*) > 1"
        );
        let duplicated_keys = self.store.run(Tables::Worker, &duplicates_sql);
        findings
            .duplicated_orders
            .extend(duplicated_keys.lines().map(str::to_owned));
        let (is_consistent, report) = self.verify();
        if !is_consistent {
            findings
                .discrepancies
                .extend(report.lines().map(str::to_owned));
        }
        findings
    }

    /// The SQL expression of an order's idempotency key, which the load stores in the metadata.
    fn key_sql(&self) -> &'static str {
        match self.kind {
            StoreKind::Sqlite => "json_extract(state, '$.metadata.key')",
            StoreKind::Postgres => "state::jsonb #>> '{metadata,key}'",
        }
    }

    /// The orders of one run of the load, by id.
    fn stored_orders(&self, run_name: &str) -> HashMap<String, Value> {
        let key_sql = self.key_sql();
        let sql = format!("SELECT state FROM orders WHERE {key_sql} LIKE '{run_name}-%'");
        let order_states = self.store.run(Tables::Worker, &sql);
        let orders = order_states.lines().map(|state| {
            let stored_order: Value = serde_json::from_str(state).unwrap();
            (
                stored_order["id"].as_str().unwrap().to_owned(),
                stored_order,
            )
        });
        orders.collect()
    }

    /// Steps and orders that are still pending after a timeout.
    async fn find_stuck_orders(&self) -> Vec<String> {
        let unfinished_steps_sql =
            "SELECT order_id || ' ' || step FROM steps WHERE step <> 'expire_order'
            UNION ALL SELECT id || ' is pending' FROM orders WHERE status = 'pending'";
        let deadline = Instant::now() + Duration::from_secs(100);
        loop {
            let unfinished_steps = self.store.run(Tables::Worker, unfinished_steps_sql);
            if unfinished_steps.is_empty() || Instant::now() > deadline {
                return unfinished_steps.lines().map(str::to_owned).collect();
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    fn verify(&self) -> (bool, String) {
        let verify_output = Process::command("order-worker")
            .arg("verify")
            .env("DATABASE_URL", self.store.url())
            .output()
            .unwrap();
        let report = String::from_utf8_lossy(&verify_output.stdout).into_owned();
        let error_text = String::from_utf8_lossy(&verify_output.stderr);
        (verify_output.status.success(), report + &error_text)
    }

    pub(crate) fn run_rabbitmqctl(&self, arguments: &[&str]) {
        self.broker.as_ref().unwrap().run_rabbitmqctl(arguments);
    }
}

fn variable(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

/// Compares a stored order with its recorded responses.
fn compare_order(
    order: &AcknowledgedOrder,
    stored_order: &Value,
    cancelled_ids: &BTreeSet<&String>,
    delivered_ids: &BTreeSet<&String>,
) -> Result<(), String> {
    if stored_order["metadata"]["key"] != order.idempotency_key.as_str()
        || stored_order["total"] != order.total_price
    {
        return Err(format!(
            "acknowledged with key {}, stored as {stored_order}",
            order.idempotency_key
        ));
    }
    let status = stored_order["status"].as_str().unwrap_or_default();
    let expected_statuses = match (
        cancelled_ids.contains(&order.order_id),
        delivered_ids.contains(&order.order_id),
    ) {
        (true, true) => return Err("acknowledged as both cancelled and delivered".to_owned()),
        (true, false) => &["cancelled"][..],
        (false, true) => &["delivered"],
        (false, false) => &["processing", "shipped", "delivered", "cancelled"],
    };
    if expected_statuses.contains(&status) {
        Ok(())
    } else {
        Err(format!(
            "status is {status}, expected one of {expected_statuses:?}"
        ))
    }
}

/// An optional environment variable.
pub(crate) fn optional_setting(setting_name: &str) -> Option<String> {
    env::var(setting_name)
        .ok()
        .filter(|value| !value.is_empty())
}
