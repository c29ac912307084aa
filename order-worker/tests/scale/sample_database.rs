//! Generates databases with many orders, made by the same decisions as real ones.

use std::{fs, path::Path, time::Instant};

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
    order::{Label, ListOrders},
    outcome::RpcReply,
    request::{Caller, Request, Role},
};
use sqlx::{Connection, Executor, PgConnection};

/// Commands per transaction.
const BATCH_SIZE: usize = 1_000;
/// Number of products; every order has one or two of them.
pub(crate) const SKU_COUNT: usize = 500;
const CUSTOMER_COUNT: usize = 1_000;
/// Number of orders in a sample.
const SAMPLE_ID_COUNT: usize = 500;

/// A store with a catalogue and customers.
pub(crate) struct SampleDatabase {
    store: Store,
    pub(crate) customer_ids: Vec<CustomerId>,
    pub(crate) order_count: usize,
}

pub(crate) fn default_rules() -> Rules {
    Rules {
        reservation_ttl: SignedDuration::from_mins(30),
        manual_payment_ttl: jiff::SignedDuration::from_hours(168),
        needs_approval: false,
        payment_provider: "sandbox".to_owned(),
        check_amount: order_worker::providers::check_amount,
        default_payment_method: Some("pm_ok".to_owned()),
        needs_verification: false,
        refunds_returns: true,
        sends_messages: false,
        allows_storefront_prices: false,
    }
}

pub(crate) fn command(pattern: &str, body: Value) -> Command {
    let action = match Request::read(pattern, body).unwrap() {
        Request::CreateOrder(request) => Action::CreateOrder(request),
        Request::CreateProduct(request) => Action::CreateProduct(request),
        Request::CreateCustomer(request) => Action::CreateCustomer(request),
        Request::SetStock(request) => Action::SetStock(request),
        Request::UpdateShipment(request) => Action::UpdateShipment(request),
        Request::UpdateOrder(request) => Action::UpdateOrder(request),
        other_request => panic!("command() does not support {}", other_request.pattern()),
    };
    Command::Request {
        caller: Caller {
            role: Role::Operator,
            storefront: Storefront::default(),
            actor: "scale".to_owned(),
            intent: pattern.to_owned(),
            request_id: "scale".to_owned(),
            trace_context: None,
        },
        idempotency: None,
        if_match: None,
        action,
    }
}

/// Decides and commits commands.
pub(crate) async fn commit(store: &Store, commands: &[Command]) -> Vec<Value> {
    commit_with_later(store, commands, &|_| Vec::new()).await
}

/// Decides commands, and then those that follow from their replies; commits all of them together. Returns the
/// replies to the first ones.
async fn commit_with_later(
    store: &Store,
    commands: &[Command],
    later_commands: &(dyn Fn(&[Value]) -> Vec<Command> + Sync),
) -> Vec<Value> {
    let mut load_set = LoadSet::default();
    for command in commands {
        load_set.add(command);
    }
    let rules = default_rules();
    let context = DecisionContext::new(Timestamp::now(), uuid::Uuid::now_v7().as_u64_pair().1);
    let decided_replies = store.transact(&load_set, context.now(), |working_set| {
        let mut context = context.clone();
        let mut decide = |command: &Command| -> RpcReply {
            carry_out(working_set, command, &rules, &mut context)
        };
        let replies = commands.iter().map(&mut decide).collect::<Vec<_>>();
        let replies: Vec<_> = replies.into_iter().map(value_of).collect();
        for command in later_commands(&replies) {
            value_of(decide(&command));
        }
        Some(replies)
    });
    decided_replies.await.unwrap()
}

fn value_of(reply: RpcReply) -> Value {
    reply.outcome.unwrap().value()
}

/// Creates a catalogue with this stock per product.
async fn create_catalogue(store: &Store, sku_count: usize, on_hand: i64) {
    for sku_number in 0..sku_count {
        let sku = format!("S{sku_number}");
        let product = json!({"sku": sku, "name": sku, "price": 1000, "currency": "EUR"});
        let stock = json!({"sku": sku, "warehouse": "main", "on_hand": on_hand});
        commit(store, &[command("product.create", product)]).await;
        commit(store, &[command("stock.set", stock)]).await;
    }
}

pub(crate) async fn create_customers(store: &Store, customer_count: usize) -> Vec<CustomerId> {
    let new_customers = (0..customer_count).map(|customer_number| {
        let email = format!("customer{customer_number}@example.com");
        command(
            "customer.create",
            json!({"name": format!("Customer {customer_number}"), "email": email}),
        )
    });
    let created_replies = commit(store, &new_customers.collect::<Vec<_>>()).await;
    created_replies
        .iter()
        .map(|customer| customer["id"].as_str().unwrap().parse().unwrap())
        .collect()
}

