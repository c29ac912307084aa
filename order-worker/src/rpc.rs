//! Requests from callers: reads go to the readers' connections, the rest becomes commands.

mod approval;
mod doing;
mod erase;
mod feed;
mod figures;
mod idempotency;
mod import;
mod inspect;
mod read;
mod sort;
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
        rpc_server::{Answered, Asked, Delivered, Identity, MESSAGE_BYTES, Question, requests},
    },
    id::OrderId,
    order::{GetOrder, NotifyPayment},
    outcome::{Code, Failure, Told},
    request::Request,
};
use tokio::time;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use self::feed::News;
use self::{
    doing::{Doing, Done},
    idempotency::idempotency,
    import::ImportName,
    read::{read_cursor, visible_storefront, write_cursor},
    sort::{DeadLetterRequest, Errand, RetryRequest, Sorted, sort},
};
pub(crate) use self::{idempotency::by_client, import::import};
use crate::{
    crash::{Point, point},
    dead_letters::{Asking, DeadLetters},
    domain::command::{Action, Answer, Command, Trust},
    engine::Engine,
    providers::sandbox::Sandbox,
    retries::Retries,
    stats::Insight,
    store::{Store, StoreError},
    task,
    webhooks::guard::Guard,
};

/// Messages in hand at the same time, each of one request or many.
const PREFETCH: u16 = 256;

/// Answers requests from the queue.
#[derive(Clone)]
pub struct Rpc {
    /// Where reads go.
    pub store: Store,
    /// Where the rest goes.
    pub engine: Engine,
    /// What could not be done.
    pub dead_letters: DeadLetters,
    /// What will be tried again.
    pub retries: Retries,
    /// Sends answers.
    pub replier: Arc<Replier>,
    /// What readers of the feed wait for.
    pub news: News,
    /// Where webhooks may go.
    pub guard: Guard,
    /// How this worker is getting on.
    pub insight: Insight,
    /// What is there only when it is asked for.
    pub modes: Modes,
}

/// What is there only when it is asked for.
#[derive(Clone)]
pub struct Modes {
    /// Everything may be undone: here, too.
    pub demo: Option<Sandbox>,
    /// The data may be seen as it is.
    pub debug: bool,
}

impl Rpc {
    /// Takes requests until `stop`; `tasks` tracks those in hand.
    pub async fn run(self, broker: Broker, tasks: TaskTracker, stop: CancellationToken) {
        let mut deliveries = requests(broker, PREFETCH, stop.clone());
        while let Some(Some(delivery)) = stop.run_until_cancelled(deliveries.recv()).await {
            tasks.spawn(self.clone().answer(delivery));
        }
        // Another worker has them answered in time.
        give_back(deliveries).await;
    }

    /// Answers all that a message asks: what is answered at the same moment goes back together, and
    /// nobody waits for the slowest.
    async fn answer(self, delivery: Incoming) {
        let (asker, questions) = Delivered::from(delivery).read();
        let (mut ready, mut looks) = (Vec::new(), Vec::new());
        let (mut commands, mut decided_on) = (Vec::new(), Vec::new());
        let mut errands = FuturesUnordered::new();
        for Question { whose, asked } in questions {
            let mut asked = match asked {
                Ok(asked) => asked,
                Err(failure) => {
                    let told = Err(failure).into();
                    ready.push(Answered { whose, told });
                    continue;
                }
            };
            let doing = Doing::begin(whose, &mut asked);
            let prepared = harmless(|| self.prepare(asked));
            match prepared.unwrap_or_else(|| Err(defect())) {
                Ok(Work::Command(command, deadline)) => {
                    commands.push((command, deadline));
                    decided_on.push(Some(doing));
                }
                Ok(Work::Look(query)) => looks.push((doing, query)),
                Ok(Work::Errand(asking, errand)) => {
                    errands.push(Either::Left(self.run_errand(doing, asking, errand)));
                }
                Err(failure) => ready.push(doing.end(Err(failure).into())),
            }
        }
        let mut decisions = self.engine.decide_together(commands);
        let mut replied = Ok(());
        loop {
            if !looks.is_empty() {
                errands.push(Either::Right(self.look_up(mem::take(&mut looks))));
            }
            // What fills a message is told before there is more.
            let mut room = MESSAGE_BYTES;
            while looks.is_empty()
                && room > 0
                && let Some(Some(done)) = errands.next().now_or_never()
            {
                let bytes = done.answered.iter().map(Answered::bytes).sum();
                room = room.saturating_sub(bytes);
                ready.extend(done.answered);
                looks = done.left;
            }
            if !ready.is_empty() {
                let ready = mem::take(&mut ready);
                replied = replied.and(asker.reply(&self.replier, ready).await);
                point(Point::AfterReply);
            }
            if !looks.is_empty() || room == 0 {
                continue;
            }
            tokio::select! {
                Some(decided) = decisions.next() => {
                    ready.extend(decided.into_iter().filter_map(|(place, outcome)| {
                        let told = outcome.unwrap_or_else(|undecided| Err(undecided.into()).into());
                        Some(decided_on.get_mut(place)?.take()?.end(told))
                    }));
                }
                Some(done) = errands.next() => {
                    ready.extend(done.answered);
                    looks = done.left;
                }
                else => break,
            }
        }
        match replied {
            Ok(()) => asker.settle().await,
            Err(away) => {
                tracing::warn!(%away, "a request could not be answered");
                asker.leave().await;
            }
        }
    }

