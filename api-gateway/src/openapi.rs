//! The OpenAPI 3.1 document, generated from the `utoipa` attributes and doc comments of [`crate::routes`].
//!
//! This module has the document's head, and schemas of bodies and parameters that have no type of their own
//! in `shared`. [`complete`] adds the parts that many routes share: errors, headers, links and security
//! schemes.

mod common_parts;

use std::collections::BTreeMap;

use axum::{
    http::{HeaderValue, header},
    response::Response,
};
use shared::{
    dead_letter::DeadLetterKind,
    id::{CustomerId, OrderId, ShipmentId, Sku, Storefront},
    message::MessageStatus,
    order::{OrderSort, OrderStatus, PaymentFilter, ReturnStatus, ShipmentUpdate},
    outcome::{Code, Violation},
    webhook::DeliveryStatus,
};
use utoipa::{IntoParams, OpenApi, ToSchema};

pub(crate) use self::common_parts::complete;

/// The document without its routes: title, tags and the schemas of errors.
pub(crate) fn base_document() -> utoipa::openapi::OpenApi {
    #[derive(OpenApi)]
    #[openapi(
        info(
            title = "Orders",
            description = "REST API of the order backend: orders, payments, shipments, products, stock, customers, \
                events and webhooks.\n\n\
                **Idempotency.** Every change accepts an `Idempotency-Key`: repeating a request with the same \
                key returns the first response and changes nothing.\n\n\
                **Concurrent changes.** Every change accepts `If-Match` with the `ETag` of the resource: if the \
                resource has changed since, the request fails with 412.\n\n\
                **Updates.** `PATCH` takes a JSON Merge Patch (RFC 7396): `null` removes a value.\n\n\
                **Errors** are `application/problem+json` (RFC 9457) with a `code` for programs. An invalid body is \
                reported with all its errors, each with a JSON pointer to the field.\n\n\
                **Lists** are paginated: pass `next_cursor` as `cursor` to get the next page.\n\n\
                **Formats.** Amounts are integers in minor units (cents); times are RFC 3339 in UTC.",
            license(name = "Apache-2.0", identifier = "Apache-2.0"),
        ),
        tags(
            (name = "orders", description = "Create, approve, cancel, ship and refund orders, and read their history"),
            (name = "returns", description = "Returns of shipped units: request, approve, reject, cancel and receive them"),
            (name = "products", description = "The product catalogue and stock levels by warehouse, shared by all storefronts"),
            (name = "customers", description = "Customers; each belongs to one storefront"),
            (name = "events", description = "Events of orders, payments, shipments, returns, stock and customers as CloudEvents 1.0, as pages or as a live stream"),
            (name = "webhooks", description = "Outgoing webhooks to your endpoints, and incoming webhooks of the carrier and of Stripe"),
            (name = "API keys", description = "Credentials of clients: create and revoke them. For admins"),
            (name = "dead letters", description = "Steps and messages that failed for good: list, redrive or discard them. For operators"),
            (name = "stats", description = "Numbers of orders and revenue by day; for operators also work to do and the state of the system"),
            (name = "settings", description = "The effective configuration without secrets, versions, and the state of connected systems. For operators"),
            (name = "health", description = "Probes for load balancers and orchestrators"),
        ),
        components(schemas(Problem, Code, Violation, PaymentFilter, OrderSort, DeadLetterKind)),
    )]
    struct DocumentHead;
    DocumentHead::openapi()
}

/// An error as a problem document (RFC 9457). Some error codes add further members.
#[derive(ToSchema)]
#[schema(example = json!({
    "type": "about:blank", "title": "Unprocessable Content", "status": 422,
    "detail": "/items/0/quantity: must be a whole number from 1 to 1000000", "code": "INVALID_REQUEST",
    "request_id": "checkout-42",
    "errors": [{"pointer": "/items/0/quantity", "detail": "must be a whole number from 1 to 1000000"}]
}))]
#[expect(dead_code, reason = "only its OpenAPI schema is used")]
pub(crate) struct Problem {
    /// Always `about:blank`; use `code` to tell errors apart.
    #[schema(rename = "type", example = "about:blank")]
    r#type: String,
    /// Name of the HTTP status, such as `Unprocessable Content`.
    title: String,
    /// HTTP status code.
    #[schema(example = 422)]
    status: u16,
    /// Error message for people; its text may change.
    detail: String,
    /// Error code for programs.
    code: Code,
    /// Id of the request, which also appears in the logs.
    request_id: String,
    /// All validation errors of the request.
    #[schema(required = false)]
    errors: Vec<Violation>,
}

