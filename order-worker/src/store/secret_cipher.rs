//! Encrypts webhook secrets at rest with `ENCRYPTION_KEY` (AES-256-GCM).
//!
//! The stored form is `enc:1:KEY_ID:BASE64`: the id of the key, and nonce and ciphertext. The name of the row is
//! authenticated (associated data), so that a secret can't be moved to another row. Without a key secrets are stored
//! as they are. Both forms can be read at any time, so encryption can be turned on, and the key rotated, while
//! workers are running.

use std::fmt::Write as _;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use ring::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    rand::{SecureRandom, SystemRandom},
};
use sha2::{Digest, Sha256};

use super::StoreError;

/// Length of a key in bytes.
pub const KEY_BYTES: usize = 32;
/// Beginning of every encrypted secret; no plain secret begins with it.
pub(in crate::store) const ENCRYPTED_PREFIX: &str = "enc:1:";
/// Number of digest bytes in the id of a key.
const KEY_ID_BYTES: usize = 4;

/// The configured keys: secrets are written with the current key, and read with both.
#[derive(Default)]
pub struct SecretCipher {
    current_key: Option<CipherKey>,
    previous_key: Option<CipherKey>,
}

struct CipherKey {
    key_id: String,
    key: LessSafeKey,
}

impl CipherKey {
    fn new(key_bytes: &[u8; KEY_BYTES]) -> Option<Self> {
        let digest = Sha256::digest(key_bytes);
        let mut key_id = String::new();
        for byte in &digest[..KEY_ID_BYTES] {
            let _ = write!(key_id, "{byte:02x}");
        }
        let unbound_key = UnboundKey::new(&AES_256_GCM, key_bytes).ok()?;
        Some(Self {
            key_id,
            key: LessSafeKey::new(unbound_key),
        })
    }
}

impl std::fmt::Debug for SecretCipher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let key_id = |key: &Option<CipherKey>| key.as_ref().map(|key| key.key_id.clone());
        f.debug_struct("SecretCipher")
            .field("current", &key_id(&self.current_key))
            .field("previous", &key_id(&self.previous_key))
            .finish()
    }
}

impl SecretCipher {
    /// A cipher that writes with `current_key`, or plain without it, and reads with both keys.
    pub fn new(
        current_key: Option<[u8; KEY_BYTES]>,
        previous_key: Option<[u8; KEY_BYTES]>,
    ) -> Self {
        Self {
            current_key: current_key.as_ref().and_then(CipherKey::new),
            previous_key: previous_key.as_ref().and_then(CipherKey::new),
        }
    }

    /// Whether no keys are configured.
    pub fn is_off(&self) -> bool {
        self.current_key.is_none() && self.previous_key.is_none()
    }

    /// The stored form of `secret` in the row `row_name`.
    ///
    /// # Errors
    /// [`StoreError::Failed`] when the system has no random numbers.
    pub(in crate::store) fn seal(
        &self,
        secret: &str,
        row_name: &str,
    ) -> Result<String, StoreError> {
        let Some(CipherKey { key_id, key }) = &self.current_key else {
            return Ok(secret.to_owned());
        };
        let encryption_error = |_| StoreError::Failed("a secret can't be encrypted".to_owned());
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new()
            .fill(&mut nonce)
            .map_err(encryption_error)?;
        let mut secret_bytes = secret.as_bytes().to_vec();
        key.seal_in_place_append_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(row_name),
            &mut secret_bytes,
        )
        .map_err(encryption_error)?;
        let encoded_bytes = BASE64_STANDARD.encode([&nonce[..], &secret_bytes].concat());
        Ok(format!("{ENCRYPTED_PREFIX}{key_id}:{encoded_bytes}"))
    }

    /// The secret whose stored form in the row `row_name` is `encrypted_text`.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when it was encrypted with another key, or for another row.
    pub(in crate::store) fn open(
        &self,
        encrypted_text: &str,
        row_name: &str,
    ) -> Result<String, StoreError> {
        let Some((key_id, encrypted_part)) = split_encrypted(encrypted_text) else {
            return Ok(encrypted_text.to_owned());
        };
        let key = self.keys().find(|key| key.key_id == key_id).ok_or_else(|| {
            StoreError::Corrupt(format!(
                "the secret of {row_name} is encrypted with the key {key_id}, which is neither ENCRYPTION_KEY nor ENCRYPTION_KEY_PREVIOUS"
            ))
        })?;
        let secret = || {
            let mut decoded_bytes = BASE64_STANDARD.decode(encrypted_part).ok()?;
            let (nonce, encrypted_bytes) = decoded_bytes.split_at_mut_checked(NONCE_LEN)?;
            let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
            let secret = key
                .key
                .open_in_place(nonce, Aad::from(row_name), encrypted_bytes)
                .ok()?;
            String::from_utf8(secret.to_vec()).ok()
        };
        secret().ok_or_else(|| {
            StoreError::Corrupt(format!(
                "the secret of {row_name} can't be decrypted: it was changed"
            ))
        })
    }

    /// Whether `stored_text` is in the form that [`Self::seal`] writes now.
    pub(in crate::store) fn is_current(&self, stored_text: &str) -> bool {
        let key_id = split_encrypted(stored_text).map(|(key_id, _)| key_id);
        key_id == self.current_key.as_ref().map(|key| &*key.key_id)
    }

    /// The id of the key that `stored_text` needs, if it is not configured.
    pub(in crate::store) fn missing_key_id<'a>(&self, stored_text: &'a str) -> Option<&'a str> {
        let (key_id, _) = split_encrypted(stored_text)?;
        let is_known = self.keys().any(|key| key.key_id == key_id);
        (!is_known).then_some(key_id)
    }

    fn keys(&self) -> impl Iterator<Item = &CipherKey> {
        self.current_key.iter().chain(&self.previous_key)
    }
}

