//! Servers that can be killed: PostgreSQL with a standby, and a RabbitMQ cluster.

use std::{
    fmt::Write,
    fs::{self, OpenOptions},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use serde_json::Value;

use crate::harness::{setting, wait_until};

/// Runs a line of bash with the functions of scripts/lib.sh; `$1`… are `arguments`.
fn bash_command(script: &str, arguments: &[&Path]) -> Command {
    let mut bash = Command::new("bash");
    bash.args(["-c", &format!(r#". "$0"; find_postgres; {script}"#)])
        .arg(setting("TEST_LIB"))
        .args(arguments);
    bash
}

fn run_command(mut command: Command) -> String {
    let output = command.output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {error}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn spawn(mut command: Command, log: &Path) -> Child {
    let log = OpenOptions::new().create(true).append(true).open(log);
    let log = log.unwrap();
    command
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap()
}

/// A PostgreSQL server.
pub(crate) struct Postgres {
    folder: PathBuf,
    pub(crate) port: u16,
    options: Vec<String>,
    server: Option<Child>,
}

impl Postgres {
    pub(crate) async fn start(folder: &Path) -> Self {
        let folder = folder.join("postgres");
        let port = run_command(bash_command(
            r#"prepare_postgres "$1"; echo "$POSTGRES_PORT""#,
            &[&folder],
        ));
        let mut postgres = Self {
            folder,
            port: port.parse().unwrap(),
            options: Vec::new(),
            server: None,
        };
        postgres.run_until_ready().await;
        postgres
    }

    /// Starts the server. After a kill this waits for the old child processes to end, since PostgreSQL refuses
    /// to start before.
    pub(crate) async fn run_until_ready(&mut self) {
        self.launch();
        wait_until("PostgreSQL to accept connections", async || {
            let server = self.server.as_mut().unwrap();
            if server.try_wait().unwrap().is_some() {
                self.launch();
            }
            self.try_sql("SELECT 1").is_some()
        })
        .await;
    }

    fn launch(&mut self) {
        let line = format!(
            r#"as_postgres "$POSTGRES_BIN/postgres" -D "$1/data" -p {} {}"#,
            self.port,
            self.options.join(" ")
        );
        let log = self.folder.join("out.log");
        self.server = Some(spawn(bash_command(&line, &[&self.folder]), &log));
    }

    pub(crate) fn kill(&mut self) {
        if let Some(mut server) = self.server.take() {
            // The child processes of the postmaster end when it is gone.
            server.kill().unwrap();
            server.wait().unwrap();
        }
    }

    /// Creates a synchronous standby.
    pub(crate) async fn start_standby(&self) -> Self {
        let folder = self.folder.with_extension("standby");
        let mut prepare = bash_command(
            r#"mkdir -p "$1"; [ "$(id -u)" != 0 ] || chown postgres:postgres "$1"
               free_port; echo "$PORT"; echo "$PORT" >"$1/port"
               (as_postgres "$POSTGRES_BIN/pg_basebackup" --host=127.0.0.1 --port="$2" \
                   --username=orders --checkpoint=fast --no-sync -R -D "$1/data") >"$1/backup.log" 2>&1"#,
            &[&folder],
        );
        prepare.arg(self.port.to_string());
        let port = run_command(prepare);
        let options = ["-k", "''", "-c", "synchronous_standby_names=''"];
        let mut standby = Self {
            folder,
            port: port.parse().unwrap(),
            options: options.map(str::to_owned).into(),
            server: None,
        };
        standby.run_until_ready().await;
        self.run_sql("ALTER SYSTEM SET synchronous_standby_names = '*'");
        self.run_sql("SELECT pg_reload_conf()");
        wait_until("the standby to replicate", async || {
            self.run_sql("SELECT sync_state FROM pg_stat_replication") == "sync"
        })
        .await;
        standby
    }

    pub(crate) fn promote(&self) {
        self.run_sql("SELECT pg_promote()");
    }

    /// Executes a statement in the orders database.
    pub(crate) fn run_sql(&self, sql: &str) -> String {
        self.try_sql(sql).unwrap_or_else(|| panic!("{sql} failed"))
    }

    fn try_sql(&self, sql: &str) -> Option<String> {
        let url = format!("postgres://orders@127.0.0.1:{}/postgres", self.port);
        let output = Command::new(Path::new(&setting("TEST_POSTGRES_BIN")).join("psql"))
            .args(["-qAtX", "-v", "ON_ERROR_STOP=1", "-c", sql, &url])
            .env("PGOPTIONS", "-c default_transaction_read_only=off")
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        output.status.success().then(|| text.trim().to_owned())
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.kill();
        let _ = bash_command(r#"forget_postgres "$1""#, &[&self.folder]).status();
    }
}

/// A RabbitMQ node of a cluster.
struct Node {
    folder: PathBuf,
    port: u16,
    name: String,
    server: Option<Child>,
}

/// A cluster of three RabbitMQ nodes with replicated quorum queues.
pub(crate) struct Cluster {
    nodes: Vec<Node>,
}

impl Cluster {
    pub(crate) async fn start(folder: &Path) -> Self {
        let mut nodes: Vec<Node> = Vec::new();
        for node_number in 0..3 {
            let folder = folder.join(format!("node-{node_number}"));
            let port = run_command(bash_command(
                r#"need_rabbitmq; prepare_rabbitmq "$1"; echo "$RABBITMQ_PORT""#,
                &[&folder],
            ));
            nodes.push(Node {
                name: format!("orders-{port}@localhost"),
                port: port.parse().unwrap(),
                folder,
                server: None,
            });
        }
        // All nodes share epmd, the Erlang cookie and the list of node names.
        let epmd = fs::read_to_string(nodes[0].folder.join("env")).unwrap();
        let epmd = epmd
            .lines()
            .find(|line| line.contains("EPMD_PORT"))
            .unwrap();
        for node in &nodes {
            let env = fs::read_to_string(node.folder.join("env")).unwrap();
            fs::write(node.folder.join("env"), format!("{env}{epmd}\n")).unwrap();
            let config = fs::read_to_string(node.folder.join("rabbitmq.conf")).unwrap();
            let mut config = format!(
                "{config}cluster_formation.peer_discovery_backend = classic_config\n\
                 cluster_partition_handling = pause_minority\n"
            );
            for (node_number, other_node) in nodes.iter().enumerate() {
                let node_number = node_number + 1;
                let line = format!("cluster_formation.classic_config.nodes.{node_number}");
                writeln!(config, "{line} = {}", other_node.name).unwrap();
            }
            fs::write(node.folder.join("rabbitmq.conf"), config).unwrap();
            run_command(bash_command(
                r#"echo chaos >"$1/.erlang.cookie"; chmod 400 "$1/.erlang.cookie""#,
                &[&node.folder],
            ));
        }
        let mut cluster = Self { nodes };
        // One after the other: nodes that start at the same moment on a busy machine may each form a cluster of
        // their own.
        for node in &mut cluster.nodes {
            node.run();
            wait_until("a node to start", async || {
                node.run_rabbitmqctl(&["await_startup"]).is_some()
            })
            .await;
        }
        wait_until("the nodes to form a cluster", async || {
            cluster.running() == 3
        })
        .await;
        cluster
    }

    /// The AMQP URLs of all nodes.
    pub(crate) fn url(&self) -> String {
        let urls = self
            .nodes
            .iter()
            .map(|node| format!("amqp://guest:guest@127.0.0.1:{}/%2f", node.port));
        urls.collect::<Vec<_>>().join(",")
    }

    /// Number of nodes that all nodes consider running.
    fn running(&self) -> usize {
        let running_by_node = self.nodes.iter().map(|node| {
            let status = node.run_rabbitmqctl(&["cluster_status", "--formatter", "json"])?;
            let status: Value = serde_json::from_str(&status).ok()?;
            Some(status["running_nodes"].as_array()?.len())
        });
        running_by_node
            .map(Option::unwrap_or_default)
            .min()
            .unwrap_or_default()
    }

    /// Kills the node that leads the queue of steps, and returns its index.
    pub(crate) fn kill_leader(&mut self) -> usize {
        let number = self.leader("order-worker-queue");
        self.kill_node(number);
        number
    }

    /// The index of the node that leads a quorum queue.
    pub(crate) fn leader(&self, queue: &str) -> usize {
        let leaders =
            self.run_rabbitmqctl(&["list_queues", "--no-table-headers", "name", "leader"]);
        let leader_name = leaders.lines().find_map(|line| {
            let (name, leader) = line.split_once('\t')?;
            (name == queue).then(|| leader.trim())
        });
        let leader_name = leader_name.unwrap();
        let number = self.nodes.iter().position(|node| node.name == leader_name);
        number.unwrap()
    }

    /// Kills a node with SIGKILL.
    pub(crate) fn kill_node(&mut self, number: usize) {
        self.nodes[number].kill();
    }

    /// Kills the node that hosts a classic queue, and returns its index.
    pub(crate) fn kill_queue_node(&mut self, queue: &str) -> usize {
        let queues = self.run_rabbitmqctl(&["list_queues", "--no-table-headers", "name", "pid"]);
        let request_node = queues
            .lines()
            .find_map(|line| line.strip_prefix(queue))
            .unwrap()
            .trim()
            .to_owned();
        let node_number = self
            .nodes
            .iter()
            .position(|node| request_node.contains(&node.name));
        let node_number = node_number.unwrap();
        self.nodes[node_number].kill();
        node_number
    }

    /// Removes a dead node from the cluster.
    pub(crate) fn forget(&self, node_number: usize) {
        self.run_rabbitmqctl(&["forget_cluster_node", &self.nodes[node_number].name]);
    }

    /// Runs `rabbitmqctl` at a running node and returns its output.
    fn run_rabbitmqctl(&self, arguments: &[&str]) -> String {
        let output = self.nodes.iter().find_map(|node| {
            node.server.as_ref()?;
            node.run_rabbitmqctl(arguments)
        });
        output.unwrap_or_else(|| panic!("rabbitmqctl {arguments:?}"))
    }

    pub(crate) async fn restart_node(&mut self, node_number: usize) {
        self.nodes[node_number].run();
        wait_until("the node to rejoin the cluster", async || {
            self.running() == 3
        })
        .await;
    }
}

impl Node {
    fn run(&mut self) {
        let start_command = bash_command(r#"run_rabbitmq "$1""#, &[&self.folder]);
        self.server = Some(spawn(start_command, &self.folder.join("out.log")));
    }

    fn kill(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.kill().unwrap();
            server.wait().unwrap();
        }
    }

    fn run_rabbitmqctl(&self, arguments: &[&str]) -> Option<String> {
        let mut control = bash_command(
            r#"need_rabbitmq; . "$1/env"; shift; rabbitmqctl --quiet "$@""#,
            &[&self.folder],
        );
        let output = control.args(arguments).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        output.status.success().then(|| text.trim().to_owned())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            node.kill();
        }
        for node in &self.nodes {
            let _ =
                bash_command(r#"need_rabbitmq; forget_rabbitmq "$1""#, &[&node.folder]).status();
        }
    }
}
