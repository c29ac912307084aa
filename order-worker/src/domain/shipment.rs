//! The life cycle of a shipment: the effect of each update on each status.

use shared::order::{ShipmentStatus, ShipmentUpdate};

/// Effect of an update on a shipment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Advances the shipment; if it was not shipped yet, it is now.
    Moves,
    /// Outdated: webhooks arrive late, duplicated and out of order.
    Nothing,
    /// Impossible: the shipment was cancelled.
    Refused,
}

/// The effect of `update` on a shipment with `status`.
pub fn effect(status: ShipmentStatus, update: ShipmentUpdate) -> Effect {
    use ShipmentStatus as S;
    use ShipmentUpdate as U;
    match (status, update) {
        (S::Cancelled, _) => Effect::Refused,
        (S::LabelCreated, _) => Effect::Moves,
        // It was shipped already.
        (_, U::Shipped) => Effect::Nothing,
        (S::Shipped, U::InTransit | U::OutForDelivery | U::Delivered | U::Failed | U::Returned)
        | (S::InTransit, U::OutForDelivery | U::Delivered | U::Failed | U::Returned)
        | (S::OutForDelivery, U::Delivered | U::Failed | U::Returned)
        // A failed delivery is retried, or the shipment is returned.
        | (S::Failed, U::OutForDelivery | U::Delivered | U::Returned)
        | (S::Delivered, U::Returned) => Effect::Moves,
        (S::InTransit | S::OutForDelivery | S::Failed, U::InTransit)
        | (S::OutForDelivery, U::OutForDelivery)
        | (S::Failed, U::Failed)
        | (S::Delivered, U::InTransit | U::OutForDelivery | U::Delivered | U::Failed)
        | (S::Returned, U::InTransit | U::OutForDelivery | U::Delivered | U::Failed | U::Returned) => Effect::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shipment_status_never_moves_backwards() {
        let life = [
            ShipmentStatus::LabelCreated,
            ShipmentStatus::Shipped,
            ShipmentStatus::InTransit,
            ShipmentStatus::OutForDelivery,
            ShipmentStatus::Delivered,
        ];
        for status in life {
            for update in ShipmentUpdate::ALL {
                let target = update.status();
                if life.contains(&target) && target <= status {
                    assert_eq!(
                        effect(status, update),
                        Effect::Nothing,
                        "{status:?} {update:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn delivered_shipment_can_only_be_returned() {
        assert_eq!(
            effect(ShipmentStatus::Delivered, ShipmentUpdate::Failed),
            Effect::Nothing
        );
        assert_eq!(
            effect(ShipmentStatus::Delivered, ShipmentUpdate::Returned),
            Effect::Moves
        );
        assert_eq!(
            effect(ShipmentStatus::Cancelled, ShipmentUpdate::Shipped),
            Effect::Refused
        );
    }
}