fn finish_step(id: OrderId, step: Step, step_result: StepResult) -> Command {
    Command::FinishStep {
        key: StepKey { order_id: id, step },
        attempt: 1,
        result: step_result,
    }
}

fn decline_payment(id: OrderId) -> Command {
    let step_result = StepResult::Declined {
        code: "card_declined".to_owned(),
        message: "the card was declined".to_owned(),
    };
    finish_step(id, Step::AuthorizePayment, step_result)
}

fn order_id(created_order: &Value) -> OrderId {
    created_order["id"].as_str().unwrap().parse().unwrap()
}

/// The later commands of new orders.
fn later_commands(created_orders: &[Value]) -> Vec<Command> {
    let main_warehouse: Warehouse = "main".parse().unwrap();
    let mut commands = Vec::new();
    for (order_index, created_order) in created_orders.iter().enumerate() {
        let id = order_id(created_order);
        let total = created_order["total"].as_i64().unwrap();
        if order_index % 10 == 5 {
            commands.push(command("order.update", json!({"id": id, "tags": ["gift"]})));
        }
        if order_index % 4 == 3 {
            commands.push(decline_payment(id));
            continue;
        }
        let authorized = StepResult::Authorized {
            provider: "sandbox".to_owned(),
            reference: format!("scale_{id}"),
            amount: total,
        };
        commands.push(finish_step(id, Step::AuthorizePayment, authorized));
        let tracking_number = format!("SBX{}", id.to_string().replace('-', ""));
        let label_created = StepResult::LabelCreated(Label::new("sandbox", tracking_number));
        let request_shipment = Step::RequestShipment(main_warehouse.clone().into());
        commands.push(finish_step(id, request_shipment, label_created));
        if order_index % 4 == 2 {
            continue;
        }
        let shipment_delivered = json!({
            "order_id": id, "type": "shipment.delivered", "timestamp": "2026-01-31T12:00:00Z",
        });
        commands.push(command("shipment.update", shipment_delivered));
        let captured = StepResult::Captured {
            amount: total,
            requested_total: total,
            is_last_capture: true,
        };
        commands.push(finish_step(id, Step::CapturePayment, captured));
    }
    commands
}

impl SampleDatabase {
    pub(crate) async fn open(store: Store) -> Self {
        let sku = "S0".parse().unwrap();
        if store.product(&sku).await.unwrap().is_none() {
            create_catalogue(&store, SKU_COUNT, 1_000_000_000).await;
        }
        let customer_ids = create_customers(&store, CUSTOMER_COUNT).await;
        let newest_orders = store.orders(&crate::figures::all_orders(), None).await;
        let order_count = newest_orders
            .unwrap()
            .rows
            .first()
            .map_or(0, |(order, _)| order.number);
        Self {
            store,
            customer_ids,
            order_count: usize::try_from(order_count).unwrap(),
        }
    }

    /// Adds orders up to this number: half are delivered, a quarter is in fulfilment, a quarter was declined.
    /// Each tenth has a tag. Returns the number of orders that were added per second.
    pub(crate) async fn fill(&mut self, target_count: usize) -> f64 {
        let (started_at, added_count) = (
            Instant::now(),
            target_count.saturating_sub(self.order_count),
        );
        while self.order_count < target_count {
            let batch_size = BATCH_SIZE.min(target_count - self.order_count);
            let commands = (0..batch_size)
                .map(|index_in_batch| self.create_order_command(self.order_count + index_in_batch));
            let commands: Vec<_> = commands.collect();
            commit_with_later(&self.store, &commands, &|created_orders| {
                later_commands(created_orders)
            })
            .await;
            self.order_count += batch_size;
        }
        added_count as f64 / started_at.elapsed().as_secs_f64()
    }

    /// Ids of orders from the first to the last, at equal distances.
    pub(crate) async fn sample_ids(&self) -> Vec<OrderId> {
        let mut sample_ids = Vec::new();
        for sample_number in 0..SAMPLE_ID_COUNT {
            let order_number = 1 + sample_number * (self.order_count - 1) / (SAMPLE_ID_COUNT - 1);
            let filter = ListOrders {
                number: Some(i64::try_from(order_number).unwrap()),
                ..ListOrders::newest(1)
            };
            let found_orders = self.store.orders(&filter, None).await.unwrap();
            sample_ids.push(found_orders.rows[0].0.id);
        }
        sample_ids
    }

