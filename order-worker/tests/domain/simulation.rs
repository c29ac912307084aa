//! A simulation of workers, broker and providers in memory, with a possible crash between any two effects, such
//! as after the commit and before the reply, or after the provider's response and before it is stored. The seed
//! determines the run, so that failures are reproducible:
//!
//! ```sh
//! SIMULATION_SEED=42 cargo test -p order-worker --test domain simulation
//! SIMULATION_SEEDS=20000 cargo test --release -p order-worker --test domain simulation
//! ```

use std::{collections::BTreeMap, mem};

use order_worker::domain::{
    command::{Action, Command, Idempotency, StepResult, Trust},
    step::{StepKey, StepRow},
};
use serde_json::json;
use shared::{id::OrderId, order::OrderStatus, outcome::RpcReply, request::Request};

use crate::shop::{Mood, Shop, operator};

/// Default number of seeds.
const SEEDS: u64 = 300;
/// Effects with faults per run.
const EFFECTS: usize = 400;
/// Number of workers.
const WORKERS: usize = 2;
/// Maximum number of orders.
const CLIENTS: usize = 12;

/// SplitMix64, a pseudorandom number generator.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % bound.max(1) as u64).unwrap()
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}

/// A request in the queue.
#[derive(Debug, Clone)]
struct Ask {
    client: usize,
    idempotency: Idempotency,
}

/// A step message in the queue.
#[derive(Debug, Clone)]
struct Wake {
    key: StepKey,
    attempt: u32,
}

/// An unacknowledged message of a worker and its progress. A crash loses the progress and redelivers the
/// message.
#[derive(Debug, Clone)]
enum InHand {
    /// Not decided yet.
    Asked(Ask),
    /// Committed; the reply is not sent yet.
    Decided(Ask, Result<OrderId, ()>, Vec<Wake>),
    /// Replied; the steps are not published yet.
    Replied(Ask, Vec<Wake>),
    /// Ready to be acknowledged.
    Done(Message),
    /// A step message; the provider is not called yet.
    Woken(Wake),
    /// The provider responded; the result is not stored yet.
    Answered(Wake, u32, StepResult),
    /// Stored; the following steps are not published yet.
    Stored(Wake, Vec<Wake>),
}

#[derive(Debug, Clone)]
enum Message {
    Ask(Ask),
    Wake(Wake),
}

impl InHand {
    /// The message to redeliver.
    fn message(&self) -> Message {
        match self {
            Self::Asked(ask) | Self::Decided(ask, ..) | Self::Replied(ask, _) => {
                Message::Ask(ask.clone())
            }
            Self::Done(message) => message.clone(),
            Self::Woken(wake) | Self::Answered(wake, ..) | Self::Stored(wake, _) => {
                Message::Wake(wake.clone())
            }
        }
    }
}

#[derive(Debug, Clone, Default)]
struct Client {
    /// Whether the client retries with an idempotency key. Otherwise only the broker redelivers.
    has_key: bool,
    has_asked: bool,
    acknowledged: Option<OrderId>,
    is_refused: bool,
}

struct Simulation {
    random: Random,
    shop: Shop,
    clients: Vec<Client>,
    asks: Vec<Ask>,
    wakes: Vec<Wake>,
    workers: Vec<Vec<InHand>>,
    /// A log of the run, printed on failure.
    story: Vec<String>,
}

