//! `order-worker export`: writes orders, events or messages to customers as JSON lines, in the representation of
//! the API. Rows that can't be decoded are left out and reported. The database is read page by page (see
//! [`ExportPages`]), so a slow reader holds no transaction open. [`backup`](super::backup) copies a SQLite
//! database instead.

use std::io::Write;

use serde::Serialize;

use crate::store::{ExportPages, Unreadable};

/// Rows per query.
const ROWS_PER_PAGE: u32 = 500;

/// Result of an export.
#[derive(Debug, Default)]
pub struct ExportResult {
    /// Number of lines.
    pub lines: u64,
    /// Number of the last order, or position of the last event: the value for the next `--after`.
    pub last_position: i64,
    /// Descriptions of the rows that can't be decoded and were left out.
    pub unreadable_rows: Vec<String>,
}

/// Writes all orders with a number above `after_position`, including deleted ones, one line each, by number.
/// Orders created after the start are not included; each order is written as it is when its page is read. No
/// transaction is open while `writer` is written to.
///
/// # Errors
/// When the database can't be read, or writing to `writer` fails.
pub async fn export_orders(
    database_url: &str,
    after_position: i64,
    writer: &mut impl Write,
) -> anyhow::Result<ExportResult> {
    let mut pages = ExportPages::open_orders(database_url).await?;
    let mut export_result = ExportResult {
        last_position: after_position,
        ..ExportResult::default()
    };
    loop {
        let orders = pages
            .orders(export_result.last_position, ROWS_PER_PAGE)
            .await?;
        if orders.is_empty() {
            return Ok(export_result);
        }
        for (order_number, order) in orders {
            export_result.last_position = order_number;
            let (order, steps) = match order {
                Ok(order) => order,
                Err(Unreadable { subject, reason }) => {
                    export_result
                        .unreadable_rows
                        .push(format!("order {subject}: {reason}"));
                    continue;
                }
            };
            write_line(&order.represent(&steps), writer)?;
            export_result.lines += 1;
        }
    }
}

/// Writes all events with a position above `after_position`, one line each, in feed order, up to the end of
/// the feed at the start. No transaction is open while `writer` is written to.
///
/// # Errors
/// When the database can't be read, or writing to `writer` fails.
pub async fn export_events(
    database_url: &str,
    after_position: i64,
    writer: &mut impl Write,
) -> anyhow::Result<ExportResult> {
    let mut pages = ExportPages::open_events(database_url).await?;
    let mut export_result = ExportResult {
        last_position: after_position,
        ..ExportResult::default()
    };
    loop {
        let events = pages
            .events(export_result.last_position, ROWS_PER_PAGE)
            .await?;
        if events.is_empty() {
            return Ok(export_result);
        }
        for (position, event) in events {
            export_result.last_position = position;
            match event {
                Ok(event) => {
                    write_line(&event, writer)?;
                    export_result.lines += 1;
                }
                Err(Unreadable { subject, reason }) => {
                    let line_description = format!("event {position} of {subject}: {reason}");
                    export_result.unreadable_rows.push(line_description);
                }
            }
        }
    }
}

/// Writes all messages to customers of events with a position above `after_position`, one line each, in feed
/// order, as they are when their page is read.
///
/// # Errors
/// When the database can't be read, or writing to `writer` fails.
pub async fn export_messages(
    database_url: &str,
    after_position: i64,
    writer: &mut impl Write,
) -> anyhow::Result<ExportResult> {
    let mut pages = ExportPages::open_events(database_url).await?;
    let mut export_result = ExportResult {
        last_position: after_position,
        ..ExportResult::default()
    };
    loop {
        let messages = pages
            .messages(export_result.last_position, ROWS_PER_PAGE)
            .await?;
        if messages.is_empty() {
            return Ok(export_result);
        }
        for (position, message) in messages {
            export_result.last_position = position;
            match message {
                Ok(message) => {
                    write_line(&message.represent(), writer)?;
                    export_result.lines += 1;
                }
                Err(Unreadable { subject, reason }) => {
                    let line_description = format!("message {subject}: {reason}");
                    export_result.unreadable_rows.push(line_description);
                }
            }
        }
    }
}

fn write_line(exported_row: &impl Serialize, writer: &mut impl Write) -> anyhow::Result<()> {
    serde_json::to_writer(&mut *writer, exported_row)?;
    writer.write_all(b"\n")?;
    Ok(())
}
