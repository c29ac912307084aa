//! Stripe as a payment provider: an order's payment is one `PaymentIntent` with manual capture.
//!
//! - The payment intent is created first. It is confirmed only after its id is stored with the order, so
//!   every authorization can be found. If it is created twice, the second one is never confirmed and
//!   authorizes nothing.
//! - Each call reads the payment intent before it changes anything, so a lost response does no harm.
//!   Idempotency keys made of order and total prevent concurrent duplicates.
//! - A card is captured once, when all goods of the order that will be shipped are shipped. With
//!   `STRIPE_MULTICAPTURE=1` it is captured for each shipment
//!   (<https://docs.stripe.com/payments/multicapture>).
//!
//! `api` sends the requests; `amounts` converts the amounts; `state` reads the state of a payment.

mod amounts;
mod api;
mod state;

use reqwest::Url;
use shared::money::Money;

use self::{
    amounts::{chargeable_part, from_stripe, to_stripe},
    api::{Api, ApiError, FormFields, IdempotencyKey, PaymentIntent},
    state::{
        authorization_state, authorized_result, can_capture_in_parts, captured_amount, is_closed,
        is_effective, refunded_amount, requires_confirmation,
    },
};
use super::{Payment, ProviderError};
use crate::domain::{
    command::StepResult,
    payment::{Authorization, PaymentState},
};

/// Name of this provider in orders and events.
pub const NAME: &str = "stripe";

/// Whether Stripe can charge `amount`.
///
/// # Errors
/// The reason why it can't.
pub fn check(amount: Money) -> Result<(), String> {
    to_stripe(amount).map(drop)
}

/// Access to Stripe.
#[derive(Clone)]
pub struct Settings {
    /// Base URL: `https://api.stripe.com`.
    pub base_url: Url,
    /// Secret API key: `sk_…`.
    pub secret_key: String,
    /// Whether the account supports multicapture.
    pub captures_in_parts: bool,
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Stripe at {}", self.base_url)
    }
}

/// The payment provider; clones share its connections.
#[derive(Clone)]
pub struct Stripe {
    api: Api,
    captures_in_parts: bool,
}

impl Stripe {
    /// Creates the provider.
    ///
    /// # Errors
    /// When the HTTP client can't be created.
    pub fn new(settings: Settings) -> anyhow::Result<Self> {
        Ok(Self {
            api: Api::new(settings.base_url, settings.secret_key)?,
            captures_in_parts: settings.captures_in_parts,
        })
    }

    pub(super) async fn authorize(&self, payment: &Payment) -> Result<StepResult, ProviderError> {
        // A free order has no payment intent.
        if payment.price.amount == 0 {
            return Ok(authorized_result(String::new(), 0));
        }
        let Some(intent_id) = &payment.reference else {
            let idempotency_key = idempotency_key(payment, "prepare");
            let intent_form = self.intent_form(payment)?;
            let create_result = self.api.create_intent(&intent_form, &idempotency_key).await;
            let PaymentIntent {
                id: new_intent_id, ..
            } = create_result.map_err(ApiError::into_declined)?;
            let provider = NAME.to_owned();
            return Ok(StepResult::PaymentCreated {
                provider,
                reference: new_intent_id,
            });
        };
        let mut intent = self.read_intent(intent_id).await?;
        if requires_confirmation(&intent) {
            let return_url = payment.return_url.clone();
            let return_url_field = return_url.map(|url| ("return_url", url));
            let form = return_url_field.into_iter().collect();
            let confirm_result = self
                .api
                .confirm_or_cancel(intent_id, "confirm", &form)
                .await;
            intent = match confirm_result.map_err(ApiError::into_declined) {
                Err(declined_error @ ProviderError::Declined { .. }) => {
                    self.cancel_declined(intent_id).await;
                    return Err(declined_error);
                }
                intent => intent?,
            };
        }
        match authorization_state(&intent, payment) {
            Authorization::Authorized(authorized_amount) => {
                Ok(authorized_result(intent.id, authorized_amount))
            }
            Authorization::RequiresAction(action) => Ok(StepResult::ActionRequired(action)),
            Authorization::Declined { code, message } => {
                self.cancel_declined(intent_id).await;
                Err(ProviderError::Declined { code, message })
            }
            Authorization::Cancelled => Err(ProviderError::Declined {
                code: "canceled".to_owned(),
                message: "the payment was cancelled".to_owned(),
            }),
            Authorization::Pending => Err(ProviderError::Transient(format!(
                "the payment has the status {} at Stripe",
                intent.status
            ))),
        }
    }

