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
    order::Label,
    outcome::RpcReply,
    request::{Caller, Request, Role},
};
use sqlx::{Connection, Executor, PgConnection};

/// Commands per transaction.
const BATCH_SIZE: usize = 1_000;
/// Number of products; every order has one or two of them.
pub(crate) const SKU_COUNT: usize = 500;
const CUSTOMER_COUNT: usize = 1_000;

/// A store with a catalogue and customers.
pub(crate) struct SampleDatabase {
    store: Store,
    pub(crate) customer_ids: Vec<CustomerId>,
    /// A sample of the orders.
    pub(crate) sample_ids: Vec<OrderId>,
    order_count: usize,
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
    let mut load_set = LoadSet::default();
    for command in commands {
        load_set.add(command);
    }
    let rules = default_rules();
    let context = DecisionContext::new(Timestamp::now(), uuid::Uuid::now_v7().as_u64_pair().1);
    let decided_replies = store.transact(&load_set, context.now(), |working_set| {
        let mut context = context.clone();
        let replies = commands
            .iter()
            .map(|command| carry_out(working_set, command, &rules, &mut context));
        Some(replies.collect::<Vec<RpcReply>>())
    });
    let replies = decided_replies.await.unwrap();
    replies
        .into_iter()
        .map(|reply| reply.outcome.unwrap().value())
        .collect()
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
    let new_customer = json!({"name": "Ada", "email": "ada@example.com"});
    let commands = vec![command("customer.create", new_customer); customer_count];
    let created_replies = commit(store, &commands).await;
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
            sample_ids: Vec::new(),
            order_count: usize::try_from(order_count).unwrap(),
        }
    }

    /// Adds orders up to this number: half are delivered, a quarter is in fulfilment, a quarter was declined.
    /// Each tenth has a tag.
    pub(crate) async fn fill(&mut self, target_count: usize) {
        while self.order_count < target_count {
            let batch_size = BATCH_SIZE.min(target_count - self.order_count);
            let commands = (0..batch_size)
                .map(|index_in_batch| self.create_order_command(self.order_count + index_in_batch));
            let commands: Vec<_> = commands.collect();
            let created_replies = commit(&self.store, &commands).await;
            let order_ids: Vec<OrderId> = created_replies
                .iter()
                .map(|order| order["id"].as_str().unwrap().parse().unwrap())
                .collect();
            self.sample_ids.push(order_ids[0]);
            self.advance_orders(&order_ids).await;
            self.order_count += batch_size;
        }
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
            "metadata": {"note": "x".repeat(100)},
        });
        command("order.create", new_order)
    }

    /// Ends an order by declining its payment.
    pub(crate) async fn decline_order(&self, id: OrderId) {
        commit(&self.store, &[decline_payment(id)]).await;
    }

    async fn advance_orders(&self, order_ids: &[OrderId]) {
        let commands_for_each =
            |group_size: usize, remainders: &[usize], new_command: &dyn Fn(OrderId) -> Command| {
                let numbered_ids = order_ids.iter().enumerate();
                let chosen_ids = numbered_ids
                    .filter(|(order_index, _)| remainders.contains(&(order_index % group_size)));
                chosen_ids
                    .map(|(_, id)| new_command(*id))
                    .collect::<Vec<_>>()
            };
        let mut authorize_results = commands_for_each(4, &[0, 1, 2], &|id| {
            let step_result = StepResult::Authorized {
                provider: "sandbox".to_owned(),
                reference: format!("scale_{id}"),
                amount: 1000,
            };
            finish_step(id, Step::AuthorizePayment, step_result)
        });
        authorize_results.extend(commands_for_each(4, &[3], &decline_payment));
        authorize_results.extend(commands_for_each(10, &[5], &|id| {
            command("order.update", json!({"id": id, "tags": ["gift"]}))
        }));
        commit(&self.store, &authorize_results).await;
        let main_warehouse: Warehouse = "main".parse().unwrap();
        let label_results = commands_for_each(4, &[0, 1, 2], &|id| {
            let tracking_number = format!("SBX{}", id.to_string().replace('-', ""));
            let step_result = StepResult::LabelCreated(Label::new("sandbox", tracking_number));
            finish_step(
                id,
                Step::RequestShipment(main_warehouse.clone().into()),
                step_result,
            )
        });
        commit(&self.store, &label_results).await;
        let delivered_webhooks = commands_for_each(4, &[0, 1], &|id| {
            let shipment_update = json!({
                "order_id": id, "type": "shipment.delivered", "timestamp": "2026-01-31T12:00:00Z",
            });
            command("shipment.update", shipment_update)
        });
        commit(&self.store, &delivered_webhooks).await;
        let capture_results = commands_for_each(4, &[0, 1], &|id| {
            finish_step(
                id,
                Step::CapturePayment,
                StepResult::Captured {
                    amount: 1000,
                    requested_total: 1000,
                    is_last_capture: true,
                },
            )
        });
        commit(&self.store, &capture_results).await;
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
           1000, 'EUR', json_extract(state, '$.payment.captured')
    FROM books.orders WHERE json_extract(state, '$.payment.status') <> 'pending';
    INSERT INTO movements (payment, kind, amount)
    SELECT reference, 'authorize', 1000 FROM payments WHERE status <> 'declined';
    INSERT INTO movements (payment, kind, amount)
    SELECT reference, 'capture', 1000 FROM payments WHERE status = 'captured';
";

const POSTGRES_LEDGER_SQL: &str = "
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
