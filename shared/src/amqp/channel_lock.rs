//! Handing messages over to lapin, one after the other.
//!
//! lapin counts a message for its confirm and takes it in two steps, so two tasks at once on one channel
//! could each be told what became of the other's. And it says when a message is written: whoever waits
//! for that before handing over the next has two threads wake each other for every message.

use std::sync::{Mutex, PoisonError};

use futures_util::{
    FutureExt,
    future::{Either, ready},
};

/// Whose turn it is on a channel.
#[derive(Default)]
pub(super) struct ChannelLock(Mutex<()>);

impl ChannelLock {
    /// Has lapin take now what `publishing` publishes, which is what it does when it is polled for the
    /// first time; what comes back is over when that is written.
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
