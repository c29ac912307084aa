//! What can be asked: by a caller, or by a step that has a result.

use serde::{Deserialize, Serialize};
use shared::{
    customer::{BlockCustomer, NewCustomer},
    event::Origin,
    id::{CustomerId, OrderId, Sku},
    order::{CancelOrder, CreateOrder, OrderRef, UpdateShipment},
    product::{NewProduct, ProductRef, SetStock, UpdateProduct},
    request::Caller,
};

use super::step::{Step, StepKey};

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
}

/// What a caller can have done.
#[derive(Debug, Clone)]
pub enum Action {
    /// Accepts an order.
    CreateOrder(CreateOrder),
    /// Cancels an order.
    CancelOrder(CancelOrder),
    /// Soft-deletes an order.
    DeleteOrder(OrderRef),
    /// Undoes that.
    RestoreOrder(OrderRef),
    /// Moves parcels.
    UpdateShipment(UpdateShipment),
    /// Adds a product.
    CreateProduct(NewProduct),
    /// Changes a product.
    UpdateProduct(UpdateProduct),
    /// Soft-deletes a product.
    DeleteProduct(ProductRef),
    /// Counts a shelf.
    SetStock(SetStock),
    /// Adds a customer.
    CreateCustomer(NewCustomer),
    /// Blocks or unblocks a customer.
    BlockCustomer(BlockCustomer),
    /// Has a dead step tried again.
    RedriveStep(StepKey),
    /// Lets a dead step be.
    DiscardStep(StepKey),
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
    /// The money was taken.
    Captured {
        /// Minor units.
        amount: i64,
    },
    /// There is no hold, and there will be none.
    Voided {
        /// The provider's id, if there was one.
        reference: Option<String>,
    },
    /// Money was given back.
    Refunded {
        /// Minor units.
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
    /// Time is up.
    TimeIsUp,
    /// It did not work.
    Failed {
        /// Why.
        error: String,
        /// Whether trying again could help.
        is_transient: bool,
    },
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
    /// Nothing but that it was done.
    Done,
}

/// What a batch has to load before it can be decided.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Needs {
    /// With their steps, and the shelves they hold stock on.
    pub orders: Vec<OrderId>,
    /// To be ordered: with all of their shelves.
    pub products: Vec<Sku>,
    /// To be changed, or their shelves counted: with all of their shelves.
    pub changed_products: Vec<Sku>,
    /// The customers.
    pub customers: Vec<CustomerId>,
    /// What was answered before.
    pub idempotency_keys: Vec<String>,
    /// How many orders there may be more.
    pub new_orders: u32,
}

impl Needs {
    /// Adds what `command` names.
    pub fn add(&mut self, command: &Command) {
        let action = match command {
            Command::Finish { key, .. } => return self.orders.push(key.order_id),
            Command::Request {
                idempotency,
                action,
                ..
            } => {
                self.idempotency_keys.extend(
                    idempotency
                        .iter()
                        .map(|idempotency| idempotency.key.clone()),
                );
                action
            }
        };
        match action {
            Action::CreateOrder(wish) => {
                self.new_orders += 1;
                self.customers.push(wish.customer_id);
                self.products
                    .extend(wish.items.iter().map(|item| item.sku.clone()));
            }
            Action::CancelOrder(CancelOrder { id, .. })
            | Action::DeleteOrder(OrderRef { id })
            | Action::RestoreOrder(OrderRef { id })
            | Action::UpdateShipment(UpdateShipment { order_id: id, .. }) => self.orders.push(*id),
            Action::CreateProduct(NewProduct { sku, .. })
            | Action::UpdateProduct(UpdateProduct { sku, .. })
            | Action::DeleteProduct(ProductRef { sku })
            | Action::SetStock(SetStock { sku, .. }) => self.changed_products.push(sku.clone()),
            Action::CreateCustomer(_) => {}
            Action::RedriveStep(key) | Action::DiscardStep(key) => self.orders.push(key.order_id),
            Action::BlockCustomer(BlockCustomer { id, .. }) => self.customers.push(*id),
        }
    }

    /// Adds what is needed to give `answer` again.
    pub fn add_answer(&mut self, answer: &Answer) {
        match answer {
            Answer::Order(id) => self.orders.push(*id),
            Answer::Product(sku) => self.products.push(sku.clone()),
            Answer::Customer(id) => self.customers.push(*id),
            Answer::Done => {}
        }
    }
}

/// Where a caller's change comes from.
pub fn origin_of_request(caller: &Caller) -> Origin {
    Origin {
        actor: caller.actor.clone(),
        intent: caller.intent.clone(),
        request_id: caller.request_id.clone(),
        attempt: None,
    }
}

/// Where a step's change comes from.
pub fn origin_of_step(step: &Step, attempt: u32, request_id: &str) -> Origin {
    Origin {
        actor: "worker".to_owned(),
        intent: step.kind().to_owned(),
        request_id: request_id.to_owned(),
        attempt: Some(attempt),
    }
}