    pub(super) async fn capture(
        &self,
        payment: &Payment,
        capture_total: i64,
        is_last_capture: bool,
    ) -> Result<StepResult, ProviderError> {
        let captured_result = |amount| StepResult::Captured {
            amount,
            requested_total: capture_total,
            is_last_capture,
        };
        let Some(intent_id) = intent_id(payment)? else {
            return Ok(captured_result(0));
        };
        let intent = self.read_intent(intent_id).await?;
        let captured_before = captured_amount(&intent, payment);
        let remaining_amount = capture_total - captured_before;
        let is_last_capture = is_last_capture || capture_total >= payment.price.amount;
        if remaining_amount <= 0 {
            if is_last_capture && captured_before > 0 && intent.status == "requires_capture" {
                self.release_authorization(intent_id, payment).await;
            }
            return Ok(captured_result(captured_before));
        }
        if is_closed(&intent) {
            return self
                .payment_state(payment)
                .await
                .map(StepResult::PaymentState);
        }
        if intent.status != "requires_capture" {
            return Err(ProviderError::Permanent(format!(
                "the payment has the status {} at Stripe and can't be captured",
                intent.status
            )));
        }
        if !is_last_capture && !can_capture_in_parts(&intent) {
            return Ok(captured_result(captured_before));
        }
        let mut form = FormFields::new();
        // After an edit, more than the order's total may be authorized.
        let is_whole_amount = capture_total >= from_stripe(intent.amount, payment.price.currency);
        let mut reached_total = capture_total;
        if !is_whole_amount {
            // If a remainder is too small a unit for Stripe, it is captured with a later part.
            let chargeable_amount = chargeable_part(Money {
                amount: remaining_amount,
                ..payment.price
            });
            if chargeable_amount == 0 {
                return Ok(captured_result(captured_before));
            }
            reached_total = captured_before + chargeable_amount;
            form.push((
                "amount_to_capture",
                stripe_amount(payment, chargeable_amount)?,
            ));
        }
        // `final_capture` is true by default: Stripe would release the rest of the authorization.
        if !is_last_capture {
            form.push(("final_capture", "false".to_owned()));
        }
        // An idempotency key belongs to one set of parameters.
        let key_suffix = if is_last_capture && !is_whole_amount {
            "/final"
        } else {
            ""
        };
        let idempotency_key =
            idempotency_key(payment, &format!("capture/{reached_total}{key_suffix}"));
        match self.api.capture(intent_id, &form, &idempotency_key).await {
            Ok(_) => Ok(captured_result(reached_total)),
            // The payment may have been captured in Stripe's dashboard at the same time.
            Err(rejection_error @ ApiError::Rejected(_)) => {
                let captured_total = captured_amount(&self.read_intent(intent_id).await?, payment);
                if captured_total > captured_before {
                    Ok(captured_result(captured_total))
                } else {
                    Err(rejection_error.into_permanent())
                }
            }
            Err(error) => Err(error.into_permanent()),
        }
    }

