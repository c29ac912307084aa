//! Adds the parts of the OpenAPI document that many routes share: errors, headers, links and security
//! schemes.
//!
//! They follow from an operation's path and method, so that [`crate::routes`] describes only what is special
//! to a route, and no route can forget them.

use serde_json::json;
use utoipa::openapi::{
    Content, Header, HttpMethod, ObjectBuilder, Ref, RefOr, Required, Response as OpenApiResponse,
    ResponseBuilder, Schema,
    link::Link,
    path::{Operation, Parameter, ParameterBuilder, ParameterIn},
    schema::{SchemaType, Type},
    security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityScheme},
};

/// Adds the common parts to each operation of the document.
pub(crate) fn complete(document: &mut utoipa::openapi::OpenApi) {
    for (path_name, path_item) in &mut document.paths.paths {
        let operations = [
            (HttpMethod::Get, &mut path_item.get),
            (HttpMethod::Post, &mut path_item.post),
            (HttpMethod::Put, &mut path_item.put),
            (HttpMethod::Patch, &mut path_item.patch),
            (HttpMethod::Delete, &mut path_item.delete),
        ];
        for (method, operation) in operations {
            if let Some(operation) = operation {
                complete_operation(path_name, &method, operation);
            }
        }
    }
    add_links(document);
    let components = document.components.get_or_insert_default();
    for (scheme_name, scheme) in security_schemes() {
        components
            .security_schemes
            .insert(scheme_name.to_owned(), RefOr::T(scheme));
    }
    for (status, description) in PROBLEM_RESPONSES {
        components.responses.insert(
            format!("Problem{status}"),
            RefOr::T(problem_response(*status, description)),
        );
    }
}

/// Adds links from the 201 response of each `POST` to the operations that take the created resource's id.
fn add_links(document: &mut utoipa::openapi::OpenApi) {
    let item_operations = document
        .paths
        .paths
        .iter()
        .flat_map(|(path_name, path_item)| {
            let operations = [
                &path_item.get,
                &path_item.post,
                &path_item.put,
                &path_item.patch,
                &path_item.delete,
            ];
            let present_operations = operations.into_iter().flatten();
            present_operations
                .filter_map(|operation| Some((path_name.clone(), operation.operation_id.clone()?)))
        });
    let item_operations: Vec<_> = item_operations
        .filter(|(path_name, _)| path_name.matches('{').count() == 1)
        .collect();
    for (collection_path, path_item) in &mut document.paths.paths {
        let responses = path_item
            .post
            .as_mut()
            .map(|post| &mut post.responses.responses);
        let Some(RefOr::T(created_response)) =
            responses.and_then(|responses| responses.get_mut("201"))
        else {
            continue;
        };
        for (path_name, operation_id) in &item_operations {
            let id_parameter = path_name
                .strip_prefix(&format!("{collection_path}/{{"))
                .and_then(|after_brace| after_brace.split_once('}'));
            if let Some((id_parameter, _)) = id_parameter {
                let link = Link::builder()
                    .operation_id(operation_id)
                    .parameter(id_parameter, format!("$response.body#/{id_parameter}"))
                    .build();
                created_response
                    .links
                    .insert(operation_id.clone(), RefOr::T(link));
            }
        }
    }
}

/// The descriptions of error responses by HTTP status.
const PROBLEM_RESPONSES: &[(u16, &str)] = &[
    (400, "The request is malformed"),
    (401, "The credential is missing or invalid"),
    (403, "The credential does not allow this"),
    (
        404,
        "The resource does not exist, or belongs to another storefront",
    ),
    (408, "The body was not received in time"),
    (
        409,
        "The state of the resource does not allow this, the stock is not sufficient, or a request with the same `Idempotency-Key` is in progress",
    ),
    (
        412,
        "The resource does not match `If-Match`; nothing was changed",
    ),
    (413, "The body is too large"),
    (
        415,
        "The `Content-Type` is not supported, or the body has a `Content-Encoding`",
    ),
    (422, "The request is invalid; `errors` lists all errors"),
    (
        429,
        "Too many requests; retry after the seconds in `Retry-After`",
    ),
    (500, "An unexpected error"),
    (
        503,
        "The service is unavailable and nothing was changed; retry after the seconds in `Retry-After`",
    ),
    (
        504,
        "The outcome is unknown; repeat the request with the same `Idempotency-Key`",
    ),
];

