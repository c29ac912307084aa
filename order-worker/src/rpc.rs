//! Requests from callers: reads go to the readers' connections, the rest becomes commands.

mod approval;
mod erase;
mod feed;
mod idempotency;
mod import;
mod inspect;
mod stats;

use std::{panic::AssertUnwindSafe, sync::Arc};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use futures_util::{FutureExt, StreamExt, stream::FuturesUnordered};
use serde_json::{Value, json};
use shared::{
    amqp::{
        connection::Broker,
        consumer::give_back,
        message::Incoming,
        publisher::Replier,
        rpc_server::{Answered, Asked, Delivered, Identity, Question, requests},
        topology::REQUEST_QUEUE,
    },
    customer::CustomerRef,
    dead_letter::{DeadLetterRef, ListDeadLetters},
    event::ListEvents,
    id::{EndpointId, Storefront},
    order::{ApproveAll, GetOrder, ImportOrders, ListOrders, OrderHistory, OrderRef},
    outcome::{Code, Failure, Json, Told},
    page::Page,
    request::{Caller, Request, Role},
    stats::GetStats,
    trace::{self, Span},
    webhook::{EndpointRef, ListDeliveries, ListEndpoints},
};
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::idempotency::idempotency;
pub(crate) use self::{idempotency::by_client, import::import};
use crate::{
    crash::{Point, point},
    dead_letters::{Asking, DeadLetters},
    domain::{
        command::{Action, Command},
        order::Order,
        step::StepRow,
        webhook::{Delivery, Endpoint},
    },
    engine::Engine,
    providers::sandbox::Sandbox,
    stats::Insight,
    store::{OrderCursor, Store, StoreError},
    webhooks::{guard::Guard, new_secret},
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

/// What readers of the feed wait for.
#[derive(Clone)]
pub struct News {
    /// Changes when there are new events.
    pub events: watch::Receiver<()>,
    /// The worker is asked to stop: nobody waits any more.
    pub stop: CancellationToken,
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
        let mut answers: FuturesUnordered<_> = questions
            .into_iter()
            .map(|question| self.answer_one(question))
            .collect();
        let mut replied = Ok(());
        while let Some(first) = answers.next().await {
            let mut ready = vec![first];
            while let Some(Some(next)) = answers.next().now_or_never() {
                ready.push(next);
            }
            replied = replied.and(asker.reply(&self.replier, ready).await);
            point(Point::AfterReply);
        }
        match replied {
            Ok(()) => asker.settle().await,
            Err(away) => {
                tracing::warn!(%away, "a request could not be answered");
                asker.leave().await;
            }
        }
    }

    /// A panic over one question harms no other.
    async fn answer_one(&self, Question { whose, asked }: Question) -> Answered {
        let told = match asked {
            Ok(asked) => AssertUnwindSafe(self.carry_out(asked))
                .catch_unwind()
                .await
                .unwrap_or_else(|_| {
                    Err(Failure::new(
                        Code::Internal,
                        "the request could not be carried out",
                    ))
                    .into()
                }),
            Err(failure) => Err(failure).into(),
        };
        Answered { whose, told }
    }

    async fn carry_out(&self, mut asked: Asked) -> Told {
        let (pattern, began) = (asked.request.pattern(), std::time::Instant::now());
        let mut span = trace::processing(
            REQUEST_QUEUE,
            pattern,
            &asked.identity.as_ref().map_or("", Identity::name),
            asked.caller.traceparent.as_deref(),
        );
        span.pass_on(&mut asked.caller.traceparent);
        let caller = asked.caller.clone();
        let told = self
            .try_carry_out(asked)
            .await
            .unwrap_or_else(|failure| Err(failure).into());
        note(&mut span, &caller, &told);
        tell(pattern, &caller, &told);
        let code = told.outcome.as_ref().err().map(|failure| failure.code);
        let code = code.map_or_else(|| "OK".to_owned(), |code| code.to_string());
        metrics::histogram!("rpc_request_duration_seconds", "pattern" => pattern)
            .record(began.elapsed());
        metrics::counter!("rpc_requests_total", "pattern" => pattern, "code" => code).increment(1);
        told
    }

    async fn try_carry_out(&self, asked: Asked) -> Result<Told, Failure> {
        if asked
            .deadline
            .is_some_and(|deadline| deadline <= std::time::Instant::now())
        {
            return Err(Failure::new(
                Code::Timeout,
                "the deadline has passed; nothing was done",
            ));
        }
        let idempotency = idempotency(&asked)?;
        let has_name =
            asked.idempotency_key.is_some() || matches!(asked.identity, Some(Identity::Named(_)));
        let deadline = asked.deadline.map(Into::into);
        let (caller, request, if_match) = (asked.caller, asked.request, asked.if_match);
        match self.sort(request)? {
            Sorted::Change(action) => {
                let command = Command::Request {
                    caller,
                    idempotency,
                    if_match,
                    action,
                };
                Ok(self.engine.decide(command, deadline).await?)
            }
            Sorted::Read(query) => Ok(self.read(&caller, query).await.into()),
            Sorted::ApproveAll(request) => {
                Ok(self.approve_all(&caller, request, deadline).await.into())
            }
            Sorted::Erase(customer) => {
                let erased = self.erase_customer(&caller, customer, deadline);
                Ok(erased.await.into())
            }
            Sorted::Reset => Ok(self.reset(&caller).await.into()),
            Sorted::Import(request) => {
                let name = idempotency.filter(|_| has_name);
                let name = name.map(|idempotency| idempotency.key);
                let report = self.import(&caller, request, name.as_deref(), deadline);
                Ok(report.await.into())
            }
            Sorted::Feed(query) => Ok(self.events(&caller, query, deadline).await.into()),
            Sorted::DeadLetter(request) => {
                let asking = Asking {
                    caller,
                    idempotency,
                    if_match,
                    deadline,
                };
                match request {
                    DeadLetterRequest::List(query) => {
                        Ok(self.dead_letters.list(&asking.caller, &query).await.into())
                    }
                    DeadLetterRequest::Redrive(letter) => {
                        self.dead_letters.redrive(asking, &letter).await
                    }
                    DeadLetterRequest::Discard(letter) => {
                        self.dead_letters.discard(asking, &letter).await
                    }
                }
            }
        }
    }

    async fn read(&self, caller: &Caller, query: Query) -> Result<Json, Failure> {
        match query {
            Query::Order(query) => self.order(caller, &query).await,
            Query::Orders(query) => self.orders(caller, query).await,
            Query::History(query) => self.history(caller, &query).await,
            Query::Product(query) => {
                let found = self.store.product(&query.sku).await.map_err(unreadable)?;
                match found.filter(|(product, _)| !product.is_deleted) {
                    Some((product, shelves)) => Json::of(&product.represent(Some(&shelves))),
                    None => Err(Failure::not_found("product", &query.sku)),
                }
            }
            Query::Products(query) => {
                let rows = self.store.products(&query).await.map_err(unreadable)?;
                let rows = rows
                    .iter()
                    .map(|(product, shelves)| product.represent(Some(shelves)))
                    .collect();
                Json::of(&Page::from_rows(rows, query.limit, |product| {
                    product.sku.to_string()
                }))
            }
            Query::Customer(query) => {
                let found = self.store.customer(query.id).await.map_err(unreadable)?;
                match found.filter(|customer| caller.may_see(&customer.storefront)) {
                    Some(customer) => Json::of(&customer),
                    None => Err(Failure::not_found("customer", query.id)),
                }
            }
            Query::Customers(mut query) => {
                query.storefront = visible_storefront(caller, query.storefront);
                let rows = self.store.customers(&query).await.map_err(unreadable)?;
                Json::of(&Page::from_rows(rows, query.limit, |customer| {
                    customer.id.to_string()
                }))
            }
            Query::Endpoint(query) => {
                let endpoint = self.managed(caller, query.id).await?;
                Json::of(&endpoint.represent(false))
            }
            Query::Endpoints(mut query) => {
                query.storefront = match caller.role {
                    Role::Admin => query.storefront,
                    Role::Operator | Role::Storefront => Some(caller.storefront.clone()),
                };
                let rows = self.store.endpoints(&query).await.map_err(unreadable)?;
                let rows = rows.iter().map(|endpoint| endpoint.represent(false));
                Json::of(&Page::from_rows(rows.collect(), query.limit, |endpoint| {
                    endpoint.id.to_string()
                }))
            }
            Query::Stats(query) => self.stats(caller, query).await,
            Query::DebugOrder(order) => self.debug_order(caller, order).await,
            Query::DebugTables => self.debug_tables(caller).await,
            Query::Deliveries(query) => {
                self.managed(caller, query.id).await?;
                let rows = self.store.deliveries(&query).await.map_err(unreadable)?;
                let rows = rows.iter().map(Delivery::represent);
                Json::of(&Page::from_rows(rows.collect(), query.limit, |delivery| {
                    delivery.id.to_string()
                }))
            }
        }
    }

    async fn managed(&self, caller: &Caller, id: EndpointId) -> Result<Endpoint, Failure> {
        let found = self.store.endpoint(id).await.map_err(unreadable)?;
        found
            .filter(|endpoint| endpoint.is_managed_by(caller))
            .ok_or_else(|| Failure::not_found("webhook endpoint", id))
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

    async fn visible(
        &self,
        caller: &Caller,
        query: &GetOrder,
    ) -> Result<(Order, Vec<StepRow>), Failure> {
        if query.include_deleted {
            caller.must_operate()?;
        }
        let found = self.store.order(query.id).await.map_err(unreadable)?;
        found
            .filter(|(order, _)| {
                caller.may_see(&order.storefront) && (!order.is_deleted || query.include_deleted)
            })
            .ok_or_else(|| Failure::not_found("order", query.id))
    }

    async fn order(&self, caller: &Caller, query: &GetOrder) -> Result<Json, Failure> {
        let (order, steps) = self.visible(caller, query).await?;
        Json::of(&order.represent(&steps))
    }

    async fn orders(&self, caller: &Caller, mut query: ListOrders) -> Result<Json, Failure> {
        if query.include_deleted {
            caller.must_operate()?;
        }
        query.storefront = visible_storefront(caller, query.storefront);
        let after = query.cursor.as_deref().map(read_cursor).transpose()?;
        let rows = self.store.orders(&query, after).await.map_err(unreadable)?;
        let page = Page::from_rows(rows, query.limit, |(order, _)| write_cursor(order));
        let data: Vec<_> = page
            .data
            .iter()
            .map(|(order, steps)| order.represent(steps))
            .collect();
        Json::of(&Page {
            data,
            next_cursor: page.next_cursor,
        })
    }

    async fn history(&self, caller: &Caller, query: &OrderHistory) -> Result<Json, Failure> {
        self.visible(
            caller,
            &GetOrder {
                id: query.id,
                include_deleted: query.include_deleted,
            },
        )
        .await?;
        let after = match &query.cursor {
            Some(cursor) => cursor.parse().map_err(|_| unknown_cursor())?,
            None => 0,
        };
        let rows = self
            .store
            .history(&query.id.to_string(), after, query.limit + 1)
            .await
            .map_err(unreadable)?;
        Json::of(&Page::from_rows(rows, query.limit, |event| {
            event.sequence.to_string()
        }))
    }
}

/// What the trace tells of it.
fn note(span: &mut Span, caller: &Caller, told: &Told) {
    if !span.is_recording() {
        return;
    }
    span.note("request_id", caller.request_id.clone());
    match &told.outcome {
        Ok(_) if told.is_replay => span.note("idempotent_replayed", true),
        Ok(_) => {}
        Err(failure) if failure.http_status() >= 500 => {
            span.fail(failure.code.to_string(), failure);
        }
        Err(failure) => span.note("error.type", failure.code.to_string()),
    }
}

/// One line of the story.
fn tell(pattern: &str, caller: &Caller, told: &Told) {
    let Caller {
        actor,
        intent,
        request_id,
        ..
    } = caller;
    let trace_id = caller.traceparent.as_deref().and_then(trace::id);
    match &told.outcome {
        // It is looked into only for those who read it.
        Ok(_) if !tracing::enabled!(tracing::Level::INFO) => {}
        Ok(json) => {
            let value = json.value();
            let id = value.get("id").and_then(Value::as_str);
            let (order_id, id) = match pattern.split_once('.') {
                Some(("order" | "shipment", _)) => (id, None),
                _ => (None, id),
            };
            let subject = value
                .get("number")
                .map(|number| format!(" #{number}"))
                .unwrap_or_default();
            tracing::info!(
                order.id = order_id,
                id,
                intent,
                request_id,
                trace_id,
                actor,
                "{pattern}{subject}"
            );
        }
        Err(Failure { code, message, .. }) => {
            tracing::info!(
                intent,
                request_id,
                trace_id,
                actor,
                %code,
                "{pattern} refused: {message}"
            );
        }
    }
}

enum Sorted {
    Change(Action),
    Read(Query),
    /// Many changes, each of its own.
    ApproveAll(ApproveAll),
    /// A customer, and each of their orders.
    Erase(CustomerRef),
    /// All of it.
    Reset,
    /// Many orders, each of its own.
    Import(ImportOrders),
    /// May wait for something to read.
    Feed(ListEvents),
    /// Of dead letters some are orders' and some are not.
    DeadLetter(DeadLetterRequest),
}

enum DeadLetterRequest {
    List(ListDeadLetters),
    Redrive(DeadLetterRef),
    Discard(DeadLetterRef),
}

enum Query {
    Order(GetOrder),
    Orders(ListOrders),
    History(OrderHistory),
    Product(shared::product::ProductRef),
    Products(shared::product::ListProducts),
    Customer(CustomerRef),
    Customers(shared::customer::ListCustomers),
    Endpoint(EndpointRef),
    Endpoints(ListEndpoints),
    Deliveries(ListDeliveries),
    Stats(GetStats),
    DebugOrder(OrderRef),
    DebugTables,
}

fn sort(request: Request) -> Result<Sorted, Failure> {
    Ok(match request {
        Request::CreateOrder(request) => Sorted::Change(Action::CreateOrder(request)),
        Request::CancelOrder(request) => Sorted::Change(Action::CancelOrder(request)),
        Request::DeleteOrder(request) => Sorted::Change(Action::DeleteOrder(request)),
        Request::RestoreOrder(request) => Sorted::Change(Action::RestoreOrder(request)),
        Request::ApproveOrder(request) => Sorted::Change(Action::ApproveOrder(request)),
        Request::ApproveAll(request) => Sorted::ApproveAll(request),
        Request::ImportOrders(request) => Sorted::Import(request),
        Request::RejectOrder(request) => Sorted::Change(Action::RejectOrder(request)),
        Request::RefundOrder(request) => Sorted::Change(Action::RefundOrder(request)),
        Request::CreateShipment(request) => Sorted::Change(Action::CreateShipment(request)),
        Request::NotifyPayment(request) => Sorted::Change(Action::NotifyPayment(request)),
        Request::UpdateShipment(request) => Sorted::Change(Action::UpdateShipment(request)),
        Request::CreateProduct(request) => Sorted::Change(Action::CreateProduct(request)),
        Request::UpdateProduct(request) => Sorted::Change(Action::UpdateProduct(request)),
        Request::DeleteProduct(request) => Sorted::Change(Action::DeleteProduct(request)),
        Request::SetStock(request) => Sorted::Change(Action::SetStock(request)),
        Request::AdjustStock(request) => Sorted::Change(Action::AdjustStock(request)),
        Request::CreateCustomer(request) => Sorted::Change(Action::CreateCustomer(request)),
        Request::BlockCustomer(request) => Sorted::Change(Action::BlockCustomer(request)),
        Request::GetOrder(request) => Sorted::Read(Query::Order(request)),
        Request::ListOrders(request) => Sorted::Read(Query::Orders(request)),
        Request::OrderHistory(request) => Sorted::Read(Query::History(request)),
        Request::GetProduct(request) => Sorted::Read(Query::Product(request)),
        Request::ListProducts(request) => Sorted::Read(Query::Products(request)),
        Request::GetCustomer(request) => Sorted::Read(Query::Customer(request)),
        Request::ListCustomers(request) => Sorted::Read(Query::Customers(request)),
        Request::VerifyCustomer(request) => Sorted::Change(Action::VerifyCustomer(request)),
        Request::EraseCustomer(request) => Sorted::Erase(request),
        Request::Reset(_) => Sorted::Reset,
        Request::DebugOrder(order) => Sorted::Read(Query::DebugOrder(order)),
        Request::DebugTables(_) => Sorted::Read(Query::DebugTables),
        Request::ListDeadLetters(query) => Sorted::DeadLetter(DeadLetterRequest::List(query)),
        Request::RedriveDeadLetter(letter) => {
            Sorted::DeadLetter(DeadLetterRequest::Redrive(letter))
        }
        Request::DiscardDeadLetter(letter) => {
            Sorted::DeadLetter(DeadLetterRequest::Discard(letter))
        }
        Request::GetStats(query) => Sorted::Read(Query::Stats(query)),
        Request::ListEvents(query) => Sorted::Feed(query),
        Request::CreateEndpoint(new) => Sorted::Change(Action::CreateEndpoint {
            new,
            secret: new_secret()?,
        }),
        Request::GetEndpoint(request) => Sorted::Read(Query::Endpoint(request)),
        Request::ListEndpoints(request) => Sorted::Read(Query::Endpoints(request)),
        Request::UpdateEndpoint(request) => Sorted::Change(Action::UpdateEndpoint(request)),
        Request::DeleteEndpoint(request) => Sorted::Change(Action::DeleteEndpoint(request)),
        Request::RotateSecret(request) => Sorted::Change(Action::RotateSecret {
            request,
            secret: new_secret()?,
        }),
        Request::ListDeliveries(request) => Sorted::Read(Query::Deliveries(request)),
        Request::Redeliver(request) => Sorted::Change(Action::Redeliver(request)),
    })
}

/// Whose data a list shows: a storefront's own, whatever it asks for.
fn visible_storefront(caller: &Caller, asked: Option<Storefront>) -> Option<Storefront> {
    match caller.role {
        Role::Storefront => Some(caller.storefront.clone()),
        Role::Operator | Role::Admin => asked,
    }
}

/// Opaque to callers: where the page ended.
fn write_cursor(order: &Order) -> String {
    let place = json!([order.created_at.as_millisecond(), order.number]);
    BASE64_URL_SAFE_NO_PAD.encode(place.to_string())
}

fn read_cursor(cursor: &str) -> Result<OrderCursor, Failure> {
    BASE64_URL_SAFE_NO_PAD
        .decode(cursor)
        .ok()
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .map(|(created_at_ms, number)| OrderCursor {
            created_at_ms,
            number,
        })
        .ok_or_else(unknown_cursor)
}

fn unknown_cursor() -> Failure {
    Failure::violation("/cursor", "is not a cursor of this list")
}

/// Nothing was read, and nothing was done.
fn unreadable(error: StoreError) -> Failure {
    tracing::error!(%error, "a read failed");
    match error {
        StoreError::Damaged(_) => Failure::new(Code::Internal, "stored data can't be read"),
        StoreError::Away(_)
        | StoreError::Refusing(_)
        | StoreError::Unknown(_)
        | StoreError::Conflict(_)
        | StoreError::GivenUp => Failure::new(Code::Unavailable, "the database is away"),
    }
}
