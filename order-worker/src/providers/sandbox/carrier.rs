//! The sandbox carrier. It creates shipping labels, once for each key. With `CARRIER=sandbox` it also
//! simulates delivery: every few seconds it advances its shipments by one stage and calls the gateway's
//! shipper webhook, signed, until the call succeeds.

use std::{fmt::Write, time::Duration};

use anyhow::Context;
use jiff::Timestamp;
use serde_json::json;
use sha2::{Digest, Sha256};
use shared::{
    id::OrderId,
    order::{Address, Label, ShipmentUpdate},
};
use standardwebhooks::Webhook;
use tokio::time;

use super::{
    Sandbox,
    ledger::{CARRIER_NAME, Ledger},
};
use crate::{
    providers::ProviderError,
    store::sql::statement::{Sql, arguments},
};

/// Stages of a shipment.
const SHIPMENT_STAGES: [ShipmentUpdate; 4] = [
    ShipmentUpdate::Shipped,
    ShipmentUpdate::InTransit,
    ShipmentUpdate::OutForDelivery,
    ShipmentUpdate::Delivered,
];
/// Time between two stages.
const STAGE_INTERVAL_MS: i64 = 1_500;
/// Delay before a failed webhook is repeated.
const RETRY_DELAY_MS: i64 = 2_000;
/// Lease of a shipment while its webhook is being sent.
const LEASE_MS: i64 = 15_000;
/// Interval for looking for due shipments.
const CHECK_INTERVAL: Duration = Duration::from_millis(300);
/// Timeout for the webhook's response.
const WEBHOOK_TIMEOUT: Duration = Duration::from_secs(10);
/// Shipments per round.
const SHIPMENTS_PER_ROUND: i64 = 100;

/// The carrier; keys are `ORDER_ID/request_shipment:WAREHOUSE`, and `…:2` for the second label of a warehouse.
#[derive(Clone)]
pub struct SandboxCarrier {
    sandbox: Sandbox,
    /// Whether it delivers shipments by itself (`CARRIER=sandbox`).
    does_deliver: bool,
}

impl SandboxCarrier {
    /// Creates the carrier with the ledger of `sandbox`.
    pub fn new(sandbox: Sandbox, does_deliver: bool) -> Self {
        Self {
            sandbox,
            does_deliver,
        }
    }

    /// Creates a label for a shipment to `address` under `label_key`, once. The ledger has a digest of the
    /// address, so that tests can compare it, and no personal data.
    ///
    /// # Errors
    /// `Permanent` when the label was cancelled.
    pub async fn create_label(
        &self,
        label_key: &str,
        order_id: OrderId,
        address: Option<&Address>,
    ) -> Result<Label, ProviderError> {
        let next_webhook_at = self
            .does_deliver
            .then(|| Timestamp::now().as_millisecond() + STAGE_INTERVAL_MS);
        let owned_key = label_key.to_owned();
        let address_digest = address.map(digest_address).transpose()?;
        let create_in_ledger = move |ledger: &mut Ledger| {
            let random_characters = uuid::Uuid::now_v7().simple().to_string().to_uppercase();
            let tracking_number = format!("SBX{}", &random_characters[12..]);
            ledger.create_label(
                &owned_key,
                order_id,
                tracking_number,
                address_digest,
                next_webhook_at,
            )
        };
        self.sandbox
            .writer
            .apply(label_key, create_in_ledger)
            .await?
    }

    /// Cancels the label under `label_key`, or makes sure that there will be none. A shipment in transit
    /// continues.
    ///
    /// # Errors
    /// `Transient` when the ledger is unavailable.
    pub async fn cancel_label(
        &self,
        label_key: &str,
        order_id: OrderId,
    ) -> Result<(), ProviderError> {
        let owned_key = label_key.to_owned();
        let cancel_in_ledger = move |ledger: &mut Ledger| ledger.cancel_label(&owned_key, order_id);
        self.sandbox.writer.apply(label_key, cancel_in_ledger).await
    }

    /// Delivers until the future is dropped: advances shipments and calls `webhook_url`, signed with
    /// `webhook_secret`.
    ///
    /// # Errors
    /// When the secret is invalid.
    pub async fn deliver(
        self,
        client: reqwest::Client,
        webhook_url: String,
        webhook_secret: String,
    ) -> anyhow::Result<()> {
        let signer = Webhook::new(&webhook_secret).context("SHIPPER_WEBHOOK_SECRET")?;
        loop {
            time::sleep(CHECK_INTERVAL).await;
            if let Err(error) = self.advance_shipments(&client, &webhook_url, &signer).await {
                tracing::warn!(
                    error = format!("{error:#}"),
                    "the sandbox carrier could not advance its shipments"
                );
            }
        }
    }

