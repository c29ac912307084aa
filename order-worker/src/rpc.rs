//! RPC requests from callers: reads use the connections of the readers, changes become commands for the
//! engine.
//!
//! A message may contain several requests. Each gets its own reply as soon as it is ready, and the message is
//! settled after the last reply. `dispatch` decides how a request is executed, `idempotency` derives its
//! idempotency key, and `request_scope` and `request_metrics` record it. The other files execute the requests
//! that are not a single command.

mod api_keys;
mod approve_all;
mod debug;
mod dispatch;
mod erase;
mod feed;
mod idempotency;
mod import;
mod read;
mod request_metrics;
mod request_scope;
mod settings;
mod stats;

use std::{
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Instant,
};

use futures_util::{FutureExt, StreamExt, future::Either, stream::FuturesUnordered};
use jiff::Timestamp;
use shared::{
    amqp::{
        connection::Broker,
        consumer::requeue_all,
        message::Incoming,
        publisher::Replier,
        request_pause::RequestPause,
        rpc_server::{
            BatchEntry, EntryReply, REPLY_MESSAGE_BYTES, RequestMessage, RpcRequest,
            receive_requests,
        },
    },
    id::OrderId,
    order::{GetOrder, NotifyPayment},
    outcome::{Code, Failure, Json, RpcReply},
    request::Request,
    settings::{PartnerKind, PartnerLog, Setting},
};
use tokio::time;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use self::feed::FeedNotifier;
use self::{
    dispatch::{DeadLetterRequest, Dispatch, RetryRequest, Task, dispatch},
    idempotency::{idempotency, message_key},
    import::ImportIdentity,
    read::{read_cursor, visible_storefront, write_cursor},
    request_scope::{RequestScope, TaskOutcome},
};
use crate::{
    background::stats::WorkerStats,
    domain::command::{Action, Command, ResourceRef, ReturnChange},
    engine::{
        Engine,
        task::{self, CommandContext},
    },
    failures::{
        dead_letters::DeadLetters,
        redrive::{FailedSteps, redrive_all},
        retries::Retries,
    },
    providers::sandbox::Sandbox,
    runtime::crash::{Point, crash_at},
    store::{Store, StoreError},
    webhooks::url_policy::UrlPolicy,
};

pub(crate) use self::{idempotency::client_idempotency, import::import, settings::partner_names};

/// Maximum number of unsettled request messages.
const PREFETCH: u16 = 256;

/// Handles the requests of the request queue.
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
    pub feed_notifier: FeedNotifier,
    /// Policy for webhook URLs.
    pub url_policy: UrlPolicy,
    /// State of this worker.
    pub worker_stats: WorkerStats,
    /// Effective configuration.
    pub settings: Arc<EffectiveSettings>,
    /// Optional features.
    pub features: OptionalFeatures,
    /// Pauses this worker's consumer of requests.
    pub request_pause: RequestPause,
}

/// The effective configuration of this worker, and the systems that it calls.
pub struct EffectiveSettings {
    /// Start of the process.
    pub started_at: Timestamp,
    /// Values of the environment variables.
    pub settings: Vec<Setting>,
    /// Names of the systems that are configured.
    pub partner_names: Vec<(PartnerKind, Option<String>)>,
    /// Last calls to them.
    pub partner_log: PartnerLog,
}

/// Optional features.
#[derive(Clone)]
pub struct OptionalFeatures {
    /// The sandbox, if `POST /demo/reset` is enabled.
    pub demo: Option<Sandbox>,
    /// Whether the debug API is enabled.
    pub debug: bool,
}

impl Rpc {
    /// Handles requests until `stop`; `tasks` tracks those in progress.
    pub async fn run(self, broker: Broker, tasks: TaskTracker, stop: CancellationToken) {
        let pause = self.request_pause.clone();
        let mut deliveries = receive_requests(broker, PREFETCH, pause, stop.clone());
        while let Some(Some(delivery)) = stop.run_until_cancelled(deliveries.recv()).await {
            tasks.spawn(self.clone().answer_message(delivery));
        }
        // Requeues received messages for other workers.
        requeue_all(deliveries).await;
    }