impl Simulation {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let clients = (0..CLIENTS).map(|_| Client {
            has_key: random.chance(60),
            ..Client::default()
        });
        Self {
            clients: clients.collect(),
            random,
            shop: Shop::with_stock(&[("A", "east", 7), ("A", "west", 3)]),
            asks: Vec::new(),
            wakes: Vec::new(),
            workers: vec![Vec::new(); WORKERS],
            story: Vec::new(),
        }
    }

    /// Executes one random effect or fault.
    fn step(&mut self, has_mishaps: bool) {
        let worker = self.random.below(WORKERS);
        match self.random.below(100) {
            0..10 => self.client_asks(),
            10..25 => self.take(worker),
            25..85 => self.work(worker, has_mishaps),
            85..93 => self.sweep(),
            _ if !has_mishaps => {}
            93..96 => self.crash(worker),
            96 => self.double(),
            97 => self.cancel(),
            98 => self.commit_batch(worker),
            _ => {
                // The broker loses all messages.
                self.story.push("wiped".to_owned());
                self.asks.clear();
                self.wakes.clear();
            }
        }
    }

    fn client_asks(&mut self) {
        let number = self.random.below(CLIENTS);
        let client = &mut self.clients[number];
        let may_ask = client.has_key || !client.has_asked;
        if client.acknowledged.is_some() || client.is_refused || !may_ask {
            return;
        }
        client.has_asked = true;
        let trust = if client.has_key {
            Trust::Client
        } else {
            Trust::Message
        };
        self.asks.push(Ask {
            client: number,
            idempotency: Idempotency {
                key: format!("client-{number}"),
                fingerprint: String::new(),
                trust,
            },
        });
    }

    fn take(&mut self, worker: usize) {
        let takes_wake = self.random.chance(60);
        if takes_wake && !self.wakes.is_empty() {
            let wake = self.wakes.remove(self.random.below(self.wakes.len()));
            self.workers[worker].push(InHand::Woken(wake));
        } else if !self.asks.is_empty() {
            let ask = self.asks.remove(self.random.below(self.asks.len()));
            self.workers[worker].push(InHand::Asked(ask));
        }
    }

    /// Executes the next effect of a message that the worker holds.
    fn work(&mut self, worker: usize, has_mishaps: bool) {
        if self.workers[worker].is_empty() {
            return;
        }
        let index = self.random.below(self.workers[worker].len());
        let in_hand = self.workers[worker].swap_remove(index);
        let next = match in_hand {
            InHand::Asked(ask) => {
                let (told, wakes) = self.commit_ask(&ask);
                // The outcome of the commit is unknown, so the worker decides the request again.
                if has_mishaps && self.random.chance(5) {
                    self.story.push("commit not answered".to_owned());
                    Some(InHand::Asked(ask))
                } else {
                    Some(InHand::Decided(ask, told, wakes))
                }
            }
            InHand::Decided(ask, told, wakes) => {
                self.reply(&ask, told);
                Some(InHand::Replied(ask, wakes))
            }
            InHand::Replied(ask, wakes) => {
                self.wakes.extend(wakes);
                Some(InHand::Done(Message::Ask(ask)))
            }
            InHand::Done(_) => None,
            InHand::Woken(wake) => Some(self.ask_partner(wake, has_mishaps)),
            InHand::Answered(wake, attempt, result) => {
                let told = self.shop.carry_out(&Command::Finish {
                    key: wake.key.clone(),
                    attempt,
                    result: result.clone(),
                });
                assert!(told.outcome.is_ok(), "{:?}", told.outcome);
                let wakes = self.due();
                if has_mishaps && self.random.chance(5) {
                    Some(InHand::Answered(wake, attempt, result))
                } else {
                    Some(InHand::Stored(wake, wakes))
                }
            }
            InHand::Stored(wake, wakes) => {
                self.wakes.extend(wakes);
                Some(InHand::Done(Message::Wake(wake)))
            }
        };
        self.workers[worker].extend(next);
    }

    /// Commits all requests that the worker has taken in one batch.
    fn commit_batch(&mut self, worker: usize) {
        let held = mem::take(&mut self.workers[worker]);
        for in_hand in held {
            let next = match in_hand {
                InHand::Asked(ask) => {
                    let (told, wakes) = self.commit_ask(&ask);
                    InHand::Decided(ask, told, wakes)
                }
                other => other,
            };
            self.workers[worker].push(next);
        }
    }

    fn commit_ask(&mut self, ask: &Ask) -> (Result<OrderId, ()>, Vec<Wake>) {
        let wish = json!({
            "customer_id": self.shop.customer,
            "items": [{"sku": "A", "quantity": 1}],
            "metadata": {"client": ask.client},
        });
        let Request::CreateOrder(wish) = Request::read("order.create", wish).unwrap() else {
            unreachable!("it is what was asked for")
        };
        let told = self.shop.carry_out(&Command::Request {
            caller: operator(),
            idempotency: Some(ask.idempotency.clone()),
            if_match: None,
            action: Action::CreateOrder(wish),
        });
        let RpcReply { outcome, .. } = told;
        let id = outcome.map(|order| order.value()["id"].as_str().unwrap().parse().unwrap());
        (id.map_err(drop), self.due())
    }

    /// The steps written by the commit, to be published after it.
    fn due(&mut self) -> Vec<Wake> {
        let dirty = mem::take(&mut self.shop.world.dirty);
        let put = dirty
            .steps
            .iter()
            .filter_map(|key| self.shop.world.steps.get(key));
        put.filter(|row| !row.is_dead && !row.key.step.is_timer())
            .map(wake)
            .collect()
    }

    fn reply(&mut self, ask: &Ask, told: Result<OrderId, ()>) {
        let client = &mut self.clients[ask.client];
        match (told, client.acknowledged) {
            (Ok(id), Some(known)) => assert_eq!(id, known, "one key, one order"),
            (Ok(id), None) => client.acknowledged = Some(id),
            (Err(()), None) => client.is_refused = true,
            (Err(()), Some(_)) => panic!("acknowledged, and then refused"),
        }
    }

    fn ask_partner(&mut self, wake: Wake, has_mishaps: bool) -> InHand {
        let row = self.shop.world.steps.get(&wake.key);
        // The step is finished or in a later attempt: the message is outdated.
        let Some(row) = row.filter(|row| row.attempt == wake.attempt && !row.is_dead) else {
            return InHand::Done(Message::Wake(wake));
        };
        let attempt = row.attempt;
        let mood = match self.random.below(100) {
            _ if !has_mishaps => Mood::Fine,
            0..70 => Mood::Fine,
            70..85 => Mood::LosesAnswer,
            85..90 => Mood::Busy,
            90..95 => Mood::HasNoRoom,
            _ => Mood::Declines,
        };
        self.shop.perform(&wake.key, mood);
        let (_, _, result) = self.shop.answers.pop().unwrap();
        InHand::Answered(wake, attempt, result)
    }

    /// Publishes a due step from the database, even if its message is still in flight.
    fn sweep(&mut self) {
        let waiting = self.shop.waiting();
        if !waiting.is_empty() {
            let key = &waiting[self.random.below(waiting.len())];
            self.wakes.push(wake(&self.shop.world.steps[key]));
        }
    }

    /// Kills a worker: its progress is lost and its messages are redelivered.
    fn crash(&mut self, worker: usize) {
        for in_hand in mem::take(&mut self.workers[worker]) {
            self.story.push(format!("crashed with {in_hand:?}"));
            match in_hand.message() {
                Message::Ask(ask) => self.asks.push(ask),
                Message::Wake(wake) => self.wakes.push(wake),
            }
        }
    }

    /// Duplicates messages.
    fn double(&mut self) {
        if let Some(wake) = self.wakes.first().cloned() {
            self.wakes.push(wake);
        }
        if let Some(ask) = self.asks.first().cloned() {
            self.asks.push(ask);
        }
    }

    fn cancel(&mut self) {
        let known: Vec<OrderId> = self
            .clients
            .iter()
            .filter_map(|client| client.acknowledged)
            .collect();
        if !known.is_empty() {
            let _ = self.shop.cancel(known[self.random.below(known.len())]);
            let wakes = self.due();
            self.wakes.extend(wakes);
        }
    }

    /// Continues without faults until nothing is left to do.
    fn come_to_rest(&mut self) {
        for _ in 0..20_000 {
            let is_idle = self.asks.is_empty()
                && self.wakes.is_empty()
                && self.workers.iter().all(Vec::is_empty)
                && self.shop.waiting().is_empty();
            if is_idle {
                return;
            }
            self.step(false);
        }
        panic!("never comes to rest: {:?}", self.shop.world.steps);
    }

    fn check(&self) {
        self.shop.check_settled();
        let mut orders: BTreeMap<u64, usize> = BTreeMap::new();
        for order in self.shop.world.orders.values() {
            *orders
                .entry(order.metadata["client"].as_u64().unwrap())
                .or_default() += 1;
            assert_ne!(order.status, OrderStatus::Pending, "stuck");
        }
        assert!(orders.values().all(|count| *count == 1), "{orders:?}");
        for client in &self.clients {
            if let Some(id) = client.acknowledged {
                assert!(self.shop.world.orders.contains_key(&id), "lost");
            }
        }
    }
}

fn wake(row: &StepRow) -> Wake {
    Wake {
        key: row.key.clone(),
        attempt: row.attempt,
    }
}

fn simulate(seed: u64) -> usize {
    let mut simulation = Simulation::new(seed);
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        for _ in 0..EFFECTS {
            simulation.step(true);
        }
        simulation.come_to_rest();
        simulation.check();
    }));
    if let Err(panic) = outcome {
        println!("{}", simulation.story.join("\n"));
        println!("SIMULATION_SEED={seed} shows it again");
        std::panic::resume_unwind(panic);
    }
    simulation.shop.world.orders.len()
}

#[test]
fn crashes_between_any_two_effects_lose_and_double_nothing() {
    let setting = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    if let Some(seed) = setting("SIMULATION_SEED") {
        simulate(seed);
        return;
    }
    let seeds = setting("SIMULATION_SEEDS").unwrap_or(SEEDS);
    let orders: usize = (0..seeds).map(simulate).sum();
    println!("{seeds} seeds, {orders} orders: nothing lost, doubled or stuck");
    assert!(orders > 0);
}