    async fn advance_shipments(
        &self,
        client: &reqwest::Client,
        webhook_url: &str,
        signer: &Webhook,
    ) -> anyhow::Result<()> {
        let now_ms = Timestamp::now().as_millisecond();
        // Claims the due shipments. If the webhook fails, the lease expires and the webhook is sent again.
        let due_shipments = self
            .sandbox
            .ledger
            .fetch(
                Sql::for_dialects(
                    "UPDATE parcels SET next_at = $2
                     WHERE key IN (
                         SELECT key FROM parcels WHERE next_at <= $1 ORDER BY next_at LIMIT $3
                     )
                     RETURNING key, order_id, tracking_number, stage",
                    "UPDATE parcels SET next_at = $2
                     WHERE key IN (
                         SELECT key FROM parcels WHERE next_at <= $1 ORDER BY next_at LIMIT $3
                         FOR UPDATE SKIP LOCKED
                     )
                     RETURNING key, order_id, tracking_number, stage",
                ),
                arguments![now_ms, now_ms + LEASE_MS, SHIPMENTS_PER_ROUND],
            )
            .await?;
        for shipment_row in due_shipments {
            let (label_key, order_id, tracking_number) = (
                shipment_row.text(0)?,
                shipment_row.text(1)?,
                shipment_row.text(2)?,
            );
            let stage = shipment_row.integer(3)?;
            let Some(shipment_update) = usize::try_from(stage)
                .ok()
                .and_then(|stage| SHIPMENT_STAGES.get(stage))
            else {
                continue;
            };
            let webhook_body = json!({
                "type": shipment_update.as_str(),
                "timestamp": Timestamp::now(),
                "data": {"order_id": order_id, "tracking_number": tracking_number, "carrier": CARRIER_NAME},
            });
            // The webhook's id is made of shipment and stage, so the gateway recognizes a repetition.
            let webhook_result = call_webhook(
                client,
                webhook_url,
                signer,
                &format!("{tracking_number}-{stage}"),
                &webhook_body.to_string(),
            )
            .await;
            let called_at = Timestamp::now().as_millisecond();
            let (stage, next_webhook_at) = match webhook_result {
                Ok(()) if stage + 1 == i64::try_from(SHIPMENT_STAGES.len())? => (stage + 1, None),
                Ok(()) => (stage + 1, Some(called_at + STAGE_INTERVAL_MS)),
                Err(error) => {
                    tracing::debug!(
                        order.id = order_id,
                        error = format!("{error:#}"),
                        "the sandbox carrier's webhook to the gateway failed; trying again"
                    );
                    (stage, Some(called_at + RETRY_DELAY_MS))
                }
            };
            // A shipment that was cancelled meanwhile is not advanced.
            let update_result = self.sandbox.ledger.fetch(
                "UPDATE parcels SET stage = $2, next_at = $3 WHERE key = $1 AND NOT is_cancelled",
                arguments![label_key, stage, next_webhook_at],
            );
            update_result.await?;
        }
        Ok(())
    }
}

/// SHA-256 of the address as JSON with sorted fields, in hexadecimal.
fn digest_address(address: &Address) -> Result<String, ProviderError> {
    let address_json = serde_json::to_string(address)
        .map_err(|error| ProviderError::Permanent(error.to_string()))?;
    let digest = Sha256::digest(address_json);
    Ok(digest.iter().fold(String::new(), |mut hex_digest, byte| {
        let _ = write!(hex_digest, "{byte:02x}");
        hex_digest
    }))
}

async fn call_webhook(
    client: &reqwest::Client,
    webhook_url: &str,
    signer: &Webhook,
    webhook_id: &str,
    body_text: &str,
) -> anyhow::Result<()> {
    let timestamp = Timestamp::now().as_second();
    let signature = signer.sign(webhook_id, timestamp, body_text.as_bytes())?;
    let response = client
        .post(webhook_url)
        .timeout(WEBHOOK_TIMEOUT)
        .header("content-type", "application/json")
        .header(standardwebhooks::HEADER_WEBHOOK_ID, webhook_id)
        .header(
            standardwebhooks::HEADER_WEBHOOK_TIMESTAMP,
            timestamp.to_string(),
        )
        .header(standardwebhooks::HEADER_WEBHOOK_SIGNATURE, signature)
        .body(body_text.to_owned())
        .send()
        .await?;
    response.error_for_status()?;
    Ok(())
}
