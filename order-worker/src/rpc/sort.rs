//! What a request comes down to.

use shared::{
    customer::{CustomerRef, ListCustomers},
    dead_letter::{DeadLetterRef, ListDeadLetters},
    event::ListEvents,
    order::{
        ApproveAll, GetOrder, ImportOrders, ListOrders, NotifyPayment, OrderHistory, OrderRef,
    },
    outcome::Failure,
    product::{ListProducts, ProductRef},
    request::Request,
    retry::{ListRetries, RedriveAll, RetryRef},
    stats::GetStats,
    webhook::{EndpointRef, ListDeliveries, ListEndpoints},
};

use crate::{domain::command::Action, webhooks::new_secret};

/// What a request comes down to.
pub(super) enum Sorted {
    /// A command, decided with those that wait at the same moment.
    Change(Action),
    /// A look at an order, read with those that are asked for at the same moment.
    Look(GetOrder),
    /// Whatever else.
    Errand(Errand),
}

/// What takes its own time.
pub(super) enum Errand {
    Read(Query),
    /// Many changes, each of its own.
    ApproveAll(ApproveAll),
    /// A customer, and each of their orders.
    Erase(CustomerRef),
    /// All of it.
    Reset,
    /// A payment notification whose order is looked up first.
    NotifyPayment(NotifyPayment),
    /// Many orders, each of its own.
    Import(ImportOrders),
    /// May wait for something to read.
    Feed(ListEvents),
    /// Of dead letters some are orders' and some are not.
    DeadLetter(DeadLetterRequest),
    /// Steps that failed.
    Retry(RetryRequest),
}

impl From<Errand> for Sorted {
    fn from(errand: Errand) -> Self {
        Self::Errand(errand)
    }
}

impl From<Query> for Sorted {
    fn from(query: Query) -> Self {
        Self::Errand(Errand::Read(query))
    }
}

impl From<DeadLetterRequest> for Sorted {
    fn from(request: DeadLetterRequest) -> Self {
        Self::Errand(Errand::DeadLetter(request))
    }
}

impl From<RetryRequest> for Sorted {
    fn from(request: RetryRequest) -> Self {
        Self::Errand(Errand::Retry(request))
    }
}

/// About what will be tried again.
pub(super) enum RetryRequest {
    List(ListRetries),
    Redrive(RetryRef),
    RedriveAll(RedriveAll),
}

/// About what could not be done.
pub(super) enum DeadLetterRequest {
    List(ListDeadLetters),
    Redrive(DeadLetterRef),
    RedriveAll(RedriveAll),
    Discard(DeadLetterRef),
}

/// Nothing changes.
pub(super) enum Query {
    Orders(ListOrders),
    History(OrderHistory),
    Product(ProductRef),
    Products(ListProducts),
    Customer(CustomerRef),
    Customers(ListCustomers),
    Endpoint(EndpointRef),
    Endpoints(ListEndpoints),
    Deliveries(ListDeliveries),
    Stats(GetStats),
    DebugOrder(OrderRef),
    DebugTables,
}

/// What `request` comes down to.
pub(super) fn sort(request: Request) -> Result<Sorted, Failure> {
    Ok(match request {
        Request::CreateOrder(request) => Sorted::Change(Action::CreateOrder(request)),
        Request::CancelOrder(request) => Sorted::Change(Action::CancelOrder(request)),
        Request::DeleteOrder(request) => Sorted::Change(Action::DeleteOrder(request)),
        Request::RestoreOrder(request) => Sorted::Change(Action::RestoreOrder(request)),
        Request::ApproveOrder(request) => Sorted::Change(Action::ApproveOrder(request)),
        Request::ApproveAll(request) => Errand::ApproveAll(request).into(),
        Request::ImportOrders(request) => Errand::Import(request).into(),
        Request::RejectOrder(request) => Sorted::Change(Action::RejectOrder(request)),
        Request::RefundOrder(request) => Sorted::Change(Action::RefundOrder(request)),
        Request::CreateShipment(request) => Sorted::Change(Action::CreateShipment(request)),
        Request::NotifyPayment(request) => Errand::NotifyPayment(request).into(),
        Request::UpdateShipment(request) => Sorted::Change(Action::UpdateShipment(request)),
        Request::CancelShipment(request) => Sorted::Change(Action::CancelShipment(request)),
        Request::CancelRemaining(request) => Sorted::Change(Action::CancelRemaining(request)),
        Request::CreateProduct(request) => Sorted::Change(Action::CreateProduct(request)),
        Request::UpdateProduct(request) => Sorted::Change(Action::UpdateProduct(request)),
        Request::DeleteProduct(request) => Sorted::Change(Action::DeleteProduct(request)),
        Request::SetStock(request) => Sorted::Change(Action::SetStock(request)),
        Request::AdjustStock(request) => Sorted::Change(Action::AdjustStock(request)),
        Request::RemoveStock(request) => Sorted::Change(Action::RemoveStock(request)),
        Request::CreateCustomer(request) => Sorted::Change(Action::CreateCustomer(request)),
        Request::BlockCustomer(request) => Sorted::Change(Action::BlockCustomer(request)),
        Request::GetOrder(request) => Sorted::Look(request),
        Request::ListOrders(request) => Query::Orders(request).into(),
        Request::OrderHistory(request) => Query::History(request).into(),
        Request::GetProduct(request) => Query::Product(request).into(),
        Request::ListProducts(request) => Query::Products(request).into(),
        Request::GetCustomer(request) => Query::Customer(request).into(),
        Request::ListCustomers(request) => Query::Customers(request).into(),
        Request::VerifyCustomer(request) => Sorted::Change(Action::VerifyCustomer(request)),
        Request::EraseCustomer(request) => Errand::Erase(request).into(),
        Request::Reset(_) => Errand::Reset.into(),
        Request::DebugOrder(order) => Query::DebugOrder(order).into(),
        Request::DebugTables(_) => Query::DebugTables.into(),
        Request::ListDeadLetters(query) => DeadLetterRequest::List(query).into(),
        Request::RedriveDeadLetter(letter) => DeadLetterRequest::Redrive(letter).into(),
        Request::RedriveDeadSteps(request) => DeadLetterRequest::RedriveAll(request).into(),
        Request::DiscardDeadLetter(letter) => DeadLetterRequest::Discard(letter).into(),
        Request::ListRetries(query) => RetryRequest::List(query).into(),
        Request::RedriveRetry(step) => RetryRequest::Redrive(step).into(),
        Request::RedriveRetries(request) => RetryRequest::RedriveAll(request).into(),
        Request::GetStats(query) => Query::Stats(query).into(),
        Request::ListEvents(query) => Errand::Feed(query).into(),
        Request::CreateEndpoint(new) => Sorted::Change(Action::CreateEndpoint {
            new,
            secret: new_secret()?,
        }),
        Request::GetEndpoint(request) => Query::Endpoint(request).into(),
        Request::ListEndpoints(request) => Query::Endpoints(request).into(),
        Request::UpdateEndpoint(request) => Sorted::Change(Action::UpdateEndpoint(request)),
        Request::DeleteEndpoint(request) => Sorted::Change(Action::DeleteEndpoint(request)),
        Request::RotateSecret(request) => Sorted::Change(Action::RotateSecret {
            request,
            secret: new_secret()?,
        }),
        Request::ListDeliveries(request) => Query::Deliveries(request).into(),
        Request::Redeliver(request) => Sorted::Change(Action::Redeliver(request)),
    })
}
