//! Operations on the whole database: audit for `order-worker verify`, erasure of personal data, retention, missing
//! search keys, and the debug and demo functions.

pub(in crate::store) mod audit;
mod audit_messages;
pub(in crate::store) mod debug;
pub(in crate::store) mod encrypt;
pub(in crate::store) mod erase;
pub(in crate::store) mod reset;
pub(in crate::store) mod retention;
pub(in crate::store) mod search_keys;
