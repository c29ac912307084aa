//! Messages to customers: e-mails about their orders, made from the event feed and sent over SMTP.
//!
//! A message is a row with a due time, like a webhook delivery: the consumer of the feed inserts it together
//! with its position, a worker claims it for an attempt, and the result is decided as a command. So each event
//! gives each message once. If a worker is killed between the mail server's response and the commit of the
//! result, the message is sent again with the same `Message-ID`.
//!
//! - [`settings`]: `SMTP_URL` and other variables.
//! - [`templates`], [`sample`]: text and HTML of messages, and the values that they are checked with.
//! - `smtp`: one attempt. `rate`: the number of messages per second.

mod rate;
pub mod sample;
pub mod settings;
mod smtp;
pub mod templates;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use lettre::{
    Address,
    message::{
        Mailbox, MultiPart,
        header::{Header, HeaderName, HeaderValue},
    },
};
use shared::{
    customer::Customer,
    settings::{PartnerKind, PartnerLog},
};
use tokio::{sync::Notify, task::JoinSet, time};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::{
    rate::RateLimiter,
    settings::Settings,
    smtp::{SendError, SmtpClient},
    templates::{Rendered, join_lines},
};
use crate::{
    background::relay::Outbox,
    domain::{
        command::Command,
        decision_context::DecisionContext,
        message::{AttemptOutcome, Message, MessageResult, SentContent},
        message_content::MessageContent,
    },
    engine::Engine,
    runtime::crash::{Point, crash_at},
    store::{DueMessage, FeedProgress, Store, StoreError},
};

/// Maximum number of events for which messages are created in one transaction.
const EVENTS_PER_TRANSACTION: u32 = 500;
/// Maximum number of connections to the mail server.
const MAX_CONNECTIONS: usize = 4;
/// Interval for looking for due messages, and for events of other workers.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);
/// Pause after creating messages: requests take precedence, and larger batches form meanwhile.
const BATCH_PAUSE: Duration = Duration::from_millis(20);
/// Messages are switched on again once in this many rounds, in case another worker has switched them off.
const ROUNDS_PER_SWITCH_ON: u32 = 60;
/// Delay while the database is unavailable.
const RETRY_DELAY: Duration = Duration::from_secs(1);
/// Time limit for attempts in progress at shutdown. Those that are cut off are repeated after their lease.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// Creates messages from the feed, and sends them.
pub struct MessageDispatcher {
    store: Store,
    engine: Engine,
    outbox: Outbox,
    mailer: Arc<Mailer>,
    /// Signals new messages.
    new_messages: Notify,
    partner_log: PartnerLog,
}

impl MessageDispatcher {
    /// Creates a dispatcher that follows the events of `outbox`.
    pub fn new(
        store: Store,
        engine: Engine,
        outbox: Outbox,
        mailer: Mailer,
        partner_log: PartnerLog,
    ) -> Self {
        Self {
            store,
            engine,
            outbox,
            mailer: Arc::new(mailer),
            new_messages: Notify::new(),
            partner_log,
        }
    }

    /// Creates and sends messages until `stop`, then finishes the attempts in progress.
    pub async fn run(self, stop: CancellationToken) {
        let mut attempt_tasks = JoinSet::new();
        let create_and_send = async {
            tokio::join!(
                self.create_messages(),
                self.send_due_messages(&mut attempt_tasks)
            );
        };
        stop.run_until_cancelled(Box::pin(create_and_send)).await;
        let finish_attempts = async { while attempt_tasks.join_next().await.is_some() {} };
        if time::timeout(STOP_TIMEOUT, finish_attempts).await.is_err() {
            tracing::warn!("stopping while messages are being sent; they will be sent again");
        }
    }

    /// Creates messages.
    async fn create_messages(&self) {
        let mut new_events = self.outbox.new_events();
        let mut round: u32 = 0;
        loop {
            match self.create_next(round).await {
                Ok(progress) => {
                    if progress.event_count > 0 {
                        self.new_messages.notify_one();
                        time::sleep(BATCH_PAUSE).await;
                    }
                    if !progress.has_more {
                        let _ = time::timeout(CHECK_INTERVAL, new_events.changed()).await;
                    }
                }
                Err(error) => log_and_pause(&error).await,
            }
            round = round.wrapping_add(1);
        }
    }

    async fn create_next(&self, round: u32) -> Result<FeedProgress, StoreError> {
        if round.is_multiple_of(ROUNDS_PER_SWITCH_ON) {
            self.store.switch_messages_on().await?;
        }
        let mut context = DecisionContext::new(Timestamp::now(), Uuid::now_v7().as_u64_pair().1);
        let includes_imported = self.mailer.settings.includes_imported;
        let new_messages = self
            .store
            .create_messages(&mut context, EVENTS_PER_TRANSACTION, includes_imported)
            .await?;
        if new_messages.message_count > 0 {
            crash_at(Point::AfterMessagesCreated);
        }
        Ok(new_messages.progress)
    }

