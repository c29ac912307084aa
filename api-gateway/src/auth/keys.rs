//! API keys from `API_KEYS`, each with a role and a storefront.
//!
//! Keys are stored as SHA-256 digests and compared in constant time, so that timing reveals nothing
//! about them. Error and log messages never contain a key. [`super::session`] derives the secret of session cookies
//! from all keys.

use std::{str::FromStr, sync::Arc};

use anyhow::bail;
use base64::{Engine as _, prelude::BASE64_STANDARD_NO_PAD};
use sha2::{Digest, Sha256};
use shared::{id::Storefront, request::Role};
use subtle::ConstantTimeEq;

use super::{CREDENTIAL_ID_BYTES, Identity, validity::Validity};

/// Shorter keys are accepted with a warning, since they can be guessed.
pub(super) const MIN_SAFE_KEY_LENGTH: usize = 16;

/// The configured keys.
#[derive(Debug, Clone, Default)]
pub(crate) struct ApiKeys(Arc<[ApiKey]>);

#[derive(Debug)]
struct ApiKey {
    digest: [u8; 32],
    /// Whether it has fewer than [`MIN_SAFE_KEY_LENGTH`] characters.
    is_short: bool,
    identity: Identity,
}

impl ApiKeys {
    /// Parses `role[@storefront]=key;…`.
    ///
    /// # Errors
    /// When an entry is invalid; the message does not contain the key.
    pub(crate) fn parse(entries_text: &str) -> anyhow::Result<Self> {
        let entries = entries_text
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

    /// Whether keys are configured and all of them could be guessed.
    pub(super) fn are_all_short(&self) -> bool {
        !self.is_empty() && self.0.iter().all(|key| key.is_short)
    }

    /// Whether a key for this storefront is configured.
    pub(super) fn has_storefront(&self, storefront: &Storefront) -> bool {
        let mut keys = self.0.iter();
        keys.any(|key| key.identity.storefront == *storefront)
    }

    /// The identity of the key with this credential id.
    pub(super) fn find_by_credential_id(&self, credential_id: &str) -> Option<Identity> {
        let mut keys = self.0.iter();
        let key = keys.find(|key| &*key.identity.credential_id == credential_id)?;
        Some(key.identity.clone())
    }

    /// A digest of all keys, from which the secret for session cookies is made. Every gateway with the same
    /// keys in the same order has the same digest.
    pub(super) fn digest(&self) -> [u8; 32] {
        let mut hasher = Sha256::new_with_prefix("sessions");
        for key in self.0.iter() {
            hasher.update(key.digest);
        }
        hasher.finalize().into()
    }

    /// The identity of `credential`, if it is configured.
    pub(crate) fn identify(&self, credential: &str) -> Option<Identity> {
        let digest = Sha256::digest(credential);
        // Compares with every key, so that the time taken does not depend on the result.
        let found_key = self.0.iter().fold(None, |found_key, key| {
            if bool::from(key.digest.ct_eq(&digest[..])) {
                Some(key)
            } else {
                found_key
            }
        });
        found_key.map(|key| key.identity.clone())
    }
}

impl FromStr for ApiKey {
    type Err = anyhow::Error;

    fn from_str(key_entry: &str) -> anyhow::Result<Self> {
        let Some((key_name, secret)) = key_entry.split_once('=') else {
            bail!("an entry has no '=': must be role[@storefront]=key");
        };
        let (role, storefront) = match key_name.split_once('@') {
            Some((role, storefront)) => (
                role,
                storefront
                    .parse()
                    .map_err(|error| anyhow::anyhow!("{key_name}: {error}"))?,
            ),
            None => (key_name, Storefront::default()),
        };
        if secret.is_empty() {
            bail!("{key_name}: the key is empty");
        }
        let is_short = secret.len() < MIN_SAFE_KEY_LENGTH;
        if is_short {
            tracing::warn!(
                "API_KEYS: the key of {key_name} has fewer than {MIN_SAFE_KEY_LENGTH} characters and could be guessed; use a longer one"
            );
        }
        let digest = Sha256::digest(secret);
        let role: Role = role.parse().map_err(anyhow::Error::msg)?;
        let identity = Identity {
            role,
            storefront,
            actor: key_name.to_owned(),
            credential_id: BASE64_STANDARD_NO_PAD
                .encode(&digest[..CREDENTIAL_ID_BYTES])
                .into(),
            validity: Validity::default(),
        };
        Ok(Self {
            digest: digest.into(),
            is_short,
            identity,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn api_key_identifies_role_and_storefront() {
        let keys = ApiKeys::parse("storefront@eu=secret-one; operator=secret-two").unwrap();
        let identity = keys.identify("secret-one").unwrap();
        assert_eq!(
            (identity.role, identity.storefront.as_str()),
            (Role::Storefront, "eu")
        );
        assert_eq!(keys.identify("secret-two").unwrap().role, Role::Operator);
        for invalid_key in ["secret-on", "", "secret-one "] {
            assert!(keys.identify(invalid_key).is_none(), "{invalid_key}");
        }
    }

    #[test]
    fn invalid_key_entry_is_reported_without_its_secret() {
        for invalid_entry in [
            "operator",
            "root=secret-one",
            "storefront@a/b=secret-one",
            "admin=",
        ] {
            let error_text = ApiKeys::parse(invalid_entry).unwrap_err().to_string();
            assert!(!error_text.contains("secret-one"), "{error_text}");
        }
    }
}
