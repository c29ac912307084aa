//! Verifies token signatures with the `ring` crate, which is linked for TLS anyway.
//!
//! Implements `jsonwebtoken`'s crypto provider for [`super::jwt`], so that no second cryptography library is
//! needed. Creating signatures is not supported.

use jsonwebtoken::{
    Algorithm, AlgorithmFamily, DecodingKey, DecodingKeyKind,
    crypto::{CryptoProvider, JwtVerifier, KeyUtils},
    errors::{Error, ErrorKind},
};
use ring::{
    hmac,
    signature::{self, RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm},
};
use signature_traits::Verifier;

static CRYPTO_PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: |_, _| Err(ErrorKind::InvalidAlgorithm.into()),
    verifier_factory: |algorithm, key| verifier(*algorithm, key),
    key_utils: KeyUtils::new_unimplemented(),
};

/// Installs ring as `jsonwebtoken`'s crypto provider, once per process.
pub(super) fn install() {
    // An error means that the provider is already installed.
    let _ = CRYPTO_PROVIDER.install_default();
}

/// Verifies signatures with one key and algorithm.
struct RingVerifier {
    algorithm: Algorithm,
    key: DecodingKey,
}

fn verifier(algorithm: Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>, Error> {
    if key.family() != algorithm.family() {
        return Err(ErrorKind::InvalidKeyFormat.into());
    }
    Ok(Box::new(RingVerifier {
        algorithm,
        key: key.clone(),
    }))
}

impl JwtVerifier for RingVerifier {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

impl Verifier<Vec<u8>> for RingVerifier {
    fn verify(
        &self,
        message: &[u8],
        signature_bytes: &Vec<u8>,
    ) -> Result<(), signature_traits::Error> {
        self.verify_signature(message, signature_bytes)
            .map_err(|_| signature_traits::Error::new())
    }
}

impl RingVerifier {
    fn verify_signature(
        &self,
        message: &[u8],
        signature_bytes: &[u8],
    ) -> Result<(), ring::error::Unspecified> {
        let unsupported_error = |_| ring::error::Unspecified;
        if self.algorithm.family() == AlgorithmFamily::Hmac {
            let algorithm = match self.algorithm {
                Algorithm::HS256 => hmac::HMAC_SHA256,
                Algorithm::HS384 => hmac::HMAC_SHA384,
                Algorithm::HS512 => hmac::HMAC_SHA512,
                _ => return Err(ring::error::Unspecified),
            };
            let secret = self.key.try_get_as_bytes().map_err(unsupported_error)?;
            return hmac::verify(&hmac::Key::new(algorithm, secret), message, signature_bytes);
        }
        match self.key.kind() {
            DecodingKeyKind::RsaModulusExponent {
                n: modulus,
                e: exponent,
            } => {
                let algorithm = match self.algorithm {
                    Algorithm::RS256 => &signature::RSA_PKCS1_2048_8192_SHA256,
                    Algorithm::RS384 => &signature::RSA_PKCS1_2048_8192_SHA384,
                    Algorithm::RS512 => &signature::RSA_PKCS1_2048_8192_SHA512,
                    Algorithm::PS256 => &signature::RSA_PSS_2048_8192_SHA256,
                    Algorithm::PS384 => &signature::RSA_PSS_2048_8192_SHA384,
                    Algorithm::PS512 => &signature::RSA_PSS_2048_8192_SHA512,
                    _ => return Err(ring::error::Unspecified),
                };
                RsaPublicKeyComponents {
                    n: modulus,
                    e: exponent,
                }
                .verify(algorithm, message, signature_bytes)
            }
            DecodingKeyKind::SecretOrDer(key) => {
                let algorithm: &dyn VerificationAlgorithm = match self.algorithm {
                    Algorithm::ES256 => &signature::ECDSA_P256_SHA256_FIXED,
                    Algorithm::ES384 => &signature::ECDSA_P384_SHA384_FIXED,
                    Algorithm::EdDSA => &signature::ED25519,
                    _ => return Err(ring::error::Unspecified),
                };
                UnparsedPublicKey::new(algorithm, key).verify(message, signature_bytes)
            }
        }
    }
}
