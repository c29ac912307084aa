//! The working set of a batch: the rows that the store loaded, with the changes of the commands decided so
//! far. Each command sees the decisions of those before it.
//!
//! [`WorkingSet::apply`] applies a decision. The [`ChangeSet`] lists what the store has to write; nothing is
//! written before all commands of the batch are decided.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};

use serde_json::json;
use shared::{
    customer::Customer,
    event::{Event, EventData},
    id::{
        ApiKeyId, CustomerId, DeliveryId, EndpointId, EventId, MessageId, OrderId, Sku, Storefront,
        Warehouse,
    },
    order::{StockItem, restocked_items},
    outcome::{Code, Failure, Json, Outcome},
    request::{Caller, Role},
};

use super::{
    api_key::ApiKey,
    command::{CREATE_ORDER, Idempotency, KeyOperation, KeyOrigin, ResourceRef},
    decision::{Changes, StepChange},
    message::Message,
    order::Order,
    product::Product,
    step::{StepKey, StepRow},
    stock::{ProductStock, WarehouseStock},
    webhook::{Delivery, Endpoint},
};

/// An idempotency record.
#[derive(Debug, Clone, PartialEq)]
pub struct IdempotencyRecord {
    /// Digest of the request; for the record of an operation its name. Empty if any request matches.
    pub fingerprint: String,
    /// The resource of the reply; `None` for a failure, and for a task that has not ended.
    pub resource_ref: Option<ResourceRef>,
    /// The reply verbatim, where it is stored.
    pub outcome: Option<Outcome<Json>>,
}

/// Key of the record that maps the id of an asynchronous order to the order that exists instead. Differs from
/// all client keys, which start with a storefront and a pattern.
pub fn order_alias_key(acknowledged_id: OrderId) -> String {
    format!("promised/{acknowledged_id}")
}

/// The loaded rows, and what has changed since they were loaded.
#[derive(Debug, Clone, Default)]
pub struct WorkingSet {
    /// Orders by id.
    pub orders: HashMap<OrderId, Order>,
    /// Products by SKU.
    pub products: HashMap<Sku, Product>,
    /// Stock levels of these products.
    pub stock_levels: ProductStock,
    /// Customers by id.
    pub customers: HashMap<CustomerId, Customer>,
    /// Webhook endpoints by id.
    pub endpoints: HashMap<EndpointId, Endpoint>,
    /// Number of endpoints by owner.
    pub endpoint_counts: HashMap<Option<Storefront>, usize>,
    /// API keys by id.
    pub api_keys: HashMap<ApiKeyId, ApiKey>,
    /// Number of active API keys, if a key is to be created.
    pub active_api_keys: usize,
    /// Webhook deliveries by id.
    pub deliveries: HashMap<DeliveryId, Delivery>,
    /// Messages to customers by id.
    pub messages: HashMap<MessageId, Message>,
    /// Events of loaded deliveries that were deleted after their retention period.
    pub deleted_events: HashSet<EventId>,
    /// Unfinished steps of the loaded orders.
    pub steps: BTreeMap<StepKey, StepRow>,
    /// Idempotency records by key.
    pub idempotency_records: HashMap<String, IdempotencyRecord>,
    /// Orders by external id.
    pub external_ids: HashMap<(Storefront, String), OrderId>,
    /// Next order numbers.
    pub next_order_numbers: VecDeque<i64>,
    /// Changes that have to be written.
    pub changes: ChangeSet,
}

/// Changes since the rows were loaded; the store writes them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ChangeSet {
    /// Events in order.
    pub events: Vec<Event>,
    /// Changed orders.
    pub orders: BTreeSet<OrderId>,
    /// Changed products.
    pub products: BTreeSet<Sku>,
    /// Changed stock levels.
    pub stock_levels: BTreeSet<(Sku, Warehouse)>,
    /// Changed customers.
    pub customers: BTreeSet<CustomerId>,
    /// Changed endpoints.
    pub endpoints: BTreeSet<EndpointId>,
    /// Changed API keys.
    pub api_keys: BTreeSet<ApiKeyId>,
    /// Changed deliveries.
    pub deliveries: BTreeSet<DeliveryId>,
    /// Changed messages to customers.
    pub messages: BTreeSet<MessageId>,
    /// Scheduled or removed steps: those in [`WorkingSet::steps`] exist, the others are removed.
    pub steps: BTreeSet<StepKey>,
    /// New idempotency records.
    pub recorded_keys: BTreeSet<String>,
}