fn complete_operation(path_name: &str, method: &HttpMethod, operation: &mut Operation) {
    let is_api = path_name.starts_with("/v1/");
    let (is_read, is_post) = (*method == HttpMethod::Get, *method == HttpMethod::Post);
    let is_item = path_name.contains('{');
    let is_list =
        is_read
            && operation.parameters.iter().flatten().any(
                |parameter| matches!(parameter, RefOr::T(parameter) if parameter.name == "limit"),
            )
            && !path_name.ends_with("/stream");

    let tag = operation.tags.iter().flatten().next().cloned();
    let operation_name = operation.operation_id.take().unwrap_or_default();
    let tag = tag.unwrap_or_default().replace(' ', "_");
    operation.operation_id = Some(format!("{tag}_{operation_name}"));

    for parameter in operation.parameters.iter_mut().flatten() {
        if let RefOr::T(parameter) = parameter
            && let Some(schema) = &mut parameter.schema
        {
            *schema = remove_null(schema.clone());
        }
    }
    let mut headers = vec![REQUEST_ID];
    if is_api && !is_read {
        headers.extend([IDEMPOTENCY_KEY, IF_MATCH]);
    }
    if is_read && is_item && !is_list {
        headers.push(IF_NONE_MATCH);
    }
    let parameters = operation.parameters.get_or_insert_default();
    parameters.extend(headers.into_iter().map(header_parameter).map(RefOr::T));

    if is_api && operation.security.is_none() {
        operation.security = Some(vec![utoipa::openapi::security::SecurityRequirement::new(
            "bearer",
            Vec::<String>::new(),
        )]);
    }
    let statuses = problem_statuses(is_api, is_item, is_read, is_post);
    let responses = &mut operation.responses.responses;
    for status in statuses {
        let reference = Ref::from_response_name(format!("Problem{status}"));
        responses
            .entry(status.to_string())
            .or_insert(RefOr::Ref(reference));
    }
    if is_read && is_item && !is_list {
        let not_modified = ResponseBuilder::new()
            .description("The resource still has the `ETag` of `If-None-Match`")
            .header("ETag", text_header("Version of the resource"))
            .build();
        responses.insert("304".to_owned(), RefOr::T(not_modified));
    }
    for (status, response) in responses.iter_mut() {
        let RefOr::T(response) = response else {
            continue;
        };
        if response.description.is_empty() {
            "Success".clone_into(&mut response.description);
        }
        let headers = &mut response.headers;
        headers.insert(
            "X-Request-Id".to_owned(),
            text_header("Id of the request").into(),
        );
        if !is_api || !status.starts_with('2') {
            continue;
        }
        if is_list {
            headers.insert(
                "Link".to_owned(),
                text_header("Link to the next page (`rel=\"next\"`), if there is one").into(),
            );
        }
        if status == "201" {
            headers.insert(
                "Location".to_owned(),
                text_header("Path of the created resource").into(),
            );
        }
        if status == "201" || (is_item && !is_list && status == "200") {
            headers.insert(
                "ETag".to_owned(),
                text_header("Version of the resource, for `If-Match` and `If-None-Match`").into(),
            );
        }
        if !is_read {
            let replayed_header = text_header(
                "`true` if this is the stored response to an earlier request with the same `Idempotency-Key`",
            );
            headers.insert("Idempotent-Replayed".to_owned(), replayed_header.into());
        }
    }
}

/// The statuses of the problems that an operation can answer with.
#[expect(
    clippy::fn_params_excessive_bools,
    reason = "facts about the operation"
)]
fn problem_statuses(is_api: bool, is_item: bool, is_read: bool, is_post: bool) -> Vec<u16> {
    let mut statuses = Vec::new();
    if is_api {
        statuses.extend([400, 401, 403, 422, 429, 500, 503, 504]);
    } else if is_post {
        statuses.extend([400, 401, 409, 422, 500, 503, 504]);
    } else if is_item {
        statuses.extend([400, 503]);
    }
    if is_item || is_post {
        statuses.push(404);
    }
    if !is_read {
        statuses.extend([408, 409, 413, 415]);
        if is_api {
            statuses.push(412);
        }
    }
    statuses
}

