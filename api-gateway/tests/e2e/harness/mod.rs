//! The real thing, started for one test: gateway and worker as processes, a database of their own
//! in a temporary folder, and a vhost of their own on the test run's broker, or a broker of their
//! own where the test is about the broker.

mod broker;
mod peer;
mod process;
mod receiver;
mod store;
mod stripe;

use std::{
    env, fs,
    io::Write,
    ops::Deref,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use reqwest::{Method, header::HeaderMap};
use serde_json::{Value, json};
use standardwebhooks::Webhook;

pub(crate) use self::{
    broker::Broker,
    process::Process,
    store::{Book, Store},
};
#[allow(
    unused_imports,
    reason = "chaos and bench have no partners of their own"
)]
pub(crate) use self::{
    peer::Peer,
    receiver::{Manner, Receiver},
    stripe::{Stripe, Wire},
};

/// The program that owns the orders.
pub(crate) const WORKER: &str = "order-worker";
/// Signs the shipper's webhooks.
pub(crate) const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
/// What any condition may take: generous, because machines differ; a test fails after it.
const PATIENCE: Duration = Duration::from_mins(1);

/// What scripts/test.sh tells the tests.
pub(crate) fn setting(name: &str) -> String {
    env::var(name)
        .unwrap_or_else(|_| panic!("{name} is not set: run the tests with scripts/test.sh"))
}

/// Gateway, worker, broker and database.
pub(crate) struct System {
    pub(crate) worker: Process,
    pub(crate) gateway: Process,
    pub(crate) broker: Broker,
    pub(crate) store: Store,
    /// Who holds the money, unless the sandbox does.
    pub(crate) stripe: Option<Stripe>,
    pub(crate) client: reqwest::Client,
    /// Sent with every request.
    pub(crate) key: Option<String>,
    base: String,
    worker_program: String,
    variables: Vec<(String, String)>,
    /// The last to go: the processes and the broker work in it.
    pub(crate) folder: Folder,
}

impl System {
    /// Everything as it is by default.
    pub(crate) async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// With these variables besides.
    pub(crate) async fn start_with(variables: &[(&str, &str)]) -> Self {
        let folder = Folder::new();
        let store = Store::new(&folder);
        Self::assemble((folder, store), Broker::vhost(), WORKER, variables).await
    }

    /// Over what is in `store` already, by a worker of another program.
    pub(crate) async fn start_over(folder: Folder, store: Store, worker: &str) -> Self {
        Self::assemble((folder, store), Broker::vhost(), worker, &[]).await
    }

    /// In a folder that others work in as well.
    pub(crate) async fn start_in(folder: Folder, variables: &[(&str, &str)]) -> Self {
        let store = Store::new(&folder);
        Self::assemble((folder, store), Broker::vhost(), WORKER, variables).await
    }

    /// With a broker that can be stopped and killed.
    pub(crate) async fn start_with_own_broker(variables: &[(&str, &str)]) -> Self {
        let folder = Folder::new();
        let (store, broker) = (Store::new(&folder), Broker::own(&folder));
        Self::assemble((folder, store), broker, WORKER, variables).await
    }

    async fn assemble(
        (folder, store): (Folder, Store),
        broker: Broker,
        worker_program: &str,
        more: &[(&str, &str)],
    ) -> Self {
        let names_provider = more.iter().any(|(name, _)| *name == "PAYMENT_PROVIDER");
        let wants_stripe = env::var("TEST_PROVIDER").is_ok_and(|provider| provider == "stripe");
        let stripe = if wants_stripe && !names_provider {
            Some(Stripe::start(&folder).await)
        } else {
            None
        };
        // Client::new needs a TLS provider, though nothing here speaks TLS.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut variables: Vec<(String, String)> = [
            ("PATH", env::var("PATH").unwrap()),
            ("AMQP_URL", broker.url()),
            ("DATABASE_URL", store.url()),
            ("HTTP_ADDR", "127.0.0.1:0".to_owned()),
            ("WORKER_HTTP_ADDR", "127.0.0.1:0".to_owned()),
            ("SHIPPER_WEBHOOK_SECRET", SECRET.to_owned()),
            ("LOG_FORMAT", "json".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        let of_stripe = stripe.iter().flat_map(Stripe::variables);
        variables.extend(of_stripe.map(|(name, value)| (name.to_owned(), value)));
        variables.extend(
            more.iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
        );
        let worker = Process::start(worker_program, folder.join("worker.log"), &variables);
        let gateway = Process::start("api-gateway", folder.join("gateway.log"), &variables);
        let client = reqwest::Client::builder()
            .timeout(PATIENCE)
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
            key: None,
            base: String::new(),
            worker_program: worker_program.to_owned(),
            variables,
        };
        system.gateway_is_up(0).await;
        system.worker_is_up(0).await;
        system
    }

