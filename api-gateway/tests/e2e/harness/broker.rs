//! The RabbitMQ broker of a test: a vhost of the shared broker, or a broker of its own.

use std::{
    fs::{self, OpenOptions},
    io::ErrorKind,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use super::{process::terminate, setting};

/// Time for the broker to create a vhost; it takes a quarter of a second each.
const VHOST_TIMEOUT: Duration = Duration::from_mins(1);

/// The broker of a test.
pub(crate) enum Broker {
    /// A vhost of the shared broker.
    Vhost { url: String },
    /// A broker of this test only, which can be stopped and killed.
    Own {
        folder: PathBuf,
        port: String,
        server: Option<Child>,
    },
}

impl Broker {
    /// Takes an unused vhost of those that `scripts/test.sh` creates.
    pub(super) fn vhost() -> Self {
        let run_folder = setting("TEST_FOLDER");
        let path_in_run_folder = |file_name: String| Path::new(&run_folder).join(file_name);
        let mut vhost_number = 1;
        while let Err(error) = fs::create_dir(path_in_run_folder(format!("vhost-{vhost_number}"))) {
            assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error}");
            vhost_number += 1;
        }
        let ready_file = path_in_run_folder(format!("vhost-ready-{vhost_number}"));
        let deadline = Instant::now() + VHOST_TIMEOUT;
        while !ready_file.exists() {
            assert!(
                Instant::now() < deadline,
                "the broker did not create vhost t{vhost_number}; see vhosts.log in {run_folder}"
            );
            thread::sleep(Duration::from_millis(50));
        }
        let port = setting("TEST_AMQP_PORT");
        Self::Vhost {
            url: format!("amqp://guest:guest@127.0.0.1:{port}/t{vhost_number}"),
        }
    }

    /// Starts a broker for this test.
    pub(crate) fn own(folder: &Path) -> Self {
        let broker_folder = folder.join("rabbitmq");
        let prepare_output = Command::new("bash")
            .args([
                "-c",
                r#". "$0"; need_rabbitmq; prepare_rabbitmq "$1"; echo "$RABBITMQ_PORT""#,
            ])
            .arg(setting("TEST_LIB"))
            .arg(&broker_folder)
            .output()
            .unwrap();
        let port = String::from_utf8(prepare_output.stdout)
            .unwrap()
            .trim()
            .to_owned();
        let mut broker = Self::Own {
            folder: broker_folder,
            port,
            server: None,
        };
        broker.start();
        broker
    }

    pub(crate) fn url(&self) -> String {
        match self {
            Self::Vhost { url } => url.clone(),
            Self::Own { .. } => format!("amqp://guest:guest@127.0.0.1:{}/%2f", self.port()),
        }
    }

    /// The port of the AMQP listener.
    pub(crate) fn port(&self) -> u16 {
        match self {
            Self::Vhost { .. } => setting("TEST_AMQP_PORT").parse().unwrap(),
            Self::Own { port, .. } => port.parse().unwrap(),
        }
    }

    /// Starts the broker, again after a stop or kill.
    pub(crate) fn start(&mut self) {
        let Self::Own { folder, server, .. } = self else {
            panic!("the test has no broker of its own")
        };
        let log_file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(folder.join("out.log"))
            .unwrap();
        let server_process = Command::new("bash")
            .args(["-c", r#". "$0"; run_rabbitmq "$1""#])
            .arg(setting("TEST_LIB"))
            .arg(&*folder)
            .stdout(log_file)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        *server = Some(server_process);
    }

    /// Runs `rabbitmqctl`, which must succeed.
    pub(crate) fn run_rabbitmqctl(&self, arguments: &[&str]) {
        assert!(self.try_rabbitmqctl(arguments), "rabbitmqctl {arguments:?}");
    }

    /// Runs `rabbitmqctl` and returns whether it succeeded.
    pub(crate) fn try_rabbitmqctl(&self, arguments: &[&str]) -> bool {
        let Self::Own { folder, .. } = self else {
            panic!("the test has no broker of its own")
        };
        let exit_status = Command::new("bash")
            .args([
                "-c",
                r#". "$0"; need_rabbitmq; . "$1/env"; shift; rabbitmqctl --quiet "$@""#,
            ])
            .arg(setting("TEST_LIB"))
            .arg(folder)
            .args(arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap();
        exit_status.success()
    }

    /// Kills the broker with SIGKILL.
    pub(crate) fn kill(&mut self) {
        let Self::Own {
            server: Some(child),
            ..
        } = self
        else {
            panic!("the test has no running broker of its own")
        };
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Deletes all data of the broker.
    pub(crate) fn wipe(&mut self) {
        let Self::Own { folder, .. } = self else {
            panic!("the test has no broker of its own")
        };
        fs::remove_dir_all(folder.join("data")).unwrap();
    }

    /// Stops the broker cleanly.
    pub(crate) fn stop(&mut self) {
        let Self::Own {
            server: Some(child),
            ..
        } = self
        else {
            panic!("the test has no running broker of its own")
        };
        terminate(child);
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Self::Own { folder, server, .. } = self {
            if let Some(child) = server {
                let _ = child.kill();
                let _ = child.wait();
            }
            let forget_script = r#". "$0"; forget_rabbitmq "$1""#;
            let _ = Command::new("bash")
                .args(["-c", forget_script])
                .arg(setting("TEST_LIB"))
                .arg(folder)
                .status();
        }
    }
}
