//! The rows to load for a batch: each command adds those that it refers to, before anything is decided.
//!
//! The store loads them into the [`WorkingSet`](super::working_set::WorkingSet).

use std::collections::{BTreeSet, HashMap};

use shared::{
    api_key::{ApiKeyRef, KeyDigest},
    customer::{BlockCustomer, CustomerRef, UpdateCustomer},
    id::{ApiKeyId, CustomerId, DeliveryId, EndpointId, MessageId, OrderId, Sku, Storefront},
    message::ResendMessage,
    order::{
        AcceptOrder, CancelEdit, CancelOrder, CancelRemaining, CancelShipment, CreateReturn,
        CreateShipment, EditOrder, ImportedOrder, OrderRef, RecordPayment, RefundOrder,
        RejectOrder, ShipmentUpdate, UpdateOrder, UpdateShipment,
    },
    product::{
        AddImage, AdjustStock, NewProduct, ProductRef, RemoveImage, RemoveStock, ReorderImages,
        SetStock, UpdateProduct,
    },
    webhook::{EndpointRef, Redeliver, RotateSecret, UpdateEndpoint},
};

use super::{
    command::{Action, Command, Idempotency, ResourceRef, ReturnChange},
    order::Order,
    working_set::order_alias_key,
};

/// The rows to load before a batch can be decided.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoadSet {
    /// Orders, with their steps and the stock levels that they reserve from.
    pub orders: Vec<OrderId>,
    /// Orders whose shipments may be returned, with the stock levels that they came from.
    pub returning_orders: Vec<OrderId>,
    /// Products to order, with all of their stock levels.
    pub products: Vec<Sku>,
    /// Products to change or count, with all of their stock levels.
    pub changed_products: Vec<Sku>,
    /// Customers.
    pub customers: Vec<CustomerId>,
    /// Customers to change.
    pub changed_customers: Vec<CustomerId>,
    /// Webhook endpoints.
    pub endpoints: Vec<EndpointId>,
    /// Webhook deliveries.
    pub deliveries: Vec<DeliveryId>,
    /// Messages to customers.
    pub messages: Vec<MessageId>,
    /// Whether to load the number of endpoints by owner.
    pub endpoint_counts: bool,
    /// API keys.
    pub api_keys: Vec<ApiKeyId>,
    /// Digests of new API keys, to find existing keys with them and the number of active keys.
    pub api_key_digests: Vec<KeyDigest>,
    /// Orders by external id.
    pub external_ids: Vec<(Storefront, String)>,
    /// Idempotency records by key.
    pub idempotency_keys: Vec<String>,
    /// Maximum number of new orders, for order numbers.
    pub new_orders: u32,
    /// Number of commands. A batch that needs too many rows can be split if it has more than one.
    pub commands: usize,
}

