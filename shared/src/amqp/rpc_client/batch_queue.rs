//! Groups queued calls into messages. A limited number of messages is in flight; calls that arrive meanwhile are
//! collected into the next message. No timer delays a call: if a permit is free, the call is sent at once,
//! together with those queued at the same moment.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::{sync::Notify, task};

/// Messages in flight: one being answered, and the next. With one, the worker would idle in between; with more,
/// each message would carry fewer requests, and the broker's cost is per message.
const WINDOW: usize = 2;
/// Maximum requests per message: the size of the worker's largest batch.
const MAX_REQUESTS: usize = 256;
/// A message of at least this many bytes accepts no more requests.
const MAX_BYTES: usize = 256 * 1024;

/// The size of a queued item.
pub(super) trait ByteSize {
    /// Bytes that the item adds to a message.
    fn bytes(&self) -> usize;
}

/// The queue of calls to send.
pub(super) struct BatchQueue<T> {
    state: Mutex<State<T>>,
    /// Signals that a permit may be free.
    news: Notify,
}

struct State<T> {
    under_way: usize,
    waiting: VecDeque<T>,
}

/// Permission to have one message in flight. Released with the message's first reply, or when all its calls have
/// ended.
pub(super) struct Permit<T> {
    line: Arc<BatchQueue<T>>,
    is_free: AtomicBool,
}

impl<T: ByteSize> BatchQueue<T> {
    pub(super) fn new() -> Arc<Self> {
        let state = State {
            under_way: 0,
            waiting: VecDeque::new(),
        };
        Arc::new(Self {
            state: Mutex::new(state),
            news: Notify::new(),
        })
    }

    /// Adds `item` to the queue.
    pub(super) fn enter(&self, item: T) {
        let mut state = self.state();
        state.waiting.push_back(item);
        if state.under_way < WINDOW {
            self.news.notify_one();
        }
    }

    /// Waits for queued items and a free permit, and returns the next message's items. Only one task may wait at
    /// a time.
    pub(super) async fn next(self: &Arc<Self>) -> (Vec<T>, Arc<Permit<T>>) {
        loop {
            self.news.notified().await;
            // Lets other tasks that are ready now queue their calls first.
            task::yield_now().await;
            if let Some((batch, goes_on)) = self.take() {
                if goes_on {
                    self.news.notify_one();
                }
                return (batch, self.place());
            }
        }
    }

    /// Takes the next message's items; the flag tells whether another message can follow at once.
    fn take(&self) -> Option<(Vec<T>, bool)> {
        let mut state = self.state();
        if state.under_way == WINDOW || state.waiting.is_empty() {
            return None;
        }
        state.under_way += 1;
        let mut bytes = 0;
        let fits = |item: &T| {
            let fits = bytes < MAX_BYTES;
            bytes += item.bytes();
            fits
        };
        let waiting = state.waiting.iter().take(MAX_REQUESTS);
        let count = waiting.map(fits).take_while(|fits| *fits).count();
        let batch = state.waiting.drain(..count).collect();
        let goes_on = state.under_way < WINDOW && !state.waiting.is_empty();
        Some((batch, goes_on))
    }

    fn place(self: &Arc<Self>) -> Arc<Permit<T>> {
        Arc::new(Permit {
            line: Arc::clone(self),
            is_free: AtomicBool::new(false),
        })
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Permit<T> {
    /// Releases the permit.
    pub(super) fn free(&self) {
        if self.is_free.swap(true, Ordering::AcqRel) {
            return;
        }
        let mut state = self
            .line
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        state.under_way -= 1;
        if !state.waiting.is_empty() {
            self.line.news.notify_one();
        }
    }
}

impl<T> Drop for Permit<T> {
    fn drop(&mut self) {
        self.free();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Item(usize);

    impl ByteSize for Item {
        fn bytes(&self) -> usize {
            self.0
        }
    }

    #[tokio::test]
    async fn concurrent_requests_are_batched_and_messages_in_flight_limited() {
        let line = BatchQueue::new();
        let mut places = Vec::new();
        for count in 1..=WINDOW {
            for _ in 0..count {
                line.enter(Item(1));
            }
            let (batch, place) = line.next().await;
            assert_eq!(batch.len(), count);
            places.push(place);
        }
        for _ in 0..=MAX_REQUESTS {
            line.enter(Item(1));
        }
        assert!(line.take().is_none());
        // Releasing a permit twice frees one permit.
        let first = places.remove(0);
        first.free();
        drop(first);
        let (batch, _place) = line.next().await;
        assert_eq!(batch.len(), MAX_REQUESTS);
        assert!(line.take().is_none());
        drop(places);
        assert_eq!(line.next().await.0.len(), 1);
    }

    #[tokio::test]
    async fn batch_is_limited_in_bytes_but_accepts_any_single_request() {
        let line = BatchQueue::new();
        for bytes in [MAX_BYTES - 1, 3 * MAX_BYTES, 1, 2 * MAX_BYTES] {
            line.enter(Item(bytes));
        }
        let first = line.next().await;
        let second = line.next().await;
        assert_eq!((first.0.len(), second.0.len()), (2, 2));
    }
}
