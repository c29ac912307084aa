//! Erasure of the personal data in an order.

use order_worker::domain::{
    command::{Action, Command, StepResult},
    step::StepRow,
};
use serde_json::json;
use shared::id::OrderId;

use crate::shop::{Shop, operator};

impl Shop {
    fn redact(&mut self, id: OrderId) {
        let command = Command::Request {
            caller: operator(),
            idempotency: None,
            if_match: None,
            action: Action::RedactOrder(id),
        };
        self.carry_out(&command).outcome.unwrap();
    }

    fn create_paid_by(&mut self, payment_method: &str) -> OrderId {
        let body = json!({"customer_id": self.customer_id, "payment_method": payment_method,
            "items": [{"sku": "A", "quantity": 1}], "shipping_address": {"name": "Ada"}});
        let created_order = self.execute_request("order.create", body).unwrap();
        created_order["id"].as_str().unwrap().parse().unwrap()
    }

    /// The only step of the order.
    fn only_step(&self, id: OrderId) -> &StepRow {
        let mut steps = self.working_set.steps_of(id);
        let step = steps.next().unwrap();
        assert_eq!(steps.next(), None);
        step
    }
}

#[test]
fn errors_of_failed_steps_are_erased_and_the_steps_are_kept() {
    for is_transient in [false, true] {
        let mut shop = Shop::with_stock(&[("A", "main", 10)]);
        let id = shop.create_paid_by("pm_ok");
        shop.run_until_settled();
        shop.cancel(id).unwrap();
        let steps: Vec<_> = shop.working_set.steps_of(id).cloned().collect();
        for step_row in &steps {
            let failed_result = StepResult::Failed {
                error: "no such street: Ada's".to_owned(),
                is_transient,
                was_answered: true,
                retry_after: None,
            };
            let finish_command = Command::FinishStep {
                key: step_row.key.clone(),
                attempt: step_row.attempt,
                result: failed_result,
            };
            shop.carry_out(&finish_command).outcome.unwrap();
        }
        assert!(!steps.is_empty());
        let failed_steps: Vec<_> = shop.working_set.steps_of(id).cloned().collect();
        for _ in 0..2 {
            shop.redact(id);
            let version = shop.stored_order(id).version;
            shop.redact(id);
            assert_eq!(shop.stored_order(id).version, version);
        }
        let redacted_steps: Vec<_> = shop.working_set.steps_of(id).cloned().collect();
        assert_eq!(redacted_steps.len(), steps.len());
        for (step_before, step_after) in failed_steps.into_iter().zip(redacted_steps) {
            let error_text = step_after.last_error.clone().unwrap();
            assert!(!error_text.contains("Ada"), "{error_text}");
            assert_eq!(
                step_after,
                StepRow {
                    last_error: Some(error_text),
                    ..step_before
                }
            );
        }
    }
}

#[test]
fn refund_to_make_by_hand_keeps_its_instruction() {
    let mut shop = Shop::with_stock(&[("A", "main", 10)]);
    let id = shop.create_paid_by("manual");
    let payment = json!({"id": id, "amount": 100});
    shop.execute_request("payment.record", payment).unwrap();
    shop.cancel(id).unwrap();
    shop.run_until_settled();
    let last_error = shop.only_step(id).last_error.clone();
    shop.redact(id);
    assert_eq!(shop.only_step(id).last_error, last_error);
    assert!(last_error.unwrap().contains("100 minor units"));
}
