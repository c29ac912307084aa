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

pub(super) fn send_signal(child: &Child, name: &str) {
    let _ = Command::new("kill")
        .args([&format!("-{name}"), &child.id().to_string()])
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
    log: PathBuf,
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

    pub(crate) fn start(program: &str, log: PathBuf, variables: &[(String, String)]) -> Self {
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log)
            .unwrap();
        let child = Self::command(program)
            .envs(variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap();
        Self { child, log }
    }

    /// A placeholder for a process that was taken out.
    pub(super) fn placeholder() -> Self {
        Self {
            child: Command::new("true").spawn().unwrap(),
            log: PathBuf::new(),
        }
    }

    /// The last value of `field` in the log after offset `from_offset`.
    pub(crate) fn find_logged_field(&self, field: &str, from_offset: u64) -> Option<String> {
        let text = fs::read(&self.log).unwrap();
        let text =
            String::from_utf8_lossy(&text[usize::try_from(from_offset).unwrap().min(text.len())..])
                .into_owned();
        text.lines().rev().find_map(|line| {
            let log_line: Value = serde_json::from_str(line).ok()?;
            log_line.get(field)?.as_str().map(str::to_owned)
        })
    }

    /// The largest amount of memory that the process has used so far, in MiB.
    pub(crate) fn peak_memory_mib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:"));
        let peak_kib: u64 = line
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
    pub(crate) fn signal(&self, name: &str) {
        send_signal(&self.child, name);
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
            let log = fs::read_to_string(&self.log).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            let last_lines = &lines[lines.len().saturating_sub(40)..];
            eprintln!(
                "--- the end of {}\n{}",
                self.log.display(),
                last_lines.join("\n")
            );
        }
    }
}
