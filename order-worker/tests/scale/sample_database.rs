//! Generates databases with many orders, made by the same decisions as real ones.

use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use order_worker::{
    domain::{
        command::{Action, Command, StepResult},
        decide::{Rules, carry_out},
        decision_context::DecisionContext,
        load_set::LoadSet,
        step::{Step, StepKey},
    },
    providers::sandbox::LedgerLocation,
    store::Store,
};
use serde_json::{Value, json};
use shared::{
    id::{CustomerId, OrderId, Storefront, Warehouse},
    outcome::RpcReply,
    request::{Caller, Request, Role},
};
use sqlx::{Connection, Executor, PgConnection};

/// Commands per transaction.
const BATCH: usize = 1_000;
/// Number of products; every order has one or two of them.
pub(crate) const SKUS: usize = 500;
const CUSTOMERS: usize = 1_000;

/// A store with a catalogue and customers.
pub(crate) struct SampleDatabase {
    store: Store,
    pub(crate) customers: Vec<CustomerId>,
    /// A sample of the orders.
    pub(crate) sample: Vec<OrderId>,
    orders: usize,
}

pub(crate) fn rules() -> Rules {
    Rules {
        reservation_ttl: SignedDuration::from_mins(30),
        needs_approval: false,
        payment_provider: "sandbox".to_owned(),
        check_amount: order_worker::providers::check_amount,
        default_payment_method: Some("pm_ok".to_owned()),
        needs_verification: false,
        refunds_returns: true,
        storefront_prices: false,
    }
}

pub(crate) fn command(pattern: &str, body: Value) -> Command {
    let action = match Request::read(pattern, body).unwrap() {
        Request::CreateOrder(request) => Action::CreateOrder(request),
        Request::CreateProduct(request) => Action::CreateProduct(request),
        Request::CreateCustomer(request) => Action::CreateCustomer(request),
        Request::SetStock(request) => Action::SetStock(request),
        Request::UpdateShipment(request) => Action::UpdateShipment(request),
        other => panic!("command() does not support {}", other.pattern()),
    };
    Command::Request {
        caller: Caller {
            role: Role::Operator,
            storefront: Storefront::default(),
            actor: "scale".to_owned(),
            intent: pattern.to_owned(),
            request_id: "scale".to_owned(),
            traceparent: None,
        },
        idempotency: None,
        if_match: None,
        action,
    }
}

/// Decides and commits commands.
pub(crate) async fn commit(store: &Store, commands: &[Command]) -> Vec<Value> {
    let mut load_set = LoadSet::default();
    for command in commands {
        load_set.add(command);
    }
    let rules = rules();
    let context = DecisionContext::new(Timestamp::now(), uuid::Uuid::now_v7().as_u64_pair().1);
    let decided = store.transact(&load_set, context.now(), |working_set| {
        let mut context = context.clone();
        let replies = commands
            .iter()
            .map(|command| carry_out(working_set, command, &rules, &mut context));
        Some(replies.collect::<Vec<RpcReply>>())
    });
    let replies = decided.await.unwrap();
    replies
        .into_iter()
        .map(|reply| reply.outcome.unwrap().value())
        .collect()
}

/// Creates a catalogue with this stock per product.
async fn catalogue(store: &Store, skus: usize, on_hand: i64) {
    for sku in 0..skus {
        let sku = format!("S{sku}");
        let product = json!({"sku": sku, "name": sku, "price": 1000, "currency": "EUR"});
        let stock = json!({"sku": sku, "warehouse": "main", "on_hand": on_hand});
        commit(store, &[command("product.create", product)]).await;
        commit(store, &[command("stock.set", stock)]).await;
    }
}

pub(crate) async fn customers(store: &Store, count: usize) -> Vec<CustomerId> {
    let new = json!({"name": "Ada", "email": "ada@example.com"});
    let commands = vec![command("customer.create", new); count];
    let made = commit(store, &commands).await;
    made.iter()
        .map(|customer| customer["id"].as_str().unwrap().parse().unwrap())
        .collect()
}

fn finish(id: OrderId, step: Step, result: StepResult) -> Command {
    Command::Finish {
        key: StepKey { order_id: id, step },
        attempt: 1,
        result,
    }
}

fn declined(id: OrderId) -> Command {
    let result = StepResult::Declined {
        code: "card_declined".to_owned(),
        message: "the card was declined".to_owned(),
    };
    finish(id, Step::AuthorizePayment, result)
}

impl SampleDatabase {
    pub(crate) async fn open(store: Store) -> Self {
        let sku = "S0".parse().unwrap();
        if store.product(&sku).await.unwrap().is_none() {
            catalogue(&store, SKUS, 1_000_000_000).await;
        }
        let customers = customers(&store, CUSTOMERS).await;
        let orders = store.orders(&crate::figures::all_orders(), None).await;
        let orders = orders
            .unwrap()
            .rows
            .first()
            .map_or(0, |(order, _)| order.number);
        Self {
            store,
            customers,
            sample: Vec::new(),
            orders: usize::try_from(orders).unwrap(),
        }
    }

    /// Adds orders up to this number: half are delivered, a quarter is in fulfilment, a quarter was declined.
    pub(crate) async fn fill(&mut self, orders: usize) {
        while self.orders < orders {
            let count = BATCH.min(orders - self.orders);
            let commands = (0..count).map(|number| self.create_order_command(self.orders + number));
            let commands: Vec<_> = commands.collect();
            let made = commit(&self.store, &commands).await;
            let ids: Vec<OrderId> = made
                .iter()
                .map(|order| order["id"].as_str().unwrap().parse().unwrap())
                .collect();
            self.sample.push(ids[0]);
            self.advance(&ids).await;
            self.orders += count;
        }
    }

