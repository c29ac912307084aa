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
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let token = CancellationToken::new();
    let stopping = token.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("shutdown requested; finishing requests and steps in progress");
        stopping.cancel();
    });
    Ok(token)
}
