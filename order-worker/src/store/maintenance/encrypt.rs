//! Encrypts stored webhook secrets with the current `ENCRYPTION_KEY`: those that are plain, and those of the previous
//! key. Without a current key, decrypts those of the previous one.
//!
//! A secret is replaced only if its row has not changed since it was read, so workers may be running.

use serde_json::Value;
use shared::outcome::{Json, Outcome};

use crate::{
    domain::webhook::Endpoint,
    store::{
        Store, StoreError,
        secret_cipher::SecretCipher,
        sql::{
            decode::parse_json,
            statement::{Sql, arguments},
        },
    },
};

/// Condition on the recorded replies that may contain a secret.
const MAY_CONTAIN_SECRET_SQL: &str = "answer LIKE '{\"endpoint_secret\":%'";
/// Maximum number of recorded replies that a query examines.
const REPLIES_PER_QUERY: usize = 500;

/// Result of encrypting the stored secrets.
#[derive(Debug, Default)]
pub struct EncryptionResult {
    /// Number of rows whose secrets were encrypted with the current key.
    pub changed_count: u64,
    /// Rows that can't be decoded or decrypted, each with the reason. They were left as they are.
    pub unreadable_rows: Vec<String>,
}

impl EncryptionResult {
    /// The new content of `row_name`, if it was readable. An unreadable row is logged and recorded.
    ///
    /// # Errors
    /// Errors that are not about the row.
    fn content_if_readable(
        &mut self,
        row_name: &str,
        new_content: Result<Option<String>, StoreError>,
    ) -> Result<Option<String>, StoreError> {
        if let Err(error @ StoreError::Corrupt(_)) = &new_content {
            tracing::error!(row = row_name, %error, "a webhook secret can't be read; its row was left as it is");
            self.unreadable_rows.push(format!("{row_name}: {error}"));
            return Ok(None);
        }
        new_content
    }
}

impl SecretCipher {
    /// Decodes the stored state of an endpoint, with its secrets decrypted.
    pub(in crate::store) fn read_endpoint(&self, state: &str) -> Result<Endpoint, StoreError> {
        let mut endpoint: Endpoint = parse_json("endpoint", state)?;
        let row_name = endpoint_row_name(&endpoint);
        for secret in &mut endpoint.secrets {
            secret.key = self.open(&secret.key, &row_name)?;
        }
        Ok(endpoint)
    }

    /// The state of an endpoint to store, with its secrets encrypted.
    pub(in crate::store) fn write_endpoint(
        &self,
        endpoint: &Endpoint,
    ) -> Result<String, StoreError> {
        let mut stored_endpoint = endpoint.clone();
        let row_name = endpoint_row_name(endpoint);
        for secret in &mut stored_endpoint.secrets {
            secret.key = self.seal(&secret.key, &row_name)?;
        }
        serde_json::to_string(&stored_endpoint)
            .map_err(|error| StoreError::Failed(error.to_string()))
    }

    /// The recorded reply that contains the secret of an endpoint, with the secret decrypted.
    pub(in crate::store) fn read_outcome(
        &self,
        idempotency_key: &str,
        outcome: &str,
    ) -> Result<Outcome<Json>, StoreError> {
        let row_name = outcome_row_name(idempotency_key);
        let outcome_json = replace_secret(outcome, |secret| self.open(secret, &row_name))?;
        parse_json("outcome", &outcome_json)
    }

    /// The recorded reply that contains the secret of an endpoint, with the secret encrypted.
    pub(in crate::store) fn write_outcome(
        &self,
        idempotency_key: &str,
        outcome: &str,
    ) -> Result<String, StoreError> {
        let row_name = outcome_row_name(idempotency_key);
        replace_secret(outcome, |secret| self.seal(secret, &row_name))
    }

    /// The state of an endpoint with its secrets encrypted with the current key; `None` if they are already.
    fn encrypted_endpoint(&self, state: &str) -> Result<Option<String>, StoreError> {
        let stored_endpoint: Endpoint = parse_json("endpoint", state).map_err(|_| undecodable())?;
        let mut secrets = stored_endpoint.secrets.iter();
        if secrets.all(|secret| self.is_current(&secret.key)) {
            return Ok(None);
        }
        let endpoint = self.read_endpoint(state)?;
        self.write_endpoint(&endpoint).map(Some)
    }