/// The schema without `null`: a query parameter is present or absent, never null.
fn remove_null(schema: RefOr<Schema>) -> RefOr<Schema> {
    match schema {
        RefOr::T(Schema::Object(mut object)) => {
            if let SchemaType::Array(types) = &mut object.schema_type {
                types.retain(|schema_type| *schema_type != Type::Null);
            }
            if let SchemaType::Array(types) = &object.schema_type
                && let [schema_type] = &types[..]
            {
                object.schema_type = SchemaType::Type(schema_type.clone());
            }
            RefOr::T(Schema::Object(object))
        }
        RefOr::T(Schema::OneOf(one_of)) => {
            let is_null = |schema: &RefOr<Schema>| matches!(schema, RefOr::T(Schema::Object(object)) if object.schema_type == SchemaType::Type(Type::Null));
            let non_null_schema = one_of.items.into_iter().find(|schema| !is_null(schema));
            non_null_schema.unwrap_or_default()
        }
        other_schema => other_schema,
    }
}

fn problem_response(status: u16, description: &str) -> OpenApiResponse {
    let schema = Ref::from_schema_name("Problem");
    let response = ResponseBuilder::new()
        .description(description)
        .content(
            "application/problem+json",
            Content::builder().schema(Some(schema)).build(),
        )
        .header("X-Request-Id", text_header("Id of the request"));
    match status {
        401 => response.header(
            "WWW-Authenticate",
            text_header("Authentication scheme: `Bearer`"),
        ),
        429 | 503 => response.header(
            "Retry-After",
            text_header("Seconds to wait before the next request"),
        ),
        _ => response,
    }
    .build()
}

fn text_header(description: &str) -> Header {
    utoipa::openapi::HeaderBuilder::new()
        .schema(Some(ObjectBuilder::new().schema_type(Type::String).build()))
        .description(Some(description))
        .build()
}

/// A request header that many routes take: name, description, pattern, example.
type HeaderDoc = (&'static str, &'static str, &'static str, &'static str);

const REQUEST_ID: HeaderDoc = (
    "X-Request-Id",
    "Id of the request in logs, events and the response: 1 to 128 letters, digits and `. _ : -`. Generated if it is missing or invalid",
    "",
    "checkout-42",
);
const IDEMPOTENCY_KEY: HeaderDoc = (
    "Idempotency-Key",
    "Makes the request safe to repeat: the same key with the same request (path, body, `If-Match`) returns the first response. The same key with a different request fails with 422",
    "^[!-~]([ -~]{0,253}[!-~])?$",
    "cart-42",
);
const IF_MATCH: HeaderDoc = (
    "If-Match",
    "Change the resource only if it has one of these `ETag`s; otherwise the request fails with 412. A \
     collection has no `ETag`, so only `*` matches it",
    r#"^([*]|(W/)?"[!#-~]{0,40}"(, ?(W/)?"[!#-~]{0,40}"){0,9})$"#,
    "*",
);
const IF_NONE_MATCH: HeaderDoc = (
    "If-None-Match",
    "Respond with 304 if the resource still has this `ETag`",
    "",
    "\"3\"",
);

fn header_parameter((header_name, description, pattern, example): HeaderDoc) -> Parameter {
    let schema = ObjectBuilder::new()
        .schema_type(Type::String)
        .pattern(Some(pattern).filter(|pattern| !pattern.is_empty()))
        .examples([json!(example)])
        .build();
    ParameterBuilder::new()
        .name(header_name)
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some(description))
        .schema(Some(schema))
        .build()
}

fn security_schemes() -> [(&'static str, SecurityScheme); 3] {
    let mut bearer_scheme = Http::new(HttpAuthScheme::Bearer);
    bearer_scheme.description =
        Some("An API key, or a JSON Web Token with the claims `role` and `storefront`".into());
    let signature_scheme = ApiKeyValue::with_description(
        "webhook-signature",
        "Signature as specified by Standard Webhooks: `v1,BASE64` of the HMAC-SHA256 of id, timestamp and body",
    );
    [
        ("bearer", SecurityScheme::Http(bearer_scheme)),
        (
            "webhook_signature",
            SecurityScheme::ApiKey(ApiKey::Header(signature_scheme)),
        ),
        (
            "stripe_signature",
            SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::with_description(
                "stripe-signature",
                "Stripe's signature: `t=SECONDS,v1=HEX` of the HMAC-SHA256 of the seconds, a dot and the body",
            ))),
        ),
    ]
}
