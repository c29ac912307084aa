//! What the API says of itself: OpenAPI 3.1, made of the routes' own code. What holds for many routes
//! (errors, headers) is added in one place, [`complete`].

mod complete;

use std::collections::BTreeMap;

use axum::{
    http::{HeaderValue, header},
    response::Response,
};
use shared::{
    id::{CustomerId, OrderId, ShipmentId, Sku, Storefront},
    order::{OrderStatus, ShipmentUpdate},
    outcome::{Code, Violation},
    webhook::DeliveryStatus,
};
use utoipa::{IntoParams, OpenApi, ToSchema};

pub(crate) use self::complete::complete;

/// The document without its routes.
pub(crate) fn head() -> utoipa::openapi::OpenApi {
    #[derive(OpenApi)]
    #[openapi(
        info(
            title = "Orders",
            description = "An order backend that never loses an order and never does a thing twice.\n\n\
                Every change takes an `Idempotency-Key`: asking again under it gives the first answer \
                again. Every change takes `If-Match` with the `ETag` of what it changes. `PATCH` takes a JSON \
                Merge Patch (RFC 7396): `null` removes a value. Errors are \
                `application/problem+json` (RFC 9457) with a `code`; a body's errors come all at once, \
                each with a JSON pointer. Lists go on at `next_cursor`. Money is in minor units, times \
                are RFC 3339 in UTC.",
            license(name = "Apache-2.0", identifier = "Apache-2.0"),
        ),
        tags(
            (name = "orders", description = "Accepted, paid, shipped, delivered; or cancelled"),
            (name = "products", description = "The catalogue and its stock; shared by the storefronts"),
            (name = "customers", description = "Who orders; known to one storefront each"),
            (name = "events", description = "What happened, as CloudEvents 1.0: by pages and live"),
            (name = "webhooks", description = "Telling others, and being told, as Standard Webhooks has it"),
            (name = "dead letters", description = "What could not be done, for operators"),
            (name = "health", description = "For whoever runs it"),
        ),
        components(schemas(Problem, Code, Violation)),
    )]
    struct Head;
    Head::openapi()
}

/// A problem (RFC 9457). Members that a `code` needs stand beside these.
#[derive(ToSchema)]
#[schema(example = json!({
    "type": "about:blank", "title": "Unprocessable Content", "status": 422,
    "detail": "/items/0/quantity: must be a whole number from 1 to 1000000", "code": "INVALID_REQUEST",
    "request_id": "checkout-42",
    "errors": [{"pointer": "/items/0/quantity", "detail": "must be a whole number from 1 to 1000000"}]
}))]
#[expect(dead_code, reason = "it is only described")]
pub(crate) struct Problem {
    /// `about:blank`: `code` says more.
    #[schema(rename = "type", example = "about:blank")]
    r#type: String,
    /// What `status` means.
    title: String,
    /// The HTTP status.
    #[schema(example = 422)]
    status: u16,
    /// What is wrong, for people.
    detail: String,
    /// What is wrong, for programs.
    code: Code,
    /// The request's id, as logs have it.
    request_id: String,
    /// Everything that is wrong with the request, at once.
    #[schema(required = false)]
    errors: Vec<Violation>,
}

/// A webhook of the shipper.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it is only described")]
pub(crate) struct ShipperWebhook {
    /// Type of the update.
    #[schema(value_type = String, example = "shipment.delivered")]
    r#type: ShipmentUpdate,
    /// Time of the update; ignored if it is in the future or earlier than the shipment.
    #[schema(value_type = String, format = DateTime)]
    timestamp: String,
    /// The shipment it is about.
    data: ShipperWebhookData,
}

/// An update of a shipment by an operator.
#[derive(ToSchema)]
#[schema(example = json!({"type": "shipment.delivered", "timestamp": "2026-01-31T12:00:00Z"}))]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "it is only described")]
pub(crate) struct ShipmentEvent {
    /// Type of the update.
    #[schema(value_type = ShipmentEventType)]
    r#type: ShipmentUpdate,
    /// Time of the update; absent: now. Ignored if it is in the future or earlier than the shipment.
    #[schema(value_type = Option<String>, format = DateTime)]
    timestamp: Option<String>,
    /// The carrier's tracking number, if it differs from the label's.
    #[schema(min_length = 1, max_length = 100)]
    tracking_number: Option<String>,
    /// Carrier, if it differs from the label's.
    #[schema(min_length = 1, max_length = 100)]
    carrier: Option<String>,
}

/// An update of a shipment.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it is only described")]
pub(crate) enum ShipmentEventType {
    #[schema(rename = "shipment.shipped")]
    Shipped,
    #[schema(rename = "shipment.in_transit")]
    InTransit,
    #[schema(rename = "shipment.out_for_delivery")]
    OutForDelivery,
    #[schema(rename = "shipment.delivered")]
    Delivered,
    #[schema(rename = "shipment.failed")]
    Failed,
    #[schema(rename = "shipment.returned")]
    Returned,
}

