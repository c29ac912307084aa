//! Operations on a channel that end when the channel closes.

use std::time::Duration;

use lapin::Channel;
use tokio::time;

/// Interval between checks of the channel.
const CHECK_INTERVAL: Duration = Duration::from_millis(50);

/// The result of `channel_operation`, or `None` when the channel closes: lapin never completes an operation whose
/// reply it can't decode. Any other loss of the connection is an error of the operation.
pub(super) async fn unless_closed<T>(
    channel: &Channel,
    channel_operation: impl Future<Output = T>,
) -> Option<T> {
    let channel_closed = async {
        while channel.status().connected() {
            time::sleep(CHECK_INTERVAL).await;
        }
    };
    tokio::select! {
        biased;
        result = channel_operation => Some(result),
        () = channel_closed => None,
    }
}
