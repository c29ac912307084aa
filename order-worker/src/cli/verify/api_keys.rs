//! Checks of `verify` about API keys.

use super::Report;
use crate::store::{Audit, AuditedApiKey, Unreadable};

/// Checks that each key can be decoded, has the columns by which gateways' lists are read, and has the version
/// of its last event. There are few keys: they are read at once.
pub(super) async fn check_api_keys(audit: &mut Audit, report: &mut Report) -> anyhow::Result<()> {
    for (key_id, audited_key) in audit.api_keys().await? {
        let AuditedApiKey {
            key,
            last_sequence,
            has_current_columns,
        } = match audited_key {
            Ok(audited_key) => audited_key,
            Err(Unreadable { subject, reason }) => {
                let finding = format!("API key {subject}: can't be decoded: {reason}");
                report.violations.push(finding);
                continue;
            }
        };
        if last_sequence > key.version {
            report.violations.push(format!(
                "API key {key_id}: stored in version {}, but its last event has the sequence {last_sequence}",
                key.version
            ));
        }
        if !has_current_columns {
            report.violations.push(format!(
                "API key {key_id}: its digest, expiry or revocation differs from its state"
            ));
        }
    }
    Ok(())
}
