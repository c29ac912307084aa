//! Processes of the gateway and the worker.

use std::{
    env,
    fs::{self, OpenOptions},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

use super::TIMEOUT;

pub(super) fn send_signal(child: &Child, signal_name: &str) {
    let _ = Command::new("kill")
        .args([&format!("-{signal_name}"), &child.id().to_string()])
        .status();
}

/// Sends SIGTERM and waits for the process to end.
pub(super) fn terminate(child: &mut Child) {
    send_signal(child, "TERM");
    let deadline = Instant::now() + TIMEOUT;
    while child.try_wait().unwrap().is_none() {
        assert!(
            Instant::now() < deadline,
            "a process did not stop after SIGTERM"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A running gateway or worker.
pub(crate) struct Process {
    child: Child,
    log_path: PathBuf,
}

impl Process {
    /// The path of a workspace binary; a path is returned unchanged.
    fn binary(program: &str) -> PathBuf {
        Path::new(env!("CARGO_BIN_EXE_api-gateway")).with_file_name(program)
    }

    /// A command with an empty environment, except for the variables of scripts/coverage.sh.
    pub(crate) fn command(program: &str) -> Command {
        let mut command = Command::new(Self::binary(program));
        command.env_clear();
        if let Ok(profile_path) = env::var("LLVM_PROFILE_FILE") {
            command.env("LLVM_PROFILE_FILE", profile_path);
        }
        command
    }

    pub(crate) fn start(program: &str, log_path: PathBuf, variables: &[(String, String)]) -> Self {
        let log_file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log_path)
            .unwrap();
        let child = Self::command(program)
            .envs(variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(log_file.try_clone().unwrap())
            .stderr(log_file)
            .spawn()
            .unwrap();
        Self { child, log_path }
    }

    /// A placeholder for a process that was taken out.
    pub(super) fn placeholder() -> Self {
        Self {
            child: Command::new("true").spawn().unwrap(),
            log_path: PathBuf::new(),
        }
    }

    /// The last value of `field_name` in the log after offset `log_offset`.
    pub(crate) fn find_logged_field(&self, field_name: &str, log_offset: u64) -> Option<String> {
        let log_bytes = fs::read(&self.log_path).unwrap();
        let log_text = String::from_utf8_lossy(
            &log_bytes[usize::try_from(log_offset).unwrap().min(log_bytes.len())..],
        )
        .into_owned();
        log_text.lines().rev().find_map(|line| {
            let log_line: Value = serde_json::from_str(line).ok()?;
            log_line.get(field_name)?.as_str().map(str::to_owned)
        })
    }

    /// The largest amount of memory that the process has used so far, in MiB.
    pub(crate) fn peak_memory_mib(&self) -> u64 {
        let process_status =
            fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let peak_line = process_status
            .lines()
            .find(|line| line.starts_with("VmHWM:"));
        let peak_kib: u64 = peak_line
            .unwrap()
            .split_whitespace()
            .nth(1)
            .unwrap()
            .parse()
            .unwrap();
        peak_kib / 1024
    }

    /// Whether the process has ended.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Sends a signal by name.
    pub(crate) fn signal(&self, signal_name: &str) {
        send_signal(&self.child, signal_name);
    }

    /// Kills the process with SIGKILL.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        self.child.wait().unwrap();
    }

    /// Sends SIGTERM and waits for the process to end.
    pub(crate) fn terminate(&mut self) {
        terminate(&mut self.child);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let log_text = fs::read_to_string(&self.log_path).unwrap_or_default();
            let log_lines: Vec<&str> = log_text.lines().collect();
            let last_lines = &log_lines[log_lines.len().saturating_sub(40)..];
            eprintln!(
                "--- the end of {}\n{}",
                self.log_path.display(),
                last_lines.join("\n")
            );
        }
    }
}