impl LoadSet {
    /// Adds the rows that `command` refers to.
    #[expect(clippy::too_many_lines, reason = "one arm per action")]
    pub fn add(&mut self, command: &Command) {
        self.commands += 1;
        let action = match command {
            Command::FinishStep { key, .. } => return self.orders.push(key.order_id),
            Command::FinishDelivery {
                endpoint_id, id, ..
            } => {
                self.endpoints.push(*endpoint_id);
                return self.deliveries.push(*id);
            }
            Command::FinishMessage { id, .. } => return self.messages.push(*id),
            Command::Request {
                caller,
                idempotency,
                action,
                ..
            } => {
                if let Action::ImportOrder {
                    id,
                    legacy_id,
                    order,
                    ..
                } = action
                {
                    self.orders.extend(id.iter().chain(legacy_id));
                    let storefront = caller.owner(order.order.storefront.as_ref()).ok();
                    self.external_ids
                        .extend(storefront.zip(order.external_id.clone()));
                }
                if let Some(idempotency) = idempotency {
                    self.add_idempotency_keys(idempotency);
                }
                if let (Action::AcceptOrder(accept), Some(_)) = (action, idempotency) {
                    self.idempotency_keys.push(order_alias_key(accept.id));
                }
                action
            }
        };
        if let Action::UpdateShipment(UpdateShipment {
            order_id,
            kind: ShipmentUpdate::Returned,
            ..
        }) = action
        {
            self.returning_orders.push(*order_id);
        }
        match action {
            Action::CreateOrder(order_request)
            | Action::AcceptOrder(AcceptOrder {
                order: order_request,
                ..
            })
            | Action::ImportOrder {
                order:
                    ImportedOrder {
                        order: order_request,
                        ..
                    },
                ..
            } => {
                if let Action::AcceptOrder(AcceptOrder { id: order_id, .. }) = action {
                    self.orders.push(*order_id);
                }
                self.new_orders += 1;
                self.customers.push(order_request.customer_id);
                self.products
                    .extend(order_request.items.iter().map(|item| item.sku.clone()));
            }
            Action::EditOrder(EditOrder {
                id: order_id,
                items,
                ..
            }) => {
                self.orders.push(*order_id);
                let skus = items.iter().flatten().map(|item| item.sku.clone());
                self.products.extend(skus);
            }
            Action::CancelOrder(CancelOrder { id: order_id, .. })
            | Action::DeleteOrder(OrderRef { id: order_id })
            | Action::RestoreOrder(OrderRef { id: order_id })
            | Action::ApproveOrder(OrderRef { id: order_id })
            | Action::RejectOrder(RejectOrder { id: order_id, .. })
            | Action::RefundOrder(RefundOrder { id: order_id, .. })
            | Action::UpdateOrder(UpdateOrder { id: order_id, .. })
            | Action::RecordPayment(RecordPayment { id: order_id, .. })
            | Action::CreateShipment(CreateShipment { id: order_id, .. })
            | Action::CancelShipment(CancelShipment { id: order_id, .. })
            | Action::CancelRemaining(CancelRemaining { id: order_id, .. })
            | Action::CancelEdit(CancelEdit { id: order_id, .. })
            | Action::CreateReturn(CreateReturn { id: order_id, .. })
            | Action::NotifyPayment { order_id, .. }
            | Action::UpdateShipment(UpdateShipment { order_id, .. }) => {
                self.orders.push(*order_id);
            }
            Action::ResendMessage(ResendMessage {
                id: order_id,
                message_id,
            }) => {
                self.orders.push(*order_id);
                self.messages.push(*message_id);
            }
            Action::ChangeReturn { order_id, change } => {
                self.orders.extend(order_id);
                // A received unit may be put into a warehouse that has no stock level of the product yet: such a
                // row is inserted under the lock of the product's row.
                if let ReturnChange::Receive(receipt) = change {
                    let restocked_items = receipt.items.iter().filter(|item| item.restock);
                    self.changed_products
                        .extend(restocked_items.map(|item| item.sku.clone()));
                }
            }
            Action::CreateProduct(NewProduct { sku, .. })
            | Action::UpdateProduct(UpdateProduct { sku, .. })
            | Action::DeleteProduct(ProductRef { sku })
            | Action::AddImage(AddImage { sku, .. })
            | Action::RemoveImage(RemoveImage { sku, .. })
            | Action::ReorderImages(ReorderImages { sku, .. })
            | Action::SetStock(SetStock { sku, .. })
            | Action::AdjustStock(AdjustStock { sku, .. })
            | Action::RemoveStock(RemoveStock { sku, .. }) => {
                self.changed_products.push(sku.clone());
            }
            Action::CreateCustomer(_) => {}
            Action::RedriveStep(step_key) | Action::DiscardStep(step_key) => {
                self.orders.push(step_key.order_id);
            }
            Action::UpdateCustomer(UpdateCustomer {
                id: customer_id, ..
            })
            | Action::BlockCustomer(BlockCustomer {
                id: customer_id, ..
            })
            | Action::VerifyCustomer(CustomerRef { id: customer_id })
            | Action::EraseCustomer(CustomerRef { id: customer_id }) => {
                self.changed_customers.push(*customer_id);
            }
            Action::RedactOrder(order_id) => self.orders.push(*order_id),
            Action::BeginTask { target } => self.add_target(target.as_ref()),
            Action::EndTask { .. } => {}
            Action::CreateEndpoint { .. } => self.endpoint_counts = true,
            Action::UpdateEndpoint(UpdateEndpoint {
                id: endpoint_id, ..
            })
            | Action::DeleteEndpoint(EndpointRef { id: endpoint_id })
            | Action::RotateSecret {
                request: RotateSecret {
                    id: endpoint_id, ..
                },
                ..
            } => self.endpoints.push(*endpoint_id),
            Action::Redeliver(Redeliver {
                id: endpoint_id,
                delivery_id,
            }) => {
                self.endpoints.push(*endpoint_id);
                self.deliveries.push(*delivery_id);
            }
            Action::CreateApiKey(key_request) => {
                self.api_key_digests.push(key_request.digest.clone());
            }
            Action::RevokeApiKey(ApiKeyRef { id: key_id }) => self.api_keys.push(*key_id),
        }
    }

