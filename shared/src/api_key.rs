//! API keys that admins create and revoke: representation and requests.
//!
//! The secret of a key is created by the gateway and leaves it only in the response to the client. The worker
//! gets and stores its SHA-256 digest. Gateways read the digests of all active keys ([`ActiveKeys`]) and
//! authenticate requests by themselves, so that they need no worker for it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    body::{self, Fields},
    caller::Role,
    failure::Failure,
    id::{ApiKeyId, Storefront},
    order::{cursor_by, limit, timestamp},
};

/// First characters of every secret, by which clients and secret scanners recognize one.
pub const SECRET_PREFIX: &str = "owk_";
/// Number of random bytes of a secret.
pub const SECRET_BYTES: usize = 32;
/// Maximum number of active keys. All gateways keep them in memory.
pub const MAX_ACTIVE_KEYS: usize = 1_000;

/// Length of a SHA-256 digest in hexadecimal digits.
const DIGEST_LENGTH: usize = 64;
/// Maximum length of a name in characters.
const MAX_NAME_CHARS: usize = 100;
/// Maximum length of a displayed prefix in characters.
const MAX_PREFIX_CHARS: usize = 20;
/// Maximum length of a sealed secret in characters.
const MAX_SEALED_CHARS: usize = 500;

/// An API key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ApiKey {
    /// UUIDv7.
    pub id: ApiKeyId,
    /// Name of the key: the actor in logs and histories.
    pub name: String,
    /// Role of the key.
    #[schema(value_type = String, pattern = "^(storefront|operator|admin)$")]
    pub role: Role,
    /// Storefront that the key is limited to; `null` for operators and admins.
    pub storefront: Option<Storefront>,
    /// First characters of the secret, to recognize it.
    pub prefix: String,
    /// Secret, `owk_…`: send it as `Authorization: Bearer SECRET`. Returned only when the key is created.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// The secret, encrypted with the credential of the caller that created the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(ignore)]
    pub sealed_secret: Option<String>,
    /// Time from which the key is refused; `null`: it does not expire.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Timestamp>,
    /// Time of the last request with the key, accurate to about half a minute; `null` if there was none.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_used_at: Option<Timestamp>,
    /// Time of the revocation; `null` if the key is not revoked.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub revoked_at: Option<Timestamp>,
    /// Number of the last change.
    pub version: u64,
    /// Time of creation.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
}

/// The fields of a new API key, as admins send them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"name": "shop of the EU", "role": "storefront", "storefront": "eu"}))]
pub struct NewApiKey {
    /// Name of the key: the actor in logs and histories.
    #[schema(min_length = 1, max_length = 100)]
    pub name: String,
    /// Role of the key: `storefront`, `operator` or `admin`.
    #[schema(value_type = String, pattern = "^(storefront|operator|admin)$")]
    pub role: Role,
    /// Storefront that the key is limited to. Required for the role `storefront`, refused for the other roles.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storefront: Option<Storefront>,
    /// Time from which the key is refused, in the future; absent: it does not expire.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Timestamp>,
}

impl NewApiKey {
    /// Parses the body of `POST /v1/api-keys`.
    ///
    /// # Errors
    /// `INVALID_REQUEST` naming every invalid field.
    pub fn parse(body: Value) -> Result<Self, Failure> {
        body::read(body, Self::read)
    }

    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let name = fields.required("name", body::visible_text(1..=MAX_NAME_CHARS));
        let role: Option<Role> = fields.required("role", body::parsed);
        let is_storefront_absent = !fields.contains("storefront");
        let storefront = fields.patch_nullable("storefront", body::parsed);
        match (role, &storefront) {
            (Some(Role::Storefront), None) if !is_storefront_absent => {}
            (Some(Role::Storefront), None | Some(None)) => {
                fields.report("storefront", "is required for the role storefront");
            }
            (Some(Role::Operator | Role::Admin), Some(Some(_))) => {
                fields.report("storefront", "is for keys with the role storefront only");
            }
            _ => {}
        }
        let expires_at = fields.optional("expires_at", timestamp);
        Some(Self {
            name: name?,
            role: role?,
            storefront: storefront.flatten(),
            expires_at,
        })
    }
}

/// `api_key.create`: creates an API key with a secret that only the sender knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CreateApiKey {
    /// The fields that the admin sent.
    #[serde(flatten)]
    pub new_key: NewApiKey,
    /// SHA-256 digest of the secret.
    pub digest: KeyDigest,
    /// First characters of the secret.
    pub prefix: String,
    /// The secret, encrypted by the sender, for its reply to a repeated request. The worker records it with the
    /// reply under the idempotency key, and nowhere else.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sealed_secret: Option<String>,
}

impl CreateApiKey {
    pub(crate) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let new_key = NewApiKey::read(fields);
        let digest = fields.required("digest", body::parsed);
        let prefix = fields.required("prefix", body::visible_text(1..=MAX_PREFIX_CHARS));
        let sealed_secret =
            fields.optional("sealed_secret", body::visible_text(1..=MAX_SEALED_CHARS));
        Some(Self {
            new_key: new_key?,
            digest: digest?,
            prefix: prefix?,
            sealed_secret,
        })
    }
}

/// A SHA-256 digest of a secret, as hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyDigest(String);

