//! Reads, executed on the connections of the readers. Lookups of single orders are read together with one
//! query.

use std::{
    collections::{BTreeSet, HashMap},
    panic::AssertUnwindSafe,
};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use futures_util::FutureExt;
use serde::Deserialize;
use serde_json::json;
use shared::{
    id::{CustomerId, EndpointId, Storefront},
    message::{ListAllMessages, ListMessages},
    order::{CountOrders, GetOrder, ListOrders, OrderHistory, OrderSort},
    outcome::{Failure, Json},
    page::Page,
    product::cursor_after,
    request::{Caller, Role},
    webhook::{DeliveryRef, DeliveryWithEvent},
};

use super::{
    RequestScope, Rpc, TaskOutcome, catch_panic, dispatch::Query, internal_error, read_failure,
    unreadable_order,
};
use crate::{
    domain::{
        order::Order,
        webhook::{Delivery, Endpoint},
    },
    store::{OrderAndSteps, OrderCursor},
};

impl Rpc {
    pub(super) async fn read(&self, caller: &Caller, query: Query) -> Result<Json, Failure> {
        match query {
            Query::Orders(query) => self.orders(caller, query).await,
            Query::OrderCount(query) => self.order_count(caller, query).await,
            Query::History(query) => self.history(caller, &query).await,
            Query::Return(query) => {
                let found_return = self
                    .store
                    .find_return(query.id)
                    .await
                    .map_err(read_failure)?;
                match found_return.filter(|found_return| caller.may_see(&found_return.storefront)) {
                    Some(found_return) => Json::of(&found_return),
                    None => Err(Failure::not_found("return", query.id)),
                }
            }
            Query::Returns(mut query) => {
                query.storefront = visible_storefront(caller, query.storefront);
                let return_rows = self.store.returns(&query).await.map_err(read_failure)?;
                Json::of(&Page::from_rows(return_rows, query.limit, |found_return| {
                    found_return.id.to_string()
                }))
            }
            Query::Messages(query) => self.messages(caller, query).await,
            Query::AllMessages(query) => self.all_messages(caller, query).await,
            Query::Product(query) => {
                let found_product = self.store.product(&query.sku).await.map_err(read_failure)?;
                match found_product.filter(|(product, _)| !product.is_deleted) {
                    Some((product, stock_levels)) => {
                        Json::of(&product.represent(Some(&stock_levels)))
                    }
                    None => Err(Failure::not_found("product", &query.sku)),
                }
            }
            Query::Products(query) => {
                let product_rows = self.store.products(&query).await.map_err(read_failure)?;
                let product_rows = product_rows
                    .map(|(product, stock_levels)| product.represent(Some(&stock_levels)));
                Json::of(&Page::from_rows(product_rows, query.limit, |product| {
                    cursor_after(&product.sku)
                }))
            }
            Query::Images(query) => {
                caller.require_operator()?;
                let product_rows = self.store.image_ids(&query).await.map_err(read_failure)?;
                Json::of(&Page::from_rows(product_rows, query.limit, |product| {
                    product.sku.to_string()
                }))
            }
            Query::Customer(query) => {
                let found_customer = self.store.customer(query.id).await.map_err(read_failure)?;
                match found_customer.filter(|customer| caller.may_see(&customer.storefront)) {
                    Some(customer) => Json::of(&customer),
                    None => Err(Failure::not_found("customer", query.id)),
                }
            }
            Query::Customers(mut query) => {
                query.storefront = visible_storefront(caller, query.storefront);
                let customer_rows = self.store.customers(&query).await.map_err(read_failure)?;
                Json::of(&Page::from_rows(customer_rows, query.limit, |customer| {
                    customer.id.to_string()
                }))
            }
            Query::Endpoint(query) => {
                let endpoint = self.managed_endpoint(caller, query.id).await?;
                Json::of(&endpoint.represent(false))
            }
            Query::Endpoints(mut query) => {
                query.storefront = match caller.role {
                    Role::Admin => query.storefront,
                    Role::Operator | Role::Storefront => Some(caller.storefront.clone()),
                };
                let endpoint_rows = self.store.endpoints(&query).await.map_err(read_failure)?;
                let endpoint_rows = endpoint_rows
                    .iter()
                    .map(|endpoint| endpoint.represent(false));
                Json::of(&Page::from_rows(
                    endpoint_rows.collect::<Vec<_>>(),
                    query.limit,
                    |endpoint| endpoint.id.to_string(),
                ))
            }
            Query::ApiKeys(query) => self.read_api_keys(query).await,
            Query::Stats(query) => self.stats(caller, query).await,
            Query::Settings => self.settings(caller).await,
            Query::DebugOrder(order) => self.debug_order(caller, order).await,
            Query::DebugTables => self.debug_tables(caller).await,
            Query::Delivery(query) => self.delivery(caller, query).await,
            Query::Deliveries(query) => {
                self.managed_endpoint(caller, query.id).await?;
                let delivery_rows = self.store.deliveries(&query).await.map_err(read_failure)?;
                let delivery_rows = delivery_rows.iter().map(Delivery::represent);
                Json::of(&Page::from_rows(
                    delivery_rows.collect::<Vec<_>>(),
                    query.limit,
                    |delivery| delivery.id.to_string(),
                ))
            }
        }
    }

