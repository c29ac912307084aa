//! API keys that admins create with `POST /v1/api-keys`. The worker stores their digests; each gateway keeps the
//! list of active keys in memory.
//!
//! The list is read every second, so that a revoked key is refused within seconds by every gateway. While the
//! worker is unavailable, the last list stays in use. A key that is not in the list is looked up once before it is
//! refused, so that a new key works at once. Lookups share their reads of the list and have a minimum interval:
//! requests with wrong keys cost the worker a few reads per second at most.
//!
//! Uses of keys are reported in the background, at most once per key and [`MIN_REPORT_INTERVAL`].

use std::{
    collections::HashMap,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, SystemTime},
};

use base64::{Engine as _, prelude::BASE64_STANDARD_NO_PAD};
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use shared::{
    amqp::rpc_client::{CallOptions, RpcClient},
    api_key::{
        ActiveKey, ActiveKeys, KeyDigest, KeyUse, ListActiveKeys, RecordKeyUse, SECRET_PREFIX,
    },
    id::Storefront,
    outcome::{Code, Failure, Json},
    request::{Caller, Request, Role},
    trace_context::TraceContext,
};
use tokio::{
    sync::Mutex,
    time::{self, Instant},
};
use tokio_util::sync::CancellationToken;

use super::{CREDENTIAL_ID_BYTES, Identity, unauthenticated_failure, validity::Validity};

/// Interval at which the list of active keys is read.
const READ_INTERVAL: Duration = Duration::from_secs(1);
/// Minimum interval between two reads of the list. After a failed read, the next one follows after this interval.
const MIN_READ_INTERVAL: Duration = Duration::from_millis(200);
/// Timeout of a request to the worker.
const CALL_TIMEOUT: Duration = Duration::from_secs(2);
/// Age of the list from which a warning is logged: a revoked key may still be accepted.
const MAX_LIST_AGE: Duration = Duration::from_secs(5);
/// Interval at which used keys are looked for.
const REPORT_CHECK_INTERVAL: Duration = Duration::from_secs(2);
/// Minimum interval between two reports of a key's use.
const MIN_REPORT_INTERVAL: Duration = Duration::from_secs(30);

/// The active keys; clones share them.
#[derive(Clone, Default)]
pub(crate) struct StoredKeys(Arc<StoredKeysState>);

#[derive(Default)]
struct StoredKeysState {
    /// `None` in tests without a worker.
    rpc: Option<RpcClient>,
    key_list: RwLock<Arc<KeyList>>,
    /// The last read of the list. Locked during a read, so that lookups share it.
    last_read: Arc<Mutex<Option<LastRead>>>,
}

/// The last read of the list.
struct LastRead {
    read_started_at: Instant,
    failure: Option<Failure>,
}

#[derive(Default)]
struct KeyList {
    /// Version of the list at the worker.
    version: Option<String>,
    keys_by_digest: HashMap<KeyDigest, Arc<StoredKey>>,
}

/// An active key.
struct StoredKey {
    active_key: ActiveKey,
    identity: Identity,
    revocation: CancellationToken,
    /// Time of the last use in Unix milliseconds; 0 before the first one.
    last_used_ms: AtomicI64,
    /// The last use that was reported to the worker.
    reported_use_ms: AtomicI64,
    /// Time of the last report in Unix milliseconds.
    reported_at_ms: AtomicI64,
}

/// Whether a credential has the form of a key that was created through the API.
pub(super) fn has_key_form(credential: &str) -> bool {
    credential.starts_with(SECRET_PREFIX)
}

impl StoredKeys {
    /// Starts tasks that read the list and report uses through `rpc`, until `stop`. No other calls use this client.
    pub(crate) fn start(rpc: RpcClient, stop: &CancellationToken) -> Self {
        let stored_keys = Self(Arc::new(StoredKeysState {
            rpc: Some(rpc),
            ..StoredKeysState::default()
        }));
        let (reader, reporter) = (stored_keys.clone(), stored_keys.clone());
        tokio::spawn(
            stop.clone()
                .run_until_cancelled_owned(reader.refresh_periodically()),
        );
        tokio::spawn(
            stop.clone()
                .run_until_cancelled_owned(reporter.report_uses()),
        );
        stored_keys
    }

