//! The worker's configuration: reads and checks the environment variables below, beside those that [both
//! programs](shared::config) read. An invalid value is an error that names the variable; secrets are never
//! printed.
//!
#![doc = include_str!("environment.md")]

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use anyhow::{Context, bail};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use jiff::SignedDuration;
use reqwest::Url;
use shared::{
    amqp::topology::RequestQueueType,
    config::Env,
    settings::{self, Setting},
};

use crate::{
    background::{housekeeping::Retention, jobs::Source},
    domain::decide::Rules,
    mail,
    providers::{
        self, http_carrier,
        sandbox::payment,
        stripe::{self, Settings},
    },
    store::{
        self,
        secret_cipher::{KEY_BYTES, SecretCipher},
    },
    webhooks::url_policy::UrlPolicy,
};

/// The environment variables, as a Markdown table.
pub const ENVIRONMENT: &str = include_str!("environment.md");

/// Default of `AMQP_URL`.
pub const DEFAULT_AMQP_URL: &str = "amqp://guest:guest@127.0.0.1:5672/%2f";
/// Default of `DATABASE_URL`.
pub const DEFAULT_DATABASE_URL: &str = "sqlite://data/orders.db";

/// The worker's configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// URL of the broker.
    pub amqp_url: String,
    /// Type of the request queue.
    pub request_queue: RequestQueueType,
    /// URL of the database.
    pub database_url: String,
    /// URL of a read replica, for reads by clients; `None`: they use the database itself.
    pub database_read_url: Option<String>,
    /// Address of the health and metrics endpoints.
    pub http_addr: SocketAddr,
    /// Webhook of the sandbox carrier, which delivers shipments by itself; `None` unless `CARRIER=sandbox`.
    pub sandbox_delivery: Option<SandboxDelivery>,
    /// Access to the carrier over HTTP, if configured; labels that it created need it for their cancellation
    /// even if new ones are created by another carrier.
    pub http_carrier: Option<http_carrier::Settings>,
    /// Access to Stripe, if configured; existing Stripe payments need it even if new orders use another
    /// provider.
    pub stripe: Option<Settings>,
    /// External list of stock levels.
    pub stock_source: Option<Source>,
    /// External list of orders to import.
    pub import_source: Option<Source>,
    /// Messages to customers, if they are switched on.
    pub mail: Option<mail::settings::Settings>,
    /// Policy for webhook URLs.
    pub webhooks: UrlPolicy,
    /// Business rules.
    pub rules: Rules,
    /// Encrypts webhook secrets.
    pub cipher: Arc<SecretCipher>,
    /// Retention periods.
    pub retention: Retention,
    /// Effective values of the environment variables, without secrets.
    pub settings: Vec<Setting>,
    /// Whether `POST /demo/reset` is enabled.
    pub demo: bool,
    /// Whether the debug API is enabled.
    pub debug: bool,
}

/// Settings for the webhook calls of the sandbox carrier.
#[derive(Debug, Clone)]
pub struct SandboxDelivery {
    /// URL of the gateway's webhook.
    pub webhook_url: String,
    /// Secret that signs the calls: `whsec_…`.
    pub webhook_secret: String,
}

