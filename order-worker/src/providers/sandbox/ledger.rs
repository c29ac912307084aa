//! The sandbox ledger: the payments and shipments loaded for a transaction, and the effect of each call on
//! them. It does no I/O; [`ledger_writer`](super::ledger_writer) loads and saves it. Each call is idempotent
//! under its key.

use std::collections::{BTreeSet, HashMap};

use shared::{id::OrderId, money::Money, order::Label};

use crate::{
    domain::{
        command::StepResult,
        payment::{Authorization, PaymentState},
    },
    providers::ProviderError,
};

/// Name of the carrier in labels and shipments.
pub(super) const CARRIER_NAME: &str = "sandbox";

/// An authorization.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HeldAuthorization {
    /// Id of the payment.
    pub(super) reference: String,
    /// Authorized amount in minor units.
    pub(super) amount: i64,
}

/// Number of calls that fail with `pm_flaky`.
const FLAKY_FAILURES: i64 = 2;

/// A row of the table `payments`.
#[derive(Debug, Clone)]
pub(super) struct Payment {
    pub(super) reference: String,
    pub(super) status: Status,
    pub(super) amount: i64,
    pub(super) currency: String,
    pub(super) captured: i64,
    pub(super) refunded: i64,
    /// Number of authorization calls.
    pub(super) authorization_calls: i64,
    /// Whether the payment was ever authorized.
    pub(super) was_authorized: bool,
}

impl Payment {
    /// A payment that is not authorized yet.
    fn without_authorization(payment_reference: String, amount: i64, currency: &str) -> Self {
        Self {
            reference: payment_reference,
            status: Status::Pending,
            amount,
            currency: currency.to_owned(),
            captured: 0,
            refunded: 0,
            authorization_calls: 0,
            was_authorized: false,
        }
    }
}

impl Payment {
    fn payment_state_of(&self) -> PaymentState {
        let authorization = match self.status {
            Status::Pending => Authorization::Pending,
            Status::Authorized | Status::Captured => Authorization::Authorized(self.amount),
            Status::Declined => Authorization::Declined {
                code: "card_declined".to_owned(),
                message: "the card was declined".to_owned(),
            },
            Status::Voided => Authorization::Cancelled,
        };
        PaymentState {
            reference: self.reference.clone(),
            authorization,
            captured: self.captured,
            refunded: self.refunded,
            is_closed: match self.status {
                Status::Pending | Status::Authorized => false,
                Status::Captured => self.captured >= self.amount,
                Status::Declined | Status::Voided => true,
            },
            order_version: 0,
        }
    }
}

/// Status of a payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    /// Not authorized yet.
    Pending,
    Authorized,
    Declined,
    Captured,
    Voided,
}

impl Status {
    const ALL_STATUSES: [Self; 5] = [
        Self::Pending,
        Self::Authorized,
        Self::Declined,
        Self::Captured,
        Self::Voided,
    ];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "asked",
            Self::Authorized => "authorized",
            Self::Declined => "declined",
            Self::Captured => "captured",
            Self::Voided => "voided",
        }
    }

    pub(super) fn read(status_text: &str) -> Option<Self> {
        Self::ALL_STATUSES
            .into_iter()
            .find(|status| status.as_str() == status_text)
    }
}

/// A row of the table `parcels`.
#[derive(Debug, Clone)]
pub(super) struct ShipmentRow {
    pub(super) order_id: String,
    pub(super) tracking_number: String,
    pub(super) is_cancelled: bool,
    /// Digest of the shipping address that the label was created for.
    pub(super) address_digest: Option<String>,
    /// Number of delivered webhooks: the stage that the shipment has reached.
    pub(super) stage: i64,
    /// Time of the next webhook in Unix milliseconds.
    pub(super) next_webhook_at: Option<i64>,
}

/// An entry of the ledger (table `movements`): an amount that was authorized, captured, voided or refunded.
#[derive(Debug)]
pub(super) struct LedgerEntry {
    pub(super) payment_reference: String,
    pub(super) entry_kind: &'static str,
    pub(super) amount: i64,
}