/// A webhook from the carrier about a shipment.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only its OpenAPI schema is used")]
pub(crate) struct ShipperWebhook {
    /// Type of the shipment update.
    #[schema(value_type = String, example = "shipment.delivered")]
    r#type: ShipmentUpdate,
    /// Time of the update. A time in the future or before the shipment was created is ignored.
    #[schema(value_type = String, format = DateTime)]
    timestamp: String,
    /// The shipment that the update is about.
    data: ShipperWebhookData,
}

/// A shipment update recorded by an operator.
#[derive(ToSchema)]
#[schema(example = json!({"type": "shipment.delivered", "timestamp": "2026-01-31T12:00:00Z"}))]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only its OpenAPI schema is used")]
pub(crate) struct ShipmentEvent {
    /// Type of the shipment update.
    #[schema(value_type = ShipmentEventType)]
    r#type: ShipmentUpdate,
    /// Time of the update; default: now. A time in the future or before the shipment was created is ignored.
    #[schema(value_type = Option<String>, format = DateTime)]
    timestamp: Option<String>,
    /// The carrier's tracking number, if it differs from the one on the label.
    #[schema(min_length = 1, max_length = 100)]
    tracking_number: Option<String>,
    /// Name of the carrier, if it differs from the one on the label.
    #[schema(min_length = 1, max_length = 100)]
    carrier: Option<String>,
}

/// Type of a shipment update.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only its OpenAPI schema is used")]
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

/// The shipment of a webhook.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only its OpenAPI schema is used")]
pub(crate) struct ShipperWebhookData {
    /// Id of the order.
    order_id: OrderId,
    /// Id of the shipment. Default: the shipments with `tracking_number`, or without a tracking number all
    /// shipments of the order.
    shipment_id: Option<ShipmentId>,
    /// The carrier's tracking number. It must be known, except that `shipment.shipped` can set a new one for
    /// items that are in no shipment yet.
    tracking_number: Option<String>,
    /// Name of the carrier.
    carrier: Option<String>,
}

/// A webhook from Stripe; only the fields that are used.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only its OpenAPI schema is used")]
pub(crate) struct StripeWebhook {
    /// Stripe's id of the event.
    #[schema(example = "evt_1")]
    id: String,
    /// Type of the event. Not used: the worker retrieves the current state of the payment from Stripe.
    #[schema(example = "payment_intent.succeeded")]
    r#type: Option<String>,
    /// Contains `object`: a `PaymentIntent`, or an object that belongs to one.
    #[schema(value_type = Object)]
    data: serde_json::Value,
}

/// Result of redriving or discarding a dead letter or a failed step.
#[derive(ToSchema)]
#[schema(as = Settled)]
#[expect(dead_code, reason = "only its OpenAPI schema is used")]
pub(crate) struct SettledFailure {
    /// Id of the dead letter or step.
    id: String,
    /// `redriven` or `discarded`.
    status: String,
}

/// An order that was accepted for asynchronous processing.
#[derive(ToSchema)]
#[schema(as = Accepted)]
#[expect(dead_code, reason = "only its OpenAPI schema is used")]
pub(crate) struct AcceptedOrder {
    /// Id of the order.
    id: OrderId,
    /// Always `accepted`.
    #[schema(example = "accepted")]
    status: String,
}

/// Readiness of the gateway.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only its OpenAPI schema is used")]
pub(crate) struct Readiness {
    /// `alive` for `/livez`; `ready`, `not ready` or `stopping` for `/readyz`.
    status: String,
    /// `ok`, or the reason why the broker can't be used.
    #[schema(required = false)]
    broker: String,
    /// `ok`, or the reason why no worker takes requests.
    #[schema(required = false)]
    worker: String,
    /// Queues and exchanges that can't be used, each with the reason.
    #[schema(required = false)]
    unavailable: BTreeMap<String, String>,
}

