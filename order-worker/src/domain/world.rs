//! The working set of a batch: the rows it names, as they are by now. Commands of one batch see
//! what those before them decided.

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

/// What was answered under an idempotency key.
#[derive(Debug, Clone, PartialEq)]
pub struct Recorded {
    /// The digest of the request that was answered.
    pub fingerprint: String,
    /// What the answer is about; a failure is about nothing.
    pub answer: Option<Answer>,
    /// The answer word for word, where it is kept.
    pub outcome: Option<Outcome<Json>>,
}

/// Under which key it is recorded which order is found under an id that was promised for another. No client's
/// key is like it: those begin with a storefront and a pattern.
pub fn stand_in_key(promised: OrderId) -> String {
    format!("promised/{promised}")
}

/// The working set, and what of it has changed since it was loaded.
#[derive(Debug, Clone, Default)]
pub struct WorkingSet {
    /// Orders by id.
    pub orders: HashMap<OrderId, Order>,
    /// Products by sku.
    pub products: HashMap<Sku, Product>,
    /// Their stock.
    pub shelves: ProductStock,
    /// Customers by id.
    pub customers: HashMap<CustomerId, Customer>,
    /// Endpoints by id.
    pub endpoints: HashMap<EndpointId, Endpoint>,
    /// How many endpoints each owner has.
    pub endpoint_counts: HashMap<Option<Storefront>, usize>,
    /// Webhooks by id.
    pub deliveries: HashMap<DeliveryId, Delivery>,
    /// What loaded webhooks tell of and is not kept any more.
    pub forgotten_events: HashSet<EventId>,
    /// Steps of the loaded orders that are not done.
    pub steps: BTreeMap<StepKey, StepRow>,
    /// Earlier answers by idempotency key.
    pub recorded: HashMap<String, Recorded>,
    /// Orders by what another system calls them.
    pub external_ids: HashMap<(Storefront, String), OrderId>,
    /// What the next orders are called.
    pub numbers: VecDeque<i64>,
    /// What has changed.
    pub dirty: ChangeSet,
}

/// What has changed since the world was loaded: this is what gets written.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ChangeSet {
    /// In the order in which they happened.
    pub events: Vec<Event>,
    /// Their orders.
    pub orders: BTreeSet<OrderId>,
    /// Their products.
    pub products: BTreeSet<Sku>,
    /// Shelves that were counted, reserved from or taken from.
    pub shelves: BTreeSet<(Sku, Warehouse)>,
    /// Customers.
    pub customers: BTreeSet<CustomerId>,
    /// Endpoints.
    pub endpoints: BTreeSet<EndpointId>,
    /// Webhooks.
    pub deliveries: BTreeSet<DeliveryId>,
    /// Steps that were put or removed: those in [`WorkingSet::steps`] are there, the others are gone.
    pub steps: BTreeSet<StepKey>,
    /// New answers by idempotency key.
    pub recorded: BTreeSet<String>,
}

impl ChangeSet {
    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl WorkingSet {
    /// Makes `changes` true.
    ///
    /// # Panics
    /// When a shelf would hold less than nothing or promise more than it has, or was not loaded. No
    /// decision leads there; should one, it must not be written.
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

    /// Units move from and to shelves that there are: one that was not loaded must not be written.
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

    /// What was answered under this key before, if it was the same request.
    ///
    /// # Errors
    /// `IDEMPOTENCY_CONFLICT` when it was another request.
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

    /// Whether it is there for this caller at all.
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

    /// The answer as the caller gets it.
    ///
    /// # Errors
    /// `INTERNAL` when the answer is about something that was not loaded: a defect.
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

    /// The steps of an order that are not done.
    pub fn steps_of(&self, order_id: OrderId) -> impl Iterator<Item = &StepRow> {
        // Authorize is the first of the steps in their order.
        let first = StepKey {
            order_id,
            step: super::step::Step::AuthorizePayment,
        };
        self.steps
            .range(first..)
            .map(|(_, row)| row)
            .take_while(move |row| row.key.order_id == order_id)
    }
}
