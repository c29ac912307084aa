//! Configuration: an invalid value ends the start with one line that names the variable. Also configuration
//! checks, health checks, `--help` and shell completions.

use std::{fs, path::Path, process::Output};

use shared::config::documented_variables;

use crate::harness::{Process, System, TestFolder, WORKER};

fn start_program(program_name: &str, variables: &[(&str, &str)]) -> (bool, String) {
    let output = run_program(program_name, &[], variables);
    (output.status.success(), stderr_text(&output))
}

fn stdout_text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr_text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn run_program(program: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    Process::command(program)
        .args(arguments)
        .envs(variables.iter().copied())
        .output()
        .unwrap()
}

#[test]
fn invalid_value_is_reported_in_one_line_with_its_variable() {
    for (program, variable_name, invalid_value) in [
        ("api-gateway", "AMQP_URL", "http://localhost"),
        ("api-gateway", "HTTP_ADDR", "8080"),
        ("api-gateway", "API_KEYS", "root=some-long-key"),
        ("api-gateway", "LOG_FORMAT", "xml"),
        ("api-gateway", "RUST_LOG", "!!!"),
        ("order-worker", "DATABASE_URL", "mysql://localhost/orders"),
        ("order-worker", "RESERVATION_TTL_SECONDS", "-1"),
        ("order-worker", "CARRIER", "pigeon"),
        ("order-worker", "CARRIER", "http"),
        ("order-worker", "CARRIER_URL", "ftp://carrier.example.com"),
        ("order-worker", "CARRIER_URL", "https://carrier.example.com"),
        ("order-worker", "CARRIER_SECRET", "whsec_YQ=="),
        ("order-worker", "PAYMENT_PROVIDER", "cash"),
        ("order-worker", "ORDER_APPROVAL", "perhaps"),
        ("order-worker", "WORKER_HTTP_ADDR", "nowhere"),
    ] {
        let (has_started, error) = start_program(
            program,
            &[("HTTP_ADDR", "127.0.0.1:0"), (variable_name, invalid_value)],
        );
        assert!(!has_started, "{variable_name}={invalid_value}");
        assert_eq!(error.lines().count(), 1, "{error}");
        assert!(error.contains(variable_name), "{error}");
    }
}

#[test]
fn without_api_keys_only_loopback_addresses_are_accepted() {
    let (has_started, error) = start_program("api-gateway", &[("HTTP_ADDR", "0.0.0.0:0")]);
    assert!(!has_started && error.contains("API_KEYS"), "{error}");
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
    let (has_started, error) = start_program("order-worker", &variables);
    assert!(
        !has_started && error.contains("in use by another order-worker"),
        "{error}"
    );
    system.assert_verified();
}

#[test]
fn check_config_validates_without_starting() {
    let folder = TestFolder::new();
    let database_url = format!("sqlite://{}/orders.db", folder.join("none").display());
    for (program_name, invalid_value) in [
        ("order-worker", ("EVENTS_KEPT_DAYS", "1")),
        (
            "order-worker",
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "localhost:4318"),
        ),
        ("api-gateway", ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector")),
        ("api-gateway", ("RATE_LIMIT", "many")),
    ] {
        let variables = [("DATABASE_URL", database_url.as_str())];
        let valid_output = run_program(program_name, &["--check-config"], &variables);
        assert!(
            valid_output.status.success(),
            "{}",
            stderr_text(&valid_output)
        );
        assert!(stdout_text(&valid_output).starts_with("the configuration is valid"));
        let refused_output = run_program(
            program_name,
            &["--check-config"],
            &[variables[0], invalid_value],
        );
        assert!(!refused_output.status.success());
        assert_eq!(
            stderr_text(&refused_output).lines().count(),
            1,
            "{}",
            stderr_text(&refused_output)
        );
        assert!(
            stderr_text(&refused_output).contains(invalid_value.0),
            "{}",
            stderr_text(&refused_output)
        );
    }
    assert!(!folder.join("none").exists());
}

