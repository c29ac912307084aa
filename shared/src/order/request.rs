//! What can be asked about orders, and how each request's fields are read.

mod change;
mod create;
mod payment;
mod read;
mod shipment;

use jiff::Timestamp;
use serde_json::Value;

pub(crate) use self::read::{cursor, cursor_by, limit};
pub use self::{
    change::{
        ApproveAll, ApprovedAll, CancelOrder, CancelRemaining, NotApproved, OrderRef, RejectOrder,
    },
    create::{CreateOrder, MAX_ITEMS, MAX_METADATA_BYTES, NewItem, QUANTITY, ReturnUrl},
    payment::{NotifyPayment, RefundOrder},
    read::{GetOrder, ListOrders, OrderHistory},
    shipment::{CancelShipment, CreateShipment, ShipmentUpdate, UpdateShipment},
};
use crate::body;

fn time(value: Value) -> Result<Timestamp, String> {
    body::string(value)?
        .parse()
        .map_err(|_| "must be an RFC 3339 time such as 2026-01-31T12:00:00Z".to_owned())
}
