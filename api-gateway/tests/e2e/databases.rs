//! Databases that are unavailable at the start, that are reached through a connection pooler, or whose export is
//! read slowly.

use std::{
    fs::OpenOptions,
    io::Read,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use serde_json::{Value, json};

use crate::harness::{
    Process, Store, System, Tables, TestFolder, WORKER, has_shipping_label, order_body, setting,
    wait_until,
};

/// A server for one test, prepared, started and removed by scripts/lib.sh.
struct Server {
    name: &'static str,
    folder: PathBuf,
    port: u16,
    child_process: Option<Child>,
}

fn bash_command(script: &str, arguments: &[&str]) -> Command {
    let mut bash = Command::new("bash");
    bash.args(["-c", &format!(r#". "$0"; find_postgres; {script}"#)])
        .arg(setting("TEST_LIB"))
        .args(arguments);
    bash
}

impl Server {
    /// Prepares a PostgreSQL server without starting it.
    fn postgres(folder: &Path) -> Self {
        let prepare_script = r#"prepare_postgres "$1" >/dev/null; echo "$POSTGRES_PORT""#;
        Self::prepare("postgres", prepare_script, folder.join("postgres"), &[])
    }

    /// Starts `PgBouncer` in this pool mode in front of `store`'s server.
    fn pgbouncer(folder: &Path, store: &Store, pool_mode: &str) -> Self {
        let Store::Postgres { port, .. } = store else {
            panic!("SQLite has no pooler")
        };
        let prepare_script =
            r#"need_pgbouncer; prepare_pgbouncer "$1" "$2" "$3"; echo "$PGBOUNCER_PORT""#;
        let folder = folder.join(format!("pgbouncer-{pool_mode}"));
        let mut server = Self::prepare(
            "pgbouncer",
            prepare_script,
            folder,
            &[&port.to_string(), pool_mode],
        );
        server.start();
        server
    }

    fn prepare(name: &'static str, script: &str, folder: PathBuf, more_arguments: &[&str]) -> Self {
        let arguments = [&[folder.to_str().unwrap()], more_arguments].concat();
        let prepare_output = bash_command(script, &arguments).output().unwrap();
        let error_text = String::from_utf8_lossy(&prepare_output.stderr);
        assert!(prepare_output.status.success(), "{error_text}");
        let port = String::from_utf8(prepare_output.stdout).unwrap();
        Self {
            name,
            folder,
            port: port.trim().parse().unwrap(),
            child_process: None,
        }
    }

    fn start(&mut self) {
        let log_path = self.folder.join("out.log");
        let log_file = OpenOptions::new().create(true).append(true).open(log_path);
        let log_file = log_file.unwrap();
        let mut server_command = bash_command(
            &format!(r#"run_{} "$1""#, self.name),
            &[self.folder.to_str().unwrap()],
        );
        server_command
            .stdin(Stdio::null())
            .stdout(log_file.try_clone().unwrap())
            .stderr(log_file);
        self.child_process = Some(server_command.spawn().unwrap());
    }

    fn url(&self, database_name: &str) -> String {
        format!("postgres://orders@127.0.0.1:{}/{database_name}", self.port)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(running_process) = &mut self.child_process {
            let _ = running_process.kill();
            let _ = running_process.wait();
        }
        let forget_script = format!(r#"forget_{} "$1""#, self.name);
        let _ = bash_command(&forget_script, &[self.folder.to_str().unwrap()]).status();
    }
}

/// Sends a request to a program's health server and returns the status and body.
async fn read_health(
    process: &Process,
    address_field: &str,
    health_path: &str,
) -> Option<(u16, Value)> {
    let address = process.find_logged_field(address_field, 0)?;
    let address = address.trim_start_matches("http://");
    let _ = rustls::crypto::ring::default_provider().install_default();
    let response = reqwest::get(format!("http://{address}{health_path}"))
        .await
        .ok()?;
    let status = response.status().as_u16();
    Some((status, response.json().await.unwrap_or_default()))
}

async fn wait_until_alive(process: &Process, address_field: &str) {
    wait_until("the program to listen", async || {
        let health_reply = read_health(process, address_field, "/livez").await;
        health_reply.is_some_and(|(status, _)| status == 200)
    })
    .await;
}

fn variables(database_url: &str, broker_url: &str) -> Vec<(String, String)> {
    [
        ("PATH", std::env::var("PATH").unwrap().as_str()),
        ("DATABASE_URL", database_url),
        ("AMQP_URL", broker_url),
        ("WORKER_HTTP_ADDR", "127.0.0.1:0"),
        ("HTTP_ADDR", "127.0.0.1:0"),
        ("LOG_FORMAT", "json"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into()
}

/// A broker that refuses connections.
const NO_BROKER: &str = "amqp://guest:guest@127.0.0.1:1/%2f";

#[tokio::test]
async fn worker_started_before_its_database_stays_alive_and_reports_the_cause() {
    let folder = TestFolder::new();
    let store = Store::new(&folder);
    let mut server = None;
    let mut write_lock = None;
    let (database_url, expected_reason) = if store.is_sqlite() {
        let migrate_status = Process::command(WORKER)
            .arg("migrate")
            .env("DATABASE_URL", store.url())
            .status();
        assert!(migrate_status.unwrap().success());
        write_lock = Some(store.lock_writes());
        (store.url(), "locked")
    } else {
        let postgres = server.insert(Server::postgres(&folder));
        (postgres.url("postgres"), "refused")
    };
    let variables = variables(&database_url, NO_BROKER);
    let mut worker = Process::start(WORKER, folder.join("worker.log"), &variables);
    wait_until_alive(&worker, "health").await;
    wait_until("the cause to be reported", async || {
        let (status, readiness) = read_health(&worker, "health", "/readyz").await.unwrap();
        assert_eq!(status, 503, "{readiness}");
        readiness["database"]
            .as_str()
            .unwrap()
            .contains(expected_reason)
    })
    .await;
    assert!(!worker.has_ended());
    // The worker can be stopped while it waits for the database.
    worker.terminate();
    let mut worker = Process::start(WORKER, folder.join("again.log"), &variables);
    wait_until_alive(&worker, "health").await;

    drop(write_lock.take());
    if let Some(postgres) = &mut server {
        postgres.start();
    }
    wait_until("the database to be opened", async || {
        let (status, readiness) = read_health(&worker, "health", "/readyz").await.unwrap();
        // The worker is still not ready, since there is no broker.
        assert_eq!(status, 503, "{readiness}");
        assert_ne!(readiness["broker"], "ok");
        readiness["database"] == "ok"
    })
    .await;
    worker.terminate();
}

#[tokio::test]
async fn gateway_started_before_its_broker_stays_alive_and_is_not_ready() {
    let folder = TestFolder::new();
    let variables = variables("", NO_BROKER);
    let mut gateway = Process::start("api-gateway", folder.join("gateway.log"), &variables);
    wait_until_alive(&gateway, "address").await;
    let (status, readiness) = read_health(&gateway, "address", "/readyz").await.unwrap();
    assert_eq!(status, 503, "{readiness}");
    assert!(!gateway.has_ended());
}

#[test]
fn invalid_configuration_ends_the_start_even_without_a_database() {
    let unreachable_url = "postgres://orders@127.0.0.1:1/orders";
    for (variable_name, invalid_value) in [
        ("AMQP_URL", "http://broker"),
        ("PAYMENT_PROVIDER", "stripe"),
    ] {
        let output = Process::command(WORKER)
            .env("DATABASE_URL", unreachable_url)
            .env("WORKER_HTTP_ADDR", "127.0.0.1:0")
            .env("LOG_FORMAT", "json")
            .env(variable_name, invalid_value)
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
    }
}

/// The value of a setting as seen by another client of the pooler, which sets nothing.
fn read_setting(url: &str, setting_name: &str) -> String {
    let psql_path = Path::new(&setting("TEST_POSTGRES_BIN")).join("psql");
    let show_sql = format!("SHOW {setting_name}");
    let psql_output = Command::new(psql_path)
        .args(["-qAtX", "-c", &show_sql, url])
        .output();
    String::from_utf8(psql_output.unwrap().stdout)
        .unwrap()
        .trim()
        .to_owned()
}

/// Checks that workers behind `PgBouncer` migrate an empty database and deliver orders.
async fn assert_works_behind_pgbouncer(pool_mode: &str) {
    let folder = TestFolder::new();
    let store = Store::new(&folder);
    let Store::Postgres { database_name, .. } = store.clone() else {
        return;
    };
    let pgbouncer = Server::pgbouncer(&folder, &store, pool_mode);
    let pooler_url = pgbouncer.url(&database_name);
    wait_until("the pooler to accept connections", async || {
        !read_setting(&pooler_url, "statement_timeout").is_empty()
    })
    .await;
    let worker_command = |arguments: &[&str]| {
        let mut worker = Process::command(WORKER);
        worker.args(arguments).env("DATABASE_URL", &pooler_url);
        worker.stdout(Stdio::piped()).stderr(Stdio::piped());
        worker
    };
    // The first process that gets the lock migrates; the others wait.
    let migration_processes: Vec<_> = (0..8)
        .map(|_| worker_command(&["migrate"]).spawn().unwrap())
        .collect();
    for migration_process in migration_processes {
        let output = migration_process.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
    let mut system = System::start_with_store(folder, store, WORKER).await;
    system.set_variable("DATABASE_URL", Some(&pooler_url));
    system.worker.terminate();
    system.restart_worker().await;
    let second_worker = system.spawn_replacement_worker();

    system
        .create_product_with_stock("A", &[("main", 1_000)])
        .await;
    let customer_id = system.create_customer().await;
    let create_orders = (0..40).map(async |_| {
        let order_reply = system
            .post("/v1/orders", order_body(&customer_id, "A", 1))
            .await;
        order_reply.expect(201)["id"].as_str().unwrap().to_owned()
    });
    let order_ids = futures_util::future::join_all(create_orders).await;
    for order_id in &order_ids {
        system
            .wait_for_order(order_id, "announced", has_shipping_label)
            .await;
    }
    let cancel_path = format!("/v1/orders/{}/cancel", order_ids[0]);
    system.post(&cancel_path, json!({})).await.expect(200);
    let webhook_reply = system
        .send_webhook("m-1", "shipment.delivered", &order_ids[1])
        .await;
    webhook_reply.expect(200);
    // A worker's settings and prepared statements do not leak to other clients of the pooler.
    for _ in 0..10 {
        assert_eq!(read_setting(&pooler_url, "statement_timeout"), "0");
        assert_eq!(read_setting(&pooler_url, "enable_seqscan"), "on");
    }
    system.wait_until_idle().await;
    system.assert_verified();
    for arguments in [&["verify"][..], &["export", "orders"]] {
        let output = worker_command(arguments).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
    system.worker.terminate();
    system.worker = second_worker;
    system.get("/v1/orders").await.expect(200);
    let worker_log = std::fs::read_to_string(system.folder.join("worker.log")).unwrap();
    assert!(!worker_log.contains("damaged"), "{worker_log}");
    assert!(!worker_log.contains("prepared statement"), "{worker_log}");
}

#[tokio::test]
async fn workers_process_orders_behind_pgbouncer_in_session_mode() {
    assert_works_behind_pgbouncer("session").await;
}

#[tokio::test]
async fn workers_process_orders_behind_pgbouncer_in_transaction_mode() {
    assert_works_behind_pgbouncer("transaction").await;
}

#[tokio::test]
async fn pgbouncer_in_statement_mode_is_refused_with_a_one_line_error() {
    let folder = TestFolder::new();
    let store = Store::new(&folder);
    let Store::Postgres { database_name, .. } = store.clone() else {
        return;
    };
    let pooler = Server::pgbouncer(&folder, &store, "statement");
    let pooler_url = pooler.url(&database_name);
    wait_until("the pooler to accept connections", async || {
        !read_setting(&pooler_url, "statement_timeout").is_empty()
    })
    .await;
    let output = Process::command(WORKER)
        .arg("migrate")
        .env("DATABASE_URL", &pooler_url)
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(stderr.contains("pool mode must be"), "{stderr}");
}

/// A slowly read export keeps no transaction or snapshot open.
#[tokio::test]
async fn unread_export_holds_no_transaction() {
    let mut system = System::start_with(&[("ORDER_APPROVAL", "manual")]).await;
    system.create_product_with_stock("A", &[("main", 1)]).await;
    let customer_id = system.create_customer().await;
    let lines = vec![order_body(&customer_id, "A", 1); 700];
    let import_report = system.import(&lines, None).await.expect(200);
    assert_eq!(import_report["accepted"], 700);
    system.worker.terminate();
    for export_kind in ["orders", "events"] {
        let mut export_process = Process::command(WORKER)
            .args(["export", export_kind])
            .env("DATABASE_URL", system.store.url())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut stdout = export_process.stdout.take().unwrap();
        // The export blocks within its first page, which does not fit into the pipe.
        let mut first_byte = [0];
        stdout.read_exact(&mut first_byte).unwrap();
        if system.store.is_sqlite() {
            let write_sql = "UPDATE relay SET position = position WHERE name = 'probe'";
            system.store.run(Tables::Worker, write_sql);
            // The result tells whether a reader blocked the checkpoint, and how many pages are left in the log.
            let checkpoint_sql = "PRAGMA wal_checkpoint(TRUNCATE)";
            assert_eq!(system.store.run(Tables::Worker, checkpoint_sql), "0 0 0");
        } else {
            let open_transactions_sql =
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
                          AND application_name = 'order-worker' AND xact_start IS NOT NULL";
            assert_eq!(system.store.run(Tables::Worker, open_transactions_sql), "0");
        }
        let mut remaining_output = String::new();
        stdout.read_to_string(&mut remaining_output).unwrap();
        assert!(export_process.wait().unwrap().success());
        assert!(remaining_output.lines().count() >= 700, "{export_kind}");
    }
}
