//! Failed work, for operators: list it, retry it now, or discard it.
//!
//! - [`retries`]: steps that failed and will be retried.
//! - [`dead_letters`]: steps and messages that will not be retried by themselves.
//! - [`archive`]: archives the messages of the dead-letter queue; [`archived_message`] is what it stores.
//! - [`redrive`]: redrives all failed steps and messages, page by page. [`step_id`]: the public id of a step.

pub mod archive;
pub mod archived_message;
pub mod dead_letters;
pub(crate) mod redrive;
pub mod retries;
mod step_id;
