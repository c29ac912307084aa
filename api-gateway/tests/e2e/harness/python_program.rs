//! Third-party programs in Python that run next to a test.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use super::{process::send_signal, setting, wait_until};

/// A running Python program. It ends with its parent, even if the parent is killed: `python_program.py` watches
/// standard input.
pub(crate) struct PythonProgram {
    child: Child,
    log_path: PathBuf,
}

impl PythonProgram {
    /// Starts a script of tests/e2e, with its output in `log_path`.
    pub(crate) fn start(script_name: &str, arguments: &[&str], log_path: PathBuf) -> Self {
        let log_file = File::create(&log_path).unwrap();
        let script_folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e");
        let child = Command::new("python3")
            .arg(script_folder.join(script_name))
            .args(arguments)
            .env("PYTHONPATH", setting("TEST_PYTHONPATH"))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::piped())
            .stdout(log_file.try_clone().unwrap())
            .stderr(log_file)
            .spawn()
            .unwrap();
        Self { child, log_path }
    }

    /// Sends a signal by name.
    pub(crate) fn signal(&self, signal_name: &str) {
        send_signal(&self.child, signal_name);
    }

    /// The complete lines that the program has printed so far.
    pub(crate) fn printed_text(&self) -> String {
        let mut printed_text = fs::read_to_string(&self.log_path).unwrap();
        printed_text.truncate(
            printed_text
                .rfind('\n')
                .map_or(0, |newline_index| newline_index + 1),
        );
        printed_text
    }

    /// The port that the program listens on, which is its first line.
    pub(crate) async fn port(&self) -> String {
        wait_until("the program to listen", async || {
            !self.printed_text().is_empty()
        })
        .await;
        let printed_text = self.printed_text();
        let port = printed_text.lines().next().unwrap();
        assert!(
            port.parse::<u16>().is_ok(),
            "the program did not start: {printed_text}"
        );
        port.to_owned()
    }
}

impl Drop for PythonProgram {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
