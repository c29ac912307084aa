//! Commands: requests of callers, and results of steps, webhook deliveries and messages to customers.
//!
//! A [`Command`] is the input of `decide`; its decision replies with a [`ResourceRef`].

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};
use shared::{
    api_key::{ApiKeyRef, CreateApiKey},
    customer::{BlockCustomer, CustomerRef, NewCustomer, UpdateCustomer},
    etag::IfMatch,
    event::Origin,
    id::{
        ApiKeyId, CustomerId, DeliveryId, EndpointId, ImageId, MessageId, OrderId, ReturnId, Sku,
    },
    message::ResendMessage,
    order::{
        AcceptOrder, CancelEdit, CancelOrder, CancelRemaining, CancelShipment, CreateOrder,
        CreateReturn, CreateShipment, EditOrder, ImportedOrder, Label, NextAction, OrderRef,
        ReceiveReturn, RecordPayment, RefundOrder, RejectOrCancelReturn, RejectOrder, ReturnRef,
        UpdateOrder, UpdateShipment,
    },
    outcome::{Failure, Json},
    product::{
        AddImage, AdjustStock, NewProduct, ProductRef, RemoveImage, RemoveStock, ReorderImages,
        SetStock, UpdateProduct,
    },
    request::Caller,
    webhook::{EndpointRef, NewEndpoint, Redeliver, RotateSecret, UpdateEndpoint},
};

use super::{
    message::MessageResult,
    payment::PaymentState,
    step::{StepKey, StepRow},
    webhook::DeliveryResult,
};

/// One command of a batch.
#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "few exist at a time")]
pub enum Command {
    /// A caller's request.
    Request {
        /// The caller.
        caller: Caller,
        /// Idempotency key.
        idempotency: Option<Idempotency>,
        /// Required entity tags of the resource.
        if_match: Option<IfMatch>,
        /// The requested change.
        action: Action,
    },
    /// The result of a step.
    FinishStep {
        /// The step.
        key: StepKey,
        /// Attempt of the step; results of other attempts than the expected one are ignored.
        attempt: u32,
        /// The result.
        result: StepResult,
    },
    /// The result of a webhook delivery attempt.
    FinishDelivery {
        /// Id of the endpoint.
        endpoint_id: EndpointId,
        /// Id of the delivery.
        id: DeliveryId,
        /// Attempt of the delivery; results of other attempts than the expected one are ignored.
        attempt: u32,
        /// The result.
        result: DeliveryResult,
    },
    /// The result of an attempt to send a message to a customer.
    FinishMessage {
        /// Id of the message.
        id: MessageId,
        /// Attempt of the message; results of other attempts than the expected one are ignored.
        attempt: u32,
        /// The result.
        result: MessageResult,
    },
}

