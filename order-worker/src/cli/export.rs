//! `order-worker export`: writes orders, events or messages to customers as JSON lines, in the representation of the API. Rows that
//! can't be decoded are left out and reported. The database is read page by page (see [`ExportPages`]), so a slow
//! reader holds no transaction open. [`backup`](super::backup) copies a SQLite database instead.

use std::io::Write;

use serde::Serialize;

use crate::store::{ExportPages, Unreadable};

/// Rows per query.
const ROWS_PER_PAGE: u32 = 500;

/// Result of an export.
#[derive(Debug, Default)]
pub struct Exported {
    /// Number of lines.
    pub lines: u64,
    /// Number of the last order, or position of the last event: the value for the next `--after`.
    pub last_position: i64,
    /// Descriptions of the rows that can't be decoded and were left out.
    pub unreadable: Vec<String>,
}

/// Writes all orders with a number above `after_position`, including deleted ones, one line each, by number.
/// Orders created after the start are not included; each order is written as it is when its page is read. No
/// transaction is open while `writer` is written to.
///
/// # Errors
/// When the database can't be read, or writing to `writer` fails.
pub async fn orders(
    database_url: &str,
    after_position: i64,
    writer: &mut impl Write,
) -> anyhow::Result<Exported> {
    let mut pages = ExportPages::open_orders(database_url).await?;
    let mut exported = Exported {
        last_position: after_position,
        ..Exported::default()
    };
    loop {
        let orders = pages.orders(exported.last_position, ROWS_PER_PAGE).await?;
        if orders.is_empty() {
            return Ok(exported);
        }
        for (number, order) in orders {
            exported.last_position = number;
            let (order, steps) = match order {
                Ok(order) => order,
                Err(Unreadable { subject, reason }) => {
                    exported
                        .unreadable
                        .push(format!("order {subject}: {reason}"));
                    continue;
                }
            };
            line(&order.represent(&steps), writer)?;
            exported.lines += 1;
        }
    }
}

/// Writes all events with a position above `after_position`, one line each, in feed order, up to the end of
/// the feed at the start. No transaction is open while `writer` is written to.
///
/// # Errors
/// When the database can't be read, or writing to `writer` fails.
pub async fn events(
    database_url: &str,
    after_position: i64,
    writer: &mut impl Write,
) -> anyhow::Result<Exported> {
    let mut pages = ExportPages::open_events(database_url).await?;
    let mut exported = Exported {
        last_position: after_position,
        ..Exported::default()
    };
    loop {
        let events = pages.events(exported.last_position, ROWS_PER_PAGE).await?;
        if events.is_empty() {
            return Ok(exported);
        }
        for (position, event) in events {
            exported.last_position = position;
            match event {
                Ok(event) => {
                    line(&event, writer)?;
                    exported.lines += 1;
                }
                Err(Unreadable {
                    subject,
                    reason: why,
                }) => {
                    let line_description = format!("event {position} of {subject}: {why}");
                    exported.unreadable.push(line_description);
                }
            }
        }
    }
}

/// Writes all messages to customers of events with a position above `after_position`, one line each, in feed order,
/// as they are when their page is read.
///
/// # Errors
/// When the database can't be read, or writing to `writer` fails.
pub async fn messages(
    database_url: &str,
    after_position: i64,
    writer: &mut impl Write,
) -> anyhow::Result<Exported> {
    let mut pages = ExportPages::open_events(database_url).await?;
    let mut exported = Exported {
        last_position: after_position,
        ..Exported::default()
    };
    loop {
        let messages = pages
            .messages(exported.last_position, ROWS_PER_PAGE)
            .await?;
        if messages.is_empty() {
            return Ok(exported);
        }
        for (position, message) in messages {
            exported.last_position = position;
            match message {
                Ok(message) => {
                    line(&message.represent(), writer)?;
                    exported.lines += 1;
                }
                Err(Unreadable { subject, reason }) => {
                    let line_description = format!("message {subject}: {reason}");
                    exported.unreadable.push(line_description);
                }
            }
        }
    }
}

fn line(value: &impl Serialize, to: &mut impl Write) -> anyhow::Result<()> {
    serde_json::to_writer(&mut *to, value)?;
    to.write_all(b"\n")?;
    Ok(())
}
