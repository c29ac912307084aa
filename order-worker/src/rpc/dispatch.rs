//! Determines how a request is executed: as a command of a batch, as a lookup together with others, or as a
//! task of its own.

use shared::{
    api_key::RecordKeyUse,
    customer::{CustomerRef, ListCustomers},
    dead_letter::{DeadLetterRef, ListDeadLetters},
    event::ListEvents,
    message::{ListAllMessages, ListMessages},
    order::{
        ApproveAll, CountOrders, GetOrder, ImportOrders, ListOrders, ListReturns, NotifyPayment,
        OrderHistory, OrderRef, ReturnRef,
    },
    outcome::Failure,
    product::{ListImages, ListProducts, ProductRef},
    request::Request,
    retry::{ListRetries, RedriveAll, RetryRef},
    stats::GetStats,
    webhook::{DeliveryRef, EndpointRef, ListDeliveries, ListEndpoints},
};

use super::api_keys::ApiKeyQuery;
use crate::{
    domain::command::{Action, ReturnChange},
    webhooks::new_secret,
};

/// The way a request is executed.
pub(super) enum Dispatch {
    /// A command, decided in a batch.
    Command(Action),
    /// A lookup of an order, read together with others.
    Lookup(GetOrder),
    /// Any other request.
    Task(Task),
}

/// A request that is executed on its own.
pub(super) enum Task {
    Read(Query),
    /// Several commands.
    ApproveAll(ApproveAll),
    /// Erases a customer and redacts each of their orders.
    Erase(CustomerRef),
    /// Deletes all data and restores the initial data.
    Reset,
    /// A payment notification whose order is looked up first.
    NotifyPayment(NotifyPayment),
    /// A change of a return, whose order is looked up first.
    ChangeReturn(ReturnChange),
    /// Several commands, one for each order.
    Import(ImportOrders),
    /// Reads the event feed; may wait for new events.
    Feed(ListEvents),
    /// Operations on dead letters.
    DeadLetter(DeadLetterRequest),
    /// Operations on steps that will be retried.
    Retry(RetryRequest),
    /// Records the last uses of API keys.
    RecordKeyUse(RecordKeyUse),
    /// Pauses the consumer of requests.
    PauseRequests,
}

impl From<Task> for Dispatch {
    fn from(task: Task) -> Self {
        Self::Task(task)
    }
}

impl From<ReturnChange> for Dispatch {
    fn from(change: ReturnChange) -> Self {
        Self::Task(Task::ChangeReturn(change))
    }
}

impl From<Query> for Dispatch {
    fn from(query: Query) -> Self {
        Self::Task(Task::Read(query))
    }
}

impl From<DeadLetterRequest> for Dispatch {
    fn from(request: DeadLetterRequest) -> Self {
        Self::Task(Task::DeadLetter(request))
    }
}

impl From<RetryRequest> for Dispatch {
    fn from(request: RetryRequest) -> Self {
        Self::Task(Task::Retry(request))
    }
}

/// Operations on steps that will be retried.
pub(super) enum RetryRequest {
    List(ListRetries),
    Redrive(RetryRef),
    RedriveAll(RedriveAll),
}

/// Operations on dead letters.
pub(super) enum DeadLetterRequest {
    List(ListDeadLetters),
    Redrive(DeadLetterRef),
    RedriveAll(RedriveAll),
    Discard(DeadLetterRef),
}

/// Read-only requests.
pub(super) enum Query {
    Orders(ListOrders),
    OrderCount(CountOrders),
    History(OrderHistory),
    Return(ReturnRef),
    Returns(ListReturns),
    Messages(ListMessages),
    AllMessages(ListAllMessages),
    Product(ProductRef),
    Products(ListProducts),
    Images(ListImages),
    Customer(CustomerRef),
    Customers(ListCustomers),
    Endpoint(EndpointRef),
    Endpoints(ListEndpoints),
    Deliveries(ListDeliveries),
    Delivery(DeliveryRef),
    ApiKeys(ApiKeyQuery),
    Stats(GetStats),
    Settings,
    DebugOrder(OrderRef),
    DebugTables,
}

