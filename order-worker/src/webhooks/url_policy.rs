//! Policy for webhook URLs. The URL of an endpoint is client input and must not reach private addresses
//! (server-side request forgery).
//!
//! All addresses of a host name are checked, and connections are made only to checked addresses, so a name
//! that resolves differently a moment later has no effect. Redirects are not followed.
//! `WEBHOOK_ALLOW_PRIVATE=1` permits every address and plain HTTP, for tests and closed networks.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use reqwest::{
    Url,
    dns::{Addrs, Name, Resolve, Resolving},
};
use tokio::time;

/// Timeout for resolving a name.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);

/// The policy.
#[derive(Debug, Clone, Copy)]
pub struct UrlPolicy {
    /// Whether private addresses, and plain HTTP, are permitted.
    pub allow_private: bool,
}

impl UrlPolicy {
    /// Checks `url`, as far as possible without resolving its host.
    ///
    /// # Errors
    /// The reason why it is not permitted.
    pub fn check(self, url: &Url) -> Result<(), String> {
        if self.allow_private {
            return Ok(());
        }
        if url.scheme() != "https" {
            return Err("must begin with https://".to_owned());
        }
        let address = match url.host() {
            Some(url::Host::Ipv4(address)) => IpAddr::V4(address),
            Some(url::Host::Ipv6(address)) => IpAddr::V6(address),
            Some(url::Host::Domain(_)) => return Ok(()),
            None => return Err("must have a host".to_owned()),
        };
        if is_public(address) {
            Ok(())
        } else {
            Err(format!("{address} is not a public address"))
        }
    }
}

/// Resolves host names, and refuses a name with an address that is not permitted.
impl Resolve for UrlPolicy {
    fn resolve(&self, name: Name) -> Resolving {
        let policy = *self;
        Box::pin(async move {
            let host_name = name.as_str().to_owned();
            let lookup_future = time::timeout(
                LOOKUP_TIMEOUT,
                tokio::net::lookup_host((host_name.as_str(), 0)),
            );
            let found_addresses: Vec<SocketAddr> = match lookup_future.await {
                Ok(lookup_result) => lookup_result?.collect(),
                Err(_) => {
                    return Err(refused_error(format!(
                        "{host_name} could not be resolved in time"
                    )));
                }
            };
            let forbidden_address = found_addresses
                .iter()
                .find(|address| !is_public(address.ip()));
            match forbidden_address {
                Some(address) if !policy.allow_private => Err(refused_error(format!(
                    "{host_name} resolves to {}, which is not a public address",
                    address.ip()
                ))),
                _ => Ok(Box::new(found_addresses.into_iter()) as Addrs),
            }
        })
    }
}

fn refused_error(reason: String) -> Box<dyn std::error::Error + Send + Sync> {
    Box::new(io::Error::new(io::ErrorKind::PermissionDenied, reason))
}

impl UrlPolicy {
    /// The policy as the DNS resolver of an HTTP client.
    pub fn resolver(self) -> Arc<Self> {
        Arc::new(self)
    }
}

/// Whether the address is public: neither this host, nor a private network, nor in a special range
/// (<https://www.iana.org/assignments/iana-ipv4-special-registry>,
/// <https://www.iana.org/assignments/iana-ipv6-special-registry>).
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let is_special = match (a, b, c) {
        // This network, private, loopback.
        (0 | 10 | 127, _, _) => true,
        // Carrier-grade NAT (RFC 6598).
        (100, 64..=127, _) => true,
        // Link-local; includes cloud metadata services.
        (169, 254, _) => true,
        (172, 16..=31, _) | (192, 168, _) => true,
        // Protocol assignments, documentation, 6to4 relays.
        (192, 0, 0 | 2) | (192, 88, 99) => true,
        // Benchmarks, documentation.
        (198, 18 | 19, _) | (198, 51, 100) | (203, 0, 113) => true,
        // Multicast, reserved, broadcast.
        (224.., _, _) => true,
        _ => false,
    };
    !is_special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    let is_embedded_public = |high_word: u16, low_word: u16| {
        let [a, b] = high_word.to_be_bytes();
        let [c, d] = low_word.to_be_bytes();
        is_public_v4(Ipv4Addr::new(a, b, c, d))
    };
    match segments {
        // IPv4-mapped, and NAT64 (RFC 6052): the embedded address counts.
        [0, 0, 0, 0, 0, 0xffff, high_word, low_word]
        | [0x64, 0xff9b, 0, 0, 0, 0, high_word, low_word] => {
            is_embedded_public(high_word, low_word)
        }
        // 6to4 (RFC 3056).
        [0x2002, high_word, low_word, ..] => is_embedded_public(high_word, low_word),
        // Protocol assignments with Teredo, documentation.
        [0x2001, 0..=0x1ff | 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => false,
        // Otherwise only global unicast is public.
        [0x2000..=0x3fff, ..] => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_internet_addresses_are_public() {
        for public_address in [
            "1.1.1.1",
            "8.8.8.8",
            "100.63.0.1",
            "172.32.0.1",
            "2606:4700::1111",
            "::ffff:1.1.1.1",
            "64:ff9b::1.1.1.1",
            "2002:101:101::1",
        ] {
            assert!(
                is_public(public_address.parse().unwrap()),
                "{public_address}"
            );
        }
        for private_address in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "127.0.0.1",
            "127.255.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "192.0.0.8",
            "192.0.2.1",
            "198.18.0.1",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::127.0.0.1",
            "64:ff9b::10.0.0.1",
            "64:ff9b:1::1",
            "2002:7f00:1::1",
            "2001::1",
            "2001:db8::1",
            "3fff::1",
            "fc00::1",
            "fd12:3456::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "100::1",
        ] {
            assert!(
                !is_public(private_address.parse().unwrap()),
                "{private_address}"
            );
        }
    }

    #[test]
    fn urls_with_private_addresses_or_without_tls_are_refused() {
        let policy = UrlPolicy {
            allow_private: false,
        };
        let check_url = |url: &str| policy.check(&url.parse().unwrap());
        assert!(check_url("https://example.com/hook").is_ok());
        for invalid_url in [
            "http://example.com",
            "https://127.0.0.1",
            // URLs may spell an address in several ways; all of them are recognized.
            "https://2130706433",
            "https://0x7f.1",
            "https://0177.0.0.1",
            "https://[::1]",
            "https://[::ffff:7f00:1]",
            "https://169.254.169.254/latest/meta-data",
        ] {
            assert!(check_url(invalid_url).is_err(), "{invalid_url}");
        }
        let lenient_policy = UrlPolicy {
            allow_private: true,
        };
        assert!(
            lenient_policy
                .check(&"http://127.0.0.1".parse().unwrap())
                .is_ok()
        );
    }

    #[tokio::test]
    async fn host_names_with_private_addresses_are_refused() {
        let policy = UrlPolicy {
            allow_private: false,
        };
        let resolve = |policy: UrlPolicy| policy.resolve("localhost".parse().unwrap());
        let refused_error = resolve(policy).await.err().unwrap();
        assert!(refused_error.to_string().contains("not a public address"));
        let lenient_policy = UrlPolicy {
            allow_private: true,
        };
        assert!(resolve(lenient_policy).await.is_ok());
    }
}
