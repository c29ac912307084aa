//! The secret of a new API key.
//!
//! The secret leaves the gateway only in the response. So that a repeated request with the same `Idempotency-Key`
//! gets the same response, the worker records the secret encrypted with a key that is derived from the caller's own
//! credential: neither the database nor the broker has what is needed to decrypt it.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use ring::{
    aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    hkdf::{HKDF_SHA256, Salt},
    rand::{SecureRandom, SystemRandom},
};
use shared::{
    api_key::{SECRET_BYTES, SECRET_PREFIX},
    outcome::{Code, Failure},
};

/// Number of characters of a secret that are shown to recognize it.
const DISPLAYED_CHARS: usize = 10;

/// A new secret.
///
/// # Errors
/// `INTERNAL` when the system has no random numbers.
pub(crate) fn new_secret() -> Result<String, Failure> {
    let secret_bytes: [u8; SECRET_BYTES] = random_bytes()?;
    let encoded_text = BASE64_URL_SAFE_NO_PAD.encode(secret_bytes);
    Ok(format!("{SECRET_PREFIX}{encoded_text}"))
}

/// The part of a secret that is shown to recognize it.
pub(crate) fn displayed_prefix(secret: &str) -> &str {
    secret.get(..DISPLAYED_CHARS).unwrap_or(secret)
}

/// Random bytes.
///
/// # Errors
/// `INTERNAL` when the system has no random numbers.
fn random_bytes<const N: usize>() -> Result<[u8; N], Failure> {
    let mut bytes = [0; N];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| Failure::new(Code::Internal, "no random numbers are available"))?;
    Ok(bytes)
}

/// Encrypts secrets for the replies to repeated requests.
pub(crate) struct SealingKey(LessSafeKey);

impl SealingKey {
    /// The key for requests with this credential and idempotency key.
    pub(super) fn derive(credential: &[u8], idempotency_key: &str) -> Option<Self> {
        let salt = Salt::new(HKDF_SHA256, b"orderwright: secret of a new API key");
        let pseudorandom_key = salt.extract(credential);
        let derivation_info = [idempotency_key.as_bytes()];
        let derived_key = pseudorandom_key
            .expand(&derivation_info, &CHACHA20_POLY1305)
            .ok()?;
        Some(Self(LessSafeKey::new(UnboundKey::from(derived_key))))
    }

    /// Encrypts `secret`.
    ///
    /// # Errors
    /// `INTERNAL` when the system has no random numbers.
    pub(crate) fn seal(&self, secret: &str) -> Result<String, Failure> {
        let nonce: [u8; NONCE_LEN] = random_bytes()?;
        let mut encrypted_bytes = secret.as_bytes().to_vec();
        self.0
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(displayed_prefix(secret)),
                &mut encrypted_bytes,
            )
            .map_err(|_| Failure::new(Code::Internal, "the secret can't be encrypted"))?;
        Ok(BASE64_URL_SAFE_NO_PAD.encode([&nonce[..], &encrypted_bytes].concat()))
    }

    /// Decrypts a secret with this displayed prefix; `None` if it was encrypted with another credential.
    pub(crate) fn open(&self, sealed_secret: &str, prefix: &str) -> Option<String> {
        let mut sealed_bytes = BASE64_URL_SAFE_NO_PAD.decode(sealed_secret).ok()?;
        let (nonce_bytes, encrypted_bytes) = sealed_bytes.split_at_mut_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce_bytes).ok()?;
        let secret = self
            .0
            .open_in_place(nonce, Aad::from(prefix), encrypted_bytes)
            .ok()?;
        String::from_utf8(secret.to_vec()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sealed_secret_opens_with_the_same_credential_and_idempotency_key_only() {
        let secret = new_secret().unwrap();
        assert_eq!(secret.len(), SECRET_PREFIX.len() + 43);
        let prefix = displayed_prefix(&secret);
        let sealing_key = |credential: &str, idempotency_key: &str| {
            SealingKey::derive(credential.as_bytes(), idempotency_key).unwrap()
        };
        let sealed_secret = sealing_key("an admin's key", "k-1").seal(&secret).unwrap();
        assert!(!sealed_secret.contains(&secret));
        let open_secret = |credential, idempotency_key, prefix| {
            sealing_key(credential, idempotency_key).open(&sealed_secret, prefix)
        };
        assert_eq!(
            open_secret("an admin's key", "k-1", prefix),
            Some(secret.clone())
        );
        assert_eq!(open_secret("another key", "k-1", prefix), None);
        assert_eq!(open_secret("an admin's key", "k-2", prefix), None);
        assert_eq!(open_secret("an admin's key", "k-1", "owk_other"), None);
        assert_eq!(sealing_key("a", "b").open("AAAA", prefix), None);
    }
}
