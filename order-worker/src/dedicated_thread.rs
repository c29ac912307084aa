//! A thread of its own for what waits for a disk: an embedded database answers within the call, and
//! whoever shares a thread with that call waits as well. Staying on one thread also keeps what a
//! batch makes and forgets near where it was made.

use std::{io, thread};

use tokio::runtime::Builder;

/// Runs `task` on a thread called `name` until it ends.
///
/// # Errors
/// When there can be no more threads.
pub(crate) fn spawn(name: &str, task: impl Future<Output = ()> + Send + 'static) -> io::Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || runtime.block_on(task))
        .map(drop)
}
