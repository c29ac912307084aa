//! One interface to both databases: statements, arguments, rows and sessions.
//!
//! Statements are written once; where the dialects differ, a statement has a text for each. `sqlite` and
//! `postgres` open the connections that a session uses.

pub(crate) mod bulk;
pub(in crate::store) mod byte_limit;
pub(in crate::store) mod customer;
pub(in crate::store) mod decode;
pub(in crate::store) mod index_prefix;
pub(crate) mod row;
pub(crate) mod session;
pub(crate) mod statement;
