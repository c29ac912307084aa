//! The transactions of an order's payment, derived from its payment events.
//!
//! Successful captures and refunds add up to `payment.captured` and `payment.refunded`, pending refunds to the
//! refunds that are due.
//!
//! The states of orders that earlier versions have stored have no transactions. They get a summary instead: one
//! transaction for each amount, as of the order's version at that time. The summary follows from the state
//! alone, so that `verify` can repeat it when it replays the events.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use shared::{
    event::{Event, EventData},
    id::{OrderId, TransactionId},
    order::{PaymentStatus, Transaction, TransactionKind, TransactionStatus},
};
use uuid::Builder;

use super::Order;
use crate::domain::step::Step;

/// Number of transactions of an order from which on further amounts are added to the last transaction of the same
/// kind and status, if there is one.
pub const MAX_TRANSACTIONS: usize = 100;

/// The transactions of an order, oldest first. Entries are never removed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transactions {
    /// Version of the order that the first entries summarize, if an earlier version of the worker stored it
    /// without transactions.
    #[serde(
        default,
        rename = "summarized_at",
        skip_serializing_if = "Option::is_none"
    )]
    summarized_version: Option<u64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    entries: Vec<TransactionEntry>,
}

/// A stored transaction. Its id follows from the order and its place in the list, its provider is that of the
/// order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct TransactionEntry {
    kind: TransactionKind,
    amount: i64,
    #[serde(default, skip_serializing_if = "is_success")]
    status: TransactionStatus,
    /// The payment's id at the provider, or a text of the operator who recorded a manual payment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reference: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    received_at: Option<Timestamp>,
    created_at: Timestamp,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_success(status: &TransactionStatus) -> bool {
    *status == TransactionStatus::Success
}

impl TransactionEntry {
    fn has_kind_and_status(&self, kind: TransactionKind, status: TransactionStatus) -> bool {
        (self.kind, self.status) == (kind, status)
    }
}

impl Transactions {
    /// The summary of an order whose state has no transactions.
    pub(super) fn summarize(order: &Order) -> Self {
        use TransactionKind::{Authorization, Capture, Refund, Void};
        use TransactionStatus::{Failed, Pending, Success};
        let payment = &order.payment;
        let authorization = match payment.status {
            PaymentStatus::Pending if payment.reference.is_some() => Some((order.total, Pending)),
            PaymentStatus::Failed => Some((order.total, Failed)),
            _ => Some((payment.authorized, Success)),
        };
        let voided_amount = match payment.status {
            PaymentStatus::Voided => payment.authorized,
            _ => 0,
        };
        let pending_refund = order.total_refund_due - payment.refunded;
        let amounts = [
            authorization.map(|(amount, status)| (Authorization, amount, status)),
            Some((Capture, payment.captured, Success)),
            Some((Void, voided_amount, Success)),
            Some((Refund, payment.refunded, Success)),
            Some((Refund, pending_refund, Pending)),
            Some((Refund, order.refund_written_off, Failed)),
        ];
        let amounts = amounts.into_iter().flatten();
        let entries = amounts.filter(|(_, amount, _)| *amount > 0);
        let entries = entries.map(|(kind, amount, status)| TransactionEntry {
            kind,
            amount,
            status,
            reference: payment.reference.clone(),
            received_at: None,
            created_at: match kind {
                Authorization => order.created_at,
                Capture | Refund | Void => order.updated_at,
            },
        });
        Self {
            summarized_version: Some(order.version),
            entries: entries.collect(),
        }
    }

    /// Version of the order that the first entries summarize.
    pub fn summarized_version(&self) -> Option<u64> {
        self.summarized_version
    }

    /// Whether no further transaction gets an entry of its own.
    pub fn is_full(&self) -> bool {
        self.entries.len() >= MAX_TRANSACTIONS
    }

    /// Sum of the transactions of this kind and status, in minor units.
    pub fn sum(&self, kind: TransactionKind, status: TransactionStatus) -> i64 {
        let entries = self
            .entries
            .iter()
            .filter(|entry| entry.has_kind_and_status(kind, status));
        entries.map(|entry| entry.amount).sum()
    }

    /// Whether one of them has a reference.
    pub fn has_references(&self) -> bool {
        self.entries.iter().any(|entry| entry.reference.is_some())
    }

    /// Removes all references.
    pub(super) fn remove_references(&mut self) {
        for entry in &mut self.entries {
            entry.reference = None;
        }
    }

    /// The transactions as callers see them.
    pub(super) fn represent(&self, order_id: OrderId, provider: &str) -> Vec<Transaction> {
        let entries = self.entries.iter().enumerate();
        entries
            .filter(|(_, entry)| entry.amount > 0)
            .map(|(index, entry)| Transaction {
                id: self.id(order_id, index),
                kind: entry.kind,
                amount: entry.amount,
                provider: provider.to_owned(),
                reference: entry.reference.clone(),
                status: entry.status,
                received_at: entry.received_at,
                created_at: entry.created_at,
            })
            .collect()
    }

    /// The id of the entry at `index`: a UUID of version 8 (RFC 9562).
    fn id(&self, order_id: OrderId, index: usize) -> TransactionId {
        let summary_version = self.summarized_version.unwrap_or(0);
        let digest = Sha256::digest(format!("{order_id}/transactions/{summary_version}/{index}"));
        let mut id_bytes = [0; 16];
        id_bytes.copy_from_slice(&digest[..16]);
        Builder::from_custom_bytes(id_bytes).into_uuid().into()
    }

