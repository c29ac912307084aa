//! Every RPC request, one enum variant a pattern, and the caller it is made for.
//!
//! On the wire a request is its pattern (the AMQP property `type`) and one JSON object: what the
//! REST call takes, with path and query parameters as fields. Both processes read it with the same
//! code, so a foreign AMQP client meets the same rules as a REST client.

use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::{
    Value,
    value::{RawValue, to_raw_value},
};

use crate::{
    body,
    customer::{BlockCustomer, CustomerRef, ListCustomers, NewCustomer},
    dead_letter::{DeadLetterRef, ListDeadLetters},
    event::ListEvents,
    id::Storefront,
    order::{
        ApproveAll, CancelOrder, CancelRemaining, CancelShipment, CreateOrder, CreateShipment,
        GetOrder, ImportOrders, ListOrders, NotifyPayment, OrderHistory, OrderRef, RefundOrder,
        RejectOrder, UpdateShipment,
    },
    outcome::{Code, Failure},
    product::{
        AdjustStock, ListProducts, NewProduct, ProductRef, RemoveStock, SetStock, UpdateProduct,
    },
    retry::{ListRetries, RedriveAll, RetryRef},
    stats::GetStats,
    webhook::{
        EndpointRef, ListDeliveries, ListEndpoints, NewEndpoint, Redeliver, RotateSecret,
        UpdateEndpoint,
    },
};

