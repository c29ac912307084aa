//! Erases a customer's personal data; items and payments of their orders are kept.
//!
//! Refused while the customer has open orders. An erasure that failed midway can be repeated.

use shared::{
    customer::CustomerRef,
    etag::IfMatch,
    id::{CustomerId, OrderId},
    order::{ListOrders, OrderStatus},
    outcome::{Failure, Json},
    page::{MAX_LIMIT, Page},
    request::Caller,
};
use tokio::time::Instant;

use super::{Rpc, read_cursor, read_failure, write_cursor};
use crate::{
    domain::command::{Action, Command},
    engine::task::CommandContext,
};

impl Rpc {
    /// Erases a customer without open orders. Can be repeated after a failure.
    pub(super) async fn erase_customer(
        &self,
        context: &CommandContext,
        request: CustomerRef,
    ) -> Result<Json, Failure> {
        let (caller, deadline) = (&context.caller, context.deadline);
        let store = self.store.up_to_date();
        let customer = store.customer(request.id).await.map_err(read_failure)?;
        let customer = customer
            .filter(|customer| caller.may_see(&customer.storefront))
            .ok_or_else(|| Failure::not_found("customer", request.id))?;
        self.ensure_no_open_orders(request.id).await?;
        // From here on no order can be created for the customer.
        let erase_reply = self
            .decide_change(
                caller,
                Action::EraseCustomer(request.clone()),
                // A customer that was erased before has another `ETag` than the client knows, so a repetition
                // is not checked.
                context
                    .if_match
                    .clone()
                    .filter(|_| customer.erased_at.is_none()),
                deadline,
            )
            .await?;
        self.store.drain_batches().await.map_err(read_failure)?;
        let mut query = orders_of(request.id);
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
            for (order, _) in &page.data {
                self.redact_order(caller, order.id, deadline).await?;
                // Also of an order that contains no personal data itself, or was redacted by an earlier version.
                let redact_result = self.store.redact_messages(order.id).await;
                redact_result.map_err(read_failure)?;
            }
            query.cursor = page.next_cursor;
            if query.cursor.is_none() {
                break;
            }
        }
        self.store
            .delete_records_naming_customer(request.id)
            .await
            .map_err(read_failure)?;
        // An order that was created meanwhile has to be fulfilled first.
        self.ensure_no_open_orders(request.id).await?;
        Ok(erase_reply)
    }

    async fn ensure_no_open_orders(&self, customer_id: CustomerId) -> Result<(), Failure> {
        let store = self.store.up_to_date();
        for status in [
            OrderStatus::Pending,
            OrderStatus::Processing,
            OrderStatus::Shipped,
            // Delivered orders can have open returns.
            OrderStatus::Delivered,
        ] {
            let mut query = ListOrders {
                status: Some(status),
                ..orders_of(customer_id)
            };
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
                // Shipped orders can be closed, too: all of their shipments were returned, for example.
                if let Some((order, _)) = page.data.iter().find(|(order, _)| !order.is_closed()) {
                    if let Some(open_return) = order.open_return() {
                        return Err(Failure::invalid_state(format!(
                            "customer {customer_id} has open returns: return {} of order {} is {}",
                            open_return.number,
                            order.id,
                            open_return.status.as_str()
                        )));
                    }
                    return Err(Failure::invalid_state(format!(
                        "customer {customer_id} has open orders: order {} is {}",
                        order.id,
                        status.as_str()
                    )));
                }
                query.cursor = page.next_cursor;
                if query.cursor.is_none() {
                    break;
                }
            }
        }
        Ok(())
    }

    async fn redact_order(
        &self,
        caller: &Caller,
        order_id: OrderId,
        deadline: Option<Instant>,
    ) -> Result<(), Failure> {
        self.decide_change(caller, Action::RedactOrder(order_id), None, deadline)
            .await
            .map(drop)
    }

    async fn decide_change(
        &self,
        caller: &Caller,
        action: Action,
        if_match: Option<IfMatch>,
        deadline: Option<Instant>,
    ) -> Result<Json, Failure> {
        let command = Command::Request {
            caller: caller.clone(),
            idempotency: None,
            if_match,
            action,
        };
        self.engine.decide(command, deadline).await?.outcome
    }
}

fn orders_of(customer_id: CustomerId) -> ListOrders {
    ListOrders {
        customer_id: Some(customer_id),
        include_deleted: true,
        ..ListOrders::newest(MAX_LIMIT)
    }
}
