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
    background::jobs::{order_import, stock_refresh},
    store::StoreError,
};

impl Rpc {
    /// The settings of this worker; for operators.
    pub(super) async fn settings(&self, caller: &Caller) -> Result<Json, Failure> {
        caller.require_operator()?;
        let effective_settings = &self.settings;
        let mut partners = Vec::new();
        for (partner_kind, partner_name) in &effective_settings.partner_names {
            let mut partner = effective_settings
                .partner_log
                .partner(*partner_kind, partner_name.clone());
            let job_name = match partner_kind {
                PartnerKind::Warehouse => Some(stock_refresh::NAME),
                PartnerKind::Import => Some(order_import::NAME),
                _ => None,
            };
            if let Some(job_name) = job_name {
                partner.calls = self.calls_of_job(job_name).await.map_err(read_failure)?;
            }
            partners.push(partner);
        }
        let (database_kind, database_version, schema_version) = self
            .store
            .database_description()
            .await
            .map_err(read_failure)?;
        Json::of(&WorkerSettings {
            name: self.worker_stats.worker_name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at: effective_settings.started_at,
            workers: self.worker_stats.worker_count().await,
            settings: effective_settings.settings.clone(),
            database: DatabaseInfo {
                kind: database_kind.to_owned(),
                version: database_version,
                schema_version,
            },
            partners,
        })
    }

    /// The last runs of a job, of any worker, as calls to its source.
    async fn calls_of_job(&self, job_name: &str) -> Result<LastCalls, StoreError> {
        let job_state = self.store.job_state(job_name).await?.unwrap_or_default();
        let parse_time =
            |time_value: &Value| -> Option<Timestamp> { time_value.as_str()?.parse().ok() };
        let report = &job_state["report"];
        let last_error = report["error"].as_str().map(str::to_owned);
        Ok(LastCalls {
            last_success_at: parse_time(&job_state["succeeded_at"]),
            last_failure_at: last_error
                .as_ref()
                .and_then(|_| parse_time(&report["finished_at"])),
            last_error,
        })
    }
}

/// The systems that a worker with this configuration calls.
pub(crate) fn partner_names(config: &crate::config::Config) -> Vec<(PartnerKind, Option<String>)> {
    let name_if_configured =
        |is_configured: bool, partner_name: &str| is_configured.then(|| partner_name.to_owned());
    let carrier_name = match (&config.http_carrier, &config.sandbox_delivery) {
        (Some(http), _) if http.creates_labels => "http",
        (_, Some(_)) => "sandbox",
        _ => "manual",
    };
    vec![
        (
            PartnerKind::PaymentProvider,
            Some(config.rules.payment_provider.clone()),
        ),
        (PartnerKind::Carrier, Some(carrier_name.to_owned())),
        (
            PartnerKind::Warehouse,
            name_if_configured(config.stock_source.is_some(), "warehouse"),
        ),
        (
            PartnerKind::Import,
            name_if_configured(config.import_source.is_some(), "import"),
        ),
        (
            PartnerKind::MailServer,
            name_if_configured(config.mail.is_some(), "smtp"),
        ),
        (PartnerKind::Webhooks, Some("webhooks".to_owned())),
    ]
}
