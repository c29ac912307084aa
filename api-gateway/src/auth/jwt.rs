//! JSON Web Tokens (RFC 7519), verified with a shared secret (`JWT_SECRET`, HS256) or with an identity
//! provider's published keys (`JWT_JWKS_URL`, RFC 7517).
//!
//! Each key is used with one algorithm only, declared in the key set or implied by the key's type. The
//! token's `alg` must match it (RFC 8725, sections 3.1 and 3.2). A token must have an expiry (`exp`) and a
//! `role`, and for storefronts a `storefront`.
//!
//! Published keys are cached. They are fetched again every few minutes, and when no cached key verifies a
//! token: the provider may have added or replaced a key. If they can't be fetched, the cached keys stay in
//! use.

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, SystemTime},
};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::{
    Algorithm, DecodingKey, Header, Validation, decode, decode_header,
    errors::ErrorKind,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, PublicKeyUse},
};
use reqwest::{Client, Url, redirect::Policy};
use serde::Deserialize;
use serde_json::{Map, Value};
use shared::{
    id::Storefront,
    outcome::{Code, Failure},
    request::Role,
};
use tokio::{sync::Mutex, time::Instant};

use super::{Identity, token_crypto, unauthenticated_failure, validity::Validity};

/// Maximum length of a token in bytes.
const MAX_TOKEN_BYTES: usize = 8 * 1024;
/// Tolerated clock skew.
const LEEWAY_SECONDS: u32 = 30;
/// Interval for fetching published keys again.
const KEY_REFRESH_INTERVAL: Duration = Duration::from_mins(5);
/// Minimum interval between fetches for unknown keys, since any client can invent a key id.
const MIN_KEY_REFRESH_INTERVAL: Duration = Duration::from_secs(10);
/// Timeout for fetching published keys.
const KEY_FETCH_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum size of the key set document in bytes.
const MAX_KEY_SET_BYTES: usize = 256 * 1024;
/// Maximum length of a subject in characters; a longer one is truncated.
const MAX_SUBJECT_LENGTH: usize = 100;

/// Verifies tokens.
#[derive(Clone)]
pub(crate) struct TokenVerifier(Arc<TokenSettings>);

struct TokenSettings {
    source: KeySource,
    audience: Option<String>,
    issuer: Option<String>,
}

enum KeySource {
    Secret(DecodingKey),
    Published(PublishedKeys),
}

/// Cached keys of an identity provider.
struct PublishedKeys {
    url: Url,
    client: Client,
    keys: RwLock<Arc<[PublishedKey]>>,
    /// Time of the last fetch: its start, then its end. Locked during a fetch, so that requests that need the
    /// keys share one fetch.
    last_fetch: Mutex<Option<Instant>>,
}

/// A key and the only algorithm it is used with.
#[derive(Clone)]
struct VerificationKey {
    key: DecodingKey,
    algorithm: Algorithm,
}

/// A published key with its id (`kid`), if it has one.
struct PublishedKey {
    key_id: Option<String>,
    key: VerificationKey,
}

/// The claims of a token that are used.
#[derive(Deserialize)]
struct Claims {
    role: String,
    #[serde(default)]
    storefront: Option<String>,
    #[serde(default)]
    sub: Option<String>,
    /// Expiry in seconds since 1970; "non-integer values can be represented" (RFC 7519, section 2).
    exp: f64,
}

/// Whether a credential has the form of a token: three parts separated by dots.
pub(super) fn has_token_form(credential: &str) -> bool {
    credential.len() <= MAX_TOKEN_BYTES && credential.split('.').count() == 3
}

impl TokenVerifier {
    /// Verifies tokens signed with `secret`.
    pub(crate) fn with_secret(
        secret: &str,
        audience: Option<String>,
        issuer: Option<String>,
    ) -> Self {
        token_crypto::install();
        Self(Arc::new(TokenSettings {
            source: KeySource::Secret(DecodingKey::from_secret(secret.as_bytes())),
            audience,
            issuer,
        }))
    }

