//! What a decision consists of, and the draft that it is written in.

use shared::{
    customer::Customer,
    event::{Event, EventData, Origin},
    id::{OrderId, Storefront},
    outcome::Failure,
};

use super::{
    command::Answer,
    order::Order,
    product::Product,
    stamp::DecisionContext,
    step::{Step, StepKey, StepRow},
    webhook::{Delivery, Endpoint},
};

/// What was decided. A refusal changes nothing: its `changes` are empty.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// What the caller is told.
    pub answer: Result<Answer, Failure>,
    /// What happened.
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

/// What happened: the events, the state they lead to, and the steps that follow.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Changes {
    /// In the order in which they happened.
    pub events: Vec<Event>,
    /// Orders as they are now.
    pub orders: Vec<Order>,
    /// Products as they are now.
    pub products: Vec<Product>,
    /// Customers as they are now.
    pub customers: Vec<Customer>,
    /// Endpoints as they are now.
    pub endpoints: Vec<Endpoint>,
    /// Webhooks as they are now.
    pub deliveries: Vec<Delivery>,
    /// Orders that were promised under an id, and those that are found there instead.
    pub stand_ins: Vec<(OrderId, OrderId)>,
    /// Steps that follow, are put off, or are over.
    pub steps: Vec<StepChange>,
}

/// What becomes of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StepChange {
    /// It is to be done, instead of an earlier row with the same key.
    Put(StepRow),
    /// It is over, if it was there.
    Remove(StepKey),
}

/// A decision about one order, in the making: each fact recorded changes the order at once, so
/// that what follows is decided on what just happened.
pub struct OrderDraft<'a> {
    /// The order as it is by now.
    pub order: Order,
    origin: &'a Origin,
    stamp: &'a mut DecisionContext,
    changes: Changes,
}

impl<'a> OrderDraft<'a> {
    /// A draft that changes `order`.
    pub fn of(order: &Order, origin: &'a Origin, stamp: &'a mut DecisionContext) -> Self {
        Self {
            order: order.clone(),
            origin,
            stamp,
            changes: Changes::default(),
        }
    }

    /// A draft that begins with the order that `created` makes.
    ///
    /// # Errors
    /// `INTERNAL` if the event does not make one: a defect.
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

    /// The stamp, for more ids.
    pub fn stamp(&mut self) -> &mut DecisionContext {
        self.stamp
    }

    /// This happened.
    ///
    /// # Errors
    /// `INTERNAL` if it can't happen to the order: a defect.
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

    /// This is to be done next, now or at `row.due_at`.
    pub fn put(&mut self, row: StepRow) {
        self.changes.steps.push(StepChange::Put(row));
    }

    /// This is to be done now.
    pub fn schedule(&mut self, step: Step) {
        let now = self.stamp.now();
        self.follow_later(step, now);
    }

    /// This is to be done at `due_at`.
    pub fn follow_later(&mut self, step: Step, due_at: jiff::Timestamp) {
        self.schedule_at(step, 1, due_at);
    }

    /// This is to be done at `due_at`, as attempt number `attempt`: another than any that may still be
    /// under way.
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

    /// This needs no doing any more.
    pub fn drop_step(&mut self, step: Step) {
        self.changes.steps.push(StepChange::Remove(StepKey {
            order_id: self.order.id,
            step,
        }));
    }

    /// The decision, answered with the order.
    pub fn decide(self) -> Decision {
        let answer = Ok(Answer::Order(self.order.id));
        let mut changes = self.changes;
        if !changes.events.is_empty() {
            changes.orders.push(self.order);
        }
        Decision { answer, changes }
    }

    /// The decision; nobody is told how the order stands now.
    pub fn done(self) -> Decision {
        Decision {
            answer: Ok(Answer::Done),
            ..self.decide()
        }
    }
}

/// An event of `subject`, decided now.
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
