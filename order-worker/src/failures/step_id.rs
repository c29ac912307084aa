//! The public id of a failed step: `ORDER_ID:STEP`.

use crate::domain::step::StepKey;

/// Parses a step id, `ORDER_ID:STEP`.
pub(crate) fn parse_step_id(id: &str) -> Option<StepKey> {
    let (order_id, step) = id.split_once(':')?;
    Some(StepKey {
        order_id: order_id.parse().ok()?,
        step: step.parse().ok()?,
    })
}