    /// Sets a variable for processes that start from now on.
    pub(crate) fn set(&mut self, name: &str, value: Option<&str>) {
        self.variables.retain(|(known, _)| known != name);
        self.variables
            .extend(value.map(|value| (name.to_owned(), value.to_owned())));
    }

    /// Starts a worker in place of the dead one.
    pub(crate) async fn restart_worker(&mut self) {
        let from = self.launch_worker();
        self.worker_is_up(from).await;
    }

    /// The same, without waiting for it to be ready.
    pub(crate) fn launch_worker(&mut self) -> u64 {
        let log = self.folder.join("worker.log");
        let from = fs::metadata(&log).unwrap().len();
        self.worker = Process::start(&self.worker_program, log, &self.variables);
        from
    }

    /// Workers that start from now on are of this program.
    pub(crate) fn set_worker(&mut self, program: &str) {
        program.clone_into(&mut self.worker_program);
    }

    /// One more worker, of this program.
    pub(crate) fn start_beside(&self, program: &str) -> Process {
        Process::start(program, self.folder.join("beside.log"), &self.variables)
    }

    /// The broker, to be killed while requests are under way.
    pub(crate) fn take_broker(&mut self) -> Broker {
        std::mem::replace(&mut self.broker, Broker::Vhost { url: String::new() })
    }

    /// The worker, to be killed while requests are under way.
    pub(crate) fn take_worker(&mut self) -> Process {
        std::mem::replace(&mut self.worker, Process::nothing())
    }

    /// A worker for the place of the dead one, without what made that one die.
    pub(crate) fn spawn_replacement_worker(&self) -> Process {
        let variables: Vec<_> = self
            .variables
            .iter()
            .filter(|(name, _)| name != "CRASH_AT")
            .cloned()
            .collect();
        Process::start("order-worker", self.folder.join("worker.log"), &variables)
    }

    /// How often a worker died as `CRASH_AT` told it to.
    pub(crate) fn deaths(&self) -> usize {
        let log = fs::read_to_string(self.folder.join("worker.log"));
        log.unwrap_or_default().matches("as CRASH_AT says").count()
    }

    /// Starts a gateway in place of the dead one.
    pub(crate) async fn restart_gateway(&mut self) {
        let from = self.launch_gateway();
        self.gateway_is_up(from).await;
    }

    /// The same, without waiting for it to be ready.
    pub(crate) fn launch_gateway(&mut self) -> u64 {
        let log = self.folder.join("gateway.log");
        let from = fs::metadata(&log).unwrap().len();
        self.gateway = Process::start("api-gateway", log, &self.variables);
        from
    }

    async fn worker_is_up(&self, from: u64) {
        until("the worker to be ready", async || {
            let Some(address) = self.worker.logged("health", from) else {
                return false;
            };
            self.is_ready(&format!("http://{address}")).await
        })
        .await;
    }

    pub(crate) async fn gateway_is_up(&mut self, from: u64) {
        until("the gateway to listen", async || {
            self.gateway.logged("address", from).is_some()
        })
        .await;
        self.base = format!("http://{}", self.gateway.logged("address", from).unwrap());
        until("the gateway to be ready", async || {
            self.is_ready(&self.base).await
        })
        .await;
    }