#[tokio::test]
async fn health_command_reports_readiness() {
    let system = System::start().await;
    let worker_address = system.worker.find_logged_field("health", 0).unwrap();
    let gateway_address = system.gateway.find_logged_field("address", 0).unwrap();
    for (program_name, variable, address) in [
        (WORKER, "WORKER_HTTP_ADDR", worker_address),
        ("api-gateway", "HTTP_ADDR", gateway_address),
    ] {
        // The health command calls a server that listens on all interfaces over the loopback interface.
        let port = address.rsplit(':').next().unwrap();
        for address in [address.clone(), format!("0.0.0.0:{port}")] {
            let output = run_program(program_name, &["health"], &[(variable, &address)]);
            assert!(output.status.success(), "{}", stderr_text(&output));
            assert_eq!(stdout_text(&output), "ready\n");
        }
        let unreachable_output =
            run_program(program_name, &["health"], &[(variable, "127.0.0.1:9")]);
        assert!(!unreachable_output.status.success());
        assert!(
            stderr_text(&unreachable_output).contains("127.0.0.1:9"),
            "{}",
            stderr_text(&unreachable_output)
        );
    }
}

#[test]
fn documentation_marks_the_variables_whose_values_are_hidden() {
    let repository_root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let read_file = |path: &str| fs::read_to_string(repository_root.join(path)).unwrap();
    let document = read_file("docs/CONFIGURATION.md");
    for table_path in [
        "api-gateway/src/environment.md",
        "order-worker/src/environment.md",
        "shared/src/environment.md",
    ] {
        for variable in documented_variables(&read_file(table_path)) {
            let name = &variable.name;
            let mut first_table_cells = document
                .lines()
                .filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
            let table_cell = first_table_cells
                .find(|table_cell| table_cell.contains(&format!("`{name}`")))
                .unwrap_or_else(|| panic!("docs/CONFIGURATION.md does not list {name}"));
            assert_eq!(
                table_cell.contains("(secret"),
                variable.is_secret,
                "{name} in {table_path}"
            );
            let secret_words = ["SECRET", "_KEY", "API_KEYS", "PASSWORD", "TOKEN"];
            let looks_secret = secret_words.iter().any(|word| name.contains(word));
            assert!(
                !looks_secret || variable.is_secret,
                "{name} in {table_path}"
            );
        }
    }
}

/// The variables of a table in docs/CONFIGURATION.md or in the `--help` of a program.
fn variable_names(table: &str) -> Vec<String> {
    let rows = table.lines().filter(|line| line.starts_with("| `"));
    let names = rows.flat_map(|row| {
        let cell = row.split(" | ").next().unwrap();
        let names = cell.trim_matches(['|', ' ']).split(", ");
        names
            .map(|variable_name| variable_name.trim_matches('`').to_owned())
            .collect::<Vec<_>>()
    });
    names.collect()
}

#[test]
fn help_and_documentation_list_all_variables_and_completions_work() {
    let repository_root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let read_file = |path: &str| fs::read_to_string(repository_root.join(path)).unwrap();
    let configuration_document = read_file("docs/CONFIGURATION.md");
    let common_variables = variable_names(&read_file("shared/src/environment.md"));
    for program_name in ["order-worker", "api-gateway"] {
        let help_output = run_program(program_name, &["--help"], &[]);
        let program_variables =
            variable_names(&read_file(&format!("{program_name}/src/environment.md")));
        assert!(program_variables.len() > 5, "{program_variables:?}");
        for variable in program_variables.iter().chain(&common_variables) {
            assert!(
                stdout_text(&help_output).contains(variable),
                "{program_name} --help does not list {variable}"
            );
            assert!(
                configuration_document.contains(&format!("`{variable}`")),
                "docs/CONFIGURATION.md does not list {variable}"
            );
        }
        for shell in ["bash", "zsh", "fish"] {
            let completion_script =
                stdout_text(&run_program(program_name, &["completions", shell], &[]));
            assert!(
                completion_script.contains("check-config"),
                "{completion_script}"
            );
        }
        assert_eq!(
            run_program(program_name, &["dance"], &[]).status.code(),
            Some(2)
        );
    }
}
