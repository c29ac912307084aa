//! State of the periodic jobs: due times, leases and reports. The jobs are in
//! [`background::jobs`](crate::background::jobs).

use jiff::{SignedDuration, Timestamp};
use serde::{Serialize, de::DeserializeOwned};

use crate::store::{
    Store, StoreError,
    sql::{
        decode::{millis, parse_json},
        statement::{Sql, arguments},
    },
};

/// A worker's claim of a job. It is identified by the end of its lease, which the job's row contains until
/// another worker claims the job.
#[derive(Debug)]
pub struct JobClaim {
    job_name: &'static str,
    lease_end_ms: i64,
}

impl Store {
    /// Claims the job for `lease_duration` and returns the claim and the job's state, if the job is due and not
    /// claimed by another worker.
    ///
    /// # Errors
    /// When the database is unavailable.
    pub async fn claim_job<T: DeserializeOwned + Default>(
        &self,
        job_name: &'static str,
        now: Timestamp,
        lease_duration: SignedDuration,
    ) -> Result<Option<(JobClaim, T)>, StoreError> {
        let mut session = self.writer_session().await?;
        let insert_job_sql = Sql::for_dialects(
            "INSERT INTO jobs (name, due_at) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING",
            "INSERT INTO jobs (name, due_at) SELECT $1, $2
             WHERE NOT EXISTS (SELECT 1 FROM jobs WHERE name = $1)
             ON CONFLICT (name) DO NOTHING",
        );
        session
            .execute(insert_job_sql, arguments![job_name, millis(now)])
            .await?;
        let sql = "UPDATE jobs SET due_at = $3 WHERE name = $1 AND due_at <= $2 RETURNING state";
        let lease_end_ms = millis(now + lease_duration);
        let arguments = arguments![job_name, millis(now), lease_end_ms];
        let rows = session.fetch(sql, arguments).await?;
        let Some(row) = rows.first() else {
            return Ok(None);
        };
        let state = match row.maybe_text(0)? {
            None => T::default(),
            Some(state_text) => parse_json("job", state_text)?,
        };
        Ok(Some((
            JobClaim {
                job_name,
                lease_end_ms,
            },
            state,
        )))
    }

    /// Stores the state of a claimed job and the time at which it becomes due again: the end of the renewed
    /// lease, or of the next run. `None`, without any effect, if the lease ended and another worker has
    /// claimed the job.
    ///
    /// # Errors
    /// When the database is unavailable.
    pub async fn store_job_state(
        &self,
        job_claim: JobClaim,
        due_at: Timestamp,
        state: &impl Serialize,
    ) -> Result<Option<JobClaim>, StoreError> {
        let state_json =
            serde_json::to_string(state).map_err(|error| StoreError::Failed(error.to_string()))?;
        let mut session = self.writer_session().await?;
        let sql = "UPDATE jobs SET due_at = $2, state = $3 WHERE name = $1 AND due_at = $4";
        let JobClaim {
            job_name,
            lease_end_ms,
        } = job_claim;
        let arguments = arguments![job_name, millis(due_at), state_json, lease_end_ms];
        let has_lease = session.execute(sql, arguments).await? > 0;
        Ok(has_lease.then(|| JobClaim {
            job_name,
            lease_end_ms: millis(due_at),
        }))
    }

    /// The state of a job as JSON; `None` if it never ran.
    ///
    /// # Errors
    /// When the database is unavailable.
    pub async fn job_state(&self, job_name: &str) -> Result<Option<serde_json::Value>, StoreError> {
        let mut session = self.reader_session().await?;
        let sql = "SELECT state FROM jobs WHERE name = $1";
        let rows = session.fetch(sql, arguments![job_name]).await?;
        let state = rows.first().map(|row| row.maybe_text(0)).transpose()?;
        state
            .flatten()
            .map(|state| parse_json("job", state))
            .transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A worker was frozen longer than its lease: it must not overwrite the progress of its successor.
    #[tokio::test]
    async fn job_that_another_worker_has_claimed_is_not_changed() {
        let folder = std::env::temp_dir().join(format!("orderwright-{}", uuid::Uuid::now_v7()));
        let url = format!("sqlite://{}", folder.join("orders.db").display());
        let store = Store::open(&url, None).await.unwrap();
        let (lease, start) = (SignedDuration::from_mins(2), Timestamp::now());
        let claim = async |now| store.claim_job::<u32>("import", now, lease).await.unwrap();
        let (first_claim, state) = claim(start).await.unwrap();
        assert_eq!(state, 0);
        let renewed_first_claim = store
            .store_job_state(first_claim, start + lease, &1)
            .await
            .unwrap();
        assert!(claim(start).await.is_none());
        let after_lease = start + lease + lease;
        let (second_claim, state) = claim(after_lease).await.unwrap();
        assert_eq!(state, 1);
        let lost_claim = store
            .store_job_state(renewed_first_claim.unwrap(), after_lease, &7)
            .await
            .unwrap();
        assert!(lost_claim.is_none());
        assert_eq!(store.job_state("import").await.unwrap().unwrap(), 1);
        assert!(claim(after_lease).await.is_none(), "the claim ended");
        let kept_claim = store
            .store_job_state(second_claim, after_lease, &2)
            .await
            .unwrap();
        assert!(kept_claim.is_some());
        assert_eq!(store.job_state("import").await.unwrap().unwrap(), 2);
        store.close().await;
        std::fs::remove_dir_all(folder).unwrap();
    }
}