    pub(crate) fn create_order_command(&self, number: usize) -> Command {
        let mut items = vec![json!({"sku": format!("S{}", number % SKUS), "quantity": 1})];
        if number.is_multiple_of(3) {
            let other = format!("S{}", (number / 3 + 1) % SKUS);
            if items[0]["sku"] != other.as_str() {
                items.push(json!({"sku": other, "quantity": 2}));
            }
        }
        let new_order = json!({
            "customer_id": self.customers[number % CUSTOMERS],
            "items": items,
            "metadata": {"note": "x".repeat(100)},
        });
        command("order.create", new_order)
    }

    /// Ends an order by declining its payment.
    pub(crate) async fn decline(&self, id: OrderId) {
        commit(&self.store, &[declined(id)]).await;
    }

    async fn advance(&self, ids: &[OrderId]) {
        let of_each = |every: usize, rest: &[usize], make: &dyn Fn(OrderId) -> Command| {
            let chosen = ids.iter().enumerate();
            let chosen = chosen.filter(|(number, _)| rest.contains(&(number % every)));
            chosen.map(|(_, id)| make(*id)).collect::<Vec<_>>()
        };
        let mut answers = of_each(4, &[0, 1, 2], &|id| {
            let result = StepResult::Authorized {
                provider: "sandbox".to_owned(),
                reference: format!("scale_{id}"),
                amount: 1000,
            };
            finish(id, Step::AuthorizePayment, result)
        });
        answers.extend(of_each(4, &[3], &declined));
        commit(&self.store, &answers).await;
        let main: Warehouse = "main".parse().unwrap();
        let announced = of_each(4, &[0, 1, 2], &|id| {
            let result = StepResult::LabelCreated {
                carrier: "sandbox".to_owned(),
                tracking_number: format!("SBX{}", id.to_string().replace('-', "")),
            };
            finish(id, Step::RequestShipment(main.clone()), result)
        });
        commit(&self.store, &announced).await;
        let delivered = of_each(4, &[0, 1], &|id| {
            let update = json!({
                "order_id": id, "type": "shipment.delivered", "timestamp": "2026-01-31T12:00:00Z",
            });
            command("shipment.update", update)
        });
        commit(&self.store, &delivered).await;
        let captured = of_each(4, &[0, 1], &|id| {
            finish(
                id,
                Step::CapturePayment,
                StepResult::Captured {
                    amount: 1000,
                    requested: 1000,
                    is_last: true,
                },
            )
        });
        commit(&self.store, &captured).await;
    }

    /// Fills the provider's ledger according to the orders.
    pub(crate) async fn fill_ledger(&self, url: &str) {
        if let Some(path) = url.strip_prefix("sqlite://") {
            // Creates the ledger's tables.
            LedgerLocation::open(url).unwrap();
            let ledger = LedgerLocation::path(Path::new(path));
            let connection = rusqlite::Connection::open(ledger).unwrap();
            let sql = format!("ATTACH '{path}' AS books; {SQLITE_LEDGER}");
            connection.execute_batch(&sql).unwrap();
        } else {
            let mut connection = PgConnection::connect(url).await.unwrap();
            connection
                .execute(sqlx::raw_sql(POSTGRES_LEDGER))
                .await
                .unwrap();
        }
    }
}

/// Runs the maintenance that PostgreSQL's autovacuum would run later.
pub(crate) async fn vacuum(url: &str) {
    if url.starts_with("postgres") {
        let mut connection = PgConnection::connect(url).await.unwrap();
        let vacuum = sqlx::raw_sql("VACUUM ANALYZE");
        connection.execute(vacuum).await.unwrap();
    }
}

const SQLITE_LEDGER: &str = "
    DELETE FROM payments;
    DELETE FROM movements;
    INSERT INTO payments (key, reference, status, amount, currency, captured)
    SELECT id || '/authorize_payment', 'scale_' || id,
           CASE json_extract(state, '$.payment.status') WHEN 'failed' THEN 'declined'
               ELSE json_extract(state, '$.payment.status') END,
           1000, 'EUR', json_extract(state, '$.payment.captured')
    FROM books.orders WHERE json_extract(state, '$.payment.status') <> 'pending';
    INSERT INTO movements (payment, kind, amount)
    SELECT reference, 'authorize', 1000 FROM payments WHERE status <> 'declined';
    INSERT INTO movements (payment, kind, amount)
    SELECT reference, 'capture', 1000 FROM payments WHERE status = 'captured';
";

const POSTGRES_LEDGER: &str = "
    TRUNCATE sandbox.payments, sandbox.movements;
    INSERT INTO sandbox.payments (key, reference, status, amount, currency, captured)
    SELECT id || '/authorize_payment', 'scale_' || id,
           CASE state::jsonb #>> '{payment,status}' WHEN 'failed' THEN 'declined'
               ELSE state::jsonb #>> '{payment,status}' END,
           1000, 'EUR', (state::jsonb #>> '{payment,captured}')::bigint
    FROM orders WHERE state::jsonb #>> '{payment,status}' <> 'pending';
    INSERT INTO sandbox.movements (payment, kind, amount)
    SELECT reference, 'authorize', 1000 FROM sandbox.payments WHERE status <> 'declined';
    INSERT INTO sandbox.movements (payment, kind, amount)
    SELECT reference, 'capture', 1000 FROM sandbox.payments WHERE status = 'captured';
";
