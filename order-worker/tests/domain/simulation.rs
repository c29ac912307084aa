//! A simulation of workers, broker and providers in memory, with a possible crash between any two effects, such
//! as after the commit and before the reply, or after the provider's response and before it is stored. Orders
//! are edited, shipped, refunded, returned and cancelled meanwhile. The seed determines the run, so that
//! failures are reproducible:
//!
//! ```sh
//! SIMULATION_SEED=42 cargo test -p order-worker --test domain simulation
//! SIMULATION_SEEDS=20000 cargo test --release -p order-worker --test domain simulation
//! ```

use std::{collections::BTreeMap, mem};

use order_worker::domain::{
    command::{Action, Command, Idempotency, KeyOrigin, StepResult},
    step::{StepKey, StepRow},
};
use serde_json::json;
use shared::{id::OrderId, order::OrderStatus, outcome::RpcReply, request::Request};

use crate::{
    random::Random,
    shop::{ProviderMode, Shop, operator},
};

/// Default number of seeds.
const SEED_COUNT: u64 = 300;
/// Effects with faults per run.
const EFFECTS_PER_SEED: usize = 400;
/// Number of workers.
const WORKER_COUNT: usize = 2;
/// Maximum number of orders.
const CLIENT_COUNT: usize = 12;

/// A request in the queue.
#[derive(Debug, Clone)]
struct RequestMessage {
    client_index: usize,
    idempotency: Idempotency,
}

/// A step message in the queue.
#[derive(Debug, Clone)]
struct StepMessage {
    key: StepKey,
    attempt: u32,
}

/// An unacknowledged message of a worker and its progress. A crash loses the progress and redelivers the
/// message.
#[derive(Debug, Clone)]
enum InProgress {
    /// A request that is not committed yet.
    RequestReceived(RequestMessage),
    /// Committed; the reply is not sent yet.
    Committed(RequestMessage, Result<OrderId, ()>, Vec<StepMessage>),
    /// Replied; the steps are not published yet.
    Replied(RequestMessage, Vec<StepMessage>),
    /// Ready to be acknowledged.
    Done(Message),
    /// A step message; the provider is not called yet.
    StepReceived(StepMessage),
    /// The provider responded; the result is not stored yet.
    ProviderResponded(StepMessage, u32, StepResult),
    /// Stored; the following steps are not published yet.
    ResultStored(StepMessage, Vec<StepMessage>),
}

#[derive(Debug, Clone)]
enum Message {
    RequestMessage(RequestMessage),
    StepMessage(StepMessage),
}

impl InProgress {
    /// The message to redeliver.
    fn message(&self) -> Message {
        match self {
            Self::RequestReceived(request)
            | Self::Committed(request, ..)
            | Self::Replied(request, _) => Message::RequestMessage(request.clone()),
            Self::Done(message) => message.clone(),
            Self::StepReceived(step_message)
            | Self::ProviderResponded(step_message, ..)
            | Self::ResultStored(step_message, _) => Message::StepMessage(step_message.clone()),
        }
    }
}

#[derive(Debug, Clone, Default)]
struct Client {
    /// Whether the client retries with an idempotency key. Otherwise only the broker redelivers.
    has_idempotency_key: bool,
    has_sent: bool,
    acknowledged_id: Option<OrderId>,
    is_refused: bool,
}

struct Simulation {
    random: Random,
    shop: Shop,
    clients: Vec<Client>,
    requests: Vec<RequestMessage>,
    step_messages: Vec<StepMessage>,
    workers: Vec<Vec<InProgress>>,
    /// The log of the run, printed on failure.
    log: Vec<String>,
}

