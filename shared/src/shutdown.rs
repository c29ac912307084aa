//! Graceful shutdown.
//!
//! SIGTERM or SIGINT (Ctrl-C) cancels one token that every task of the process watches. Each task then
//! finishes its current work and ends.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Returns a token that is cancelled by SIGTERM or SIGINT.
///
/// # Errors
/// When the signal handlers can't be installed.
pub fn on_signal() -> std::io::Result<CancellationToken> {
    let mut sigterm = signal(SignalKind::terminate())?;
    let mut sigint = signal(SignalKind::interrupt())?;
    let stop_token = CancellationToken::new();
    let token_to_cancel = stop_token.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = sigterm.recv() => {}
            _ = sigint.recv() => {}
        }
        tracing::info!("shutdown requested; finishing requests and steps in progress");
        token_to_cancel.cancel();
    });
    Ok(stop_token)
}