/// The key id and the ciphertext of an encrypted secret; `None` for a plain one.
fn split_encrypted(stored_text: &str) -> Option<(&str, &str)> {
    stored_text.strip_prefix(ENCRYPTED_PREFIX)?.split_once(':')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secret_opens_with_its_key_and_in_its_row_only() {
        let (old_key, new_key) = ([1; KEY_BYTES], [2; KEY_BYTES]);
        let old_cipher = SecretCipher::new(Some(old_key), None);
        let encrypted_text = old_cipher.seal("whsec_abc", "endpoint a").unwrap();
        assert!(!encrypted_text.contains("whsec_"));
        assert_ne!(
            encrypted_text,
            old_cipher.seal("whsec_abc", "endpoint a").unwrap()
        );
        assert_eq!(
            old_cipher.open(&encrypted_text, "endpoint a").unwrap(),
            "whsec_abc"
        );
        assert!(old_cipher.open(&encrypted_text, "endpoint b").is_err());
        let changed_text = format!("{}AAAA", &encrypted_text[..encrypted_text.len() - 4]);
        assert!(old_cipher.open(&changed_text, "endpoint a").is_err());

        let rotated_cipher = SecretCipher::new(Some(new_key), Some(old_key));
        assert_eq!(
            rotated_cipher.open(&encrypted_text, "endpoint a").unwrap(),
            "whsec_abc"
        );
        assert!(!rotated_cipher.is_current(&encrypted_text));
        let resealed_text = rotated_cipher.seal("whsec_abc", "endpoint a").unwrap();
        assert!(rotated_cipher.is_current(&resealed_text));

        let new_cipher = SecretCipher::new(Some(new_key), None);
        assert!(new_cipher.open(&encrypted_text, "endpoint a").is_err());
        assert_eq!(
            new_cipher.missing_key_id(&encrypted_text),
            encrypted_text.split(':').nth(2)
        );
        assert_eq!(
            new_cipher.open(&resealed_text, "endpoint a").unwrap(),
            "whsec_abc"
        );
    }

    #[test]
    fn plain_secrets_are_readable_and_written_without_a_key() {
        let plain_cipher = SecretCipher::default();
        assert_eq!(plain_cipher.seal("whsec_abc", "row").unwrap(), "whsec_abc");
        assert!(plain_cipher.is_current("whsec_abc"));
        let encrypting_cipher = SecretCipher::new(Some([1; KEY_BYTES]), None);
        assert_eq!(
            encrypting_cipher.open("whsec_abc", "row").unwrap(),
            "whsec_abc"
        );
        assert!(!encrypting_cipher.is_current("whsec_abc"));
        let decrypting_cipher = SecretCipher::new(None, Some([1; KEY_BYTES]));
        assert!(
            !decrypting_cipher.is_current(&encrypting_cipher.seal("whsec_abc", "row").unwrap())
        );
    }
}
