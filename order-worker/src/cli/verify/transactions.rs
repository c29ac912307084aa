//! Checks of `verify` about the transactions of orders, and about refunds of manual payments.

use shared::order::{
    OrderStatus,
    TransactionKind::{Capture, Refund},
    TransactionStatus::{Pending, Success},
};

use super::Report;
use crate::domain::{
    order::Order,
    step::{Step, StepRow},
};

/// Checks that the transactions add up to the amounts of the payment, and that an operator is told about each
/// refund of a manual payment.
pub(super) fn check_transactions(order: &Order, steps: &[StepRow], report: &mut Report) {
    let order_id = order.id;
    let mut violation = |problem: String| {
        report
            .violations
            .push(format!("order {order_id}: {problem}"));
    };
    let transactions = order.transactions();
    let outstanding_refund = order.outstanding_refund();
    for (amount_name, amount, transaction_kind, transaction_status) in [
        ("captured", order.payment.captured, Capture, Success),
        ("refunded", order.payment.refunded, Refund, Success),
        ("to be refunded", outstanding_refund, Refund, Pending),
    ] {
        let transaction_sum = transactions.sum(transaction_kind, transaction_status);
        if transaction_sum != amount {
            violation(format!(
                "{amount} minor units are {amount_name}, but its transactions add up to {transaction_sum}"
            ));
        }
    }
    if !order.is_paid_manually() {
        return;
    }
    let is_refund_step = |step_row: &StepRow| step_row.key.step == Step::RefundPayment;
    if outstanding_refund > 0 && !steps.iter().any(is_refund_step) {
        violation(format!(
            "{outstanding_refund} minor units of a manual payment are to be paid back, but no step tells an operator"
        ));
    }
    let kept_amount = order.refundable_automatically();
    if order.status == OrderStatus::Cancelled && kept_amount > 0 {
        violation(format!(
            "cancelled, but {kept_amount} minor units of its manual payment are not to be paid back"
        ));
    }
}
