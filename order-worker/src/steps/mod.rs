//! Steps of the flow: each reads, calls a partner, and brings the result back as a command that is
//! decided like any other. Acknowledged only after that decision is committed, so whatever dies in
//! between is tried again, under the same idempotency key.
//!
//! One file a pair of step and undo: [`payment`], [`shipment`]; [`expiry`] is a timer.

mod expiry;
mod payment;
mod shipment;

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use shared::{
    amqp::{
        connection::Broker,
        consumer::{Undecodable, consume, give_back},
        message::Incoming,
        topology::STEP_QUEUE,
    },
    outcome::Told,
};
use tokio::time::{self, Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    crash::{Point, point},
    domain::{
        command::{Command, StepResult},
        order::Order,
        step::{Step, StepKey, StepRow},
    },
    engine::{Engine, Undecided},
    providers::{
        PartnerError,
        sandbox::{carrier::SandboxCarrier, payment::SandboxPayments},
    },
    relay::StepMessage,
    store::{Store, StoreError},
};

/// Steps under way at the same time.
const PREFETCH: u16 = 128;
/// A partner that has not answered by then is asked again later. Below the lease of a step.
const STEP_TIMEOUT: Duration = Duration::from_secs(20);
/// Between attempts while the database is away.
const PAUSE: Duration = Duration::from_millis(500);
/// How long a delivery is held while the database is away, before it goes back to the queue. Going
/// back counts towards the queue's delivery limit; being held counts towards the broker's patience
/// with consumers, half an hour by default.
const HOLD: Duration = Duration::from_mins(10);

/// What steps work with.
#[derive(Clone)]
pub struct Partners {
    /// Holds the money.
    pub payments: SandboxPayments,
    /// Carries the goods.
    pub carrier: SandboxCarrier,
}

/// Handles steps from the queue.
#[derive(Clone)]
pub struct Steps {
    store: Store,
    engine: Engine,
    partners: Partners,
    under_way: Arc<Mutex<HashSet<StepKey>>>,
}

impl Steps {
    /// Handles steps over `store`, `engine` and `partners`.
    pub fn new(store: Store, engine: Engine, partners: Partners) -> Self {
        Self {
            store,
            engine,
            partners,
            under_way: Arc::default(),
        }
    }

    /// Takes steps until `stop`; `tasks` tracks those under way.
    pub async fn run(self, broker: Broker, tasks: TaskTracker, stop: CancellationToken) {
        let mut deliveries = consume(
            broker,
            STEP_QUEUE,
            PREFETCH,
            Undecodable::LeaveToDeliveryLimit,
            stop.clone(),
        );
        while let Some(Some(delivery)) = stop.run_until_cancelled(deliveries.recv()).await {
            tasks.spawn(self.clone().handle(delivery));
        }
        give_back(deliveries).await;
    }

    async fn handle(self, delivery: Incoming) {
        let message: StepMessage = match serde_json::from_slice(&delivery.body) {
            Ok(message) => message,
            Err(error) => {
                tracing::warn!(%error, message_id = delivery.message_id, "a step can't be read; it goes to the dead letters");
                return delivery.receipt.reject().await;
            }
        };
        let key = message.key();
        // A step may be sent twice; the second is done with when the first is under way here,
        // because that one is not acknowledged before it is through.
        let Some(claim) = self.claim(&key) else {
            return delivery.receipt.ack().await;
        };
        match self.perform(&message, &key).await {
            Ok(()) => {
                point(Point::AfterStepStored);
                delivery.receipt.ack().await;
            }
            Err(error) => {
                tracing::warn!(%key, %error, "a step's result could not be stored; it is done again");
                // Before the message is back: or it would be taken for a second one.
                drop(claim);
                delivery.receipt.requeue().await;
            }
        }
    }