    /// Verifies tokens signed with one of the keys published at `url`.
    ///
    /// # Errors
    /// When the HTTP client can't be created.
    pub(crate) fn with_published_keys(
        url: Url,
        audience: Option<String>,
        issuer: Option<String>,
    ) -> anyhow::Result<Self> {
        token_crypto::install();
        let client = Client::builder()
            .redirect(Policy::limited(3))
            .timeout(KEY_FETCH_TIMEOUT)
            .build()?;
        Ok(Self(Arc::new(TokenSettings {
            source: KeySource::Published(PublishedKeys {
                url,
                client,
                keys: RwLock::new(Arc::new([])),
                last_fetch: Mutex::default(),
            }),
            audience,
            issuer,
        })))
    }

    /// Verifies a token and returns the identity in its claims.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` when the token is invalid; `UNAVAILABLE` when no keys could be fetched yet.
    pub(super) async fn identify(&self, token: &str) -> Result<Identity, Failure> {
        // The library supports no `alg: none`, so this refuses unsigned tokens.
        let header = decode_header(token).map_err(|decoding_error| {
            unauthenticated_failure(format!("the token can't be read: {decoding_error}"))
        })?;
        refuse_critical_extensions(token)?;
        let claims = match &self.0.source {
            KeySource::Secret(secret_key) => {
                let verification_key = VerificationKey {
                    key: secret_key.clone(),
                    algorithm: Algorithm::HS256,
                };
                self.verify_with_key(token, &header, &verification_key)
                    .map_err(Failure::from)?
            }
            KeySource::Published(published_keys) => {
                self.verify_with_published_keys(token, &header, published_keys)
                    .await?
            }
        };
        identity_of_claims(claims)
    }

    /// Verifies the token with the published keys; fetches them again if none matches.
    async fn verify_with_published_keys(
        &self,
        token: &str,
        header: &Header,
        published_keys: &PublishedKeys,
    ) -> Result<Claims, Failure> {
        let is_stale = published_keys.is_stale();
        if is_stale {
            published_keys.fetch_keys(false).await;
        }
        let keys = published_keys.current_keys();
        let refusal_failure = match self.verify_with_any_key(token, header, &keys) {
            Err(VerificationError::NoMatchingKey(refusal_failure)) => refusal_failure,
            Err(VerificationError::InvalidToken(failure)) => return Err(failure),
            Ok(claims) => return Ok(claims),
        };
        if !is_stale {
            published_keys.fetch_keys(true).await;
        }
        let refreshed_keys = published_keys.current_keys();
        if refreshed_keys.is_empty() {
            return Err(Failure::new(
                Code::Unavailable,
                "the keys for verifying tokens could not be fetched from JWT_JWKS_URL yet; try again later",
            ));
        }
        if Arc::ptr_eq(&keys, &refreshed_keys) {
            return Err(refusal_failure);
        }
        self.verify_with_any_key(token, header, &refreshed_keys)
            .map_err(Failure::from)
    }

    /// Verifies the token with each candidate of `keys`: the keys for its algorithm that have its `kid`, or all
    /// keys for its algorithm if it has no `kid`.
    fn verify_with_any_key(
        &self,
        token: &str,
        header: &Header,
        keys: &[PublishedKey],
    ) -> Result<Claims, VerificationError> {
        let candidates = keys.iter().filter(|published_key| match &header.kid {
            Some(key_id) => published_key.key_id.as_ref() == Some(key_id),
            None => true,
        });
        let candidate_keys: Vec<_> = candidates.map(|published_key| &published_key.key).collect();
        let matching_keys = candidate_keys
            .iter()
            .filter(|verification_key| verification_key.algorithm == header.alg);
        let mut refusal = None;
        for verification_key in matching_keys {
            match self.verify_with_key(token, header, verification_key) {
                Err(VerificationError::NoMatchingKey(failure)) => refusal = Some(failure),
                verify_result => return verify_result,
            }
        }
        let refusal = match (&header.kid, &candidate_keys[..], refusal) {
            (Some(_), [], _) => {
                unauthenticated_failure("the token's key id (kid) is not among the published keys")
            }
            (Some(_), [verification_key, ..], None) => wrong_algorithm(header, verification_key),
            (Some(_), _, Some(refusal)) => refusal,
            (None, [only_key], None) => wrong_algorithm(header, only_key),
            (None, [_], Some(refusal)) => refusal,
            (None, candidate_keys, _) => unauthenticated_failure(format!(
                "the token has no key id (kid), and none of the {} published keys verifies its signature",
                candidate_keys.len()
            )),
        };
        Err(VerificationError::NoMatchingKey(refusal))
    }

