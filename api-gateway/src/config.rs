//! The gateway's configuration, read from environment variables; [`shared::config`] reads those that the
//! gateway and the worker have in common. An invalid value stops the process at start with the variable's
//! name.
//!
#![doc = include_str!("environment.md")]

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context, bail};
use axum::http::{HeaderName, HeaderValue, Method, header};
use reqwest::Url;
use ring::hmac;
use shared::{
    config::Env,
    settings::{self, Setting},
};
use standardwebhooks::Webhook;
use tower_http::cors::{AllowOrigin, CorsLayer};

use crate::{
    auth::{Auth, jwt::TokenVerifier, keys::ApiKeys},
    media::storage::Storage,
    rate_limit::RateLimit,
    state::FeatureFlags,
};

/// The gateway's variables as a Markdown table, shown by `--help` and in the documentation.
pub(crate) const ENVIRONMENT: &str = include_str!("environment.md");

/// The parsed and validated configuration.
#[derive(Clone)]
pub(crate) struct Config {
    pub(crate) amqp_url: String,
    pub(crate) http_addr: SocketAddr,
    pub(crate) metrics_addr: Option<SocketAddr>,
    pub(crate) head_timeout: Duration,
    pub(crate) auth: Auth,
    pub(crate) rate_limit: Option<RateLimit>,
    pub(crate) cors: Option<CorsLayer>,
    pub(crate) shipper_webhook_verifier: Option<Arc<Webhook>>,
    pub(crate) stripe_webhook_key: Option<Arc<hmac::Key>>,
    pub(crate) request_timeout: Duration,
    pub(crate) features: FeatureFlags,
    /// Effective values of the environment variables, without secrets.
    pub(crate) settings: Vec<Setting>,
    pub(crate) media: Storage,
    pub(crate) media_sweep_interval: Duration,
}

impl Config {
    /// Reads the configuration.
    ///
    /// # Errors
    /// When a value is invalid; the message begins with the variable's name.
    pub(crate) fn read(env: &Env) -> anyhow::Result<Self> {
        let amqp_url = env.secret("AMQP_URL")?;
        let http_addr = http_addr(env)?;
        let metrics_addr = env.text("METRICS_ADDR");
        let metrics_addr = metrics_addr
            .map(|_| env.parsed("METRICS_ADDR", ""))
            .transpose()?;
        let api_keys =
            ApiKeys::parse(&env.secret("API_KEYS")?.unwrap_or_default()).context("API_KEYS")?;
        let origins_text = env.text("CORS_ORIGINS");
        let origins = origins_text
            .as_deref()
            .map(CorsOrigins::parse)
            .transpose()?;
        let auth = Auth::new(api_keys, token_verifier(env)?)
            .with_trusted_origins(origins.as_ref().map_or(&[], CorsOrigins::origins));
        if auth.allows_anonymous() && !http_addr.ip().is_loopback() {
            bail!(
                "API_KEYS, JWT_SECRET and JWT_JWKS_URL are not set: without credentials HTTP_ADDR must be a loopback address, not {http_addr}; set one of them"
            );
        }
        Ok(Self {
            amqp_url: amqp_url
                .unwrap_or_else(|| "amqp://guest:guest@127.0.0.1:5672/%2f".to_owned()),
            http_addr,
            metrics_addr,
            head_timeout: env.seconds("HTTP_IDLE_SECONDS", 75)?,
            auth,
            rate_limit: RateLimit::parse(env.text("RATE_LIMIT").as_deref().unwrap_or("off"))?,
            cors: origins.as_ref().map(cors).transpose()?,
            shipper_webhook_verifier: env
                .webhook_secret("SHIPPER_WEBHOOK_SECRET")?
                .as_deref()
                .map(webhook_verifier)
                .transpose()?,
            stripe_webhook_key: env
                .secret("STRIPE_WEBHOOK_SECRET")?
                .as_deref()
                .map(stripe_webhook_key)
                .transpose()?,
            request_timeout: env.millis("REQUEST_TIMEOUT_MS", 5000)?,
            media: Storage::open(
                &env.text("MEDIA_URL")
                    .unwrap_or_else(|| "data/media".to_owned()),
            )
            .context("MEDIA_URL")?,
            media_sweep_interval: env.seconds("MEDIA_SWEEP_SECONDS", 3600)?,
            settings: settings::effective(ENVIRONMENT, env),
            features: FeatureFlags {
                debug: env.choice("DEBUG_API", &[("0", false), ("1", true)], "0")?,
                demo: env.choice("DEMO", &[("0", false), ("1", true)], "0")?,
            },
        })
    }
}

