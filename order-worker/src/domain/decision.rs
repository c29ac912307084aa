//! Decisions, and the draft in which a decision about an order is built.

use shared::{
    customer::Customer,
    event::{Event, EventData, Origin},
    id::{OrderId, Storefront},
    outcome::Failure,
};

use super::{
    command::Answer,
    decision_context::DecisionContext,
    order::Order,
    product::Product,
    step::{Step, StepKey, StepRow},
    webhook::{Delivery, Endpoint},
};

/// A decision. If it is a refusal, its `changes` are empty.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// The reply.
    pub answer: Result<Answer, Failure>,
    /// The changes.
    pub changes: Changes,
}

impl From<Failure> for Decision {
    fn from(failure: Failure) -> Self {
        Self {
            answer: Err(failure),
            changes: Changes::default(),
        }
    }
}

/// Changes of a decision: events, the resulting states, and steps to schedule.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Changes {
    /// Events in order.
    pub events: Vec<Event>,
    /// Changed orders.
    pub orders: Vec<Order>,
    /// Changed products.
    pub products: Vec<Product>,
    /// Changed customers.
    pub customers: Vec<Customer>,
    /// Changed endpoints.
    pub endpoints: Vec<Endpoint>,
    /// Changed deliveries.
    pub deliveries: Vec<Delivery>,
    /// Ids of asynchronous orders, and the orders that they refer to instead.
    pub stand_ins: Vec<(OrderId, OrderId)>,
    /// Steps to schedule, reschedule or remove.
    pub steps: Vec<StepChange>,
}

/// A change of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StepChange {
    /// Schedules the step, replacing a row with the same key.
    Put(StepRow),
    /// Removes the step, if it exists.
    Remove(StepKey),
}

/// A decision about one order in progress. Each recorded event is applied to the order at once, so that later
/// parts of the decision see its effect.
pub struct OrderDraft<'a> {
    /// The order after the recorded events.
    pub order: Order,
    origin: &'a Origin,
    stamp: &'a mut DecisionContext,
    changes: Changes,
}

impl<'a> OrderDraft<'a> {
    /// Starts a draft that changes `order`.
    pub fn of(order: &Order, origin: &'a Origin, stamp: &'a mut DecisionContext) -> Self {
        Self {
            order: order.clone(),
            origin,
            stamp,
            changes: Changes::default(),
        }
    }

    /// Starts a draft with the order that `created` makes.
    ///
    /// # Errors
    /// `INTERNAL` if the event does not create an order, which is a defect.
    pub fn from_created(
        created: Event,
        origin: &'a Origin,
        stamp: &'a mut DecisionContext,
    ) -> Result<Self, Failure> {
        let order = Order::from_created(&created).map_err(defect)?;
        let changes = Changes {
            events: vec![created],
            ..Changes::default()
        };
        Ok(Self {
            order,
            origin,
            stamp,
            changes,
        })
    }

    /// The decision's context, for ids and time.
    pub fn stamp(&mut self) -> &mut DecisionContext {
        self.stamp
    }

    /// Records an event.
    ///
    /// # Errors
    /// `INTERNAL` if the event can't be applied to the order, which is a defect.
    pub fn record(&mut self, fact: EventData) -> Result<(), Failure> {
        let event = event(
            self.order.id.to_string(),
            self.order.version + 1,
            Some(self.order.storefront.clone()),
            self.origin,
            fact,
            self.stamp,
        );
        self.order.apply(&event).map_err(defect)?;
        self.changes.events.push(event);
        Ok(())
    }

    /// Schedules a step at `row.due_at`.
    pub fn put(&mut self, row: StepRow) {
        self.changes.steps.push(StepChange::Put(row));
    }

    /// Schedules a step now.
    pub fn schedule(&mut self, step: Step) {
        let now = self.stamp.now();
        self.follow_later(step, now);
    }

    /// Schedules a step at `due_at`.
    pub fn follow_later(&mut self, step: Step, due_at: jiff::Timestamp) {
        self.schedule_at(step, 1, due_at);
    }

    /// Schedules a step at `due_at` as attempt `attempt`, which must differ from any attempt in progress.
    pub fn schedule_at(&mut self, step: Step, attempt: u32, due_at: jiff::Timestamp) {
        self.put(self.row(step, attempt, due_at));
    }

    /// A step that is due at `due_at`, as attempt number `attempt`.
    pub fn row(&self, step: Step, attempt: u32, due_at: jiff::Timestamp) -> StepRow {
        StepRow {
            key: StepKey {
                order_id: self.order.id,
                step,
            },
            attempt,
            failures: 0,
            due_at,
            is_dead: false,
            last_error: None,
            request_id: self.origin.request_id.clone(),
            traceparent: self.origin.traceparent.clone(),
            answered: 0,
            client_secret: None,
        }
    }

    /// This is left to an operator since `since`, because of `error`.
    pub fn put_dead(&mut self, step: Step, since: jiff::Timestamp, error: String) {
        self.put(StepRow {
            is_dead: true,
            last_error: Some(error),
            failures: 1,
            ..self.row(step, 1, since)
        });
    }

    /// Removes a step.
    pub fn drop_step(&mut self, step: Step) {
        self.changes.steps.push(StepChange::Remove(StepKey {
            order_id: self.order.id,
            step,
        }));
    }

    /// The decision, with the order as its reply.
    pub fn decide(self) -> Decision {
        let answer = Ok(Answer::Order(self.order.id));
        let mut changes = self.changes;
        if !changes.events.is_empty() {
            changes.orders.push(self.order);
        }
        Decision { answer, changes }
    }

    /// The decision, without a reply.
    pub fn done(self) -> Decision {
        Decision {
            answer: Ok(Answer::Done),
            ..self.decide()
        }
    }
}

/// A new event of `subject`.
pub fn event(
    subject: String,
    sequence: u64,
    storefront: Option<Storefront>,
    origin: &Origin,
    fact: EventData,
    stamp: &mut DecisionContext,
) -> Event {
    Event {
        id: stamp.id(),
        subject,
        sequence,
        time: stamp.now(),
        storefront,
        origin: origin.clone(),
        fact,
    }
}

fn defect(misfit: super::order::ReplayError) -> Failure {
    Failure::new(shared::outcome::Code::Internal, misfit.to_string())
}