    /// Sends due messages.
    async fn send_due_messages(&self, attempt_tasks: &mut JoinSet<()>) {
        let mut limiter = RateLimiter::new(self.mailer.settings.rate, Instant::now());
        loop {
            tokio::select! {
                () = self.new_messages.notified() => {}
                Some(_) = attempt_tasks.join_next() => {}
                () = time::sleep(CHECK_INTERVAL) => {}
            }
            while attempt_tasks.try_join_next().is_some() {}
            if let Err(error) = self.start_due_attempts(attempt_tasks, &mut limiter).await {
                log_and_pause(&error).await;
            }
        }
    }

    async fn start_due_attempts(
        &self,
        attempt_tasks: &mut JoinSet<()>,
        limiter: &mut RateLimiter,
    ) -> Result<(), StoreError> {
        let free_connections = MAX_CONNECTIONS.saturating_sub(attempt_tasks.len());
        let message_limit = limiter
            .available_permits(Instant::now())
            .min(free_connections);
        if message_limit == 0 {
            return Ok(());
        }
        let timeout = self.mailer.settings.timeout;
        let due_messages = self
            .store
            .claim_messages(Timestamp::now(), timeout, message_limit)
            .await?;
        for due_message in due_messages {
            limiter.take();
            let (mailer, engine) = (Arc::clone(&self.mailer), self.engine.clone());
            let partner_log = self.partner_log.clone();
            attempt_tasks.spawn(async move {
                attempt_and_record(&mailer, &engine, &partner_log, due_message).await;
            });
        }
        Ok(())
    }
}

async fn log_and_pause(error: &StoreError) {
    tracing::error!(%error, "messages are delayed: a database statement failed");
    time::sleep(RETRY_DELAY).await;
}

/// Makes an attempt and records its result.
async fn attempt_and_record(
    mailer: &Mailer,
    engine: &Engine,
    partner_log: &PartnerLog,
    due_message: DueMessage,
) {
    let message = &due_message.message;
    let message_result = mailer.attempt(&due_message).await;
    let (message_id, order_id, message_kind) =
        (message.id, message.order_id, message.kind.as_str());
    let outcome_name = match &message_result.outcome {
        AttemptOutcome::Sent => {
            tracing::info!(%message_id, %order_id, "message {message_kind} was sent");
            crash_at(Point::AfterMessageSent);
            "sent"
        }
        AttemptOutcome::NotSent(not_sent_reason) => {
            tracing::info!(%message_id, %order_id, "message {message_kind} was not sent: {not_sent_reason}");
            "not_sent"
        }
        AttemptOutcome::Bounced(error_text) => {
            tracing::warn!(%message_id, %order_id, "message {message_kind} bounced: {}", mask_addresses(error_text));
            "bounced"
        }
        AttemptOutcome::Failed(error_text) => {
            tracing::warn!(%message_id, %order_id, "message {message_kind} could not be sent: {}", mask_addresses(error_text));
            "failed"
        }
        AttemptOutcome::Unconfirmed(error_text) => {
            tracing::warn!(%message_id, %order_id, "it is unknown whether the mail server accepted message {message_kind}: {}", mask_addresses(error_text));
            "failed"
        }
        AttemptOutcome::Unrenderable(error_text) => {
            tracing::error!(%message_id, %order_id, "message {message_kind} can't be rendered: {}", mask_addresses(error_text));
            "failed"
        }
    };
    match &message_result.outcome {
        AttemptOutcome::Sent | AttemptOutcome::Bounced(_) => {
            partner_log.record(PartnerKind::MailServer, Ok(()));
        }
        AttemptOutcome::Failed(error_text) | AttemptOutcome::Unconfirmed(error_text) => {
            partner_log.record(PartnerKind::MailServer, Err(&mask_addresses(error_text)));
        }
        AttemptOutcome::NotSent(_) | AttemptOutcome::Unrenderable(_) => {}
    }
    metrics::counter!("message_attempts_total", "kind" => message_kind, "outcome" => outcome_name)
        .increment(1);
    let command = Command::FinishMessage {
        id: message_id,
        attempt: message.attempt,
        result: message_result,
    };
    if let Err(error) = engine.decide_result(command, Timestamp::now()).await {
        tracing::warn!(%message_id, %error, "the result of a message could not be stored; the message will be attempted again");
    }
}