/// The change that a caller requests; a part of [`Command::Request`].
#[derive(Debug, Clone)]
pub enum Action {
    /// Creates an order.
    CreateOrder(CreateOrder),
    /// Creates an order that was acknowledged asynchronously; it is stored in any case.
    AcceptOrder(AcceptOrder),
    /// Imports an order from another system.
    ImportOrder {
        /// Id derived from the import line; `None` if the line has no identity of its own: the order gets a
        /// new id.
        id: Option<OrderId>,
        /// Id that earlier versions, which identified lines by their number, gave to this order. An order
        /// with this id and the same content is a duplicate.
        legacy_id: Option<OrderId>,
        /// Origin of the key that the ids are derived from; `None` without ids.
        key_origin: Option<KeyOrigin>,
        /// The order.
        order: ImportedOrder,
    },
    /// Cancels an order.
    CancelOrder(CancelOrder),
    /// Soft-deletes an order.
    DeleteOrder(OrderRef),
    /// Undoes a soft deletion.
    RestoreOrder(OrderRef),
    /// Approves an order.
    ApproveOrder(OrderRef),
    /// Cancels an order that waits for approval.
    RejectOrder(RejectOrder),
    /// Refunds a payment.
    RefundOrder(RefundOrder),
    /// Changes an order's address, metadata, note or tags.
    UpdateOrder(UpdateOrder),
    /// Records a payment that was received outside of a payment provider.
    RecordPayment(RecordPayment),
    /// Ships items.
    CreateShipment(CreateShipment),
    /// Handles a notification of a payment provider: schedules a check of the payment.
    NotifyPayment {
        /// Id of the order.
        order_id: OrderId,
        /// The provider's id of the payment.
        reference: String,
    },
    /// Applies a carrier's status update to shipments.
    UpdateShipment(UpdateShipment),
    /// Cancels a shipment that was not shipped yet.
    CancelShipment(CancelShipment),
    /// Cancels the unshipped items of a partly shipped order.
    CancelRemaining(CancelRemaining),
    /// Edits the items, discounts or shipping charge of an order.
    EditOrder(EditOrder),
    /// Cancels a pending edit.
    CancelEdit(CancelEdit),
    /// Requests a return of shipped units.
    CreateReturn(CreateReturn),
    /// Changes a return.
    ChangeReturn {
        /// Id of its order; `None` if there is no such return.
        order_id: Option<OrderId>,
        /// The change.
        change: ReturnChange,
    },
    /// Sends a message to a customer again.
    ResendMessage(ResendMessage),
    /// Adds a product.
    CreateProduct(NewProduct),
    /// Changes a product.
    UpdateProduct(UpdateProduct),
    /// Soft-deletes a product.
    DeleteProduct(ProductRef),
    /// Adds a photo to a product.
    AddImage(AddImage),
    /// Removes a photo of a product.
    RemoveImage(RemoveImage),
    /// Sets the order of a product's photos.
    ReorderImages(ReorderImages),
    /// Sets a stock level.
    SetStock(SetStock),
    /// Adjusts a stock level.
    AdjustStock(AdjustStock),
    /// Removes a product from a warehouse.
    RemoveStock(RemoveStock),
    /// Adds a customer.
    CreateCustomer(NewCustomer),
    /// Changes a customer.
    UpdateCustomer(UpdateCustomer),
    /// Blocks or unblocks a customer.
    BlockCustomer(BlockCustomer),
    /// Marks a customer as verified.
    VerifyCustomer(CustomerRef),
    /// Erases a customer's personal data.
    EraseCustomer(CustomerRef),
    /// Removes a customer's personal data from an order.
    RedactOrder(OrderId),
    /// Redrives a step.
    RedriveStep(StepKey),
    /// Discards a dead step.
    DiscardStep(StepKey),
    /// Creates a webhook endpoint with a generated secret.
    CreateEndpoint {
        /// The endpoint.
        new_endpoint: NewEndpoint,
        /// `whsec_…`
        secret: String,
    },
    /// Changes a webhook endpoint.
    UpdateEndpoint(UpdateEndpoint),
    /// Deletes a webhook endpoint.
    DeleteEndpoint(EndpointRef),
    /// Rotates a webhook endpoint's secret.
    RotateSecret {
        /// The request.
        request: RotateSecret,
        /// `whsec_…`
        secret: String,
    },
    /// Redelivers a webhook.
    Redeliver(Redeliver),
    /// Creates an API key.
    CreateApiKey(CreateApiKey),
    /// Revokes an API key.
    RevokeApiKey(ApiKeyRef),
    /// Starts a request that consists of several commands: checks its idempotency key and its precondition.
    BeginTask {
        /// The resource that the request changes, if it is a single one with an `ETag`.
        target: Option<ResourceRef>,
    },
    /// Ends such a request: records its result under the client's idempotency key.
    EndTask {
        /// The result.
        outcome: Result<Json, Failure>,
    },
}

/// A change of a return.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReturnChange {
    /// Approves a requested return.
    Approve(ReturnRef),
    /// Rejects a requested return.
    Reject(RejectOrCancelReturn),
    /// Cancels an open return.
    Cancel(RejectOrCancelReturn),
    /// Records the receipt of an approved return.
    Receive(ReceiveReturn),
}

impl ReturnChange {
    /// Id of the return.
    pub fn id(&self) -> ReturnId {
        match self {
            Self::Approve(ReturnRef { id: return_id })
            | Self::Reject(RejectOrCancelReturn { id: return_id, .. })
            | Self::Cancel(RejectOrCancelReturn { id: return_id, .. })
            | Self::Receive(ReceiveReturn { id: return_id, .. }) => *return_id,
        }
    }
}

