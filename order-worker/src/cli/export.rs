//! `order-worker export`: orders or events as JSON lines, in the representation of the API.

use std::io::Write;

use serde::Serialize;

use crate::store::{Pages, Unreadable};

/// Rows per query.
const PAGE: u32 = 500;

/// Result of an export.
#[derive(Debug, Default)]
pub struct Exported {
    /// Number of lines.
    pub lines: u64,
    /// Number of the last order, or position of the last event.
    pub last: i64,
    /// Rows that can't be read and were left out, each by its order's id or its place in the feed.
    pub unreadable: Vec<String>,
}

/// Writes all orders behind number `after` in the database that `database_url` names, deleted ones too, a
/// line each, by number: those that there are at the beginning, each as it is when its page is read. No
/// transaction is open while `to` is written to.
///
/// # Errors
/// When the database can't be read, or `to` does not take it.
pub async fn orders(
    database_url: &str,
    after: i64,
    to: &mut impl Write,
) -> anyhow::Result<Exported> {
    let mut pages = Pages::of_orders(database_url).await?;
    let mut exported = Exported {
        last: after,
        ..Exported::default()
    };
    loop {
        let orders = pages.orders(exported.last, PAGE).await?;
        if orders.is_empty() {
            return Ok(exported);
        }
        for (number, order) in orders {
            exported.last = number;
            let (order, steps) = match order {
                Ok(order) => order,
                Err(Unreadable { subject, why }) => {
                    exported.unreadable.push(format!("order {subject}: {why}"));
                    continue;
                }
            };
            line(&order.represent(&steps), to)?;
            exported.lines += 1;
        }
    }
}

/// Writes all events behind the place `after` in the feed, up to its end at the beginning, a line each, in
/// the feed's order. No transaction is open while `to` is written to.
///
/// # Errors
/// When the database can't be read, or `to` does not take it.
pub async fn events(
    database_url: &str,
    after: i64,
    to: &mut impl Write,
) -> anyhow::Result<Exported> {
    let mut pages = Pages::of_events(database_url).await?;
    let mut exported = Exported {
        last: after,
        ..Exported::default()
    };
    loop {
        let events = pages.events(exported.last, PAGE).await?;
        if events.is_empty() {
            return Ok(exported);
        }
        for (position, event) in events {
            exported.last = position;
            match event {
                Ok(event) => {
                    line(&event, to)?;
                    exported.lines += 1;
                }
                Err(Unreadable { subject, why }) => {
                    let place = format!("event {position} of {subject}: {why}");
                    exported.unreadable.push(place);
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
