//! Checkpoints of the write-ahead log: copies its pages into the database file, on a thread of its own, while the
//! writer goes on committing.
//!
//! SQLite would checkpoint within a commit, which then takes tens of milliseconds. The log only starts again from its
//! beginning when all of its pages are copied, so the writer copies the few pages itself that were written during
//! a checkpoint. If the thread falls behind, the writer waits for it.

use std::{
    cell::Cell,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{self, SyncSender, TrySendError},
    },
    thread::{self, JoinHandle},
};

use rusqlite::Connection as Raw;

/// Number of pages, 47 MiB, to copy from which on a checkpoint begins. A page that many commits change is copied once,
/// so fewer checkpoints copy fewer pages.
const CHECKPOINT_PAGES: i64 = 12_000;
/// Number of pages, 188 MiB, to copy at which the writer waits for the thread, and size of the log from which on
/// the writer keeps it copied, so that it starts again as soon as no reader needs it.
const MAX_PAGES: i64 = 48_000;
/// Number of pages to copy at which the writer copies them in a log of that size.
const PAGES_OF_LARGE_LOG: i64 = 100;
const CHECKPOINT_SQL: &str = "PRAGMA wal_checkpoint(PASSIVE)";

thread_local! {
    /// Size of the log, in pages, after the last commit on this thread.
    static LOG_PAGES: Cell<Option<i64>> = const { Cell::new(None) };
}

/// Checkpoints the log of a writing connection.
pub(super) struct Checkpointer {
    start_sender: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
    state: Arc<Mutex<CheckpointState>>,
    /// Held during a checkpoint of the thread.
    running: Arc<Mutex<()>>,
}

#[derive(Debug, Default)]
struct CheckpointState {
    is_running: bool,
    /// Size of the log, in pages, after the last commit.
    log_pages: i64,
    /// Number of pages, from the beginning of the log, that are copied.
    copied_pages: i64,
    /// Whether the thread has ended a checkpoint whose rest the writer copies.
    has_rest: bool,
    /// After a failed checkpoint, the size of the log at which the next one begins.
    next_attempt_pages: i64,
}

/// The checkpoint that is due after a commit.
#[derive(Debug, PartialEq, Eq)]
enum DueCheckpoint {
    Nothing,
    /// The thread copies the log.
    OnThread,
    /// The writer copies the rest.
    ByWriter,
}

impl Checkpointer {
    /// Starts checkpoints of `writer`, a connection to the file at `path`, instead of those within its commits.
    ///
    /// # Errors
    /// When the thread can't be started or can't open the file.
    pub(super) fn start(writer: &Raw, path: &Path) -> anyhow::Result<Self> {
        let connection = Raw::open(path)?;
        let state = Arc::new(Mutex::new(CheckpointState::default()));
        let running = Arc::new(Mutex::new(()));
        let (start_sender, start_receiver) = mpsc::sync_channel(1);
        let (thread_state, thread_running) = (Arc::clone(&state), Arc::clone(&running));
        let thread = thread::Builder::new()
            .name("checkpoint".to_owned())
            .spawn(move || {
                while start_receiver.recv().is_ok() {
                    let _running = lock(&thread_running);
                    let checkpoint_result = checkpoint(&connection);
                    lock(&thread_state).record(&checkpoint_result, true);
                }
            })?;
        writer.wal_hook(Some(|_, log_pages| {
            LOG_PAGES.set(Some(log_pages.into()));
            Ok(())
        }));
        Ok(Self {
            start_sender: Some(start_sender),
            thread: Some(thread),
            state,
            running,
        })
    }

    /// Starts or completes a checkpoint if the last commit on this thread made one due.
    pub(super) fn after_commit(&self, writer: &Raw) {
        let Some(log_pages) = LOG_PAGES.take() else {
            return;
        };
        let due_checkpoint = lock(&self.state).due_checkpoint(log_pages);
        match due_checkpoint {
            DueCheckpoint::Nothing => {}
            DueCheckpoint::OnThread => {
                let start_result = self
                    .start_sender
                    .as_ref()
                    .map(|start_sender| start_sender.try_send(()));
                if let Some(Err(TrySendError::Disconnected(()))) = start_result {
                    tracing::error!(
                        "the thread for checkpoints of the database has ended; commits make them"
                    );
                    self.checkpoint_by_writer(writer);
                }
            }
            DueCheckpoint::ByWriter => self.checkpoint_by_writer(writer),
        }
    }

    fn checkpoint_by_writer(&self, writer: &Raw) {
        let _running = lock(&self.running);
        let checkpoint_result = checkpoint(writer);
        lock(&self.state).record(&checkpoint_result, false);
    }
}

