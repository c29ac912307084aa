//! The event feed: pages of events for readers, the positions of its consumers, and the deliveries that events
//! create for webhook endpoints.

pub(in crate::store) mod events;
pub(in crate::store) mod fan_out;
pub(in crate::store) mod feed_cursor;
pub(in crate::store) mod new_messages;
