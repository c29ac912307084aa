//! Every RPC request, one enum variant per pattern. [`crate::caller`] has the identity behind a request.
//!
//! In a message, a request is its pattern (the AMQP property `type`) and a JSON object: the body of the REST
//! call, with path and query parameters as fields. Gateway and worker parse it with the same code
//! ([`crate::body`]), so the same rules apply to AMQP clients and REST clients.

use serde::Serialize;
use serde_json::{
    Value,
    value::{RawValue, to_raw_value},
};

pub use crate::caller::{Caller, Role};
use crate::{
    api_key::{ApiKeyRef, CreateApiKey, ListActiveKeys, ListApiKeys, RecordKeyUse},
    body,
    customer::{BlockCustomer, CustomerRef, ListCustomers, NewCustomer, UpdateCustomer},
    dead_letter::{DeadLetterRef, ListDeadLetters},
    event::ListEvents,
    message::{ListAllMessages, ListMessages, ResendMessage},
    order::{
        ApproveAll, CancelEdit, CancelOrder, CancelRemaining, CancelShipment, CountOrders,
        CreateOrder, CreateReturn, CreateShipment, EditOrder, GetOrder, ImportOrders, ListOrders,
        ListReturns, NotifyPayment, OrderHistory, OrderRef, ReceiveReturn, RecordPayment,
        RefundOrder, RejectOrCancelReturn, RejectOrder, ReturnRef, UpdateOrder, UpdateShipment,
    },
    outcome::{Code, Failure},
    product::{
        AddImage, AdjustStock, ListImages, ListProducts, NewProduct, ProductRef, RemoveImage,
        RemoveStock, ReorderImages, SetStock, UpdateProduct,
    },
    retry::{ListRetries, RedriveAll, RetryRef},
    stats::GetStats,
    webhook::{
        DeliveryRef, EndpointRef, ListDeliveries, ListEndpoints, NewEndpoint, Redeliver,
        RotateSecret, UpdateEndpoint,
    },
};

