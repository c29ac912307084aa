//! Starts and stops the worker: opens the broker connections, the database and the sandbox, starts the engine
//! and all background tasks, and serves requests and steps until it is stopped. The configuration is
//! read by [`config`](crate::config); each part is described in its own module.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, anyhow};
use jiff::Timestamp;
use shared::{
    amqp::{
        connection::Broker,
        publisher::{self, Publisher, Replier},
        request_pause::RequestPause,
        topology::{REQUEST_QUEUE, RequestQueueType, STEP_QUEUE},
    },
    metrics::Metrics,
    settings::PartnerLog,
};
use tokio::{net::TcpListener, sync::watch, task::JoinSet, time};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    background::{
        housekeeping::run_maintenance,
        jobs::{Source, order_import, stock_refresh},
        relay::{self, spawn},
        stats::{self, Latencies, WorkerStats},
    },
    config::{Config, SandboxDelivery},
    engine::Engine,
    failures::{archive::run_archive, dead_letters::DeadLetters, retries::Retries},
    mail::{Mailer, MessageDispatcher},
    providers::{
        Carriers, Payments,
        http_carrier::HttpCarrier,
        pages::ListClient,
        sandbox::{LedgerLocation, Sandbox, carrier::SandboxCarrier, payment::SandboxPayments},
        stripe::Stripe,
    },
    rpc::{EffectiveSettings, FeedNotifier, OptionalFeatures, Rpc, partner_names},
    runtime::health::{self, Health},
    steps::{Providers, StepExecutor},
    store::{self, Store},
    webhooks::{WebhookDispatcher, attempt::Sender},
};

/// Time limit for requests in progress at shutdown. Requests that are not finished are redelivered to another
/// worker.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// Time limit for steps in progress at shutdown. It is short, because payment providers may be slow while
/// clients wait for the next worker. Steps that are not finished are redelivered and executed with the same
/// idempotency key.
const STEPS_STOP_TIMEOUT: Duration = Duration::from_secs(1);

/// Delay between attempts to open an unavailable database.
const DATABASE_RETRY_DELAY: Duration = Duration::from_secs(1);

/// Opens the store and the sandbox's ledger. Retries while the database is unreachable, locked by another
/// process or full. Meanwhile `store_sender` holds the reason.
async fn open_store(
    config: &Config,
    store_sender: &watch::Sender<Result<Store, String>>,
) -> anyhow::Result<(Store, LedgerLocation)> {
    let mut reported_error = String::new();
    loop {
        match try_open(config).await {
            Err(error) if store::is_temporary(&error) => {
                let error_text = format!("{error:#}");
                if error_text != reported_error {
                    tracing::warn!(error = error_text, "can't open the database; trying again");
                }
                let _ = store_sender.send(Err(error_text.clone()));
                reported_error = error_text;
                time::sleep(DATABASE_RETRY_DELAY).await;
            }
            open_result => return open_result,
        }
    }
}

async fn try_open(config: &Config) -> anyhow::Result<(Store, LedgerLocation)> {
    let store = Store::open(&config.database_url, config.database_read_url.as_deref()).await?;
    let store = store.with_cipher(Arc::clone(&config.cipher)).await?;
    // It is unknown which messages the last process has sent.
    let steps_to_resume = store.release_leases(Timestamp::now()).await?;
    if config.mail.is_some() {
        store.switch_messages_on().await?;
        store.release_message_claims(Timestamp::now()).await?;
    } else {
        store.switch_messages_off().await?;
    }
    let ledger = LedgerLocation::open(&config.database_url)?;
    tracing::info!(steps_to_resume, "the database is open");
    Ok((store, ledger))
}

fn serve_health(
    listener: TcpListener,
    health: Health,
    tasks: &mut JoinSet<()>,
    stop: &CancellationToken,
) {
    spawn(tasks, stop, health.metrics.clone().run_upkeep());
    let (router, stop) = (health::routes(health), stop.clone());
    tasks.spawn(async move {
        let server = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned());
        if let Err(error) = server.await {
            tracing::error!(%error, "the health server stopped");
        }
    });
}

