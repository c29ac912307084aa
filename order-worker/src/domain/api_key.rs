//! API keys that admins create. A key is stored as the digest of its secret; the worker gets the secret only
//! encrypted, for the recorded reply of the request that creates the key.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use shared::{
    api_key::{ActiveKey, ApiKey as Representation, KeyDigest},
    id::{ApiKeyId, Storefront},
    request::Role,
};

/// An API key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiKey {
    /// UUIDv7.
    pub id: ApiKeyId,
    /// Name of the key.
    pub name: String,
    /// Role of the key.
    pub role: Role,
    /// Storefront that the key is limited to; `None` for operators and admins.
    pub storefront: Option<Storefront>,
    /// SHA-256 digest of the secret.
    pub digest: KeyDigest,
    /// First characters of the secret.
    pub prefix: String,
    /// Time from which the key is refused.
    pub expires_at: Option<Timestamp>,
    /// Time of the revocation.
    pub revoked_at: Option<Timestamp>,
    /// `sequence` of its last event.
    pub version: u64,
    /// Time of creation.
    pub created_at: Timestamp,
    /// Time of the last use. Written without a decision, and so stored outside of the state.
    #[serde(skip)]
    pub last_used_at: Option<Timestamp>,
    /// The secret, encrypted by the sender of the request that created the key. Only the recorded reply of that
    /// request contains it.
    #[serde(skip)]
    pub sealed_secret: Option<String>,
}

impl ApiKey {
    /// Whether gateways accept the key at `now`.
    pub fn is_active(&self, now: Timestamp) -> bool {
        self.revoked_at.is_none() && self.expires_at.is_none_or(|expires_at| now < expires_at)
    }

    /// The representation of the key, without its digest.
    pub fn represent(&self) -> Representation {
        Representation {
            id: self.id,
            name: self.name.clone(),
            role: self.role,
            storefront: self.storefront.clone(),
            prefix: self.prefix.clone(),
            secret: None,
            sealed_secret: None,
            expires_at: self.expires_at,
            last_used_at: self.last_used_at,
            revoked_at: self.revoked_at,
            version: self.version,
            created_at: self.created_at,
        }
    }

    /// The representation of the key for the request that created it.
    pub fn represent_new(&self) -> Representation {
        Representation {
            sealed_secret: self.sealed_secret.clone(),
            ..self.represent()
        }
    }

    /// The key as gateways read it.
    pub fn to_active_key(&self) -> ActiveKey {
        ActiveKey {
            id: self.id,
            name: self.name.clone(),
            role: self.role,
            storefront: self.storefront.clone(),
            digest: self.digest.clone(),
            expires_at: self.expires_at,
        }
    }
}
