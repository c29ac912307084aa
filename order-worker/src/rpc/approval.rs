//! Approving everything that waits for it.

use std::time::Duration;

use futures_util::future::join_all;
use shared::{
    id::OrderId,
    order::{ApproveAll, ApprovedAll, ListOrders, NotApproved, OrderRef, OrderStatus},
    outcome::{Failure, Json},
    page::{MAX_LIMIT, Page},
    request::Caller,
};
use tokio::time;

use super::{Rpc, read_cursor, unreadable, write_cursor};
use crate::{
    domain::command::{Action, Command},
    engine::last_moment,
};

/// How long one call goes on approving; the next one goes on from there.
const APPROVING: Duration = Duration::from_secs(2);

impl Rpc {
    /// Approves what waits for it, page by page, as long as there is time; each order is decided on
    /// its own, so what was approved stays approved however this ends.
    pub(super) async fn approve_all(
        &self,
        caller: &Caller,
        request: ApproveAll,
        deadline: Option<time::Instant>,
    ) -> Result<Json, Failure> {
        caller.must_operate()?;
        let enough = time::Instant::now() + APPROVING;
        let until = deadline.map_or(enough, |deadline| last_moment(deadline).min(enough));
        let mut query = ListOrders {
            number: None,
            external_id: None,
            status: Some(OrderStatus::Pending),
            customer_id: None,
            sku: None,
            storefront: request.storefront,
            created_after: None,
            created_before: None,
            include_deleted: false,
            limit: MAX_LIMIT,
            cursor: request.cursor,
        };
        let mut told = ApprovedAll {
            approved: 0,
            failed: Vec::new(),
            next_cursor: None,
        };
        loop {
            let after = query.cursor.as_deref().map(read_cursor).transpose()?;
            let rows = self.store.orders(&query, after).await.map_err(unreadable)?;
            let page = Page::from_rows(rows, query.limit, |(order, _)| write_cursor(order));
            let waiting = page.data.iter().filter(|(order, _)| order.awaits_approval);
            let approving = waiting.map(|(order, _)| self.approve(caller, order.id, deadline));
            for (id, outcome) in join_all(approving).await {
                match outcome {
                    Ok(()) => told.approved += 1,
                    Err(Failure { code, message, .. }) => told.failed.push(NotApproved {
                        id,
                        code,
                        detail: message,
                    }),
                }
            }
            told.next_cursor = page.next_cursor;
            if told.next_cursor.is_none() || time::Instant::now() >= until {
                return Json::of(&told);
            }
            query.cursor.clone_from(&told.next_cursor);
        }
    }

    async fn approve(
        &self,
        caller: &Caller,
        id: OrderId,
        deadline: Option<time::Instant>,
    ) -> (OrderId, Result<(), Failure>) {
        let command = Command::Request {
            caller: caller.clone(),
            idempotency: None,
            if_match: None,
            action: Action::ApproveOrder(OrderRef { id }),
        };
        let told = self.engine.decide(command, deadline).await;
        let outcome = told.map_err(Failure::from).and_then(|told| told.outcome);
        (id, outcome.map(drop))
    }
}