/// Pagination parameters.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "only its OpenAPI schema is used")]
pub(crate) struct PageParameters {
    /// Maximum number of entries on the page.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<u32>,
    /// `next_cursor` of the previous page; absent for the first page.
    #[param(min_length = 1, max_length = 200)]
    cursor: Option<String>,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "only its OpenAPI schema is used")]
pub(crate) struct StorefrontParameter {
    /// Only entries of this storefront. A credential with role `storefront` always sees its own storefront
    /// only.
    storefront: Option<Storefront>,
}

/// The bytes of an image.
#[derive(ToSchema)]
#[schema(value_type = String, format = Binary)]
#[expect(dead_code, reason = "only its OpenAPI schema is used")]
pub(crate) struct PhotoBytes(Vec<u8>);

/// A form with one image.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only its OpenAPI schema is used")]
pub(crate) struct PhotoForm {
    /// The image; its `Content-Type` is image/jpeg, image/png or image/webp.
    file: PhotoBytes,
}

/// Width of a smaller copy of a photo in pixels.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only its OpenAPI schema is used")]
pub(crate) enum PhotoWidth {
    #[schema(rename = "320")]
    Width320,
    #[schema(rename = "1280")]
    Width1280,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "only its OpenAPI schema is used")]
pub(crate) struct DaysParameter {
    /// Number of days in the series, including today.
    #[param(minimum = 1, maximum = 366, default = 30)]
    days: Option<u32>,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "only its OpenAPI schema is used")]
pub(crate) struct DeletedParameter {
    /// Whether to include soft-deleted resources. Operators only.
    include_deleted: Option<bool>,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "only its OpenAPI schema is used")]
pub(crate) struct CustomerListParameters {
    /// Only customers with this e-mail address, in any letter case.
    #[param(min_length = 1, max_length = 254, example = "ada@example.com")]
    email: Option<String>,
    /// Only customers whose name or e-mail address begins with this text, in any letter case.
    #[param(min_length = 1, max_length = 254, example = "ada")]
    q: Option<String>,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "only its OpenAPI schema is used")]
pub(crate) struct OrderListParameters {
    /// Search: only orders with this number (`42` or `#42`), external id or tracking number, and orders of
    /// customers whose name or e-mail address begins with this text. Letter case matters for external ids
    /// only.
    #[param(min_length = 1, max_length = 254, example = "ada@example.com")]
    q: Option<String>,
    /// Only the order with this number.
    #[param(minimum = 1)]
    number: Option<i64>,
    /// Only the order with this id in another system.
    #[param(min_length = 1, max_length = 200)]
    external_id: Option<String>,
    /// Only orders with this status.
    status: Option<OrderStatus>,
    /// Only orders with this payment. `outstanding` selects pending orders with a manual payment that was not
    /// received in full. No index covers the other values: combine them with `status`, or with a time.
    payment_status: Option<PaymentFilter>,
    /// If `true`, only pending orders that wait for approval.
    awaits_approval: Option<bool>,
    /// Only orders of this customer.
    customer_id: Option<CustomerId>,
    /// Only orders that contain this product.
    sku: Option<Sku>,
    /// Only orders with this tag, in any letter case. Operators only.
    #[param(
        min_length = 1,
        max_length = 40,
        pattern = "^[^,\\x00-\\x1f\\x7f-\\x9f]*$",
        example = "vip"
    )]
    tag: Option<String>,
    /// Only orders created at or after this time.
    #[param(value_type = Option<String>, format = DateTime)]
    created_after: Option<String>,
    /// Only orders created before this time.
    #[param(value_type = Option<String>, format = DateTime)]
    created_before: Option<String>,
    /// Order of the list: by time of creation, newest first (`-created_at`, the default) or oldest first. A cursor
    /// is valid for the order of its list only.
    sort: Option<OrderSort>,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "only its OpenAPI schema is used")]
