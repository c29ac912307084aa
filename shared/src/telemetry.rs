//! Logs to standard output: one line per event, as text or JSON.

use anyhow::Context;
use tracing_subscriber::EnvFilter;

use crate::config::Env;

/// What is logged when `RUST_LOG` says nothing: our own story, and others' warnings.
const DEFAULT_FILTER: &str = "info,sqlx=warn,hyper=warn";
/// lapin logs an error for every channel that waits when a connection is lost; the loss is logged once by
/// [`crate::amqp::connection`]. Shown only if `RUST_LOG` names lapin.
const LAPIN: &str = "lapin";

/// Initializes logging as configured by `LOG_FORMAT` (`pretty` or `json`) and `RUST_LOG`.
///
/// # Errors
/// Names the variable that has an invalid value.
pub fn init(env: &Env) -> anyhow::Result<()> {
    let (filter, is_json) = read(env)?;
    let logs = tracing_subscriber::fmt().with_env_filter(filter);
    if is_json {
        logs.json()
            .flatten_event(true)
            .with_current_span(false)
            .init();
    } else {
        let is_terminal = std::io::IsTerminal::is_terminal(&std::io::stdout());
        logs.with_target(false).with_ansi(is_terminal).init();
    }
    Ok(())
}

/// Checks the configuration of [`init`].
///
/// # Errors
/// Names the variable that has an invalid value.
pub fn check(env: &Env) -> anyhow::Result<()> {
    read(env).map(drop)
}

/// Reads the filter and the format.
fn read(env: &Env) -> anyhow::Result<(EnvFilter, bool)> {
    let filter = env
        .text("RUST_LOG")
        .unwrap_or_else(|| DEFAULT_FILTER.to_owned());
    let quiet = if filter.contains(LAPIN) {
        filter.clone()
    } else {
        format!("{LAPIN}=off,{filter}")
    };
    let filter = EnvFilter::builder()
        .parse(&quiet)
        .with_context(|| format!("RUST_LOG={filter:?} is not a filter"))?;
    let is_json = env.choice("LOG_FORMAT", &[("pretty", false), ("json", true)], "pretty")?;
    Ok((filter, is_json))
}