    fn verify_with_key(
        &self,
        token: &str,
        header: &Header,
        verification_key: &VerificationKey,
    ) -> Result<Claims, VerificationError> {
        if header.alg != verification_key.algorithm {
            return Err(VerificationError::NoMatchingKey(wrong_algorithm(
                header,
                verification_key,
            )));
        }
        decode::<Claims>(
            token,
            &verification_key.key,
            &self.validation(verification_key.algorithm),
        )
        .map(|token_data| token_data.claims)
        .map_err(|verification_error| {
            let failure =
                unauthenticated_failure(format!("the token is not valid: {verification_error}"));
            match verification_error.kind() {
                ErrorKind::InvalidSignature => VerificationError::NoMatchingKey(failure),
                _ => VerificationError::InvalidToken(failure),
            }
        })
    }

    fn validation(&self, algorithm: Algorithm) -> Validation {
        let mut validation = Validation::new(algorithm);
        validation.leeway = LEEWAY_SECONDS.into();
        validation.validate_nbf = true;
        let mut required_claims = vec!["exp"];
        match &self.0.audience {
            Some(audience) => {
                validation.set_audience(&[audience]);
                required_claims.push("aud");
            }
            None => validation.validate_aud = false,
        }
        if let Some(issuer) = &self.0.issuer {
            validation.set_issuer(&[issuer]);
            required_claims.push("iss");
        }
        validation.set_required_spec_claims(&required_claims);
        validation
    }
}

/// The reason why a token is refused.
enum VerificationError {
    /// No key verifies the signature; a key that is not known yet may.
    NoMatchingKey(Failure),
    /// The token is invalid for any other reason, for example because it has expired; no other key would help.
    InvalidToken(Failure),
}

impl From<VerificationError> for Failure {
    fn from(verification_error: VerificationError) -> Self {
        match verification_error {
            VerificationError::NoMatchingKey(failure)
            | VerificationError::InvalidToken(failure) => failure,
        }
    }
}

fn wrong_algorithm(header: &Header, verification_key: &VerificationKey) -> Failure {
    unauthenticated_failure(format!(
        "the token is signed with {:?}, but its key is for {:?}",
        header.alg, verification_key.algorithm
    ))
}

/// Refuses a token whose header lists critical extensions (`crit`): none is supported (RFC 7515, section
/// 4.1.11).
fn refuse_critical_extensions(token: &str) -> Result<(), Failure> {
    let encoded_header = token.split('.').next().unwrap_or_default();
    let header_fields = BASE64_URL_SAFE_NO_PAD
        .decode(encoded_header)
        .ok()
        .and_then(|header_bytes| serde_json::from_slice::<Map<String, Value>>(&header_bytes).ok())
        .ok_or_else(|| unauthenticated_failure("the token's header can't be read"))?;
    if header_fields.contains_key("crit") {
        return Err(unauthenticated_failure(
            "the token's header has crit: critical extensions are not supported",
        ));
    }
    Ok(())
}

fn identity_of_claims(claims: Claims) -> Result<Identity, Failure> {
    let invalid_claim = |claim: &str, error_text: String| {
        unauthenticated_failure(format!("claim {claim}: {error_text}"))
    };
    let role: Role = claims
        .role
        .parse()
        .map_err(|claim_error| invalid_claim("role", claim_error))?;
    let storefront = match (&claims.storefront, role) {
        (Some(storefront_name), _) => storefront_name
            .parse()
            .map_err(|claim_error| invalid_claim("storefront", claim_error))?,
        (None, Role::Operator | Role::Admin) => Storefront::default(),
        (None, Role::Storefront) => {
            return Err(invalid_claim("storefront", "is missing".to_owned()));
        }
    };
    let subject: String = claims
        .sub
        .unwrap_or_else(|| role.as_str().to_owned())
        .chars()
        .filter(|c| !c.is_control())
        .take(MAX_SUBJECT_LENGTH)
        .collect();
    Ok(Identity {
        credential_id: format!("{}@{storefront}/{subject}", role.as_str()).into(),
        role,
        storefront,
        actor: subject,
        validity: Validity::until(
            Duration::try_from_secs_f64(claims.exp + f64::from(LEEWAY_SECONDS))
                .ok()
                .and_then(|expiry_since_epoch| {
                    SystemTime::UNIX_EPOCH.checked_add(expiry_since_epoch)
                }),
        ),
    })
}