impl Simulation {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let clients = (0..CLIENT_COUNT).map(|_| Client {
            has_idempotency_key: random.chance(60),
            ..Client::default()
        });
        Self {
            clients: clients.collect(),
            random,
            shop: Shop::with_stock(&[("A", "east", 7), ("A", "west", 3)]),
            requests: Vec::new(),
            step_messages: Vec::new(),
            workers: vec![Vec::new(); WORKER_COUNT],
            log: Vec::new(),
        }
    }

    /// Executes one random effect or fault.
    fn run_random_effect(&mut self, has_faults: bool) {
        let worker_index = self.random.random_below(WORKER_COUNT);
        match self.random.random_below(100) {
            0..10 => self.send_request(),
            10..25 => self.receive_message(worker_index),
            25..85 => self.execute_next_effect(worker_index, has_faults),
            85..92 => self.publish_due_step(),
            _ if !has_faults => {}
            92..95 => self.crash_worker(worker_index),
            95 => self.duplicate_messages(),
            96..98 => self.change_order(),
            98 => self.commit_batch(worker_index),
            _ => {
                // The broker loses all messages.
                self.log.push("the broker lost all messages".to_owned());
                self.requests.clear();
                self.step_messages.clear();
            }
        }
    }

    fn send_request(&mut self) {
        let client_index = self.random.random_below(CLIENT_COUNT);
        let client = &mut self.clients[client_index];
        let may_send = client.has_idempotency_key || !client.has_sent;
        if client.acknowledged_id.is_some() || client.is_refused || !may_send {
            return;
        }
        client.has_sent = true;
        let key_origin = if client.has_idempotency_key {
            KeyOrigin::Client
        } else {
            KeyOrigin::Message
        };
        self.requests.push(RequestMessage {
            client_index,
            idempotency: Idempotency {
                key: format!("client-{client_index}"),
                fingerprint: String::new(),
                key_origin,
                operation: None,
            },
        });
    }

    fn receive_message(&mut self, worker_index: usize) {
        let takes_step = self.random.chance(60);
        if takes_step && !self.step_messages.is_empty() {
            let step_message = self
                .step_messages
                .remove(self.random.random_below(self.step_messages.len()));
            self.workers[worker_index].push(InProgress::StepReceived(step_message));
        } else if !self.requests.is_empty() {
            let request = self
                .requests
                .remove(self.random.random_below(self.requests.len()));
            self.workers[worker_index].push(InProgress::RequestReceived(request));
        }
    }

    /// Executes the next effect of a message that the worker holds.
    fn execute_next_effect(&mut self, worker_index: usize, has_faults: bool) {
        if self.workers[worker_index].is_empty() {
            return;
        }
        let message_index = self.random.random_below(self.workers[worker_index].len());
        let progress = self.workers[worker_index].swap_remove(message_index);
        let next_progress = match progress {
            InProgress::RequestReceived(request) => {
                let (reply, step_messages) = self.commit_request(&request);
                // The outcome of the commit is unknown, so the worker decides the request again.
                if has_faults && self.random.chance(5) {
                    self.log
                        .push("the outcome of the commit is unknown".to_owned());
                    Some(InProgress::RequestReceived(request))
                } else {
                    Some(InProgress::Committed(request, reply, step_messages))
                }
            }
            InProgress::Committed(request, reply, step_messages) => {
                self.reply(&request, reply);
                Some(InProgress::Replied(request, step_messages))
            }
            InProgress::Replied(request, step_messages) => {
                self.step_messages.extend(step_messages);
                Some(InProgress::Done(Message::RequestMessage(request)))
            }
            InProgress::Done(_) => None,
            InProgress::StepReceived(step_message) => {
                Some(self.call_provider(step_message, has_faults))
            }
            InProgress::ProviderResponded(step_message, attempt, result) => {
                let reply = self.shop.carry_out(&Command::FinishStep {
                    key: step_message.key.clone(),
                    attempt,
                    result: result.clone(),
                });
                assert!(reply.outcome.is_ok(), "{:?}", reply.outcome);
                let step_messages = self.steps_to_publish();
                if has_faults && self.random.chance(5) {
                    Some(InProgress::ProviderResponded(step_message, attempt, result))
                } else {
                    Some(InProgress::ResultStored(step_message, step_messages))
                }
            }
            InProgress::ResultStored(step_message, step_messages) => {
                self.step_messages.extend(step_messages);
                Some(InProgress::Done(Message::StepMessage(step_message)))
            }
        };
        self.workers[worker_index].extend(next_progress);
    }

    /// Commits all requests that the worker has taken in one batch.
    fn commit_batch(&mut self, worker_index: usize) {
        let messages = mem::take(&mut self.workers[worker_index]);
        for progress in messages {
            let next_progress = match progress {
                InProgress::RequestReceived(request) => {
                    let (reply, step_messages) = self.commit_request(&request);
                    InProgress::Committed(request, reply, step_messages)
                }
                other_progress => other_progress,
            };
            self.workers[worker_index].push(next_progress);
        }
    }

    fn commit_request(
        &mut self,
        request: &RequestMessage,
    ) -> (Result<OrderId, ()>, Vec<StepMessage>) {
        let new_order = json!({
            "customer_id": self.shop.customer_id,
            "items": [{"sku": "A", "quantity": 1}],
            "metadata": {"client": request.client_index},
        });
        let Request::CreateOrder(new_order) = Request::read("order.create", new_order).unwrap()
        else {
            unreachable!("the request was parsed as another type")
        };
        let reply = self.shop.carry_out(&Command::Request {
            caller: operator(),
            idempotency: Some(request.idempotency.clone()),
            if_match: None,
            action: Action::CreateOrder(new_order),
        });
        let RpcReply { outcome, .. } = reply;
        let order_id = outcome.map(|order| order.value()["id"].as_str().unwrap().parse().unwrap());
        (order_id.map_err(drop), self.steps_to_publish())
    }

    /// The steps written by the commit, to be published after it.
    fn steps_to_publish(&mut self) -> Vec<StepMessage> {
        let change_set = mem::take(&mut self.shop.working_set.changes);
        let written_steps = change_set
            .steps
            .iter()
            .filter_map(|key| self.shop.working_set.steps.get(key));
        written_steps
            .filter(|row| !row.is_dead && !row.key.step.is_timer_or_check())
            .map(step_message)
            .collect()
    }

    fn reply(&mut self, request: &RequestMessage, reply: Result<OrderId, ()>) {
        let client = &mut self.clients[request.client_index];
        match (reply, client.acknowledged_id) {
            (Ok(order_id), Some(known_id)) => {
                assert_eq!(order_id, known_id, "one key gave two orders");
            }
            (Ok(order_id), None) => client.acknowledged_id = Some(order_id),
            (Err(()), None) => client.is_refused = true,
            (Err(()), Some(_)) => panic!("an acknowledged order was refused later"),
        }
    }

    fn call_provider(&mut self, step_message: StepMessage, has_faults: bool) -> InProgress {
        let row = self.shop.working_set.steps.get(&step_message.key);
        // The step is finished or in a later attempt: the message is outdated.
        let Some(row) = row.filter(|row| row.attempt == step_message.attempt && !row.is_dead)
        else {
            return InProgress::Done(Message::StepMessage(step_message));
        };
        let attempt = row.attempt;
        let mode = match self.random.random_below(100) {
            _ if !has_faults => ProviderMode::Responds,
            0..70 => ProviderMode::Responds,
            70..85 => ProviderMode::LosesResponse,
            85..90 => ProviderMode::TransientError,
            90..95 => ProviderMode::NoFreeSlot,
            _ => ProviderMode::Declines,
        };
        self.shop.execute_step(&step_message.key, mode);
        let (_, _, step_result) = self.shop.step_results.pop().unwrap();
        InProgress::ProviderResponded(step_message, attempt, step_result)
    }

    /// Publishes a due step from the database, even if its message is still in flight.
    fn publish_due_step(&mut self) {
        let due_steps = self.shop.due_steps();
        if !due_steps.is_empty() {
            let key = &due_steps[self.random.random_below(due_steps.len())];
            self.step_messages
                .push(step_message(&self.shop.working_set.steps[key]));
        }
    }

    /// Kills a worker: its progress is lost and its messages are redelivered.
    fn crash_worker(&mut self, worker_index: usize) {
        for held_message in mem::take(&mut self.workers[worker_index]) {
            self.log
                .push(format!("worker crashed with {held_message:?}"));
            match held_message.message() {
                Message::RequestMessage(request) => self.requests.push(request),
                Message::StepMessage(step_message) => self.step_messages.push(step_message),
            }
        }
    }

    /// Duplicates messages.
    fn duplicate_messages(&mut self) {
        if let Some(step_message) = self.step_messages.first().cloned() {
            self.step_messages.push(step_message);
        }
        if let Some(request) = self.requests.first().cloned() {
            self.requests.push(request);
        }
    }

    /// Edits, ships, refunds, returns or cancels an acknowledged order. It may be refused.
    fn change_order(&mut self) {
        let acknowledged_ids: Vec<OrderId> = self
            .clients
            .iter()
            .filter_map(|client| client.acknowledged_id)
            .collect();
        let Some(id) = self.random.pick(&acknowledged_ids) else {
            return;
        };
        let quantity = self.random.random_quantity(3);
        let items = json!([{"sku": "A", "quantity": quantity}]);
        let open_return = self.shop.working_set.orders[&id].open_return();
        let open_return_id = open_return.map(|order_return| order_return.id);
        let (pattern, body) = match (self.random.random_below(8), open_return_id) {
            (0, _) => ("order.cancel", json!({"id": id})),
            (1..4, _) => ("order.edit", json!({"id": id, "items": items})),
            (4, _) => ("order.cancel_edit", json!({"id": id})),
            (5, _) => ("shipment.create", json!({"id": id})),
            (6, _) => ("order.refund", json!({"id": id, "items": items})),
            (_, None) => ("return.create", json!({"id": id, "items": items})),
            (_, Some(return_id)) => {
                let approval = json!({ "id": return_id });
                let _ = self.shop.execute_request("return.approve", approval);
                let items = json!([{"sku": "A", "quantity": 1, "restock": true}]);
                ("return.receive", json!({"id": return_id, "items": items}))
            }
        };
        let change_result = self.shop.execute_request(pattern, body);
        self.log
            .push(format!("{pattern}: {:?}", change_result.is_ok()));
        let step_messages = self.steps_to_publish();
        self.step_messages.extend(step_messages);
    }

    /// Continues without faults until nothing is left to do.
    fn run_until_idle(&mut self) {
        for _ in 0..20_000 {
            let is_idle = self.requests.is_empty()
                && self.step_messages.is_empty()
                && self.workers.iter().all(Vec::is_empty)
                && self.shop.due_steps().is_empty();
            if is_idle {
                return;
            }
            self.run_random_effect(false);
        }
        panic!(
            "the simulation never becomes idle: {:?}",
            self.shop.working_set.steps
        );
    }

    fn check_result(&self) {
        self.shop.check_settled();
        let mut orders_by_client: BTreeMap<u64, usize> = BTreeMap::new();
        for order in self.shop.working_set.orders.values() {
            *orders_by_client
                .entry(order.metadata["client"].as_u64().unwrap())
                .or_default() += 1;
            assert_ne!(order.status, OrderStatus::Pending, "stuck");
        }
        assert!(
            orders_by_client
                .values()
                .all(|order_count| *order_count == 1),
            "{orders_by_client:?}"
        );
        for client in &self.clients {
            if let Some(id) = client.acknowledged_id {
                assert!(self.shop.working_set.orders.contains_key(&id), "lost");
            }
        }
    }
}