/// The rows loaded for a transaction, and the changes to save.
#[derive(Default)]
pub(super) struct Ledger {
    pub(super) payments: HashMap<String, Payment>,
    pub(super) shipments: HashMap<String, ShipmentRow>,
    pub(super) changed_payments: BTreeSet<String>,
    pub(super) changed_shipments: BTreeSet<String>,
    pub(super) entries: Vec<LedgerEntry>,
}

impl Ledger {
    /// Authorizes `price` under `payment_key`, once. Returns the result, and whether this was the key's first
    /// call.
    pub(super) fn authorize(
        &mut self,
        payment_key: &str,
        price: Money,
        payment_method: &str,
        payment_reference: String,
    ) -> (Result<HeldAuthorization, ProviderError>, bool) {
        let payment = self
            .payments
            .entry(payment_key.to_owned())
            .or_insert_with(|| {
                Payment::without_authorization(
                    payment_reference,
                    price.amount,
                    price.currency.as_str(),
                )
            });
        payment.authorization_calls += 1;
        if payment.status == Status::Pending {
            payment.status = match payment_method {
                "pm_ok" | "pm_slow" | "pm_timeout_after_charge" => Status::Authorized,
                "pm_flaky" if payment.authorization_calls <= FLAKY_FAILURES => Status::Pending,
                "pm_flaky" => Status::Authorized,
                _ => Status::Declined,
            };
            if payment.status == Status::Authorized {
                payment.was_authorized = true;
                self.entries
                    .push(ledger_entry(payment, "authorize", payment.amount));
            }
        }
        self.changed_payments.insert(payment_key.to_owned());
        let authorize_result = match payment.status {
            Status::Pending => Err(ProviderError::Transient(
                "the payment provider responded with status 503".to_owned(),
            )),
            Status::Declined => Err(declined_error(payment_method)),
            Status::Voided => Err(ProviderError::Declined {
                code: "payment_voided".to_owned(),
                message: "the payment was voided".to_owned(),
            }),
            Status::Authorized | Status::Captured => Ok(HeldAuthorization {
                reference: payment.reference.clone(),
                amount: payment.amount,
            }),
        };
        (authorize_result, payment.authorization_calls == 1)
    }

    /// Voids the authorization under `payment_key`, or makes sure that there will be none.
    pub(super) fn void(&mut self, payment_key: &str, payment_reference: String) -> StepResult {
        let payment = self
            .payments
            .entry(payment_key.to_owned())
            .or_insert_with(|| Payment::without_authorization(payment_reference, 0, "XXX"));
        match payment.status {
            Status::Captured => return StepResult::PaymentState(payment.payment_state_of()),
            Status::Authorized => self
                .entries
                .push(ledger_entry(payment, "void", payment.amount)),
            Status::Pending | Status::Declined | Status::Voided => {}
        }
        payment.status = Status::Voided;
        self.changed_payments.insert(payment_key.to_owned());
        StepResult::Voided {
            reference: payment.was_authorized.then(|| payment.reference.clone()),
        }
    }

    /// Captures from the authorization under `payment_key` until `capture_total` is captured.
    pub(super) fn capture(
        &mut self,
        payment_key: &str,
        capture_total: i64,
        is_last_capture: bool,
    ) -> Result<StepResult, ProviderError> {
        let Some(payment) = self.payments.get_mut(payment_key) else {
            return Err(ProviderError::Permanent(
                "there is no such payment".to_owned(),
            ));
        };
        match payment.status {
            Status::Authorized | Status::Captured => {}
            Status::Voided => return Ok(StepResult::PaymentState(payment.payment_state_of())),
            Status::Pending | Status::Declined => {
                return Err(ProviderError::Permanent(format!(
                    "the payment is {} and can't be captured",
                    payment.status.as_str()
                )));
            }
        }
        if capture_total > payment.amount {
            return Err(ProviderError::Permanent(format!(
                "{capture_total} can't be captured: only {} is authorized",
                payment.amount
            )));
        }
        let remaining_amount = capture_total - payment.captured;
        let is_free_order = payment.amount == 0 && payment.status == Status::Authorized;
        if remaining_amount > 0 || is_free_order {
            payment.status = Status::Captured;
            payment.captured = capture_total;
            self.entries
                .push(ledger_entry(payment, "capture", remaining_amount));
            self.changed_payments.insert(payment_key.to_owned());
        }
        Ok(StepResult::Captured {
            amount: payment.captured,
            requested_total: capture_total,
            is_last_capture,
        })
    }

