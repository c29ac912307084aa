//! The reservation's timer: nothing to do elsewhere. What it means is decided like any other
//! result: an order that was paid for meanwhile has removed the step.

use crate::domain::command::StepResult;

pub(super) fn expire() -> StepResult {
    StepResult::TimeIsUp
}
