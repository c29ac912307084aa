//! Steps of the flow: each reads, calls a partner, and brings the result back as a command that is
//! decided like any other. Acknowledged only after that decision is committed, so whatever dies in
//! between is tried again, under the same idempotency key.
//!
//! One file a pair of step and undo: [`payment`], [`shipment`]; `call` is what they are asked with, `bulkhead` keeps a partner that does not
//! answer from being in everybody's way, `report` is what others hear of it all.

mod bulkhead;
mod call;
mod claims;
pub mod message;
mod payment;
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
        consumer::{Undecodable, consume, give_back},
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
    call::{Call, Due},
    claims::{Claim, Claims},
    message::StepMessage,
    report::Ending,
};
use crate::{
    crash::{Point, point},
    domain::{
        command::{Action, Command, Idempotency, StepResult},
        step::{StepKey, StepRow},
    },
    engine::{CommitError, Engine},
    providers::{Payments, ProviderError, sandbox::carrier::SandboxCarrier},
    rpc::by_client,
    stats::Latencies,
    store::{ById, Store, StoreError},
};

/// Messages in hand at the same time, each of one step or several: each is in hand as long as the slowest of
/// its steps, and a partner that does not answer has some for as long as [`STEP_TIMEOUT`]. The steps of
/// others, and those that need no partner, must get past them ([`Bulkhead`]).
const PREFETCH: u16 = 200;
/// Maximum number of steps in progress.
const AT_ONCE: u32 = 600;
/// Maximum number of messages whose orders are loaded at the same time, which bounds memory use.
const READING: usize = 16;
/// Timeout of a partner call. Together with the wait for a permit, shorter than the lease of a step.
const STEP_TIMEOUT: Duration = Duration::from_secs(20);
/// Delay between attempts while the database is unavailable.
const PAUSE: Duration = Duration::from_millis(500);
/// The header in which a dead letter carries the reason of the worker.
pub const DEAD_LETTER_REASON: &str = "dead_letter_reason";
/// How long a delivery is held while the database is away, before it goes back to the queue. Going
/// back counts towards the queue's delivery limit; being held counts towards the broker's patience
/// with consumers, half an hour by default.
const HOLD: Duration = Duration::from_mins(10);

/// The partners.
#[derive(Clone)]
pub struct Partners {
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
    partners: Partners,
    claims: Claims,
    at_once: Arc<Semaphore>,
    reading: Arc<Semaphore>,
    payments: Arc<Bulkhead>,
    publisher: Arc<Publisher>,
    latencies: Latencies,
}

impl Steps {
    /// Handles steps over `store`, `engine` and `partners`; orders that can't be accepted go to the dead
    /// letters by `publisher`, with the reason.
    pub fn new(
        store: Store,
        engine: Engine,
        partners: Partners,
        publisher: Arc<Publisher>,
        latencies: Latencies,
    ) -> Self {
        Self {
            store,
            engine,
            partners,
            claims: Claims::default(),
            at_once: Arc::new(Semaphore::new(AT_ONCE as usize)),
            reading: Arc::new(Semaphore::new(READING)),
            payments: Arc::new(Bulkhead::new()),
            publisher,
            latencies,
        }
    }

    /// Executes steps until `stop`; `tasks` tracks those in progress, until `give_up`.
    pub async fn run(
        self,
        broker: Broker,
        tasks: TaskTracker,
        stop: CancellationToken,
        give_up: CancellationToken,
    ) {
        let mut deliveries = consume(
            broker,
            STEP_QUEUE,
            PREFETCH,
            Undecodable::LeaveToDeliveryLimit,
            stop.clone(),
        );
        while let Some(Some(mut delivery)) = stop.run_until_cancelled(deliveries.recv()).await {
            let read = (delivery.kind != ACCEPT_ORDER).then(|| StepMessage::read(&delivery));
            let steps = read.as_ref().map_or(1, |(messages, _)| messages.len());
            // Messages are taken one at a time for now, and a step may take 20 s. Should this worker die, the
            // step is sent again from its row when its lease ends.
            if delivery.is_alone && matches!(read, Some((_, None))) {
                delivery.receipt.ack_now().await;
            }
            // Those behind it wait as they are.
            let room = u32::try_from(steps).unwrap_or(AT_ONCE).min(AT_ONCE);
            let room = Arc::clone(&self.at_once).acquire_many_owned(room);
            let Some(Ok(room)) = stop.run_until_cancelled(room).await else {
                delivery.receipt.requeue().await;
                break;
            };
            let (steps, give_up) = (self.clone(), give_up.clone());
            tasks.spawn(give_up.run_until_cancelled_owned(async move {
                let _room = room;
                match read {
                    Some(read) => steps.handle(delivery, read).await,
                    None => steps.accept(delivery).await,
                }
            }));
        }
        give_back(deliveries).await;
    }

