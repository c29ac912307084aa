//! The two halves of a batch's transaction, each with a limited number of statements: [`load`] reads the rows
//! that the commands refer to, [`save`] writes the changes. [`loaded`] records which rows exist, so that
//! saving inserts or updates without another query.

pub(in crate::store) mod load;
pub(in crate::store) mod loaded;
pub(in crate::store) mod save;
