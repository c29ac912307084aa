//! Console sessions: a browser sends a credential once and receives an HTTP-only cookie.
//!
//! For an API key, the cookie contains the key's credential id and an expiry, signed with a secret derived
//! from all keys of `API_KEYS`. So sessions need no server state, and removing one of these keys ends all
//! sessions. Revoking a key that an admin has created ends the sessions of this key. Without `API_KEYS` the
//! secret is random: a session ends when its gateway restarts, and other gateways do not know it. A JSON Web
//! Token is stored in the cookie itself until it expires.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::http::{HeaderMap, Method, header};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use ring::hmac;
use shared::outcome::{Code, Failure};

use super::{Auth, Identity, jwt, stored_keys, unauthenticated_failure};

/// Name of the session cookie.
const COOKIE_NAME: &str = "orders_session";
/// Lifetime of a session that was started with an API key.
const SESSION_LIFETIME: Duration = Duration::from_hours(12);
/// Header that only the console's own pages can send: other origins need a CORS preflight for it.
pub(crate) const CONSOLE_HEADER: &str = "x-console";

impl Auth {
    /// Starts a session for `credential` and returns its `Set-Cookie`.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` when the credential is invalid; `UNAVAILABLE` when the keys for verifying tokens
    /// can't be fetched.
    pub(crate) async fn log_in(
        &self,
        credential: &str,
        is_secure: bool,
    ) -> Result<(Identity, String), Failure> {
        let identity = self.identify_credential(credential).await?;
        let now = SystemTime::now();
        let is_api_key =
            self.keys.identify(credential).is_some() || stored_keys::has_key_form(credential);
        let expires_at = identity.validity.expires_at();
        let latest_end = now + SESSION_LIFETIME;
        let ends_at = match expires_at {
            Some(expires_at) if is_api_key => expires_at.min(latest_end),
            Some(expires_at) => expires_at,
            None => latest_end,
        };
        let cookie_value = if is_api_key {
            self.signed_cookie(&identity.credential_id, ends_at)
        } else {
            format!("t.{credential}")
        };
        let remaining_seconds = ends_at.duration_since(now).unwrap_or_default().as_secs();
        Ok((
            identity,
            set_cookie(&cookie_value, remaining_seconds, is_secure),
        ))
    }

    /// The `Set-Cookie` that ends a session.
    pub(crate) fn log_out(is_secure: bool) -> String {
        set_cookie("", 0, is_secure)
    }

    /// The identity of the session cookie; `None` without a cookie. A page of another site can make a browser
    /// send the cookie, but not [`CONSOLE_HEADER`], so changes need both.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` when the session has ended; `FORBIDDEN` for a change without [`CONSOLE_HEADER`].
    pub(super) async fn identify_session(
        &self,
        headers: &HeaderMap,
        method: &Method,
    ) -> Result<Option<Identity>, Failure> {
        let Some(cookie_value) = session_cookie(headers) else {
            return Ok(None);
        };
        if !method.is_safe() && !headers.contains_key(CONSOLE_HEADER) {
            return Err(Failure::new(
                Code::Forbidden,
                format!(
                    "a change with the session cookie needs the header {CONSOLE_HEADER}, which the console sends"
                ),
            ));
        }
        if let Some(token) = cookie_value.strip_prefix("t.") {
            return match &self.token_verifier {
                Some(token_verifier) if jwt::has_token_form(token) => {
                    token_verifier.identify(token).await.map(Some)
                }
                _ => Err(unauthenticated_failure(
                    "the session is not valid; log in again",
                )),
            };
        }
        self.identify_signed_cookie(cookie_value)
            .await?
            .map(Some)
            .ok_or_else(|| unauthenticated_failure("the session has ended; log in again"))
    }

    /// The cookie value `k.CREDENTIAL_ID.EXPIRY_SECONDS.SIGNATURE`.
    fn signed_cookie(&self, credential_id: &str, ends_at: SystemTime) -> String {
        let ends_at_seconds = unix_seconds(ends_at);
        let signed_text = format!("k.{credential_id}.{ends_at_seconds}");
        let signature_tag = hmac::sign(&self.session_key(), signed_text.as_bytes());
        format!(
            "{signed_text}.{}",
            BASE64_URL_SAFE_NO_PAD.encode(signature_tag.as_ref())
        )
    }

    /// The identity of a signed cookie; `None` if the session has ended.
    ///
    /// # Errors
    /// `UNAVAILABLE` when the key is not known here and no worker can be asked.
    async fn identify_signed_cookie(
        &self,
        cookie_value: &str,
    ) -> Result<Option<Identity>, Failure> {
        let Some((credential_id, ends_at)) = self.verify_session_cookie(cookie_value) else {
            return Ok(None);
        };
        let identity = match self.keys.find_by_credential_id(credential_id) {
            Some(identity) => Some(identity),
            None => {
                self.stored_keys
                    .find_by_credential_id(credential_id)
                    .await?
            }
        };
        let identity = identity.map(|identity| Identity {
            validity: identity.validity.at_most_until(ends_at),
            ..identity
        });
        Ok(identity.filter(|identity| identity.validity.check().is_ok()))
    }

