//! Third-party clients and tools, run as Python scripts.

use std::{
    io::Write,
    path::Path,
    process::{Command, Stdio},
};

use super::setting;

/// Runs a Python script of tests/e2e and returns its output.
pub(crate) fn run_script(script_name: &str, arguments: &[&str]) -> String {
    run_python(script_name, arguments, "")
}

/// As [`run_script`], with `stdin_text` as standard input.
pub(crate) fn run_script_with_input(script_name: &str, stdin_text: &str) -> String {
    run_python(script_name, &[], stdin_text)
}

fn run_python(script_name: &str, arguments: &[&str], stdin_text: &str) -> String {
    let script_path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/e2e")
        .join(script_name);
    let mut child = Command::new("python3")
        .arg(script_path)
        .args(arguments)
        .env("PYTHONPATH", setting("TEST_PYTHONPATH"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(stdin_text.as_bytes()).unwrap();
    drop(stdin);
    let script_output = child.wait_with_output().unwrap();
    let (stdout, stderr) = (
        String::from_utf8_lossy(&script_output.stdout),
        String::from_utf8_lossy(&script_output.stderr),
    );
    assert!(script_output.status.success(), "{stdout}\n{stderr}");
    stdout.into_owned()
}
