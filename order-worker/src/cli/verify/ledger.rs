//! Checks of `verify` about the sandbox's ledger: the stored payments equal those of the ledger, no payment is
//! authorized twice, and none belongs to no order.

use std::collections::{BTreeSet, HashMap, HashSet, hash_map::Entry};

use shared::{
    id::OrderId,
    order::{OrderStatus, PaymentStatus},
};

use super::Report;
use crate::{
    domain::{
        order::Order,
        step::{Step, StepKey, StepRow},
    },
    providers::sandbox::{
        ledger::Status,
        payment::{LedgerReader, PaymentRecord},
    },
};

/// Identity of a payment: the order, and the number of the edit that it was authorized for (0: the order as it
/// was created).
type PaymentId = (OrderId, u32);

/// The payments of the ledger around the moment of the snapshot. Payments that were equal before it and after it
/// were equal in between; the others are being changed, and are not compared.
#[derive(Default)]
pub(super) struct SandboxLedger {
    /// The payments that existed before the snapshot.
    payment_records: HashMap<PaymentId, PaymentRecord>,
    /// Payments that were made or changed around the snapshot.
    changing_payments: HashSet<PaymentId>,
    /// Keys of payments that name no order.
    keys_without_order: Vec<String>,
}

impl SandboxLedger {
    /// Reads the ledger that belongs to `database_url`, before the snapshot begins.
    pub(super) async fn read(database_url: &str) -> anyhow::Result<Self> {
        let mut sandbox_ledger = Self::default();
        let mut ledger_reader = LedgerReader::open(database_url).await?;
        loop {
            let payment_page = ledger_reader.next_page().await?;
            if payment_page.is_empty() {
                return Ok(sandbox_ledger);
            }
            for (key, payment_record) in payment_page {
                match payment_id(&key) {
                    Some(payment_id) => {
                        sandbox_ledger
                            .payment_records
                            .insert(payment_id, payment_record);
                    }
                    None => sandbox_ledger.keys_without_order.push(key),
                }
            }
        }
    }

    /// Reads the ledger a second time, after the snapshot has begun.
    pub(super) async fn read_again(&mut self, database_url: &str) -> anyhow::Result<()> {
        let mut ledger_reader = LedgerReader::open(database_url).await?;
        loop {
            let payment_page = ledger_reader.next_page().await?;
            if payment_page.is_empty() {
                return Ok(());
            }
            for (key, payment_record) in payment_page {
                let Some(payment_id) = payment_id(&key) else {
                    continue;
                };
                match self.payment_records.entry(payment_id) {
                    Entry::Occupied(entry) if *entry.get() == payment_record => {}
                    Entry::Occupied(mut entry) => {
                        entry.insert(payment_record);
                        self.changing_payments.insert(payment_id);
                    }
                    Entry::Vacant(_) => {
                        self.changing_payments.insert(payment_id);
                    }
                }
            }
        }
    }