fn step_message(row: &StepRow) -> StepMessage {
    StepMessage {
        key: row.key.clone(),
        attempt: row.attempt,
    }
}

fn simulate(seed: u64) -> usize {
    let mut simulation = Simulation::new(seed);
    let run_outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        for _ in 0..EFFECTS_PER_SEED {
            simulation.run_random_effect(true);
        }
        simulation.run_until_idle();
        simulation.check_result();
    }));
    if let Err(panic) = run_outcome {
        println!("{}", simulation.log.join("\n"));
        println!("reproduce with SIMULATION_SEED={seed}");
        std::panic::resume_unwind(panic);
    }
    simulation.shop.working_set.orders.len()
}

#[test]
fn crashes_between_any_two_effects_lose_or_duplicate_nothing() {
    let setting = |variable_name: &str| {
        std::env::var(variable_name)
            .ok()
            .and_then(|variable_text| variable_text.parse().ok())
    };
    if let Some(seed) = setting("SIMULATION_SEED") {
        simulate(seed);
        return;
    }
    let seed_count = setting("SIMULATION_SEEDS").unwrap_or(SEED_COUNT);
    let total_order_count: usize = (0..seed_count).map(simulate).sum();
    println!("{seed_count} seeds, {total_order_count} orders: nothing lost, duplicated or stuck");
    assert!(total_order_count > 0);
}
