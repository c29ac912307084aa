//! A wrong value stops the start with one line that names the variable.

use crate::harness::{Process, System};

fn start(program: &str, variables: &[(&str, &str)]) -> (bool, String) {
    let output = Process::command(program)
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    (
        output.status.success(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

#[test]
fn a_wrong_value_is_named_in_one_line() {
    for (program, name, value) in [
        ("api-gateway", "AMQP_URL", "http://localhost"),
        ("api-gateway", "HTTP_ADDR", "8080"),
        ("api-gateway", "API_KEYS", "root=some-long-key"),
        ("api-gateway", "LOG_FORMAT", "xml"),
        ("api-gateway", "RUST_LOG", "!!!"),
        ("order-worker", "DATABASE_URL", "mysql://localhost/orders"),
        ("order-worker", "RESERVATION_TTL_SECONDS", "-1"),
        ("order-worker", "CARRIER", "pigeon"),
        ("order-worker", "PAYMENT_PROVIDER", "cash"),
        ("order-worker", "ORDER_APPROVAL", "perhaps"),
        ("order-worker", "WORKER_HTTP_ADDR", "nowhere"),
    ] {
        let (started, error) = start(program, &[("HTTP_ADDR", "127.0.0.1:0"), (name, value)]);
        assert!(!started, "{name}={value}");
        assert_eq!(error.lines().count(), 1, "{error}");
        assert!(error.contains(name), "{error}");
    }
}

#[test]
fn without_keys_only_loopback_is_served() {
    let (started, error) = start("api-gateway", &[("HTTP_ADDR", "0.0.0.0:0")]);
    assert!(!started && error.contains("API_KEYS"), "{error}");
}

#[tokio::test]
async fn a_second_worker_on_one_sqlite_database_is_refused() {
    let system = System::start().await;
    if !system.store.is_sqlite() {
        return;
    }
    let url = system.store.url();
    let variables = [
        ("DATABASE_URL", url.as_str()),
        ("WORKER_HTTP_ADDR", "127.0.0.1:0"),
    ];
    let (started, error) = start("order-worker", &variables);
    assert!(
        !started && error.contains("in use by another order-worker"),
        "{error}"
    );
    system.assert_verified();
}
