//! Serializes publishing on one channel.
//!
//! lapin assigns a message its confirm in two steps, so two concurrent publishes on one channel could each
//! receive the other's confirm. The lock is held only for the first poll of lapin's future, which performs
//! both steps. The future itself resolves when the message is written; waiting for that before the next
//! publish would wake two threads for every message. Used by [`super::publisher`] and [`super::rpc_client`].

use std::sync::{Mutex, PoisonError};

use futures_util::{
    FutureExt,
    future::{Either, ready},
};

/// A lock that gives one task at a time access to publishing on a channel.
#[derive(Default)]
pub(super) struct ChannelLock(Mutex<()>);

impl ChannelLock {
    /// Polls `publishing` once under the lock, which makes lapin accept the message; the returned future
    /// resolves when the message is written.
    pub(super) fn start_publish<F: Future>(
        &self,
        publishing: F,
    ) -> impl Future<Output = F::Output> + use<F> {
        let mut publishing = Box::pin(publishing);
        let first_poll = {
            let _guard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            (&mut publishing).now_or_never()
        };
        match first_poll {
            Some(result) => Either::Left(ready(result)),
            None => Either::Right(publishing),
        }
    }
}