impl Config {
    /// Reads the configuration.
    ///
    /// # Errors
    /// Names the variable that has an invalid value.
    pub fn read(env: &Env) -> anyhow::Result<Self> {
        let needs_approval = env.choice(
            "ORDER_APPROVAL",
            &[("auto", false), ("manual", true)],
            "auto",
        )?;
        let (payment_provider, default_payment_method) = env.choice(
            "PAYMENT_PROVIDER",
            &[
                ("sandbox", (payment::NAME, Some(payment::DEFAULT_METHOD))),
                ("stripe", (stripe::NAME, None)),
            ],
            "sandbox",
        )?;
        let stripe = stripe(env)?;
        if payment_provider == stripe::NAME && stripe.is_none() {
            bail!("PAYMENT_PROVIDER=stripe: needs STRIPE_API_KEY");
        }
        let carrier = env.choice(
            "CARRIER",
            &[
                ("manual", CarrierChoice::SandboxLabels),
                ("sandbox", CarrierChoice::SandboxLabelsAndDelivery),
                ("http", CarrierChoice::HttpAdapter),
            ],
            "manual",
        )?;
        let mail = mail::settings::Settings::read(env)?;
        let reservation_ttl = env.seconds("RESERVATION_TTL_SECONDS", 1800)?;
        let manual_payment_ttl = env.seconds("MANUAL_PAYMENT_TTL_SECONDS", 7 * 24 * 3600)?;
        Ok(Self {
            amqp_url: amqp_url(env)?,
            request_queue: request_queue(env)?,
            database_url: database_url(env)?,
            database_read_url: env.secret("DATABASE_READ_URL")?,
            http_addr: http_addr(env)?,
            sandbox_delivery: sandbox_delivery(env, carrier)?,
            http_carrier: http_carrier(env, carrier)?,
            stripe,
            stock_source: source(env, "WAREHOUSE_URL", "WAREHOUSE_SYNC_SECONDS")?,
            import_source: source(env, "IMPORT_URL", "IMPORT_SECONDS")?,
            webhooks: UrlPolicy {
                allow_private: env.choice(
                    "WEBHOOK_ALLOW_PRIVATE",
                    &[("0", false), ("1", true)],
                    "0",
                )?,
            },
            cipher: cipher(env)?,
            retention: retention(env)?,
            demo: env.choice("DEMO", &[("0", false), ("1", true)], "0")?,
            debug: env.choice("DEBUG_API", &[("0", false), ("1", true)], "0")?,
            rules: Rules {
                reservation_ttl: SignedDuration::try_from(reservation_ttl)
                    .context("RESERVATION_TTL_SECONDS")?,
                manual_payment_ttl: SignedDuration::try_from(manual_payment_ttl)
                    .context("MANUAL_PAYMENT_TTL_SECONDS")?,
                needs_approval,
                payment_provider: payment_provider.to_owned(),
                check_amount: providers::check_amount,
                default_payment_method: env
                    .text("DEFAULT_PAYMENT_METHOD")
                    .or(default_payment_method.map(str::to_owned)),
                needs_verification: env.choice(
                    "CUSTOMER_VERIFICATION",
                    &[("off", false), ("required", true)],
                    "off",
                )?,
                refunds_returns: env.choice(
                    "RETURNS",
                    &[("refund", true), ("keep", false)],
                    "refund",
                )?,
                sends_messages: mail.is_some(),
                allows_storefront_prices: env.choice(
                    "STOREFRONT_PRICES",
                    &[("0", false), ("1", true)],
                    "0",
                )?,
            },
            mail,
            settings: settings::effective(ENVIRONMENT, env),
        })
    }
}

/// URL of the broker; all that `migrate-request-queue` needs beside [`request_queue`].
///
/// # Errors
/// When its file can't be read.
pub fn amqp_url(env: &Env) -> anyhow::Result<String> {
    let broker_url = env.secret("AMQP_URL")?;
    Ok(broker_url.unwrap_or_else(|| DEFAULT_AMQP_URL.to_owned()))
}

/// Type of the request queue.
///
/// # Errors
/// Names the variable if its value is invalid.
pub fn request_queue(env: &Env) -> anyhow::Result<RequestQueueType> {
    env.choice(
        "REQUEST_QUEUE_TYPE",
        &RequestQueueType::CHOICES,
        RequestQueueType::CHOICES[0].0,
    )
}

/// The keys that encrypt webhook secrets.
///
/// # Errors
/// When a key is not 32 bytes in base64.
pub fn cipher(env: &Env) -> anyhow::Result<Arc<SecretCipher>> {
    let current_key = encryption_key(env, "ENCRYPTION_KEY")?;
    let previous_key = encryption_key(env, "ENCRYPTION_KEY_PREVIOUS")?;
    Ok(Arc::new(SecretCipher::new(current_key, previous_key)))
}

fn encryption_key(env: &Env, variable_name: &str) -> anyhow::Result<Option<[u8; KEY_BYTES]>> {
    let Some(key_text) = env.secret(variable_name)? else {
        return Ok(None);
    };
    // The value is not shown: it is a secret.
    let key_bytes = BASE64_STANDARD.decode(key_text.trim());
    let key_bytes = key_bytes
        .ok()
        .and_then(|key_bytes| key_bytes.try_into().ok());
    key_bytes.map(Some).with_context(|| {
        format!("{variable_name}: must be {KEY_BYTES} bytes in base64, as `openssl rand -base64 {KEY_BYTES}` prints them")
    })
}

