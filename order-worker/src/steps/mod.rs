//! Executes steps from the step queue: reads the order, calls the provider, and submits the result as a
//! command that is decided like any other.
//!
//! A message is acknowledged only after its results are committed. If the worker dies before, the step is
//! repeated under the same idempotency key.
//!
//! [`payment`] and [`shipment`] have a step and its undo step each. `provider_call` is the data of a provider
//! call, `claims` prevents concurrent attempts of a step, `bulkhead` limits the calls to a slow provider, and
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
    future::{Either, join, join_all},
    stream::FuturesUnordered,
};
use shared::{
    amqp::{
        connection::Broker,
        consumer::{UndecodableHandling, consume, requeue_all},
        message::{Incoming, OutgoingMessage},
        publisher::{Publisher, Target},
        topology::{DEAD_LETTER_EXCHANGE, STEP_QUEUE},
    },
    id::OrderId,
    order::{ACCEPT_ORDER, AcceptOrder},
    outcome::{Failure, RpcReply},
    request::{Caller, Request},
    settings::{PartnerKind, PartnerLog},
    trace,
};
use tokio::{
    sync::Semaphore,
    time::{self, Instant},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{
    bulkhead::{Bulkhead, MAX_CARRIER_CALLS, MAX_PAYMENT_CALLS},
    claims::{Claim, Claims},
    message::StepMessage,
    provider_call::{CalledProvider, DueStep, ProviderCall},
    report::AttemptOutcome,
};
use crate::{
    background::stats::Latencies,
    domain::{
        command::{Action, Command, Idempotency, StepResult},
        step::{StepKey, StepRow},
    },
    engine::{CommitError, Engine, PendingReplies},
    providers::{Carriers, Payments, ProviderError},
    rpc::client_idempotency,
    runtime::crash::{Point, crash_at},
    store::{LookupByOrderId, Store, StoreError},
};

/// Maximum number of unsettled messages, of one or several steps each. A message stays unsettled until the
/// slowest of its steps ends, and a provider that does not answer occupies messages for [`STEP_TIMEOUT`].
/// Steps of other providers, and those without a call, need the rest ([`Bulkhead`]).
const PREFETCH: u16 = 256;
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

/// The payment providers and the carriers.
#[derive(Clone)]
pub struct Providers {
    /// Payment providers.
    pub payments: Payments,
    /// Carriers.
    pub carriers: Carriers,
}

/// An asynchronous order that was submitted to the engine.
struct SubmittedOrder {
    order_id: OrderId,
    request_id: String,
    /// Ends when the order is stored.
    span: trace::Span,
    pending_reply: PendingReplies,
}

/// Executes steps from the queue.
#[derive(Clone)]
pub struct StepExecutor {
    store: Store,
    engine: Engine,
    providers: Providers,
    claims: Claims,
    step_permits: Arc<Semaphore>,
    load_permits: Arc<Semaphore>,
    payment_bulkhead: Arc<Bulkhead>,
    carrier_bulkhead: Arc<Bulkhead>,
    publisher: Arc<Publisher>,
    latencies: Latencies,
    partner_log: PartnerLog,
}

impl StepExecutor {
    /// Creates the executor of steps. `publisher` sends asynchronous orders that can't be stored to the dead
    /// letters, with the reason.
    pub fn new(
        store: Store,
        engine: Engine,
        providers: Providers,
        publisher: Arc<Publisher>,
        latencies: Latencies,
        partner_log: PartnerLog,
    ) -> Self {
        Self {
            store,
            engine,
            providers,
            claims: Claims::default(),
            step_permits: Arc::new(Semaphore::new(MAX_STEPS as usize)),
            load_permits: Arc::new(Semaphore::new(MAX_LOADS)),
            payment_bulkhead: Arc::new(Bulkhead::new(MAX_PAYMENT_CALLS)),
            carrier_bulkhead: Arc::new(Bulkhead::new(MAX_CARRIER_CALLS)),
            publisher,
            latencies,
            partner_log,
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
            UndecodableHandling::LeaveToDeliveryLimit,
            stop.clone(),
        );
        while let Some(Some(mut delivery)) = stop.run_until_cancelled(deliveries.recv()).await {
            let parsed_steps =
                (delivery.kind != ACCEPT_ORDER).then(|| StepMessage::read(&delivery));
            let step_count = parsed_steps
                .as_ref()
                .map_or(1, |(messages, _)| messages.len());
            // A message that is delivered alone is acknowledged before its step, which may take 20 s, so that
            // the next one is delivered. If this worker dies, the step is sent again from its row when its
            // lease expires.
            if delivery.is_consumed_alone && matches!(parsed_steps, Some((_, None))) {
                delivery.receipt.ack_now().await;
            }
            // Further messages are not read before this one has its permits.
            let permit_count = u32::try_from(step_count)
                .unwrap_or(MAX_STEPS)
                .min(MAX_STEPS);
            let step_permits = Arc::clone(&self.step_permits).acquire_many_owned(permit_count);
            let Some(Ok(step_permits)) = stop.run_until_cancelled(step_permits).await else {
                delivery.receipt.requeue().await;
                break;
            };
            let (executor, abort) = (self.clone(), abort.clone());
            let task = match parsed_steps {
                Some(parsed_steps) => Either::Left(executor.handle(delivery, parsed_steps)),
                None => Either::Right(executor.accept_order(delivery)),
            };
            tasks.spawn(abort.run_until_cancelled_owned(async move {
                let _permits = step_permits;
                task.await;
            }));
        }
        requeue_all(deliveries).await;
    }

    /// Executes all steps of a message concurrently; settles it after the last of them.
    async fn handle(self, delivery: Incoming, (messages, parse_error): message::ParsedSteps) {
        // Steps of which another attempt is in progress here wait for its end, each on its own, so that no
        // message holds one step while it waits for another. A step that was sent twice is found to be done
        // then.
        let (mut claimed_steps, mut waiting_steps) = (Vec::new(), Vec::new());
        for step_message in messages {
            match self.claims.try_claim(&step_message.key()) {
                Some(claim) => claimed_steps.push((claim, step_message)),
                None => waiting_steps.push(self.perform_when_free(step_message)),
            }
        }
        let (claimed_result, waiting_results) =
            join(self.perform_all(claimed_steps), join_all(waiting_steps)).await;
        let overall_result = waiting_results
            .into_iter()
            .fold(claimed_result, anyhow::Result::and);
        match (overall_result, parse_error) {
            (Err(error), _) => {
                tracing::warn!(%error, "steps could not be loaded, or their results not stored; their message is requeued");
                delivery.receipt.requeue().await;
            }
            (Ok(()), Some(error)) => {
                let message_id = &delivery.message_id;
                tracing::warn!(%error, message_id, "a step message can't be decoded; moved it to the dead letters");
                delivery.receipt.reject().await;
            }
            (Ok(()), None) => delivery.receipt.ack().await,
        }
    }

    /// Creates an order that was acknowledged asynchronously. The command is submitted at once, before the next
    /// message is read: of two orders for the last unit, or with one key, the first in the queue is created. The
    /// message is settled by the returned future, once the order is stored.
    fn accept_order(self, delivery: Incoming) -> impl Future<Output = ()> {
        let submitted_order =
            read_accept(&delivery).map(|(accepted_order, caller, idempotency)| {
                self.submit_order(accepted_order, caller, idempotency)
            });
        async move {
            match submitted_order {
                Ok(submitted_order) => self.settle_order(delivery, submitted_order).await,
                Err(failure) => {
                    let message_id = &delivery.message_id;
                    tracing::warn!(%failure, message_id, "an asynchronous order can't be decoded; moved it to the dead letters");
                    self.dead_letter(delivery, failure.message).await;
                }
            }
        }
    }

    fn submit_order(
        &self,
        accepted_order: AcceptOrder,
        mut caller: Caller,
        idempotency: Option<Idempotency>,
    ) -> SubmittedOrder {
        let (order_id, request_id) = (accepted_order.id, caller.request_id.clone());
        let mut span = trace::consumer_span(
            STEP_QUEUE,
            ACCEPT_ORDER,
            &order_id,
            caller.trace_context.as_ref(),
        );
        if span.is_recording() {
            span.set_attribute("order.id", order_id.to_string());
            span.set_attribute("request_id", request_id.clone());
        }
        span.pass_on(&mut caller.trace_context);
        let command = Command::Request {
            caller,
            idempotency,
            if_match: None,
            action: Action::AcceptOrder(accepted_order),
        };
        SubmittedOrder {
            order_id,
            request_id,
            span,
            pending_reply: self.engine.decide_together(vec![(command, None)]),
        }
    }

    /// Settles the message of an order once the order is stored.
    async fn settle_order(self, delivery: Incoming, submitted_order: SubmittedOrder) {
        let SubmittedOrder {
            order_id,
            request_id,
            span: _span,
            pending_reply,
        } = submitted_order;
        match pending_reply.wait_for_only_reply().await {
            Ok(RpcReply { outcome: Ok(_), .. }) => {
                crash_at(Point::AfterStepStored);
                tracing::info!(order.id = %order_id, request_id, "order.accept");
                delivery.receipt.ack().await;
            }
            Ok(RpcReply {
                outcome: Err(failure),
                ..
            }) => {
                tracing::error!(%failure, order.id = %order_id, "an asynchronous order could not be stored; moved it to the dead letters");
                self.dead_letter(delivery, failure.to_string()).await;
            }
            Err(CommitError::Internal(commit_error)) => {
                tracing::error!(error = commit_error, order.id = %order_id, "an asynchronous order could not be decided; moved it to the dead letters");
                self.dead_letter(delivery, commit_error).await;
            }
            Err(commit_error @ (CommitError::Unavailable(_) | CommitError::OutcomeUnknown(_))) => {
                tracing::warn!(error = %commit_error, order.id = %order_id, "an asynchronous order is not stored yet; its message is requeued");
                time::sleep(RETRY_DELAY).await;
                delivery.receipt.requeue().await;
            }
        }
    }

    /// Performs the step once no other attempt of it is in progress.
    async fn perform_when_free(&self, step_message: StepMessage) -> anyhow::Result<()> {
        let claim = self.claims.claim(&step_message.key()).await;
        self.perform_all(vec![(claim, step_message)]).await
    }

    /// Publishes a message to the dead letters with the reason, which a rejected message can't carry.
    async fn dead_letter(&self, delivery: Incoming, reason: String) {
        let mut headers = delivery.headers.clone();
        headers.insert(DEAD_LETTER_REASON.to_owned(), reason);
        let dead_letter_message = OutgoingMessage {
            kind: Some(delivery.kind.clone()),
            correlation_id: delivery.correlation_id.clone(),
            reply_to: delivery.reply_to.clone(),
            message_id: delivery.message_id.clone(),
            persistent: true,
            headers,
            body: delivery.body.clone(),
            ..OutgoingMessage::default()
        };
        let messages = [(Target::Topic(DEAD_LETTER_EXCHANGE, ""), dead_letter_message)];
        let publish_results = self.publisher.publish(&messages).await;
        match publish_results.into_iter().next() {
            Some(Ok(())) => delivery.receipt.ack().await,
            // A dead letter without the reason is better than none.
            _ => delivery.receipt.reject().await,
        }
    }

    /// Performs the steps that are still expected at that attempt; a step that is done has no row any more.
    async fn perform_all(
        &self,
        mut claimed_steps: Vec<(Claim, StepMessage)>,
    ) -> anyhow::Result<()> {
        let (mut steps_in_progress, mut overall_result) = (FuturesUnordered::new(), Ok(()));
        while !claimed_steps.is_empty() {
            let step_keys: Vec<_> = claimed_steps
                .iter()
                .map(|(claim, _)| claim.key().clone())
                .collect();
            let load_result = match self.load_due_steps(&step_keys).await {
                Ok(load_result) => load_result,
                Err(store_error) => {
                    overall_result = Err(store_error.into());
                    break;
                }
            };
            let was_loaded = |(claim, _): &(Claim, _)| load_result.covers(&claim.key().order_id);
            let (loaded_steps, unloaded_steps): (Vec<_>, _) =
                claimed_steps.into_iter().partition(was_loaded);
            let due_steps = load_result.decoded.into_iter();
            let mut due_steps: HashMap<_, _> = due_steps
                .map(|due_step| (due_step.row.key.clone(), due_step))
                .collect();
            steps_in_progress.extend(loaded_steps.into_iter().filter_map(
                |(claim, step_message)| {
                    let due_step = due_steps.remove(claim.key())?;
                    let is_awaited_attempt =
                        due_step.row.attempt == step_message.attempt && !due_step.row.is_dead;
                    is_awaited_attempt.then(|| self.perform(claim, due_step))
                },
            ));
            claimed_steps = unloaded_steps;
        }
        while let Some(step_result) = steps_in_progress.next().await {
            overall_result = overall_result.and(step_result);
        }
        overall_result
    }

    async fn perform(&self, _claim: Claim, due_step: DueStep) -> anyhow::Result<()> {
        let DueStep {
            row,
            order_number,
            call,
        } = due_step;
        let mut span = trace::consumer_span(
            STEP_QUEUE,
            row.key.step.kind(),
            &message::StepMessageId(&row),
            row.trace_context.as_ref(),
        );
        let step_result = self.call_provider(&call).await;
        crash_at(Point::AfterProviderResponse);
        report::record_in_span(&mut span, &row, &step_result);
        report::log_result(&row, order_number, &step_result);
        let outcome = AttemptOutcome::of(&step_result);
        let store_result = match self.submit_result(&row, step_result).await {
            // Repeating the step would lead to the same result: the step becomes dead, for an operator.
            Ok(RpcReply {
                outcome: Err(failure),
                ..
            }) => {
                tracing::error!(%failure, "the result of a step was refused; the step becomes a dead letter");
                self.mark_dead(&row, failure.to_string()).await
            }
            Err(commit_error @ CommitError::Internal(_)) => {
                tracing::error!(error = %commit_error, "the result of a step could not be applied to its order; the step becomes a dead letter");
                self.mark_dead(&row, commit_error.to_string()).await
            }
            decide_result => decide_result.map(drop).map_err(Into::into),
        };
        if store_result.is_ok() {
            report::record_metrics(&row, outcome, &self.latencies);
            crash_at(Point::AfterStepStored);
        }
        store_result
    }

    /// Calls the provider, if there is a permit.
    async fn call_provider(&self, call: &ProviderCall) -> StepResult {
        let call_future = time::timeout(STEP_TIMEOUT, self.providers.call(call));
        let (call_result, callee_name) = match call.callee() {
            CalledProvider::PaymentProvider => (
                self.payment_bulkhead.call(call_future).await,
                "payment provider",
            ),
            // The sandbox's carrier is a part of this process.
            CalledProvider::Carrier if self.providers.carriers.http.is_some() => {
                (self.carrier_bulkhead.call(call_future).await, "carrier")
            }
            CalledProvider::Carrier | CalledProvider::None => (Some(call_future.await), "worker"),
        };
        let step_result = match call_result {
            Some(Ok(Ok(step_result))) => step_result,
            Some(Ok(Err(error))) => failed_result(error),
            Some(Err(_)) => failed_result(ProviderError::Transient(format!(
                "no answer within {STEP_TIMEOUT:?}"
            ))),
            None => StepResult::Postponed {
                reason: format!(
                    "not called: the maximum number of calls to the {callee_name} is in progress"
                ),
            },
        };
        let called_partner = match call.callee() {
            CalledProvider::PaymentProvider => Some(PartnerKind::PaymentProvider),
            CalledProvider::Carrier => Some(PartnerKind::Carrier),
            CalledProvider::None => None,
        };
        match (called_partner, &step_result) {
            (None, _) | (_, StepResult::NoExternalCall | StepResult::Postponed { .. }) => {}
            (Some(called_partner), StepResult::Failed { error, .. }) => {
                self.partner_log.record(called_partner, Err(error));
            }
            (Some(called_partner), _) => self.partner_log.record(called_partner, Ok(())),
        }
        step_result
    }

    /// Loads the calls of the steps, up to a size limit; waits for an unavailable database.
    async fn load_due_steps(
        &self,
        step_keys: &[StepKey],
    ) -> Result<LookupByOrderId<Vec<DueStep>>, StoreError> {
        let give_up_at = Instant::now() + MAX_DATABASE_WAIT;
        loop {
            let load_permit = self.load_permits.acquire().await;
            let loaded_steps = self.store.steps(step_keys, DueStep::of).await;
            drop(load_permit);
            match loaded_steps {
                Err(store_error @ (StoreError::Unavailable(_) | StoreError::Refused(_)))
                    if Instant::now() < give_up_at =>
                {
                    tracing::debug!(error = %store_error, "the database is unavailable; steps wait until it responds");
                    time::sleep(RETRY_DELAY).await;
                }
                other_result => return other_result,
            }
        }
    }

    async fn submit_result(
        &self,
        row: &StepRow,
        step_result: StepResult,
    ) -> Result<RpcReply, CommitError> {
        let finish_command = Command::FinishStep {
            key: row.key.clone(),
            attempt: row.attempt,
            result: step_result,
        };
        self.engine.decide_result(finish_command, row.due_at).await
    }

    async fn mark_dead(&self, row: &StepRow, error_text: String) -> anyhow::Result<()> {
        self.submit_result(
            row,
            StepResult::Failed {
                error: error_text,
                is_transient: false,
                was_answered: false,
                retry_after: None,
            },
        )
        .await?;
        Ok(())
    }
}

/// Parses an asynchronous order. A repeated message is recognized by the order's id, a repeated request by the
/// client's key.
fn read_accept(delivery: &Incoming) -> Result<(AcceptOrder, Caller, Option<Idempotency>), Failure> {
    let (accepted_order, caller, client_key) = AcceptOrder::read(delivery)?;
    let request = Request::CreateOrder(accepted_order.order.clone());
    let idempotency =
        client_key.map(|client_key| client_idempotency(&caller, &request, None, &client_key));
    Ok((accepted_order, caller, idempotency.transpose()?))
}

fn failed_result(provider_error: ProviderError) -> StepResult {
    let (is_transient, was_answered) = match provider_error {
        ProviderError::Transient(_) | ProviderError::RetryAfter { .. } => (true, false),
        ProviderError::RetryWithNewKey(_) => (true, true),
        ProviderError::Permanent(_) | ProviderError::Declined { .. } => (false, true),
    };
    let retry_after = match provider_error {
        ProviderError::RetryAfter { delay, .. } => Some(delay),
        _ => None,
    };
    StepResult::Failed {
        error: provider_error.to_string(),
        is_transient,
        was_answered,
        retry_after,
    }
}