    async fn all_messages(&self, caller: &Caller, query: ListAllMessages) -> Result<Json, Failure> {
        caller.require_operator()?;
        let message_rows = self.store.all_messages(&query).await;
        let message_rows = message_rows.map_err(read_failure)?;
        Json::of(&Page::from_rows(
            message_rows,
            query.limit,
            |found_message| found_message.message.id.to_string(),
        ))
    }

    async fn delivery(&self, caller: &Caller, query: DeliveryRef) -> Result<Json, Failure> {
        let endpoint = self.managed_endpoint(caller, query.id).await?;
        let found_delivery = self.store.delivery(&query).await.map_err(read_failure)?;
        let (delivery, event) =
            found_delivery.ok_or_else(|| Failure::not_found("delivery", query.delivery_id))?;
        // As it is sent.
        let event = event.map(|event| match &endpoint.storefront {
            Some(_) => event.for_storefronts(),
            None => Ok(event),
        });
        Json::of(&DeliveryWithEvent {
            delivery: delivery.represent(),
            event: event.transpose()?,
        })
    }

    async fn messages(&self, caller: &Caller, query: ListMessages) -> Result<Json, Failure> {
        let storefront = self.store.storefront_of_order(query.id).await;
        let storefront = storefront.map_err(read_failure)?;
        if !storefront.is_some_and(|storefront| caller.may_see(&storefront)) {
            return Err(Failure::not_found("order", query.id));
        }
        let message_rows = self.store.messages(&query).await.map_err(read_failure)?;
        let message_rows = message_rows.map(|message| message.represent());
        Json::of(&Page::from_rows(message_rows, query.limit, |message| {
            message.id.to_string()
        }))
    }

    async fn managed_endpoint(
        &self,
        caller: &Caller,
        endpoint_id: EndpointId,
    ) -> Result<Endpoint, Failure> {
        let endpoint_result = self
            .store
            .endpoint(endpoint_id)
            .await
            .map_err(read_failure)?;
        endpoint_result
            .filter(|endpoint| endpoint.is_managed_by(caller))
            .ok_or_else(|| Failure::not_found("webhook endpoint", endpoint_id))
    }

    /// Reads several orders with one query, up to a size limit; each lookup has its own reply. Lookups beyond
    /// the limit are returned as remaining.
    pub(super) async fn look_up(&self, lookups: Vec<(RequestScope, GetOrder)>) -> TaskOutcome {
        let order_ids: Vec<_> = lookups.iter().map(|(_, query)| query.id).collect();
        let lookup_result = AssertUnwindSafe(self.store.orders_by_id(&order_ids)).catch_unwind();
        let lookup_result = match lookup_result.await {
            Ok(lookup_result) => lookup_result.map_err(read_failure),
            Err(_) => Err(internal_error()),
        };
        let was_read = |(_, query): &(_, GetOrder)| {
            let lookup_result = lookup_result.as_ref();
            lookup_result.is_err()
                || lookup_result.is_ok_and(|lookup_result| lookup_result.covers(&query.id))
        };
        let (lookups, unread_lookups): (Vec<_>, _) = lookups.into_iter().partition(was_read);
        let replies = lookups.into_iter().map(|(scope, query)| {
            let reply = catch_panic(|| {
                let loaded_orders = &lookup_result.as_ref().map_err(Failure::clone)?.decoded;
                let loaded_order = loaded_orders.get(&query.id).map(Result::as_ref).transpose();
                let order_and_steps =
                    loaded_order.map_err(|error| unreadable_order(query.id, error.clone()))?;
                let (order, steps) = visible_order(&scope.caller, &query, order_and_steps)?;
                let order = order.represent_with_secret(steps);
                Json::of(&order.visible_to(scope.caller.role))
            });
            scope.end(reply.unwrap_or_else(|| Err(internal_error())).into())
        });
        TaskOutcome {
            replies: replies.collect(),
            remaining_lookups: unread_lookups,
        }
    }

    async fn orders(&self, caller: &Caller, mut query: ListOrders) -> Result<Json, Failure> {
        // Storefronts do not see tags.
        if query.include_deleted || query.tag.is_some() {
            caller.require_operator()?;
        }
        query.storefront = visible_storefront(caller, query.storefront);
        let sort = query.sort;
        let after_cursor = query.cursor.as_deref();
        let after_cursor = after_cursor.map(|cursor| read_cursor(cursor, sort));
        let order_rows = self
            .store
            .orders(&query, after_cursor.transpose()?)
            .await
            .map_err(read_failure)?;
        let page = Page::from_rows(order_rows, query.limit, |(order, _)| {
            write_cursor(order, sort)
        });
        let customer_names = self.customer_names(caller, &page.data).await?;
        let represented_orders: Vec<_> = page
            .data
            .iter()
            .map(|(order, steps)| {
                let mut order = order.represent(steps).visible_to(caller.role);
                order.customer_name = customer_names.get(&order.customer_id).cloned();
                order
            })
            .collect();
        Json::of(&Page {
            data: represented_orders,
            next_cursor: page.next_cursor,
        })
    }

