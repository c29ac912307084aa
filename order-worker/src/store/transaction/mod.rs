//! The two halves of a batch's transaction, each with a constant number of statements: [`load`] reads the rows that
//! the commands refer to, [`save`] writes the changes. [`loaded`] remembers which rows exist, so that saving
//! inserts or updates without asking again.

pub(in crate::store) mod load;
pub(in crate::store) mod loaded;
pub(in crate::store) mod save;