impl Action {
    /// The existing resource that the action changes; `None` for actions that create one.
    pub fn target(&self) -> Option<ResourceRef> {
        match self {
            Self::CancelOrder(CancelOrder { id: order_id, .. })
            | Self::DeleteOrder(OrderRef { id: order_id })
            | Self::RestoreOrder(OrderRef { id: order_id })
            | Self::ApproveOrder(OrderRef { id: order_id })
            | Self::RejectOrder(RejectOrder { id: order_id, .. })
            | Self::RefundOrder(RefundOrder { id: order_id, .. })
            | Self::UpdateOrder(UpdateOrder { id: order_id, .. })
            | Self::RecordPayment(RecordPayment { id: order_id, .. })
            | Self::CreateShipment(CreateShipment { id: order_id, .. })
            | Self::CancelShipment(CancelShipment { id: order_id, .. })
            | Self::CancelRemaining(CancelRemaining { id: order_id, .. })
            | Self::EditOrder(EditOrder { id: order_id, .. })
            | Self::CancelEdit(CancelEdit { id: order_id, .. })
            | Self::CreateReturn(CreateReturn { id: order_id, .. })
            | Self::ResendMessage(ResendMessage { id: order_id, .. })
            | Self::NotifyPayment { order_id, .. }
            | Self::UpdateShipment(UpdateShipment { order_id, .. }) => {
                Some(ResourceRef::Order(*order_id))
            }
            Self::ChangeReturn { order_id, change } => Some(ResourceRef::Return {
                order_id: *order_id,
                id: change.id(),
            }),
            Self::UpdateProduct(UpdateProduct { sku, .. })
            | Self::DeleteProduct(ProductRef { sku })
            | Self::AddImage(AddImage { sku, .. })
            | Self::RemoveImage(RemoveImage { sku, .. })
            | Self::ReorderImages(ReorderImages { sku, .. })
            | Self::SetStock(SetStock { sku, .. })
            | Self::AdjustStock(AdjustStock { sku, .. })
            | Self::RemoveStock(RemoveStock { sku, .. }) => Some(ResourceRef::Product(sku.clone())),
            Self::UpdateCustomer(UpdateCustomer {
                id: customer_id, ..
            })
            | Self::BlockCustomer(BlockCustomer {
                id: customer_id, ..
            })
            | Self::VerifyCustomer(CustomerRef { id: customer_id })
            | Self::EraseCustomer(CustomerRef { id: customer_id }) => {
                Some(ResourceRef::Customer(*customer_id))
            }
            Self::RedactOrder(order_id) => Some(ResourceRef::Order(*order_id)),
            Self::RedriveStep(step_key) | Self::DiscardStep(step_key) => {
                Some(ResourceRef::Order(step_key.order_id))
            }
            Self::UpdateEndpoint(UpdateEndpoint {
                id: endpoint_id, ..
            })
            | Self::DeleteEndpoint(EndpointRef { id: endpoint_id })
            | Self::RotateSecret {
                request: RotateSecret {
                    id: endpoint_id, ..
                },
                ..
            } => Some(ResourceRef::Endpoint(*endpoint_id)),
            Self::Redeliver(Redeliver { delivery_id, .. }) => {
                Some(ResourceRef::Delivery(*delivery_id))
            }
            Self::RevokeApiKey(ApiKeyRef { id: key_id }) => Some(ResourceRef::ApiKey(*key_id)),
            Self::BeginTask { target } => target.clone(),
            Self::CreateOrder(_)
            | Self::AcceptOrder(_)
            | Self::ImportOrder { .. }
            | Self::CreateProduct(_)
            | Self::CreateCustomer(_)
            | Self::CreateEndpoint { .. }
            | Self::CreateApiKey(_)
            | Self::EndTask { .. } => None,
        }
    }
}

/// Idempotency of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idempotency {
    /// Idempotency key, scoped to the caller and the kind of request.
    pub key: String,
    /// Digest of the request, to detect a key that is reused for a different one.
    pub fingerprint: String,
    /// Origin of the key.
    pub key_origin: KeyOrigin,
    /// Operation for which a client uses its key; `None` for keys of messages.
    pub operation: Option<KeyOperation>,
}

/// The identity of a message as an idempotency key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageKey {
    /// The key, scoped to the caller and the kind of request.
    pub key: String,
    /// Origin of the key: the message, or its first delivery.
    pub key_origin: KeyOrigin,
}

/// The operation for which a client uses its key, to detect a key that is reused for another operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyOperation {
    /// Name of the operation, such as `order.refund`.
    pub operation_name: &'static str,
    /// Key of the record of an order that was created under the client's key, or else of the name of the
    /// operation: there is only one record under this key.
    pub create_order_key: String,
    /// Key under which earlier versions recorded the names of other operations than [`CREATE_ORDER`].
    pub earlier_record_key: String,
}

/// The operation that creates an order.
pub const CREATE_ORDER: &str = "order.create";

/// Source of an idempotency key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyOrigin {
    /// The client's `Idempotency-Key`: the first reply is stored verbatim, failures included.
    Client,
    /// The message's identity: a repeated message leads to the same result. Failures are not stored, since they
    /// changed nothing.
    Message,
    /// The message's identity, on its first delivery: there is nothing to look up yet.
    FirstMessageDelivery,
}