/// Minimum length of an HS256 secret: the size of its hash (RFC 7518, section 3.2).
const MIN_JWT_SECRET_BYTES: usize = 32;
/// Minimum number of characters after `whsec_` in Stripe's secret.
const MIN_STRIPE_SECRET_LENGTH: usize = 8;
/// Time for which browsers cache the response to a CORS preflight request.
const CORS_MAX_AGE: Duration = Duration::from_hours(1);

/// Address to listen on.
pub(crate) fn http_addr(env: &Env) -> anyhow::Result<SocketAddr> {
    env.parsed("HTTP_ADDR", "127.0.0.1:8080")
}

fn token_verifier(env: &Env) -> anyhow::Result<Option<TokenVerifier>> {
    let (audience, issuer) = (env.text("JWT_AUDIENCE"), env.text("JWT_ISSUER"));
    match (env.secret("JWT_SECRET")?, env.text("JWT_JWKS_URL")) {
        (None, None) => Ok(None),
        (Some(_), Some(_)) => bail!("JWT_SECRET and JWT_JWKS_URL are both set: set only one"),
        (Some(secret), None) => {
            if secret.len() < MIN_JWT_SECRET_BYTES {
                bail!(
                    "JWT_SECRET: has {} bytes, must have at least {MIN_JWT_SECRET_BYTES} (RFC 7518, section 3.2)",
                    secret.len()
                );
            }
            Ok(Some(TokenVerifier::with_secret(&secret, audience, issuer)))
        }
        (None, Some(url)) => {
            let parsed_url: Url = url
                .parse()
                .with_context(|| format!("JWT_JWKS_URL={url:?}"))?;
            if !matches!(parsed_url.scheme(), "https" | "http") {
                bail!("JWT_JWKS_URL={url:?}: must begin with https://");
            }
            if parsed_url.scheme() == "http" {
                tracing::warn!(
                    "JWT_JWKS_URL uses http: an attacker on the network can replace the keys; use https"
                );
            }
            TokenVerifier::with_published_keys(parsed_url, audience, issuer)
                .map(Some)
                .context("JWT_JWKS_URL")
        }
    }
}

/// Origins whose pages may call the API from a browser.
enum CorsOrigins {
    /// `*`: every origin.
    AnyOrigin,
    /// The listed origins, such as `https://shop.example.com`.
    OriginList(Vec<String>),
}

impl CorsOrigins {
    fn parse(origins_text: &str) -> anyhow::Result<Self> {
        if origins_text == "*" {
            return Ok(Self::AnyOrigin);
        }
        let parsed_origins = origins_text.split(',').map(|origin| {
            let origin = origin.trim();
            let url: Url = origin
                .parse()
                .with_context(|| format!("CORS_ORIGINS: {origin:?}"))?;
            if url.origin().ascii_serialization() != origin {
                bail!(
                    "CORS_ORIGINS: {origin:?} must be an origin such as https://shop.example.com"
                );
            }
            Ok(origin.to_owned())
        });
        parsed_origins
            .collect::<anyhow::Result<_>>()
            .map(Self::OriginList)
    }

    /// The listed origins; empty for `*`.
    fn origins(&self) -> &[String] {
        match self {
            Self::AnyOrigin => &[],
            Self::OriginList(allowed_origins) => allowed_origins,
        }
    }
}

/// The CORS layer: allowed origins, methods and headers.
fn cors(allowed_origins: &CorsOrigins) -> anyhow::Result<CorsLayer> {
    let allow_origin = match allowed_origins {
        CorsOrigins::AnyOrigin => AllowOrigin::any(),
        CorsOrigins::OriginList(allowed_origins) => {
            let header_values = allowed_origins
                .iter()
                .map(|origin| HeaderValue::from_str(origin));
            AllowOrigin::list(header_values.collect::<Result<Vec<_>, _>>()?)
        }
    };
    Ok(CorsLayer::new()
        .allow_origin(allow_origin)
        .allow_methods([
            Method::GET,
            Method::HEAD,
            Method::POST,
            Method::PUT,
            Method::PATCH,
            Method::DELETE,
        ])
        .allow_headers([
            header::AUTHORIZATION,
            header::CONTENT_TYPE,
            header::IF_MATCH,
            header::IF_NONE_MATCH,
            HeaderName::from_static("idempotency-key"),
            HeaderName::from_static("last-event-id"),
            HeaderName::from_static("prefer"),
            HeaderName::from_static("traceparent"),
            HeaderName::from_static("tracestate"),
            HeaderName::from_static("x-intent"),
            HeaderName::from_static("x-request-id"),
        ])
        .expose_headers([
            header::ETAG,
            header::LINK,
            header::LOCATION,
            header::RETRY_AFTER,
            HeaderName::from_static("idempotent-replayed"),
            HeaderName::from_static("preference-applied"),
            HeaderName::from_static("ratelimit"),
            HeaderName::from_static("ratelimit-policy"),
            HeaderName::from_static("traceparent"),
            HeaderName::from_static("x-request-id"),
        ])
        .max_age(CORS_MAX_AGE))
}