/// To what it happened.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it is only described")]
pub(crate) struct ShipperWebhookData {
    order_id: OrderId,
    /// Which shipment. Absent: those with `tracking_number`; without a number, too, the whole order.
    shipment_id: Option<ShipmentId>,
    /// Must be known, except that `shipment.shipped` may name a new one for goods that are in no shipment yet.
    tracking_number: Option<String>,
    carrier: Option<String>,
}

/// What Stripe tells, as far as it is read.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it is only described")]
pub(crate) struct StripeWebhook {
    /// The event.
    #[schema(example = "evt_1")]
    id: String,
    /// What happened, which the worker sees for itself.
    #[schema(example = "payment_intent.succeeded")]
    r#type: Option<String>,
    /// To what: a `PaymentIntent`, or what belongs to one.
    #[schema(value_type = Object)]
    data: serde_json::Value,
}

/// What became of a dead letter.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it is only described")]
pub(crate) struct Settled {
    /// Which.
    id: String,
    /// `redriven` or `discarded`.
    status: String,
}

/// An order that a worker will come to.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it is only described")]
pub(crate) struct Accepted {
    /// Under which id it will be found.
    id: OrderId,
    /// `accepted`.
    #[schema(example = "accepted")]
    status: String,
}

/// How the gateway is.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it is only described")]
pub(crate) struct Readiness {
    /// In a word.
    status: String,
    /// `ok`, or why the broker can't be used.
    #[schema(required = false)]
    broker: String,
    /// `ok`, or why no worker takes requests.
    #[schema(required = false)]
    worker: String,
    /// Queues and exchanges that can't be used, with the reasons.
    #[schema(required = false)]
    unavailable: BTreeMap<String, String>,
}

/// Where a list goes on, and how much of it.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "it is only described")]
pub(crate) struct PageParameters {
    /// Entries at most.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    #[param(min_length = 1, max_length = 200)]
    cursor: Option<String>,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "it is only described")]
pub(crate) struct StorefrontParameter {
    /// Only of this storefront; a storefront's own credential sees nothing else anyway.
    storefront: Option<Storefront>,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "it is only described")]
pub(crate) struct DaysParameter {
    /// Days of the series, today included.
    #[param(minimum = 1, maximum = 366, default = 30)]
    days: Option<u32>,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "it is only described")]
pub(crate) struct DeletedParameter {
    /// For operators: what is deleted, too.
    include_deleted: Option<bool>,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "it is only described")]
pub(crate) struct OrderParameters {
    /// What people call it.
    #[param(minimum = 1)]
    number: Option<i64>,
    /// What another system calls it.
    #[param(min_length = 1, max_length = 200)]
    external_id: Option<String>,
    status: Option<OrderStatus>,
    customer_id: Option<CustomerId>,
    /// With this product.
    sku: Option<Sku>,
    /// At or after.
    #[param(value_type = Option<String>, format = DateTime)]
    created_after: Option<String>,
    /// Before.
    #[param(value_type = Option<String>, format = DateTime)]
    created_before: Option<String>,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "it is only described")]
pub(crate) struct EventParameters {
    /// Behind this event (its id), or this cursor, or `now`; absent: from the beginning.
    #[param(
        min_length = 1,
        max_length = 40,
        pattern = "^(now|[0-9]{1,18}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})$"
    )]
    after: Option<String>,
    /// Only these types, apart by commas: `order.created`, or `order.*` for all that begin so.
    #[param(
        pattern = "^([a-z_.]+|[a-z_.]+[.][*]|[*])(,([a-z_.]+|[a-z_.]+[.][*]|[*]))*$",
        max_length = 500,
        example = "order.created,payment.*"
    )]
    r#type: Option<String>,
    order_id: Option<OrderId>,
    /// Only of this storefront.
    storefront: Option<Storefront>,
    /// Entries at most.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<u32>,
    /// If there is nothing new, wait so long for it: milliseconds; no longer than for any other answer
    /// (`REQUEST_TIMEOUT_MS`).
    #[param(maximum = 30_000)]
    wait_ms: Option<u32>,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "it is only described")]
pub(crate) struct DeliveryParameters {
    status: Option<DeliveryStatus>,
}

/// What the documentation's pages may load and run: only themselves.
pub(crate) async fn policy(mut response: Response) -> Response {
    let policy = HeaderValue::from_static(
        "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
         frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    );
    response
        .headers_mut()
        .insert(header::CONTENT_SECURITY_POLICY, policy);
    response
}