    /// Handles the requests of a message. Replies that are ready at the same time are sent together, and no
    /// reply waits for the slowest request.
    async fn answer_message(self, delivery: Incoming) {
        let (reply_to, request_entries) = RequestMessage::from(delivery).read();
        let (mut ready_replies, mut lookups) = (Vec::new(), Vec::new());
        let (mut commands, mut command_scopes) = (Vec::new(), Vec::new());
        let mut running_tasks = FuturesUnordered::new();
        for BatchEntry {
            correlation_id,
            request,
        } in request_entries
        {
            let mut request = match request {
                Ok(request) => request,
                Err(failure) => {
                    let reply = Err(failure).into();
                    ready_replies.push(EntryReply {
                        correlation_id,
                        reply,
                    });
                    continue;
                }
            };
            let request_scope = RequestScope::begin(correlation_id, &mut request);
            let prepared_operation = catch_panic(|| self.prepare_operation(request));
            match prepared_operation.unwrap_or_else(|| Err(internal_error())) {
                Ok(Operation::Command(command, deadline)) => {
                    commands.push((command, deadline));
                    command_scopes.push(Some(request_scope));
                }
                Ok(Operation::Lookup(order_query)) => lookups.push((request_scope, order_query)),
                Ok(Operation::Task(context, task)) => {
                    running_tasks.push(Either::Left(self.run_task(request_scope, context, task)));
                }
                Err(failure) => ready_replies.push(request_scope.end(Err(failure).into())),
            }
        }
        let mut decisions = self.engine.decide_together(commands);
        let mut send_result = Ok(());
        loop {
            if !lookups.is_empty() {
                running_tasks.push(Either::Right(self.look_up(mem::take(&mut lookups))));
            }
            // Sends a full reply message before more results are collected.
            let mut free_bytes = REPLY_MESSAGE_BYTES;
            while lookups.is_empty()
                && free_bytes > 0
                && let Some(Some(task_outcome)) = running_tasks.next().now_or_never()
            {
                let reply_bytes = task_outcome.replies.iter().map(EntryReply::bytes).sum();
                free_bytes = free_bytes.saturating_sub(reply_bytes);
                ready_replies.extend(task_outcome.replies);
                lookups = task_outcome.remaining_lookups;
            }
            if !ready_replies.is_empty() {
                let ready_replies = mem::take(&mut ready_replies);
                send_result = send_result.and(reply_to.reply(&self.replier, ready_replies).await);
                crash_at(Point::AfterReply);
            }
            if !lookups.is_empty() || free_bytes == 0 {
                continue;
            }
            tokio::select! {
                Some(decided_reply) = decisions.next() => {
                    ready_replies.extend(decided_reply.into_iter().filter_map(|(index, outcome)| {
                        let reply = outcome.unwrap_or_else(|error| Err(error.into()).into());
                        Some(command_scopes.get_mut(index)?.take()?.end(reply))
                    }));
                }
                Some(task_outcome) = running_tasks.next() => {
                    ready_replies.extend(task_outcome.replies);
                    lookups = task_outcome.remaining_lookups;
                }
                else => break,
            }
        }
        match send_result {
            Ok(()) => reply_to.ack().await,
            Err(error) => {
                tracing::warn!(%error, "replies could not be sent; the request message is requeued");
                reply_to.requeue().await;
            }
        }
    }

    /// Turns a request into an operation.
    fn prepare_operation(&self, request: RpcRequest) -> Result<Operation, Failure> {
        if request
            .deadline
            .is_some_and(|deadline| deadline <= Instant::now())
        {
            return Err(Failure::new(
                Code::Timeout,
                "the deadline has passed; nothing was done",
            ));
        }
        if request.request.is_for_admins() {
            request.caller.require_admin()?;
        }
        let idempotency = idempotency(&request)?;
        let message_key = match &request.request {
            Request::ImportOrders(_) => message_key(&request),
            _ => None,
        };
        let context = CommandContext {
            caller: request.caller,
            idempotency,
            message_key,
            if_match: request.if_match,
            deadline: request.deadline.map(Into::into),
        };
        Ok(match self.dispatch(request.request)? {
            Dispatch::Command(action) => {
                let deadline = context.deadline;
                Operation::Command(context.command(action), deadline)
            }
            Dispatch::Lookup(query) => Operation::Lookup(query),
            Dispatch::Task(task) => Operation::Task(context, task),
        })
    }

    async fn run_task(
        &self,
        scope: RequestScope,
        context: CommandContext,
        task: Task,
    ) -> TaskOutcome {
        let reply = AssertUnwindSafe(Box::pin(self.try_task(context, task))).catch_unwind();
        let reply = reply.await.unwrap_or_else(|_| Err(internal_error()));
        let reply = scope.end(reply.unwrap_or_else(|failure| Err(failure).into()));
        TaskOutcome {
            replies: vec![reply],
            remaining_lookups: Vec::new(),
        }
    }