impl PublishedKeys {
    fn current_keys(&self) -> Arc<[PublishedKey]> {
        Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn is_stale(&self) -> bool {
        // The lock is taken: another request is fetching the keys.
        let Ok(last_fetch) = self.last_fetch.try_lock() else {
            return false;
        };
        last_fetch.is_none_or(|last_fetch| last_fetch.elapsed() >= KEY_REFRESH_INTERVAL)
    }

    async fn fetch_keys(&self, is_urgent: bool) {
        let requested_at = Instant::now();
        let mut last_fetch = self.last_fetch.lock().await;
        let min_interval = match (self.current_keys().is_empty(), is_urgent) {
            // With an empty cache, fetch at once.
            (true, _) => Duration::ZERO,
            (false, true) => MIN_KEY_REFRESH_INTERVAL,
            (false, false) => KEY_REFRESH_INTERVAL,
        };
        if last_fetch.is_some_and(|last_fetch| {
            last_fetch >= requested_at || last_fetch.elapsed() < min_interval
        }) {
            return;
        }
        // Set before the fetch, in case this future is dropped during it.
        *last_fetch = Some(Instant::now());
        match self.try_fetch().await {
            Ok(keys) => {
                tracing::info!(count = keys.len(), "fetched the keys of JWT_JWKS_URL");
                *self.keys.write().unwrap_or_else(PoisonError::into_inner) = keys.into();
            }
            Err(fetch_error) => {
                tracing::error!(
                    error = format!("{fetch_error:#}"),
                    "can't fetch the keys of JWT_JWKS_URL; keeping the previous keys"
                );
            }
        }
        *last_fetch = Some(Instant::now());
    }

    async fn try_fetch(&self) -> anyhow::Result<Vec<PublishedKey>> {
        let response = self.client.get(self.url.clone()).send().await?;
        let mut response = response.error_for_status()?;
        let mut key_set_bytes = Vec::new();
        while let Some(chunk) = response.chunk().await? {
            anyhow::ensure!(
                key_set_bytes.len() + chunk.len() <= MAX_KEY_SET_BYTES,
                "the key set has more than {MAX_KEY_SET_BYTES} bytes"
            );
            key_set_bytes.extend_from_slice(&chunk);
        }
        let key_set: JwkSet = serde_json::from_slice(&key_set_bytes)?;
        let keys: Vec<_> = key_set.keys.iter().filter_map(published_key).collect();
        anyhow::ensure!(
            !keys.is_empty(),
            "the key set has no key that can verify tokens"
        );
        Ok(keys)
    }
}

/// The verification key of a JSON Web Key; `None` if it can't verify tokens. Symmetric keys are refused: a
/// published secret is not a secret.
fn published_key(jwk: &Jwk) -> Option<PublishedKey> {
    if matches!(&jwk.common.public_key_use, Some(key_use) if *key_use != PublicKeyUse::Signature) {
        return None;
    }
    let implied_algorithm = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => Algorithm::RS256,
        AlgorithmParameters::EllipticCurve(elliptic_key) => match elliptic_key.curve {
            EllipticCurve::P256 => Algorithm::ES256,
            EllipticCurve::P384 => Algorithm::ES384,
            _ => return None,
        },
        AlgorithmParameters::OctetKeyPair(_) => Algorithm::EdDSA,
        _ => return None,
    };
    let algorithm = match &jwk.common.key_algorithm {
        Some(named_algorithm) => named_algorithm.to_string().parse().ok()?,
        None => implied_algorithm,
    };
    if algorithm != implied_algorithm && algorithm.family() != implied_algorithm.family() {
        return None;
    }
    let decoding_key = DecodingKey::from_jwk(jwk).ok()?;
    Some(PublishedKey {
        key_id: jwk.common.key_id.clone(),
        key: VerificationKey {
            key: decoding_key,
            algorithm,
        },
    })
}
