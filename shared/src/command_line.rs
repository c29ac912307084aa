//! The part of the command line that both programs share: `--check-config`, `health`, `completions`, the `--help`
//! text about environment variables, and how errors end the process.
//!
//! A program's own subcommands are in its `main.rs`; they flatten [`CommonCommand`] and [`CommonOptions`].

use std::{fmt::Display, io, net::SocketAddr, process::ExitCode};

use clap::{Args, CommandFactory, Subcommand};
use clap_complete::Shell;

use crate::{
    config::{Env, describe},
    health, telemetry, trace,
};

/// Options of both programs.
#[derive(Debug, Args)]
pub struct CommonOptions {
    /// Check the configuration and exit
    #[arg(long)]
    pub check_config: bool,
}

/// Subcommands of both programs.
#[derive(Debug, Subcommand)]
pub enum CommonCommand {
    /// Check whether the program that runs on this machine is ready; exit with 0 if it is, otherwise with 1
    Health,
    /// Print a shell completion script to standard output
    Completions {
        /// Shell to print the script for
        shell: Shell,
    },
}

impl CommonCommand {
    /// Runs the command for the program whose arguments are `C` and whose health endpoint is at `health_addr`.
    ///
    /// # Errors
    /// When the address is invalid, or the program is not ready.
    pub async fn run<C: CommandFactory>(
        self,
        health_addr: impl FnOnce(&Env) -> anyhow::Result<SocketAddr>,
    ) -> anyhow::Result<()> {
        match self {
            Self::Health => health::check_ready(health_addr(&Env::from_process())?).await,
            Self::Completions { shell } => {
                let mut command = C::command();
                let program_name = command.get_name().to_owned();
                clap_complete::generate(shell, &mut command, program_name, &mut io::stdout());
                Ok(())
            }
        }
    }
}

/// The end of `--help`: the environment variables of the table `variable_table` and the common ones, then
/// `exit_status_text`.
pub fn after_help(variable_table: &str, exit_status_text: &str) -> String {
    format!("{}\n{exit_status_text}", describe(variable_table))
}

/// Installs the TLS implementation of the process: several dependencies use TLS and none sets a default.
pub fn install_tls() {
    // Fails only if one is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// Checks the configuration: that of logs and traces, and with `read_config` the program's own. Prints what
/// `read_config` returns.
///
/// # Errors
/// Names the variable that is wrong.
pub fn check_config<T: Display>(
    read_config: impl FnOnce(&Env) -> anyhow::Result<T>,
) -> anyhow::Result<()> {
    let env = Env::from_process();
    telemetry::check(&env)?;
    trace::check(&env)?;
    println!("the configuration is valid: {}", read_config(&env)?);
    Ok(())
}

/// The exit status for `program_result`. An error is printed in one line to standard error, after the program's name,
/// and ends with status `error_status`.
pub fn exit_code(
    program: &str,
    program_result: anyhow::Result<ExitCode>,
    error_status: u8,
) -> ExitCode {
    match program_result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{program}: {error:#}");
            ExitCode::from(error_status)
        }
    }
}
