//! Authenticates requests by API key, JSON Web Token or console session. Without configured credentials every
//! caller is an admin; the configuration permits this on loopback addresses only.
//!
//! - [`keys`]: configured API keys, stored as digests.
//! - [`stored_keys`]: API keys that admins create and revoke. [`new_secret`]: their secrets.
//! - [`jwt`]: tokens of an identity provider; `ring` verifies their signatures.
//! - [`session`]: browser sessions of the console.
//! - [`validity`]: the end of a credential.

pub(crate) mod jwt;
pub(crate) mod keys;
pub(crate) mod new_secret;
mod session;
pub(crate) mod stored_keys;
mod token_crypto;
pub(crate) mod validity;

use std::{net::IpAddr, sync::Arc};

use axum::http::{HeaderMap, Method, header, uri::Authority};
use shared::{
    id::Storefront,
    outcome::{Code, Failure},
    request::Role,
};
use uuid::Uuid;

use self::{
    jwt::TokenVerifier,
    keys::{ApiKeys, MIN_SAFE_KEY_LENGTH},
    new_secret::SealingKey,
    stored_keys::StoredKeys,
    validity::Validity,
};

/// Number of digest bytes in a credential id.
const CREDENTIAL_ID_BYTES: usize = 12;

/// Authenticates requests.
#[derive(Clone)]
pub(crate) struct Auth {
    keys: ApiKeys,
    stored_keys: StoredKeys,
    token_verifier: Option<TokenVerifier>,
    /// Origins whose pages may send changes while no credentials are configured.
    trusted_origins: Arc<[String]>,
    /// Signs session cookies: made from the configured keys, so that all gateways have the same one; without
    /// configured keys it is random.
    session_secret: [u8; 32],
}

impl Default for Auth {
    fn default() -> Self {
        Self::new(ApiKeys::default(), None)
    }
}

/// An authenticated credential.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub(crate) role: Role,
    pub(crate) storefront: Storefront,
    /// Name of the caller in logs and in the history of orders.
    pub(crate) actor: String,
    /// Unique id of the credential, from which the credential can't be derived.
    pub(crate) credential_id: Arc<str>,
    /// The time for which the credential is valid.
    pub(crate) validity: Validity,
}

impl Identity {
    /// The identity of all callers while no credentials are configured (loopback addresses only): an admin.
    fn local_admin() -> Self {
        Self {
            role: Role::Admin,
            storefront: Storefront::default(),
            actor: "local".to_owned(),
            credential_id: "local".into(),
            validity: Validity::default(),
        }
    }
}

impl Auth {
    pub(crate) fn new(keys: ApiKeys, token_verifier: Option<TokenVerifier>) -> Self {
        let session_secret = if keys.is_empty() {
            random_secret()
        } else {
            keys.digest()
        };
        Self {
            keys,
            stored_keys: StoredKeys::default(),
            token_verifier,
            trusted_origins: Arc::default(),
            session_secret,
        }
    }

    /// Accepts these keys as well.
    pub(crate) fn with_stored_keys(self, stored_keys: StoredKeys) -> Self {
        Self {
            stored_keys,
            ..self
        }
    }

    /// Accepts changes from pages of these origins while no credentials are configured.
    pub(crate) fn with_trusted_origins(self, trusted_origins: &[String]) -> Self {
        Self {
            trusted_origins: trusted_origins.into(),
            ..self
        }
    }

    /// Whether no credentials are configured, so that no caller has to authenticate.
    pub(crate) fn allows_anonymous(&self) -> bool {
        self.keys.is_empty() && self.token_verifier.is_none()
    }

    /// Whether credentials for this storefront may exist. With an identity provider this is always true,
    /// since its tokens can name any storefront.
    pub(crate) fn may_have_credentials_of(&self, storefront: &Storefront) -> bool {
        *storefront == Storefront::default()
            || self.token_verifier.is_some()
            || self.keys.has_storefront(storefront)
            || self.stored_keys.has_storefront(storefront)
    }

    /// Whether a key of this storefront exists at the worker. It may have been created a moment ago through another
    /// gateway.
    ///
    /// # Errors
    /// When no worker answers.
    pub(crate) async fn has_stored_key_of(&self, storefront: &Storefront) -> Result<bool, Failure> {
        self.stored_keys.has_storefront_now(storefront).await
    }

    /// Identifies the caller by the `Authorization` header (RFC 6750, section 2.1) or the console's session
    /// cookie.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` when the credential is missing or invalid; `UNAVAILABLE` when the keys for verifying
    /// tokens can't be fetched; `FORBIDDEN` for a change requested by a page of another site.
    pub(crate) async fn identify(
        &self,
        headers: &HeaderMap,
        method: &Method,
    ) -> Result<Identity, Failure> {
        if self.allows_anonymous() {
            self.refuse_cross_site(headers, method)?;
            // Other credentials are ignored; a key that an admin has created limits its client here as well.
            return match bearer_credential(headers) {
                Ok(credential) if stored_keys::has_key_form(credential) => {
                    self.stored_keys.identify(credential).await
                }
                _ => Ok(Identity::local_admin()),
            };
        }
        if !headers.contains_key(header::AUTHORIZATION)
            && let Some(identity) = self.identify_session(headers, method).await?
        {
            return Ok(identity);
        }
        self.identify_credential(bearer_credential(headers)?).await
    }

