//! The working set of a batch: the loaded rows with the changes made so far. Each command sees the decisions of
//! those before it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};

use serde_json::json;
use shared::{
    customer::Customer,
    event::{Event, EventData},
    id::{CustomerId, DeliveryId, EndpointId, EventId, OrderId, Sku, Storefront, Warehouse},
    order::StockItem,
    outcome::{Code, Failure, Json, Outcome},
    request::Caller,
};

use super::{
    command::{Answer, Idempotency, Trust},
    decision::{Changes, StepChange},
    order::Order,
    product::Product,
    step::{StepKey, StepRow},
    stock::{ProductStock, WarehouseStock},
    webhook::{Delivery, Endpoint},
};

/// An idempotency record.
#[derive(Debug, Clone, PartialEq)]
pub struct Recorded {
    /// Digest of the request.
    pub fingerprint: String,
    /// The resource of the reply; `None` for a failure.
    pub answer: Option<Answer>,
    /// The reply verbatim, where it is stored.
    pub outcome: Option<Outcome<Json>>,
}

/// Key of the record that maps the id of an asynchronous order to the order that exists instead. Differs from
/// all client keys, which start with a storefront and a pattern.
pub fn stand_in_key(promised: OrderId) -> String {
    format!("promised/{promised}")
}

/// The loaded rows, and what has changed since they were loaded.
#[derive(Debug, Clone, Default)]
pub struct WorkingSet {
    /// Orders by id.
    pub orders: HashMap<OrderId, Order>,
    /// Products by SKU.
    pub products: HashMap<Sku, Product>,
    /// Stock levels of these products.
    pub shelves: ProductStock,
    /// Customers by id.
    pub customers: HashMap<CustomerId, Customer>,
    /// Webhook endpoints by id.
    pub endpoints: HashMap<EndpointId, Endpoint>,
    /// Number of endpoints by owner.
    pub endpoint_counts: HashMap<Option<Storefront>, usize>,
    /// Webhook deliveries by id.
    pub deliveries: HashMap<DeliveryId, Delivery>,
    /// Events of loaded deliveries that have been removed.
    pub forgotten_events: HashSet<EventId>,
    /// Unfinished steps of the loaded orders.
    pub steps: BTreeMap<StepKey, StepRow>,
    /// Idempotency records by key.
    pub recorded: HashMap<String, Recorded>,
    /// Orders by external id.
    pub external_ids: HashMap<(Storefront, String), OrderId>,
    /// Next order numbers.
    pub numbers: VecDeque<i64>,
    /// What has changed.
    pub dirty: ChangeSet,
}

