//! Faults of the network to the broker or to the database.

use std::time::Duration;

use tokio::time;

use super::Scene;
use crate::{
    proxy::{Proxy, Weather},
    stack::Stack,
};

/// Selects the network.
pub(super) type Of = fn(&Stack) -> &Proxy;

/// Closes all connections in the middle of a frame, repeatedly.
pub(super) async fn cut(scene: Scene<'_>, of: Of) -> usize {
    let Scene {
        stack,
        load,
        random,
    } = scene;
    for _ in 0..8 {
        load.progress(3).await;
        random.moment(100).await;
        of(stack).cut();
    }
    of(stack).set(Weather::Fine);
    stack.healthy().await;
    8
}

/// Delays all data by two seconds, in both directions.
pub(super) async fn slow(scene: Scene<'_>, of: Of) -> usize {
    disturb(
        scene,
        of,
        Weather::Slow(Duration::from_secs(2)),
        Duration::from_secs(6),
    )
    .await
}

/// Drops all data without closing the connections.
pub(super) async fn silent(scene: Scene<'_>, of: Of) -> usize {
    disturb(scene, of, Weather::Silent, Duration::from_secs(5)).await
}

async fn disturb(scene: Scene<'_>, of: Of, weather: Weather, duration: Duration) -> usize {
    let Scene { stack, load, .. } = scene;
    load.progress(5).await;
    of(stack).set(weather);
    time::sleep(duration).await;
    of(stack).set(Weather::Fine);
    stack.healthy().await;
    1
}