    /// Refunds until `refund_total` is refunded under `payment_key`; returns the refunded total.
    pub(super) fn refund(
        &mut self,
        payment_key: &str,
        refund_total: i64,
    ) -> Result<i64, ProviderError> {
        let payment = self.payments.get_mut(payment_key);
        let Some(payment) = payment.filter(|payment| payment.status == Status::Captured) else {
            return Err(ProviderError::Permanent(
                "nothing was captured, so nothing can be refunded".to_owned(),
            ));
        };
        if refund_total > payment.captured {
            return Err(ProviderError::Permanent(format!(
                "{refund_total} can't be refunded: only {} was captured",
                payment.captured
            )));
        }
        let remaining_amount = refund_total - payment.refunded;
        if remaining_amount > 0 {
            payment.refunded = refund_total;
            self.entries
                .push(ledger_entry(payment, "refund", remaining_amount));
            self.changed_payments.insert(payment_key.to_owned());
        }
        Ok(payment.refunded)
    }

    /// State of the payment under `payment_key`.
    pub(super) fn payment_state(&self, payment_key: &str) -> Option<PaymentState> {
        self.payments
            .get(payment_key)
            .map(Payment::payment_state_of)
    }

    /// Creates a label under `label_key`, once. `next_webhook_at` is the time of its first webhook, if the carrier
    /// delivers.
    pub(super) fn create_label(
        &mut self,
        label_key: &str,
        order_id: OrderId,
        tracking_number: String,
        address_digest: Option<String>,
        next_webhook_at: Option<i64>,
    ) -> Result<Label, ProviderError> {
        if !self.shipments.contains_key(label_key) {
            let shipment = ShipmentRow {
                order_id: order_id.to_string(),
                tracking_number,
                is_cancelled: false,
                address_digest,
                stage: 0,
                next_webhook_at,
            };
            self.shipments.insert(label_key.to_owned(), shipment);
            self.changed_shipments.insert(label_key.to_owned());
        }
        match self.shipments.get(label_key) {
            Some(shipment) if !shipment.is_cancelled => {
                Ok(Label::new(CARRIER_NAME, shipment.tracking_number.as_str()))
            }
            _ => Err(ProviderError::Permanent(
                "the label was cancelled".to_owned(),
            )),
        }
    }

    /// Cancels the label under `label_key`, or makes sure that there will be none. A shipment in transit
    /// continues.
    pub(super) fn cancel_label(&mut self, label_key: &str, order_id: OrderId) {
        let shipment = self
            .shipments
            .entry(label_key.to_owned())
            .or_insert_with(|| ShipmentRow {
                order_id: order_id.to_string(),
                tracking_number: String::new(),
                is_cancelled: false,
                address_digest: None,
                stage: 0,
                next_webhook_at: None,
            });
        if shipment.stage == 0 {
            shipment.is_cancelled = true;
            shipment.next_webhook_at = None;
            self.changed_shipments.insert(label_key.to_owned());
        }
    }
}

fn ledger_entry(payment: &Payment, entry_kind: &'static str, amount: i64) -> LedgerEntry {
    LedgerEntry {
        payment_reference: payment.reference.clone(),
        entry_kind,
        amount,
    }
}

fn declined_error(payment_method: &str) -> ProviderError {
    let (code, message) = match payment_method {
        "pm_declined" => ("card_declined", "the card was declined"),
        _ => ("unknown_payment_method", "the payment method is unknown"),
    };
    ProviderError::Declined {
        code: code.to_owned(),
        message: message.to_owned(),
    }
}