/// What has changed since the rows were loaded, and has to be written.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ChangeSet {
    /// Events in order.
    pub events: Vec<Event>,
    /// Changed orders.
    pub orders: BTreeSet<OrderId>,
    /// Changed products.
    pub products: BTreeSet<Sku>,
    /// Changed stock levels.
    pub shelves: BTreeSet<(Sku, Warehouse)>,
    /// Changed customers.
    pub customers: BTreeSet<CustomerId>,
    /// Changed endpoints.
    pub endpoints: BTreeSet<EndpointId>,
    /// Changed deliveries.
    pub deliveries: BTreeSet<DeliveryId>,
    /// Scheduled or removed steps: those in [`WorkingSet::steps`] exist, the others are removed.
    pub steps: BTreeSet<StepKey>,
    /// New idempotency records.
    pub recorded: BTreeSet<String>,
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
            match &event.fact {
                EventData::OrderCreated(_) => {
                    self.numbers.pop_front();
                }
                EventData::StockReserved { items } => self.move_stock(items, 0, 1),
                EventData::StockReleased { items, .. } => self.move_stock(items, 0, -1),
                EventData::ShipmentShipped { items, .. } => self.move_stock(items, -1, -1),
                EventData::ShipmentReturned { items, .. } => self.move_stock(items, 1, 0),
                EventData::StockAdjusted {
                    sku,
                    warehouse,
                    on_hand,
                    ..
                } => {
                    self.change_shelf(sku, warehouse, |shelf| shelf.on_hand = *on_hand);
                }
                _ => {}
            }
        }
        for order in changes.orders {
            self.dirty.orders.insert(order.id);
            if let Some(external_id) = &order.external_id {
                let name = (order.storefront.clone(), external_id.clone());
                self.external_ids.insert(name, order.id);
            }
            self.orders.insert(order.id, order);
        }
        for product in changes.products {
            self.dirty.products.insert(product.details.sku.clone());
            self.products.insert(product.details.sku.clone(), product);
        }
        for customer in changes.customers {
            self.dirty.customers.insert(customer.id);
            self.customers.insert(customer.id, customer);
        }
        for endpoint in changes.endpoints {
            self.dirty.endpoints.insert(endpoint.id);
            self.endpoints.insert(endpoint.id, endpoint);
        }
        for delivery in changes.deliveries {
            self.dirty.deliveries.insert(delivery.id);
            self.deliveries.insert(delivery.id, delivery);
        }
        for (promised, order) in changes.stand_ins {
            let key = stand_in_key(promised);
            self.dirty.recorded.insert(key.clone());
            let recorded = Recorded {
                fingerprint: String::new(),
                answer: Some(Answer::Order(order)),
                outcome: None,
            };
            self.recorded.insert(key, recorded);
        }
        for step in changes.steps {
            let key = match step {
                StepChange::Put(row) => {
                    let key = row.key.clone();
                    self.steps.insert(key.clone(), row);
                    key
                }
                StepChange::Remove(key) => {
                    self.steps.remove(&key);
                    key
                }
            };
            self.dirty.steps.insert(key);
        }
        self.dirty.events.extend(changes.events);
    }

    fn move_stock(&mut self, items: &[StockItem], on_hand: i64, reserved: i64) {
        for StockItem {
            sku,
            warehouse,
            quantity,
        } in items
        {
            let quantity = i64::from(quantity.get());
            assert!(
                self.known_shelf(sku, warehouse),
                "{sku} in {warehouse} is not loaded"
            );
            self.change_shelf(sku, warehouse, |shelf| {
                shelf.on_hand += on_hand * quantity;
                shelf.reserved += reserved * quantity;
            });
        }
    }

    /// Checks that a stock level was loaded, since one that was not must not be written.
    fn known_shelf(&self, sku: &Sku, warehouse: &Warehouse) -> bool {
        let shelves = self.shelves.get(sku);
        shelves.is_some_and(|shelves| shelves.contains_key(warehouse))
    }

    fn change_shelf(
        &mut self,
        sku: &Sku,
        warehouse: &Warehouse,
        change: impl FnOnce(&mut WarehouseStock),
    ) {
        let shelf = self
            .shelves
            .entry(sku.clone())
            .or_default()
            .entry(warehouse.clone())
            .or_default();
        change(shelf);
        assert!(shelf.is_sound(), "{sku} in {warehouse}: {shelf:?}");
        self.dirty.shelves.insert((sku.clone(), warehouse.clone()));
    }

    /// The recorded result of this key, if the request was the same.
    ///
    /// # Errors
    /// `IDEMPOTENCY_CONFLICT` when it was a different request.
    pub fn answered_before(
        &self,
        idempotency: &Idempotency,
    ) -> Result<Option<Result<Json, Failure>>, Failure> {
        let known = self.recorded.get(&idempotency.key);
        let Some(recorded) = known.filter(|_| idempotency.trust != Trust::FirstDelivery) else {
            return Ok(None);
        };
        if recorded.fingerprint != idempotency.fingerprint {
            return Err(Failure::new(
                Code::IdempotencyConflict,
                "this idempotency key was used with a different request",
            ));
        }
        match (&recorded.outcome, &recorded.answer) {
            (Some(outcome), _) => Ok(Some(outcome.clone().into())),
            (None, Some(answer)) => Ok(Some(self.render(answer))),
            (None, None) => Ok(None),
        }
    }

    /// Whether a task under this key has begun and is not over.
    pub fn has_begun(&self, idempotency: &Idempotency) -> bool {
        let known = self.recorded.get(&idempotency.key);
        known.is_some_and(|recorded| recorded.answer.is_none() && recorded.outcome.is_none())
    }

    /// Records that a task under this key has begun: there is no answer yet.
    pub fn begin(&mut self, idempotency: &Idempotency) {
        let recorded = Recorded {
            fingerprint: idempotency.fingerprint.clone(),
            answer: None,
            outcome: None,
        };
        self.recorded.insert(idempotency.key.clone(), recorded);
        self.dirty.recorded.insert(idempotency.key.clone());
    }

    /// Keeps what was answered. A failure is kept only under a client's own key: it changed
    /// nothing, so a redelivered request may as well be decided again. A defect of ours is no
    /// answer to keep.
    pub fn record(
        &mut self,
        idempotency: &Idempotency,
        answer: Option<Answer>,
        outcome: &Result<Json, Failure>,
    ) {
        let keeps_answer = idempotency.trust == Trust::Client;
        let is_defect = matches!(outcome, Err(failure) if failure.code == Code::Internal);
        if is_defect || (answer.is_none() && !keeps_answer) {
            return;
        }
        let recorded = Recorded {
            fingerprint: idempotency.fingerprint.clone(),
            answer,
            outcome: keeps_answer.then(|| outcome.clone().into()),
        };
        self.recorded.insert(idempotency.key.clone(), recorded);
        self.dirty.recorded.insert(idempotency.key.clone());
    }

    /// Whether the resource is visible to the caller.
    pub fn is_visible(&self, answer: &Answer, caller: &Caller) -> bool {
        match answer {
            Answer::Order(id) => {
                let order = self.orders.get(id);
                order.is_some_and(|order| caller.may_see(&order.storefront))
            }
            Answer::Product(sku) => self.products.contains_key(sku),
            Answer::Customer(id) => {
                let customer = self.customers.get(id);
                customer.is_some_and(|customer| caller.may_see(&customer.storefront))
            }
            Answer::Endpoint(id) | Answer::EndpointSecret(id) => {
                let endpoint = self.endpoints.get(id);
                endpoint.is_some_and(|endpoint| endpoint.is_managed_by(caller))
            }
            Answer::Delivery(id) => {
                let delivery = self.deliveries.get(id);
                delivery.is_some_and(|delivery| {
                    self.is_visible(&Answer::Endpoint(delivery.endpoint_id), caller)
                })
            }
            Answer::Imported { .. } | Answer::Done => true,
        }
    }

    /// Renders the reply for the caller.
    ///
    /// # Errors
    /// `INTERNAL` when the resource was not loaded, which is a defect.
    pub fn render(&self, answer: &Answer) -> Result<Json, Failure> {
        let rendered = match answer {
            Answer::Order(id) => self
                .orders
                .get(id)
                .map(|order| Json::of(&order.represent(self.steps_of(*id)))),
            Answer::Product(sku) => self
                .products
                .get(sku)
                .map(|product| Json::of(&product.represent(self.shelves.get(sku)))),
            Answer::Customer(id) => self.customers.get(id).map(Json::of),
            Answer::Endpoint(id) => {
                let endpoint = self.endpoints.get(id);
                endpoint.map(|endpoint| Json::of(&endpoint.represent(false)))
            }
            Answer::EndpointSecret(id) => {
                let endpoint = self.endpoints.get(id);
                endpoint.map(|endpoint| Json::of(&endpoint.represent(true)))
            }
            Answer::Delivery(id) => {
                let delivery = self.deliveries.get(id);
                delivery.map(|delivery| Json::of(&delivery.represent()))
            }
            Answer::Imported { id, is_duplicate } => {
                Some(Json::of(&json!({"id": id, "is_duplicate": is_duplicate})))
            }
            Answer::Done => Some(Json::of(&())),
        };
        rendered.unwrap_or_else(|| {
            Err(Failure::new(
                Code::Internal,
                format!("{answer:?} is not loaded"),
            ))
        })
    }

    /// The unfinished steps of an order.
    pub fn steps_of(&self, order_id: OrderId) -> impl Iterator<Item = &StepRow> {
        // Authorize is the first step in sort order.
        let first = StepKey {
            order_id,
            step: crate::domain::step::Step::AuthorizePayment,
        };
        self.steps
            .range(first..)
            .map(|(_, row)| row)
            .take_while(move |row| row.key.order_id == order_id)
    }
}
