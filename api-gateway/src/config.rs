//! The gateway's configuration.
//!
//! | variable | default | meaning |
//! |---|---|---|
//! | `AMQP_URL` | `amqp://guest:guest@127.0.0.1:5672/%2f` | the broker; a secret |
//! | `HTTP_ADDR` | `127.0.0.1:8080` | where to listen |
//! | `API_KEYS` | | `role[@storefront]=key;…`; a secret |
//! | `SHIPPER_WEBHOOK_SECRET` | | `whsec_…`, verifies the shipper's webhooks; a secret |
//! | `REQUEST_TIMEOUT_MS` | `5000` | for the worker's answer |

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context, bail};
use shared::config::Env;
use standardwebhooks::Webhook;

use crate::auth::Keys;

/// What the gateway needs to know.
#[derive(Clone)]
pub(crate) struct Config {
    pub(crate) amqp_url: String,
    pub(crate) http_addr: SocketAddr,
    pub(crate) keys: Keys,
    pub(crate) shipper_webhook: Option<Arc<Webhook>>,
    pub(crate) request_timeout: Duration,
}

impl Config {
    /// Reads the configuration.
    ///
    /// # Errors
    /// Names the variable that has a wrong value.
    pub(crate) fn read(env: &Env) -> anyhow::Result<Self> {
        let amqp_url = env.secret("AMQP_URL")?;
        let http_addr: SocketAddr = env.parsed("HTTP_ADDR", "127.0.0.1:8080")?;
        let keys = Keys::parse(&env.secret("API_KEYS")?.unwrap_or_default()).context("API_KEYS")?;
        if keys.is_empty() && !http_addr.ip().is_loopback() {
            bail!(
                "API_KEYS is not set: without keys HTTP_ADDR must be a loopback address, not {http_addr}"
            );
        }
        // What is asked for and not there must not be missing silently.
        env.choice("RATE_LIMIT", &[("off", ())], "off")?;
        for name in ["JWT_SECRET", "JWT_JWKS_URL"] {
            if env.secret(name)?.is_some() {
                bail!("{name}: tokens are not supported yet; use API_KEYS");
            }
        }
        Ok(Self {
            amqp_url: amqp_url
                .unwrap_or_else(|| "amqp://guest:guest@127.0.0.1:5672/%2f".to_owned()),
            http_addr,
            keys,
            shipper_webhook: env
                .secret("SHIPPER_WEBHOOK_SECRET")?
                .as_deref()
                .map(webhook)
                .transpose()?,
            request_timeout: env.millis("REQUEST_TIMEOUT_MS", 5000)?,
        })
    }
}

fn webhook(secret: &str) -> anyhow::Result<Arc<Webhook>> {
    if !secret.starts_with("whsec_") {
        bail!("SHIPPER_WEBHOOK_SECRET: must be whsec_ and base64, as Standard Webhooks has it");
    }
    Webhook::new(secret)
        .map(Arc::new)
        .context("SHIPPER_WEBHOOK_SECRET")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_keys_only_loopback_is_served() {
        let read = |address| Config::read(&Env::from_pairs([("HTTP_ADDR", address)]));
        assert!(read("127.0.0.1:0").is_ok());
        assert!(read("[::1]:0").is_ok());
        let error = read("0.0.0.0:80").err().unwrap().to_string();
        assert!(error.starts_with("API_KEYS"), "{error}");
        let env = Env::from_pairs([
            ("HTTP_ADDR", "0.0.0.0:80"),
            ("API_KEYS", "admin=a-long-key"),
        ]);
        assert!(Config::read(&env).is_ok());
    }

    #[test]
    fn a_wrong_value_names_its_variable() {
        for (name, value) in [
            ("HTTP_ADDR", "localhost"),
            ("API_KEYS", "root=a-long-key"),
            ("RATE_LIMIT", "5/s"),
            ("JWT_SECRET", "hunter2"),
            ("SHIPPER_WEBHOOK_SECRET", "hunter2"),
            ("SHIPPER_WEBHOOK_SECRET", "whsec_!"),
            ("REQUEST_TIMEOUT_MS", "soon"),
        ] {
            let error = format!(
                "{:#}",
                Config::read(&Env::from_pairs([(name, value)]))
                    .err()
                    .unwrap()
            );
            assert!(error.starts_with(name), "{error}");
        }
    }
}
