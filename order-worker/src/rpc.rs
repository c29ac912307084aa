//! RPC requests: lookups and queries use the readers' connections, changes become commands.

mod approval;
mod dispatch;
mod erase;
mod feed;
mod figures;
mod idempotency;
mod import;
mod inspect;
mod read;
mod request_scope;
mod stats;

use std::{
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Instant,
};

use futures_util::{FutureExt, StreamExt, future::Either, stream::FuturesUnordered};
use shared::{
    amqp::{
        connection::Broker,
        consumer::give_back,
        message::Incoming,
        publisher::Replier,
        rpc_server::{
            BatchEntry, EntryReply, Identity, MESSAGE_BYTES, RequestMessage, RpcRequest, requests,
        },
    },
    id::OrderId,
    order::{GetOrder, NotifyPayment},
    outcome::{Code, Failure, RpcReply},
    request::Request,
};
use tokio::time;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use self::feed::FeedNotifier;
use self::{
    dispatch::{DeadLetterRequest, Dispatch, RetryRequest, Task, dispatch},
    idempotency::idempotency,
    import::ImportName,
    read::{read_cursor, visible_storefront, write_cursor},
    request_scope::{RequestScope, TaskOutcome},
};
pub(crate) use self::{idempotency::by_client, import::import};
use crate::{
    crash::{Point, point},
    dead_letters::{CommandContext, DeadLetters},
    domain::command::{Action, Answer, Command, Trust},
    engine::Engine,
    providers::sandbox::Sandbox,
    retries::Retries,
    stats::WorkerStats,
    store::{Store, StoreError},
    task,
    webhooks::url_policy::UrlPolicy,
};

/// Maximum number of unsettled request messages.
const PREFETCH: u16 = 256;

/// Handles requests from the queue.
#[derive(Clone)]
pub struct Rpc {
    /// The database, for reads.
    pub store: Store,
    /// The engine, for changes.
    pub engine: Engine,
    /// Dead letters.
    pub dead_letters: DeadLetters,
    /// Steps that will be retried.
    pub retries: Retries,
    /// Sends replies.
    pub replier: Arc<Replier>,
    /// Notifies of new events.
    pub new_events: FeedNotifier,
    /// Policy for webhook URLs.
    pub url_policy: UrlPolicy,
    /// State of this worker.
    pub worker_stats: WorkerStats,
    /// Optional features.
    pub modes: Modes,
}

/// Optional features.
#[derive(Clone)]
pub struct Modes {
    /// The sandbox, if `POST /demo/reset` is enabled.
    pub demo: Option<Sandbox>,
    /// Whether the debug API is enabled.
    pub debug: bool,
}

impl Rpc {
    /// Handles requests until `stop`; `tasks` tracks those in progress.
    pub async fn run(self, broker: Broker, tasks: TaskTracker, stop: CancellationToken) {
        let mut deliveries = requests(broker, PREFETCH, stop.clone());
        while let Some(Some(delivery)) = stop.run_until_cancelled(deliveries.recv()).await {
            tasks.spawn(self.clone().answer(delivery));
        }
        // Requeued for other workers.
        give_back(deliveries).await;
    }

