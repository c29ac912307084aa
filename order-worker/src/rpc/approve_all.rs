//! Approves all orders that wait for approval. Each order is decided on its own; a call is limited in time,
//! and the next call continues at the returned cursor.

use std::time::Duration;

use shared::{
    id::OrderId,
    order::{ApproveAll, ApprovedAll, ListOrders, NotApproved, OrderRef, OrderStatus},
    outcome::{Failure, Json},
    page::{MAX_LIMIT, Page},
    request::Caller,
};
use tokio::time;

use super::{Rpc, read_cursor, read_failure, write_cursor};
use crate::{
    domain::command::{Action, Command},
    engine::reply_deadline,
};

/// Maximum duration of a call; the next call continues.
const MAX_CALL_DURATION: Duration = Duration::from_secs(2);

impl Rpc {
    /// Approves waiting orders, page by page, within a time limit. Each order is decided on its own, so approved
    /// orders stay approved in any case.
    pub(super) async fn approve_all(
        &self,
        caller: &Caller,
        request: ApproveAll,
        deadline: Option<time::Instant>,
    ) -> Result<Json, Failure> {
        caller.require_operator()?;
        let time_limit = time::Instant::now() + MAX_CALL_DURATION;
        let stop_at = deadline.map_or(time_limit, |deadline| {
            reply_deadline(deadline).min(time_limit)
        });
        let mut query = ListOrders {
            status: Some(OrderStatus::Pending),
            storefront: request.storefront,
            cursor: request.cursor,
            ..ListOrders::newest(MAX_LIMIT)
        };
        let mut reply = ApprovedAll {
            approved: 0,
            failed: Vec::new(),
            next_cursor: None,
        };
        let store = self.store.up_to_date();
        loop {
            let after_cursor = query.cursor.as_deref();
            let after_cursor = after_cursor.map(|cursor| read_cursor(cursor, query.sort));
            let order_rows = store
                .orders(&query, after_cursor.transpose()?)
                .await
                .map_err(read_failure)?;
            let page = Page::from_rows(order_rows, query.limit, |(order, _)| {
                write_cursor(order, query.sort)
            });
            let waiting_orders = page.data.iter().filter(|(order, _)| order.awaits_approval);
            let order_ids: Vec<_> = waiting_orders.map(|(order, _)| order.id).collect();
            let commands = order_ids
                .iter()
                .map(|order_id| (approve_command(caller, *order_id), deadline));
            let decided_replies = self
                .engine
                .decide_together(commands.collect())
                .wait_for_all()
                .await;
            for (order_id, decided_reply) in order_ids.into_iter().zip(decided_replies) {
                match decided_reply
                    .map_err(Failure::from)
                    .and_then(|reply| reply.outcome)
                {
                    Ok(_) => reply.approved += 1,
                    Err(Failure { code, message, .. }) => reply.failed.push(NotApproved {
                        id: order_id,
                        code,
                        detail: message,
                    }),
                }
            }
            reply.next_cursor = page.next_cursor;
            if reply.next_cursor.is_none() || time::Instant::now() >= stop_at {
                return Json::of(&reply);
            }
            query.cursor.clone_from(&reply.next_cursor);
        }
    }
}

fn approve_command(caller: &Caller, order_id: OrderId) -> Command {
    Command::Request {
        caller: caller.clone(),
        idempotency: None,
        if_match: None,
        action: Action::ApproveOrder(OrderRef { id: order_id }),
    }
}
