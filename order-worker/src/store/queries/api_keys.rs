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
            decode::{millis, parse_json, timestamp},
            row::Row,
            session::Session,
            statement::{Argument, Sql, StatementBuilder, arguments},
        },
    },
};

/// Decodes a row of a key's state and its last use.
pub(in crate::store) fn api_key_at(row: &Row) -> Result<ApiKey, StoreError> {
    let key: ApiKey = parse_json("API key", row.text(0)?)?;
    Ok(ApiKey {
        last_used_at: row.maybe_integer(1)?.map(timestamp).transpose()?,
        ..key
    })
}

/// The statement for a page of keys. A search compares all keys: there are few.
fn select_api_keys(filter: &ListApiKeys) -> (Sql, Vec<Argument>) {
    let page_statement = |position_function: &'static str,
                          name_sql: &'static str,
                          prefix_sql: &'static str| {
        let mut sql = StatementBuilder::new("SELECT state, last_used_at FROM api_keys WHERE true");
        if let Some(search_text) = &filter.q {
            let search_text = search_text.trim();
            sql.push(" AND (")
                .push(position_function)
                .push("(")
                .push(name_sql);
            sql.push(", ")
                .bind(search_text.to_ascii_lowercase())
                .push(") > 0");
            sql.push(" OR ")
                .push(position_function)
                .push("(")
                .push(prefix_sql);
            sql.push(", ").bind(search_text).push(") = 1)");
        }
        if let Some(cursor_id) = &filter.cursor {
            sql.push(" AND id < ").bind(cursor_id.clone());
        }
        sql.push(" ORDER BY id DESC LIMIT ").bind(filter.limit + 1);
        sql.finish()
    };
    let (sqlite_sql, arguments) = page_statement(
        "instr",
        "lower(json_extract(state, '$.name'))",
        "json_extract(state, '$.prefix')",
    );
    let (postgres_sql, _) = page_statement(
        "strpos",
        "lower((state::json ->> 'name') COLLATE \"C\")",
        "state::json ->> 'prefix'",
    );
    (Sql::texts(sqlite_sql, postgres_sql), arguments)
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
        let (sql, arguments) = select_api_keys(filter);
        let rows = self.reader_session().await?.fetch(sql, arguments).await?;
        rows.iter().map(api_key_at).collect()
    }

    /// The keys that are active at `now`, unless the reader has this version of the list
    /// (`known_version`). Never reads a replica.
    ///
    /// # Errors
    /// When the database is unavailable.
    pub async fn active_api_keys(
        &self,
        known_version: Option<&str>,
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
        let is_unchanged = known_version == Some(&current_version);
        Ok(ActiveKeys {
            version: current_version,
            keys: (!is_unchanged).then_some(keys),
        })
    }

    /// Records the last uses of keys; an earlier use than the recorded one changes nothing. A use after `now` is
    /// recorded as of `now`: the gateway's clock is wrong, and all later uses would count as earlier ones.
    ///
    /// # Errors
    /// When the database is unavailable.
    pub async fn record_key_use(&self, uses: &[KeyUse], now: Timestamp) -> Result<(), StoreError> {
        let sql = "UPDATE api_keys SET last_used_at = $2
                   WHERE id = $1 AND (last_used_at IS NULL OR last_used_at < $2)";
        // Rows are locked by id, so that two reports do not wait for each other.
        let mut sorted_uses: Vec<_> = uses.iter().collect();
        sorted_uses.sort_by_key(|key_use| key_use.id);
        let mut session = self.transaction().await?;
        for KeyUse { id, last_used_at } in sorted_uses {
            let arguments = arguments![id.to_string(), millis(now.min(*last_used_at))];
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

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;
    use serde_json::json;
    use shared::api_key::KeyDigest;
    use uuid::Uuid;

    use super::*;

    async fn insert(
        store: &Store,
        secret: &str,
        expires_at: Option<Timestamp>,
        revoked_at: Option<Timestamp>,
    ) -> ApiKeyId {
        let (key_id, digest) = (ApiKeyId::from(Uuid::now_v7()), KeyDigest::of(secret));
        let state = json!({
            "id": key_id, "name": secret, "role": "operator", "storefront": null, "digest": digest,
            "prefix": "owk_", "expires_at": expires_at, "revoked_at": revoked_at, "version": 1,
            "created_at": Timestamp::UNIX_EPOCH
        });
        let sql = "INSERT INTO api_keys (id, digest, expires_at, revoked_at, state)
                   VALUES ($1, $2, $3, $4, $5)";
        let arguments = arguments![
            key_id.to_string(),
            digest.as_str(),
            expires_at.map(millis),
            revoked_at.map(millis),
            state.to_string()
        ];
        let mut session = store.writer_session().await.unwrap();
        session.execute(sql, arguments).await.unwrap();
        key_id
    }

    #[tokio::test]
    async fn active_keys_are_neither_revoked_nor_expired_and_old_ones_are_deleted() {
        let folder = std::env::temp_dir().join(format!("orderwright-{}", Uuid::now_v7()));
        let url = format!("sqlite://{}", folder.join("orders.db").display());
        let store = Store::open(&url, None).await.unwrap();
        let (now, hour) = (Timestamp::now(), SignedDuration::from_hours(1));
        let active_id = insert(&store, "active", Some(now + hour), None).await;
        let lasting_id = insert(&store, "lasting", None, None).await;
        insert(&store, "expired", Some(now - hour), None).await;
        insert(&store, "revoked", None, Some(now - hour)).await;

        let key_list = store.active_api_keys(None, now).await.unwrap();
        let key_ids = |keys: Option<Vec<shared::api_key::ActiveKey>>| {
            keys.unwrap().iter().map(|key| key.id).collect::<Vec<_>>()
        };
        assert_eq!(key_ids(key_list.keys), [active_id, lasting_id]);
        let unchanged_list = store
            .active_api_keys(Some(&key_list.version), now)
            .await
            .unwrap();
        assert_eq!(
            (&unchanged_list.version, unchanged_list.keys),
            (&key_list.version, None)
        );
        let active_keys = store
            .active_api_keys(Some(&key_list.version), now + hour)
            .await
            .unwrap();
        assert_eq!(key_ids(active_keys.keys), [lasting_id]);

        let record_use = async |last_used_at| {
            let key_use = KeyUse {
                id: lasting_id,
                last_used_at,
            };
            store.record_key_use(&[key_use], now).await.unwrap();
            store
                .api_key(lasting_id)
                .await
                .unwrap()
                .unwrap()
                .last_used_at
                .map(millis)
        };
        // The clock of the gateway is an hour ahead.
        assert_eq!(record_use(now + hour).await, Some(millis(now)));
        assert_eq!(record_use(now - hour).await, Some(millis(now)));

        assert_eq!(
            store
                .delete_old_api_keys(now - hour - hour, 10)
                .await
                .unwrap(),
            0
        );
        assert_eq!(store.delete_old_api_keys(now, 10).await.unwrap(), 2);
        let query = ListApiKeys {
            q: None,
            limit: 10,
            cursor: None,
        };
        let remaining_keys = store.api_keys(&query).await.unwrap();
        assert_eq!(
            remaining_keys.iter().map(|key| key.id).collect::<Vec<_>>(),
            [lasting_id, active_id]
        );
        store.close().await;
        std::fs::remove_dir_all(folder).unwrap();
    }
}
