//! Reads for clients, exports and statistics. They use connections of their own and never wait for a write.

pub(in crate::store) mod api_keys;
pub(in crate::store) mod attention;
pub(in crate::store) mod customers;
pub(in crate::store) mod messages;
pub(in crate::store) mod order_count;
pub(in crate::store) mod order_list;
pub(in crate::store) mod orders_by_id;
pub(in crate::store) mod pages;
pub(in crate::store) mod products;
pub(in crate::store) mod read;
pub(in crate::store) mod returns;
pub(in crate::store) mod settings;
pub(in crate::store) mod stats;