    /// Releases the rest of an authorization of which parts were captured
    /// (<https://docs.stripe.com/payments/multicapture>). If this fails, the authorization expires after some
    /// days.
    async fn release_authorization(&self, intent_id: &str, payment: &Payment) {
        let form = vec![
            ("amount_to_capture", "0".to_owned()),
            ("final_capture", "true".to_owned()),
        ];
        let idempotency_key = idempotency_key(payment, "release");
        let release_result = self.api.capture(intent_id, &form, &idempotency_key).await;
        if let Err(error) = release_result {
            tracing::warn!(
                reference = intent_id,
                ?error,
                "the rest of an authorization could not be released"
            );
        }
    }

    pub(super) async fn void(&self, payment: &Payment) -> Result<StepResult, ProviderError> {
        // Without a stored id, no payment intent was ever confirmed.
        let Some(intent_id) = payment.reference.as_ref().filter(|id| !id.is_empty()) else {
            return Ok(StepResult::Voided { reference: None });
        };
        let intent = self.read_intent(intent_id).await?;
        match intent.status.as_str() {
            "canceled" => {}
            "succeeded" => {
                return self
                    .payment_state(payment)
                    .await
                    .map(StepResult::PaymentState);
            }
            _ => {
                let cancel_result = self
                    .api
                    .confirm_or_cancel(intent_id, "cancel", &FormFields::new())
                    .await;
                cancel_result.map_err(|error| match error {
                    // The payment intent is changing its status: try again later.
                    ApiError::Rejected(stripe_error) => {
                        ProviderError::Transient(stripe_error.message())
                    }
                    ApiError::ServerError(message) | ApiError::OutcomeUnknown(message) => {
                        ProviderError::Transient(message)
                    }
                })?;
            }
        }
        Ok(StepResult::Voided {
            reference: Some(intent_id.to_owned()),
        })
    }

    pub(super) async fn refund(
        &self,
        payment: &Payment,
        refund_total: i64,
    ) -> Result<StepResult, ProviderError> {
        let Some(intent_id) = intent_id(payment)? else {
            return Ok(StepResult::Refunded { amount: 0 });
        };
        let intent = self.read_intent(intent_id).await?;
        let mut rejection: Option<(ApiError, i64)> = None;
        loop {
            let refunds = self.api.refunds(intent_id).await;
            let refunds = refunds.map_err(ApiError::into_permanent)?;
            let refunded_total = refunded_amount(&refunds, &intent, payment);
            if refunded_total < payment.refunded {
                return self
                    .payment_state(payment)
                    .await
                    .map(StepResult::PaymentState);
            }
            if refunded_total >= refund_total {
                return Ok(StepResult::Refunded {
                    amount: refunded_total,
                });
            }
            // If a refund was made in Stripe's dashboard meanwhile, less is left to refund: try again with
            // that. If not, the rejection stands.
            if let Some((error, refunded_before)) = rejection.take()
                && refunded_before == refunded_total
            {
                return Err(error.into_permanent());
            }
            let form = refund_form(payment, intent_id, refund_total - refunded_total)?;
            // A failed refund may be repeated under a new key; one without a response must keep its key.
            let failed_refund_count = refunds
                .iter()
                .filter(|refund| !is_effective(refund))
                .count();
            let idempotency_key = idempotency_key(
                payment,
                &format!("refund/{refund_total}/{refunded_total}/{failed_refund_count}"),
            );
            match self.api.create_refund(&form, &idempotency_key).await {
                Ok(refund) if is_effective(&refund) => {
                    return Ok(StepResult::Refunded {
                        amount: refund_total,
                    });
                }
                Ok(refund) => {
                    let failure_reason = refund.failure_reason.unwrap_or_default();
                    let failure_reason = format!("the refund failed: {failure_reason}");
                    return Err(ProviderError::Permanent(failure_reason));
                }
                Err(error @ ApiError::Rejected(_)) => rejection = Some((error, refunded_total)),
                Err(error) => return Err(error.into_permanent()),
            }
        }
    }