    async fn try_task(&self, context: CommandContext, task: Task) -> Result<RpcReply, Failure> {
        let (caller, deadline) = (&context.caller, context.deadline);
        Ok(match task {
            Task::Read(query) => self.read(caller, query).await.into(),
            Task::ApproveAll(request) => {
                let approve_future = self.approve_all(caller, request, deadline);
                task::run(&self.engine, &context, None, approve_future).await?
            }
            Task::Erase(customer) => {
                let erased_resource = Some(ResourceRef::Customer(customer.id));
                let erase_future = self.erase_customer(&context, customer);
                Box::pin(task::run(
                    &self.engine,
                    &context,
                    erased_resource,
                    erase_future,
                ))
                .await?
            }
            Task::Reset => {
                let reset_future = Box::pin(self.reset(caller));
                task::run(&self.engine, &context, None, reset_future).await?
            }
            Task::Import(request) => {
                if let Some(if_match) = &context.if_match {
                    if_match.check_untagged()?;
                }
                task::claim_key(&self.engine, &context).await?;
                let import_identity = context.idempotency.as_ref();
                let import_identity = import_identity.map(|idempotency| ImportIdentity {
                    import_key: &idempotency.key,
                    key_origin: idempotency.key_origin,
                    message_key: context.message_key.as_ref(),
                });
                self.import(caller, request, import_identity, deadline)
                    .await
                    .into()
            }
            Task::ChangeReturn(return_change) => self.change_return(context, return_change).await?,
            Task::NotifyPayment(notification) => self.notify_payment(context, notification).await?,
            Task::Feed(query) => self.events(caller, query, deadline).await.into(),
            Task::DeadLetter(DeadLetterRequest::List(query)) => {
                self.dead_letters.list(caller, &query).await.into()
            }
            Task::DeadLetter(DeadLetterRequest::Redrive(request)) => {
                self.dead_letters.redrive(context, &request).await?
            }
            Task::DeadLetter(DeadLetterRequest::RedriveAll(request)) => {
                let redrive_future = redrive_all(
                    &self.store,
                    &self.engine,
                    caller,
                    request,
                    deadline,
                    FailedSteps::Dead(&self.dead_letters),
                );
                task::run(&self.engine, &context, None, redrive_future).await?
            }
            Task::Retry(RetryRequest::List(query)) => {
                self.retries.list(caller, &query).await.into()
            }
            Task::Retry(RetryRequest::Redrive(step)) => {
                self.retries.redrive(context, &step).await?
            }
            Task::Retry(RetryRequest::RedriveAll(request)) => {
                let redrive_future = redrive_all(
                    &self.store,
                    &self.engine,
                    caller,
                    request,
                    deadline,
                    FailedSteps::Retrying,
                );
                task::run(&self.engine, &context, None, redrive_future).await?
            }
            Task::RecordKeyUse(request) => self.record_key_use(&request).await.into(),
            Task::PauseRequests => {
                caller.require_admin()?;
                self.request_pause.start_pause();
                Json::of(&()).into()
            }
            Task::DeadLetter(DeadLetterRequest::Discard(request)) => {
                self.dead_letters.discard(context, &request).await?
            }
        })
    }

    /// Handles a payment notification: finds the order of the payment, and has the payment checked.
    async fn notify_payment(
        &self,
        context: CommandContext,
        NotifyPayment {
            order_id,
            reference: payment_reference,
        }: NotifyPayment,
    ) -> Result<RpcReply, Failure> {
        context.caller.require_operator()?;
        let order_of_payment = self.store.order_of_payment(&payment_reference).await;
        let order_id = order_of_payment.map_err(read_failure)?.or(order_id);
        let order_id = order_id.ok_or_else(|| Failure::not_found("payment", &payment_reference))?;
        let deadline = context.deadline;
        let command = context.command(Action::NotifyPayment {
            order_id,
            reference: payment_reference,
        });
        Ok(self.engine.decide(command, deadline).await?)
    }

    /// Changes a return: finds its order, and decides the change as a command.
    async fn change_return(
        &self,
        context: CommandContext,
        return_change: ReturnChange,
    ) -> Result<RpcReply, Failure> {
        let order_id = self.store.order_of_return(return_change.id()).await;
        let order_id = order_id.map_err(read_failure)?;
        let deadline = context.deadline;
        let command = context.command(Action::ChangeReturn {
            order_id,
            change: return_change,
        });
        Ok(self.engine.decide(command, deadline).await?)
    }

    /// Dispatches a request, and checks the URL of a webhook endpoint.
    fn dispatch(&self, request: Request) -> Result<Dispatch, Failure> {
        let dispatched_request = dispatch(request)?;
        let endpoint_url = match &dispatched_request {
            Dispatch::Command(Action::CreateEndpoint { new_endpoint, .. }) => {
                Some(&new_endpoint.url)
            }
            Dispatch::Command(Action::UpdateEndpoint(update)) => update.url.as_ref(),
            _ => None,
        };
        if let Some(Err(reason)) =
            endpoint_url.map(|endpoint_url| self.url_policy.check(endpoint_url.url()))
        {
            return Err(Failure::violation("/url", reason));
        }
        Ok(dispatched_request)
    }
}

/// An operation to execute.
enum Operation {
    Command(Command, Option<time::Instant>),
    Lookup(GetOrder),
    Task(CommandContext, Task),
}

/// Catches a panic, so that it affects one request only.
fn catch_panic<T>(function: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(function)).ok()
}

/// The reply after a panic; its message is printed to standard error.
fn internal_error() -> Failure {
    Failure::new(
        Code::Internal,
        "internal error: the request could not be executed",
    )
}

/// The failure of a read of one order; a corrupt row is named.
fn unreadable_order(order_id: OrderId, error: StoreError) -> Failure {
    let is_corrupt = matches!(error, StoreError::Corrupt(_));
    let mut failure = read_failure(error);
    if is_corrupt {
        failure.message = format!("stored data of order {order_id} can't be read");
    }
    failure
}

/// The failure of a read from the database; nothing was done.
fn read_failure(error: StoreError) -> Failure {
    tracing::error!(%error, "database read failed");
    error.failure()
}