    /// Adds the resource that the precondition of a request refers to.
    fn add_target(&mut self, target_resource: Option<&ResourceRef>) {
        match target_resource {
            Some(ResourceRef::Order(order_id)) => self.orders.push(*order_id),
            Some(ResourceRef::Return { order_id, .. }) => self.orders.extend(order_id),
            Some(ResourceRef::Product(sku) | ResourceRef::Image { sku, .. }) => {
                self.changed_products.push(sku.clone());
            }
            Some(ResourceRef::Customer(customer_id)) => self.changed_customers.push(*customer_id),
            Some(ResourceRef::Endpoint(endpoint_id) | ResourceRef::EndpointSecret(endpoint_id)) => {
                self.endpoints.push(*endpoint_id);
            }
            Some(ResourceRef::Delivery(delivery_id)) => self.deliveries.push(*delivery_id),
            Some(ResourceRef::Message(message_id)) => self.messages.push(*message_id),
            Some(ResourceRef::ApiKey(key_id) | ResourceRef::NewApiKey(key_id)) => {
                self.api_keys.push(*key_id);
            }
            Some(ResourceRef::Imported { .. } | ResourceRef::NoContent) | None => {}
        }
    }

    /// Products whose stock levels are needed: those that are ordered or changed, and those that the loaded
    /// `orders` or their pending edits have reserved, still have to reserve, or may return.
    pub fn skus(&self, orders: &HashMap<OrderId, Order>) -> BTreeSet<Sku> {
        let mut skus: BTreeSet<Sku> = self.products.iter().cloned().collect();
        skus.extend(self.changed_products.iter().cloned());
        let reserved_items = orders.values().flat_map(|order| &order.reserved_items);
        skus.extend(reserved_items.map(|item| item.sku.clone()));
        let pending_edits = orders
            .values()
            .filter_map(|order| order.pending_edit.as_ref());
        skus.extend(
            pending_edits.flat_map(|edit| edit.reserved.iter().map(|item| item.sku.clone())),
        );
        let orders_without_stock = orders.values().filter(|order| order.awaits_stock);
        let unreserved_lines = orders_without_stock.flat_map(|order| &order.items);
        skus.extend(unreserved_lines.map(|line| line.sku.clone()));
        let returning_orders = self
            .returning_orders
            .iter()
            .filter_map(|order_id| orders.get(order_id));
        let shipments = returning_orders.flat_map(|order| &order.shipments);
        let shipped_items = shipments.flat_map(|shipment| &shipment.items);
        skus.extend(shipped_items.map(|item| item.sku.clone()));
        skus
    }

    /// Adds the rows needed to render `resource` again.
    pub fn add_resource(&mut self, resource: &ResourceRef) {
        match resource {
            ResourceRef::Order(order_id) => self.orders.push(*order_id),
            ResourceRef::Return { order_id, .. } => self.orders.extend(order_id),
            ResourceRef::Product(sku) | ResourceRef::Image { sku, .. } => {
                self.products.push(sku.clone());
            }
            ResourceRef::Customer(customer_id) => self.customers.push(*customer_id),
            ResourceRef::Endpoint(endpoint_id) | ResourceRef::EndpointSecret(endpoint_id) => {
                self.endpoints.push(*endpoint_id);
            }
            ResourceRef::Delivery(delivery_id) => self.deliveries.push(*delivery_id),
            ResourceRef::Message(message_id) => self.messages.push(*message_id),
            ResourceRef::ApiKey(key_id) | ResourceRef::NewApiKey(key_id) => {
                self.api_keys.push(*key_id);
            }
            ResourceRef::Imported { .. } | ResourceRef::NoContent => {}
        }
    }

    fn add_idempotency_keys(&mut self, idempotency: &Idempotency) {
        self.idempotency_keys.push(idempotency.key.clone());
        if let Some(operation) = &idempotency.operation {
            self.idempotency_keys
                .push(operation.earlier_record_key.clone());
            // For an order, this is the key itself.
            if operation.create_order_key != idempotency.key {
                self.idempotency_keys
                    .push(operation.create_order_key.clone());
            }
        }
    }
}