    /// What there is to do.
    fn prepare(&self, asked: Asked) -> Result<Work, Failure> {
        if asked
            .deadline
            .is_some_and(|deadline| deadline <= Instant::now())
        {
            return Err(Failure::new(
                Code::Timeout,
                "the deadline has passed; nothing was done",
            ));
        }
        let idempotency = idempotency(&asked)?;
        let has_name =
            asked.idempotency_key.is_some() || matches!(asked.identity, Some(Identity::Named(_)));
        let asking = Asking {
            caller: asked.caller,
            idempotency,
            if_match: asked.if_match,
            deadline: asked.deadline.map(Into::into),
        };
        Ok(match self.sort(asked.request)? {
            Sorted::Change(action) => {
                let deadline = asking.deadline;
                Work::Command(asking.command(action), deadline)
            }
            Sorted::Look(query) => Work::Look(query),
            Sorted::Errand(Errand::Import(request)) if !has_name => Work::Errand(
                Asking {
                    idempotency: None,
                    ..asking
                },
                Errand::Import(request),
            ),
            Sorted::Errand(errand) => Work::Errand(asking, errand),
        })
    }

    async fn run_errand(&self, doing: Doing, asking: Asking, errand: Errand) -> Done {
        let told = AssertUnwindSafe(Box::pin(self.try_errand(asking, errand))).catch_unwind();
        let told = told.await.unwrap_or_else(|_| Err(defect()));
        let answered = doing.end(told.unwrap_or_else(|failure| Err(failure).into()));
        Done {
            answered: vec![answered],
            left: Vec::new(),
        }
    }

    async fn try_errand(&self, asking: Asking, errand: Errand) -> Result<Told, Failure> {
        let (caller, deadline) = (&asking.caller, asking.deadline);
        Ok(match errand {
            Errand::Read(query) => self.read(caller, query).await.into(),
            Errand::ApproveAll(request) => {
                let approved = self.approve_all(caller, request, deadline);
                task::run(&self.engine, &asking, None, approved).await?
            }
            Errand::Erase(customer) => {
                let target = Some(Answer::Customer(customer.id));
                let erased = self.erase_customer(&asking, customer);
                task::run(&self.engine, &asking, target, erased).await?
            }
            Errand::Reset => {
                let reset = Box::pin(self.reset(caller));
                task::run(&self.engine, &asking, None, reset).await?
            }
            Errand::Import(request) => {
                if let Some(condition) = &asking.if_match {
                    condition.check_untagged()?;
                }
                let name = asking.idempotency.as_ref().map(|name| match name.trust {
                    Trust::Client => ImportName::Key(&name.key),
                    Trust::Message | Trust::FirstDelivery => ImportName::Message(&name.key),
                });
                self.import(caller, request, name, deadline).await.into()
            }
            Errand::NotifyPayment(notice) => self.notify_payment(asking, notice).await?,
            Errand::Feed(query) => self.events(caller, query, deadline).await.into(),
            Errand::DeadLetter(DeadLetterRequest::List(query)) => {
                self.dead_letters.list(caller, &query).await.into()
            }
            Errand::DeadLetter(DeadLetterRequest::Redrive(letter)) => {
                self.dead_letters.redrive(asking, &letter).await?
            }
            Errand::DeadLetter(DeadLetterRequest::RedriveAll(request)) => {
                let redriven = self.dead_letters.redrive_all(caller, request, deadline);
                task::run(&self.engine, &asking, None, redriven).await?
            }
            Errand::Retry(RetryRequest::List(query)) => {
                self.retries.list(caller, &query).await.into()
            }
            Errand::Retry(RetryRequest::Redrive(step)) => {
                self.retries.redrive(asking, &step).await?
            }
            Errand::Retry(RetryRequest::RedriveAll(request)) => {
                let redriven = self.retries.redrive_all(caller, request, deadline);
                task::run(&self.engine, &asking, None, redriven).await?
            }
            Errand::DeadLetter(DeadLetterRequest::Discard(letter)) => {
                self.dead_letters.discard(asking, &letter).await?
            }
        })
    }

    /// Has the provider asked about the payment, if it is one of an order's.
    async fn notify_payment(
        &self,
        asking: Asking,
        NotifyPayment {
            order_id,
            reference,
        }: NotifyPayment,
    ) -> Result<Told, Failure> {
        asking.caller.must_operate()?;
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
    fn sort(&self, request: Request) -> Result<Sorted, Failure> {
        let sorted = sort(request)?;
        let url = match &sorted {
            Sorted::Change(Action::CreateEndpoint { new, .. }) => Some(&new.url),
            Sorted::Change(Action::UpdateEndpoint(update)) => update.url.as_ref(),
            _ => None,
        };
        if let Some(Err(why)) = url.map(|url| self.guard.check(url.url())) {
            return Err(Failure::violation("/url", why));
        }
        Ok(sorted)
    }
}

/// What there is to do for a request.
enum Work {
    Command(Command, Option<time::Instant>),
    Look(GetOrder),
    Errand(Asking, Errand),
}

/// A panic over one question harms no other.
fn harmless<T>(work: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(work)).ok()
}

/// What its caller is told: the panic itself is on standard error.
fn defect() -> Failure {
    Failure::new(Code::Internal, "the request could not be carried out")
}

/// As [`unreadable`], of one order.
fn unreadable_order(id: OrderId, error: StoreError) -> Failure {
    let is_damaged = matches!(error, StoreError::Damaged(_));
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