/// Stripe signs with the whole secret, including `whsec_`. A secret that is too short was cut off when
/// copied.
fn stripe_webhook_key(secret: &str) -> anyhow::Result<Arc<hmac::Key>> {
    let is_whole_secret = secret
        .strip_prefix("whsec_")
        .is_some_and(|after_prefix| after_prefix.len() >= MIN_STRIPE_SECRET_LENGTH);
    if !is_whole_secret {
        bail!(
            "STRIPE_WEBHOOK_SECRET: must be whsec_ followed by at least {MIN_STRIPE_SECRET_LENGTH} characters"
        );
    }
    let signing_key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    Ok(Arc::new(signing_key))
}

fn webhook_verifier(secret: &str) -> anyhow::Result<Arc<Webhook>> {
    Webhook::new(secret)
        .map(Arc::new)
        .context("SHIPPER_WEBHOOK_SECRET")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use shared::config::documented_variables;

    use super::*;

    #[test]
    fn without_api_keys_only_loopback_addresses_are_accepted() {
        let read_config = |address| Config::read(&Env::from_pairs([("HTTP_ADDR", address)]));
        assert!(read_config("127.0.0.1:0").is_ok());
        assert!(read_config("[::1]:0").is_ok());
        let error_text = read_config("0.0.0.0:80").err().unwrap().to_string();
        assert!(error_text.starts_with("API_KEYS"), "{error_text}");
        let env = Env::from_pairs([
            ("HTTP_ADDR", "0.0.0.0:80"),
            ("API_KEYS", "admin=a-long-key"),
        ]);
        assert!(Config::read(&env).is_ok());
    }

    #[test]
    fn invalid_value_is_reported_with_its_variable() {
        for (name, value) in [
            ("HTTP_ADDR", "localhost"),
            ("API_KEYS", "root=a-long-key"),
            ("RATE_LIMIT", "5"),
            ("JWT_JWKS_URL", "keys"),
            ("JWT_JWKS_URL", "file:///etc/keys"),
            ("CORS_ORIGINS", "shop.example.com"),
            ("CORS_ORIGINS", "https://shop.example.com/"),
            ("SHIPPER_WEBHOOK_SECRET", "hunter2"),
            ("SHIPPER_WEBHOOK_SECRET", "whsec_!"),
            ("SHIPPER_WEBHOOK_SECRET", "whsec_"),
            ("SHIPPER_WEBHOOK_SECRET", "whsec_YQ=="),
            ("STRIPE_WEBHOOK_SECRET", "whsec_"),
            ("STRIPE_WEBHOOK_SECRET", "sk_test_12345678"),
            ("JWT_SECRET", "31 bytes are fewer than HS256's"),
            ("METRICS_ADDR", "9090"),
            ("REQUEST_TIMEOUT_MS", "soon"),
            ("HTTP_IDLE_SECONDS", "0"),
            ("MEDIA_URL", "s3://"),
            ("MEDIA_URL", "ftp://media"),
            ("MEDIA_URL", "file://media"),
            ("MEDIA_SWEEP_SECONDS", "0"),
        ] {
            let error_text = format!(
                "{:#}",
                Config::read(&Env::from_pairs([(name, value)]))
                    .err()
                    .unwrap()
            );
            assert!(error_text.starts_with(name), "{error_text}");
        }
    }

    #[test]
    fn settings_list_every_variable_that_is_read() {
        let env = Env::from_pairs([("METRICS_ADDR", "127.0.0.1:9")]);
        let config = Config::read(&env).unwrap();
        let settings = config.settings.iter();
        let listed_names: BTreeSet<String> = settings.map(|setting| setting.name.clone()).collect();
        let read_names = env.names_read();
        let unlisted_names: Vec<_> = read_names.difference(&listed_names).collect();
        assert!(
            unlisted_names.is_empty(),
            "environment.md lacks {unlisted_names:?}"
        );
        let documented = documented_variables(ENVIRONMENT).into_iter();
        // The storage reads its variables by itself.
        let documented = documented.filter(|variable| !variable.name.starts_with("AWS_"));
        let documented_names: BTreeSet<_> = documented.map(|variable| variable.name).collect();
        let unread_names: Vec<_> = documented_names.difference(&read_names).collect();
        assert!(
            unread_names.is_empty(),
            "environment.md lists {unread_names:?}, which are not read"
        );
    }
}
