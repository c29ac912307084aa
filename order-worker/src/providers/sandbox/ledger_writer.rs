//! Writes the sandbox ledger. Calls that are queued at the same time share a transaction and are answered
//! after its commit. One thread writes; in PostgreSQL, workers are serialized per key.

use std::{io, mem};

use tokio::sync::{mpsc, oneshot};

use super::{
    LedgerLocation,
    ledger::{Ledger, Payment, ShipmentRow, Status},
    ledger_error,
};
use crate::{
    providers::ProviderError,
    runtime::dedicated_thread,
    store::{
        StoreError,
        sql::{
            bulk::{ColumnType, Write, Writes},
            session::Session,
            statement::{Sql, arguments, list},
        },
    },
};

/// Maximum number of calls per transaction.
const MAX_CALLS: usize = 256;
/// Maximum number of queued calls. The limit of concurrent steps is reached earlier.
const MAX_QUEUED_CALLS: usize = 1_024;

/// Sends calls to the writer's thread; clones share it.
#[derive(Clone)]
pub(super) struct LedgerWriter(mpsc::Sender<QueuedCall>);

/// A call that reads or changes the ledger; returns the closure that answers the call after the commit.
type CallFunction = Box<dyn FnOnce(&mut Ledger) -> Box<dyn FnOnce(CommitResult) + Send> + Send>;
type CommitResult = Result<(), ProviderError>;

struct QueuedCall {
    ledger_key: String,
    apply_call: CallFunction,
}

impl LedgerWriter {
    /// Starts the writer's thread, which ends when the last clone is dropped.
    pub(super) fn start(location: LedgerLocation) -> io::Result<Self> {
        let (call_sender, mut queued_calls) = mpsc::channel(MAX_QUEUED_CALLS);
        dedicated_thread::spawn("sandbox", async move {
            let mut waiting_calls = Vec::new();
            while queued_calls.recv_many(&mut waiting_calls, MAX_CALLS).await > 0 {
                write_calls(&location, mem::take(&mut waiting_calls)).await;
            }
        })?;
        Ok(Self(call_sender))
    }

    /// Applies `apply_call` to the rows of `ledger_key` and returns its result after the commit.
    ///
    /// # Errors
    /// `Transient` when the outcome is unknown.
    pub(super) async fn apply<T: Send + 'static>(
        &self,
        ledger_key: &str,
        apply_call: impl FnOnce(&mut Ledger) -> T + Send + 'static,
    ) -> Result<T, ProviderError> {
        let (result_sender, result_receiver) = oneshot::channel();
        let apply_call: CallFunction = Box::new(move |ledger| {
            let call_result = apply_call(ledger);
            Box::new(move |commit_result| {
                let _ = result_sender.send(commit_result.map(|()| call_result));
            })
        });
        let call = QueuedCall {
            ledger_key: ledger_key.to_owned(),
            apply_call,
        };
        let stopped_error = || ProviderError::Transient("the sandbox has stopped".to_owned());
        self.0.send(call).await.map_err(|_| stopped_error())?;
        result_receiver.await.map_err(|_| stopped_error())?
    }
}

async fn write_calls(location: &LedgerLocation, calls: Vec<QueuedCall>) {
    let (ledger_keys, call_functions): (Vec<_>, Vec<_>) = calls
        .into_iter()
        .map(|call| (call.ledger_key, call.apply_call))
        .unzip();
    let mut result_senders = Vec::with_capacity(call_functions.len());
    let commit_result = transact(location, &ledger_keys, |ledger| {
        result_senders.extend(
            call_functions
                .into_iter()
                .map(|apply_call| apply_call(ledger)),
        );
    })
    .await;
    // Calls that were not applied are answered too: their channel closes.
    for send_result in result_senders {
        send_result(commit_result.clone());
    }
}

async fn transact(
    location: &LedgerLocation,
    ledger_keys: &[String],
    apply: impl FnOnce(&mut Ledger),
) -> Result<(), ProviderError> {
    let mut session = location.begin().await.map_err(ledger_error)?;
    let mut ledger = load(&mut session, ledger_keys)
        .await
        .map_err(ledger_error)?;
    apply(&mut ledger);
    save(&mut session, ledger).await.map_err(ledger_error)?;
    session.commit().await.map_err(ledger_error)
}