impl Drop for Checkpointer {
    /// Waits for the end of a running checkpoint.
    fn drop(&mut self) {
        self.start_sender = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl CheckpointState {
    fn record(&mut self, checkpoint_result: &rusqlite::Result<i64>, is_on_thread: bool) {
        self.is_running = false;
        self.has_rest = is_on_thread && checkpoint_result.is_ok();
        match checkpoint_result {
            Ok(copied_pages) => self.copied_pages = *copied_pages,
            Err(error) => {
                tracing::warn!(%error, "a checkpoint of the database failed; it is repeated");
                self.next_attempt_pages = self.log_pages + CHECKPOINT_PAGES;
            }
        }
    }

    fn due_checkpoint(&mut self, log_pages: i64) -> DueCheckpoint {
        if log_pages < self.log_pages {
            // The log has started again.
            (self.copied_pages, self.has_rest, self.next_attempt_pages) = (0, false, 0);
        }
        self.log_pages = log_pages;
        let remaining_pages = log_pages - self.copied_pages;
        if log_pages < self.next_attempt_pages {
            DueCheckpoint::Nothing
        } else if remaining_pages >= MAX_PAGES
            || !self.is_running
                && (self.has_rest
                    || log_pages >= MAX_PAGES && remaining_pages >= PAGES_OF_LARGE_LOG)
        {
            self.has_rest = false;
            DueCheckpoint::ByWriter
        } else if !self.is_running && remaining_pages >= CHECKPOINT_PAGES {
            self.is_running = true;
            DueCheckpoint::OnThread
        } else {
            DueCheckpoint::Nothing
        }
    }
}

/// Copies the pages of the log as far as no reader needs the old ones; returns the number of copied pages from the
/// beginning of the log.
fn checkpoint(connection: &Raw) -> rusqlite::Result<i64> {
    connection.query_one(CHECKPOINT_SQL, [], |row| row.get(2))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writer_copies_the_rest_after_the_thread() {
        let mut state = CheckpointState::default();
        assert_eq!(
            state.due_checkpoint(CHECKPOINT_PAGES - 1),
            DueCheckpoint::Nothing
        );
        assert_eq!(
            state.due_checkpoint(CHECKPOINT_PAGES),
            DueCheckpoint::OnThread
        );
        assert_eq!(
            state.due_checkpoint(CHECKPOINT_PAGES + 10),
            DueCheckpoint::Nothing
        );
        state.record(&Ok(CHECKPOINT_PAGES), true);
        assert_eq!(
            state.due_checkpoint(CHECKPOINT_PAGES + 20),
            DueCheckpoint::ByWriter
        );
        state.record(&Ok(CHECKPOINT_PAGES + 20), false);
        // A reader needs the log: it grows, and is copied again after as many pages.
        assert_eq!(
            state.due_checkpoint(CHECKPOINT_PAGES + 30),
            DueCheckpoint::Nothing
        );
        assert_eq!(
            state.due_checkpoint(2 * CHECKPOINT_PAGES + 20),
            DueCheckpoint::OnThread
        );
    }

    #[test]
    fn large_log_is_kept_copied_until_no_reader_needs_it() {
        let mut state = CheckpointState {
            copied_pages: MAX_PAGES - 1,
            ..CheckpointState::default()
        };
        assert_eq!(state.due_checkpoint(MAX_PAGES), DueCheckpoint::Nothing);
        let log_pages = MAX_PAGES - 1 + PAGES_OF_LARGE_LOG;
        assert_eq!(state.due_checkpoint(log_pages), DueCheckpoint::ByWriter);
        state.record(&Ok(log_pages), false);
        assert_eq!(state.due_checkpoint(log_pages + 1), DueCheckpoint::Nothing);
        // The log starts again.
        assert_eq!(
            state.due_checkpoint(PAGES_OF_LARGE_LOG),
            DueCheckpoint::Nothing
        );
    }

    #[test]
    fn failed_checkpoint_is_repeated_after_as_many_pages() {
        let mut state = CheckpointState::default();
        assert_eq!(
            state.due_checkpoint(CHECKPOINT_PAGES),
            DueCheckpoint::OnThread
        );
        state.record(&Err(rusqlite::Error::InvalidQuery), true);
        assert_eq!(
            state.due_checkpoint(CHECKPOINT_PAGES + 1),
            DueCheckpoint::Nothing
        );
        assert_eq!(
            state.due_checkpoint(2 * CHECKPOINT_PAGES),
            DueCheckpoint::OnThread
        );
    }

    #[test]
    fn writer_waits_for_a_thread_that_falls_behind() {
        let mut state = CheckpointState::default();
        assert_eq!(
            state.due_checkpoint(CHECKPOINT_PAGES),
            DueCheckpoint::OnThread
        );
        assert_eq!(state.due_checkpoint(MAX_PAGES - 1), DueCheckpoint::Nothing);
        assert_eq!(state.due_checkpoint(MAX_PAGES), DueCheckpoint::ByWriter);
    }

    #[test]
    fn log_starts_again_while_the_writer_commits() {
        let file_name = format!("checkpointer-{}.db", uuid::Uuid::now_v7());
        let path = std::env::temp_dir().join(file_name);
        let writer = crate::store::sqlite::open_writer(&path).unwrap();
        let checkpointer = Checkpointer::start(&writer, &path).unwrap();
        writer.execute_batch("CREATE TABLE t (a)").unwrap();
        let mut log_pages = Vec::new();
        for _ in 0..60 {
            writer
                .execute_batch("BEGIN; WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500)
                                INSERT INTO t SELECT zeroblob(4000) FROM n; COMMIT")
                .unwrap();
            log_pages.extend(LOG_PAGES.get());
            checkpointer.after_commit(&writer);
        }
        assert!(log_pages.iter().any(|pages| *pages >= CHECKPOINT_PAGES));
        assert!(*log_pages.iter().max().unwrap() < MAX_PAGES + CHECKPOINT_PAGES);
        drop(checkpointer);
        let row_count: i64 = writer
            .query_one("SELECT count(*) FROM t", [], |row| row.get(0))
            .unwrap();
        assert_eq!(row_count, 60 * 500);
        writer.close().unwrap();
        std::fs::remove_file(path).unwrap();
    }
}