impl KeyDigest {
    /// The digest as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The digest of `secret`.
    pub fn of(secret: &str) -> Self {
        use std::fmt::Write;

        use sha2::{Digest, Sha256};

        let mut hex = String::with_capacity(DIGEST_LENGTH);
        for byte in Sha256::digest(secret) {
            let _ = write!(hex, "{byte:02x}");
        }
        Self(hex)
    }
}

impl std::str::FromStr for KeyDigest {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
        if text.len() == DIGEST_LENGTH && text.chars().all(is_hex) {
            Ok(Self(text.to_owned()))
        } else {
            Err("must be a SHA-256 digest: 64 lower-case hexadecimal digits".to_owned())
        }
    }
}

impl TryFrom<String> for KeyDigest {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<KeyDigest> for String {
    fn from(digest: KeyDigest) -> Self {
        digest.0
    }
}

/// `api_key.get`, `api_key.revoke`: the id of an API key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ApiKeyRef {
    /// Id of the key.
    pub id: ApiKeyId,
}

impl ApiKeyRef {
    pub(crate) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let id = fields.required("id", body::parsed);
        Some(Self { id: id? })
    }
}

/// `api_key.list`: API keys, newest first, including revoked ones.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ListApiKeys {
    /// Only keys whose name contains this text, or whose secret begins with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub q: Option<String>,
    /// Maximum number of entries.
    pub limit: u32,
    /// Cursor of the previous page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

impl ListApiKeys {
    #[expect(clippy::unnecessary_wraps, reason = "the shape of every reader")]
    pub(crate) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let q = fields.optional("q", body::visible_text(1..=MAX_NAME_CHARS));
        let limit = limit(fields);
        let cursor = cursor_by::<ApiKeyId>(fields);
        Some(Self { q, limit, cursor })
    }
}

/// `api_key.list_active`: the active keys with their digests, for gateways.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ListActiveKeys {
    /// Version of the list that the gateway has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

impl ListActiveKeys {
    #[expect(clippy::unnecessary_wraps, reason = "the shape of every reader")]
    pub(crate) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let version = fields.optional("version", body::text(1..=100));
        Some(Self { version })
    }
}

/// The reply to [`ListActiveKeys`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActiveKeys {
    /// Version of the list: changes with every key that is created, revoked or expires.
    pub version: String,
    /// The keys that are neither revoked nor expired; absent if the gateway has this version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys: Option<Vec<ActiveKey>>,
}

/// An active key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActiveKey {
    /// Id of the key.
    pub id: ApiKeyId,
    /// Name of the key.
    pub name: String,
    /// Role of the key.
    pub role: Role,
    /// Storefront that the key is limited to.
    pub storefront: Option<Storefront>,
    /// SHA-256 digest of the secret.
    pub digest: KeyDigest,
    /// Time from which the key is refused.
    pub expires_at: Option<Timestamp>,
}

/// `api_key.record_use`: reports the last uses of keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RecordKeyUse {
    /// The last use of each key.
    pub uses: Vec<KeyUse>,
}

/// The last use of a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeyUse {
    /// Id of the key.
    pub id: ApiKeyId,
    /// Time of its last use.
    pub last_used_at: Timestamp,
}

impl RecordKeyUse {
    pub(crate) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let uses = fields.list("uses", 1..=MAX_ACTIVE_KEYS, |entry| {
            let id = entry.required("id", body::parsed);
            let last_used_at = entry.required("last_used_at", timestamp);
            Some(KeyUse {
                id: id?,
                last_used_at: last_used_at?,
            })
        });
        Some(Self { uses: uses? })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn storefront_keys_name_a_storefront_and_others_do_not() {
        let parse = |body: Value| NewApiKey::parse(body).map_err(|failure| failure.message);
        assert!(parse(json!({"name": "a", "role": "storefront", "storefront": "eu"})).is_ok());
        assert!(parse(json!({"name": "a", "role": "operator"})).is_ok());
        for (body, pointer) in [
            (json!({"name": "a", "role": "storefront"}), "/storefront"),
            (
                json!({"name": "a", "role": "storefront", "storefront": null}),
                "/storefront",
            ),
            (
                json!({"name": "a", "role": "storefront", "storefront": "a/b"}),
                "/storefront",
            ),
            (
                json!({"name": "a", "role": "admin", "storefront": "eu"}),
                "/storefront",
            ),
            (json!({"name": " ", "role": "admin"}), "/name"),
            (json!({"name": "a", "role": "root"}), "/role"),
            (
                json!({"name": "a", "role": "admin", "expires_at": "soon"}),
                "/expires_at",
            ),
            (
                json!({"name": "a", "role": "admin", "digest": "0"}),
                "/digest",
            ),
        ] {
            let failure = NewApiKey::parse(body).unwrap_err();
            assert_eq!(failure.errors().unwrap()[0]["pointer"], pointer);
        }
    }

    #[test]
    fn digest_is_64_hexadecimal_digits() {
        let digest = KeyDigest::of("owk_secret");
        assert_eq!(digest.as_str().parse::<KeyDigest>().as_ref(), Ok(&digest));
        assert!("owk_secret".parse::<KeyDigest>().is_err());
        assert!("A".repeat(64).parse::<KeyDigest>().is_err());
    }
}
