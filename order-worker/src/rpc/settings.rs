//! The effective configuration of this worker, its database, and the state of the systems that it calls.

use jiff::Timestamp;
use serde_json::Value;
use shared::{
    outcome::{Failure, Json},
    request::Caller,
    settings::{DatabaseInfo, LastCalls, PartnerKind, WorkerSettings},
};

use super::{Rpc, read_failure};
use crate::{
    background::jobs::{orders, warehouse},
    store::StoreError,
};

impl Rpc {
    /// The settings of this worker; for operators.
    pub(super) async fn settings(&self, caller: &Caller) -> Result<Json, Failure> {
        caller.require_operator()?;
        let effective = &self.settings;
        let mut partners = Vec::new();
        for (kind, name) in &effective.partner_names {
            let mut partner = effective.partner_log.partner(*kind, name.clone());
            let job = match kind {
                PartnerKind::Warehouse => Some(warehouse::NAME),
                PartnerKind::Import => Some(orders::NAME),
                _ => None,
            };
            if let Some(job) = job {
                partner.calls = self.calls_of_job(job).await.map_err(read_failure)?;
            }
            partners.push(partner);
        }
        let (kind, version, schema_version) =
            self.store.description().await.map_err(read_failure)?;
        Json::of(&WorkerSettings {
            name: self.worker_stats.worker.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at: effective.started_at,
            workers: self.worker_stats.worker_count().await,
            settings: effective.settings.clone(),
            database: DatabaseInfo {
                kind: kind.to_owned(),
                version,
                schema_version,
            },
            partners,
        })
    }

    /// The last runs of a job, of any worker, as calls to its source.
    async fn calls_of_job(&self, name: &str) -> Result<LastCalls, StoreError> {
        let state = self.store.job(name).await?.unwrap_or_default();
        let time = |value: &Value| -> Option<Timestamp> { value.as_str()?.parse().ok() };
        let report = &state["report"];
        let error = report["error"].as_str().map(str::to_owned);
        Ok(LastCalls {
            last_success_at: time(&state["succeeded_at"]),
            last_failure_at: error.as_ref().and_then(|_| time(&report["finished_at"])),
            last_error: error,
        })
    }
}

/// The systems that a worker with this configuration calls.
pub(crate) fn partner_names(config: &crate::config::Config) -> Vec<(PartnerKind, Option<String>)> {
    let configured = |is_configured: bool, name: &str| is_configured.then(|| name.to_owned());
    let carrier = match (&config.http_carrier, &config.delivery) {
        (Some(http), _) if http.creates_labels => "http",
        (_, Some(_)) => "sandbox",
        _ => "manual",
    };
    vec![
        (
            PartnerKind::PaymentProvider,
            Some(config.rules.payment_provider.clone()),
        ),
        (PartnerKind::Carrier, Some(carrier.to_owned())),
        (
            PartnerKind::Warehouse,
            configured(config.warehouse.is_some(), "warehouse"),
        ),
        (
            PartnerKind::Import,
            configured(config.import.is_some(), "import"),
        ),
        (
            PartnerKind::MailServer,
            configured(config.mail.is_some(), "smtp"),
        ),
        (PartnerKind::Webhooks, Some("webhooks".to_owned())),
    ]
}
