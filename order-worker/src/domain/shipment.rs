//! The life cycle of a shipment: the effect of each update on each status.

use shared::order::{ShipmentStatus, ShipmentUpdate};

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
                let target = update.status();
                if progression.contains(&target) && target <= status {
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
