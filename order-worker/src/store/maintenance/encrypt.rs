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
            decode::json,
            statement::{Sql, arguments},
        },
    },
};

/// Condition on the recorded replies that may contain a secret.
const WITH_SECRET: &str = "answer LIKE '{\"endpoint_secret\":%'";

impl SecretCipher {
    /// Decodes the stored state of an endpoint, with its secrets decrypted.
    pub(in crate::store) fn read_endpoint(&self, state: &str) -> Result<Endpoint, StoreError> {
        let mut endpoint: Endpoint = json("endpoint", state)?;
        let row = endpoint_row(&endpoint);
        for secret in &mut endpoint.secrets {
            secret.key = self.open(&secret.key, &row)?;
        }
        Ok(endpoint)
    }

    /// The state of an endpoint to store, with its secrets encrypted.
    pub(in crate::store) fn write_endpoint(
        &self,
        endpoint: &Endpoint,
    ) -> Result<String, StoreError> {
        let mut stored = endpoint.clone();
        let row = endpoint_row(endpoint);
        for secret in &mut stored.secrets {
            secret.key = self.seal(&secret.key, &row)?;
        }
        serde_json::to_string(&stored).map_err(|error| StoreError::Failed(error.to_string()))
    }

    /// The recorded reply that contains the secret of an endpoint, with the secret decrypted.
    pub(in crate::store) fn read_outcome(
        &self,
        key: &str,
        outcome: &str,
    ) -> Result<Outcome<Json>, StoreError> {
        let row = outcome_row(key);
        let text = replace_secret(outcome, |secret| self.open(secret, &row))?;
        json("outcome", &text)
    }

    /// The recorded reply that contains the secret of an endpoint, with the secret encrypted.
    pub(in crate::store) fn write_outcome(
        &self,
        key: &str,
        outcome: &str,
    ) -> Result<String, StoreError> {
        let row = outcome_row(key);
        replace_secret(outcome, |secret| self.seal(secret, &row))
    }
}

/// Name of an endpoint's row in the associated data.
fn endpoint_row(endpoint: &Endpoint) -> String {
    format!("webhook endpoint {}", endpoint.id)
}

/// Name of a recorded reply in the associated data.
fn outcome_row(key: &str) -> String {
    format!("reply {key}")
}