    pub(super) async fn payment_state(
        &self,
        payment: &Payment,
    ) -> Result<PaymentState, ProviderError> {
        let Some(intent_id) = &payment.reference else {
            return Err(ProviderError::Permanent(
                "no payment intent has been created at Stripe yet".to_owned(),
            ));
        };
        let intent = self.read_intent(intent_id).await?;
        let captured_total = captured_amount(&intent, payment);
        let refunded_total = if captured_total > 0 {
            let refunds = self.api.refunds(intent_id).await;
            refunded_amount(
                &refunds.map_err(ApiError::into_permanent)?,
                &intent,
                payment,
            )
        } else {
            0
        };
        Ok(PaymentState {
            reference: intent_id.to_owned(),
            authorization: authorization_state(&intent, payment),
            captured: captured_total,
            refunded: refunded_total,
            is_closed: is_closed(&intent),
            order_version: 0,
        })
    }

    async fn read_intent(&self, intent_id: &str) -> Result<PaymentIntent, ProviderError> {
        let mut form = FormFields::new();
        if self.captures_in_parts {
            form.push(("expand[]", "latest_charge".to_owned()));
        }
        let intent_result = self.api.intent(intent_id, &form).await;
        intent_result.map_err(ApiError::into_permanent)
    }

    /// Cancels a declined payment intent, which the customer could otherwise confirm again with the client
    /// secret. If this fails, a later authorization is voided when its webhook arrives.
    async fn cancel_declined(&self, intent_id: &str) {
        let cancel_result = self
            .api
            .confirm_or_cancel(intent_id, "cancel", &FormFields::new())
            .await;
        if let Err(error) = cancel_result {
            tracing::warn!(
                reference = intent_id,
                ?error,
                "a declined payment could not be cancelled"
            );
        }
    }

    fn intent_form(&self, payment: &Payment) -> Result<FormFields, ProviderError> {
        let mut form = vec![
            ("amount", stripe_amount(payment, payment.price.amount)?),
            (
                "currency",
                payment.price.currency.as_str().to_ascii_lowercase(),
            ),
            ("payment_method", payment.payment_method.clone()),
            // Other payment methods redirect the customer, or have no separate authorization.
            ("payment_method_types[]", "card".to_owned()),
            ("capture_method", "manual".to_owned()),
            ("metadata[order_id]", payment.order_id.to_string()),
            ("metadata[order_number]", payment.order_number.to_string()),
        ];
        if self.captures_in_parts {
            form.push((
                "payment_method_options[card][request_multicapture]",
                "if_available".to_owned(),
            ));
        }
        Ok(form)
    }
}

/// The idempotency key of a request, which stays the same until Stripe has answered the request.
fn idempotency_key(payment: &Payment, operation: &str) -> IdempotencyKey {
    IdempotencyKey {
        base_key: format!("{}/{operation}", payment.idempotency_key),
        generation: payment.error_responses,
    }
}

/// The form of a refund. The metadata marks it as a refund of ours.
fn refund_form(
    payment: &Payment,
    intent_id: &str,
    amount: i64,
) -> Result<FormFields, ProviderError> {
    Ok(vec![
        ("payment_intent", intent_id.to_owned()),
        ("amount", stripe_amount(payment, amount)?),
        ("metadata[order_id]", payment.order_id.to_string()),
        ("metadata[order_number]", payment.order_number.to_string()),
    ])
}

/// An amount in minor units of the payment's currency, as a form field in Stripe's unit.
fn stripe_amount(payment: &Payment, amount: i64) -> Result<String, ProviderError> {
    let money = Money {
        amount,
        ..payment.price
    };
    let amount = to_stripe(money).map_err(ProviderError::Permanent)?;
    Ok(amount.to_string())
}

/// The id of the payment intent; `None` if there is nothing to pay.
fn intent_id(payment: &Payment) -> Result<Option<&str>, ProviderError> {
    match &payment.reference {
        _ if payment.price.amount == 0 => Ok(None),
        Some(intent_id) => Ok(Some(intent_id)),
        None => Err(ProviderError::Permanent(
            "the order has no payment intent at Stripe".to_owned(),
        )),
    }
}