    /// Applies `event`, the next event of `order`.
    pub(super) fn apply(&mut self, event: &Event, order: &Order) {
        use TransactionKind::{Authorization, Capture, Refund, Void};
        use TransactionStatus::{Failed, Pending, Success};
        let payment = &order.payment;
        let new_entry = |kind, amount, status| TransactionEntry {
            kind,
            amount,
            status,
            reference: payment.reference.clone(),
            received_at: None,
            created_at: event.time,
        };
        match &event.event_data {
            EventData::PaymentPrepared { reference, .. } => self.push(TransactionEntry {
                reference: Some(reference.clone()),
                ..new_entry(Authorization, order.total, Pending)
            }),
            EventData::PaymentAuthorized {
                reference, amount, ..
            } => {
                let authorization = TransactionEntry {
                    reference: Some(reference.clone()),
                    ..new_entry(Authorization, *amount, Success)
                };
                self.finish_authorization(authorization);
            }
            EventData::PaymentDeclined { .. } => {
                self.finish_authorization(new_entry(Authorization, order.total, Failed));
            }
            EventData::PaymentVoided { .. } => {
                if payment.status == PaymentStatus::Authorized {
                    self.push(new_entry(Void, payment.authorized, Success));
                } else if let Some(pending_entry) = self.last_mut(Authorization, Pending) {
                    pending_entry.status = Failed;
                }
            }
            EventData::PaymentCaptured {
                amount,
                reference,
                received_at,
                ..
            } => self.push(TransactionEntry {
                reference: reference.clone().or(payment.reference.clone()),
                received_at: *received_at,
                ..new_entry(Capture, *amount, Success)
            }),
            EventData::RefundRequested { amount, .. } => {
                self.push(new_entry(Refund, *amount, Pending));
            }
            EventData::PaymentRefunded {
                amount, reference, ..
            } => {
                let reference = reference.clone().or(payment.reference.clone());
                self.end_pending_refunds(TransactionEntry {
                    reference,
                    ..new_entry(Refund, *amount, Success)
                });
            }
            EventData::RefundFailed { amount } => {
                self.reverse_refunds(new_entry(Refund, *amount, Failed));
                // The amount is due again.
                self.push(new_entry(Refund, *amount, Pending));
            }
            EventData::StepDiscarded { step, amount } if is_refund(step) => {
                self.end_pending_refunds(new_entry(Refund, amount.unwrap_or(0), Failed));
            }
            _ => {}
        }
    }

    /// Adds an entry, unless its amount is 0.
    fn push(&mut self, entry: TransactionEntry) {
        if entry.amount == 0 {
            return;
        }
        let is_full = self.is_full();
        match self.last_mut(entry.kind, entry.status) {
            Some(last_entry) if is_full => last_entry.amount += entry.amount,
            _ => self.entries.push(entry),
        }
    }

    fn last_mut(
        &mut self,
        kind: TransactionKind,
        status: TransactionStatus,
    ) -> Option<&mut TransactionEntry> {
        let mut entries = self.entries.iter_mut().rev();
        entries.find(|entry| entry.has_kind_and_status(kind, status))
    }

    /// Ends the pending authorization as `final_entry`; without one, adds `final_entry`.
    fn finish_authorization(&mut self, final_entry: TransactionEntry) {
        match self.last_mut(final_entry.kind, TransactionStatus::Pending) {
            Some(pending_entry) => {
                *pending_entry = TransactionEntry {
                    created_at: pending_entry.created_at,
                    ..final_entry
                }
            }
            None => self.push(final_entry),
        }
    }

    /// Ends pending refunds as `final_entry`, up to its amount: one with exactly that amount, or else the oldest
    /// ones.
    fn end_pending_refunds(&mut self, final_entry: TransactionEntry) {
        let pending_status = TransactionStatus::Pending;
        let is_exact = |entry: &TransactionEntry| {
            entry.has_kind_and_status(final_entry.kind, pending_status)
                && entry.amount == final_entry.amount
        };
        match self.entries.iter().position(is_exact) {
            Some(exact_index) => self.convert_entries(pending_status, [exact_index], final_entry),
            None => self.convert_entries(pending_status, 0..self.entries.len(), final_entry),
        }
    }

    /// Marks successful refunds as failed, the latest ones first, up to the amount of `final_entry`.
    fn reverse_refunds(&mut self, final_entry: TransactionEntry) {
        let indexes_from_latest = (0..self.entries.len()).rev();
        self.convert_entries(TransactionStatus::Success, indexes_from_latest, final_entry);
    }

    /// Turns the entries at `indexes` whose status is `from_status` into `final_entry`, up to its amount. A larger
    /// entry is divided, and an amount without such an entry is added.
    fn convert_entries(
        &mut self,
        from_status: TransactionStatus,
        indexes: impl IntoIterator<Item = usize>,
        final_entry: TransactionEntry,
    ) {
        let is_list_full = self.is_full();
        let (mut remaining_amount, mut divided_amount) = (final_entry.amount, 0);
        for index in indexes {
            let entry = &mut self.entries[index];
            if remaining_amount == 0 || !entry.has_kind_and_status(final_entry.kind, from_status) {
                continue;
            }
            let converted_amount = entry.amount.min(remaining_amount);
            remaining_amount -= converted_amount;
            // Of a full list the amounts are moved between its entries.
            if converted_amount < entry.amount || is_list_full {
                entry.amount -= converted_amount;
                divided_amount += converted_amount;
            } else {
                entry.status = final_entry.status;
                entry.reference.clone_from(&final_entry.reference);
            }
        }
        self.push(TransactionEntry {
            amount: divided_amount + remaining_amount,
            ..final_entry
        });
    }
}

fn is_refund(step: &str) -> bool {
    step.parse() == Ok(Step::RefundPayment)
}
