//! Benchmarks of the code without I/O: decisions and serialization. `cargo bench --package order-worker` reports
//! the change since the previous run.

#![expect(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

use std::{hint::black_box, num::NonZeroU32};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use jiff::{SignedDuration, Timestamp};
use order_worker::domain::{
    command::{Action, Command, StepResult},
    decide::{Rules, carry_out},
    decision_context::DecisionContext,
    step::{Step, StepKey},
    working_set::WorkingSet,
};
use serde_json::{Value, json, value::to_raw_value};
use shared::{
    amqp::batch::{self, CallHeaders, Entry},
    id::OrderId,
    outcome::{Json, Outcome},
    request::{Caller, Request, Role},
};

/// Commands per batch, as under load.
const BATCH_SIZE: usize = 100;

fn test_caller() -> Caller {
    Caller {
        role: Role::Operator,
        storefront: "default".parse().unwrap(),
        actor: "bench".to_owned(),
        intent: "bench".to_owned(),
        request_id: "bench".to_owned(),
        trace_context: None,
    }
}

fn default_rules() -> Rules {
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

fn new_context() -> DecisionContext {
    DecisionContext::new(Timestamp::from_millisecond(1_800_000_000_000).unwrap(), 7)
}

fn command(action: Action) -> Command {
    Command::Request {
        caller: test_caller(),
        idempotency: None,
        if_match: None,
        action,
    }
}

fn new_order(customer_id: &str, sku_number: usize) -> Value {
    json!({
        "customer_id": customer_id,
        "items": [{"sku": format!("S{sku_number}"), "quantity": NonZeroU32::MIN}],
        "shipping_address": {"name": "Ada", "street": "Domstraße 1", "city": "Köln"},
        "metadata": {"cart": "42"},
    })
}

fn create_order_command(customer_id: &str, sku_number: usize) -> Command {
    match Request::read("order.create", new_order(customer_id, sku_number)).unwrap() {
        Request::CreateOrder(new_order) => command(Action::CreateOrder(new_order)),
        _ => unreachable!("it is what was read"),
    }
}

/// A working set with a catalogue, and the id of its customer.
fn new_catalogue() -> (WorkingSet, String) {
    let mut working_set = WorkingSet::default();
    let (rules, mut context) = (default_rules(), new_context());
    for sku_number in 0..BATCH_SIZE {
        let sku = format!("S{sku_number}");
        let product_json = json!({"sku": sku, "name": "T-shirt", "price": 1999, "currency": "EUR"});
        let stock_json = json!({"sku": sku, "warehouse": "berlin", "on_hand": 1_000_000});
        for (pattern, body) in [("product.create", product_json), ("stock.set", stock_json)] {
            let action = match Request::read(pattern, body).unwrap() {
                Request::CreateProduct(request) => Action::CreateProduct(request),
                Request::SetStock(request) => Action::SetStock(request),
                _ => unreachable!("it is what was read"),
            };
            let reply = carry_out(&mut working_set, &command(action), &rules, &mut context);
            reply.outcome.unwrap();
        }
    }
    let new_customer = json!({"name": "Ada", "email": "ada@example.com"});
    let Request::CreateCustomer(customer_request) =
        Request::read("customer.create", new_customer).unwrap()
    else {
        unreachable!("it is what was read")
    };
    let reply = carry_out(
        &mut working_set,
        &command(Action::CreateCustomer(customer_request)),
        &rules,
        &mut context,
    );
    let customer_id = reply.outcome.unwrap().value()["id"]
        .as_str()
        .unwrap()
        .to_owned();
    (working_set, customer_id)
}

fn bench_decisions(criterion: &mut Criterion) {
    let (mut working_set, customer_id) = new_catalogue();
    working_set.changes = order_worker::domain::working_set::ChangeSet::default();
    let create_order_commands: Vec<_> = (0..BATCH_SIZE)
        .map(|sku_number| create_order_command(&customer_id, sku_number))
        .collect();
    let rules = default_rules();
    let create_orders = |mut working_set: WorkingSet| {
        working_set.next_order_numbers = (1..).take(BATCH_SIZE).collect();
        let mut context = new_context();
        let orders = create_order_commands.iter().map(|create_command| {
            let reply = carry_out(&mut working_set, create_command, &rules, &mut context);
            reply.outcome.unwrap()
        });
        let orders: Vec<Json> = orders.collect();
        (working_set, orders)
    };
    let mut benchmark_group = criterion.benchmark_group("decide");
    benchmark_group.throughput(Throughput::Elements(BATCH_SIZE as u64));
    benchmark_group.bench_function("100 orders", |bencher| {
        bencher.iter_batched(|| working_set.clone(), create_orders, BatchSize::SmallInput);
    });
    let (working_set_with_orders, orders) = create_orders(working_set.clone());
    let finish_commands: Vec<Command> = orders
        .iter()
        .map(|order| {
            let order_id: OrderId = order.value()["id"].as_str().unwrap().parse().unwrap();
            Command::FinishStep {
                key: StepKey {
                    order_id,
                    step: Step::AuthorizePayment,
                },
                attempt: 1,
                result: StepResult::Authorized {
                    provider: "sandbox".to_owned(),
                    reference: "sandbox_1".to_owned(),
                    amount: 1999,
                },
            }
        })
        .collect();
    benchmark_group.bench_function("100 authorizations", |bencher| {
        let finish_steps = |mut working_set: WorkingSet| {
            let mut context = new_context();
            for finish_command in &finish_commands {
                black_box(carry_out(
                    &mut working_set,
                    finish_command,
                    &rules,
                    &mut context,
                ));
            }
            working_set
        };
        bencher.iter_batched(
            || working_set_with_orders.clone(),
            finish_steps,
            BatchSize::SmallInput,
        );
    });
    benchmark_group.finish();
}

fn bench_json(criterion: &mut Criterion) {
    let example_id = "0192f0c1-2345-7abc-8def-0123456789ab";
    let body = to_raw_value(&new_order(example_id, 1)).unwrap();
    let new_entries = || {
        let new_entry = |_| Entry {
            kind: "order.create".into(),
            correlation_id: Some(example_id.into()),
            message_id: Some(example_id.into()),
            expiration: Some("5000".into()),
            headers: CallHeaders {
                role: Some("storefront".into()),
                request_id: Some(example_id.into()),
                ..CallHeaders::default()
            },
            body: &body,
        };
        (0..BATCH_SIZE).map(new_entry).collect::<Vec<_>>()
    };
    let batch_message = batch::to_json(&new_entries());
    let mut benchmark_group = criterion.benchmark_group("codec");
    benchmark_group.throughput(Throughput::Elements(BATCH_SIZE as u64));
    benchmark_group.bench_function("write a batch of 100 requests", |bencher| {
        bencher.iter(|| batch::to_json(black_box(&new_entries())));
    });
    benchmark_group.bench_function("read a batch of 100 requests", |bencher| {
        bencher.iter(|| {
            let message_entries = batch::split_entries(black_box(&batch_message)).unwrap();
            let requests = message_entries.into_iter().map(|entry_json| {
                let entry: Entry<'_> = serde_json::from_str(entry_json.get()).unwrap();
                let body = shared::body::parse(entry.body.get().as_bytes()).unwrap();
                Request::read(&entry.kind, body).unwrap()
            });
            requests.collect::<Vec<_>>()
        });
    });
    let (mut working_set, customer_id) = new_catalogue();
    working_set.next_order_numbers = [1].into();
    let reply = carry_out(
        &mut working_set,
        &create_order_command(&customer_id, 1),
        &default_rules(),
        &mut new_context(),
    );
    let envelope = batch::to_json(&Outcome::from(reply.outcome));
    benchmark_group.throughput(Throughput::Elements(1));
    benchmark_group.bench_function("pass on an envelope", |bencher| {
        bencher.iter(|| serde_json::from_slice::<Outcome<Json>>(black_box(&envelope)).unwrap());
    });
    benchmark_group.finish();
}

criterion_group!(benches, bench_decisions, bench_json);
criterion_main!(benches);