macro_rules! requests {
    ($($(#[$doc:meta])* $pattern:literal => $variant:ident($payload:ty),)+) => {
        /// A request that the worker answers.
        #[derive(Debug, Clone, PartialEq)]
        pub enum Request {
            $($(#[$doc])* $variant($payload),)+
        }

        impl Request {
            /// Every pattern there is.
            pub const PATTERNS: &[&str] = &[$($pattern),+];

            /// The pattern: the AMQP property `type`.
            pub fn pattern(&self) -> &'static str {
                match self {
                    $(Self::$variant(_) => $pattern,)+
                }
            }

            /// The JSON object that travels.
            ///
            /// # Errors
            /// `INTERNAL` if it can't be written as JSON, which no request type allows.
            pub fn to_body(&self) -> Result<Box<RawValue>, Failure> {
                match self {
                    $(Self::$variant(payload) => to_raw_value(payload),)+
                }
                .map_err(|error| Failure::new(Code::Internal, format!("request can't be written: {error}")))
            }

            /// Reads the request that `pattern` and `body` stand for.
            ///
            /// # Errors
            /// `INVALID_REQUEST` naming the unknown pattern or every field that is wrong.
            pub fn read(pattern: &str, body: Value) -> Result<Self, Failure> {
                match pattern {
                    $($pattern => body::read(body, <$payload>::read).map(Self::$variant),)+
                    unknown => Err(Failure::new(
                        Code::InvalidRequest,
                        format!("unknown pattern {unknown:?}; known are {}", Self::PATTERNS.join(", ")),
                    )),
                }
            }
        }
    };
}

requests! {
    /// Accepts an order: prices it, reserves its stock, starts its flow.
    "order.create" => CreateOrder(CreateOrder),
    /// One order.
    "order.get" => GetOrder(GetOrder),
    /// Orders, newest first.
    "order.list" => ListOrders(ListOrders),
    /// Cancels an order that has not left.
    "order.cancel" => CancelOrder(CancelOrder),
    /// Cancels what has not left of an order of which something has.
    "order.cancel_remaining" => CancelRemaining(CancelRemaining),
    /// Soft-deletes an order, cancelling it first where needed.
    "order.delete" => DeleteOrder(OrderRef),
    /// Undoes a soft deletion.
    "order.restore" => RestoreOrder(OrderRef),
    /// Takes over orders of another system.
    "order.import" => ImportOrders(ImportOrders),
    /// Has an order go on that waits for its owner's approval.
    "order.approve" => ApproveOrder(OrderRef),
    /// The same for all that wait.
    "order.approve_all" => ApproveAll(ApproveAll),
    /// Cancels an order that waits for its owner's approval.
    "order.reject" => RejectOrder(RejectOrder),
    /// Gives back some of what was taken.
    "order.refund" => RefundOrder(RefundOrder),
    /// An order's events, oldest first.
    "order.history" => OrderHistory(OrderHistory),
    /// Goods were handed over to a carrier.
    "shipment.create" => CreateShipment(CreateShipment),
    /// What the shipper tells about a parcel.
    "shipment.update" => UpdateShipment(UpdateShipment),
    /// Withdraws a shipment that is still here.
    "shipment.cancel" => CancelShipment(CancelShipment),
    /// The payment provider says that something happened.
    "payment.notify" => NotifyPayment(NotifyPayment),
    /// A new product.
    "product.create" => CreateProduct(NewProduct),
    /// One product with its stock.
    "product.get" => GetProduct(ProductRef),
    /// Products by sku.
    "product.list" => ListProducts(ListProducts),
    /// Changes a product.
    "product.update" => UpdateProduct(UpdateProduct),
    /// Soft-deletes a product that nothing is reserved of.
    "product.delete" => DeleteProduct(ProductRef),
    /// What was counted in a warehouse.
    "stock.set" => SetStock(SetStock),
    /// What a warehouse has more or less than was thought.
    "stock.adjust" => AdjustStock(AdjustStock),
    /// Removes a product from a warehouse where nothing of it is left.
    "stock.remove" => RemoveStock(RemoveStock),
    /// A new customer.
    "customer.create" => CreateCustomer(NewCustomer),
    /// One customer.
    "customer.get" => GetCustomer(CustomerRef),
    /// Customers, newest first.
    "customer.list" => ListCustomers(ListCustomers),
    /// Blocks or unblocks a customer.
    "customer.block" => BlockCustomer(BlockCustomer),
    /// Their shop knows that a customer is who they say.
    "customer.verify" => VerifyCustomer(CustomerRef),
    /// Erases who a customer is.
    "customer.erase" => EraseCustomer(CustomerRef),
    /// Dead letters, the latest first.
    "dead_letter.list" => ListDeadLetters(ListDeadLetters),
    /// Has a dead letter tried again.
    "dead_letter.redrive" => RedriveDeadLetter(DeadLetterRef),
    /// Forgets a dead letter.
    "dead_letter.discard" => DiscardDeadLetter(DeadLetterRef),
    /// Has all dead steps tried again.
    "dead_letter.redrive_all" => RedriveDeadSteps(RedriveAll),
    /// Steps that failed and will be tried again, the oldest orders' first.
    "retry.list" => ListRetries(ListRetries),
    /// Has one of them tried now.
    "retry.redrive" => RedriveRetry(RetryRef),
    /// The same for all of them.
    "retry.redrive_all" => RedriveRetries(RedriveAll),
    /// Figures.
    "stats.get" => GetStats(GetStats),
    /// The feed, in the order of commits.
    "event.list" => ListEvents(ListEvents),
    /// A new endpoint of webhooks.
    "webhook_endpoint.create" => CreateEndpoint(NewEndpoint),
    /// One endpoint.
    "webhook_endpoint.get" => GetEndpoint(EndpointRef),
    /// Endpoints, newest first.
    "webhook_endpoint.list" => ListEndpoints(ListEndpoints),
    /// Changes an endpoint.
    "webhook_endpoint.update" => UpdateEndpoint(UpdateEndpoint),
    /// Forgets an endpoint.
    "webhook_endpoint.delete" => DeleteEndpoint(EndpointRef),
    /// Gives an endpoint a new secret.
    "webhook_endpoint.rotate_secret" => RotateSecret(RotateSecret),
    /// What an endpoint was told, newest first.
    "webhook_endpoint.deliveries" => ListDeliveries(ListDeliveries),
    /// Has an endpoint told again.
    "webhook_endpoint.redeliver" => Redeliver(Redeliver),
    /// Back to the beginning, where that is allowed.
    "demo.reset" => Reset(Nothing),
    /// An order's rows, where that is allowed.
    "debug.order" => DebugOrder(OrderRef),
    /// How many rows there are, where that is allowed.
    "debug.tables" => DebugTables(Nothing),
}

impl Request {
    /// Whether the request only reads: asking twice, or in vain, changes nothing.
    pub fn is_read(&self) -> bool {
        match self {
            Self::GetOrder(_)
            | Self::ListOrders(_)
            | Self::OrderHistory(_)
            | Self::GetProduct(_)
            | Self::ListProducts(_)
            | Self::GetCustomer(_)
            | Self::ListCustomers(_)
            | Self::ListDeadLetters(_)
            | Self::ListRetries(_)
            | Self::ListEvents(_)
            | Self::GetStats(_)
            | Self::GetEndpoint(_)
            | Self::ListEndpoints(_)
            | Self::DebugOrder(_)
            | Self::DebugTables(_)
            | Self::ListDeliveries(_) => true,
            Self::CreateOrder(_)
            | Self::CancelOrder(_)
            | Self::DeleteOrder(_)
            | Self::RestoreOrder(_)
            | Self::ApproveOrder(_)
            | Self::ApproveAll(_)
            | Self::RejectOrder(_)
            | Self::RefundOrder(_)
            | Self::CreateShipment(_)
            | Self::UpdateShipment(_)
            | Self::CancelShipment(_)
            | Self::CancelRemaining(_)
            | Self::NotifyPayment(_)
            | Self::CreateProduct(_)
            | Self::UpdateProduct(_)
            | Self::DeleteProduct(_)
            | Self::SetStock(_)
            | Self::AdjustStock(_)
            | Self::RemoveStock(_)
            | Self::ImportOrders(_)
            | Self::CreateCustomer(_)
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
            | Self::Redeliver(_) => false,
        }
    }
}

impl Request {
    /// Whether only operators and admins may ask it. The gateway turns others away here, and whoever
    /// decides asks again: the broker has other ways in.
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
            | Self::CreateProduct(_)
            | Self::UpdateProduct(_)
            | Self::DeleteProduct(_)
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
            | Self::DebugOrder(_)
            | Self::DebugTables(_)
            | Self::DiscardDeadLetter(_) => true,
            Self::GetOrder(GetOrder {
                include_deleted, ..
            })
            | Self::ListOrders(ListOrders {
                include_deleted, ..
            })
            | Self::OrderHistory(OrderHistory {
                include_deleted, ..
            }) => *include_deleted,
            Self::CreateOrder(_)
            | Self::CancelOrder(_)
            | Self::DeleteOrder(_)
            | Self::GetProduct(_)
            | Self::ListProducts(_)
            | Self::CreateCustomer(_)
            | Self::GetCustomer(_)
            | Self::ListCustomers(_)
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
            | Self::Redeliver(_) => false,
        }
    }
}

/// What asks for nothing in particular.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Nothing {}

impl Nothing {
    #[expect(clippy::unnecessary_wraps, reason = "the shape of every reader")]
    pub(crate) fn read(_: &mut body::Fields<'_>) -> Option<Self> {
        Some(Self {})
    }
}

/// On whose behalf a request is made; travels as AMQP headers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Caller {
    /// What the credential allows.
    pub role: Role,
    /// Whose data a `storefront` sees; the default owner of what others create.
    pub storefront: Storefront,
    /// The credential's name.
    pub actor: String,
    /// What the caller wants: the pattern, unless the client names something finer.
    pub intent: String,
    /// The id of the HTTP request, on every log line and history row made on its behalf.
    pub request_id: String,
    /// The trace that it is part of, for logs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
}