    /// The key that encrypts the secret of a new API key for replies to the same caller, derived from the caller's
    /// credential. While no credentials are configured, it is derived from a random number of this process.
    ///
    /// `None` for a credential that could be guessed, since the encrypted secret in a copy of the database would tell
    /// whether a guess is right: a short key, or a session whose cookie is signed with a secret made from short keys
    /// only.
    pub(crate) fn sealing_key(
        &self,
        headers: &HeaderMap,
        idempotency_key: &str,
    ) -> Option<SealingKey> {
        let credential = match bearer_credential(headers) {
            Ok(credential) => credential.as_bytes(),
            Err(_) if self.allows_anonymous() => &self.session_secret,
            Err(_) if self.keys.are_all_short() => return None,
            Err(_) => session::session_cookie(headers)?.as_bytes(),
        };
        if credential.len() < MIN_SAFE_KEY_LENGTH {
            return None;
        }
        SealingKey::derive(credential, idempotency_key)
    }

    async fn identify_credential(&self, credential: &str) -> Result<Identity, Failure> {
        if let Some(identity) = self.keys.identify(credential) {
            return Ok(identity);
        }
        if stored_keys::has_key_form(credential) {
            return self.stored_keys.identify(credential).await;
        }
        match &self.token_verifier {
            Some(token_verifier) if jwt::has_token_form(credential) => {
                token_verifier.identify(credential).await
            }
            _ => Err(unauthenticated_failure("the credential is not known")),
        }
    }
}

impl Auth {
    /// Refuses changes requested by pages of other sites while no credentials are configured; otherwise any
    /// page in a browser on this machine could send them. Browsers name the requesting site in
    /// `Sec-Fetch-Site` (<https://www.w3.org/TR/fetch-metadata/>) and `Origin`. The gateway accepts its own
    /// pages and those of `CORS_ORIGINS`. Its own pages must have a loopback host, so DNS rebinding has no
    /// effect.
    fn refuse_cross_site(&self, headers: &HeaderMap, method: &Method) -> Result<(), Failure> {
        let header_value =
            |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
        let (fetch_site, origin) = (header_value("sec-fetch-site"), header_value("origin"));
        let is_trusted = origin.is_some_and(|origin| {
            self.trusted_origins
                .iter()
                .any(|trusted_origin| trusted_origin == origin)
        });
        let is_by_browser = fetch_site.is_some() || origin.is_some();
        if method.is_safe() || !is_by_browser || is_trusted {
            return Ok(());
        }
        let host = header_value("host");
        let is_own_site =
            fetch_site.is_none_or(|fetch_site| matches!(fetch_site, "same-origin" | "none"));
        let is_own_origin = origin.is_none_or(|origin| {
            let (_, authority) = origin.split_once("://").unwrap_or_default();
            host == Some(authority)
        });
        if is_own_site && is_own_origin && host.is_none_or(is_loopback) {
            return Ok(());
        }
        Err(Failure::new(
            Code::Forbidden,
            "a page of another site requested this change; to allow it, add the site's origin to CORS_ORIGINS",
        ))
    }
}

/// Whether `host`, with or without a port, is a loopback address or a `localhost` name (RFC 6761, section
/// 6.3).
fn is_loopback(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else {
        return false;
    };
    let host_name = authority.host();
    let address = host_name.trim_start_matches('[').trim_end_matches(']');
    let is_loopback_address = address
        .parse::<IpAddr>()
        .is_ok_and(|address| address.is_loopback());
    is_loopback_address || host_name == "localhost" || host_name.ends_with(".localhost")
}

/// The credential of the `Authorization` header.
fn bearer_credential(headers: &HeaderMap) -> Result<&str, Failure> {
    let mut header_values = headers.get_all(header::AUTHORIZATION).iter();
    let header_value = header_values.next().ok_or_else(|| {
        unauthenticated_failure(
            "the Authorization header is missing; send Authorization: Bearer CREDENTIAL",
        )
    })?;
    if header_values.next().is_some() {
        return Err(unauthenticated_failure(
            "the Authorization header occurs more than once; send it once",
        ));
    }
    header_value
        .to_str()
        .ok()
        .and_then(|text| text.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, credential)| credential.trim())
        .ok_or_else(|| {
            unauthenticated_failure("the Authorization header must be: Bearer CREDENTIAL")
        })
}

/// A random secret of this process.
fn random_secret() -> [u8; 32] {
    let mut secret = [0; 32];
    let (first_half, second_half) = secret.split_at_mut(16);
    first_half.copy_from_slice(Uuid::new_v4().as_bytes());
    second_half.copy_from_slice(Uuid::new_v4().as_bytes());
    secret
}

