//! Third-party clients and tools, run as Python scripts.

use std::{
    io::Write,
    path::Path,
    process::{Command, Stdio},
};

use super::setting;

/// Runs a Python script of tests/e2e and returns its output.
pub(crate) fn run_script(script: &str, arguments: &[&str]) -> String {
    run_python(script, arguments, "")
}

/// As [`run_script`], with `input` as standard input.
pub(crate) fn run_script_with_input(script: &str, input: &str) -> String {
    run_python(script, &[], input)
}

fn run_python(script: &str, arguments: &[&str], input: &str) -> String {
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
    stdin.write_all(input.as_bytes()).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    let (stdout, stderr) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{stdout}\n{stderr}");
    stdout.into_owned()
}
