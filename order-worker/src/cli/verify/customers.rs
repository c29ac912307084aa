//! Checks of `verify` about customers.

use super::{ROWS_PER_PAGE, Report};
use crate::store::{Audit, AuditedCustomer, Unreadable};

/// Checks that each customer can be decoded, has the version of its last event, is found by its name and
/// e-mail address, and has no personal data after an erasure.
pub(super) async fn check_customers(audit: &mut Audit, report: &mut Report) -> anyhow::Result<()> {
    let mut after_customer_id = String::new();
    loop {
        let customer_page = audit.customers(&after_customer_id, ROWS_PER_PAGE).await?;
        let Some((last_customer_id, _)) = customer_page.last() else {
            return Ok(());
        };
        after_customer_id.clone_from(last_customer_id);
        for (customer_id, audited_customer) in customer_page {
            let AuditedCustomer {
                customer,
                last_sequence,
                has_current_search_keys,
            } = match audited_customer {
                Ok(audited_customer) => audited_customer,
                Err(Unreadable { subject, reason }) => {
                    let finding = format!("customer {subject}: can't be decoded: {reason}");
                    report.violations.push(finding);
                    continue;
                }
            };
            if last_sequence > customer.version {
                report.violations.push(format!(
                    "customer {customer_id}: stored in version {}, but its last event has the sequence {last_sequence}",
                    customer.version
                ));
            }
            if !has_current_search_keys {
                report.violations.push(format!(
                    "customer {customer_id}: its search keys differ from its name and e-mail address"
                ));
            }
            let has_personal_data = !customer.name.is_empty()
                || !customer.email.is_empty()
                || customer.phone.is_some()
                || !customer.addresses.is_empty()
                || !customer.metadata.is_empty();
            if customer.erased_at.is_some() && has_personal_data {
                report.violations.push(format!(
                    "customer {customer_id}: was erased, but has personal data"
                ));
            }
        }
    }
}