impl Caller {
    /// Whether what belongs to `owner` exists for this caller at all.
    pub fn may_see(&self, owner: &Storefront) -> bool {
        match self.role {
            Role::Storefront => self.storefront == *owner,
            Role::Operator | Role::Admin => true,
        }
    }

    /// Refuses storefronts.
    ///
    /// # Errors
    /// `FORBIDDEN`.
    pub fn require_operator(&self) -> Result<(), Failure> {
        match self.role {
            Role::Operator | Role::Admin => Ok(()),
            Role::Storefront => Err(Failure::new(
                Code::Forbidden,
                "only an operator may do this",
            )),
        }
    }

    /// Refuses all but admins.
    ///
    /// # Errors
    /// `FORBIDDEN`.
    pub fn require_admin(&self) -> Result<(), Failure> {
        match self.role {
            Role::Admin => Ok(()),
            Role::Operator | Role::Storefront => {
                Err(Failure::new(Code::Forbidden, "only an admin may do this"))
            }
        }
    }

    /// Whose the thing to be created is: the caller's own, or what an operator names.
    ///
    /// # Errors
    /// `FORBIDDEN` when a storefront names another.
    pub fn owner(&self, named: Option<&Storefront>) -> Result<Storefront, Failure> {
        match named {
            None => Ok(self.storefront.clone()),
            Some(named) if self.may_see(named) => Ok(named.clone()),
            Some(named) => Err(Failure::new(
                Code::Forbidden,
                format!("this credential does not act for storefront {named}"),
            )),
        }
    }
}

