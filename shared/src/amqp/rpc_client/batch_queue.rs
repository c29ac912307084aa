//! Groups queued calls into messages.
//!
//! A limited number of messages is in flight; calls that arrive meanwhile are collected into the next
//! message. No timer delays a call: if a permit is free, the call is sent at once, together with the other
//! calls queued at that moment. [`super::sending`] takes the batches.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::{sync::Notify, task};

/// Maximum number of messages in flight: the message being processed, and the next one. With one, the worker
/// would idle in between; with more, each message would carry fewer requests, and the broker's cost is per
/// message.
const MAX_MESSAGES_IN_FLIGHT: usize = 2;
/// While fewer requests than this are in flight, another message may be sent: with few requests, the broker has time
/// for small messages, and a request that waits for a permit only waits.
const FEW_REQUESTS_IN_FLIGHT: usize = 8;
/// Maximum number of requests per message: the size of the worker's largest batch.
const MAX_BATCH_REQUESTS: usize = 256;
/// A message of at least this many bytes accepts no more requests.
const MAX_BATCH_BYTES: usize = 256 * 1024;

/// The size of a queued item.
pub(super) trait ByteSize {
    /// The number of bytes that the item adds to a message.
    fn bytes(&self) -> usize;
}

/// The queue of calls to send.
pub(super) struct BatchQueue<T> {
    state: Mutex<BatchQueueState<T>>,
    /// Signals that items may be queued and a permit may be free.
    ready_notify: Notify,
}

struct BatchQueueState<T> {
    messages_in_flight: usize,
    requests_in_flight: usize,
    queued_items: VecDeque<T>,
}

/// Permission to have one message in flight. Released with the message's first reply, when all its calls
/// have ended, or after `PERMIT_TIMEOUT` of [`super::sending`].
pub(super) struct Permit<T> {
    queue: Arc<BatchQueue<T>>,
    request_count: usize,
    is_released: AtomicBool,
}

impl<T: ByteSize> BatchQueue<T> {
    pub(super) fn new() -> Arc<Self> {
        let state = BatchQueueState {
            messages_in_flight: 0,
            requests_in_flight: 0,
            queued_items: VecDeque::new(),
        };
        Arc::new(Self {
            state: Mutex::new(state),
            ready_notify: Notify::new(),
        })
    }

    /// Adds `item` to the queue.
    pub(super) fn push(&self, item: T) {
        let mut state = self.state();
        state.queued_items.push_back(item);
        if state.may_send() {
            self.ready_notify.notify_one();
        }
    }

    /// Waits for queued items and a free permit; returns the next message's items and the permit. Only one
    /// task may call this at a time.
    pub(super) async fn next(self: &Arc<Self>) -> (Vec<T>, Arc<Permit<T>>) {
        loop {
            self.ready_notify.notified().await;
            // Lets other tasks that are ready now queue their calls first.
            task::yield_now().await;
            if let Some((batch, can_send_more)) = self.take_batch() {
                if can_send_more {
                    self.ready_notify.notify_one();
                }
                let permit = self.permit(batch.len());
                return (batch, permit);
            }
        }
    }

    /// Takes the next message's items, and whether another message can follow at once; `None` if no permit is
    /// free or no item is queued.
    fn take_batch(&self) -> Option<(Vec<T>, bool)> {
        let mut state = self.state();
        if !state.may_send() || state.queued_items.is_empty() {
            return None;
        }
        let mut batch_bytes = 0;
        let is_within_limits = |item: &T| {
            let is_within_limits = batch_bytes < MAX_BATCH_BYTES;
            batch_bytes += item.bytes();
            is_within_limits
        };
        let next_items = state.queued_items.iter().take(MAX_BATCH_REQUESTS);
        let batch_length = next_items
            .map(is_within_limits)
            .take_while(|is_within_limits| *is_within_limits)
            .count();
        let batch = state.queued_items.drain(..batch_length).collect();
        state.messages_in_flight += 1;
        state.requests_in_flight += batch_length;
        let can_send_more = state.may_send() && !state.queued_items.is_empty();
        Some((batch, can_send_more))
    }

    fn permit(self: &Arc<Self>, request_count: usize) -> Arc<Permit<T>> {
        Arc::new(Permit {
            queue: Arc::clone(self),
            request_count,
            is_released: AtomicBool::new(false),
        })
    }

    fn state(&self) -> MutexGuard<'_, BatchQueueState<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> BatchQueueState<T> {
    fn may_send(&self) -> bool {
        self.messages_in_flight < MAX_MESSAGES_IN_FLIGHT
            || self.requests_in_flight < FEW_REQUESTS_IN_FLIGHT
    }
}

impl<T> Permit<T> {
    /// Releases the permit.
    pub(super) fn release(&self) {
        if self.is_released.swap(true, Ordering::AcqRel) {
            return;
        }
        let mut state = self
            .queue
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        state.messages_in_flight -= 1;
        state.requests_in_flight -= self.request_count;
        if !state.queued_items.is_empty() {
            self.queue.ready_notify.notify_one();
        }
    }
}

impl<T> Drop for Permit<T> {
    fn drop(&mut self) {
        self.release();
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
        let queue = BatchQueue::new();
        let mut permits = Vec::new();
        for message_number in 1..=MAX_MESSAGES_IN_FLIGHT {
            let count = FEW_REQUESTS_IN_FLIGHT + message_number;
            for _ in 0..count {
                queue.push(Item(1));
            }
            let (batch, permit) = queue.next().await;
            assert_eq!(batch.len(), count);
            permits.push(permit);
        }
        for _ in 0..=MAX_BATCH_REQUESTS {
            queue.push(Item(1));
        }
        assert!(queue.take_batch().is_none());
        // Releasing a permit twice frees one permit.
        let first_permit = permits.remove(0);
        first_permit.release();
        drop(first_permit);
        let (batch, _permit) = queue.next().await;
        assert_eq!(batch.len(), MAX_BATCH_REQUESTS);
        assert!(queue.take_batch().is_none());
        drop(permits);
        assert_eq!(queue.next().await.0.len(), 1);
    }

    #[tokio::test]
    async fn few_requests_do_not_wait_for_each_other() {
        let queue = BatchQueue::new();
        let mut permits = Vec::new();
        for _ in 0..FEW_REQUESTS_IN_FLIGHT {
            queue.push(Item(1));
            permits.push(queue.next().await.1);
        }
        queue.push(Item(1));
        assert!(queue.take_batch().is_none());
        permits.pop();
        assert_eq!(queue.next().await.0.len(), 1);
    }

    #[tokio::test]
    async fn batch_is_limited_in_bytes_but_accepts_any_single_request() {
        let queue = BatchQueue::new();
        for bytes in [
            MAX_BATCH_BYTES - 1,
            3 * MAX_BATCH_BYTES,
            1,
            2 * MAX_BATCH_BYTES,
        ] {
            queue.push(Item(bytes));
        }
        let first_batch = queue.next().await;
        let second_batch = queue.next().await;
        assert_eq!((first_batch.0.len(), second_batch.0.len()), (2, 2));
    }
}