    /// Performs the step, if that attempt is still waited for.
    async fn perform(&self, message: &StepMessage, key: &StepKey) -> anyhow::Result<()> {
        let Some((row, order)) = self.read(key).await? else {
            return Ok(());
        };
        if row.attempt != message.attempt || row.is_dead {
            return Ok(());
        }
        let result =
            match time::timeout(STEP_TIMEOUT, self.partners.ask(&row.key.step, &order)).await {
                Ok(Ok(result)) => result,
                Ok(Err(error)) => failed(error),
                Err(_) => failed(PartnerError::Transient(format!(
                    "no answer within {STEP_TIMEOUT:?}"
                ))),
            };
        point(Point::AfterPartner);
        tell(&row, &order, &result);
        match self.finish(&row, result).await {
            // Deciding the same result again would not end better: an operator must look.
            Ok(Told {
                outcome: Err(failure),
                ..
            }) => {
                tracing::error!(%failure, "a step's result was refused");
                self.give_up(&row, failure.to_string()).await
            }
            Err(defect @ Undecided::Defect(_)) => {
                tracing::error!(%defect, "a step's result could not be decided");
                self.give_up(&row, defect.to_string()).await
            }
            decided => decided.map(drop).map_err(Into::into),
        }
    }

    /// The step and its order, as soon as the database tells.
    async fn read(&self, key: &StepKey) -> Result<Option<(StepRow, Order)>, StoreError> {
        let patience = Instant::now() + HOLD;
        loop {
            match self.store.step(key).await {
                Err(error @ (StoreError::Away(_) | StoreError::Refusing(_)))
                    if Instant::now() < patience =>
                {
                    tracing::debug!(%key, %error, "a step waits for the database");
                    time::sleep(PAUSE).await;
                }
                told => return told,
            }
        }
    }

    async fn finish(&self, row: &StepRow, result: StepResult) -> Result<Told, Undecided> {
        let command = Command::Finish {
            key: row.key.clone(),
            attempt: row.attempt,
            result,
        };
        self.engine.decide(command, None).await
    }

    async fn give_up(&self, row: &StepRow, error: String) -> anyhow::Result<()> {
        self.finish(
            row,
            StepResult::Failed {
                error,
                is_transient: false,
            },
        )
        .await?;
        Ok(())
    }

    fn claim(&self, key: &StepKey) -> Option<Claim> {
        let mut under_way = self
            .under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        under_way.insert(key.clone()).then(|| Claim {
            under_way: Arc::clone(&self.under_way),
            key: key.clone(),
        })
    }
}

/// A step under way in this process.
struct Claim {
    under_way: Arc<Mutex<HashSet<StepKey>>>,
    key: StepKey,
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.key);
    }
}

impl Partners {
    /// Has the partner do what `step` says for `order`.
    async fn ask(&self, step: &Step, order: &Order) -> Result<StepResult, PartnerError> {
        match step {
            Step::AuthorizePayment => payment::authorize(&self.payments, order).await,
            Step::CapturePayment => payment::capture(&self.payments, order).await,
            Step::VoidPayment => payment::void(&self.payments, order).await,
            Step::RefundPayment => payment::refund(&self.payments, order).await,
            Step::RequestShipment(warehouse) => {
                shipment::request(&self.carrier, order, warehouse).await
            }
            Step::CancelShipment(warehouse) => {
                shipment::cancel(&self.carrier, order, warehouse).await
            }
            Step::ExpireOrder => Ok(expiry::expire()),
        }
    }
}

fn failed(error: PartnerError) -> StepResult {
    let is_transient = matches!(error, PartnerError::Transient(_));
    StepResult::Failed {
        error: error.to_string(),
        is_transient,
    }
}

/// One line of the order's story.
fn tell(row: &StepRow, order: &Order, result: &StepResult) {
    let (step, number, order_id) = (&row.key.step, order.number, order.id);
    match result {
        StepResult::Failed { error, .. } => {
            tracing::warn!(%order_id, %step, attempt = row.attempt, %error, "order #{number}: {step} failed");
        }
        done => {
            tracing::info!(%order_id, %step, attempt = row.attempt, result = ?done, "order #{number}: {step} done");
        }
    }
}
