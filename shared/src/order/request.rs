//! Requests about orders, and the parsing of their fields.
//!
//! - `create`: creating an order.
//! - `read`: getting an order, its history, a list, or the number of orders.
//! - `change`: cancelling, deleting, restoring, approving, rejecting.
//! - `edit`: editing items, discounts and the shipping charge.
//! - `update`: changing the address, metadata, note and tags.
//! - `payment`, `record_payment`, `shipment`: refunds, payment notifications, received payments, shipments.

mod change;
mod create;
mod edit;
mod payment;
mod read;
mod record_payment;
mod shipment;
mod update;

use jiff::{Timestamp, fmt::temporal::Pieces};
use serde_json::Value;

pub(crate) use self::create::address;
pub(crate) use self::read::{cursor, cursor_by, limit};
pub(crate) use self::shipment::{carrier, tracking_number};
pub use self::{
    change::{
        ApproveAll, ApprovedAll, CancelOrder, CancelRemaining, NotApproved, OrderRef, RejectOrder,
    },
    create::{CreateOrder, ItemQuantity, MAX_ITEMS, NewItem, QUANTITY_RANGE, ReturnUrl},
    edit::{CancelEdit, EditItem, EditOrder},
    payment::{NotifyPayment, RefundOrder},
    read::{CountOrders, GetOrder, ListOrders, OrderHistory},
    record_payment::RecordPayment,
    shipment::{CancelShipment, CreateShipment, ShipmentUpdate, UpdateShipment},
    update::{AddressPatch, UpdateOrder},
};
use crate::body;

/// An RFC 3339 time.
pub(crate) fn timestamp(value: Value) -> Result<Timestamp, String> {
    let time_text = body::string(value)?;
    time_text
        .parse()
        .ok()
        .or_else(|| clamp_to_calendar(&time_text))
        .ok_or_else(|| "must be an RFC 3339 time such as 2026-01-31T12:00:00Z".to_owned())
}

/// The earliest or latest representable time, for a valid time beyond it. With an offset of up to a day, the
/// years -9999 and 9999 have such times.
fn clamp_to_calendar(text: &str) -> Option<Timestamp> {
    let time_pieces = Pieces::parse(text).ok()?;
    time_pieces.offset()?;
    time_pieces.time()?;
    match time_pieces.date().year() {
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
        for (text, expected_time) in [
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
            let read_time = timestamp(json!(text)).unwrap();
            assert_eq!(read_time, expected_time, "{text}");
            // The worker parses the forwarded request in the same way.
            assert_eq!(
                timestamp(json!(read_time.to_string())),
                Ok(read_time),
                "{text}"
            );
        }
        for invalid_time in [
            "9999-12-31",
            "9999-12-31T23:59:59",
            "9999-13-31T00:00:00Z",
            "10000-01-01T00:00:00Z",
        ] {
            assert!(timestamp(json!(invalid_time)).is_err(), "{invalid_time}");
        }
    }
}