    /// Compares the payment of an order with the provider's ledger.
    pub(super) fn check_payment(&self, order: &Order, steps: &[StepRow], report: &mut Report) {
        self.check_other_payments(order, steps, report);
        let order_id = order.id;
        let payment_id = (order_id, order.authorized_edit_number);
        let payment_record = self
            .payment_records
            .get(&payment_id)
            .copied()
            .unwrap_or(NO_PAYMENT);
        let mut violation = |problem: String| {
            report
                .violations
                .push(format!("order {order_id}: {problem}"));
        };

        if payment_record.authorization_count > 1 {
            violation(format!(
                "the payment provider authorized {} times",
                payment_record.authorization_count
            ));
        }
        // At most one capture for each shipment.
        let shipped_count = i64::try_from(order.shipped_shipments().count()).unwrap_or(i64::MAX);
        if payment_record.capture_count > shipped_count.max(1) {
            violation(format!(
                "the payment provider captured {} times for {shipped_count} shipments",
                payment_record.capture_count
            ));
        }
        let has_step = |step: &Step| steps.iter().any(|step_row| step_row.key.step == *step);
        let is_authorized = order.payment.status == PaymentStatus::Authorized;
        if order.status == OrderStatus::Cancelled && is_authorized && !has_step(&Step::VoidPayment)
        {
            violation("cancelled, but its authorization was not voided".to_owned());
        }
        // The provider captured before the authorization was recorded here, and the order was cancelled and
        // refunded.
        let authorized_amount = match order.payment.authorized {
            0 if order.status == OrderStatus::Cancelled => order.total,
            authorized_amount => authorized_amount,
        };
        if order.payment.captured > authorized_amount && !order.is_paid_manually() {
            violation(format!(
                "captured {} minor units, but only {authorized_amount} are authorized",
                order.payment.captured
            ));
        }
        if self.changing_payments.contains(&payment_id) {
            return;
        }
        // A pending or dead step explains a difference. A free order is not in the ledger.
        if order.total == 0
            || order.payment.provider != "sandbox"
            || steps
                .iter()
                .any(|step_row| !step_row.key.step.is_timer_or_check())
        {
            return;
        }
        let expected_payment_status = match order.payment.status {
            PaymentStatus::Pending => "nothing",
            PaymentStatus::Authorized => "authorized",
            PaymentStatus::Captured
            | PaymentStatus::PartiallyRefunded
            | PaymentStatus::Refunded => "captured",
            PaymentStatus::Voided => "voided",
            PaymentStatus::Failed => "declined",
        };
        let ledger_payment_status = match payment_record.status {
            Status::Pending => "nothing",
            status => status.as_str(),
        };
        if expected_payment_status != ledger_payment_status {
            violation(format!(
                "its payment is {expected_payment_status} in the database, but {ledger_payment_status} in the provider's ledger"
            ));
        }
        if (order.payment.captured, order.payment.refunded)
            != (payment_record.captured, payment_record.refunded)
        {
            violation(format!(
                "captured {} and refunded {} in the database, but {} and {} in the provider's ledger",
                order.payment.captured,
                order.payment.refunded,
                payment_record.captured,
                payment_record.refunded
            ));
        }
    }

    /// Checks that each payment that is not the order's, because an edit replaced it or was rejected, is voided or
    /// has a step that voids it.
    fn check_other_payments(&self, order: &Order, steps: &[StepRow], report: &mut Report) {
        let is_free = order.total == 0 && order.payment.captured == 0;
        let is_pending = |edit_number: u32| order.has_pending_edit(edit_number);
        let is_other = |edit_number: &u32| *edit_number != order.authorized_edit_number || is_free;
        for edit_number in (0..=order.last_edit_number).filter(is_other) {
            let has_step = steps
                .iter()
                .any(|step_row| step_row.key.step == Step::VoidAuthorization(edit_number));
            if order.open_authorizations.contains_key(&edit_number) && !has_step {
                report.violations.push(format!(
                    "order {}: authorization {edit_number} is not the order's, and no step voids it",
                    order.id
                ));
            }
            let payment_id = (order.id, edit_number);
            let is_authorized_in_ledger = self
                .payment_records
                .get(&payment_id)
                .is_some_and(|payment_record| payment_record.status == Status::Authorized);
            if is_authorized_in_ledger
                && !has_step
                && !is_pending(edit_number)
                && !self.changing_payments.contains(&payment_id)
            {
                report.violations.push(format!(
                    "order {}: payment {} is authorized in the provider's ledger, but it is not the order's",
                    order.id,
                    payment_key(payment_id)
                ));
            }
        }
    }

    /// Finds payments in the ledger that belong to no order.
    pub(super) fn check_owners(&self, order_ids: &BTreeSet<OrderId>, report: &mut Report) {
        let keys_of_missing_orders = self
            .payment_records
            .keys()
            .filter(|(order_id, _)| !order_ids.contains(order_id))
            .map(|payment_id| payment_key(*payment_id));
        for key in keys_of_missing_orders.chain(self.keys_without_order.iter().cloned()) {
            report
                .violations
                .push(format!("payment {key}: its order does not exist"));
        }
    }
}

/// A payment that is not in the ledger.
const NO_PAYMENT: PaymentRecord = PaymentRecord {
    authorization_count: 0,
    capture_count: 0,
    status: Status::Pending,
    captured: 0,
    refunded: 0,
};

/// The payment with this key in the ledger; none if the key is not that of an authorization of an order.
fn payment_id(key: &str) -> Option<PaymentId> {
    let (order_id_text, step_text) = key.split_once('/')?;
    let order_id = order_id_text.parse().ok()?;
    match step_text.parse().ok()? {
        Step::AuthorizePayment => Some((order_id, 0)),
        Step::AuthorizeEdit(edit_number) => Some((order_id, edit_number)),
        _ => None,
    }
}

/// The key of a payment in the ledger.
fn payment_key((order_id, edit_number): PaymentId) -> String {
    let step = Step::authorization(edit_number);
    StepKey { order_id, step }.to_string()
}