/// `text` without e-mail addresses, which mail servers quote: logs contain no personal data.
fn mask_addresses(text: &str) -> String {
    let words = text.split_whitespace();
    let masked_words = words.map(|word| {
        if word.contains('@') {
            "(address)"
        } else {
            word
        }
    });
    masked_words.collect::<Vec<_>>().join(" ")
}

/// Renders and sends messages.
pub struct Mailer {
    settings: Settings,
    smtp_client: SmtpClient,
}

impl Mailer {
    /// Creates a mailer.
    ///
    /// # Errors
    /// When TLS can't be set up.
    pub fn new(settings: Settings) -> anyhow::Result<Self> {
        let smtp_client = SmtpClient::new(settings.server.clone(), settings.timeout)?;
        Ok(Self {
            settings,
            smtp_client,
        })
    }

    /// Renders a message and sends it, unless nothing is to be sent.
    async fn attempt(&self, due_message: &DueMessage) -> MessageResult {
        let prepared_message = self.prepare(due_message);
        let (recipient, rendered_message, email) = match prepared_message {
            Ok(prepared_message) => prepared_message,
            Err(outcome) => {
                return MessageResult {
                    outcome,
                    content: None,
                };
            }
        };
        let sender = &self.settings.sender.email;
        let outcome = match self.smtp_client.send(sender, &recipient, &email).await {
            Ok(()) => AttemptOutcome::Sent,
            Err(SendError::Bounced(error_text)) => AttemptOutcome::Bounced(error_text),
            Err(SendError::Temporary(error_text)) => AttemptOutcome::Failed(error_text),
            Err(SendError::Unconfirmed(error_text)) => AttemptOutcome::Unconfirmed(error_text),
        };
        MessageResult {
            outcome,
            content: Some(SentContent {
                recipient: recipient.to_string(),
                subject: rendered_message.subject,
                text: rendered_message.text,
            }),
        }
    }

    /// The recipient, the rendered message and the e-mail.
    fn prepare(
        &self,
        due_message: &DueMessage,
    ) -> Result<(Address, Rendered, lettre::Message), AttemptOutcome> {
        let DueMessage {
            message,
            order,
            customer,
        } = due_message;
        let not_sent_outcome = |reason: &str| AttemptOutcome::NotSent(reason.to_owned());
        let (Some(order), Some(customer)) = (order, customer) else {
            return Err(not_sent_outcome("the order or its customer was not found"));
        };
        if let Some(reason) = unreachable_reason(customer) {
            return Err(not_sent_outcome(reason));
        }
        let Ok(recipient) = customer.email.parse::<Address>() else {
            return Err(not_sent_outcome(
                "the customer's e-mail address is not valid",
            ));
        };
        let content = MessageContent::new(order, customer, message.topic);
        let templates = &self.settings.templates;
        let rendered_message = templates.render(&order.storefront, message.kind, &content);
        let rendered_message = rendered_message.map_err(AttemptOutcome::Unrenderable)?;
        let recipient_name =
            Some(join_lines(&customer.name)).filter(|recipient_name| !recipient_name.is_empty());
        let recipient_mailbox = Mailbox::new(recipient_name, recipient.clone());
        let email = self.build_email(message, recipient_mailbox, &rendered_message);
        let email = email.map_err(|error| AttemptOutcome::Unrenderable(error.to_string()))?;
        Ok((recipient, rendered_message, email))
    }

    fn build_email(
        &self,
        message: &Message,
        recipient: Mailbox,
        rendered_message: &Rendered,
    ) -> Result<lettre::Message, lettre::error::Error> {
        let sender_address = self.settings.sender.clone();
        let message_id = format!(
            "<{}@{}>",
            message.header_id(),
            sender_address.email.domain()
        );
        lettre::Message::builder()
            .from(sender_address)
            .to(recipient)
            .subject(rendered_message.subject.clone())
            .message_id(Some(message_id))
            .date(message.requested_at.into())
            .header(AutoSubmitted)
            .multipart(MultiPart::alternative_plain_html(
                rendered_message.text.clone(),
                rendered_message.html.clone(),
            ))
    }
}

/// The reason why a customer gets no messages.
fn unreachable_reason(customer: &Customer) -> Option<&'static str> {
    if customer.erased_at.is_some() {
        Some("the customer was erased")
    } else if customer.is_blocked {
        Some("the customer is blocked")
    } else if customer.email.is_empty() {
        Some("the customer has no e-mail address")
    } else {
        None
    }
}

/// `Auto-Submitted: auto-generated` (RFC 3834): out-of-office replies are not sent to it.
#[derive(Clone)]
struct AutoSubmitted;

impl Header for AutoSubmitted {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str("Auto-Submitted")
    }

    fn parse(_: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self)
    }

    fn display(&self) -> HeaderValue {
        HeaderValue::new(Self::name(), "auto-generated".to_owned())
    }
}
