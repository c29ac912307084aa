//! What can be asked: by a caller, or by a step that has a result.

use serde::{Deserialize, Serialize};
use shared::{
    customer::{BlockCustomer, CustomerRef, NewCustomer},
    etag::IfMatch,
    event::Origin,
    id::{CustomerId, DeliveryId, EndpointId, OrderId, Sku},
    order::{
        AcceptOrder, CancelOrder, CancelRemaining, CancelShipment, CreateOrder, CreateShipment,
        ImportedOrder, NextAction, OrderRef, RefundOrder, RejectOrder, UpdateShipment,
    },
    outcome::{Failure, Json},
    product::{AdjustStock, NewProduct, ProductRef, RemoveStock, SetStock, UpdateProduct},
    request::Caller,
    webhook::{EndpointRef, NewEndpoint, Redeliver, RotateSecret, UpdateEndpoint},
};

use super::{
    payment::PaymentState,
    step::{StepKey, StepRow},
    webhook::Answered,
};

/// One command of a batch.
#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "few exist at a time")]
pub enum Command {
    /// A caller's request.
    Request {
        /// On whose behalf.
        caller: Caller,
        /// Makes asking twice the same as asking once.
        idempotency: Option<Idempotency>,
        /// What the thing to be changed must be like.
        if_match: Option<IfMatch>,
        /// What.
        action: Action,
    },
    /// A step's handler brings its result back.
    Finish {
        /// Which step.
        key: StepKey,
        /// Which attempt; the result of another than the one waited for is void.
        attempt: u32,
        /// What came of it.
        result: StepResult,
    },
    /// An attempt to deliver a webhook has an end.
    FinishDelivery {
        /// To whom.
        endpoint_id: EndpointId,
        /// Which.
        id: DeliveryId,
        /// Which attempt; the result of another than the one waited for is void.
        attempt: u32,
        /// What came of it.
        answered: Answered,
    },
}

/// What a caller can have done.
#[derive(Debug, Clone)]
pub enum Action {
    /// Accepts an order.
    CreateOrder(CreateOrder),
    /// Accepts an order that was promised to be, whatever comes of it.
    AcceptOrder(AcceptOrder),
    /// Takes over another system's order.
    ImportOrder {
        /// Under which id: that of the line, if it can be known again.
        id: Option<OrderId>,
        /// Under which id an earlier version stored the order on this line, if it had the same content: it
        /// knew lines by their number.
        former_id: Option<OrderId>,
        /// The order.
        order: ImportedOrder,
    },
    /// Cancels an order.
    CancelOrder(CancelOrder),
    /// Soft-deletes an order.
    DeleteOrder(OrderRef),
    /// Undoes that.
    RestoreOrder(OrderRef),
    /// Has an order go on that waits for it.
    ApproveOrder(OrderRef),
    /// Cancels an order that waits for approval.
    RejectOrder(RejectOrder),
    /// Gives money back.
    RefundOrder(RefundOrder),
    /// Hands goods over.
    CreateShipment(CreateShipment),
    /// Has the provider asked where a payment stands.
    NotifyPayment {
        /// Of which order.
        order_id: OrderId,
        /// The provider's id of the payment.
        reference: String,
    },
    /// Moves parcels.
    UpdateShipment(UpdateShipment),
    /// Withdraws a shipment.
    CancelShipment(CancelShipment),
    /// Cancels what has not left.
    CancelRemaining(CancelRemaining),
    /// Adds a product.
    CreateProduct(NewProduct),
    /// Changes a product.
    UpdateProduct(UpdateProduct),
    /// Soft-deletes a product.
    DeleteProduct(ProductRef),
    /// Counts a shelf.
    SetStock(SetStock),
    /// Changes what is on a shelf.
    AdjustStock(AdjustStock),
    /// Removes a product from a warehouse.
    RemoveStock(RemoveStock),
    /// Adds a customer.
    CreateCustomer(NewCustomer),
    /// Blocks or unblocks a customer.
    BlockCustomer(BlockCustomer),
    /// Knows that a customer is who they say.
    VerifyCustomer(CustomerRef),
    /// Erases who a customer is.
    EraseCustomer(CustomerRef),
    /// Takes out of an order what it says of its customer.
    RedactOrder(OrderId),
    /// Has a dead step tried again.
    RedriveStep(StepKey),
    /// Lets a dead step be.
    DiscardStep(StepKey),
    /// Adds an endpoint of webhooks, signed with a secret that nobody can guess.
    CreateEndpoint {
        /// The endpoint.
        new: NewEndpoint,
        /// `whsec_…`
        secret: String,
    },
    /// Changes an endpoint.
    UpdateEndpoint(UpdateEndpoint),
    /// Forgets an endpoint.
    DeleteEndpoint(EndpointRef),
    /// Gives an endpoint another secret.
    RotateSecret {
        /// Which, and how.
        request: RotateSecret,
        /// `whsec_…`
        secret: String,
    },
    /// Has a webhook sent again.
    Redeliver(Redeliver),
    /// Checks the key and the condition of a task that takes more than one command, before the first.
    BeginTask {
        /// The resource that the task changes, if it is a single one with an `ETag`.
        target: Option<Answer>,
    },
    /// Records the result of such a task under the client's key.
    EndTask {
        /// The result.
        outcome: Result<Json, Failure>,
    },
}

