//! Reads of API keys, and the reports of gateways about their uses. Changes are commands.

use jiff::Timestamp;
use shared::{
    api_key::{ApiKeyRef, ListActiveKeys, ListApiKeys, RecordKeyUse},
    outcome::{Failure, Json},
    page::Page,
};

use super::{Rpc, read_failure};
use crate::domain::api_key::ApiKey;

/// A read of API keys.
pub(super) enum ApiKeyQuery {
    Get(ApiKeyRef),
    List(ListApiKeys),
    ListActive(ListActiveKeys),
}

impl Rpc {
    pub(super) async fn read_api_keys(&self, query: ApiKeyQuery) -> Result<Json, Failure> {
        match query {
            ApiKeyQuery::Get(query) => {
                let api_key = self.store.api_key(query.id).await.map_err(read_failure)?;
                let api_key = api_key.ok_or_else(|| Failure::not_found("API key", query.id))?;
                Json::of(&api_key.represent())
            }
            ApiKeyQuery::List(query) => {
                let api_keys = self.store.api_keys(&query).await.map_err(read_failure)?;
                let api_keys: Vec<_> = api_keys.iter().map(ApiKey::represent).collect();
                Json::of(&Page::from_rows(api_keys, query.limit, |api_key| {
                    api_key.id.to_string()
                }))
            }
            ApiKeyQuery::ListActive(query) => {
                let known_version = query.version.as_deref();
                let active_keys = self
                    .store
                    .active_api_keys(known_version, Timestamp::now())
                    .await;
                Json::of(&active_keys.map_err(read_failure)?)
            }
        }
    }

    pub(super) async fn record_key_use(&self, request: &RecordKeyUse) -> Result<Json, Failure> {
        let now = Timestamp::now();
        let record_result = self.store.record_key_use(&request.uses, now).await;
        record_result.map_err(read_failure)?;
        Json::of(&())
    }
}