    /// The identity of a key; a key that is not known yet is looked up at the worker.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` when the key is unknown, revoked or expired; `UNAVAILABLE` when it is unknown here and the
    /// worker can't be asked.
    pub(super) async fn identify(&self, credential: &str) -> Result<Identity, Failure> {
        let digest = KeyDigest::of(credential);
        let received_at = Instant::now();
        let mut key = self.find_by_digest(&digest);
        if key.is_none() {
            self.refresh(received_at).await.map_err(|failure| {
                tracing::debug!(%failure, "an unknown API key can't be looked up");
                Failure::new(
                    Code::Unavailable,
                    "the API key can't be checked, because no worker answers; try again later",
                )
            })?;
            key = self.find_by_digest(&digest);
        }
        let key = key.ok_or_else(|| {
            unauthenticated_failure("the API key is not known: it may be revoked or expired")
        })?;
        key.identity.validity.check()?;
        key.record_use();
        Ok(key.identity.clone())
    }

    /// The identity of the key with this credential id, from a console session.
    pub(super) async fn find_by_credential_id(
        &self,
        credential_id: &str,
    ) -> Result<Option<Identity>, Failure> {
        let find_by_id = || {
            let key_list = self.list();
            let mut listed_keys = key_list.keys_by_digest.values();
            listed_keys
                .find(|key| &*key.identity.credential_id == credential_id)
                .cloned()
        };
        let received_at = Instant::now();
        let mut key = find_by_id();
        if key.is_none() {
            self.refresh(received_at).await?;
            key = find_by_id();
        }
        Ok(key.map(|key| {
            key.record_use();
            key.identity.clone()
        }))
    }

    /// Whether there is a key of this storefront, in a list that is read now.
    ///
    /// # Errors
    /// When no worker answers.
    pub(super) async fn has_storefront_now(
        &self,
        storefront: &Storefront,
    ) -> Result<bool, Failure> {
        self.refresh(Instant::now()).await?;
        Ok(self.has_storefront(storefront))
    }

    /// Whether there is a key of this storefront.
    pub(super) fn has_storefront(&self, storefront: &Storefront) -> bool {
        let key_list = self.list();
        let mut listed_keys = key_list.keys_by_digest.values();
        listed_keys.any(|key| key.active_key.storefront.as_ref() == Some(storefront))
    }

    fn find_by_digest(&self, digest: &KeyDigest) -> Option<Arc<StoredKey>> {
        self.list().keys_by_digest.get(digest).cloned()
    }

