//! Dedicated threads for blocking disk access. A call to an embedded database blocks its thread, and with it
//! all tasks on that thread, so the engine and the sandbox ledger each run on a thread of their own. A batch
//! that stays on one thread also benefits from CPU caches.

use std::{io, thread};

use tokio::runtime::Builder;

/// Runs `task` on a new thread called `name` until it ends.
///
/// # Errors
/// When the thread can't be created.
pub(crate) fn spawn(name: &str, task: impl Future<Output = ()> + Send + 'static) -> io::Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || runtime.block_on(task))
        .map(drop)
}
