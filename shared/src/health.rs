//! Health probe of a running program, for container engines.

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use anyhow::{Context, bail};

/// Timeout for the response.
const TIMEOUT: Duration = Duration::from_secs(4);

/// Requests `/readyz` of the program that listens on `address` on this machine.
///
/// # Errors
/// The response when it is not ready, or the reason why the request failed.
pub async fn ask(mut address: SocketAddr) -> anyhow::Result<()> {
    match address {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => {
            address.set_ip(Ipv4Addr::LOCALHOST.into());
        }
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => {
            address.set_ip(Ipv6Addr::LOCALHOST.into());
        }
        _ => {}
    }
    let client = reqwest::Client::builder()
        .timeout(TIMEOUT)
        .no_proxy()
        .build()?;
    let asked = client.get(format!("http://{address}/readyz")).send().await;
    let answer = asked.with_context(|| format!("nobody answers at {address}"))?;
    let status = answer.status();
    if !status.is_success() {
        bail!("not ready: {}", answer.text().await.unwrap_or_default());
    }
    println!("ready");
    Ok(())
}
