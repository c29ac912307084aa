//! Checks of `verify` about messages to customers.

use super::Report;
use crate::store::Audit;

/// Checks that each message has an order and an event, and that its row has the status of its state.
pub(super) async fn check_messages(audit: &mut Audit, report: &mut Report) -> anyhow::Result<()> {
    for (message_id, reason) in audit.orphaned_messages().await? {
        report
            .violations
            .push(format!("message {message_id}: {reason}"));
    }
    for message_id in audit.inconsistent_messages().await? {
        report.violations.push(format!(
            "message {message_id}: its row differs from its state in status or due time"
        ));
    }
    Ok(())
}