impl ChangeSet {
    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl WorkingSet {
    /// Applies `changes`.
    ///
    /// # Panics
    /// When a stock level would violate its invariant, or was not loaded. No decision does that; if one did, it
    /// must not be written.
    pub fn apply(&mut self, changes: Changes) {
        for event in &changes.events {
            match &event.event_data {
                EventData::OrderCreated(_) => {
                    self.next_order_numbers.pop_front();
                }
                EventData::StockReserved { items, .. } => self.move_stock(items, 0, 1),
                EventData::StockReleased { items, .. } => self.move_stock(items, 0, -1),
                EventData::ShipmentShipped { items, .. } => self.move_stock(items, -1, -1),
                EventData::ShipmentReturned { items, .. } => self.move_stock(items, 1, 0),
                EventData::ReturnReceived { items, .. } => self.restock(&restocked_items(items)),
                EventData::StockAdjusted {
                    sku,
                    warehouse,
                    on_hand,
                    ..
                } => {
                    self.change_stock(sku, warehouse, |stock_level| stock_level.on_hand = *on_hand);
                }
                _ => {}
            }
        }
        for order in changes.orders {
            self.changes.orders.insert(order.id);
            if let Some(external_id) = &order.external_id {
                let external_key = (order.storefront.clone(), external_id.clone());
                self.external_ids.insert(external_key, order.id);
            }
            self.orders.insert(order.id, order);
        }
        for product in changes.products {
            self.changes.products.insert(product.details.sku.clone());
            self.products.insert(product.details.sku.clone(), product);
        }
        for customer in changes.customers {
            self.changes.customers.insert(customer.id);
            self.customers.insert(customer.id, customer);
        }
        for endpoint in changes.endpoints {
            self.changes.endpoints.insert(endpoint.id);
            self.endpoints.insert(endpoint.id, endpoint);
        }
        for api_key in changes.api_keys {
            self.changes.api_keys.insert(api_key.id);
            if self.api_keys.insert(api_key.id, api_key).is_none() {
                self.active_api_keys += 1;
            }
        }
        for delivery in changes.deliveries {
            self.changes.deliveries.insert(delivery.id);
            self.deliveries.insert(delivery.id, delivery);
        }
        for message in changes.messages {
            self.changes.messages.insert(message.id);
            self.messages.insert(message.id, message);
        }
        for (acknowledged_id, existing_id) in changes.order_aliases {
            let alias_key = order_alias_key(acknowledged_id);
            self.changes.recorded_keys.insert(alias_key.clone());
            let new_record = IdempotencyRecord {
                fingerprint: String::new(),
                resource_ref: Some(ResourceRef::Order(existing_id)),
                outcome: None,
            };
            self.idempotency_records.insert(alias_key, new_record);
        }
        self.change_steps(changes.steps);
        self.changes.events.extend(changes.events);
    }

    fn change_steps(&mut self, steps: Vec<StepChange>) {
        let mut removed_rows = HashMap::new();
        for step_change in steps {
            let step_key = match step_change {
                StepChange::Put(row) => {
                    let step_key = row.key.clone();
                    self.steps.insert(step_key.clone(), row);
                    step_key
                }
                StepChange::Schedule(row) => {
                    let step_key = row.key.clone();
                    let row = match (self.steps.get(&step_key), removed_rows.get(&step_key)) {
                        (Some(current_row), _) if is_covered_by(&row, current_row) => continue,
                        (Some(previous_row), _) | (None, Some(previous_row)) => {
                            continue_step(row, previous_row)
                        }
                        (None, None) => row,
                    };
                    self.steps.insert(step_key.clone(), row);
                    step_key
                }
                StepChange::Remove(step_key) => {
                    if let Some(row) = self.steps.remove(&step_key) {
                        removed_rows.insert(step_key.clone(), row);
                    }
                    step_key
                }
            };
            self.changes.steps.insert(step_key);
        }
    }

    fn move_stock(&mut self, items: &[StockItem], on_hand_change: i64, reserved_change: i64) {
        for StockItem {
            sku,
            warehouse,
            quantity,
        } in items
        {
            let quantity = i64::from(quantity.get());
            assert!(
                self.is_stock_loaded(sku, warehouse),
                "the stock level of {sku} in {warehouse} was not loaded"
            );
            self.change_stock(sku, warehouse, |stock_level| {
                stock_level.on_hand += on_hand_change * quantity;
                stock_level.reserved += reserved_change * quantity;
            });
        }
    }

    /// Adds returned units. Unlike a shipment, a return may put them into a warehouse that has no stock level of
    /// the product yet.
    fn restock(&mut self, items: &[StockItem]) {
        for item in items {
            assert!(
                self.stock_levels.contains_key(&item.sku),
                "the stock levels of {} were not loaded",
                item.sku
            );
            self.change_stock(&item.sku, &item.warehouse, |stock_level| {
                stock_level.on_hand += i64::from(item.quantity.get());
            });
        }
    }

    /// Whether the stock level was loaded. One that was not must not be written: it would replace the stored
    /// level.
    fn is_stock_loaded(&self, sku: &Sku, warehouse: &Warehouse) -> bool {
        let stock_levels = self.stock_levels.get(sku);
        stock_levels.is_some_and(|stock_levels| stock_levels.contains_key(warehouse))
    }

    fn change_stock(
        &mut self,
        sku: &Sku,
        warehouse: &Warehouse,
        apply_change: impl FnOnce(&mut WarehouseStock),
    ) {
        let stock_level = self
            .stock_levels
            .entry(sku.clone())
            .or_default()
            .entry(warehouse.clone())
            .or_default();
        apply_change(stock_level);
        assert!(
            stock_level.is_valid(),
            "invalid stock level of {sku} in {warehouse}: {stock_level:?}"
        );
        self.changes
            .stock_levels
            .insert((sku.clone(), warehouse.clone()));
    }

    /// The reply recorded under this key, if the request was the same.
    ///
    /// # Errors
    /// `IDEMPOTENCY_CONFLICT` when it was a different request.
    pub fn recorded_reply(
        &self,
        idempotency: &Idempotency,
        role: Role,
    ) -> Result<Option<Result<Json, Failure>>, Failure> {
        let stored_record = self.idempotency_records.get(&idempotency.key);
        let Some(record) =
            stored_record.filter(|_| idempotency.key_origin != KeyOrigin::FirstMessageDelivery)
        else {
            return match &idempotency.operation {
                Some(operation) if self.is_used_for_another(operation) => Err(key_conflict()),
                _ => Ok(None),
            };
        };
        // An empty fingerprint matches any request: webhooks, and shipment updates recorded by earlier versions.
        if !record.fingerprint.is_empty() && record.fingerprint != idempotency.fingerprint {
            return Err(key_conflict());
        }
        match (&record.outcome, &record.resource_ref) {
            (Some(outcome), _) => Ok(Some(outcome.clone().into())),
            (None, Some(resource_ref)) => Ok(Some(self.render(resource_ref, role))),
            (None, None) => Ok(None),
        }
    }

    /// Whether the client's key was used for another operation than this one.
    fn is_used_for_another(&self, operation: &KeyOperation) -> bool {
        let record_keys = [&operation.create_order_key, &operation.earlier_record_key];
        let mut earlier_records = record_keys
            .iter()
            .filter_map(|record_key| self.idempotency_records.get(*record_key));
        earlier_records.any(|record| record.fingerprint != operation.operation_name)
    }

    /// Records the operation of a client's key under the key that creating an order with it has: the record of
    /// an order needs no second row, and of two workers that use the key for an order and for another
    /// operation at the same moment, one can't insert its row.
    fn record_operation(&mut self, idempotency: &Idempotency) {
        let Some(operation) = &idempotency.operation else {
            return;
        };
        if operation.operation_name == CREATE_ORDER
            || self
                .idempotency_records
                .contains_key(&operation.create_order_key)
        {
            return;
        }
        let record = IdempotencyRecord {
            fingerprint: operation.operation_name.to_owned(),
            resource_ref: None,
            outcome: None,
        };
        let record_key = &operation.create_order_key;
        self.idempotency_records.insert(record_key.clone(), record);
        self.changes.recorded_keys.insert(record_key.clone());
    }

    /// Whether a request of several commands was started under this key and has not ended.
    pub fn has_unfinished_task(&self, idempotency: &Idempotency) -> bool {
        let stored_record = self.idempotency_records.get(&idempotency.key);
        stored_record
            .is_some_and(|record| record.resource_ref.is_none() && record.outcome.is_none())
    }

    /// Records that a request of several commands was started under this key; there is no reply yet.
    pub fn record_task_start(&mut self, idempotency: &Idempotency) {
        self.record_operation(idempotency);
        let record = IdempotencyRecord {
            fingerprint: idempotency.fingerprint.clone(),
            resource_ref: None,
            outcome: None,
        };
        self.idempotency_records
            .insert(idempotency.key.clone(), record);
        self.changes.recorded_keys.insert(idempotency.key.clone());
    }

    /// Records the reply. A failure is recorded only under a client's own key: it changed nothing, so a
    /// redelivered message can be decided again. Internal errors are never recorded.
    pub fn record_reply(
        &mut self,
        idempotency: &Idempotency,
        resource_ref: Option<ResourceRef>,
        outcome: &Result<Json, Failure>,
    ) {
        let is_client_key = idempotency.key_origin == KeyOrigin::Client;
        let is_defect = matches!(outcome, Err(failure) if failure.code == Code::Internal);
        if is_defect || (resource_ref.is_none() && !is_client_key) {
            return;
        }
        self.record_operation(idempotency);
        let record = IdempotencyRecord {
            fingerprint: idempotency.fingerprint.clone(),
            resource_ref,
            outcome: is_client_key.then(|| outcome.clone().into()),
        };
        self.idempotency_records
            .insert(idempotency.key.clone(), record);
        self.changes.recorded_keys.insert(idempotency.key.clone());
    }

    /// Whether the resource is visible to the caller.
    pub fn is_visible(&self, resource: &ResourceRef, caller: &Caller) -> bool {
        match resource {
            ResourceRef::Order(order_id) => {
                let order = self.orders.get(order_id);
                order.is_some_and(|order| caller.may_see(&order.storefront))
            }
            ResourceRef::Return { order_id, id } => {
                let order = order_id.and_then(|order_id| self.orders.get(&order_id));
                order.is_some_and(|order| {
                    caller.may_see(&order.storefront)
                        && !order.is_deleted
                        && order.find_return(*id).is_some()
                })
            }
            ResourceRef::Product(sku) | ResourceRef::Image { sku, .. } => {
                self.products.contains_key(sku)
            }
            ResourceRef::Customer(customer_id) => {
                let customer = self.customers.get(customer_id);
                customer.is_some_and(|customer| caller.may_see(&customer.storefront))
            }
            ResourceRef::Endpoint(endpoint_id) | ResourceRef::EndpointSecret(endpoint_id) => {
                let endpoint = self.endpoints.get(endpoint_id);
                endpoint.is_some_and(|endpoint| endpoint.is_managed_by(caller))
            }
            ResourceRef::Delivery(delivery_id) => {
                let delivery = self.deliveries.get(delivery_id);
                delivery.is_some_and(|delivery| {
                    self.is_visible(&ResourceRef::Endpoint(delivery.endpoint_id), caller)
                })
            }
            ResourceRef::Message(message_id) => {
                let message = self.messages.get(message_id);
                message.is_some_and(|message| {
                    self.is_visible(&ResourceRef::Order(message.order_id), caller)
                })
            }
            ResourceRef::ApiKey(key_id) | ResourceRef::NewApiKey(key_id) => {
                caller.require_admin().is_ok() && self.api_keys.contains_key(key_id)
            }
            ResourceRef::Imported { .. } | ResourceRef::NoContent => true,
        }
    }

    /// Renders the reply for a caller of `role`.
    ///
    /// # Errors
    /// `INTERNAL` when the resource was not loaded, which is a defect.
    pub fn render(&self, resource: &ResourceRef, role: Role) -> Result<Json, Failure> {
        let representation = match resource {
            ResourceRef::Order(order_id) => self
                .orders
                .get(order_id)
                .map(|order| order.represent(self.steps_of(*order_id)))
                .map(|order| Json::of(&order.visible_to(role))),
            ResourceRef::Return { order_id, id } => {
                let order = order_id.and_then(|order_id| self.orders.get(&order_id));
                order.and_then(|order| {
                    let order_return = order.find_return(*id)?;
                    Some(Json::of(&order.represent_return(order_return)))
                })
            }
            ResourceRef::Product(sku) => self
                .products
                .get(sku)
                .map(|product| Json::of(&product.represent(self.stock_levels.get(sku)))),
            ResourceRef::Image { sku, id } => {
                let product = self.products.get(sku);
                product.map(|product| match product.image(*id) {
                    Some(image) => Json::of(image),
                    // It was removed after a request that is repeated now.
                    None => Err(Failure::not_found("image", id)),
                })
            }
            ResourceRef::Customer(customer_id) => self.customers.get(customer_id).map(Json::of),
            ResourceRef::Endpoint(endpoint_id) => {
                let endpoint = self.endpoints.get(endpoint_id);
                endpoint.map(|endpoint| Json::of(&endpoint.represent(false)))
            }
            ResourceRef::EndpointSecret(endpoint_id) => {
                let endpoint = self.endpoints.get(endpoint_id);
                endpoint.map(|endpoint| Json::of(&endpoint.represent(true)))
            }
            ResourceRef::Delivery(delivery_id) => {
                let delivery = self.deliveries.get(delivery_id);
                delivery.map(|delivery| Json::of(&delivery.represent()))
            }
            ResourceRef::Message(message_id) => {
                let message = self.messages.get(message_id);
                message.map(|message| Json::of(&message.represent()))
            }
            ResourceRef::ApiKey(key_id) => {
                let api_key = self.api_keys.get(key_id);
                api_key.map(|api_key| Json::of(&api_key.represent()))
            }
            ResourceRef::NewApiKey(key_id) => {
                let api_key = self.api_keys.get(key_id);
                api_key.map(|api_key| Json::of(&api_key.represent_new()))
            }
            ResourceRef::Imported { id, is_duplicate } => {
                Some(Json::of(&json!({"id": id, "is_duplicate": is_duplicate})))
            }
            ResourceRef::NoContent => Some(Json::of(&())),
        };
        representation.unwrap_or_else(|| {
            Err(Failure::new(
                Code::Internal,
                format!("{resource:?} was not loaded"),
            ))
        })
    }

    /// The unfinished steps of an order.
    pub fn steps_of(&self, order_id: OrderId) -> impl Iterator<Item = &StepRow> {
        // `AuthorizePayment` is the first step in sort order.
        let first_step = StepKey {
            order_id,
            step: crate::domain::step::Step::AuthorizePayment,
        };
        self.steps
            .range(first_step..)
            .map(|(_, row)| row)
            .take_while(move |row| row.key.order_id == order_id)
    }
}

/// Whether the result of the attempt in progress of `current_row` schedules what `row` is to do.
fn is_covered_by(row: &StepRow, current_row: &StepRow) -> bool {
    let is_in_progress = !current_row.is_dead && current_row.due_at <= row.due_at;
    is_in_progress && !row.is_dead && row.key.step.collects_or_refunds()
}

/// The row of a step that was scheduled before as `previous_row`. A late result of an earlier attempt does not
/// match its number, and a request that the provider may still be executing keeps its idempotency key.
fn continue_step(row: StepRow, previous_row: &StepRow) -> StepRow {
    let earlier_failures = if row.is_dead {
        previous_row.failures
    } else {
        0
    };
    StepRow {
        attempt: previous_row.attempt + 1,
        failures: earlier_failures + row.failures,
        error_responses: previous_row.error_responses,
        ..row
    }
}

fn key_conflict() -> Failure {
    Failure::new(
        Code::IdempotencyConflict,
        "this idempotency key was used with a different request; use a new key",
    )
}