macro_rules! requests {
    ($($(#[$doc:meta])* $pattern:literal => $variant:ident($payload:ty),)+) => {
        /// A request to the worker.
        #[derive(Debug, Clone, PartialEq)]
        pub enum Request {
            $($(#[$doc])* $variant($payload),)+
        }

        impl Request {
            /// All patterns.
            pub const PATTERNS: &[&str] = &[$($pattern),+];

            /// The pattern: the AMQP property `type`.
            pub fn pattern(&self) -> &'static str {
                match self {
                    $(Self::$variant(_) => $pattern,)+
                }
            }

            /// The request's JSON object.
            ///
            /// # Errors
            /// `INTERNAL` if it can't be serialized, which does not happen for these types.
            pub fn to_body(&self) -> Result<Box<RawValue>, Failure> {
                match self {
                    $(Self::$variant(payload) => to_raw_value(payload),)+
                }
                .map_err(|error| Failure::new(Code::Internal, format!("the request can't be serialized: {error}")))
            }

            /// Parses the request of `pattern` from `body`.
            ///
            /// # Errors
            /// `INVALID_REQUEST` naming the unknown pattern or every invalid field.
            pub fn read(pattern: &str, body: Value) -> Result<Self, Failure> {
                match pattern {
                    $($pattern => body::read(body, <$payload>::read).map(Self::$variant),)+
                    unknown_pattern => Err(Failure::new(
                        Code::InvalidRequest,
                        format!("unknown pattern {unknown_pattern:?}: must be one of {}", Self::PATTERNS.join(", ")),
                    )),
                }
            }
        }
    };
}

requests! {
    /// Creates an order: prices it, reserves its stock, starts its workflow.
    "order.create" => CreateOrder(CreateOrder),
    /// Reads an order.
    "order.get" => GetOrder(GetOrder),
    /// Lists orders, newest first unless another order is requested.
    "order.list" => ListOrders(ListOrders),
    /// Counts orders by status.
    "order.count" => CountOrders(CountOrders),
    /// Cancels an order that has not been shipped.
    "order.cancel" => CancelOrder(CancelOrder),
    /// Cancels the unshipped items of a partially shipped order.
    "order.cancel_remaining" => CancelRemaining(CancelRemaining),
    /// Soft-deletes an order, cancelling it first if necessary.
    "order.delete" => DeleteOrder(OrderRef),
    /// Undoes a soft deletion.
    "order.restore" => RestoreOrder(OrderRef),
    /// Imports orders from another system.
    "order.import" => ImportOrders(ImportOrders),
    /// Approves an order.
    "order.approve" => ApproveOrder(OrderRef),
    /// Approves all orders that are waiting for approval.
    "order.approve_all" => ApproveAll(ApproveAll),
    /// Rejects an order that is waiting for approval; it is cancelled.
    "order.reject" => RejectOrder(RejectOrder),
    /// Refunds a captured payment, fully or partially.
    "order.refund" => RefundOrder(RefundOrder),
    /// Changes the items, discounts or shipping charge of an order of which nothing was shipped.
    "order.edit" => EditOrder(EditOrder),
    /// Cancels an edit that waits for the authorization of its higher total.
    "order.cancel_edit" => CancelEdit(CancelEdit),
    /// Changes an order's shipping address, metadata, note or tags.
    "order.update" => UpdateOrder(UpdateOrder),
    /// Lists the events of an order, oldest first.
    "order.history" => OrderHistory(OrderHistory),
    /// Records that items were handed to a carrier.
    "shipment.create" => CreateShipment(CreateShipment),
    /// Updates a shipment.
    "shipment.update" => UpdateShipment(UpdateShipment),
    /// Cancels a shipment that has not been handed to the carrier.
    "shipment.cancel" => CancelShipment(CancelShipment),
    /// Requests a return of shipped units.
    "return.create" => CreateReturn(CreateReturn),
    /// Returns a return.
    "return.get" => GetReturn(ReturnRef),
    /// Lists returns, newest first.
    "return.list" => ListReturns(ListReturns),
    /// Approves a requested return.
    "return.approve" => ApproveReturn(ReturnRef),
    /// Rejects a requested return.
    "return.reject" => RejectReturn(RejectOrCancelReturn),
    /// Cancels a return whose units were not received.
    "return.cancel" => CancelReturn(RejectOrCancelReturn),
    /// Records the receipt of an approved return: puts units back on stock and starts the refund.
    "return.receive" => ReceiveReturn(ReceiveReturn),
    /// Lists the messages to the customer of an order, newest first.
    "message.list" => ListMessages(ListMessages),
    /// Lists the messages to the customers of all orders, newest first.
    "message.list_all" => ListAllMessages(ListAllMessages),
    /// Sends a message to the customer of an order again.
    "message.resend" => ResendMessage(ResendMessage),
    /// Notifies the worker that a payment changed at the provider.
    "payment.notify" => NotifyPayment(NotifyPayment),
    /// Records a payment that was received outside of a payment provider.
    "payment.record" => RecordPayment(RecordPayment),
    /// Creates a product.
    "product.create" => CreateProduct(NewProduct),
    /// Returns a product with its stock.
    "product.get" => GetProduct(ProductRef),
    /// Lists products by SKU.
    "product.list" => ListProducts(ListProducts),
    /// Changes a product.
    "product.update" => UpdateProduct(UpdateProduct),
    /// Soft-deletes a product without reserved units.
    "product.delete" => DeleteProduct(ProductRef),
    /// Adds a photo whose files the gateway has stored.
    "product.add_image" => AddImage(AddImage),
    /// Removes a photo.
    "product.remove_image" => RemoveImage(RemoveImage),
    /// Sets the order of a product's photos.
    "product.order_images" => ReorderImages(ReorderImages),
    /// Lists the ids of all photos, by product.
    "product.list_images" => ListImages(ListImages),
    /// Sets the stock level of a warehouse.
    "stock.set" => SetStock(SetStock),
    /// Adjusts the stock level of a warehouse.
    "stock.adjust" => AdjustStock(AdjustStock),
    /// Removes a product from a warehouse, and moves its units to another one if requested.
    "stock.remove" => RemoveStock(RemoveStock),
    /// Creates a customer.
    "customer.create" => CreateCustomer(NewCustomer),
    /// Returns a customer.
    "customer.get" => GetCustomer(CustomerRef),
    /// Lists customers, newest first.
    "customer.list" => ListCustomers(ListCustomers),
    /// Changes a customer.
    "customer.update" => UpdateCustomer(UpdateCustomer),
    /// Blocks or unblocks a customer.
    "customer.block" => BlockCustomer(BlockCustomer),
    /// Marks a customer as verified.
    "customer.verify" => VerifyCustomer(CustomerRef),
    /// Erases a customer's personal data.
    "customer.erase" => EraseCustomer(CustomerRef),
    /// Lists dead letters, newest first.
    "dead_letter.list" => ListDeadLetters(ListDeadLetters),
    /// Redrives a dead letter.
    "dead_letter.redrive" => RedriveDeadLetter(DeadLetterRef),
    /// Discards a dead letter.
    "dead_letter.discard" => DiscardDeadLetter(DeadLetterRef),
    /// Redrives all dead letters, or all dead steps of one kind.
    "dead_letter.redrive_all" => RedriveDeadSteps(RedriveAll),
    /// Lists steps that failed and will be retried, those of the oldest orders first.
    "retry.list" => ListRetries(ListRetries),
    /// Retries a failed step now.
    "retry.redrive" => RedriveRetry(RetryRef),
    /// Retries all failed steps now, or those of one kind.
    "retry.redrive_all" => RedriveRetries(RedriveAll),
    /// Returns statistics.
    "stats.get" => GetStats(GetStats),
    /// Returns the effective configuration of a worker, and the state of the systems that it calls.
    "settings.get" => GetSettings(EmptyBody),
    /// Reads the event feed, in commit order.
    "event.list" => ListEvents(ListEvents),
    /// Creates a webhook endpoint.
    "webhook_endpoint.create" => CreateEndpoint(NewEndpoint),
    /// Returns a webhook endpoint.
    "webhook_endpoint.get" => GetEndpoint(EndpointRef),
    /// Lists webhook endpoints, newest first.
    "webhook_endpoint.list" => ListEndpoints(ListEndpoints),
    /// Changes a webhook endpoint.
    "webhook_endpoint.update" => UpdateEndpoint(UpdateEndpoint),
    /// Deletes a webhook endpoint.
    "webhook_endpoint.delete" => DeleteEndpoint(EndpointRef),
    /// Rotates the secret of a webhook endpoint.
    "webhook_endpoint.rotate_secret" => RotateSecret(RotateSecret),
    /// Lists the deliveries of a webhook endpoint, newest first.
    "webhook_endpoint.deliveries" => ListDeliveries(ListDeliveries),
    /// Returns a delivery with its event.
    "webhook_endpoint.delivery" => GetDelivery(DeliveryRef),
    /// Sends a delivery again.
    "webhook_endpoint.redeliver" => Redeliver(Redeliver),
    /// Creates an API key.
    "api_key.create" => CreateApiKey(CreateApiKey),
    /// Returns an API key.
    "api_key.get" => GetApiKey(ApiKeyRef),
    /// Lists API keys, newest first.
    "api_key.list" => ListApiKeys(ListApiKeys),
    /// Revokes an API key.
    "api_key.revoke" => RevokeApiKey(ApiKeyRef),
    /// Returns the digests of the active API keys, for gateways.
    "api_key.list_active" => ListActiveKeys(ListActiveKeys),
    /// Records the last uses of API keys, for gateways.
    "api_key.record_use" => RecordKeyUse(RecordKeyUse),
    /// Pauses the worker that receives it, while the request queue is replaced.
    "worker.pause_requests" => PauseRequests(EmptyBody),
    /// Replaces all data by the initial data, if `DEMO` is enabled.
    "demo.reset" => Reset(EmptyBody),
    /// Returns the stored rows of an order, if `DEBUG_API` is enabled.
    "debug.order" => DebugOrder(OrderRef),
    /// Returns the number of rows per table, if `DEBUG_API` is enabled.
    "debug.tables" => DebugTables(EmptyBody),
}

impl Request {
    /// Whether the request only reads data.
    pub fn is_read(&self) -> bool {
        match self {
            Self::GetOrder(_)
            | Self::ListOrders(_)
            | Self::CountOrders(_)
            | Self::OrderHistory(_)
            | Self::GetReturn(_)
            | Self::ListReturns(_)
            | Self::ListMessages(_)
            | Self::ListAllMessages(_)
            | Self::GetProduct(_)
            | Self::ListProducts(_)
            | Self::ListImages(_)
            | Self::GetCustomer(_)
            | Self::ListCustomers(_)
            | Self::ListDeadLetters(_)
            | Self::ListRetries(_)
            | Self::ListEvents(_)
            | Self::GetStats(_)
            | Self::GetSettings(_)
            | Self::GetEndpoint(_)
            | Self::ListEndpoints(_)
            | Self::DebugOrder(_)
            | Self::DebugTables(_)
            | Self::GetApiKey(_)
            | Self::ListApiKeys(_)
            | Self::ListActiveKeys(_)
            | Self::ListDeliveries(_)
            | Self::GetDelivery(_) => true,
            Self::CreateOrder(_)
            | Self::CancelOrder(_)
            | Self::EditOrder(_)
            | Self::CancelEdit(_)
            | Self::DeleteOrder(_)
            | Self::RestoreOrder(_)
            | Self::ApproveOrder(_)
            | Self::ApproveAll(_)
            | Self::RejectOrder(_)
            | Self::RefundOrder(_)
            | Self::UpdateOrder(_)
            | Self::CreateShipment(_)
            | Self::UpdateShipment(_)
            | Self::CancelShipment(_)
            | Self::CancelRemaining(_)
            | Self::NotifyPayment(_)
            | Self::CreateReturn(_)
            | Self::ApproveReturn(_)
            | Self::RejectReturn(_)
            | Self::CancelReturn(_)
            | Self::ReceiveReturn(_)
            | Self::RecordPayment(_)
            | Self::ResendMessage(_)
            | Self::CreateProduct(_)
            | Self::UpdateProduct(_)
            | Self::DeleteProduct(_)
            | Self::AddImage(_)
            | Self::RemoveImage(_)
            | Self::ReorderImages(_)
            | Self::SetStock(_)
            | Self::AdjustStock(_)
            | Self::RemoveStock(_)
            | Self::ImportOrders(_)
            | Self::CreateCustomer(_)
            | Self::UpdateCustomer(_)
            | Self::BlockCustomer(_)
            | Self::RedriveDeadLetter(_)
            | Self::DiscardDeadLetter(_)
            | Self::RedriveDeadSteps(_)
            | Self::RedriveRetry(_)
            | Self::RedriveRetries(_)
            | Self::CreateEndpoint(_)
            | Self::UpdateEndpoint(_)
            | Self::DeleteEndpoint(_)
            | Self::RotateSecret(_)
            | Self::VerifyCustomer(_)
            | Self::EraseCustomer(_)
            | Self::Reset(_)
            | Self::CreateApiKey(_)
            | Self::RevokeApiKey(_)
            | Self::RecordKeyUse(_)
            | Self::PauseRequests(_)
            | Self::Redeliver(_) => false,
        }
    }
}

impl Request {
    /// Whether the request requires an admin: API keys, and pauses. Checked by the gateway, and again by the worker.
    pub fn is_for_admins(&self) -> bool {
        matches!(
            self,
            Self::CreateApiKey(_)
                | Self::GetApiKey(_)
                | Self::ListApiKeys(_)
                | Self::RevokeApiKey(_)
                | Self::ListActiveKeys(_)
                | Self::RecordKeyUse(_)
                | Self::PauseRequests(_)
        )
    }

    /// Whether the request requires an operator or admin. Checked by the gateway, and again by the worker,
    /// which can also be reached through the broker.
    pub fn is_for_operators(&self) -> bool {
        match self {
            Self::RestoreOrder(_)
            | Self::ApproveOrder(_)
            | Self::ApproveAll(_)
            | Self::RejectOrder(_)
            | Self::RefundOrder(_)
            | Self::CreateShipment(_)
            | Self::UpdateShipment(_)
            | Self::CancelShipment(_)
            | Self::CancelRemaining(_)
            | Self::NotifyPayment(_)
            | Self::ApproveReturn(_)
            | Self::RejectReturn(_)
            | Self::ReceiveReturn(_)
            | Self::RecordPayment(_)
            | Self::ResendMessage(_)
            | Self::ListAllMessages(_)
            | Self::CreateProduct(_)
            | Self::UpdateProduct(_)
            | Self::DeleteProduct(_)
            | Self::AddImage(_)
            | Self::RemoveImage(_)
            | Self::ReorderImages(_)
            | Self::ListImages(_)
            | Self::SetStock(_)
            | Self::AdjustStock(_)
            | Self::RemoveStock(_)
            | Self::ImportOrders(_)
            | Self::ListDeadLetters(_)
            | Self::RedriveDeadLetter(_)
            | Self::RedriveDeadSteps(_)
            | Self::ListRetries(_)
            | Self::RedriveRetry(_)
            | Self::RedriveRetries(_)
            | Self::Reset(_)
            | Self::GetSettings(_)
            | Self::DebugOrder(_)
            | Self::DebugTables(_)
            | Self::CreateApiKey(_)
            | Self::GetApiKey(_)
            | Self::ListApiKeys(_)
            | Self::RevokeApiKey(_)
            | Self::ListActiveKeys(_)
            | Self::RecordKeyUse(_)
            | Self::PauseRequests(_)
            | Self::DiscardDeadLetter(_) => true,
            Self::GetOrder(GetOrder {
                include_deleted, ..
            })
            | Self::OrderHistory(OrderHistory {
                include_deleted, ..
            }) => *include_deleted,
            // Storefronts do not see tags.
            Self::ListOrders(query) => query.include_deleted || query.tag.is_some(),
            Self::CountOrders(query) => query.include_deleted || query.tag.is_some(),
            Self::CreateOrder(_)
            | Self::CancelOrder(_)
            | Self::EditOrder(_)
            | Self::CancelEdit(_)
            // Of its fields, note and tags are for operators: checked by the decision.
            | Self::UpdateOrder(_)
            | Self::DeleteOrder(_)
            | Self::CreateReturn(_)
            | Self::CancelReturn(_)
            | Self::GetReturn(_)
            | Self::ListReturns(_)
            | Self::ListMessages(_)
            | Self::GetProduct(_)
            | Self::ListProducts(_)
            | Self::CreateCustomer(_)
            | Self::GetCustomer(_)
            | Self::ListCustomers(_)
            | Self::UpdateCustomer(_)
            | Self::BlockCustomer(_)
            | Self::VerifyCustomer(_)
            | Self::EraseCustomer(_)
            | Self::GetStats(_)
            | Self::ListEvents(_)
            | Self::CreateEndpoint(_)
            | Self::GetEndpoint(_)
            | Self::ListEndpoints(_)
            | Self::UpdateEndpoint(_)
            | Self::DeleteEndpoint(_)
            | Self::RotateSecret(_)
            | Self::ListDeliveries(_)
            | Self::GetDelivery(_)
            | Self::Redeliver(_) => false,
        }
    }
}

/// An empty body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EmptyBody {}

impl EmptyBody {
    #[expect(clippy::unnecessary_wraps, reason = "the shape of every reader")]
    pub(crate) fn read(_: &mut body::Fields<'_>) -> Option<Self> {
        Some(Self {})
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn request_round_trips_through_json() {
        let body = json!({
            "customer_id": "0192f0c1-2345-7abc-8def-0123456789ab",
            "items": [{"sku": "A", "quantity": 2}],
            "shipping_address": {"city": "Köln"},
            "expected_total": 500,
            "metadata": {"cart": {"id": 7}},
        });
        let request = Request::read("order.create", body).unwrap();
        let sent_body: Value = serde_json::from_str(request.to_body().unwrap().get()).unwrap();
        assert_eq!(Request::read("order.create", sent_body).unwrap(), request);
    }

    #[test]
    fn unknown_patterns_and_fields_are_reported() {
        let failure = Request::read("order.explode", json!({})).unwrap_err();
        assert_eq!(failure.http_status(), 400);
        assert!(failure.message.contains("order.explode"));

        let failure = Request::read("order.delete", json!({"id": "x", "force": true})).unwrap_err();
        let errors = failure.errors().unwrap().as_array().unwrap();
        assert_eq!(errors[0]["pointer"], "/id");
        assert_eq!(errors[1]["pointer"], "/force");
    }

    #[test]
    fn quantities_and_card_numbers_are_validated() {
        let read_order = |quantity: Value, payment_method: &str| {
            Request::read(
                "order.create",
                json!({
                    "customer_id": "0192f0c1-2345-7abc-8def-0123456789ab",
                    "items": [{"sku": "A", "quantity": quantity}],
                    "payment_method": payment_method,
                }),
            )
        };
        for invalid_quantity in [
            json!(0),
            json!(-1),
            json!(1.5),
            json!("1"),
            json!(1_000_001),
            json!(1e30),
        ] {
            assert!(
                read_order(invalid_quantity.clone(), "pm_ok").is_err(),
                "{invalid_quantity}"
            );
        }
        assert!(read_order(json!(1_000_000), "pm_ok").is_ok());
        assert!(read_order(json!(1), "4242 4242 4242 4242").is_err());
    }
}