    /// Handles the requests of a message. Replies that are ready at the same moment are sent together, and none
    /// waits for the slowest.
    async fn answer(self, delivery: Incoming) {
        let (reply_to, entries) = RequestMessage::from(delivery).read();
        let (mut ready, mut looks) = (Vec::new(), Vec::new());
        let (mut commands, mut decided_on) = (Vec::new(), Vec::new());
        let mut tasks = FuturesUnordered::new();
        for BatchEntry {
            correlation_id,
            request,
        } in entries
        {
            let mut request = match request {
                Ok(request) => request,
                Err(failure) => {
                    let reply = Err(failure).into();
                    ready.push(EntryReply {
                        correlation_id,
                        reply,
                    });
                    continue;
                }
            };
            let scope = RequestScope::begin(correlation_id, &mut request);
            let prepared = catch_panic(|| self.prepare(request));
            match prepared.unwrap_or_else(|| Err(internal_error())) {
                Ok(Operation::Command(command, deadline)) => {
                    commands.push((command, deadline));
                    decided_on.push(Some(scope));
                }
                Ok(Operation::Lookup(query)) => looks.push((scope, query)),
                Ok(Operation::Task(asking, task)) => {
                    tasks.push(Either::Left(self.run_task(scope, asking, task)));
                }
                Err(failure) => ready.push(scope.end(Err(failure).into())),
            }
        }
        let mut decisions = self.engine.decide_together(commands);
        let mut replied = Ok(());
        loop {
            if !looks.is_empty() {
                tasks.push(Either::Right(self.look_up(mem::take(&mut looks))));
            }
            // Sends a full reply message before more results are collected.
            let mut room = MESSAGE_BYTES;
            while looks.is_empty()
                && room > 0
                && let Some(Some(done)) = tasks.next().now_or_never()
            {
                let bytes = done.answered.iter().map(EntryReply::bytes).sum();
                room = room.saturating_sub(bytes);
                ready.extend(done.answered);
                looks = done.left;
            }
            if !ready.is_empty() {
                let ready = mem::take(&mut ready);
                replied = replied.and(reply_to.reply(&self.replier, ready).await);
                point(Point::AfterReply);
            }
            if !looks.is_empty() || room == 0 {
                continue;
            }
            tokio::select! {
                Some(decided) = decisions.next() => {
                    ready.extend(decided.into_iter().filter_map(|(place, outcome)| {
                        let reply = outcome.unwrap_or_else(|undecided| Err(undecided.into()).into());
                        Some(decided_on.get_mut(place)?.take()?.end(reply))
                    }));
                }
                Some(done) = tasks.next() => {
                    ready.extend(done.answered);
                    looks = done.left;
                }
                else => break,
            }
        }
        match replied {
            Ok(()) => reply_to.settle().await,
            Err(away) => {
                tracing::warn!(%away, "a request could not be answered");
                reply_to.leave().await;
            }
        }
    }

    /// Turns a request into an operation.
    fn prepare(&self, request: RpcRequest) -> Result<Operation, Failure> {
        if request
            .deadline
            .is_some_and(|deadline| deadline <= Instant::now())
        {
            return Err(Failure::new(
                Code::Timeout,
                "the deadline has passed; nothing was done",
            ));
        }
        let idempotency = idempotency(&request)?;
        let has_name = request.idempotency_key.is_some()
            || matches!(request.identity, Some(Identity::Named(_)));
        let asking = CommandContext {
            caller: request.caller,
            idempotency,
            if_match: request.if_match,
            deadline: request.deadline.map(Into::into),
        };
        Ok(match self.dispatch(request.request)? {
            Dispatch::Command(action) => {
                let deadline = asking.deadline;
                Operation::Command(asking.command(action), deadline)
            }
            Dispatch::Lookup(query) => Operation::Lookup(query),
            Dispatch::Task(Task::Import(request)) if !has_name => Operation::Task(
                CommandContext {
                    idempotency: None,
                    ..asking
                },
                Task::Import(request),
            ),
            Dispatch::Task(task) => Operation::Task(asking, task),
        })
    }

    async fn run_task(
        &self,
        scope: RequestScope,
        asking: CommandContext,
        task: Task,
    ) -> TaskOutcome {
        let reply = AssertUnwindSafe(Box::pin(self.try_task(asking, task))).catch_unwind();
        let reply = reply.await.unwrap_or_else(|_| Err(internal_error()));
        let answered = scope.end(reply.unwrap_or_else(|failure| Err(failure).into()));
        TaskOutcome {
            answered: vec![answered],
            left: Vec::new(),
        }
    }

