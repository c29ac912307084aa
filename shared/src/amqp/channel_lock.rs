//! Serializes publishing on one channel.
//!
//! lapin assigns a message its confirm in two steps, so two concurrent publishes on one channel could each
//! receive the other's confirm. Its future also resolves only when the message is written; waiting for that
//! before the next publish would wake two threads for every message.

use std::sync::{Mutex, PoisonError};

use futures_util::{
    FutureExt,
    future::{Either, ready},
};

/// Exclusive access to publishing on a channel.
#[derive(Default)]
pub(super) struct ChannelLock(Mutex<()>);

impl ChannelLock {
    /// Polls `publishing` once, which makes lapin take the message; the returned future resolves when the
    /// message is written.
    pub(super) fn hand_over<F: Future>(
        &self,
        publishing: F,
    ) -> impl Future<Output = F::Output> + use<F> {
        let mut publishing = Box::pin(publishing);
        let at_once = {
            let _turn = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            (&mut publishing).now_or_never()
        };
        match at_once {
            Some(over) => Either::Left(ready(over)),
            None => Either::Right(publishing),
        }
    }
}
