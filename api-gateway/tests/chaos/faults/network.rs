//! Faults of the network to the broker or to the database.

use std::time::Duration;

use tokio::time;

use super::FaultContext;
use crate::{
    proxy::{NetworkCondition, Proxy},
    stack::Stack,
};

/// Selects the network.
pub(super) type SelectProxy = fn(&Stack) -> &Proxy;

/// Closes all connections in the middle of a frame, repeatedly.
pub(super) async fn cut_connections(context: FaultContext<'_>, select_proxy: SelectProxy) -> usize {
    let FaultContext {
        stack,
        load,
        random,
    } = context;
    for _ in 0..8 {
        load.wait_for_progress(3).await;
        random.sleep_up_to(100).await;
        select_proxy(stack).cut();
    }
    select_proxy(stack).set_condition(NetworkCondition::Normal);
    stack.wait_until_healthy().await;
    8
}

/// Delays all data by two seconds, in both directions.
pub(super) async fn slow_down(context: FaultContext<'_>, select_proxy: SelectProxy) -> usize {
    set_condition_under_load(
        context,
        select_proxy,
        NetworkCondition::Slow(Duration::from_secs(2)),
        Duration::from_secs(6),
    )
    .await
}

/// Drops all data without closing the connections.
pub(super) async fn drop_traffic(context: FaultContext<'_>, select_proxy: SelectProxy) -> usize {
    set_condition_under_load(
        context,
        select_proxy,
        NetworkCondition::DropData,
        Duration::from_secs(5),
    )
    .await
}

async fn set_condition_under_load(
    context: FaultContext<'_>,
    select_proxy: SelectProxy,
    network_condition: NetworkCondition,
    duration: Duration,
) -> usize {
    let FaultContext { stack, load, .. } = context;
    load.wait_for_progress(5).await;
    select_proxy(stack).set_condition(network_condition);
    time::sleep(duration).await;
    select_proxy(stack).set_condition(NetworkCondition::Normal);
    stack.wait_until_healthy().await;
    1
}