    async fn is_ready(&self, base: &str) -> bool {
        let answer = self.client.get(format!("{base}/readyz")).send().await;
        answer.is_ok_and(|answer| answer.status() == 200)
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// A request that is not sent yet.
    pub(crate) fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let request = self.client.request(method, self.url(path));
        match &self.key {
            Some(key) => request.bearer_auth(key),
            None => request,
        }
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        send(self.request(Method::GET, path)).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Reply {
        send(self.request(Method::POST, path).json(&body)).await
    }

    pub(crate) async fn put(&self, path: &str, body: Value) -> Reply {
        send(self.request(Method::PUT, path).json(&body)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Reply {
        send(self.request(Method::DELETE, path)).await
    }

    /// A product at 10.00 EUR with this much stock in each warehouse.
    pub(crate) async fn stock(&self, sku: &str, shelves: &[(&str, i64)]) {
        let product =
            json!({"sku": sku, "name": format!("A {sku}"), "price": 1000, "currency": "EUR"});
        self.post("/v1/products", product).await.expect(201);
        for (warehouse, on_hand) in shelves {
            self.put(
                &format!("/v1/products/{sku}/stock/{warehouse}"),
                json!({"on_hand": on_hand}),
            )
            .await
            .expect(200);
        }
    }

    /// A new customer's id.
    pub(crate) async fn customer(&self) -> String {
        let reply = self
            .post(
                "/v1/customers",
                json!({"name": "Ada", "email": "ada@example.com"}),
            )
            .await
            .expect(201);
        reply["id"].as_str().unwrap().to_owned()
    }

    /// The stock of a product with one warehouse: on hand and reserved.
    pub(crate) async fn shelf(&self, sku: &str) -> (i64, i64) {
        let product = self.get(&format!("/v1/products/{sku}")).await.expect(200);
        let shelf = &product["stock"][0];
        (
            shelf["on_hand"].as_i64().unwrap(),
            shelf["reserved"].as_i64().unwrap(),
        )
    }

    /// The order, once `condition` holds.
    pub(crate) async fn order_until(
        &self,
        id: &str,
        what: &str,
        condition: impl Fn(&Value) -> bool,
    ) -> Value {
        let path = format!("/v1/orders/{id}");
        let end = Instant::now() + PATIENCE;
        loop {
            let reply = self.get(&path).await;
            if reply.status == 200 && condition(&reply.body) {
                return reply.body;
            }
            assert!(
                Instant::now() < end,
                "order never came to be {what}: {} {}",
                reply.status,
                reply.body
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Types of the order's events.
    pub(crate) async fn history(&self, id: &str) -> Vec<String> {
        let history = self
            .get(&format!("/v1/orders/{id}/history?limit=200"))
            .await
            .expect(200);
        history["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|event| event["type"].as_str().unwrap().to_owned())
            .collect()
    }

    /// What the shipper sends, signed.
    pub(crate) async fn webhook(&self, id: &str, kind: &str, order: &str) -> Reply {
        let data = json!({"order_id": order, "carrier": "DHL"});
        self.webhook_with(
            id,
            &json!({"type": kind, "timestamp": "2026-01-31T12:00:00Z", "data": data}),
        )
        .await
    }

    pub(crate) async fn webhook_with(&self, id: &str, body: &Value) -> Reply {
        let (body, now) = (body.to_string(), Timestamp::now().as_second());
        let signature = Webhook::new(SECRET)
            .unwrap()
            .sign(id, now, body.as_bytes())
            .unwrap();
        send(self.signed(id, &now.to_string(), &signature, body)).await
    }

    pub(crate) fn signed(
        &self,
        id: &str,
        timestamp: &str,
        signature: &str,
        body: String,
    ) -> reqwest::RequestBuilder {
        self.client
            .post(self.url("/webhooks/shipper"))
            .header("webhook-id", id)
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", signature)
            .body(body)
    }

    /// Every order there is.
    pub(crate) async fn orders(&self) -> Vec<Value> {
        let (mut orders, mut path) = (Vec::new(), "/v1/orders?limit=200".to_owned());
        loop {
            let page = self.get(&path).await.expect(200);
            orders.extend(page["data"].as_array().unwrap().iter().cloned());
            match page["next_cursor"].as_str() {
                Some(cursor) => path = format!("/v1/orders?limit=200&cursor={cursor}"),
                None => return orders,
            }
        }
    }

    /// Until no order has a step under way.
    pub(crate) async fn quiet(&self) -> Vec<Value> {
        until("all steps to be done", async || {
            self.orders()
                .await
                .iter()
                .all(|order| order["in_progress"].is_null())
        })
        .await;
        self.orders().await
    }

    /// `order-worker verify`: its exit status and what it said.
    pub(crate) fn verify(&self) -> (bool, String) {
        self.verify_store(&self.store)
    }

    /// The same of another database.
    pub(crate) fn verify_store(&self, store: &Store) -> (bool, String) {
        let output = Process::command("order-worker")
            .arg("verify")
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .env("DATABASE_URL", store.url())
            .output()
            .unwrap();
        (
            output.status.success(),
            String::from_utf8_lossy(&output.stdout).into_owned(),
        )
    }

    /// The books are right.
    pub(crate) fn assert_verified(&self) {
        let (is_right, report) = self.verify();
        assert!(is_right, "order-worker verify:\n{report}");
    }

    /// What the provider says of all money that moved.
    pub(crate) async fn moved(&self) -> Moved {
        if let Some(stripe) = &self.stripe {
            return stripe.moved().await;
        }
        let mut moved = Moved::default();
        let rows = self.ledger("SELECT kind, count(*), sum(amount) FROM movements GROUP BY kind");
        for row in rows.lines() {
            let fields: Vec<&str> = row.split(' ').collect();
            let count = fields[1].parse().unwrap();
            match fields[0] {
                "authorize" => moved.held = count,
                "capture" => moved.taken = count,
                "void" => moved.let_go = count,
                "refund" => moved.given_back = fields[2].parse().unwrap(),
                other => panic!("{other}"),
            }
        }
        moved
    }

    /// Asks the provider's own ledger, with SQL.
    pub(crate) fn ledger(&self, sql: &str) -> String {
        self.store.run(Book::Ledger, sql)
    }
}

/// What the provider says of all money that moved.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Moved {
    /// How often money was held.
    pub(crate) held: usize,
    /// How often it was taken.
    pub(crate) taken: usize,
    /// How often a hold was given up.
    pub(crate) let_go: usize,
    /// Minor units given back.
    pub(crate) given_back: i64,
}

/// A folder of a test's own, taken away after it unless the test failed.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        let folder =
            Path::new(&setting("TEST_FOLDER")).join(format!("system-{}", uuid::Uuid::now_v7()));
        fs::create_dir(&folder).unwrap();
        Self(folder)
    }
}

impl Deref for Folder {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

impl Reply {
    /// The body, if the status is this one.
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.body);
        self.body
    }

    /// Checks that this is a complete problem document with this status and code.
    #[track_caller]
    pub(crate) fn expect_problem(self, status: u16, code: &str) -> Value {
        assert_eq!(
            (self.status, self.body["code"].as_str()),
            (status, Some(code)),
            "{}",
            self.body
        );
        assert_eq!(self.headers["content-type"], "application/problem+json");
        assert_eq!(self.body["status"], status);
        for member in ["type", "title", "detail", "request_id"] {
            assert!(self.body[member].is_string(), "{member} of {}", self.body);
        }
        assert_eq!(
            self.headers["x-request-id"],
            self.body["request_id"].as_str().unwrap()
        );
        self.body
    }
}

pub(crate) async fn send(request: reqwest::RequestBuilder) -> Reply {
    try_send(request).await.unwrap()
}

pub(crate) async fn try_send(request: reqwest::RequestBuilder) -> reqwest::Result<Reply> {
    let response = request.send().await?;
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let bytes = response.bytes().await?;
    let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
    Ok(Reply {
        status,
        headers,
        body,
    })
}

/// Runs a Python script of tests/e2e; what it prints.
pub(crate) fn python(script: &str, arguments: &[&str]) -> String {
    run_python(script, arguments, "")
}

/// The same of one that reads `text`.
pub(crate) fn python_reading(script: &str, text: &str) -> String {
    run_python(script, &[], text)
}

fn run_python(script: &str, arguments: &[&str], text: &str) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/e2e")
        .join(script);
    let mut child = Command::new("python3")
        .arg(script)
        .args(arguments)
        .env("PYTHONPATH", setting("TEST_PYTHONPATH"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(text.as_bytes()).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{out}\n{err}");
    out.into_owned()
}

/// Waits for a condition, not for a time.
pub(crate) async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !condition().await {
        assert!(Instant::now() < end, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A wish for one line.
pub(crate) fn order(customer: &str, sku: &str, quantity: u32) -> Value {
    json!({"customer_id": customer, "items": [{"sku": sku, "quantity": quantity}]})
}

/// The same, paid in this way.
pub(crate) fn order_paid_by(customer: &str, sku: &str, quantity: u32, method: &str) -> Value {
    let mut order = order(customer, sku, quantity);
    order["payment_method"] = json!(method);
    order
}

/// The parcel is announced: all that happens without the shipper.
pub(crate) fn is_announced(order: &Value) -> bool {
    order["status"] == "processing" && order["shipments"][0]["status"] == "label_created"
}