    /// The names of the customers of `orders` that the caller may see, read with one statement.
    async fn customer_names(
        &self,
        caller: &Caller,
        orders: &[OrderAndSteps],
    ) -> Result<HashMap<CustomerId, String>, Failure> {
        let customer_ids: BTreeSet<_> = orders.iter().map(|(order, _)| order.customer_id).collect();
        let customer_ids: Vec<_> = customer_ids.into_iter().collect();
        let customers = self.store.customers_by_id(&customer_ids).await;
        let customers = customers.map_err(read_failure)?.into_iter();
        Ok(customers
            .filter(|customer| caller.may_see(&customer.storefront))
            .map(|customer| (customer.id, customer.name))
            .collect())
    }

    async fn order_count(&self, caller: &Caller, mut query: CountOrders) -> Result<Json, Failure> {
        // Storefronts do not see tags.
        if query.include_deleted || query.tag.is_some() {
            caller.require_operator()?;
        }
        query.storefront = visible_storefront(caller, query.storefront);
        let counts = self
            .store
            .count_orders(&query)
            .await
            .map_err(read_failure)?;
        Json::of(&counts)
    }

    async fn history(&self, caller: &Caller, query: &OrderHistory) -> Result<Json, Failure> {
        let order_query = GetOrder {
            id: query.id,
            include_deleted: query.include_deleted,
        };
        let unreadable_failure = |error| unreadable_order(query.id, error);
        let order_and_steps = self
            .store
            .order(query.id)
            .await
            .map_err(unreadable_failure)?;
        visible_order(caller, &order_query, order_and_steps.as_ref())?;
        let after_sequence = match &query.cursor {
            Some(cursor) => cursor.parse().map_err(|_| unknown_cursor())?,
            None => 0,
        };
        let event_rows = self
            .store
            .events_of_subject(&query.id.to_string(), after_sequence, query.limit + 1)
            .await
            .map_err(unreadable_failure)?;
        let event_rows = event_rows.map(|event| match caller.role {
            Role::Storefront => event.for_storefronts(),
            Role::Operator | Role::Admin => event,
        });
        Json::of(&Page::from_rows(event_rows, query.limit, |event| {
            event.sequence.to_string()
        }))
    }
}

/// The order, if it is visible to the caller.
fn visible_order<'a>(
    caller: &Caller,
    query: &GetOrder,
    loaded_order: Option<&'a OrderAndSteps>,
) -> Result<&'a OrderAndSteps, Failure> {
    if query.include_deleted {
        caller.require_operator()?;
    }
    loaded_order
        .filter(|(order, _)| {
            caller.may_see(&order.storefront) && (!order.is_deleted || query.include_deleted)
        })
        .ok_or_else(|| Failure::not_found("order", query.id))
}

/// The storefront that a list is limited to; storefront callers always get their own.
pub(super) fn visible_storefront(
    caller: &Caller,
    requested_storefront: Option<Storefront>,
) -> Option<Storefront> {
    match caller.role {
        Role::Storefront => Some(caller.storefront.clone()),
        Role::Operator | Role::Admin => requested_storefront,
    }
}

/// An opaque cursor that points behind `order`, the last one of a page of a list in the order of `sort`.
pub(super) fn write_cursor(order: &Order, sort: OrderSort) -> String {
    let (created_at, order_number) = (order.created_at.as_millisecond(), order.number);
    let position = match sort {
        OrderSort::NewestFirst => json!([created_at, order_number]),
        OrderSort::OldestFirst => json!([created_at, order_number, sort]),
    };
    BASE64_URL_SAFE_NO_PAD.encode(position.to_string())
}

/// The position of a cursor. A cursor of a list in another order is refused.
pub(super) fn read_cursor(cursor: &str, sort: OrderSort) -> Result<OrderCursor, Failure> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Position {
        NewestFirst(i64, i64),
        InOrder(i64, i64, OrderSort),
    }
    let position = BASE64_URL_SAFE_NO_PAD.decode(cursor).ok();
    let position = position.and_then(|cursor_bytes| serde_json::from_slice(&cursor_bytes).ok());
    let (created_at_ms, order_number, cursor_sort) = match position.ok_or_else(unknown_cursor)? {
        Position::NewestFirst(created_at_ms, order_number) => {
            (created_at_ms, order_number, OrderSort::NewestFirst)
        }
        Position::InOrder(created_at_ms, order_number, sort) => (created_at_ms, order_number, sort),
    };
    if cursor_sort != sort {
        return Err(Failure::violation(
            "/cursor",
            format!(
                "is a cursor of the list with sort={}; send the same sort with it",
                cursor_sort.as_str()
            ),
        ));
    }
    Ok(OrderCursor {
        created_at_ms,
        number: order_number,
    })
}

fn unknown_cursor() -> Failure {
    Failure::violation("/cursor", "is not a cursor of this list")
}