pub(crate) struct OrderCountParameters {
    /// Only orders of this customer.
    customer_id: Option<CustomerId>,
    /// Only orders that contain this product.
    sku: Option<Sku>,
    /// Only orders with this tag, in any letter case. Operators only.
    #[param(
        min_length = 1,
        max_length = 40,
        pattern = "^[^,\\x00-\\x1f\\x7f-\\x9f]*$",
        example = "vip"
    )]
    tag: Option<String>,
    /// Only orders created at or after this time.
    #[param(value_type = Option<String>, format = DateTime)]
    created_after: Option<String>,
    /// Only orders created before this time.
    #[param(value_type = Option<String>, format = DateTime)]
    created_before: Option<String>,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "only its OpenAPI schema is used")]
pub(crate) struct ReturnListParameters {
    /// Only returns with this status.
    status: Option<ReturnStatus>,
    /// Only returns of this order.
    order_id: Option<OrderId>,
    /// Only the return with this number (`42-R1`), or those of the order with this number (`42` or `#42`).
    #[param(min_length = 1, max_length = 100, example = "42-R1")]
    q: Option<String>,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "only its OpenAPI schema is used")]
pub(crate) struct MessageListParameters {
    /// Only messages with this status.
    status: Option<MessageStatus>,
    /// Only messages of this order.
    order_id: Option<OrderId>,
    /// Search: only messages about the order with this number (`42` or `#42`), or to addresses that begin with this
    /// text, in any letter case.
    #[param(min_length = 1, max_length = 254, example = "ada@example.com")]
    q: Option<String>,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "only its OpenAPI schema is used")]
pub(crate) struct ProductListParameters {
    /// Only products whose SKU or name begins with this text, in any letter case.
    #[param(min_length = 1, max_length = 200, example = "shirt")]
    q: Option<String>,
    /// Whether to list only products whose available units, over all warehouses, are at or below `low_stock_at`.
    low_stock: Option<bool>,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "only its OpenAPI schema is used")]
pub(crate) struct FailedStepParameters {
    /// Only steps of this kind.
    #[param(min_length = 1, max_length = 100, example = "capture_payment")]
    step: Option<String>,
    /// Only steps of the order with this number.
    #[param(minimum = 1)]
    number: Option<i64>,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "only its OpenAPI schema is used")]
pub(crate) struct DeadLetterListParameters {
    /// Only dead letters of this kind.
    #[param(inline)]
    kind: Option<DeadLetterKind>,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "only its OpenAPI schema is used")]
pub(crate) struct ApiKeyListParameters {
    /// Only keys whose name contains this text, in any letter case, or whose secret begins with it.
    #[param(min_length = 1, max_length = 100, example = "shop")]
    q: Option<String>,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "only its OpenAPI schema is used")]
pub(crate) struct WebhookEndpointListParameters {
    /// Only endpoints whose URL or description contains this text, in any letter case (ASCII).
    #[param(min_length = 1, max_length = 100, example = "warehouse")]
    q: Option<String>,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "only its OpenAPI schema is used")]
pub(crate) struct EventListParameters {
    /// Start after this event id or cursor, or with new events only (`now`). Default: from the first event.
    #[param(
        min_length = 1,
        max_length = 40,
        pattern = "^(now|[0-9]{1,18}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})$"
    )]
    after: Option<String>,
    /// Only these event types, separated by commas. `order.*` selects all types that begin with `order.`.
    #[param(
        pattern = "^([a-z_.]+|[a-z_.]+[.][*]|[*])(,([a-z_.]+|[a-z_.]+[.][*]|[*]))*$",
        max_length = 500,
        example = "order.created,payment.*"
    )]
    r#type: Option<String>,
    /// Only events of this order.
    order_id: Option<OrderId>,
    /// Only events of this storefront.
    storefront: Option<Storefront>,
    /// Maximum number of events on the page.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<u32>,
    /// Time in milliseconds to wait for new events if there are none; limited by `REQUEST_TIMEOUT_MS`.
    #[param(maximum = 30_000)]
    wait_ms: Option<u32>,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "only its OpenAPI schema is used")]
pub(crate) struct DeliveryListParameters {
    /// Only deliveries with this status.
    status: Option<DeliveryStatus>,
}

/// Adds the content security policy of the documentation pages: only the gateway's own assets.
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