    /// Executes all steps of a message concurrently; settles it after the last of them.
    async fn handle(self, delivery: Incoming, (messages, unreadable): message::Read) {
        // Steps of which another attempt is under way here wait for its end, each on its own, so that no
        // message holds one step while it waits for another. A step that was sent twice is found done then.
        let (mut claimed, mut waiting) = (Vec::new(), Vec::new());
        for message in messages {
            match self.claims.try_claim(&message.key()) {
                Some(claim) => claimed.push((claim, message)),
                None => waiting.push(self.perform_after(message)),
            }
        }
        let (performed, later) = join(self.perform_all(claimed), join_all(waiting)).await;
        let performed = later.into_iter().fold(performed, anyhow::Result::and);
        match (performed, unreadable) {
            (Err(error), _) => {
                tracing::warn!(%error, "a step's result could not be stored; it is done again");
                delivery.receipt.requeue().await;
            }
            (Ok(()), Some(error)) => {
                let message_id = &delivery.message_id;
                tracing::warn!(%error, message_id, "a step can't be read; it goes to the dead letters");
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
                tracing::warn!(%failure, message_id, "an order can't be read; it goes to the dead letters");
                return self.bury(delivery, failure.message).await;
            }
        };
        let (id, request_id) = (accept.id, caller.request_id.clone());
        let mut span =
            trace::processing(STEP_QUEUE, ACCEPT_ORDER, &id, caller.traceparent.as_deref());
        if span.is_recording() {
            span.note("order.id", id.to_string());
            span.note("request_id", request_id.clone());
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
                tracing::error!(%failure, order.id = %id, "an order could not be accepted; it goes to the dead letters");
                self.bury(delivery, failure.to_string()).await;
            }
            Err(CommitError::Internal(error)) => {
                tracing::error!(error, order.id = %id, "an order could not be decided; it goes to the dead letters");
                self.bury(delivery, error).await;
            }
            Err(error @ (CommitError::Unavailable(_) | CommitError::OutcomeUnknown(_))) => {
                tracing::warn!(%error, order.id = %id, "an order waits to be accepted");
                time::sleep(PAUSE).await;
                delivery.receipt.requeue().await;
            }
        }
    }

    /// Performs the step once the attempt that is under way has ended.
    async fn perform_after(&self, message: StepMessage) -> anyhow::Result<()> {
        let claim = self.claims.claim(&message.key()).await;
        self.perform_all(vec![(claim, message)]).await
    }

    /// Sends a message to the dead letters with the reason, which a rejected message can't carry.
    async fn bury(&self, delivery: Incoming, reason: String) {
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
            // Better without the reason than not at all.
            _ => delivery.receipt.reject().await,
        }
    }

    /// Performs those of the steps that are still waited for, at that attempt; those that were done
    /// before are found to be.
    async fn perform_all(&self, mut claimed: Vec<(Claim, StepMessage)>) -> anyhow::Result<()> {
        let (mut performing, mut all) = (FuturesUnordered::new(), Ok(()));
        while !claimed.is_empty() {
            let keys: Vec<_> = claimed
                .iter()
                .map(|(claim, _)| claim.key().clone())
                .collect();
            let read = match self.read(&keys).await {
                Ok(read) => read,
                Err(error) => {
                    all = Err(error.into());
                    break;
                }
            };
            let was_looked_for = |(claim, _): &(Claim, _)| read.covers(&claim.key().order_id);
            let (looked_for, left): (Vec<_>, _) = claimed.into_iter().partition(was_looked_for);
            let found = read.found.into_iter();
            let mut found: HashMap<_, _> = found.map(|due| (due.row.key.clone(), due)).collect();
            performing.extend(looked_for.into_iter().filter_map(|(claim, message)| {
                let due = found.remove(claim.key())?;
                let is_awaited = due.row.attempt == message.attempt && !due.row.is_dead;
                is_awaited.then(|| self.perform(claim, due))
            }));
            claimed = left;
        }
        while let Some(performed) = performing.next().await {
            all = all.and(performed);
        }
        all
    }

    async fn perform(&self, _claim: Claim, due: Due) -> anyhow::Result<()> {
        let Due { row, number, call } = due;
        let mut span = trace::processing(
            STEP_QUEUE,
            row.key.step.kind(),
            &message::Name(&row),
            row.traceparent.as_deref(),
        );
        let result = self.ask(&call).await;
        point(Point::AfterPartner);
        report::note(&mut span, &row, &result);
        report::tell(&row, number, &result);
        let ending = Ending::of(&result);
        let finished = match self.finish(&row, result).await {
            // The same result would fail again: an operator has to look at it.
            Ok(RpcReply {
                outcome: Err(failure),
                ..
            }) => {
                tracing::error!(%failure, "a step's result was refused");
                self.give_up(&row, failure.to_string()).await
            }
            Err(defect @ CommitError::Internal(_)) => {
                tracing::error!(%defect, "a step's result could not be decided");
                self.give_up(&row, defect.to_string()).await
            }
            decided => decided.map(drop).map_err(Into::into),
        };
        if finished.is_ok() {
            report::measure(&row, ending, &self.latencies);
            point(Point::AfterStepStored);
        }
        finished
    }

    /// Makes the partner call, if there is a permit.
    async fn ask(&self, call: &Call) -> StepResult {
        let asked = time::timeout(STEP_TIMEOUT, self.partners.answer(call));
        let answered = if call.is_to_the_provider() {
            self.payments.call(asked).await
        } else {
            Some(asked.await)
        };
        match answered {
            Some(Ok(Ok(result))) => result,
            Some(Ok(Err(error))) => failed(error),
            Some(Err(_)) => failed(ProviderError::Transient(format!(
                "no answer within {STEP_TIMEOUT:?}"
            ))),
            None => StepResult::PutOff {
                why: "not asked: the provider has as many calls to answer as it may have"
                    .to_owned(),
            },
        }
    }

    /// Loads the calls of the steps, up to a size limit; waits for an unavailable database.
    async fn read(&self, keys: &[StepKey]) -> Result<ById<Vec<Due>>, StoreError> {
        let patience = Instant::now() + HOLD;
        loop {
            let turn = self.reading.acquire().await;
            let read = self.store.steps(keys, Due::of).await;
            drop(turn);
            match read {
                Err(error @ (StoreError::Unavailable(_) | StoreError::ReadOnly(_)))
                    if Instant::now() < patience =>
                {
                    tracing::debug!(%error, "steps wait for the database");
                    time::sleep(PAUSE).await;
                }
                told => return told,
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

    async fn give_up(&self, row: &StepRow, error: String) -> anyhow::Result<()> {
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
