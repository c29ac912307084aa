//! The life cycle of a shipment: the effect of each update on each status; and the ids of its label.

use sha2::{Digest, Sha256};
use shared::{
    id::{OrderId, ShipmentId},
    order::{ShipmentStatus, ShipmentUpdate},
};

use super::{
    order::Order,
    step::{LabelId, Step, StepKey},
};

/// Idempotency key of a label of an order.
pub fn label_key(order_id: OrderId, label_id: &LabelId) -> String {
    StepKey {
        order_id,
        step: Step::RequestShipment(label_id.clone()),
    }
    .to_string()
}

/// Id of the shipment that is created with this label. The carrier gets it with each request for the label, so
/// it is derived from the label's key: a `UUIDv7` with the time of the order.
pub fn label_shipment_id(order: &Order, label_id: &LabelId) -> ShipmentId {
    let key_digest = Sha256::digest(label_key(order.id, label_id));
    let mut id_bytes = [0; 10];
    id_bytes.copy_from_slice(&key_digest[..10]);
    let created_at_ms = u64::try_from(order.created_at.as_millisecond()).unwrap_or_default();
    uuid::Builder::from_unix_timestamp_millis(created_at_ms, &id_bytes)
        .into_uuid()
        .into()
}

/// Effect of an update on a shipment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpdateEffect {
    /// Advances the shipment; if it was not shipped yet, it is now.
    Advances,
    /// Ignored, because it is outdated: webhooks arrive late, duplicated and out of order.
    Ignored,
    /// Refused, because the shipment was cancelled.
    Rejected,
}

/// The effect of `update` on a shipment with `status`.
pub fn update_effect(status: ShipmentStatus, update: ShipmentUpdate) -> UpdateEffect {
    use ShipmentStatus as S;
    use ShipmentUpdate as U;
    match (status, update) {
        (S::Cancelled, _) => UpdateEffect::Rejected,
        (S::LabelCreated, _) => UpdateEffect::Advances,
        // It was shipped already.
        (_, U::Shipped) => UpdateEffect::Ignored,
        (S::Shipped, U::InTransit | U::OutForDelivery | U::Delivered | U::Failed | U::Returned)
        | (S::InTransit, U::OutForDelivery | U::Delivered | U::Failed | U::Returned)
        | (S::OutForDelivery, U::Delivered | U::Failed | U::Returned)
        // A failed delivery is retried, or the shipment is returned.
        | (S::Failed, U::OutForDelivery | U::Delivered | U::Returned)
        | (S::Delivered, U::Returned) => UpdateEffect::Advances,
        (S::InTransit | S::OutForDelivery | S::Failed, U::InTransit)
        | (S::OutForDelivery, U::OutForDelivery)
        | (S::Failed, U::Failed)
        | (S::Delivered, U::InTransit | U::OutForDelivery | U::Delivered | U::Failed)
        | (S::Returned, U::InTransit | U::OutForDelivery | U::Delivered | U::Failed | U::Returned) => UpdateEffect::Ignored,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shipment_status_never_moves_backwards() {
        let progression = [
            ShipmentStatus::LabelCreated,
            ShipmentStatus::Shipped,
            ShipmentStatus::InTransit,
            ShipmentStatus::OutForDelivery,
            ShipmentStatus::Delivered,
        ];
        for status in progression {
            for update in ShipmentUpdate::ALL {
                let target_status = update.status();
                if progression.contains(&target_status) && target_status <= status {
                    assert_eq!(
                        update_effect(status, update),
                        UpdateEffect::Ignored,
                        "{status:?} {update:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn delivered_shipment_can_only_be_returned() {
        assert_eq!(
            update_effect(ShipmentStatus::Delivered, ShipmentUpdate::Failed),
            UpdateEffect::Ignored
        );
        assert_eq!(
            update_effect(ShipmentStatus::Delivered, ShipmentUpdate::Returned),
            UpdateEffect::Advances
        );
        assert_eq!(
            update_effect(ShipmentStatus::Cancelled, ShipmentUpdate::Shipped),
            UpdateEffect::Rejected
        );
    }
}
