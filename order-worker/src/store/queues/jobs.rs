//! State of the periodic jobs: due times, leases and reports. The jobs are in
//! [`background::jobs`](crate::background::jobs).

use jiff::{SignedDuration, Timestamp};
use serde::{Serialize, de::DeserializeOwned};

use crate::store::{
    Store, StoreError,
    sql::{
        decode::{json, millis},
        statement::{Sql, arguments},
    },
};

impl Store {
    /// Claims the job for `lease` and returns its state, if it is due and not claimed by another worker.
    ///
    /// # Errors
    /// When the database is unavailable.
    pub async fn claim_job<T: DeserializeOwned + Default>(
        &self,
        name: &str,
        now: Timestamp,
        lease: SignedDuration,
    ) -> Result<Option<T>, StoreError> {
        let mut session = self.writer().await?;
        let exists = Sql::dialects(
            "INSERT INTO jobs (name, due_at) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING",
            "INSERT INTO jobs (name, due_at) SELECT $1, $2
             WHERE NOT EXISTS (SELECT 1 FROM jobs WHERE name = $1)
             ON CONFLICT (name) DO NOTHING",
        );
        session
            .execute(exists, arguments![name, millis(now)])
            .await?;
        let sql = "UPDATE jobs SET due_at = $3 WHERE name = $1 AND due_at <= $2 RETURNING state";
        let claim = arguments![name, millis(now), millis(now + lease)];
        let rows = session.fetch(sql, claim).await?;
        let state = rows.first().map(|row| row.maybe_text(0)).transpose()?;
        match state {
            None => Ok(None),
            Some(None) => Ok(Some(T::default())),
            Some(Some(state)) => json("job", state).map(Some),
        }
    }

    /// Stores the state of a claimed job and the time at which it becomes due again: the end of the renewed
    /// lease, or of the next run.
    ///
    /// # Errors
    /// When the database is unavailable.
    pub async fn keep_job(
        &self,
        name: &str,
        due_at: Timestamp,
        state: &impl Serialize,
    ) -> Result<(), StoreError> {
        let state =
            serde_json::to_string(state).map_err(|error| StoreError::Failed(error.to_string()))?;
        let mut session = self.writer().await?;
        let sql = "UPDATE jobs SET due_at = $2, state = $3 WHERE name = $1";
        session
            .execute(sql, arguments![name, millis(due_at), state])
            .await
            .map(drop)
    }

    /// The state of a job as JSON; `None` if it never ran.
    ///
    /// # Errors
    /// When the database is unavailable.
    pub async fn job(&self, name: &str) -> Result<Option<serde_json::Value>, StoreError> {
        let mut session = self.reader().await?;
        let sql = "SELECT state FROM jobs WHERE name = $1";
        let rows = session.fetch(sql, arguments![name]).await?;
        let state = rows.first().map(|row| row.maybe_text(0)).transpose()?;
        state.flatten().map(|state| json("job", state)).transpose()
    }
}
