//! Servers that can be killed: PostgreSQL with a standby, and a RabbitMQ cluster.

use std::{
    fmt::Write,
    fs::{self, OpenOptions},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use serde_json::Value;

use crate::harness::{setting, wait_until};

/// A command that runs a line of bash with the functions of scripts/lib.sh; `$1`… are `arguments`.
fn bash_command(script: &str, arguments: &[&Path]) -> Command {
    let mut bash = Command::new("bash");
    bash.args(["-c", &format!(r#". "$0"; find_postgres; {script}"#)])
        .arg(setting("TEST_LIB"))
        .args(arguments);
    bash
}

fn run_command(mut command: Command) -> String {
    let command_output = command.output().unwrap();
    let error_text = String::from_utf8_lossy(&command_output.stderr);
    assert!(command_output.status.success(), "{command:?}: {error_text}");
    String::from_utf8(command_output.stdout)
        .unwrap()
        .trim()
        .to_owned()
}

fn spawn(mut command: Command, log_path: &Path) -> Child {
    let log_file = OpenOptions::new().create(true).append(true).open(log_path);
    let log_file = log_file.unwrap();
    command
        .stdin(Stdio::null())
        .stdout(log_file.try_clone().unwrap())
        .stderr(log_file)
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
        let server_command = format!(
            r#"as_postgres "$POSTGRES_BIN/postgres" -D "$1/data" -p {} {}"#,
            self.port,
            self.options.join(" ")
        );
        let log_path = self.folder.join("out.log");
        self.server = Some(spawn(
            bash_command(&server_command, &[&self.folder]),
            &log_path,
        ));
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
        let mut prepare_command = bash_command(
            r#"mkdir -p "$1"; [ "$(id -u)" != 0 ] || chown postgres:postgres "$1"
               free_port; echo "$PORT"; echo "$PORT" >"$1/port"
               (as_postgres "$POSTGRES_BIN/pg_basebackup" --host=127.0.0.1 --port="$2" \
                   --username=orders --checkpoint=fast --no-sync -R -D "$1/data") >"$1/backup.log" 2>&1"#,
            &[&folder],
        );
        prepare_command.arg(self.port.to_string());
        let port = run_command(prepare_command);
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
        let psql_output = Command::new(Path::new(&setting("TEST_POSTGRES_BIN")).join("psql"))
            .args(["-qAtX", "-v", "ON_ERROR_STOP=1", "-c", sql, &url])
            .env("PGOPTIONS", "-c default_transaction_read_only=off")
            .output()
            .unwrap();
        let output_text = String::from_utf8(psql_output.stdout).unwrap();
        psql_output
            .status
            .success()
            .then(|| output_text.trim().to_owned())
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
        let env_of_first_node = fs::read_to_string(nodes[0].folder.join("env")).unwrap();
        let epmd_line = env_of_first_node
            .lines()
            .find(|line| line.contains("EPMD_PORT"))
            .unwrap();
        for node in &nodes {
            let env_text = fs::read_to_string(node.folder.join("env")).unwrap();
            fs::write(node.folder.join("env"), format!("{env_text}{epmd_line}\n")).unwrap();
            let config_text = fs::read_to_string(node.folder.join("rabbitmq.conf")).unwrap();
            let mut config = format!(
                "{config_text}cluster_formation.peer_discovery_backend = classic_config\n\
                 cluster_partition_handling = pause_minority\n"
            );
            for (node_number, other_node) in nodes.iter().enumerate() {
                let node_number = node_number + 1;
                let config_key = format!("cluster_formation.classic_config.nodes.{node_number}");
                writeln!(config, "{config_key} = {}", other_node.name).unwrap();
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
            node.launch();
            wait_until("a node to start", async || {
                node.run_rabbitmqctl(&["await_startup"]).is_some()
            })
            .await;
        }
        wait_until("the nodes to form a cluster", async || {
            cluster.running_node_count() == 3
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
    fn running_node_count(&self) -> usize {
        let running_count_by_node = self.nodes.iter().map(|node| {
            let cluster_status =
                node.run_rabbitmqctl(&["cluster_status", "--formatter", "json"])?;
            let cluster_status: Value = serde_json::from_str(&cluster_status).ok()?;
            Some(cluster_status["running_nodes"].as_array()?.len())
        });
        running_count_by_node
            .map(Option::unwrap_or_default)
            .min()
            .unwrap_or_default()
    }

    /// Kills the node that leads the queue of steps, and returns its index.
    pub(crate) fn kill_leader(&mut self) -> usize {
        let node_number = self.leader("order-worker-queue");
        self.kill_node(node_number);
        node_number
    }

    /// The index of the node that leads a quorum queue.
    pub(crate) fn leader(&self, queue: &str) -> usize {
        let queue_leaders =
            self.run_rabbitmqctl(&["list_queues", "--no-table-headers", "name", "leader"]);
        let leader_name = queue_leaders.lines().find_map(|line| {
            let (queue_name, node_name) = line.split_once('\t')?;
            (queue_name == queue).then(|| node_name.trim())
        });
        let leader_name = leader_name.unwrap();
        let node_index = self.nodes.iter().position(|node| node.name == leader_name);
        node_index.unwrap()
    }

    /// Kills a node with SIGKILL.
    pub(crate) fn kill_node(&mut self, node_number: usize) {
        self.nodes[node_number].kill();
    }

    /// Kills the node that hosts a classic queue, and returns its index.
    pub(crate) fn kill_queue_node(&mut self, queue: &str) -> usize {
        let queue_pids =
            self.run_rabbitmqctl(&["list_queues", "--no-table-headers", "name", "pid"]);
        let queue_pid = queue_pids
            .lines()
            .find_map(|line| line.strip_prefix(queue))
            .unwrap()
            .trim()
            .to_owned();
        let node_number = self
            .nodes
            .iter()
            .position(|node| queue_pid.contains(&node.name));
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
        self.nodes[node_number].launch();
        wait_until("the node to rejoin the cluster", async || {
            self.running_node_count() == 3
        })
        .await;
    }
}

impl Node {
    fn launch(&mut self) {
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
        let mut control_command = bash_command(
            r#"need_rabbitmq; . "$1/env"; shift; rabbitmqctl --quiet "$@""#,
            &[&self.folder],
        );
        let output = control_command.args(arguments).output().unwrap();
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
