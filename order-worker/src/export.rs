//! `order-worker export`: orders or events as lines of JSON, as the API shows them.

use std::io::Write;

use serde::Serialize;

use crate::store::Pages;

/// Rows read at once.
const PAGE: u32 = 500;

/// How much was written, and where to go on.
#[derive(Debug, Default)]
pub struct Exported {
    /// Lines.
    pub lines: u64,
    /// The number of the last order, or the place in the feed of the last event.
    pub last: i64,
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
        lines: 0,
        last: after,
    };
    loop {
        let orders = pages.orders(exported.last, PAGE).await?;
        if orders.is_empty() {
            return Ok(exported);
        }
        for (order, steps) in &orders {
            line(&order.represent(steps), to)?;
            exported.lines += 1;
            exported.last = order.number;
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
        lines: 0,
        last: after,
    };
    loop {
        let events = pages.events(exported.last, PAGE).await?;
        if events.is_empty() {
            return Ok(exported);
        }
        for (position, event) in &events {
            line(event, to)?;
            exported.lines += 1;
            exported.last = *position;
        }
    }
}

fn line(value: &impl Serialize, to: &mut impl Write) -> anyhow::Result<()> {
    serde_json::to_writer(&mut *to, value)?;
    to.write_all(b"\n")?;
    Ok(())
}