    /// A recorded reply with its secret encrypted with the current key; `None` if it is already.
    fn encrypted_outcome(
        &self,
        idempotency_key: &str,
        outcome: &str,
    ) -> Result<Option<String>, StoreError> {
        let outcome_value: Value = parse_json("outcome", outcome).map_err(|_| undecodable())?;
        let secret_text = outcome_value
            .pointer("/value/secret")
            .and_then(Value::as_str);
        if secret_text.is_none_or(|secret_text| self.is_current(secret_text)) {
            return Ok(None);
        }
        let row_name = outcome_row_name(idempotency_key);
        let new_outcome = replace_secret(outcome, |secret| {
            self.seal(&self.open(secret, &row_name)?, &row_name)
        });
        new_outcome.map(Some)
    }
}

/// The error of a row that can't be decoded. Does not quote the row, since it may contain a plain secret.
fn undecodable() -> StoreError {
    StoreError::Corrupt("it can't be decoded".to_owned())
}

/// Name of an endpoint's row in the associated data.
fn endpoint_row_name(endpoint: &Endpoint) -> String {
    format!("webhook endpoint {}", endpoint.id)
}

/// Name of a recorded reply in the associated data.
fn outcome_row_name(idempotency_key: &str) -> String {
    format!("reply {idempotency_key}")
}

/// Replaces the secret in a recorded reply, if there is one. The rest of the text stays as it is, since a repeated
/// request gets the same text. Both forms of a secret have no characters that JSON escapes.
fn replace_secret(
    outcome: &str,
    replace: impl FnOnce(&str) -> Result<String, StoreError>,
) -> Result<String, StoreError> {
    let outcome_value: Value = parse_json("outcome", outcome)?;
    let Some(secret_text) = outcome_value
        .pointer("/value/secret")
        .and_then(Value::as_str)
    else {
        return Ok(outcome.to_owned());
    };
    let member = |secret: &str| format!("\"secret\":\"{secret}\"");
    Ok(outcome.replacen(&member(secret_text), &member(&replace(secret_text)?), 1))
}

impl Store {
    /// Checks that all secrets of webhook endpoints can be decrypted with the configured keys. Replies recorded
    /// under idempotency keys are checked when they are read.
    ///
    /// # Errors
    /// When a key is missing; names it. When the database is unavailable.
    pub async fn check_encryption_keys(&self) -> anyhow::Result<()> {
        let sql = "SELECT state FROM webhook_endpoints";
        let rows = self.primary_session().await?.fetch(sql, Vec::new()).await?;
        let mut missing_keys = Vec::new();
        for row in &rows {
            let Ok(endpoint) = parse_json::<Endpoint>("endpoint", row.text(0)?) else {
                continue;
            };
            let secrets = endpoint.secrets.iter();
            let missing_key_ids =
                secrets.filter_map(|secret| self.cipher.missing_key_id(&secret.key));
            missing_keys.extend(missing_key_ids.map(str::to_owned));
        }
        let secret_count = missing_keys.len();
        missing_keys.sort();
        missing_keys.dedup();
        if missing_keys.is_empty() {
            return Ok(());
        }
        anyhow::bail!(
            "ENCRYPTION_KEY: {secret_count} webhook secrets are encrypted with another key (id {}); set that key as ENCRYPTION_KEY or ENCRYPTION_KEY_PREVIOUS. Nothing was changed",
            missing_keys.join(", ")
        )
    }

    /// Whether keys are configured.
    pub fn has_encryption_keys(&self) -> bool {
        !self.cipher.is_off()
    }

    /// Encrypts all stored webhook secrets that are plain or of the previous key. A row that can't be read is logged
    /// and left as it is.
    ///
    /// # Errors
    /// When the database is unavailable.
    pub async fn encrypt_secrets(&self) -> Result<EncryptionResult, StoreError> {
        let mut encryption_result = self.encrypt_endpoints().await?;
        let encrypted_replies = self.encrypt_recorded_replies().await?;
        encryption_result.changed_count += encrypted_replies.changed_count;
        encryption_result
            .unreadable_rows
            .extend(encrypted_replies.unreadable_rows);
        Ok(encryption_result)
    }

