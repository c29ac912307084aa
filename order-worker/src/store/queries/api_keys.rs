//! Reads of API keys, and the record of their last uses.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use jiff::Timestamp;
use serde_json::json;
use sha2::{Digest, Sha256};
use shared::{
    api_key::{ActiveKeys, KeyUse, ListApiKeys},
    id::ApiKeyId,
};

use crate::{
    domain::api_key::ApiKey,
    store::{
        Store, StoreError,
        sql::{
            decode::{json, millis, timestamp},
            row::Row,
            session::Session,
            statement::{StatementBuilder, arguments},
        },
    },
};

/// Decodes a row of a key's state and its last use.
pub(in crate::store) fn api_key_at(row: &Row) -> Result<ApiKey, StoreError> {
    let key: ApiKey = json("API key", row.text(0)?)?;
    Ok(ApiKey {
        last_used_at: row.maybe_integer(1)?.map(timestamp).transpose()?,
        ..key
    })
}

impl Store {
    /// One key.
    ///
    /// # Errors
    /// When the database is unavailable.
    pub async fn api_key(&self, id: ApiKeyId) -> Result<Option<ApiKey>, StoreError> {
        let sql = "SELECT state, last_used_at FROM api_keys WHERE id = $1";
        let mut session = self.reader_session().await?;
        let rows = session.fetch(sql, arguments![id.to_string()]).await?;
        rows.first().map(api_key_at).transpose()
    }

    /// Up to `filter.limit + 1` keys, newest first.
    ///
    /// # Errors
    /// When the database is unavailable.
    pub async fn api_keys(&self, filter: &ListApiKeys) -> Result<Vec<ApiKey>, StoreError> {
        let mut sql = StatementBuilder::new("SELECT state, last_used_at FROM api_keys");
        if let Some(id) = &filter.cursor {
            sql.push(" WHERE id < ").bind(id.clone());
        }
        sql.push(" ORDER BY id DESC LIMIT ").bind(filter.limit + 1);
        let (sql, arguments) = sql.finish();
        let rows = self.reader_session().await?.fetch(sql, arguments).await?;
        rows.iter().map(api_key_at).collect()
    }

    /// The keys that are active at `now`, unless the reader has this `version` of the list. Never reads a
    /// replica.
    ///
    /// # Errors
    /// When the database is unavailable.
    pub async fn active_api_keys(
        &self,
        version: Option<&str>,
        now: Timestamp,
    ) -> Result<ActiveKeys, StoreError> {
        let sql = "SELECT state, last_used_at FROM api_keys
                   WHERE revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $1) ORDER BY id";
        let mut session = self.primary_session().await?;
        let rows = session.fetch(sql, arguments![millis(now)]).await?;
        let keys = rows.iter().filter_map(|row| match api_key_at(row) {
            Ok(key) => Some(key.to_active_key()),
            Err(error) => {
                // One damaged row must not disable the other keys.
                tracing::error!(%error, "an API key can't be read; gateways refuse it");
                None
            }
        });
        let keys: Vec<_> = keys.collect();
        let digest = Sha256::digest(json!(keys).to_string());
        let current_version = BASE64_URL_SAFE_NO_PAD.encode(digest);
        let is_unchanged = version == Some(&current_version);
        Ok(ActiveKeys {
            version: current_version,
            keys: (!is_unchanged).then_some(keys),
        })
    }

    /// Records the last uses of keys; an earlier use than the recorded one changes nothing.
    ///
    /// # Errors
    /// When the database is unavailable.
    pub async fn record_key_use(&self, uses: &[KeyUse]) -> Result<(), StoreError> {
        let sql = "UPDATE api_keys SET last_used_at = $2
                   WHERE id = $1 AND (last_used_at IS NULL OR last_used_at < $2)";
        // Rows are locked by id, so that two reports do not wait for each other.
        let mut uses: Vec<_> = uses.iter().collect();
        uses.sort_by_key(|key_use| key_use.id);
        let mut session = self.transaction().await?;
        for KeyUse { id, last_used_at } in uses {
            let arguments = arguments![id.to_string(), millis(*last_used_at)];
            session.execute(sql, arguments).await?;
        }
        session.commit().await
    }
}

/// Number of the keys that are active at `now`.
pub(in crate::store) async fn count_active_keys(
    session: &mut Session,
    now: Timestamp,
) -> Result<i64, StoreError> {
    let sql = "SELECT count(*) FROM api_keys
               WHERE revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $1)";
    let rows = session.fetch(sql, arguments![millis(now)]).await?;
    rows.first().map_or(Ok(0), |row| row.integer(0))
}