/// Address of the health and metrics endpoints.
///
/// # Errors
/// Names the variable if its value is invalid.
pub fn http_addr(env: &Env) -> anyhow::Result<SocketAddr> {
    env.parsed("WORKER_HTTP_ADDR", "127.0.0.1:8081")
}

/// URL of the database; all that `migrate` and `verify` need.
///
/// # Errors
/// Names the variable if its value is invalid.
pub fn database_url(env: &Env) -> anyhow::Result<String> {
    let url_text = env
        .secret("DATABASE_URL")?
        .unwrap_or_else(|| DEFAULT_DATABASE_URL.to_owned());
    store::check_urls(&url_text, env.secret("DATABASE_READ_URL")?.as_deref())?;
    Ok(url_text)
}

/// Minimum of `EVENTS_KEPT_DAYS`: a webhook delivery is retried for a day and needs its event until then.
const MIN_EVENTS_KEPT_DAYS: u32 = 2;

fn retention(env: &Env) -> anyhow::Result<Retention> {
    let events_retention = match env.text("EVENTS_KEPT_DAYS") {
        None => None,
        Some(days_text) if days_text == "forever" => None,
        Some(_) => Some(read_days(env, "EVENTS_KEPT_DAYS", 0, MIN_EVENTS_KEPT_DAYS)?),
    };
    Ok(Retention {
        events: events_retention,
        idempotency_records: read_days(env, "IDEMPOTENCY_KEPT_DAYS", 7, 1)?,
        deliveries: read_days(env, "DELIVERIES_KEPT_DAYS", 30, 1)?,
        messages: read_days(env, "MESSAGES_KEPT_DAYS", 365, 1)?,
    })
}

fn read_days(
    env: &Env,
    variable_name: &str,
    default_days: u32,
    min_days: u32,
) -> anyhow::Result<SignedDuration> {
    let kept_days: u32 = env.parsed(variable_name, &default_days.to_string())?;
    if !(min_days..=36_500).contains(&kept_days) {
        bail!("{variable_name}={kept_days}: must be from {min_days} to 36500 days");
    }
    Ok(SignedDuration::from_hours(24 * i64::from(kept_days)))
}

fn source(env: &Env, variable_name: &str, interval_name: &str) -> anyhow::Result<Option<Source>> {
    let interval = SignedDuration::try_from(env.seconds(interval_name, 300)?)
        .with_context(|| interval_name.to_owned())?;
    let Some(url_text) = env.secret(variable_name)? else {
        return Ok(None);
    };
    let url: Url = url_text.parse().with_context(|| variable_name.to_owned())?;
    if !matches!(url.scheme(), "https" | "http") {
        bail!("{variable_name}: must begin with https://");
    }
    Ok(Some(Source { url, interval }))
}

fn stripe(env: &Env) -> anyhow::Result<Option<Settings>> {
    let base_url: Url = env.parsed("STRIPE_API_BASE", "https://api.stripe.com")?;
    if !matches!(base_url.scheme(), "https" | "http") || base_url.cannot_be_a_base() {
        bail!("STRIPE_API_BASE={base_url}: must be an https:// URL");
    }
    let captures_in_parts = env.choice("STRIPE_MULTICAPTURE", &[("0", false), ("1", true)], "0")?;
    let secret_key = env.secret("STRIPE_API_KEY")?;
    Ok(secret_key.map(|secret_key| Settings {
        base_url,
        secret_key,
        captures_in_parts,
    }))
}

/// The carrier of new shipments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CarrierChoice {
    /// The sandbox's labels, without simulated deliveries.
    SandboxLabels,
    SandboxLabelsAndDelivery,
    HttpAdapter,
}

