//! Crash points: places between two effects, such as a commit and its reply, at which tests kill the worker
//! with `CRASH_AT`. They prove that the next worker continues without losing or repeating anything. In
//! release builds a [`crash_at`] does nothing.

/// A place at which the process can be killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point {
    /// A batch is decided and written, but not committed.
    BeforeCommit,
    /// A batch is committed, but no reply was sent.
    AfterCommit,
    /// The reply is sent, but the request is not acknowledged.
    AfterReply,
    /// Step messages are sent.
    AfterStepSent,
    /// A payment provider or carrier performed a step, but its result is not stored.
    AfterProviderResponse,
    /// A step's result is stored, but its message is not acknowledged.
    AfterStepStored,
    /// Events are published, but the relay's position is not stored.
    AfterEventsPublished,
    /// Messages to customers are created, but none is sent.
    AfterMessagesCreated,
    /// A mail server accepted a message, but that is not stored.
    AfterMessageSent,
    /// A dead letter is archived, but its message is not acknowledged.
    AfterArchived,
    /// A dead letter is published again, but still archived.
    AfterRedriven,
}

impl Point {
    /// All points.
    pub const ALL: [Self; 11] = [
        Self::BeforeCommit,
        Self::AfterCommit,
        Self::AfterReply,
        Self::AfterStepSent,
        Self::AfterProviderResponse,
        Self::AfterStepStored,
        Self::AfterEventsPublished,
        Self::AfterMessagesCreated,
        Self::AfterMessageSent,
        Self::AfterArchived,
        Self::AfterRedriven,
    ];

    /// Name in `CRASH_AT`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BeforeCommit => "before_commit",
            Self::AfterCommit => "after_commit",
            Self::AfterReply => "after_reply",
            Self::AfterStepSent => "after_step_sent",
            Self::AfterProviderResponse => "after_partner",
            Self::AfterStepStored => "after_step_stored",
            Self::AfterEventsPublished => "after_events_published",
            Self::AfterMessagesCreated => "after_messages_created",
            Self::AfterMessageSent => "after_message_sent",
            Self::AfterArchived => "after_archived",
            Self::AfterRedriven => "after_redriven",
        }
    }
}

/// Aborts the process, as `kill -9` would, if `CRASH_AT` names this point: `POINT`, or `POINT:N` for the Nth
/// time it is reached.
#[cfg(debug_assertions)]
pub fn crash_at(reached_point: Point) {
    use std::sync::{
        LazyLock,
        atomic::{AtomicU32, Ordering},
    };

    static CRASH_PLAN: LazyLock<Option<(String, AtomicU32)>> = LazyLock::new(|| {
        let plan_text = std::env::var("CRASH_AT").ok()?;
        let (point_name, times_text) = plan_text.split_once(':').unwrap_or((&plan_text, "1"));
        Some((
            point_name.to_owned(),
            AtomicU32::new(times_text.parse().unwrap_or(1)),
        ))
    });
    if let Some((point_name, remaining_times)) = &*CRASH_PLAN
        && point_name == reached_point.as_str()
        && remaining_times.fetch_sub(1, Ordering::SeqCst) == 1
    {
        eprintln!("order-worker: aborts at {point_name}, as CRASH_AT says");
        std::process::abort();
    }
}

/// Does nothing.
#[cfg(not(debug_assertions))]
pub fn crash_at(_: Point) {}
