//! OpenAPI schemas of fields whose constraints can't be derived from their Rust types.
//!
//! The limits must agree with those of the parsing code, such as [`crate::order`] and [`crate::webhook`].

use serde_json::json;
use utoipa::openapi::{
    Array, Object, ObjectBuilder, RefOr, Schema, SchemaFormat,
    schema::{AdditionalProperties, ArrayBuilder, SchemaType, Type},
};

/// Text without control characters.
pub(crate) const PRINTABLE: &str = r"^[^\u0000-\u001f\u007f-\u009f]*$";

fn text(min: usize, max: usize) -> ObjectBuilder {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .min_length(Some(min))
        .max_length(Some(max))
        .pattern(Some(PRINTABLE))
}

/// Allows `null` in addition to `kind`.
fn or_null(builder: ObjectBuilder, kind: Type) -> ObjectBuilder {
    builder.schema_type(SchemaType::from_iter([kind, Type::Null]))
}

/// Schema of an address.
pub(crate) fn address() -> Object {
    let field = RefOr::T(Schema::Object(text(0, 200).build()));
    or_null(ObjectBuilder::new(), Type::Object)
        .additional_properties(Some(AdditionalProperties::RefOr(field)))
        .max_properties(Some(20))
        .property_names(Some(text(1, 64).build()))
        .examples([
            json!({"name": "Ada Lovelace", "line1": "Main Street 1", "city": "Berlin",
                          "postal_code": "10115", "country": "DE"}),
        ])
        .build()
}

/// Schema of metadata.
pub(crate) fn metadata() -> Object {
    or_null(ObjectBuilder::new(), Type::Object)
        .description(Some(
            "Metadata set by the client: at most 16 KiB as JSON and 32 levels of nesting, without NUL \
             characters. Numbers must fit exactly in a 64-bit integer or float.",
        ))
        .examples([json!({"cart": "42"})])
        .build()
}

/// Schema of an image URL.
fn image_url() -> ObjectBuilder {
    text(8, 2000).pattern(Some(r"^https?://[^\u0000-\u001f\u007f-\u009f]*$"))
}

/// Schema of image URLs.
pub(crate) fn image_urls() -> Array {
    let items = RefOr::T(Schema::Object(image_url().build()));
    ArrayBuilder::new()
        .schema_type(SchemaType::from_iter([Type::Array, Type::Null]))
        .examples([json!(["https://example.com/shirt.jpg"])])
        .max_items(Some(20))
        .items(items)
        .build()
}

/// Schema of event types.
pub(crate) fn event_types() -> Array {
    let kind = ObjectBuilder::new()
        .schema_type(Type::String)
        .min_length(Some(1))
        .max_length(Some(64))
        .pattern(Some(r"^(\*|[a-z_.]+(\.\*)?)$"));
    ArrayBuilder::new()
        .schema_type(SchemaType::from_iter([Type::Array, Type::Null]))
        .examples([json!(["order.*", "payment.captured"])])
        .items(RefOr::T(Schema::Object(kind.build())))
        .min_items(Some(1))
        .max_items(Some(50))
        .build()
}

/// Schema of a URL.
pub(crate) fn url() -> Object {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .format(Some(SchemaFormat::Custom("uri".to_owned())))
        .max_length(Some(2000))
        .pattern(Some("^https?://"))
        .examples([json!("https://example.com/webhooks")])
        .build()
}
