//! Carrier calls: create a label for a shipment, and cancel it. Both use the idempotency key of the label:
//! there is one for each order and warehouse.

use shared::id::{OrderId, Warehouse};

use crate::{
    domain::{
        command::StepResult,
        step::{Step, StepKey},
    },
    providers::{Label, ProviderError, sandbox::carrier::SandboxCarrier},
};

/// Idempotency key of the label.
fn key(order_id: OrderId, warehouse: &Warehouse) -> String {
    StepKey {
        order_id,
        step: Step::RequestShipment(warehouse.clone()),
    }
    .to_string()
}

pub(super) async fn request(
    carrier: &SandboxCarrier,
    order_id: OrderId,
    warehouse: &Warehouse,
) -> Result<StepResult, ProviderError> {
    let Label {
        carrier,
        tracking_number,
    } = carrier
        .create_label(&key(order_id, warehouse), order_id)
        .await?;
    Ok(StepResult::LabelCreated {
        carrier,
        tracking_number,
    })
}

/// Undoes [`request`], whether it was executed, is running, or never will be.
pub(super) async fn cancel(
    carrier: &SandboxCarrier,
    order_id: OrderId,
    warehouse: &Warehouse,
) -> Result<StepResult, ProviderError> {
    carrier
        .cancel_label(&key(order_id, warehouse), order_id)
        .await?;
    Ok(StepResult::LabelCancelled)
}
