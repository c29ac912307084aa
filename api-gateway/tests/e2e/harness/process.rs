//! One of our programs, running.

use std::{
    env,
    fs::{self, OpenOptions},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

use super::PATIENCE;

fn signal(child: &Child, name: &str) {
    let _ = Command::new("kill")
        .args([&format!("-{name}"), &child.id().to_string()])
        .status();
}

/// SIGTERM, and the end.
pub(super) fn terminate(child: &mut Child) {
    signal(child, "TERM");
    let end = Instant::now() + PATIENCE;
    while child.try_wait().unwrap().is_none() {
        assert!(
            Instant::now() < end,
            "a process did not stop when it was asked to"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// One of ours, running.
pub(crate) struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Where one of our programs is, or one that is named by its path.
    fn binary(program: &str) -> PathBuf {
        Path::new(env!("CARGO_BIN_EXE_api-gateway")).with_file_name(program)
    }

    /// To be started with these variables and no others, but for where scripts/coverage.sh wants to hear
    /// what was run.
    pub(crate) fn command(program: &str) -> Command {
        let mut command = Command::new(Self::binary(program));
        command.env_clear();
        if let Ok(profile) = env::var("LLVM_PROFILE_FILE") {
            command.env("LLVM_PROFILE_FILE", profile);
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

    /// One that does nothing, to stand in for one that was taken.
    pub(super) fn nothing() -> Self {
        Self {
            child: Command::new("true").spawn().unwrap(),
            log: PathBuf::new(),
        }
    }

    /// The last value that was logged under `field`, since `from` bytes of the log.
    pub(crate) fn logged(&self, field: &str, from: u64) -> Option<String> {
        let text = fs::read(&self.log).unwrap();
        let text = String::from_utf8_lossy(&text[usize::try_from(from).unwrap().min(text.len())..])
            .into_owned();
        text.lines().rev().find_map(|line| {
            let line: Value = serde_json::from_str(line).ok()?;
            line.get(field)?.as_str().map(str::to_owned)
        })
    }

    /// Whether it has ended by itself.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Sends it a signal, by name.
    pub(crate) fn signal(&self, name: &str) {
        signal(&self.child, name);
    }

    /// kill -9.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        self.child.wait().unwrap();
    }

    /// SIGTERM, and the end.
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
            let tail = &lines[lines.len().saturating_sub(40)..];
            eprintln!("--- the end of {}\n{}", self.log.display(), tail.join("\n"));
        }
    }
}