impl Action {
    /// What it changes that is there already; what it makes is not.
    pub fn target(&self) -> Option<Answer> {
        match self {
            Self::CancelOrder(CancelOrder { id, .. })
            | Self::DeleteOrder(OrderRef { id })
            | Self::RestoreOrder(OrderRef { id })
            | Self::ApproveOrder(OrderRef { id })
            | Self::RejectOrder(RejectOrder { id, .. })
            | Self::RefundOrder(RefundOrder { id, .. })
            | Self::CreateShipment(CreateShipment { id, .. })
            | Self::CancelShipment(CancelShipment { id, .. })
            | Self::CancelRemaining(CancelRemaining { id, .. })
            | Self::NotifyPayment { order_id: id, .. }
            | Self::UpdateShipment(UpdateShipment { order_id: id, .. }) => Some(Answer::Order(*id)),
            Self::UpdateProduct(UpdateProduct { sku, .. })
            | Self::DeleteProduct(ProductRef { sku })
            | Self::SetStock(SetStock { sku, .. })
            | Self::AdjustStock(AdjustStock { sku, .. })
            | Self::RemoveStock(RemoveStock { sku, .. }) => Some(Answer::Product(sku.clone())),
            Self::BlockCustomer(BlockCustomer { id, .. })
            | Self::VerifyCustomer(CustomerRef { id })
            | Self::EraseCustomer(CustomerRef { id }) => Some(Answer::Customer(*id)),
            Self::RedactOrder(id) => Some(Answer::Order(*id)),
            Self::RedriveStep(key) | Self::DiscardStep(key) => Some(Answer::Order(key.order_id)),
            Self::UpdateEndpoint(UpdateEndpoint { id, .. })
            | Self::DeleteEndpoint(EndpointRef { id })
            | Self::RotateSecret {
                request: RotateSecret { id, .. },
                ..
            } => Some(Answer::Endpoint(*id)),
            Self::Redeliver(Redeliver { delivery_id, .. }) => Some(Answer::Delivery(*delivery_id)),
            Self::BeginTask { target } => target.clone(),
            Self::CreateOrder(_)
            | Self::AcceptOrder(_)
            | Self::ImportOrder { .. }
            | Self::CreateProduct(_)
            | Self::CreateCustomer(_)
            | Self::CreateEndpoint { .. }
            | Self::EndTask { .. } => None,
        }
    }
}

/// Makes asking twice the same as asking once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idempotency {
    /// The key, scoped to the caller and the kind of request.
    pub key: String,
    /// A digest of the request: the same key with another request is a mistake.
    pub fingerprint: String,
    /// Whose word it is that asking under this key again means the same.
    pub trust: Trust,
}