/// Replaces the secret in a recorded reply, if there is one. The rest of the text stays as it is, since a repeated
/// request gets the same text. Both forms of a secret have no characters that JSON escapes.
fn replace_secret(
    outcome: &str,
    replace: impl FnOnce(&str) -> Result<String, StoreError>,
) -> Result<String, StoreError> {
    let value: Value = json("outcome", outcome)?;
    let Some(secret) = value.pointer("/value/secret").and_then(Value::as_str) else {
        return Ok(outcome.to_owned());
    };
    let member = |secret: &str| format!("\"secret\":\"{secret}\"");
    Ok(outcome.replacen(&member(secret), &member(&replace(secret)?), 1))
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
            let Ok(endpoint) = json::<Endpoint>("endpoint", row.text(0)?) else {
                continue;
            };
            let secrets = endpoint.secrets.iter();
            let missing = secrets.filter_map(|secret| self.cipher.missing_key(&secret.key));
            missing_keys.extend(missing.map(str::to_owned));
        }
        let count = missing_keys.len();
        missing_keys.sort();
        missing_keys.dedup();
        if missing_keys.is_empty() {
            return Ok(());
        }
        anyhow::bail!(
            "ENCRYPTION_KEY: {count} webhook secrets are encrypted with another key (id {}); set that key as ENCRYPTION_KEY or ENCRYPTION_KEY_PREVIOUS. Nothing was changed",
            missing_keys.join(", ")
        )
    }

    /// Encrypts all stored webhook secrets that are plain or of the previous key; returns their number.
    ///
    /// # Errors
    /// When the database is unavailable, or a secret can't be decrypted.
    pub async fn encrypt_secrets(&self) -> Result<u64, StoreError> {
        Ok(self.encrypt_endpoints().await? + self.encrypt_recorded_replies().await?)
    }

    /// Whether keys are configured.
    pub fn has_encryption_keys(&self) -> bool {
        !self.cipher.is_off()
    }

    /// Encrypts the secrets of webhook endpoints; returns the number of endpoints.
    ///
    /// # Errors
    /// When the database is unavailable, or a secret can't be decrypted.
    pub async fn encrypt_endpoints(&self) -> Result<u64, StoreError> {
        let sql = "SELECT id, state FROM webhook_endpoints";
        let rows = self.primary_session().await?.fetch(sql, Vec::new()).await?;
        let mut changed_rows = 0;
        for row in &rows {
            let (id, state) = (row.text(0)?, row.text(1)?);
            let stored: Endpoint = json("endpoint", state)?;
            let mut secrets = stored.secrets.iter();
            if secrets.all(|secret| self.cipher.is_current(&secret.key)) {
                continue;
            }
            let endpoint = self.cipher.read_endpoint(state)?;
            let new_state = self.cipher.write_endpoint(&endpoint)?;
            let sql = "UPDATE webhook_endpoints SET state = $2 WHERE id = $1 AND state = $3";
            let mut session = self.writer_session().await?;
            changed_rows += session
                .execute(sql, arguments![id, new_state, state])
                .await?;
        }
        Ok(changed_rows)
    }

    /// Encrypts the secrets in replies that are recorded under idempotency keys; returns the number of replies.
    ///
    /// # Errors
    /// When the database is unavailable, or a secret can't be decrypted.
    pub async fn encrypt_recorded_replies(&self) -> Result<u64, StoreError> {
        let sql = Sql::from(format!(
            "SELECT key, outcome FROM idempotency WHERE {WITH_SECRET} AND outcome IS NOT NULL"
        ));
        let rows = self.primary_session().await?.fetch(sql, Vec::new()).await?;
        let mut changed_rows = 0;
        for row in &rows {
            let (key, outcome) = (row.text(0)?, row.text(1)?);
            let value: Value = json("outcome", outcome)?;
            let secret = value.pointer("/value/secret").and_then(Value::as_str);
            if secret.is_none_or(|secret| self.cipher.is_current(secret)) {
                continue;
            }
            let row = outcome_row(key);
            let new_outcome = replace_secret(outcome, |secret| {
                self.cipher.seal(&self.cipher.open(secret, &row)?, &row)
            })?;
            let sql = "UPDATE idempotency SET outcome = $2 WHERE key = $1 AND outcome = $3";
            let mut session = self.writer_session().await?;
            changed_rows += session
                .execute(sql, arguments![key, new_outcome, outcome])
                .await?;
        }
        Ok(changed_rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::secret_cipher::KEY_BYTES;

    #[test]
    fn recorded_reply_keeps_its_text_apart_from_the_secret() {
        let outcome =
            r#"{"status":"SUCCESS","value":{"url":"https://example.com","secret":"whsec_abc+/="}}"#;
        let cipher = SecretCipher::new(Some([1; KEY_BYTES]), None);
        let stored = cipher.write_outcome("k", outcome).unwrap();
        assert!(!stored.contains("whsec_"), "{stored}");
        let opened = replace_secret(&stored, |secret| cipher.open(secret, &outcome_row("k")));
        assert_eq!(opened.unwrap(), outcome);
        assert!(cipher.read_outcome("another", &stored).is_err());
        assert!(cipher.read_outcome("k", &stored).is_ok());

        let without_secret = r#"{"status":"FAILURE","error":{"code":"FORBIDDEN"}}"#;
        assert_eq!(
            cipher.write_outcome("k", without_secret).unwrap(),
            without_secret
        );
        let off = SecretCipher::default();
        assert_eq!(off.write_outcome("k", outcome).unwrap(), outcome);
    }
}
