//! Failed work, for operators: list it, retry it now, or discard it.
//!
//! - [`retries`]: steps that failed and will be retried.
//! - [`dead_letters`]: steps and messages that will not be retried by themselves.

pub mod dead_letters;
pub mod retries;
