//! Executes steps from the step queue: reads the order, calls the provider, and submits the result as a
//! command that is decided like any other.
//!
//! A message is acknowledged only after its results are committed. If the worker dies before, the step is
//! repeated under the same idempotency key.
//!
//! [`payment`] and [`shipment`] have a step and its undo step each. `provider_call` is the data of a provider call,
//! `claims` prevents concurrent attempts of a step, `bulkhead` limits the calls to a slow provider, and
//! `report` records traces, logs and metrics.

mod bulkhead;
mod claims;
pub mod message;
mod payment;
mod provider_call;
mod report;
mod shipment;

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures_util::{
    StreamExt,
    future::{join, join_all},
    stream::FuturesUnordered,
};
use shared::{
    amqp::{
        connection::Broker,
        consumer::{Undecodable, consume, requeue_all},
        message::{Incoming, Outgoing},
        publisher::{Publisher, Target},
        topology::{DEAD_LETTER_EXCHANGE, STEP_QUEUE},
    },
    order::{ACCEPT_ORDER, AcceptOrder},
    outcome::{Failure, RpcReply},
    request::{Caller, Request},
    trace,
};
use tokio::{
    sync::Semaphore,
    time::{self, Instant},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{
    bulkhead::Bulkhead,
    claims::{Claim, Claims},
    message::StepMessage,
    provider_call::{DueStep, ProviderCall},
    report::AttemptOutcome,
};
use crate::{
    background::stats::Latencies,
    domain::{
        command::{Action, Command, Idempotency, StepResult},
        step::{StepKey, StepRow},
    },
    engine::{CommitError, Engine},
    providers::{Payments, ProviderError, sandbox::carrier::SandboxCarrier},
    rpc::by_client,
    runtime::crash::{Point, point},
    store::{ById, Store, StoreError},
};

/// Maximum number of unsettled messages, of one or several steps each. A message stays unsettled until the
/// slowest of its steps ends, and a provider that does not answer occupies messages for [`STEP_TIMEOUT`].
/// Steps of other providers, and those without a call, need the rest ([`Bulkhead`]).
const PREFETCH: u16 = 200;
/// Maximum number of steps in progress.
const MAX_STEPS: u32 = 600;
/// Maximum number of messages whose orders are loaded at the same time, which bounds memory use.
const MAX_LOADS: usize = 16;
/// Timeout of a provider call. Together with the wait for a permit, shorter than the lease of a step.
const STEP_TIMEOUT: Duration = Duration::from_secs(20);
/// Delay between attempts while the database is unavailable.
const RETRY_DELAY: Duration = Duration::from_millis(500);
/// Header of a dead letter with the worker's reason.
pub const DEAD_LETTER_REASON: &str = "dead_letter_reason";
/// Maximum time for which a message waits for an unavailable database before it is requeued. Requeueing
/// counts towards the delivery limit of the queue; waiting counts towards the acknowledgement timeout of the
/// broker, 30 minutes by default.
const MAX_DATABASE_WAIT: Duration = Duration::from_mins(10);

/// The payment providers and the carrier.
#[derive(Clone)]
pub struct Providers {
    /// Payment providers.
    pub payments: Payments,
    /// Carrier.
    pub carrier: SandboxCarrier,
}

/// Executes steps from the queue.
#[derive(Clone)]
pub struct Steps {
    store: Store,
    engine: Engine,
    providers: Providers,
    claims: Claims,
    step_permits: Arc<Semaphore>,
    load_permits: Arc<Semaphore>,
    payments: Arc<Bulkhead>,
    publisher: Arc<Publisher>,
    latencies: Latencies,
}

impl Steps {
    /// Creates the executor of steps. `publisher` sends asynchronous orders that can't be stored to the dead
    /// letters, with the reason.
    pub fn new(
        store: Store,
        engine: Engine,
        providers: Providers,
        publisher: Arc<Publisher>,
        latencies: Latencies,
    ) -> Self {
        Self {
            store,
            engine,
            providers,
            claims: Claims::default(),
            step_permits: Arc::new(Semaphore::new(MAX_STEPS as usize)),
            load_permits: Arc::new(Semaphore::new(MAX_LOADS)),
            payments: Arc::new(Bulkhead::new()),
            publisher,
            latencies,
        }
    }

    /// Executes steps until `stop`; `tasks` tracks those in progress, until `abort`.
    pub async fn run(
        self,
        broker: Broker,
        tasks: TaskTracker,
        stop: CancellationToken,
        abort: CancellationToken,
    ) {
        let mut deliveries = consume(
            broker,
            STEP_QUEUE,
            PREFETCH,
            Undecodable::LeaveToDeliveryLimit,
            stop.clone(),
        );
        while let Some(Some(mut delivery)) = stop.run_until_cancelled(deliveries.recv()).await {
            let parsed = (delivery.kind != ACCEPT_ORDER).then(|| StepMessage::read(&delivery));
            let steps = parsed.as_ref().map_or(1, |(messages, _)| messages.len());
            // A message that is delivered alone is acknowledged before its step, which may take 20 s, so that
            // the next one is delivered. If this worker dies, the step is sent again from its row when its
            // lease expires.
            if delivery.is_single && matches!(parsed, Some((_, None))) {
                delivery.receipt.ack_now().await;
            }
            // Further messages are not read before this one has its permits.
            let permits = u32::try_from(steps).unwrap_or(MAX_STEPS).min(MAX_STEPS);
            let permits = Arc::clone(&self.step_permits).acquire_many_owned(permits);
            let Some(Ok(permits)) = stop.run_until_cancelled(permits).await else {
                delivery.receipt.requeue().await;
                break;
            };
            let (steps, abort) = (self.clone(), abort.clone());
            tasks.spawn(abort.run_until_cancelled_owned(async move {
                let _permits = permits;
                match parsed {
                    Some(parsed) => steps.handle(delivery, parsed).await,
                    None => steps.accept(delivery).await,
                }
            }));
        }
        requeue_all(deliveries).await;
    }

    /// Executes all steps of a message concurrently; settles it after the last of them.
    async fn handle(self, delivery: Incoming, (messages, parse_error): message::ParsedSteps) {
        // Steps of which another attempt is in progress here wait for its end, each on its own, so that no
        // message holds one step while it waits for another. A step that was sent twice is found to be done
        // then.
        let (mut claimed, mut waiting) = (Vec::new(), Vec::new());
        for message in messages {
            match self.claims.try_claim(&message.key()) {
                Some(claim) => claimed.push((claim, message)),
                None => waiting.push(self.perform_when_free(message)),
            }
        }
        let (performed, performed_later) = join(self.perform_all(claimed), join_all(waiting)).await;
        let performed = performed_later
            .into_iter()
            .fold(performed, anyhow::Result::and);
        match (performed, parse_error) {
            (Err(error), _) => {
                tracing::warn!(%error, "step result could not be stored; the step is repeated");
                delivery.receipt.requeue().await;
            }
            (Ok(()), Some(error)) => {
                let message_id = &delivery.message_id;
                tracing::warn!(%error, message_id, "step message unreadable; moved to the dead letters");
                delivery.receipt.reject().await;
            }
            (Ok(()), None) => delivery.receipt.ack().await,
        }
    }

    /// Creates an order that was acknowledged asynchronously; the message is settled once it is stored.
    async fn accept(self, delivery: Incoming) {
        let (accept, mut caller, idempotency) = match read_accept(&delivery) {
            Ok(read) => read,
            Err(failure) => {
                let message_id = &delivery.message_id;
                tracing::warn!(%failure, message_id, "asynchronous order unreadable; moved to the dead letters");
                return self.dead_letter(delivery, failure.message).await;
            }
        };
        let (id, request_id) = (accept.id, caller.request_id.clone());
        let mut span =
            trace::consumer_span(STEP_QUEUE, ACCEPT_ORDER, &id, caller.traceparent.as_deref());
        if span.is_recording() {
            span.set_attribute("order.id", id.to_string());
            span.set_attribute("request_id", request_id.clone());
        }
        span.pass_on(&mut caller.traceparent);
        let command = Command::Request {
            caller,
            idempotency,
            if_match: None,
            action: Action::AcceptOrder(accept),
        };
        match self.engine.decide(command, None).await {
            Ok(RpcReply { outcome: Ok(_), .. }) => {
                point(Point::AfterStepStored);
                tracing::info!(order.id = %id, request_id, "order.accept");
                delivery.receipt.ack().await;
            }
            Ok(RpcReply {
                outcome: Err(failure),
                ..
            }) => {
                tracing::error!(%failure, order.id = %id, "asynchronous order could not be stored; moved to the dead letters");
                self.dead_letter(delivery, failure.to_string()).await;
            }
            Err(CommitError::Internal(error)) => {
                tracing::error!(error, order.id = %id, "asynchronous order could not be decided; moved to the dead letters");
                self.dead_letter(delivery, error).await;
            }
            Err(error @ (CommitError::Unavailable(_) | CommitError::OutcomeUnknown(_))) => {
                tracing::warn!(%error, order.id = %id, "asynchronous order not stored yet; its message is requeued");
                time::sleep(RETRY_DELAY).await;
                delivery.receipt.requeue().await;
            }
        }
    }

    /// Performs the step once no other attempt of it is in progress.
    async fn perform_when_free(&self, message: StepMessage) -> anyhow::Result<()> {
        let claim = self.claims.claim(&message.key()).await;
        self.perform_all(vec![(claim, message)]).await
    }

    /// Publishes a message to the dead letters with the reason, which a rejected message can't carry.
    async fn dead_letter(&self, delivery: Incoming, reason: String) {
        let mut headers = delivery.headers.clone();
        headers.insert(DEAD_LETTER_REASON.to_owned(), reason);
        let message = Outgoing {
            kind: Some(delivery.kind.clone()),
            correlation_id: delivery.correlation_id.clone(),
            reply_to: delivery.reply_to.clone(),
            message_id: delivery.message_id.clone(),
            persistent: true,
            headers,
            body: delivery.body.clone(),
            ..Outgoing::default()
        };
        let messages = [(Target::Topic(DEAD_LETTER_EXCHANGE, ""), message)];
        let sent = self.publisher.publish(&messages).await;
        match sent.into_iter().next() {
            Some(Ok(())) => delivery.receipt.ack().await,
            // A dead letter without the reason is better than none.
            _ => delivery.receipt.reject().await,
        }
    }

    /// Performs the steps that are still expected at that attempt; a step that is done has no row any more.
    async fn perform_all(&self, mut claimed: Vec<(Claim, StepMessage)>) -> anyhow::Result<()> {
        let (mut performing, mut outcome) = (FuturesUnordered::new(), Ok(()));
        while !claimed.is_empty() {
            let keys: Vec<_> = claimed
                .iter()
                .map(|(claim, _)| claim.key().clone())
                .collect();
            let loaded = match self.load_due_steps(&keys).await {
                Ok(loaded) => loaded,
                Err(error) => {
                    outcome = Err(error.into());
                    break;
                }
            };
            let was_loaded = |(claim, _): &(Claim, _)| loaded.covers(&claim.key().order_id);
            let (loaded_steps, remaining): (Vec<_>, _) = claimed.into_iter().partition(was_loaded);
            let found = loaded.found.into_iter();
            let mut found: HashMap<_, _> = found.map(|due| (due.row.key.clone(), due)).collect();
            performing.extend(loaded_steps.into_iter().filter_map(|(claim, message)| {
                let due = found.remove(claim.key())?;
                let is_awaited = due.row.attempt == message.attempt && !due.row.is_dead;
                is_awaited.then(|| self.perform(claim, due))
            }));
            claimed = remaining;
        }
        while let Some(performed) = performing.next().await {
            outcome = outcome.and(performed);
        }
        outcome
    }

    async fn perform(&self, _claim: Claim, due: DueStep) -> anyhow::Result<()> {
        let DueStep { row, number, call } = due;
        let mut span = trace::consumer_span(
            STEP_QUEUE,
            row.key.step.kind(),
            &message::StepMessageId(&row),
            row.traceparent.as_deref(),
        );
        let result = self.call_provider(&call).await;
        point(Point::AfterPartner);
        report::record_in_span(&mut span, &row, &result);
        report::log_result(&row, number, &result);
        let outcome = AttemptOutcome::of(&result);
        let finished = match self.finish(&row, result).await {
            // Repeating the step would lead to the same result: the step becomes dead, for an operator.
            Ok(RpcReply {
                outcome: Err(failure),
                ..
            }) => {
                tracing::error!(%failure, "step result refused; the step is dead");
                self.mark_dead(&row, failure.to_string()).await
            }
            Err(error @ CommitError::Internal(_)) => {
                tracing::error!(%error, "the result of a step could not be applied to its order; the step is dead");
                self.mark_dead(&row, error.to_string()).await
            }
            decided => decided.map(drop).map_err(Into::into),
        };
        if finished.is_ok() {
            report::record_metrics(&row, outcome, &self.latencies);
            point(Point::AfterStepStored);
        }
        finished
    }

    /// Calls the provider, if there is a permit.
    async fn call_provider(&self, call: &ProviderCall) -> StepResult {
        let call_result = time::timeout(STEP_TIMEOUT, self.providers.call(call));
        let call_result = if call.uses_payment_provider() {
            self.payments.call(call_result).await
        } else {
            Some(call_result.await)
        };
        match call_result {
            Some(Ok(Ok(result))) => result,
            Some(Ok(Err(error))) => failed(error),
            Some(Err(_)) => failed(ProviderError::Transient(format!(
                "no answer within {STEP_TIMEOUT:?}"
            ))),
            None => StepResult::Postponed {
                reason:
                    "not called: the maximum number of calls to the payment provider is in progress"
                        .to_owned(),
            },
        }
    }

    /// Loads the calls of the steps, up to a size limit; waits for an unavailable database.
    async fn load_due_steps(&self, keys: &[StepKey]) -> Result<ById<Vec<DueStep>>, StoreError> {
        let give_up_at = Instant::now() + MAX_DATABASE_WAIT;
        loop {
            let permit = self.load_permits.acquire().await;
            let read = self.store.steps(keys, DueStep::of).await;
            drop(permit);
            match read {
                Err(error @ (StoreError::Unavailable(_) | StoreError::ReadOnly(_)))
                    if Instant::now() < give_up_at =>
                {
                    tracing::debug!(%error, "database unavailable; steps wait");
                    time::sleep(RETRY_DELAY).await;
                }
                result => return result,
            }
        }
    }

    async fn finish(&self, row: &StepRow, result: StepResult) -> Result<RpcReply, CommitError> {
        let command = Command::Finish {
            key: row.key.clone(),
            attempt: row.attempt,
            result,
        };
        self.engine.finish(command, row.due_at).await
    }

    async fn mark_dead(&self, row: &StepRow, error: String) -> anyhow::Result<()> {
        self.finish(
            row,
            StepResult::Failed {
                error,
                is_transient: false,
                was_answered: false,
            },
        )
        .await?;
        Ok(())
    }
}

/// Parses an asynchronous order. A repeated message is recognized by the order's id, a repeated request by the
/// client's key.
fn read_accept(delivery: &Incoming) -> Result<(AcceptOrder, Caller, Option<Idempotency>), Failure> {
    let (accept, caller, key) = AcceptOrder::read(delivery)?;
    let request = Request::CreateOrder(accept.order.clone());
    let idempotency = key.map(|key| by_client(&caller, &request, None, &key));
    Ok((accept, caller, idempotency.transpose()?))
}

fn failed(error: ProviderError) -> StepResult {
    let (is_transient, was_answered) = match error {
        ProviderError::Transient(_) => (true, false),
        ProviderError::RetryWithNewKey(_) => (true, true),
        ProviderError::Permanent(_) | ProviderError::Declined { .. } => (false, true),
    };
    StepResult::Failed {
        error: error.to_string(),
        is_transient,
        was_answered,
    }
}
