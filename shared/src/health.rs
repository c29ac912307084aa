//! Health probe for container engines.
//!
//! The subcommand `health` of both programs requests `/readyz` of the program that runs on this machine. Its
//! exit status tells the container engine whether the program is ready.

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use anyhow::{Context, bail};

/// Timeout for the response.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(4);

/// Requests `/readyz` of the program that listens on `address` on this machine.
///
/// # Errors
/// The response of a program that is not ready, or the reason why the request failed.
pub async fn check_ready(mut address: SocketAddr) -> anyhow::Result<()> {
    match address {
        SocketAddr::V4(ipv4_address) if ipv4_address.ip().is_unspecified() => {
            address.set_ip(Ipv4Addr::LOCALHOST.into());
        }
        SocketAddr::V6(ipv6_address) if ipv6_address.ip().is_unspecified() => {
            address.set_ip(Ipv6Addr::LOCALHOST.into());
        }
        _ => {}
    }
    let client = reqwest::Client::builder()
        .timeout(RESPONSE_TIMEOUT)
        .no_proxy()
        .build()?;
    let response = client.get(format!("http://{address}/readyz")).send().await;
    let response = response.with_context(|| {
        format!("http://{address}/readyz did not respond; is the program running?")
    })?;
    let status = response.status();
    if !status.is_success() {
        bail!("not ready: {}", response.text().await.unwrap_or_default());
    }
    println!("ready");
    Ok(())
}
