//! Decisions, and the draft that builds the decision about an order.
//!
//! A [`Decision`] consists of a reply and [`Changes`]: events, changed rows, and steps to schedule. The files
//! of `decide` create decisions; `WorkingSet::apply` applies them. An [`OrderDraft`] applies each recorded
//! event to the order at once.

use shared::{
    customer::Customer,
    event::{Event, EventData, Origin},
    id::{OrderId, Storefront},
    outcome::Failure,
};

use super::{
    api_key::ApiKey,
    command::ResourceRef,
    decision_context::DecisionContext,
    message::Message,
    order::Order,
    product::Product,
    step::{Step, StepKey, StepRow},
    webhook::{Delivery, Endpoint},
};

/// A decision. If it is a refusal, its `changes` are empty.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// The reply.
    pub reply: Result<ResourceRef, Failure>,
    /// The changes.
    pub changes: Changes,
}

impl From<Failure> for Decision {
    fn from(failure: Failure) -> Self {
        Self {
            reply: Err(failure),
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
    /// Changed API keys.
    pub api_keys: Vec<ApiKey>,
    /// Changed webhook deliveries.
    pub deliveries: Vec<Delivery>,
    /// Changed messages to customers.
    pub messages: Vec<Message>,
    /// Ids that were acknowledged asynchronously, each with the existing order that a lookup of the id
    /// returns instead.
    pub order_aliases: Vec<(OrderId, OrderId)>,
    /// Steps to schedule, reschedule or remove.
    pub steps: Vec<StepChange>,
}

/// A change of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StepChange {
    /// Stores the row as it is, replacing a row with the same key.
    Put(StepRow),
    /// Schedules the step, or marks it as dead. If it exists, also if this decision removes it, its attempt
    /// numbers and its idempotency keys at the provider are continued. A capture or refund in progress is left
    /// alone: its result schedules another one for what was added meanwhile, so that no two of them run at the
    /// provider at the same time.
    Schedule(StepRow),
    /// Removes the step, if it exists.
    Remove(StepKey),
}

/// A decision about one order in progress. Each recorded event is applied to the order at once, so that later
/// parts of the decision see its effect.
pub struct OrderDraft<'a> {
    /// The order after the recorded events.
    pub order: Order,
    origin: &'a Origin,
    context: &'a mut DecisionContext,
    changes: Changes,
}

impl<'a> OrderDraft<'a> {
    /// Starts a draft that changes `order`.
    pub fn from_order(order: &Order, origin: &'a Origin, context: &'a mut DecisionContext) -> Self {
        Self {
            order: order.clone(),
            origin,
            context,
            changes: Changes::default(),
        }
    }

    /// Starts a draft with the order that `created_event` makes.
    ///
    /// # Errors
    /// `INTERNAL` if the event does not create an order, which is a defect.
    pub fn from_created(
        created_event: Event,
        origin: &'a Origin,
        context: &'a mut DecisionContext,
    ) -> Result<Self, Failure> {
        let order = Order::from_created(&created_event).map_err(internal_error)?;
        let changes = Changes {
            events: vec![created_event],
            ..Changes::default()
        };
        Ok(Self {
            order,
            origin,
            context,
            changes,
        })
    }

    /// The decision's context, for ids and time.
    pub fn context(&mut self) -> &mut DecisionContext {
        self.context
    }

    /// Records an event.
    ///
    /// # Errors
    /// `INTERNAL` if the event can't be applied to the order, which is a defect.
    pub fn record(&mut self, event_data: EventData) -> Result<(), Failure> {
        let event = new_event(
            self.order.id.to_string(),
            self.order.version + 1,
            Some(self.order.storefront.clone()),
            self.origin,
            event_data,
            self.context,
        );
        self.order.apply(&event).map_err(internal_error)?;
        self.changes.events.push(event);
        Ok(())
    }

    /// Stores `row` as it is, replacing a row with the same key.
    pub fn put_step(&mut self, row: StepRow) {
        self.changes.steps.push(StepChange::Put(row));
    }

    /// Schedules a step now.
    pub fn schedule(&mut self, step: Step) {
        let now = self.context.now();
        self.schedule_later(step, now);
    }

    /// Schedules a step at `due_at`.
    pub fn schedule_later(&mut self, step: Step, due_at: jiff::Timestamp) {
        self.schedule_row(self.new_step_row(step, due_at));
    }

    /// Schedules the step of a new row; see [`StepChange::Schedule`].
    pub fn schedule_row(&mut self, row: StepRow) {
        self.changes.steps.push(StepChange::Schedule(row));
    }

    /// A new row of a step that is due at `due_at`.
    pub fn new_step_row(&self, step: Step, due_at: jiff::Timestamp) -> StepRow {
        StepRow {
            key: StepKey {
                order_id: self.order.id,
                step,
            },
            attempt: 1,
            failures: 0,
            due_at,
            is_dead: false,
            last_error: None,
            request_id: self.origin.request_id.clone(),
            trace_context: self.origin.trace_context.clone(),
            error_responses: 0,
            client_secret: None,
        }
    }

    /// Records a step as dead whose attempts did not fail here: it needs an operator.
    ///
    /// # Errors
    /// When the event can't be applied to the order.
    pub fn record_dead_step(&mut self, step: Step, error_text: String) -> Result<(), Failure> {
        self.record(EventData::StepDead {
            step: step.to_string(),
            error: error_text.clone(),
        })?;
        let now = self.context.now();
        self.schedule_row(StepRow {
            is_dead: true,
            last_error: Some(error_text),
            failures: 1,
            ..self.new_step_row(step, now)
        });
        Ok(())
    }

    /// Removes a step.
    pub fn remove_step(&mut self, step: Step) {
        self.changes.steps.push(StepChange::Remove(StepKey {
            order_id: self.order.id,
            step,
        }));
    }

    /// The decision, with the order as its reply.
    pub fn into_decision(self) -> Decision {
        let reply = Ok(ResourceRef::Order(self.order.id));
        let mut changes = self.changes;
        if !changes.events.is_empty() {
            changes.orders.push(self.order);
        }
        Decision { reply, changes }
    }

    /// The decision, without a reply.
    pub fn into_decision_without_reply(self) -> Decision {
        Decision {
            reply: Ok(ResourceRef::NoContent),
            ..self.into_decision()
        }
    }
}

/// A new event of `subject`.
pub fn new_event(
    subject: String,
    sequence: u64,
    storefront: Option<Storefront>,
    origin: &Origin,
    event_data: EventData,
    context: &mut DecisionContext,
) -> Event {
    Event {
        id: context.new_id(),
        subject,
        sequence,
        time: context.now(),
        storefront,
        origin: origin.clone(),
        event_data,
    }
}

fn internal_error(error: super::order::ReplayError) -> Failure {
    Failure::new(shared::outcome::Code::Internal, error.to_string())
}
