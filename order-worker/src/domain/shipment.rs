//! The life of a parcel: which update moves it where, and which comes too late to matter.

use shared::order::{ShipmentStatus, ShipmentUpdate};

/// What an update means for a parcel in some status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// The parcel moves on; if it had not left, it has now.
    Moves,
    /// Old news: webhooks come late, twice and out of order.
    Nothing,
    /// Can't be: the parcel was withdrawn.
    Refused,
}

/// What `update` means for a parcel that is `status`.
pub fn effect(status: ShipmentStatus, update: ShipmentUpdate) -> Effect {
    use ShipmentStatus as S;
    use ShipmentUpdate as U;
    match (status, update) {
        (S::Cancelled, _) => Effect::Refused,
        (S::LabelCreated, _) => Effect::Moves,
        // It has left once and for all.
        (_, U::Shipped) => Effect::Nothing,
        (S::Shipped, U::InTransit | U::OutForDelivery | U::Delivered | U::Failed | U::Returned)
        | (S::InTransit, U::OutForDelivery | U::Delivered | U::Failed | U::Returned)
        | (S::OutForDelivery, U::Delivered | U::Failed | U::Returned)
        // A failed delivery is tried again, or goes back.
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
    fn an_update_never_moves_a_parcel_backwards() {
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
    fn delivered_stays_delivered_until_it_comes_back() {
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