fn http_carrier(
    env: &Env,
    carrier: CarrierChoice,
) -> anyhow::Result<Option<http_carrier::Settings>> {
    let creates_labels = carrier == CarrierChoice::HttpAdapter;
    let secret = env.webhook_secret("CARRIER_SECRET")?;
    let Some(url_text) = env.secret("CARRIER_URL")? else {
        if creates_labels {
            bail!("CARRIER=http: needs CARRIER_URL, the URL of the carrier's adapter");
        }
        return Ok(None);
    };
    let base_url: Url = url_text.parse().context("CARRIER_URL")?;
    if !matches!(base_url.scheme(), "https" | "http") || base_url.cannot_be_a_base() {
        bail!("CARRIER_URL: must begin with https:// or http://");
    }
    let Some(secret) = secret else {
        bail!("CARRIER_URL: needs CARRIER_SECRET, which signs the requests to it");
    };
    Ok(Some(http_carrier::Settings {
        base_url,
        signing_secret: secret,
        creates_labels,
    }))
}

fn sandbox_delivery(env: &Env, carrier: CarrierChoice) -> anyhow::Result<Option<SandboxDelivery>> {
    let does_deliver = carrier == CarrierChoice::SandboxLabelsAndDelivery;
    let secret = env.webhook_secret("SHIPPER_WEBHOOK_SECRET")?;
    let webhook_url = match env.text("SHIPPER_WEBHOOK_URL") {
        Some(url) => url,
        None => format!("http://{}/webhooks/shipper", gateway_address(env)?),
    };
    match (does_deliver, secret) {
        (false, _) => Ok(None),
        (true, Some(secret)) => Ok(Some(SandboxDelivery {
            webhook_url,
            webhook_secret: secret,
        })),
        (true, None) => {
            bail!("CARRIER=sandbox: needs SHIPPER_WEBHOOK_SECRET, which signs its webhooks")
        }
    }
}

/// The address of the gateway on this machine, from `HTTP_ADDR`: both programs are often started with the
/// same variables.
fn gateway_address(env: &Env) -> anyhow::Result<SocketAddr> {
    let mut address: SocketAddr = env.parsed("HTTP_ADDR", "127.0.0.1:8080")?;
    if address.ip().is_unspecified() {
        address.set_ip(Ipv4Addr::LOCALHOST.into());
    }
    Ok(address)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use shared::config::documented_variables;

    use super::*;

    /// Variables that are only read together with others.
    const FEATURE_VARIABLES: [(&str, &str); 10] = [
        ("PAYMENT_PROVIDER", "stripe"),
        ("STRIPE_API_KEY", "sk_1"),
        ("CARRIER", "http"),
        ("CARRIER_URL", "https://carrier.example.com"),
        ("CARRIER_SECRET", "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3"),
        ("WAREHOUSE_URL", "https://warehouse.example.com"),
        ("IMPORT_URL", "https://shop.example.com"),
        ("SMTP_URL", "smtp://mail.example.com"),
        ("MAIL_FROM", "shop@example.com"),
        ("DATABASE_URL", "sqlite://orders.db"),
    ];

    #[test]
    fn settings_list_every_variable_that_is_read() {
        let env = Env::from_pairs(FEATURE_VARIABLES);
        let config = Config::read(&env).unwrap();
        let listed_names: BTreeSet<String> = config
            .settings
            .iter()
            .map(|setting| setting.name.clone())
            .collect();
        let mut read_names = env.names_read();
        // The gateway's address, which the default of SHIPPER_WEBHOOK_URL is made of.
        read_names.remove("HTTP_ADDR");
        let unlisted_names: Vec<_> = read_names.difference(&listed_names).collect();
        assert!(
            unlisted_names.is_empty(),
            "environment.md lacks {unlisted_names:?}"
        );
        let documented_names = documented_variables(ENVIRONMENT).into_iter();
        let documented_names: BTreeSet<_> =
            documented_names.map(|variable| variable.name).collect();
        let unread_names: Vec<_> = documented_names.difference(&read_names).collect();
        assert!(
            unread_names.is_empty(),
            "environment.md lists {unread_names:?}, which are not read"
        );
    }

    #[test]
    fn settings_contain_no_secrets() {
        let config = Config::read(&Env::from_pairs(FEATURE_VARIABLES)).unwrap();
        let settings_text = serde_json::to_string(&config.settings).unwrap();
        assert!(
            settings_text.contains("https://carrier.example.com"),
            "{settings_text}"
        );
        assert!(
            !settings_text.contains("sk_1") && !settings_text.contains("MDEyMzQ1"),
            "{settings_text}"
        );
    }
}
