//! Logging to standard output: one line per event, as text or JSON.
//!
//! `RUST_LOG` selects the events, `LOG_FORMAT` the format. Traces are in [`crate::trace`], metrics in
//! [`crate::metrics`].

use anyhow::Context;
use tracing_subscriber::EnvFilter;

use crate::config::Env;

/// The log filter when `RUST_LOG` is not set: information of this system, and warnings of sqlx and hyper.
const DEFAULT_FILTER: &str = "info,sqlx=warn,hyper=warn";
/// The log target of lapin, which is off unless `RUST_LOG` names it: lapin logs an error for every open
/// channel when a connection is lost, and [`crate::amqp::connection`] already logs the loss once.
const LAPIN_TARGET: &str = "lapin";

/// Initializes logging as configured by `LOG_FORMAT` (`pretty` or `json`) and `RUST_LOG`.
///
/// # Errors
/// Names the variable that has an invalid value.
pub fn init(env: &Env) -> anyhow::Result<()> {
    let (filter, is_json) = read_settings(env)?;
    let log_builder = tracing_subscriber::fmt().with_env_filter(filter);
    if is_json {
        log_builder
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .init();
    } else {
        let is_terminal = std::io::IsTerminal::is_terminal(&std::io::stdout());
        log_builder.with_target(false).with_ansi(is_terminal).init();
    }
    Ok(())
}

/// Checks the configuration of [`init`].
///
/// # Errors
/// Names the variable that has an invalid value.
pub fn check(env: &Env) -> anyhow::Result<()> {
    read_settings(env).map(drop)
}

/// Reads the filter and the format.
fn read_settings(env: &Env) -> anyhow::Result<(EnvFilter, bool)> {
    let filter_text = env
        .text("RUST_LOG")
        .unwrap_or_else(|| DEFAULT_FILTER.to_owned());
    let directives = if filter_text.contains(LAPIN_TARGET) {
        filter_text.clone()
    } else {
        format!("{LAPIN_TARGET}=off,{filter_text}")
    };
    let filter = EnvFilter::builder().parse(&directives).with_context(|| {
        format!(
            "RUST_LOG={filter_text:?} is not a log filter such as info or info,shared::amqp=debug"
        )
    })?;
    let is_json = env.choice("LOG_FORMAT", &[("pretty", false), ("json", true)], "pretty")?;
    Ok((filter, is_json))
}