    pub(crate) fn create_order_command(&self, order_index: usize) -> Command {
        let mut items =
            vec![json!({"sku": format!("S{}", order_index % SKU_COUNT), "quantity": 1})];
        if order_index.is_multiple_of(3) {
            let other_sku = format!("S{}", (order_index / 3 + 1) % SKU_COUNT);
            if items[0]["sku"] != other_sku.as_str() {
                items.push(json!({"sku": other_sku, "quantity": 2}));
            }
        }
        let new_order = json!({
            "customer_id": self.customer_ids[order_index % CUSTOMER_COUNT],
            "items": items,
            "metadata": {"note": "please ring twice"},
        });
        command("order.create", new_order)
    }

    /// Ends an order by declining its payment.
    pub(crate) async fn decline_order(&self, id: OrderId) {
        commit(&self.store, &[decline_payment(id)]).await;
    }

    /// Fills the provider's ledger according to the orders.
    pub(crate) async fn fill_ledger(&self, database_url: &str) {
        if let Some(database_path) = database_url.strip_prefix("sqlite://") {
            // Creates the ledger's tables.
            LedgerLocation::open(database_url).unwrap();
            let ledger_path = LedgerLocation::path(Path::new(database_path));
            let connection = rusqlite::Connection::open(ledger_path).unwrap();
            let fill_sql = format!("ATTACH '{database_path}' AS books; {SQLITE_LEDGER_SQL}");
            connection.execute_batch(&fill_sql).unwrap();
        } else {
            let mut connection = PgConnection::connect(database_url).await.unwrap();
            connection
                .execute(sqlx::raw_sql(POSTGRES_LEDGER_SQL))
                .await
                .unwrap();
        }
    }
}

/// Lets all events count as published and counted, as those of a running system soon are.
pub(crate) async fn mark_events_as_read(database_url: &str) {
    let mark_sql = "UPDATE relay SET position = (SELECT max(position) FROM events)
                    WHERE name <> 'probe'";
    if let Some(database_path) = database_url.strip_prefix("sqlite://") {
        let connection = rusqlite::Connection::open(database_path).unwrap();
        connection.execute_batch(mark_sql).unwrap();
    } else {
        let mut connection = PgConnection::connect(database_url).await.unwrap();
        connection.execute(mark_sql).await.unwrap();
    }
}

/// Bytes of the database with all indexes.
pub(crate) async fn size_on_disk(database_url: &str) -> u64 {
    if let Some(database_path) = database_url.strip_prefix("sqlite://") {
        return fs::metadata(database_path).unwrap().len();
    }
    let mut connection = PgConnection::connect(database_url).await.unwrap();
    let size_query = sqlx::query_scalar("SELECT pg_database_size(current_database())");
    let database_bytes: i64 = size_query.fetch_one(&mut connection).await.unwrap();
    u64::try_from(database_bytes).unwrap()
}

/// Runs the maintenance that PostgreSQL's autovacuum would run later.
pub(crate) async fn vacuum(database_url: &str) {
    if database_url.starts_with("postgres") {
        let mut connection = PgConnection::connect(database_url).await.unwrap();
        let vacuum_sql = sqlx::raw_sql("VACUUM ANALYZE");
        connection.execute(vacuum_sql).await.unwrap();
    }
}

const SQLITE_LEDGER_SQL: &str = "
    DELETE FROM payments;
    DELETE FROM movements;
    INSERT INTO payments (key, reference, status, amount, currency, captured)
    SELECT id || '/authorize_payment', 'scale_' || id,
           CASE json_extract(state, '$.payment.status') WHEN 'failed' THEN 'declined'
               ELSE json_extract(state, '$.payment.status') END,
           json_extract(state, '$.total'), 'EUR', json_extract(state, '$.payment.captured')
    FROM books.orders WHERE json_extract(state, '$.payment.status') <> 'pending';
    INSERT INTO movements (payment, kind, amount)
    SELECT reference, 'authorize', amount FROM payments WHERE status <> 'declined';
    INSERT INTO movements (payment, kind, amount)
    SELECT reference, 'capture', amount FROM payments WHERE status = 'captured';
";

const POSTGRES_LEDGER_SQL: &str = "
    TRUNCATE sandbox.payments, sandbox.movements;
    INSERT INTO sandbox.payments (key, reference, status, amount, currency, captured)
    SELECT id || '/authorize_payment', 'scale_' || id,
           CASE state::jsonb #>> '{payment,status}' WHEN 'failed' THEN 'declined'
               ELSE state::jsonb #>> '{payment,status}' END,
           (state::jsonb ->> 'total')::bigint, 'EUR', (state::jsonb #>> '{payment,captured}')::bigint
    FROM orders WHERE state::jsonb #>> '{payment,status}' <> 'pending';
    INSERT INTO sandbox.movements (payment, kind, amount)
    SELECT reference, 'authorize', amount FROM sandbox.payments WHERE status <> 'declined';
    INSERT INTO sandbox.movements (payment, kind, amount)
    SELECT reference, 'capture', amount FROM sandbox.payments WHERE status = 'captured';
";