    async fn try_task(&self, asking: CommandContext, task: Task) -> Result<RpcReply, Failure> {
        let (caller, deadline) = (&asking.caller, asking.deadline);
        Ok(match task {
            Task::Read(query) => self.read(caller, query).await.into(),
            Task::ApproveAll(request) => {
                let approved = self.approve_all(caller, request, deadline);
                task::run(&self.engine, &asking, None, approved).await?
            }
            Task::Erase(customer) => {
                let target = Some(Answer::Customer(customer.id));
                let erased = self.erase_customer(&asking, customer);
                task::run(&self.engine, &asking, target, erased).await?
            }
            Task::Reset => {
                let reset = Box::pin(self.reset(caller));
                task::run(&self.engine, &asking, None, reset).await?
            }
            Task::Import(request) => {
                if let Some(condition) = &asking.if_match {
                    condition.check_untagged()?;
                }
                let name = asking.idempotency.as_ref().map(|name| match name.trust {
                    Trust::Client => ImportName::Key(&name.key),
                    Trust::Message | Trust::FirstDelivery => ImportName::Message(&name.key),
                });
                self.import(caller, request, name, deadline).await.into()
            }
            Task::NotifyPayment(notice) => self.notify_payment(asking, notice).await?,
            Task::Feed(query) => self.events(caller, query, deadline).await.into(),
            Task::DeadLetter(DeadLetterRequest::List(query)) => {
                self.dead_letters.list(caller, &query).await.into()
            }
            Task::DeadLetter(DeadLetterRequest::Redrive(letter)) => {
                self.dead_letters.redrive(asking, &letter).await?
            }
            Task::DeadLetter(DeadLetterRequest::RedriveAll(request)) => {
                let redriven = self.dead_letters.redrive_all(caller, request, deadline);
                task::run(&self.engine, &asking, None, redriven).await?
            }
            Task::Retry(RetryRequest::List(query)) => {
                self.retries.list(caller, &query).await.into()
            }
            Task::Retry(RetryRequest::Redrive(step)) => self.retries.redrive(asking, &step).await?,
            Task::Retry(RetryRequest::RedriveAll(request)) => {
                let redriven = self.retries.redrive_all(caller, request, deadline);
                task::run(&self.engine, &asking, None, redriven).await?
            }
            Task::DeadLetter(DeadLetterRequest::Discard(letter)) => {
                self.dead_letters.discard(asking, &letter).await?
            }
        })
    }

    /// Has the provider asked about the payment, if it is one of an order's.
    async fn notify_payment(
        &self,
        asking: CommandContext,
        NotifyPayment {
            order_id,
            reference,
        }: NotifyPayment,
    ) -> Result<RpcReply, Failure> {
        asking.caller.require_operator()?;
        let found = self.store.order_of_payment(&reference).await;
        let order_id = found.map_err(unreadable)?.or(order_id);
        let order_id = order_id.ok_or_else(|| Failure::not_found("payment", &reference))?;
        let deadline = asking.deadline;
        let command = asking.command(Action::NotifyPayment {
            order_id,
            reference,
        });
        Ok(self.engine.decide(command, deadline).await?)
    }

    /// What a request comes down to.
    fn dispatch(&self, request: Request) -> Result<Dispatch, Failure> {
        let sorted = dispatch(request)?;
        let url = match &sorted {
            Dispatch::Command(Action::CreateEndpoint { new, .. }) => Some(&new.url),
            Dispatch::Command(Action::UpdateEndpoint(update)) => update.url.as_ref(),
            _ => None,
        };
        if let Some(Err(why)) = url.map(|url| self.url_policy.check(url.url())) {
            return Err(Failure::violation("/url", why));
        }
        Ok(sorted)
    }
}

/// An operation to execute.
enum Operation {
    Command(Command, Option<time::Instant>),
    Lookup(GetOrder),
    Task(CommandContext, Task),
}

/// Catches a panic, so that it affects one request only.
fn catch_panic<T>(work: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(work)).ok()
}

/// The reply after a panic; its message is printed to standard error.
fn internal_error() -> Failure {
    Failure::new(Code::Internal, "the request could not be carried out")
}

/// As [`unreadable`], of one order.
fn unreadable_order(id: OrderId, error: StoreError) -> Failure {
    let is_damaged = matches!(error, StoreError::Corrupt(_));
    let mut failure = unreadable(error);
    if is_damaged {
        failure.message = format!("stored data of order {id} can't be read");
    }
    failure
}

/// Nothing was read, and nothing was done.
fn unreadable(error: StoreError) -> Failure {
    tracing::error!(%error, "a read failed");
    error.failure()
}
