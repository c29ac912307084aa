//! Requests about orders, and the parsing of their fields.
//!
//! - `create`: creating an order.
//! - `read`: getting an order, its history, or a list.
//! - `change`: cancelling, deleting, restoring, approving, rejecting.
//! - `payment`, `shipment`: refunds, payment notifications, shipments.

mod change;
mod create;
mod payment;
mod read;
mod shipment;

use jiff::{Timestamp, fmt::temporal::Pieces};
use serde_json::Value;

pub(crate) use self::read::{cursor, cursor_by, limit};
pub use self::{
    change::{
        ApproveAll, ApprovedAll, CancelOrder, CancelRemaining, NotApproved, OrderRef, RejectOrder,
    },
    create::{
        CreateOrder, ItemQuantity, MAX_ITEMS, MAX_METADATA_BYTES, NewItem, QUANTITY, ReturnUrl,
    },
    payment::{NotifyPayment, RefundOrder},
    read::{GetOrder, ListOrders, OrderHistory},
    shipment::{CancelShipment, CreateShipment, ShipmentUpdate, UpdateShipment},
};
use crate::body;

/// An RFC 3339 time.
fn timestamp(value: Value) -> Result<Timestamp, String> {
    let text = body::string(value)?;
    text.parse()
        .ok()
        .or_else(|| clamp_to_calendar(&text))
        .ok_or_else(|| "must be an RFC 3339 time such as 2026-01-31T12:00:00Z".to_owned())
}

/// The earliest or latest representable time, for a valid time beyond it. With an offset of up to a day, the
/// years -9999 and 9999 have such times.
fn clamp_to_calendar(text: &str) -> Option<Timestamp> {
    let pieces = Pieces::parse(text).ok()?;
    pieces.offset()?;
    pieces.time()?;
    match pieces.date().year() {
        9999 => Some(Timestamp::MAX),
        -9999 => Some(Timestamp::MIN),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn earliest_and_latest_timestamps_are_accepted() {
        for (text, expected) in [
            ("9999-12-31T23:59:59Z", Timestamp::MAX),
            ("9999-12-31T23:59:59.999999999-23:59", Timestamp::MAX),
            (
                "0000-01-01T00:00:00Z",
                "0000-01-01T00:00:00Z".parse().unwrap(),
            ),
            (
                "0001-01-01T00:00:00+23:59",
                "0001-01-01T00:00:00+23:59".parse().unwrap(),
            ),
            ("-009999-01-01T00:00:00+23:59", Timestamp::MIN),
        ] {
            let read = timestamp(json!(text)).unwrap();
            assert_eq!(read, expected, "{text}");
            // The worker parses the forwarded request in the same way.
            assert_eq!(timestamp(json!(read.to_string())), Ok(read), "{text}");
        }
        for wrong in [
            "9999-12-31",
            "9999-12-31T23:59:59",
            "9999-13-31T00:00:00Z",
            "10000-01-01T00:00:00Z",
        ] {
            assert!(timestamp(json!(wrong)).is_err(), "{wrong}");
        }
    }
}
