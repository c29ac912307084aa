//! Dying on purpose, so that tests can kill the worker between any two effects. Only debug builds
//! can; in release builds a [`point`] is nothing.

/// Between which effects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point {
    /// A batch is decided and written, but not committed.
    BeforeCommit,
    /// It is committed, but nobody was told.
    AfterCommit,
    /// The caller has its reply, but the request is not acknowledged.
    AfterReply,
    /// Steps are sent; nothing more.
    AfterStepSent,
    /// A partner did what it was asked, but its answer is not stored.
    AfterPartner,
    /// A step's result is stored, but its message is not acknowledged.
    AfterStepStored,
    /// Events are published, but how far is not stored.
    AfterEventsPublished,
    /// A dead letter is archived, but its message is not acknowledged.
    AfterArchived,
    /// A dead letter is sent again, but still archived.
    AfterRedriven,
}

impl Point {
    /// Every point.
    pub const ALL: [Self; 9] = [
        Self::BeforeCommit,
        Self::AfterCommit,
        Self::AfterReply,
        Self::AfterStepSent,
        Self::AfterPartner,
        Self::AfterStepStored,
        Self::AfterEventsPublished,
        Self::AfterArchived,
        Self::AfterRedriven,
    ];

    /// What `CRASH_AT` calls it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BeforeCommit => "before_commit",
            Self::AfterCommit => "after_commit",
            Self::AfterReply => "after_reply",
            Self::AfterStepSent => "after_step_sent",
            Self::AfterPartner => "after_partner",
            Self::AfterStepStored => "after_step_stored",
            Self::AfterEventsPublished => "after_events_published",
            Self::AfterArchived => "after_archived",
            Self::AfterRedriven => "after_redriven",
        }
    }
}

/// Dies here, as by kill -9, if `CRASH_AT` (`POINT` or `POINT:N` for its Nth time) says so.
#[cfg(debug_assertions)]
pub fn point(here: Point) {
    use std::sync::{
        LazyLock,
        atomic::{AtomicU32, Ordering},
    };

    static PLAN: LazyLock<Option<(String, AtomicU32)>> = LazyLock::new(|| {
        let plan = std::env::var("CRASH_AT").ok()?;
        let (name, times) = plan.split_once(':').unwrap_or((&plan, "1"));
        Some((name.to_owned(), AtomicU32::new(times.parse().unwrap_or(1))))
    });
    if let Some((name, times)) = &*PLAN
        && name == here.as_str()
        && times.fetch_sub(1, Ordering::SeqCst) == 1
    {
        eprintln!("order-worker: dies {name}, as CRASH_AT says");
        std::process::abort();
    }
}

/// Nothing.
#[cfg(not(debug_assertions))]
pub fn point(_: Point) {}