fn unauthenticated_failure(message: impl Into<String>) -> Failure {
    Failure::new(Code::Unauthenticated, message)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderName;

    use super::*;

    #[tokio::test]
    async fn authorization_header_must_have_one_bearer_credential() {
        let keys = ApiKeys::parse("storefront@eu=secret-one; operator=secret-two").unwrap();
        let auth = Auth::new(keys, None);
        let with_authorization =
            |value: &str| HeaderMap::from_iter([(header::AUTHORIZATION, value.parse().unwrap())]);
        let identity = auth
            .identify(&with_authorization("bearer secret-one"), &Method::GET)
            .await
            .unwrap();
        assert_eq!(identity.storefront.as_str(), "eu");
        for invalid_header in [
            "Bearer secret-on",
            "Bearer ",
            "Basic secret-one",
            "secret-one",
            "Bearer a.b.c",
        ] {
            let failure = auth
                .identify(&with_authorization(invalid_header), &Method::GET)
                .await
                .unwrap_err();
            assert_eq!(failure.code, Code::Unauthenticated, "{invalid_header}");
        }
        assert!(
            auth.identify(&HeaderMap::new(), &Method::GET)
                .await
                .is_err()
        );
        let mut repeated_header = with_authorization("Bearer secret-one");
        repeated_header.append(header::AUTHORIZATION, "Bearer secret-two".parse().unwrap());
        assert!(auth.identify(&repeated_header, &Method::GET).await.is_err());
    }

    #[test]
    fn secret_of_a_new_key_is_not_encrypted_with_a_credential_that_could_be_guessed() {
        let auth = |key_list: &str| Auth::new(ApiKeys::parse(key_list).unwrap(), None);
        let with_header =
            |name, value: &str| HeaderMap::from_iter([(name, value.parse().unwrap())]);
        let bearer_headers =
            |key: &str| with_header(header::AUTHORIZATION, &format!("Bearer {key}"));
        let session = with_header(header::COOKIE, "orders_session=k.credential.1.signature");
        let (short_key, long_key) = ("15-characters--", "16-characters---");
        let short_key_auth = auth(&format!("admin={short_key}"));
        let two_keys_auth = auth(&format!("admin={short_key}; admin={long_key}"));
        let open_auth = Auth::default();
        for (auth, headers, has_sealing_key) in [
            (&short_key_auth, bearer_headers(short_key), false),
            (&short_key_auth, session.clone(), false),
            (&two_keys_auth, bearer_headers(short_key), false),
            (&two_keys_auth, bearer_headers(long_key), true),
            (&two_keys_auth, session, true),
            (&open_auth, HeaderMap::new(), true),
        ] {
            let sealing_key = auth.sealing_key(&headers, "k-1");
            assert_eq!(sealing_key.is_some(), has_sealing_key, "{headers:?}");
        }
    }

    #[tokio::test]
    async fn cross_site_changes_are_refused_without_authentication() {
        let shop_origin = "https://shop.example.com";
        let auth = Auth::default().with_trusted_origins(&[shop_origin.to_owned()]);
        let (own_origin, untrusted_origin) = ("http://127.0.0.1:8080", "https://evil.example.com");
        let (own_host, rebound_host) = ("127.0.0.1:8080", "evil.example.com:8080");
        for (fetch_site, origin, host, is_let_in) in [
            ("", "", own_host, true),
            ("cross-site", "", own_host, false),
            ("same-site", "http://127.0.0.1:3000", own_host, false),
            ("cross-site", untrusted_origin, own_host, false),
            ("cross-site", "null", own_host, false),
            (
                "cross-site",
                "https://shop.example.com.evil.example.com",
                own_host,
                false,
            ),
            ("cross-site", shop_origin, own_host, true),
            ("same-origin", own_origin, own_host, true),
            ("none", "", own_host, true),
            ("", own_origin, own_host, true),
            ("", shop_origin, own_host, true),
            ("", untrusted_origin, own_host, false),
            (
                "same-origin",
                "http://localhost:8080",
                "localhost:8080",
                true,
            ),
            ("same-origin", "http://[::1]:8080", "[::1]:8080", true),
            (
                "same-origin",
                "http://evil.example.com:8080",
                rebound_host,
                false,
            ),
            ("", "http://evil.example.com:8080", rebound_host, false),
        ] {
            let headers = [
                ("sec-fetch-site", fetch_site),
                ("origin", origin),
                ("host", host),
            ];
            let headers = headers.into_iter().filter(|(_, value)| !value.is_empty());
            let headers: HeaderMap = headers
                .map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()))
                .collect();
            let change_result = auth.identify(&headers, &Method::POST).await;
            assert_eq!(
                change_result.is_ok(),
                is_let_in,
                "{fetch_site} {origin} {host}"
            );
            assert!(auth.identify(&headers, &Method::GET).await.is_ok());
        }
    }
}