/// Name of this process in statistics.
fn worker_name() -> String {
    let host_name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{}/{}", host_name.trim(), std::process::id())
}

/// The worker's broker connections. Acknowledgements need connections of their own: the broker does not read
/// from a publishing connection while it blocks it. And an undecodable message, which closes its consumer's
/// connection, must not affect the other consumers.
struct Brokers {
    requests: Broker,
    steps: Broker,
    publishing_broker: Broker,
    dead_letters: Broker,
    /// For the first reply to a new reply queue: a malformed queue name closes the connection.
    new_reply_queues: Broker,
}

impl Brokers {
    fn start(url: &str, request_queue: RequestQueueType) -> anyhow::Result<Self> {
        let brokers = Self {
            requests: Broker::start_for_requests(url, "order-worker requests", request_queue)?,
            steps: Broker::start(url, "order-worker steps")?,
            publishing_broker: Broker::start(url, "order-worker sending")?,
            dead_letters: Broker::start(url, "order-worker dead letters")?,
            new_reply_queues: Broker::start(url, "order-worker new reply queues")?,
        };
        // The worker is not ready before it consumes, although its connections and database may be open.
        brokers.requests.consumer_starting(REQUEST_QUEUE);
        brokers.steps.consumer_starting(STEP_QUEUE);
        Ok(brokers)
    }

    async fn close(self) {
        tokio::join!(
            self.requests.close(),
            self.steps.close(),
            self.publishing_broker.close(),
            self.dead_letters.close(),
            self.new_reply_queues.close()
        );
    }
}

/// Starts the configured periodic jobs.
fn start_jobs(
    (stock_source, order_source): (Option<Source>, Option<Source>),
    store: &Store,
    engine: &Engine,
    tasks: &mut JoinSet<()>,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let list_client = ListClient::new()?;
    if let Some(source) = stock_source {
        let refresh_task =
            stock_refresh::refresh(store.clone(), engine.clone(), list_client.clone(), source);
        spawn(tasks, stop, refresh_task);
    }
    if let Some(source) = order_source {
        let import_task =
            order_import::import_from(store.clone(), engine.clone(), list_client, source);
        spawn(tasks, stop, import_task);
    }
    Ok(())
}

/// Waits for requests and steps in progress, within their time limits. The rest is redelivered to another
/// worker.
async fn finish_in_progress(
    requests: TaskTracker,
    steps: TaskTracker,
    give_up_token: CancellationToken,
) {
    requests.close();
    steps.close();
    let stop_steps = time::timeout(STEPS_STOP_TIMEOUT, steps.wait());
    let (stop_result, _) = tokio::join!(time::timeout(STOP_TIMEOUT, requests.wait()), stop_steps);
    give_up_token.cancel();
    steps.wait().await;
    if stop_result.is_err() {
        tracing::warn!(
            in_progress = requests.len(),
            "stopping before all requests are finished; another worker will process them"
        );
    }
}

/// The delivery task of the sandbox carrier.
fn deliver_sandbox_shipments(
    carrier: SandboxCarrier,
    delivery: SandboxDelivery,
) -> anyhow::Result<impl Future<Output = ()> + Send + 'static> {
    let http_client = reqwest::Client::builder()
        .build()
        .context("can't create an HTTP client")?;
    let delivery_task = carrier.deliver(http_client, delivery.webhook_url, delivery.webhook_secret);
    Ok(async move {
        if let Err(error) = delivery_task.await {
            tracing::error!(
                error = format!("{error:#}"),
                "the sandbox carrier can't start; its shipments will not advance"
            );
        }
    })
}