/// Whose word it is that asking under a key again means the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// The client's: the first answer is kept word for word, failures included.
    Client,
    /// The message's: it only has to lead to the same thing. A failure changed nothing, so a
    /// message that comes again may as well be decided again.
    Message,
    /// Nobody's yet: this is no redelivery, but there may be one.
    FirstDelivery,
}

/// What came of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StepResult {
    /// The provider knows of the payment, and can be asked for the money under this id.
    Prepared {
        /// Which provider.
        provider: String,
        /// The provider's id.
        reference: String,
    },
    /// The customer has to do something first.
    ActionRequired(NextAction),
    /// Where the payment stands at the provider.
    Stands(PaymentState),
    /// The provider holds the money.
    Authorized {
        /// Which provider.
        provider: String,
        /// The provider's id.
        reference: String,
        /// Minor units.
        amount: i64,
    },
    /// The provider refused.
    Declined {
        /// The provider's code.
        code: String,
        /// The provider's words.
        message: String,
    },
    /// Money was taken.
    Captured {
        /// Minor units in all: less than was asked for, if the provider takes it at once or not at all.
        amount: i64,
        /// Minor units that were asked for, in all.
        asked: i64,
        /// Whether it was requested as the last capture: nothing was left to be shipped then.
        is_last: bool,
    },
    /// There is no hold, and there will be none.
    Voided {
        /// The provider's id, if there was one.
        reference: Option<String>,
    },
    /// Money was given back.
    Refunded {
        /// Minor units in all.
        amount: i64,
    },
    /// The carrier knows of the parcel.
    Announced {
        /// Who.
        carrier: String,
        /// The carrier's id for it.
        tracking_number: String,
    },
    /// The carrier no longer knows of the parcel.
    Withdrawn,
    /// Time is up; or, of a step that is all decision, it is time.
    TimeIsUp,
    /// It did not work.
    Failed {
        /// Why.
        error: String,
        /// Whether trying again could help.
        is_transient: bool,
        /// Whether the partner answered: with an error, which it may repeat for the same idempotency key.
        was_answered: bool,
    },
    /// The partner was not asked; it is, later.
    PutOff {
        /// Why.
        why: String,
    },
}

impl StepResult {
    /// What logs call it: what it holds is the customer's affair.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Prepared { .. } => "prepared",
            Self::ActionRequired(_) => "action required",
            Self::Stands(_) => "looked at",
            Self::Authorized { .. } => "authorized",
            Self::Declined { .. } => "declined",
            Self::Captured { .. } => "captured",
            Self::Voided { .. } => "voided",
            Self::Refunded { .. } => "refunded",
            Self::Announced { .. } => "announced",
            Self::Withdrawn => "withdrawn",
            Self::TimeIsUp => "time is up",
            Self::Failed { .. } => "failed",
            Self::PutOff { .. } => "put off",
        }
    }
}

/// What an answer is about; rendered once the decision is applied, kept to answer again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// This order.
    Order(OrderId),
    /// This product.
    Product(Sku),
    /// This customer.
    Customer(CustomerId),
    /// This endpoint.
    Endpoint(EndpointId),
    /// This endpoint, with the secret that it just got.
    EndpointSecret(EndpointId),
    /// This webhook.
    Delivery(DeliveryId),
    /// This order, taken over now or before.
    Imported {
        /// Which.
        id: OrderId,
        /// Whether it was there already.
        is_duplicate: bool,
    },
    /// Nothing but that it was done.
    Done,
}

/// Where a caller's change comes from.
pub fn origin_of_request(caller: &Caller) -> Origin {
    Origin {
        actor: caller.actor.clone(),
        intent: caller.intent.clone(),
        request_id: caller.request_id.clone(),
        attempt: None,
        traceparent: caller.traceparent.clone(),
    }
}

/// Where a step's change comes from.
pub fn origin_of_step(row: &StepRow) -> Origin {
    Origin {
        actor: "worker".to_owned(),
        intent: row.key.step.kind().to_owned(),
        request_id: row.request_id.clone(),
        attempt: Some(row.attempt),
        traceparent: row.traceparent.clone(),
    }
}
