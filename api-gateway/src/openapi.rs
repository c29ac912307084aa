//! The OpenAPI 3.1 description, generated from the routes. Parts common to many routes (errors, headers) are
//! added in [`complete`].

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
pub(crate) fn base_document() -> utoipa::openapi::OpenApi {
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
    /// `about:blank`: see `code`.
    #[schema(rename = "type", example = "about:blank")]
    r#type: String,
    /// Name of the HTTP status.
    title: String,
    /// The HTTP status.
    #[schema(example = 422)]
    status: u16,
    /// Error message, for people.
    detail: String,
    /// Error code, for programs.
    code: Code,
    /// Id of the request, as in the logs.
    request_id: String,
    /// All violations of the request.
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

/// A webhook of Stripe; only the fields that are used.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it is only described")]
pub(crate) struct StripeWebhook {
    /// Id of the event.
    #[schema(example = "evt_1")]
    id: String,
    /// Event type; the worker retrieves the payment itself.
    #[schema(example = "payment_intent.succeeded")]
    r#type: Option<String>,
    /// The object: a `PaymentIntent`, or one that belongs to it.
    #[schema(value_type = Object)]
    data: serde_json::Value,
}

/// Result for a dead letter.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it is only described")]
pub(crate) struct Settled {
    /// Id of the dead letter.
    id: String,
    /// `redriven` or `discarded`.
    status: String,
}

/// An order that was accepted and will be processed by a worker.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it is only described")]
pub(crate) struct Accepted {
    /// Id of the order.
    id: OrderId,
    /// `accepted`.
    #[schema(example = "accepted")]
    status: String,
}

/// Readiness of the gateway.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it is only described")]
pub(crate) struct Readiness {
    /// `ready` or the reason why not.
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

/// Pagination parameters.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "it is only described")]
pub(crate) struct PageParameters {
    /// Maximum number of entries.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<u32>,
    /// `next_cursor` of the previous page.
    #[param(min_length = 1, max_length = 200)]
    cursor: Option<String>,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "it is only described")]
pub(crate) struct StorefrontParameter {
    /// Only this storefront; a storefront's own credential sees nothing else.
    storefront: Option<Storefront>,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "it is only described")]
pub(crate) struct DaysParameter {
    /// Number of days in the series, including today.
    #[param(minimum = 1, maximum = 366, default = 30)]
    days: Option<u32>,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "it is only described")]
pub(crate) struct DeletedParameter {
    /// Whether to include soft-deleted resources; for operators.
    include_deleted: Option<bool>,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "it is only described")]
pub(crate) struct OrderParameters {
    /// Order number.
    #[param(minimum = 1)]
    number: Option<i64>,
    /// Id of the order in another system.
    #[param(min_length = 1, max_length = 200)]
    external_id: Option<String>,
    status: Option<OrderStatus>,
    customer_id: Option<CustomerId>,
    /// Only orders that contain this product.
    sku: Option<Sku>,
    /// Only orders created at or after this time.
    #[param(value_type = Option<String>, format = DateTime)]
    created_after: Option<String>,
    /// Only orders created before this time.
    #[param(value_type = Option<String>, format = DateTime)]
    created_before: Option<String>,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "it is only described")]
pub(crate) struct EventParameters {
    /// Start after this event (its id), this cursor, or `now`; absent: from the beginning.
    #[param(
        min_length = 1,
        max_length = 40,
        pattern = "^(now|[0-9]{1,18}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})$"
    )]
    after: Option<String>,
    /// Only these event types, separated by commas: `order.created`, or `order.*` for a prefix.
    #[param(
        pattern = "^([a-z_.]+|[a-z_.]+[.][*]|[*])(,([a-z_.]+|[a-z_.]+[.][*]|[*]))*$",
        max_length = 500,
        example = "order.created,payment.*"
    )]
    r#type: Option<String>,
    order_id: Option<OrderId>,
    /// Only events of this storefront.
    storefront: Option<Storefront>,
    /// Maximum number of entries.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<u32>,
    /// Time to wait for new events if there are none, in milliseconds; limited by `REQUEST_TIMEOUT_MS`.
    #[param(maximum = 30_000)]
    wait_ms: Option<u32>,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "it is only described")]
pub(crate) struct DeliveryParameters {
    status: Option<DeliveryStatus>,
}

/// Content security policy of the documentation's pages: own assets only.
pub(crate) async fn with_content_security_policy(mut response: Response) -> Response {
    let policy = HeaderValue::from_static(
        "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
         frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    );
    response
        .headers_mut()
        .insert(header::CONTENT_SECURITY_POLICY, policy);
    response
}
