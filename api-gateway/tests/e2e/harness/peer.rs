//! Third-party programs in Python that run next to a test.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use super::{process::send_signal, setting, wait_until};

/// A running Python program. It ends with its parent, even if the parent is killed: `peer.py` watches standard
/// input.
pub(crate) struct Peer {
    child: Child,
    log: PathBuf,
}

impl Peer {
    /// Starts a script of tests/e2e, with its output in `log`.
    pub(crate) fn start(script: &str, arguments: &[&str], log: PathBuf) -> Self {
        let output = File::create(&log).unwrap();
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e");
        let child = Command::new("python3")
            .arg(folder.join(script))
            .args(arguments)
            .env("PYTHONPATH", setting("TEST_PYTHONPATH"))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::piped())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .unwrap();
        Self { child, log }
    }

    /// Sends a signal by name.
    pub(crate) fn signal(&self, name: &str) {
        send_signal(&self.child, name);
    }

    /// The complete lines that the program has printed so far.
    pub(crate) fn printed_text(&self) -> String {
        let mut printed_text = fs::read_to_string(&self.log).unwrap();
        printed_text.truncate(printed_text.rfind('\n').map_or(0, |end| end + 1));
        printed_text
    }

    /// The port that the program listens on, which is its first line.
    pub(crate) async fn port(&self) -> String {
        wait_until("the program to listen", async || {
            !self.printed_text().is_empty()
        })
        .await;
        self.printed_text().lines().next().unwrap().to_owned()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