    /// The credential id and the end of a session, from the value of its cookie; `None` if the signature is
    /// invalid.
    fn verify_session_cookie<'a>(&self, cookie_value: &'a str) -> Option<(&'a str, SystemTime)> {
        let (signed_part, signature) = cookie_value.rsplit_once('.')?;
        let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).ok()?;
        hmac::verify(&self.session_key(), signed_part.as_bytes(), &signature).ok()?;
        let (credential_id, ends_at_text) = signed_part.strip_prefix("k.")?.rsplit_once('.')?;
        let ends_at_seconds: u64 = ends_at_text.parse().ok()?;
        Some((
            credential_id,
            UNIX_EPOCH + Duration::from_secs(ends_at_seconds),
        ))
    }

    fn session_key(&self) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, &self.session_secret)
    }
}

fn unix_seconds(time: SystemTime) -> u64 {
    let since_epoch = time.duration_since(UNIX_EPOCH);
    since_epoch.unwrap_or_default().as_secs()
}

/// The value of the session cookie.
pub(super) fn session_cookie(headers: &HeaderMap) -> Option<&str> {
    let cookies = headers.get_all(header::COOKIE).iter();
    let mut cookies = cookies
        .filter_map(|cookies| cookies.to_str().ok())
        .flat_map(|cookies| cookies.split(';'));
    cookies.find_map(|cookie| {
        let (name, value) = cookie.trim().split_once('=')?;
        (name == COOKIE_NAME && !value.is_empty()).then_some(value)
    })
}

fn set_cookie(cookie_value: &str, max_age_seconds: u64, is_secure: bool) -> String {
    let secure_attribute = if is_secure { "; Secure" } else { "" };
    format!(
        "{COOKIE_NAME}={cookie_value}; Path=/; HttpOnly; SameSite=Strict; Max-Age={max_age_seconds}{secure_attribute}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::keys::ApiKeys;

    fn new_auth(keys: &str) -> Auth {
        Auth::new(ApiKeys::parse(keys).unwrap(), None)
    }

    #[tokio::test]
    async fn session_has_its_keys_identity_and_is_invalid_when_the_key_changes() {
        let own_auth = new_auth("storefront@eu=secret-of-the-eu; operator=secret-of-operators");
        let (identity, cookie) = own_auth.log_in("secret-of-the-eu", true).await.unwrap();
        assert!(cookie.contains("HttpOnly; SameSite=Strict") && cookie.ends_with("Secure"));
        let sent_cookie = cookie.split(';').next().unwrap().to_owned();
        assert!(!sent_cookie.contains("secret"));
        let headers_with = |cookie: &str| {
            HeaderMap::from_iter([(header::COOKIE, format!("a=b; {cookie}").parse().unwrap())])
        };
        let read_result = own_auth
            .identify_session(&headers_with(&sent_cookie), &Method::GET)
            .await;
        assert_eq!(read_result.unwrap().unwrap().actor, identity.actor);
        let change_result = own_auth
            .identify_session(&headers_with(&sent_cookie), &Method::POST)
            .await;
        assert_eq!(change_result.unwrap_err().code, Code::Forbidden);
        let mut console_headers = headers_with(&sent_cookie);
        console_headers.insert(CONSOLE_HEADER, "1".parse().unwrap());
        let change_result = own_auth
            .identify_session(&console_headers, &Method::POST)
            .await;
        assert!(change_result.unwrap().is_some());
        // Changing the keys, the expiry or the key's id invalidates the signature.
        for other_auth in [
            new_auth("storefront@eu=secret-of-the-eu"),
            new_auth("storefront@eu=another-secret; operator=secret-of-operators"),
        ] {
            assert!(
                other_auth
                    .identify_session(&headers_with(&sent_cookie), &Method::GET)
                    .await
                    .is_err()
            );
        }
        let cookie_parts: Vec<&str> = sent_cookie.split('.').collect();
        let extended_cookie = format!(
            "{}.{}.99999999999.{}",
            cookie_parts[0], cookie_parts[1], cookie_parts[3]
        );
        assert!(
            own_auth
                .identify_session(&headers_with(&extended_cookie), &Method::GET)
                .await
                .is_err()
        );
        for invalid_cookie in [
            "orders_session=k.a",
            "orders_session=t.a.b.c",
            "orders_session=x",
        ] {
            assert!(
                own_auth
                    .identify_session(&headers_with(invalid_cookie), &Method::GET)
                    .await
                    .is_err(),
                "{invalid_cookie}"
            );
        }
        assert!(
            own_auth
                .identify_session(&headers_with("other=1"), &Method::GET)
                .await
                .unwrap()
                .is_none()
        );
        assert!(own_auth.log_in("secret-of-nobody", false).await.is_err());
    }
}
