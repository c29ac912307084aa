//! The meaning of Stripe's objects: how a `PaymentIntent` and its refunds become the state of a payment.

use shared::order::NextAction;

use super::{
    NAME,
    amounts::from_stripe,
    api::{PaymentIntent, Refund},
};
use crate::{
    domain::{command::StepResult, payment::Authorization},
    providers::Payment,
};

pub(super) fn authorized_result(intent_id: String, amount: i64) -> StepResult {
    StepResult::Authorized {
        provider: NAME.to_owned(),
        reference: intent_id,
        amount,
    }
}

pub(super) fn requires_confirmation(intent: &PaymentIntent) -> bool {
    intent.status == "requires_confirmation"
        || (intent.status == "requires_payment_method" && intent.last_payment_error.is_none())
}

/// Whether nothing more can be captured.
pub(super) fn is_closed(intent: &PaymentIntent) -> bool {
    matches!(intent.status.as_str(), "succeeded" | "canceled")
}

/// The state of the authorization, from the status of the payment intent:
/// <https://docs.stripe.com/payments/paymentintents/lifecycle>.
pub(super) fn authorization_state(intent: &PaymentIntent, payment: &Payment) -> Authorization {
    match intent.status.as_str() {
        "requires_capture" | "succeeded" => {
            Authorization::Authorized(from_stripe(intent.amount, payment.price.currency))
        }
        "requires_action" => Authorization::RequiresAction(next_action(intent)),
        "canceled" => Authorization::Cancelled,
        "requires_payment_method" => match &intent.last_payment_error {
            Some(stripe_error) => Authorization::Declined {
                code: stripe_error.code(),
                message: stripe_error.message(),
            },
            None => Authorization::Pending,
        },
        _ => Authorization::Pending,
    }
}

pub(super) fn next_action(intent: &PaymentIntent) -> NextAction {
    let stripe_action = intent.next_action.as_ref();
    let action_type = stripe_action.and_then(|stripe_action| stripe_action["type"].as_str());
    let redirect_url =
        stripe_action.and_then(|stripe_action| stripe_action["redirect_to_url"]["url"].as_str());
    NextAction {
        action_type: action_type.unwrap_or("unknown").to_owned(),
        action_url: redirect_url.map(str::to_owned),
        client_secret: intent.client_secret.clone(),
    }
}

/// Captured amount in minor units.
pub(super) fn captured_amount(intent: &PaymentIntent, payment: &Payment) -> i64 {
    let received_amount = match (intent.amount_received, intent.status.as_str()) {
        (Some(received_amount), _) => received_amount,
        (None, "succeeded") => intent.amount,
        (None, _) => intent.amount_capturable.map_or(0, |remaining_amount| {
            (intent.amount - remaining_amount).max(0)
        }),
    };
    from_stripe(received_amount, payment.price.currency)
}

pub(super) fn can_capture_in_parts(intent: &PaymentIntent) -> bool {
    let charge = intent.latest_charge.as_ref();
    charge.is_some_and(|charge| {
        charge["payment_method_details"]["card"]["multicapture"]["status"] == "available"
    })
}

/// Whether the refund has not failed: it succeeded or is pending.
pub(super) fn is_effective(refund: &Refund) -> bool {
    !matches!(refund.status.as_deref(), Some("failed" | "canceled"))
}

/// Refunded amount in minor units, out of the captured amount. After a last partial capture, Stripe releases
/// the rest of the authorization and lists this as a refund
/// (<https://github.com/woocommerce/woocommerce-gateway-stripe/issues/1073> shows one). That refund is left
/// out, since nothing of it was captured.
pub(super) fn refunded_amount(
    refunds: &[Refund],
    intent: &PaymentIntent,
    payment: &Payment,
) -> i64 {
    let mut effective_refunds: Vec<_> = refunds
        .iter()
        .filter(|refund| is_effective(refund))
        .collect();
    let released_amount = match (intent.status.as_str(), intent.amount_received) {
        ("succeeded", Some(received_amount)) => intent.amount - received_amount,
        _ => 0,
    };
    let is_ours = |refund: &Refund| {
        let metadata = refund.metadata.as_ref();
        metadata.is_some_and(|metadata| metadata["order_id"].is_string())
    };
    // Stripe lists the newest refund first, so the release is the last one of its amount.
    let release_index = effective_refunds
        .iter()
        .rposition(|refund| refund.amount == released_amount && !is_ours(refund));
    if let Some(release_index) = release_index.filter(|_| released_amount > 0) {
        effective_refunds.remove(release_index);
    }
    from_stripe(
        effective_refunds.iter().map(|refund| refund.amount).sum(),
        payment.price.currency,
    )
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use shared::money::Money;

    use super::*;

    #[test]
    fn release_of_the_uncaptured_remainder_is_not_a_refund() {
        let intent_with = |status: &str, received_amount: i64| -> PaymentIntent {
            serde_json::from_value(json!({
                "id": "pi_1", "status": status, "amount": 5000, "amount_received": received_amount,
            }))
            .unwrap()
        };
        let new_refund = |amount: i64, status: &str, metadata: Value| -> Refund {
            serde_json::from_value(json!({
                "id": "re_1", "amount": amount, "status": status, "metadata": metadata,
            }))
            .unwrap()
        };
        let payment = Payment {
            idempotency_key: "key".to_owned(),
            provider: NAME.to_owned(),
            reference: Some("pi_1".to_owned()),
            order_id: "0192f0c1-2345-7abc-8def-0123456789ab".parse().unwrap(),
            order_number: 1,
            price: Money {
                amount: 5000,
                currency: "EUR".parse().unwrap(),
            },
            payment_method: "pm_card".to_owned(),
            return_url: None,
            refunded: 0,
            error_responses: 0,
        };
        let release = || new_refund(4000, "succeeded", json!({}));
        let own_refund = |amount| new_refund(amount, "succeeded", json!({"order_id": "an order"}));
        let captured_intent = intent_with("succeeded", 1000);
        for (refunds, refunded_total) in [
            (vec![], 0),
            (vec![release()], 0),
            (vec![own_refund(300), release()], 300),
            (
                vec![
                    own_refund(300),
                    new_refund(200, "succeeded", json!({})),
                    release(),
                ],
                500,
            ),
            (vec![new_refund(300, "failed", json!({})), release()], 0),
            // The release is not listed: no refund is left out.
            (vec![own_refund(1000)], 1000),
        ] {
            assert_eq!(
                refunded_amount(&refunds, &captured_intent, &payment),
                refunded_total,
                "{refunds:?}"
            );
        }
        // If everything was captured, there is no release, and every refund counts.
        let captured_intent = intent_with("succeeded", 5000);
        assert_eq!(
            refunded_amount(&[release()], &captured_intent, &payment),
            4000
        );
    }
}