/// What a credential allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Its own storefront's orders, customers and events.
    Storefront,
    /// All storefronts; stock, restore, dead letters.
    Operator,
    /// An operator that also manages keys.
    Admin,
}

impl Role {
    /// As it stands on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Storefront => "storefront",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Storefront, Self::Operator, Self::Admin]
            .into_iter()
            .find(|role| role.as_str() == text)
            .ok_or_else(|| format!("unknown role {text:?}: must be storefront, operator or admin"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_request_survives_the_wire() {
        let body = json!({
            "customer_id": "0192f0c1-2345-7abc-8def-0123456789ab",
            "items": [{"sku": "A", "quantity": 2}],
            "shipping_address": {"city": "Köln"},
            "expected_total": 500,
            "metadata": {"cart": {"id": 7}},
        });
        let request = Request::read("order.create", body).unwrap();
        let sent: Value = serde_json::from_str(request.to_body().unwrap().get()).unwrap();
        assert_eq!(Request::read("order.create", sent).unwrap(), request);
    }

    #[test]
    fn unknown_patterns_and_unknown_fields_are_named() {
        let failure = Request::read("order.explode", json!({})).unwrap_err();
        assert_eq!(failure.http_status(), 400);
        assert!(failure.message.contains("order.explode"));

        let failure = Request::read("order.delete", json!({"id": "x", "force": true})).unwrap_err();
        let errors = failure.errors().unwrap().as_array().unwrap();
        assert_eq!(errors[0]["pointer"], "/id");
        assert_eq!(errors[1]["pointer"], "/force");
    }

    #[test]
    fn quantities_and_card_numbers_are_checked() {
        let order = |quantity: Value, method: &str| {
            Request::read(
                "order.create",
                json!({
                    "customer_id": "0192f0c1-2345-7abc-8def-0123456789ab",
                    "items": [{"sku": "A", "quantity": quantity}],
                    "payment_method": method,
                }),
            )
        };
        for bad in [
            json!(0),
            json!(-1),
            json!(1.5),
            json!("1"),
            json!(1_000_001),
            json!(1e30),
        ] {
            assert!(order(bad.clone(), "pm_ok").is_err(), "{bad}");
        }
        assert!(order(json!(1_000_000), "pm_ok").is_ok());
        assert!(order(json!(1), "4242 4242 4242 4242").is_err());
    }

    #[test]
    fn a_storefront_sees_and_names_only_itself() {
        let caller = |role| Caller {
            role,
            storefront: "eu".parse().unwrap(),
            actor: "a".to_owned(),
            intent: "i".to_owned(),
            request_id: "r".to_owned(),
            traceparent: None,
        };
        let us = "us".parse().unwrap();
        assert!(!caller(Role::Storefront).may_see(&us));
        assert!(caller(Role::Storefront).owner(Some(&us)).is_err());
        assert_eq!(caller(Role::Operator).owner(Some(&us)), Ok(us));
    }
}