    /// Encrypts the secrets of webhook endpoints, as [`Self::encrypt_secrets`] does.
    ///
    /// # Errors
    /// When the database is unavailable.
    pub async fn encrypt_endpoints(&self) -> Result<EncryptionResult, StoreError> {
        let sql = "SELECT id, state FROM webhook_endpoints";
        let rows = self.primary_session().await?.fetch(sql, Vec::new()).await?;
        let mut encryption_result = EncryptionResult::default();
        for row in &rows {
            let (endpoint_id, state) = (row.text(0)?, row.text(1)?);
            let new_state = self.cipher.encrypted_endpoint(state);
            let row_name = format!("webhook endpoint {endpoint_id}");
            let Some(new_state) = encryption_result.content_if_readable(&row_name, new_state)?
            else {
                continue;
            };
            let sql = "UPDATE webhook_endpoints SET state = $2 WHERE id = $1 AND state = $3";
            let mut session = self.writer_session().await?;
            encryption_result.changed_count += session
                .execute(sql, arguments![endpoint_id, new_state, state])
                .await?;
        }
        Ok(encryption_result)
    }

    /// Encrypts the secrets in replies that are recorded under idempotency keys, as [`Self::encrypt_secrets`] does.
    ///
    /// # Errors
    /// When the database is unavailable.
    pub async fn encrypt_recorded_replies(&self) -> Result<EncryptionResult, StoreError> {
        // Few replies contain a secret, and no index leads to them.
        let sql = Sql::from(format!(
            "SELECT key, CASE WHEN {MAY_CONTAIN_SECRET_SQL} THEN outcome END FROM idempotency
             WHERE key > $1 ORDER BY key LIMIT {REPLIES_PER_QUERY}"
        ));
        let mut encryption_result = EncryptionResult::default();
        let mut last_idempotency_key = String::new();
        loop {
            let mut session = self.primary_session().await?;
            let rows = session
                .fetch(sql.clone(), arguments![last_idempotency_key])
                .await?;
            drop(session);
            for row in &rows {
                let (idempotency_key, outcome) = (row.text(0)?, row.maybe_text(1)?);
                let Some(outcome) = outcome else {
                    continue;
                };
                let new_outcome = self.cipher.encrypted_outcome(idempotency_key, outcome);
                let new_outcome = encryption_result
                    .content_if_readable(&outcome_row_name(idempotency_key), new_outcome)?;
                let Some(new_outcome) = new_outcome else {
                    continue;
                };
                let sql = "UPDATE idempotency SET outcome = $2 WHERE key = $1 AND outcome = $3";
                let mut session = self.writer_session().await?;
                encryption_result.changed_count += session
                    .execute(sql, arguments![idempotency_key, new_outcome, outcome])
                    .await?;
            }
            match rows.last() {
                Some(row) if rows.len() >= REPLIES_PER_QUERY => {
                    last_idempotency_key = row.text(0)?.to_owned();
                }
                _ => return Ok(encryption_result),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use jiff::Timestamp;
    use serde_json::json;
    use shared::id::EndpointId;
    use uuid::Uuid;

    use super::*;
    use crate::store::secret_cipher::KEY_BYTES;

    const SECRET: &str = "whsec_abc";

    /// Executes this statement; returns the id in its first argument.
    async fn insert(store: &Store, sql: &'static str, id: String, content: &str) -> String {
        let mut session = store.writer_session().await.unwrap();
        let arguments = arguments![id.clone(), content];
        session.execute(sql, arguments).await.unwrap();
        id
    }

    async fn insert_endpoint(store: &Store, state_of: impl Fn(EndpointId) -> String) -> String {
        let sql = "INSERT INTO webhook_endpoints (id, is_enabled, is_deleted, state)
                   VALUES ($1, 1, 0, $2)";
        let id = EndpointId::from(Uuid::now_v7());
        insert(store, sql, id.to_string(), &state_of(id)).await
    }

    async fn insert_reply(store: &Store, idempotency_key: &str, outcome: &str) -> String {
        let sql = "INSERT INTO idempotency (key, fingerprint, answer, outcome, expires_at)
                   VALUES ($1, '', '{\"endpoint_secret\":{}}', $2, 0)";
        insert(store, sql, idempotency_key.to_owned(), outcome).await
    }

    /// A text column of one row.
    async fn read_text(store: &Store, sql: &'static str, id: &str) -> String {
        let mut session = store.primary_session().await.unwrap();
        let rows = session.fetch(sql, arguments![id]).await.unwrap();
        rows[0].text(0).unwrap().to_owned()
    }

    #[tokio::test]
    async fn damaged_rows_are_counted_and_all_others_are_encrypted() {
        let folder = std::env::temp_dir().join(format!("orderwright-{}", Uuid::now_v7()));
        let url = format!("sqlite://{}", folder.join("orders.db").display());
        let store = Store::open(&url, None).await.unwrap();
        let state_of = |id: EndpointId| {
            let now = Timestamp::now();
            let state_json = json!({
                "id": id, "storefront": null, "url": "https://example.com/", "description": null,
                "event_types": null, "secrets": [{"key": SECRET, "until": null}],
                "is_enabled": true, "disabled_reason": null, "failing_since": null,
                "is_deleted": false, "version": 1, "created_at": now, "updated_at": now
            });
            state_json.to_string()
        };
        let outcome = json!({"status": "SUCCESS", "value": {"secret": SECRET}}).to_string();
        let damaged_endpoint_id = insert_endpoint(&store, |id| format!("{{\"id\":\"{id}\"")).await;
        let endpoint_id = insert_endpoint(&store, state_of).await;
        // More rows than a query examines, with a damaged one and a plain secret at both ends.
        let damaged_reply_key = insert_reply(&store, "0", "{").await;
        let first_reply_key = insert_reply(&store, "1", &outcome).await;
        let sql = "WITH RECURSIVE numbers (number) AS (
                       SELECT 1 UNION ALL SELECT number + 1 FROM numbers WHERE number < $1
                   )
                   INSERT INTO idempotency (key, fingerprint, answer, outcome, expires_at)
                   SELECT 'k-' || number, '', 'null', '{}', 0 FROM numbers";
        let mut session = store.writer_session().await.unwrap();
        let filler_reply_count = i64::try_from(REPLIES_PER_QUERY).unwrap();
        session
            .execute(sql, arguments![filler_reply_count])
            .await
            .unwrap();
        drop(session);
        let last_reply_key = insert_reply(&store, "l", &outcome).await;

        let cipher = Arc::new(SecretCipher::new(Some([1; KEY_BYTES]), None));
        let store = store.with_cipher(cipher).await.unwrap();
        for changed_count in [3, 0] {
            let encryption_result = store.encrypt_secrets().await.unwrap();
            assert_eq!(encryption_result.changed_count, changed_count);
            let [endpoint_row, reply_row] = &encryption_result.unreadable_rows[..] else {
                panic!("{encryption_result:?}");
            };
            assert!(
                endpoint_row.contains(&damaged_endpoint_id),
                "{endpoint_row}"
            );
            assert!(reply_row.starts_with("reply 0: "), "{reply_row}");
        }

        let state_sql = "SELECT state FROM webhook_endpoints WHERE id = $1";
        let outcome_sql = "SELECT outcome FROM idempotency WHERE key = $1";
        let new_state = read_text(&store, state_sql, &endpoint_id).await;
        assert!(!new_state.contains(SECRET), "{new_state}");
        let opened_endpoint = store.cipher.read_endpoint(&new_state).unwrap();
        assert_eq!(opened_endpoint.secrets[0].key, SECRET);
        for key in [first_reply_key, last_reply_key] {
            let new_outcome = read_text(&store, outcome_sql, &key).await;
            assert!(!new_outcome.contains(SECRET), "{new_outcome}");
            let reencrypted_outcome = store.cipher.encrypted_outcome(&key, &new_outcome).unwrap();
            assert_eq!(reencrypted_outcome, None);
        }
        let damaged_state = read_text(&store, state_sql, &damaged_endpoint_id).await;
        assert_eq!(damaged_state, format!("{{\"id\":\"{damaged_endpoint_id}\""));
        assert_eq!(
            read_text(&store, outcome_sql, &damaged_reply_key).await,
            "{"
        );
        store.close().await;
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn recorded_reply_keeps_its_text_apart_from_the_secret() {
        let outcome =
            r#"{"status":"SUCCESS","value":{"url":"https://example.com","secret":"whsec_abc+/="}}"#;
        let cipher = SecretCipher::new(Some([1; KEY_BYTES]), None);
        let stored_outcome = cipher.write_outcome("k", outcome).unwrap();
        assert!(!stored_outcome.contains("whsec_"), "{stored_outcome}");
        let opened_outcome = replace_secret(&stored_outcome, |secret| {
            cipher.open(secret, &outcome_row_name("k"))
        });
        assert_eq!(opened_outcome.unwrap(), outcome);
        assert!(cipher.read_outcome("another", &stored_outcome).is_err());
        assert!(cipher.read_outcome("k", &stored_outcome).is_ok());

        let without_secret = r#"{"status":"FAILURE","error":{"code":"FORBIDDEN"}}"#;
        assert_eq!(
            cipher.write_outcome("k", without_secret).unwrap(),
            without_secret
        );
        let plain_cipher = SecretCipher::default();
        assert_eq!(plain_cipher.write_outcome("k", outcome).unwrap(), outcome);
    }
}