async fn close(engine: Engine, brokers: Brokers, store: Store) -> anyhow::Result<()> {
    let close_all = async {
        engine.end().await;
        brokers.close().await;
        store.close().await;
    };
    time::timeout(STOP_TIMEOUT, close_all)
        .await
        .map_err(|_| anyhow!("the connections did not close in time"))
}

/// Runs the worker until `stop`, then finishes the work in progress. The health endpoints are served first;
/// they report what is missing while the worker waits for the database or the broker.
///
/// # Errors
/// When the configuration is invalid, or the database, the ledger or the address can't be used. An
/// unavailable broker or database is no error: the worker waits for it.
#[expect(
    clippy::too_many_lines,
    reason = "the parts of a worker, in the order in which they start and stop"
)]
pub async fn serve(config: Config, stop: CancellationToken) -> anyhow::Result<()> {
    let effective_settings = Arc::new(EffectiveSettings {
        started_at: Timestamp::now(),
        settings: config.settings.clone(),
        partner_names: partner_names(&config),
        partner_log: PartnerLog::default(),
    });
    // An invalid configuration is reported before the worker waits for anything.
    let stripe = config.stripe.clone().map(Stripe::new).transpose()?;
    let http_carrier = config
        .http_carrier
        .clone()
        .map(HttpCarrier::new)
        .transpose()?;
    let webhook_sender = Sender::new(config.webhooks)?;
    let mailer = config.mail.clone().map(Mailer::new).transpose()?;
    let health_listener = TcpListener::bind(config.http_addr)
        .await
        .with_context(|| format!("WORKER_HTTP_ADDR={}: can't listen", config.http_addr))?;
    let brokers = Brokers::start(&config.amqp_url, config.request_queue)?;
    tracing::info!(health = %health_listener.local_addr()?, "order-worker is starting");

    let publisher = Arc::new(Publisher::new(brokers.publishing_broker.clone()));
    let worker_stats = WorkerStats {
        publisher: Arc::clone(&publisher),
        latencies: Latencies::default(),
        worker_name: worker_name(),
    };
    let (store_sender, store_receiver) =
        watch::channel(Err("the database is being opened".to_owned()));
    let health = Health {
        brokers: [
            &brokers.requests,
            &brokers.steps,
            &brokers.publishing_broker,
        ]
        .map(Clone::clone),
        stopping: stop.clone(),
        store: store_receiver,
        metrics: Metrics::install().context("can't install the metrics recorder")?,
        worker_stats: worker_stats.clone(),
    };
    let mut background_tasks = JoinSet::new();
    let background_stop = CancellationToken::new();
    serve_health(
        health_listener,
        health,
        &mut background_tasks,
        &background_stop,
    );
    let Some(open_result) = stop
        .run_until_cancelled(open_store(&config, &store_sender))
        .await
    else {
        background_stop.cancel();
        while background_tasks.join_next().await.is_some() {}
        brokers.close().await;
        tracing::info!("order-worker stopped before the database could be opened");
        return Ok(());
    };
    let (store, ledger) = open_result?;
    let _ = store_sender.send(Ok(store.clone()));
    drop(store_sender);
    let sandbox = Sandbox::open(ledger)?;

    let (outbox, relay_task) = relay::new_outbox();
    relay_task.start(
        &store,
        Arc::clone(&publisher),
        &mut background_tasks,
        &background_stop,
    );
    let housekeeping_task = run_maintenance(store.clone(), config.retention);
    spawn(&mut background_tasks, &background_stop, housekeeping_task);
    let new_events = outbox.new_events();
    let counting_task = stats::count_events(store.clone(), outbox.new_events(), outbox.activity());
    spawn(&mut background_tasks, &background_stop, counting_task);
    let engine = Engine::start(store.clone(), config.rules, outbox.clone())?;
    if let Some(mailer) = mailer {
        let dispatcher = MessageDispatcher::new(
            store.clone(),
            engine.clone(),
            outbox.clone(),
            mailer,
            effective_settings.partner_log.clone(),
        );
        background_tasks.spawn(dispatcher.run(background_stop.clone()));
    }
    let webhook_dispatcher = WebhookDispatcher::new(
        store.clone(),
        engine.clone(),
        webhook_sender,
        outbox,
        effective_settings.partner_log.clone(),
    );
    spawn(
        &mut background_tasks,
        &background_stop,
        webhook_dispatcher.run(),
    );

    let external_lists = (config.stock_source, config.import_source);
    start_jobs(
        external_lists,
        &store,
        &engine,
        &mut background_tasks,
        &background_stop,
    )?;

    let sandbox_carrier = SandboxCarrier::new(sandbox.clone(), config.sandbox_delivery.is_some());
    if let Some(delivery) = config.sandbox_delivery {
        let delivery_task = deliver_sandbox_shipments(sandbox_carrier.clone(), delivery)?;
        spawn(&mut background_tasks, &background_stop, delivery_task);
    }
    let probe_task = publisher::probe(brokers.publishing_broker.clone());
    spawn(&mut background_tasks, &background_stop, probe_task);
    let (requests_in_progress, steps_in_progress) = (TaskTracker::new(), TaskTracker::new());
    let give_up_token = CancellationToken::new();
    let archive_task = run_archive(
        store.clone(),
        brokers.dead_letters.clone(),
        Arc::clone(&publisher),
        stop.clone(),
    );
    background_tasks.spawn(archive_task);
    let latencies = worker_stats.latencies.clone();
    let dead_letters = DeadLetters::new(store.clone(), engine.clone(), Arc::clone(&publisher));
    let retries = Retries::new(store.clone(), engine.clone());
    let rpc = Rpc {
        store: store.clone(),
        engine: engine.clone(),
        dead_letters,
        retries,
        replier: Arc::new(Replier::new(
            brokers.publishing_broker.clone(),
            brokers.new_reply_queues.clone(),
        )),
        feed_notifier: FeedNotifier::new(new_events, stop.clone()),
        url_policy: config.webhooks,
        worker_stats,
        settings: Arc::clone(&effective_settings),
        features: OptionalFeatures {
            demo: config.demo.then(|| sandbox.clone()),
            debug: config.debug,
        },
        request_pause: RequestPause::default(),
    };
    let providers = Providers {
        payments: Payments {
            sandbox: SandboxPayments::new(sandbox),
            stripe,
        },
        carriers: Carriers {
            sandbox: sandbox_carrier,
            http: http_carrier,
        },
    };
    let step_executor = StepExecutor::new(
        store.clone(),
        engine.clone(),
        providers,
        Arc::clone(&publisher),
        latencies,
        effective_settings.partner_log.clone(),
    );
    tokio::join!(
        rpc.run(
            brokers.requests.clone(),
            requests_in_progress.clone(),
            stop.clone()
        ),
        step_executor.run(
            brokers.steps.clone(),
            steps_in_progress.clone(),
            stop.clone(),
            give_up_token.clone()
        ),
    );

    // Shutdown: no more requests and steps are accepted.
    finish_in_progress(requests_in_progress, steps_in_progress, give_up_token).await;
    background_stop.cancel();
    while background_tasks.join_next().await.is_some() {}
    close(engine, brokers, store).await?;
    tracing::info!("order-worker stopped");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn worker_is_not_ready_before_its_consumers_start() {
        let brokers = Brokers::start("amqp://127.0.0.1:1", RequestQueueType::Classic).unwrap();
        let is_unusable =
            |broker: &Broker, queue: &str| broker.unavailable_targets().contains_key(queue);
        assert!(is_unusable(&brokers.requests, REQUEST_QUEUE));
        assert!(is_unusable(&brokers.steps, STEP_QUEUE));
        assert!(brokers.publishing_broker.unavailable_targets().is_empty());
    }
}