    fn list(&self) -> Arc<KeyList> {
        let key_list = self
            .0
            .key_list
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&key_list)
    }

    async fn refresh_periodically(self) {
        let mut last_success = Instant::now();
        let mut is_outdated = false;
        loop {
            let refresh_result = self.refresh(Instant::now()).await;
            let interval = match refresh_result {
                Ok(()) => READ_INTERVAL,
                Err(_) => MIN_READ_INTERVAL,
            };
            match refresh_result {
                Ok(()) => {
                    last_success = Instant::now();
                    if is_outdated {
                        tracing::info!("the list of API keys is up to date again");
                    }
                    is_outdated = false;
                }
                Err(failure) if !is_outdated && last_success.elapsed() > MAX_LIST_AGE => {
                    is_outdated = true;
                    tracing::warn!(
                        %failure,
                        "the list of API keys can't be read; the keys read before stay valid"
                    );
                }
                Err(_) => {}
            }
            time::sleep(interval).await;
        }
    }

    /// Reads the list, unless a read has started since `requested_at`.
    async fn refresh(&self, requested_at: Instant) -> Result<(), Failure> {
        let mut last_read = Arc::clone(&self.0.last_read).lock_owned().await;
        if let Some(finished_read) = &*last_read {
            if finished_read.read_started_at >= requested_at {
                return finished_read.failure.clone().map_or(Ok(()), Err);
            }
            time::sleep_until(finished_read.read_started_at + MIN_READ_INTERVAL).await;
        }
        // A task of its own completes the read also when the client disconnects, so that the minimum interval holds.
        let stored_keys = self.clone();
        let list_read_task = tokio::spawn(async move {
            let read_started_at = Instant::now();
            let read_result = stored_keys.read_list().await;
            *last_read = Some(LastRead {
                read_started_at,
                failure: read_result.clone().err(),
            });
            read_result
        });
        list_read_task.await.unwrap_or_else(|error| {
            let message = format!("reading the list of API keys ended early: {error}");
            Err(Failure::new(Code::Internal, message))
        })
    }

    async fn read_list(&self) -> Result<(), Failure> {
        let version = self.list().version.clone();
        let reply = self
            .call(Request::ListActiveKeys(ListActiveKeys { version }))
            .await?;
        let active_keys: ActiveKeys = serde_json::from_str(reply.text()).map_err(|error| {
            Failure::new(
                Code::Internal,
                format!("the worker's list of API keys can't be parsed: {error}"),
            )
        })?;
        self.replace_list(active_keys);
        Ok(())
    }

    async fn call(&self, request: Request) -> Result<Json, Failure> {
        let Some(rpc) = &self.0.rpc else {
            return Err(Failure::new(Code::Unavailable, "there is no worker"));
        };
        let call = CallOptions {
            caller: gateway_caller(request.pattern()),
            idempotency_key: None,
            if_match: None,
            message_id: None,
            timeout: CALL_TIMEOUT,
        };
        rpc.call(&request, call).await.outcome
    }

    /// Replaces the list, and ends the streams and sessions of the keys that are no longer active.
    fn replace_list(&self, ActiveKeys { version, keys }: ActiveKeys) {
        let Some(active_keys) = keys else {
            return;
        };
        let previous_list = self.list();
        let listed_keys = active_keys.into_iter().map(|active_key| {
            let known_key = previous_list.keys_by_digest.get(&active_key.digest);
            let known_key = known_key.filter(|known_key| known_key.active_key == active_key);
            let stored_key = known_key.cloned();
            let stored_key = stored_key.unwrap_or_else(|| Arc::new(StoredKey::new(active_key)));
            (stored_key.active_key.digest.clone(), stored_key)
        });
        let new_list = Arc::new(KeyList {
            version: Some(version),
            keys_by_digest: listed_keys.collect(),
        });
        *self
            .0
            .key_list
            .write()
            .unwrap_or_else(PoisonError::into_inner) = Arc::clone(&new_list);
        for (digest, key) in &previous_list.keys_by_digest {
            let current_key = new_list.keys_by_digest.get(digest);
            if !current_key.is_some_and(|current_key| Arc::ptr_eq(current_key, key)) {
                key.revocation.cancel();
            }
        }
    }

    async fn report_uses(self) {
        loop {
            time::sleep(REPORT_CHECK_INTERVAL).await;
            let now_ms = Timestamp::now().as_millisecond();
            let key_list = self.list();
            let keys_to_report: Vec<_> = key_list
                .keys_by_digest
                .values()
                .filter_map(|key| Some((key, key.use_to_report(now_ms)?)))
                .collect();
            let uses = keys_to_report.iter().filter_map(|(key, last_used_ms)| {
                let last_used_at = Timestamp::from_millisecond(*last_used_ms).ok()?;
                let id = key.active_key.id;
                Some(KeyUse { id, last_used_at })
            });
            let uses: Vec<_> = uses.collect();
            if uses.is_empty() {
                continue;
            }
            match self
                .call(Request::RecordKeyUse(RecordKeyUse { uses }))
                .await
            {
                Ok(_) => {
                    for (key, last_used_ms) in keys_to_report {
                        key.reported_use_ms.store(last_used_ms, Ordering::Relaxed);
                        key.reported_at_ms.store(now_ms, Ordering::Relaxed);
                    }
                }
                Err(failure) => {
                    tracing::debug!(%failure, "uses of API keys can't be reported; trying again");
                }
            }
        }
    }
}

impl StoredKey {
    fn new(active_key: ActiveKey) -> Self {
        let revocation = CancellationToken::new();
        let expires_at = active_key.expires_at.map(SystemTime::from);
        let key_hash = Sha256::digest(active_key.digest.as_str());
        let identity = Identity {
            role: active_key.role,
            storefront: active_key.storefront.clone().unwrap_or_default(),
            actor: active_key.name.clone(),
            credential_id: BASE64_STANDARD_NO_PAD
                .encode(&key_hash[..CREDENTIAL_ID_BYTES])
                .into(),
            validity: Validity::until(expires_at).revocable(revocation.clone()),
        };
        Self {
            active_key,
            identity,
            revocation,
            last_used_ms: AtomicI64::default(),
            reported_use_ms: AtomicI64::default(),
            reported_at_ms: AtomicI64::default(),
        }
    }

    fn record_use(&self) {
        let now_ms = Timestamp::now().as_millisecond();
        self.last_used_ms.fetch_max(now_ms, Ordering::Relaxed);
    }