/// Result of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StepResult {
    /// The provider created the payment, with this id.
    PaymentCreated {
        /// Payment provider.
        provider: String,
        /// Id of the payment at the provider.
        reference: String,
    },
    /// The customer has to complete an action first.
    ActionRequired(NextAction),
    /// State of the payment at the provider.
    PaymentState(PaymentState),
    /// The payment is authorized.
    Authorized {
        /// Payment provider.
        provider: String,
        /// Id of the payment at the provider.
        reference: String,
        /// Authorized amount in minor units.
        amount: i64,
    },
    /// The payment was declined.
    Declined {
        /// Error code of the provider.
        code: String,
        /// Error message of the provider.
        message: String,
    },
    /// The payment was captured.
    Captured {
        /// Total captured amount in minor units; less than requested if the provider captures all at once or
        /// nothing.
        amount: i64,
        /// Requested total amount in minor units.
        requested_total: i64,
        /// Whether it was requested as the last capture, because no item remained to be shipped.
        is_last_capture: bool,
    },
    /// The authorization is voided, or none can be created any more.
    Voided {
        /// Id of the payment at the provider, if there was one.
        reference: Option<String>,
    },
    /// The payment was refunded.
    Refunded {
        /// Total refunded amount in minor units.
        amount: i64,
    },
    /// The carrier created a label.
    LabelCreated(Label),
    /// The carrier cancelled the label.
    LabelCancelled,
    /// The step calls no provider: its effect is decided in the database.
    NoExternalCall,
    /// The attempt failed.
    Failed {
        /// Error message.
        error: String,
        /// Whether a retry can succeed.
        is_transient: bool,
        /// Whether the provider or carrier responded with an error, which it may repeat for the same
        /// idempotency key.
        was_answered: bool,
        /// Delay before the next attempt that the provider or carrier requested (`Retry-After`).
        retry_after: Option<SignedDuration>,
    },
    /// The provider was not called; the step is postponed without using up an attempt.
    Postponed {
        /// Reason.
        reason: String,
    },
}

impl StepResult {
    /// Name for logs, which must not contain the data.
    pub fn name(&self) -> &'static str {
        match self {
            Self::PaymentCreated { .. } => "prepared",
            Self::ActionRequired(_) => "action required",
            Self::PaymentState(_) => "payment state read",
            Self::Authorized { .. } => "authorized",
            Self::Declined { .. } => "declined",
            Self::Captured { .. } => "captured",
            Self::Voided { .. } => "voided",
            Self::Refunded { .. } => "refunded",
            Self::LabelCreated(_) => "label created",
            Self::LabelCancelled => "label cancelled",
            Self::NoExternalCall => "due",
            Self::Failed { .. } => "failed",
            Self::Postponed { .. } => "postponed",
        }
    }
}

/// Reference to the resource that a reply contains or a request changes. It is rendered after the decision is
/// applied, and stored, so that a repeated request gets the resource again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResourceRef {
    /// An order.
    Order(OrderId),
    /// A return.
    Return {
        /// Id of its order; `None` if there is no such return.
        order_id: Option<OrderId>,
        /// Id of the return.
        id: ReturnId,
    },
    /// A product.
    Product(Sku),
    /// A photo of a product.
    Image {
        /// SKU of the product.
        sku: Sku,
        /// Id of the photo.
        id: ImageId,
    },
    /// A customer.
    Customer(CustomerId),
    /// A webhook endpoint.
    Endpoint(EndpointId),
    /// A webhook endpoint with its new secret.
    EndpointSecret(EndpointId),
    /// A webhook delivery.
    Delivery(DeliveryId),
    /// A message to a customer.
    Message(MessageId),
    /// An API key.
    ApiKey(ApiKeyId),
    /// A new API key, with the sealed secret of its request.
    NewApiKey(ApiKeyId),
    /// An order, imported now or before.
    Imported {
        /// Id of the order.
        id: OrderId,
        /// Whether it existed already.
        is_duplicate: bool,
    },
    /// No content.
    #[serde(rename = "done")]
    NoContent,
}

/// Origin of a caller's change.
pub fn origin_of_request(caller: &Caller) -> Origin {
    Origin {
        actor: caller.actor.clone(),
        intent: caller.intent.clone(),
        request_id: caller.request_id.clone(),
        attempt: None,
        trace_context: caller.trace_context.clone(),
    }
}

/// Origin of a step's change.
pub fn origin_of_step(row: &StepRow) -> Origin {
    Origin {
        actor: "worker".to_owned(),
        intent: row.key.step.kind().to_owned(),
        request_id: row.request_id.clone(),
        attempt: Some(row.attempt),
        trace_context: row.trace_context.clone(),
    }
}