/// Dispatches `request`.
pub(super) fn dispatch(request: Request) -> Result<Dispatch, Failure> {
    Ok(match request {
        Request::CreateOrder(request) => Dispatch::Command(Action::CreateOrder(request)),
        Request::CancelOrder(request) => Dispatch::Command(Action::CancelOrder(request)),
        Request::DeleteOrder(request) => Dispatch::Command(Action::DeleteOrder(request)),
        Request::RestoreOrder(request) => Dispatch::Command(Action::RestoreOrder(request)),
        Request::ApproveOrder(request) => Dispatch::Command(Action::ApproveOrder(request)),
        Request::ApproveAll(request) => Task::ApproveAll(request).into(),
        Request::ImportOrders(request) => Task::Import(request).into(),
        Request::RejectOrder(request) => Dispatch::Command(Action::RejectOrder(request)),
        Request::RefundOrder(request) => Dispatch::Command(Action::RefundOrder(request)),
        Request::UpdateOrder(request) => Dispatch::Command(Action::UpdateOrder(request)),
        Request::RecordPayment(request) => Dispatch::Command(Action::RecordPayment(request)),
        Request::CreateShipment(request) => Dispatch::Command(Action::CreateShipment(request)),
        Request::NotifyPayment(request) => Task::NotifyPayment(request).into(),
        Request::UpdateShipment(request) => Dispatch::Command(Action::UpdateShipment(request)),
        Request::CancelShipment(request) => Dispatch::Command(Action::CancelShipment(request)),
        Request::EditOrder(request) => Dispatch::Command(Action::EditOrder(request)),
        Request::CancelEdit(request) => Dispatch::Command(Action::CancelEdit(request)),
        Request::CancelRemaining(request) => Dispatch::Command(Action::CancelRemaining(request)),
        Request::CreateReturn(request) => Dispatch::Command(Action::CreateReturn(request)),
        Request::GetReturn(request) => Query::Return(request).into(),
        Request::ListReturns(request) => Query::Returns(request).into(),
        Request::ApproveReturn(request) => ReturnChange::Approve(request).into(),
        Request::RejectReturn(request) => ReturnChange::Reject(request).into(),
        Request::CancelReturn(request) => ReturnChange::Cancel(request).into(),
        Request::ReceiveReturn(request) => ReturnChange::Receive(request).into(),
        Request::ListMessages(request) => Query::Messages(request).into(),
        Request::ListAllMessages(request) => Query::AllMessages(request).into(),
        Request::ResendMessage(request) => Dispatch::Command(Action::ResendMessage(request)),
        Request::CreateProduct(request) => Dispatch::Command(Action::CreateProduct(request)),
        Request::UpdateProduct(request) => Dispatch::Command(Action::UpdateProduct(request)),
        Request::DeleteProduct(request) => Dispatch::Command(Action::DeleteProduct(request)),
        Request::AddImage(request) => Dispatch::Command(Action::AddImage(request)),
        Request::RemoveImage(request) => Dispatch::Command(Action::RemoveImage(request)),
        Request::ReorderImages(request) => Dispatch::Command(Action::ReorderImages(request)),
        Request::ListImages(request) => Query::Images(request).into(),
        Request::SetStock(request) => Dispatch::Command(Action::SetStock(request)),
        Request::AdjustStock(request) => Dispatch::Command(Action::AdjustStock(request)),
        Request::RemoveStock(request) => Dispatch::Command(Action::RemoveStock(request)),
        Request::CreateCustomer(request) => Dispatch::Command(Action::CreateCustomer(request)),
        Request::UpdateCustomer(request) => Dispatch::Command(Action::UpdateCustomer(request)),
        Request::BlockCustomer(request) => Dispatch::Command(Action::BlockCustomer(request)),
        Request::GetOrder(request) => Dispatch::Lookup(request),
        Request::ListOrders(request) => Query::Orders(request).into(),
        Request::CountOrders(request) => Query::OrderCount(request).into(),
        Request::OrderHistory(request) => Query::History(request).into(),
        Request::GetProduct(request) => Query::Product(request).into(),
        Request::ListProducts(request) => Query::Products(request).into(),
        Request::GetCustomer(request) => Query::Customer(request).into(),
        Request::ListCustomers(request) => Query::Customers(request).into(),
        Request::VerifyCustomer(request) => Dispatch::Command(Action::VerifyCustomer(request)),
        Request::EraseCustomer(request) => Task::Erase(request).into(),
        Request::Reset(_) => Task::Reset.into(),
        Request::DebugOrder(order) => Query::DebugOrder(order).into(),
        Request::DebugTables(_) => Query::DebugTables.into(),
        Request::ListDeadLetters(query) => DeadLetterRequest::List(query).into(),
        Request::RedriveDeadLetter(request) => DeadLetterRequest::Redrive(request).into(),
        Request::RedriveDeadSteps(request) => DeadLetterRequest::RedriveAll(request).into(),
        Request::DiscardDeadLetter(request) => DeadLetterRequest::Discard(request).into(),
        Request::ListRetries(query) => RetryRequest::List(query).into(),
        Request::RedriveRetry(step) => RetryRequest::Redrive(step).into(),
        Request::RedriveRetries(request) => RetryRequest::RedriveAll(request).into(),
        Request::GetStats(query) => Query::Stats(query).into(),
        Request::GetSettings(_) => Query::Settings.into(),
        Request::ListEvents(query) => Task::Feed(query).into(),
        Request::CreateEndpoint(new_endpoint) => Dispatch::Command(Action::CreateEndpoint {
            new_endpoint,
            secret: new_secret()?,
        }),
        Request::GetEndpoint(request) => Query::Endpoint(request).into(),
        Request::ListEndpoints(request) => Query::Endpoints(request).into(),
        Request::UpdateEndpoint(request) => Dispatch::Command(Action::UpdateEndpoint(request)),
        Request::DeleteEndpoint(request) => Dispatch::Command(Action::DeleteEndpoint(request)),
        Request::RotateSecret(request) => Dispatch::Command(Action::RotateSecret {
            request,
            secret: new_secret()?,
        }),
        Request::ListDeliveries(request) => Query::Deliveries(request).into(),
        Request::GetDelivery(request) => Query::Delivery(request).into(),
        Request::Redeliver(request) => Dispatch::Command(Action::Redeliver(request)),
        Request::CreateApiKey(request) => Dispatch::Command(Action::CreateApiKey(request)),
        Request::GetApiKey(request) => Query::ApiKeys(ApiKeyQuery::Get(request)).into(),
        Request::ListApiKeys(request) => Query::ApiKeys(ApiKeyQuery::List(request)).into(),
        Request::RevokeApiKey(request) => Dispatch::Command(Action::RevokeApiKey(request)),
        Request::ListActiveKeys(request) => Query::ApiKeys(ApiKeyQuery::ListActive(request)).into(),
        Request::RecordKeyUse(request) => Task::RecordKeyUse(request).into(),
        Request::PauseRequests(_) => Task::PauseRequests.into(),
    })
}
