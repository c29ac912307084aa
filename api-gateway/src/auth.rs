//! Who calls. Keys are kept and compared as SHA-256 digests, in constant time.

use std::{str::FromStr, sync::Arc};

use anyhow::bail;
use axum::http::{HeaderMap, header};
use sha2::{Digest, Sha256};
use shared::{
    id::Storefront,
    outcome::{Code, Failure},
    request::Role,
};
use subtle::ConstantTimeEq;

/// Shorter keys can be guessed; they are taken, with a warning.
const GUESSABLE_KEY_LENGTH: usize = 16;

/// The keys that are known.
#[derive(Debug, Clone, Default)]
pub(crate) struct Keys(Arc<[Key]>);

#[derive(Debug)]
struct Key {
    digest: [u8; 32],
    identity: Identity,
}

/// What a credential stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) role: Role,
    pub(crate) storefront: Storefront,
    /// The credential's name in logs and histories.
    pub(crate) actor: String,
}

impl Identity {
    /// Without any keys, on loopback: whoever can connect may do everything.
    fn anyone() -> Self {
        Self {
            role: Role::Admin,
            storefront: Storefront::default(),
            actor: "local".to_owned(),
        }
    }
}

impl Keys {
    /// Reads `role[@storefront]=key;…`.
    ///
    /// # Errors
    /// Names the entry that is wrong, not its key.
    pub(crate) fn parse(text: &str) -> anyhow::Result<Self> {
        let entries = text
            .split(';')
            .map(str::trim)
            .filter(|entry| !entry.is_empty());
        entries
            .map(str::parse)
            .collect::<anyhow::Result<Vec<_>>>()
            .map(|keys| Self(keys.into()))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Who calls, by the `Authorization` header.
    ///
    /// # Errors
    /// `UNAUTHENTICATED`.
    pub(crate) fn identify(&self, headers: &HeaderMap) -> Result<Identity, Failure> {
        if self.is_empty() {
            return Ok(Identity::anyone());
        }
        let unauthenticated = |message: &str| Failure::new(Code::Unauthenticated, message);
        let header = headers
            .get(header::AUTHORIZATION)
            .ok_or_else(|| unauthenticated("Authorization is missing"))?;
        let key = header
            .to_str()
            .ok()
            .and_then(|text| text.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, key)| key.trim())
            .ok_or_else(|| unauthenticated("Authorization must be: Bearer KEY"))?;
        let digest = Sha256::digest(key);
        // All keys are compared, whichever fits: time tells nothing.
        let found = self.0.iter().fold(None, |found, known| {
            if bool::from(known.digest.ct_eq(&digest[..])) {
                Some(known)
            } else {
                found
            }
        });
        found
            .map(|key| key.identity.clone())
            .ok_or_else(|| unauthenticated("the key is not known"))
    }
}

impl FromStr for Key {
    type Err = anyhow::Error;

    fn from_str(entry: &str) -> anyhow::Result<Self> {
        let Some((name, key)) = entry.split_once('=') else {
            bail!("an entry has no '=': must be role[@storefront]=key");
        };
        let (role, storefront) = match name.split_once('@') {
            Some((role, storefront)) => (
                role,
                storefront
                    .parse()
                    .map_err(|error| anyhow::anyhow!("{name}: {error}"))?,
            ),
            None => (name, Storefront::default()),
        };
        if key.is_empty() {
            bail!("{name}: the key is empty");
        }
        if key.len() < GUESSABLE_KEY_LENGTH {
            tracing::warn!("API_KEYS: the key of {name} is short enough to be guessed");
        }
        let role: Role = role.parse().map_err(anyhow::Error::msg)?;
        let identity = Identity {
            role,
            storefront,
            actor: name.to_owned(),
        };
        Ok(Self {
            digest: Sha256::digest(key).into(),
            identity,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(authorization: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::AUTHORIZATION, authorization.parse().unwrap())])
    }

    #[test]
    fn a_key_stands_for_its_role_and_storefront() {
        let keys = Keys::parse("storefront@eu=secret-one; operator=secret-two").unwrap();
        let identity = keys.identify(&with("Bearer secret-one")).unwrap();
        assert_eq!(
            (identity.role, identity.storefront.as_str()),
            (Role::Storefront, "eu")
        );
        assert_eq!(
            keys.identify(&with("bearer secret-two")).unwrap().role,
            Role::Operator
        );
        for wrong in [
            "Bearer secret-on",
            "Bearer ",
            "Basic secret-one",
            "secret-one",
        ] {
            assert_eq!(
                keys.identify(&with(wrong)).unwrap_err().code,
                Code::Unauthenticated,
                "{wrong}"
            );
        }
        assert!(keys.identify(&HeaderMap::new()).is_err());
    }

    #[test]
    fn a_wrong_entry_is_named_without_its_key() {
        for wrong in [
            "operator",
            "root=secret-one",
            "storefront@a/b=secret-one",
            "admin=",
        ] {
            let error = Keys::parse(wrong).unwrap_err().to_string();
            assert!(!error.contains("secret-one"), "{error}");
        }
    }
}
