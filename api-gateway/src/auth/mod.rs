//! Who calls: by an API key, or by a JSON Web Token.
//!
//! - [`keys`]: keys from the configuration, known by their digests.
//! - [`jwt`]: tokens of an identity provider's, checked by a secret or by its published keys;
//!   [`ring`]: the cryptography of that.
//! - [`session`]: browsers that have shown one of these.

pub(crate) mod jwt;
pub(crate) mod keys;
mod ring;
mod session;

use std::{sync::Arc, time::SystemTime};

use axum::http::{HeaderMap, HeaderValue, Method, header};
use shared::{
    id::Storefront,
    outcome::{Code, Failure},
    request::Role,
};

use self::{jwt::Tokens, keys::Keys};

/// What is known of credentials.
#[derive(Clone, Default)]
pub(crate) struct Auth {
    keys: Keys,
    tokens: Option<Tokens>,
}

/// What a credential stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) role: Role,
    pub(crate) storefront: Storefront,
    /// The credential's name in logs and histories.
    pub(crate) actor: String,
    /// Tells this credential from every other, and tells nothing else about it.
    pub(crate) credential: Arc<str>,
    /// When it ends.
    pub(crate) expires_at: Option<SystemTime>,
}

impl Identity {
    /// Without any credentials, on loopback: whoever can connect may do everything.
    fn anyone() -> Self {
        Self {
            role: Role::Admin,
            storefront: Storefront::default(),
            actor: "local".to_owned(),
            credential: "local".into(),
            expires_at: None,
        }
    }
}

impl Auth {
    pub(crate) fn new(keys: Keys, tokens: Option<Tokens>) -> Self {
        Self { keys, tokens }
    }

    /// Whether everybody is let in.
    pub(crate) fn is_open(&self) -> bool {
        self.keys.is_empty() && self.tokens.is_none()
    }

    /// Whether there may be credentials of this storefront: which ones an identity provider names is not
    /// known.
    pub(crate) fn may_know(&self, storefront: &Storefront) -> bool {
        *storefront == Storefront::default()
            || self.tokens.is_some()
            || self.keys.name_storefront(storefront)
    }

    /// Who calls, by the `Authorization` header (RFC 6750, section 2.1), or by the console's session.
    ///
    /// # Errors
    /// `UNAUTHENTICATED`; `UNAVAILABLE` when a token's keys can't be had; `FORBIDDEN` when a page of
    /// somebody else's has a browser ask for a change.
    pub(crate) async fn identify(
        &self,
        headers: &HeaderMap,
        method: &Method,
    ) -> Result<Identity, Failure> {
        if self.is_open() {
            refuse_other_sites(headers, method)?;
            return Ok(Identity::anyone());
        }
        if !headers.contains_key(header::AUTHORIZATION)
            && let Some(identity) = self.identify_session(headers, method).await?
        {
            return Ok(identity);
        }
        let mut values = headers.get_all(header::AUTHORIZATION).iter();
        let value = values
            .next()
            .ok_or_else(|| unauthenticated("Authorization is missing"))?;
        if values.next().is_some() {
            return Err(unauthenticated("Authorization is there twice"));
        }
        let credential = value
            .to_str()
            .ok()
            .and_then(|text| text.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, credential)| credential.trim())
            .ok_or_else(|| unauthenticated("Authorization must be: Bearer CREDENTIAL"))?;
        self.identify_by(credential).await
    }

    async fn identify_by(&self, credential: &str) -> Result<Identity, Failure> {
        if let Some(identity) = self.keys.identify(credential) {
            return Ok(identity);
        }
        match &self.tokens {
            Some(tokens) if jwt::looks_like_one(credential) => tokens.identify(credential).await,
            _ => Err(unauthenticated("the credential is not known")),
        }
    }
}

/// Where nobody has to show anything, whatever page a browser is on could have it ask: browsers say whose
/// page it is (<https://www.w3.org/TR/fetch-metadata/>).
fn refuse_other_sites(headers: &HeaderMap, method: &Method) -> Result<(), Failure> {
    let site = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
    let is_another = site.is_some_and(|site| !matches!(site, b"same-origin" | b"none"));
    if is_another && !method.is_safe() {
        return Err(Failure::new(
            Code::Forbidden,
            "a page of another site asks for this",
        ));
    }
    Ok(())
}

fn unauthenticated(message: impl Into<String>) -> Failure {
    Failure::new(Code::Unauthenticated, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_credential_stands_alone_behind_its_scheme() {
        let keys = Keys::parse("storefront@eu=secret-one; operator=secret-two").unwrap();
        let auth = Auth::new(keys, None);
        let with =
            |value: &str| HeaderMap::from_iter([(header::AUTHORIZATION, value.parse().unwrap())]);
        let identity = auth
            .identify(&with("bearer secret-one"), &Method::GET)
            .await
            .unwrap();
        assert_eq!(identity.storefront.as_str(), "eu");
        for wrong in [
            "Bearer secret-on",
            "Bearer ",
            "Basic secret-one",
            "secret-one",
            "Bearer a.b.c",
        ] {
            let refused = auth.identify(&with(wrong), &Method::GET).await.unwrap_err();
            assert_eq!(refused.code, Code::Unauthenticated, "{wrong}");
        }
        assert!(
            auth.identify(&HeaderMap::new(), &Method::GET)
                .await
                .is_err()
        );
        let mut twice = with("Bearer secret-one");
        twice.append(header::AUTHORIZATION, "Bearer secret-two".parse().unwrap());
        assert!(auth.identify(&twice, &Method::GET).await.is_err());
    }

    #[tokio::test]
    async fn where_everybody_is_let_in_other_sites_pages_are_not() {
        let auth = Auth::default();
        let from = |site: &str| {
            HeaderMap::from_iter([("sec-fetch-site".parse().unwrap(), site.parse().unwrap())])
        };
        for (site, method, is_let_in) in [
            ("cross-site", Method::POST, false),
            ("same-site", Method::DELETE, false),
            ("cross-site", Method::GET, true),
            ("same-origin", Method::POST, true),
            ("none", Method::POST, true),
        ] {
            let identity = auth.identify(&from(site), &method).await;
            assert_eq!(identity.is_ok(), is_let_in, "{site} {method}");
        }
        assert!(
            auth.identify(&HeaderMap::new(), &Method::POST)
                .await
                .is_ok()
        );
    }
}