    /// The last use, if it is to be reported now.
    fn use_to_report(&self, now_ms: i64) -> Option<i64> {
        let last_used_ms = self.last_used_ms.load(Ordering::Relaxed);
        let is_new = last_used_ms > self.reported_use_ms.load(Ordering::Relaxed);
        let ms_since_report = now_ms - self.reported_at_ms.load(Ordering::Relaxed);
        let is_due =
            i128::from(ms_since_report) >= i128::try_from(MIN_REPORT_INTERVAL.as_millis()).ok()?;
        (is_new && is_due).then_some(last_used_ms)
    }
}

/// The caller of the gateway's own requests.
fn gateway_caller(intent: &str) -> Caller {
    Caller {
        role: Role::Admin,
        storefront: Storefront::default(),
        actor: "gateway".to_owned(),
        intent: intent.to_owned(),
        request_id: "keys".to_owned(),
        trace_context: Some(TraceContext::unsampled()),
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use serde_json::{Value, json};

    use super::*;

    fn active_keys(version: &str, secrets: &[&str]) -> ActiveKeys {
        let key_objects = secrets.iter().map(|secret| {
            json!({
                "id": "0192f0c1-2345-7abc-8def-0123456789ab", "name": "shop", "role": "storefront",
                "storefront": "eu", "digest": KeyDigest::of(secret), "expires_at": null
            })
        });
        let keys = Value::Array(key_objects.collect());
        serde_json::from_value(json!({"version": version, "keys": keys})).unwrap()
    }

    #[tokio::test]
    async fn a_key_that_leaves_the_list_is_revoked_and_the_others_stay() {
        let stored_keys = StoredKeys::default();
        stored_keys.replace_list(active_keys("1", &["owk_one", "owk_two"]));
        let first_identity = stored_keys.identify("owk_one").await.unwrap();
        let second_identity = stored_keys.identify("owk_two").await.unwrap();
        assert_eq!(
            (first_identity.role, first_identity.storefront.as_str()),
            (Role::Storefront, "eu")
        );
        assert_ne!(first_identity.credential_id, second_identity.credential_id);

        stored_keys.replace_list(active_keys("2", &["owk_two"]));
        assert!(first_identity.validity.check().is_err());
        assert!(second_identity.validity.check().is_ok());
        // Unknown keys are looked up; there is no worker here.
        let failure = stored_keys.identify("owk_one").await.unwrap_err();
        assert_eq!(failure.code, Code::Unavailable);
        let found_identity = stored_keys
            .find_by_credential_id(&second_identity.credential_id)
            .await
            .unwrap();
        assert_eq!(found_identity.unwrap().actor, "shop");

        let unchanged_list = ActiveKeys {
            version: "2".to_owned(),
            keys: None,
        };
        stored_keys.replace_list(unchanged_list);
        assert!(second_identity.validity.check().is_ok());
    }

    #[tokio::test]
    async fn lookup_of_a_client_that_disconnects_counts_for_the_minimum_interval() {
        let stored_keys = StoredKeys::default();
        // The first poll starts the read; the client disconnects before its end.
        assert!(stored_keys.identify("owk_one").now_or_never().is_none());
        assert!(stored_keys.0.last_read.lock().await.is_some());
    }

    #[tokio::test]
    async fn uses_of_a_key_are_reported_with_an_interval() {
        let stored_keys = StoredKeys::default();
        stored_keys.replace_list(active_keys("1", &["owk_one"]));
        let key = stored_keys
            .find_by_digest(&KeyDigest::of("owk_one"))
            .unwrap();
        let now_ms = Timestamp::now().as_millisecond();
        assert_eq!(key.use_to_report(now_ms), None);
        stored_keys.identify("owk_one").await.unwrap();
        let first_recorded_use = key.use_to_report(now_ms).unwrap();
        assert!(first_recorded_use >= now_ms);
        key.reported_use_ms
            .store(first_recorded_use, Ordering::Relaxed);
        key.reported_at_ms.store(now_ms, Ordering::Relaxed);
        key.last_used_ms
            .store(first_recorded_use + 1, Ordering::Relaxed);
        assert_eq!(key.use_to_report(now_ms + 1_000), None);
        assert_eq!(
            key.use_to_report(now_ms + 30_000),
            Some(first_recorded_use + 1)
        );
    }
}