async fn load(session: &mut Session, ledger_keys: &[String]) -> Result<Ledger, StoreError> {
    // Locks the keys, so that several workers take turns even if a key has no row yet.
    if matches!(session, Session::Postgres(_)) {
        let lock_sql = "SELECT pg_advisory_xact_lock(hash)
                    FROM (SELECT DISTINCT hashtextextended(key, 0) AS hash
                          FROM unnest($1::text[]) AS key ORDER BY hash) AS hashes";
        session.fetch(lock_sql, vec![list(ledger_keys)]).await?;
    }
    let mut ledger = Ledger::default();
    let payments_sql = Sql::for_dialects(
        "SELECT key, reference, status, amount, currency, captured, refunded, calls,
                EXISTS (SELECT 1 FROM movements WHERE payment = reference AND kind = 'authorize')
         FROM payments WHERE key IN (SELECT value FROM json_each($1))",
        "SELECT key, reference, status, amount, currency, captured, refunded, calls,
                EXISTS (SELECT 1 FROM movements WHERE payment = reference AND kind = 'authorize')
         FROM payments WHERE key = ANY($1)",
    );
    for payment_row in session.fetch(payments_sql, vec![list(ledger_keys)]).await? {
        let status = payment_row.text(2)?;
        let payment = Payment {
            reference: payment_row.text(1)?.to_owned(),
            status: Status::read(status).ok_or_else(|| {
                StoreError::Corrupt(format!(
                    "unknown payment status {status:?} in the sandbox's ledger"
                ))
            })?,
            amount: payment_row.integer(3)?,
            currency: payment_row.text(4)?.to_owned(),
            captured: payment_row.integer(5)?,
            refunded: payment_row.integer(6)?,
            authorization_calls: payment_row.integer(7)?,
            was_authorized: payment_row.boolean(8)?,
        };
        ledger
            .payments
            .insert(payment_row.text(0)?.to_owned(), payment);
    }
    let shipments_sql = Sql::for_dialects(
        "SELECT key, order_id, tracking_number, is_cancelled, stage, next_at, address_digest
         FROM parcels WHERE key IN (SELECT value FROM json_each($1))",
        "SELECT key, order_id, tracking_number, is_cancelled, stage, next_at, address_digest
         FROM parcels WHERE key = ANY($1) ORDER BY key FOR UPDATE",
    );
    for shipment_row in session
        .fetch(shipments_sql, vec![list(ledger_keys)])
        .await?
    {
        let shipment = ShipmentRow {
            order_id: shipment_row.text(1)?.to_owned(),
            tracking_number: shipment_row.text(2)?.to_owned(),
            is_cancelled: shipment_row.boolean(3)?,
            stage: shipment_row.integer(4)?,
            next_webhook_at: shipment_row.maybe_integer(5)?,
            address_digest: shipment_row.maybe_text(6)?.map(str::to_owned),
        };
        ledger
            .shipments
            .insert(shipment_row.text(0)?.to_owned(), shipment);
    }
    Ok(ledger)
}

async fn save(session: &mut Session, ledger: Ledger) -> Result<(), StoreError> {
    let payment_rows = ledger.changed_payments.iter();
    let payment_rows =
        payment_rows.filter_map(|ledger_key| Some((ledger_key, ledger.payments.get(ledger_key)?)));
    let payment_rows = payment_rows.map(|(ledger_key, payment)| {
        arguments![
            ledger_key.as_str(),
            payment.reference.as_str(),
            payment.status.as_str(),
            payment.amount,
            payment.currency.as_str(),
            payment.captured,
            payment.refunded,
            payment.authorization_calls
        ]
    });
    let mut writes = Writes::default();
    writes.add(PUT_PAYMENTS, payment_rows.collect());
    let entry_rows = ledger.entries.iter();
    let entry_rows = entry_rows.map(|ledger_entry| {
        arguments![
            ledger_entry.payment_reference.as_str(),
            ledger_entry.entry_kind,
            ledger_entry.amount
        ]
    });
    writes.add(INSERT_ENTRIES, entry_rows.collect());
    let shipment_rows = ledger.changed_shipments.iter();
    let shipment_rows = shipment_rows
        .filter_map(|ledger_key| Some((ledger_key, ledger.shipments.get(ledger_key)?)));
    let shipment_rows = shipment_rows.map(|(ledger_key, shipment)| {
        arguments![
            ledger_key.as_str(),
            shipment.order_id.as_str(),
            shipment.tracking_number.as_str(),
            shipment.is_cancelled,
            shipment.next_webhook_at,
            shipment.address_digest.as_deref()
        ]
    });
    writes.add(PUT_SHIPMENTS, shipment_rows.collect());
    session.write_all(writes).await
}

const PUT_PAYMENTS: Write = Write {
    sqlite: "
        INSERT INTO payments (key, reference, status, amount, currency, captured, refunded, calls)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
        ON CONFLICT (key) DO UPDATE
        SET status = excluded.status, captured = excluded.captured, refunded = excluded.refunded,
            calls = excluded.calls",
    postgres: "
        INSERT INTO payments (key, reference, status, amount, currency, captured, refunded, calls)
        SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::text[],
                             $6::bigint[], $7::bigint[], $8::bigint[])
        ON CONFLICT (key) DO UPDATE
        SET status = excluded.status, captured = excluded.captured, refunded = excluded.refunded,
            calls = excluded.calls",
    columns: &[
        ColumnType::Text,
        ColumnType::Text,
        ColumnType::Text,
        ColumnType::Integer,
        ColumnType::Text,
        ColumnType::Integer,
        ColumnType::Integer,
        ColumnType::Integer,
    ],
};

const INSERT_ENTRIES: Write = Write {
    sqlite: "
        INSERT INTO movements (payment, kind, amount)
        VALUES ($1, $2, $3)",
    postgres: "
        INSERT INTO movements (payment, kind, amount)
        SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[])",
    columns: &[ColumnType::Text, ColumnType::Text, ColumnType::Integer],
};

const PUT_SHIPMENTS: Write = Write {
    sqlite: "
        INSERT INTO parcels (key, order_id, tracking_number, is_cancelled, next_at, address_digest)
        VALUES ($1, $2, $3, $4, $5, $6)
        ON CONFLICT (key) DO UPDATE SET is_cancelled = excluded.is_cancelled, next_at = excluded.next_at",
    postgres: "
        INSERT INTO parcels (key, order_id, tracking_number, is_cancelled, next_at, address_digest)
        SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::boolean[], $5::bigint[], $6::text[])
        ON CONFLICT (key) DO UPDATE SET is_cancelled = excluded.is_cancelled, next_at = excluded.next_at",
    columns: &[
        ColumnType::Text,
        ColumnType::Text,
        ColumnType::Text,
        ColumnType::Boolean,
        ColumnType::Integer,
        ColumnType::Text,
    ],
};
