//! OpenAPI schemas of fields whose constraints can't be derived from their Rust types.
//!
//! The limits must agree with those of the parsing code, such as [`crate::order`] and [`crate::webhook`].

use serde_json::json;
use utoipa::openapi::{
    Array, Object, ObjectBuilder, RefOr, Schema, SchemaFormat,
    schema::{AdditionalProperties, ArrayBuilder, OneOfBuilder, SchemaType, Type},
};

/// Text without control characters.
pub(crate) const PRINTABLE_PATTERN: &str = r"^[^\u0000-\u001f\u007f-\u009f]*$";

fn text(min_chars: usize, max_chars: usize) -> ObjectBuilder {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .min_length(Some(min_chars))
        .max_length(Some(max_chars))
        .pattern(Some(PRINTABLE_PATTERN))
}

/// Allows `null` in addition to `json_type`.
fn or_null(builder: ObjectBuilder, json_type: Type) -> ObjectBuilder {
    builder.schema_type(SchemaType::from_iter([json_type, Type::Null]))
}

/// Schema of an address.
pub(crate) fn address() -> Object {
    or_null(address_fields(), Type::Object).build()
}

/// Schema of a change of an address.
pub(crate) fn address_patch() -> Object {
    let text_or_null = SchemaType::from_iter([Type::String, Type::Null]);
    let field_schema = RefOr::T(Schema::Object(
        text(0, 200).schema_type(text_or_null).build(),
    ));
    let address_builder =
        address_fields().additional_properties(Some(AdditionalProperties::RefOr(field_schema)));
    or_null(address_builder, Type::Object).build()
}

/// Schema of a note.
pub(crate) fn note() -> Object {
    or_null(ObjectBuilder::new(), Type::String)
        .max_length(Some(crate::limits::MAX_NOTE_CHARS))
        .pattern(Some(
            r"^[^\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f]*$",
        ))
        .examples([json!("Customer called: deliver after 5 pm")])
        .build()
}

/// Schema of a tag.
pub(crate) fn tag() -> Object {
    text(1, 40)
        .pattern(Some(r"^[^,\u0000-\u001f\u007f-\u009f]*$"))
        .build()
}

/// Schema of a set of tags.
pub(crate) fn tags() -> Array {
    ArrayBuilder::new()
        .schema_type(SchemaType::from_iter([Type::Array, Type::Null]))
        .max_items(Some(crate::order::MAX_TAGS))
        .items(RefOr::T(Schema::Object(tag())))
        .examples([json!(["vip", "gift"])])
        .build()
}

/// Schema of a list of addresses.
pub(crate) fn addresses() -> Array {
    let address_schema = address_fields().schema_type(Type::Object).build();
    ArrayBuilder::new()
        .schema_type(SchemaType::from_iter([Type::Array, Type::Null]))
        .max_items(Some(crate::limits::MAX_ADDRESSES))
        .items(RefOr::T(Schema::Object(address_schema)))
        .build()
}

/// Schema of a phone number.
pub(crate) fn phone() -> Object {
    or_null(ObjectBuilder::new(), Type::String)
        .min_length(Some(3))
        .max_length(Some(40))
        .pattern(Some("^[+(]?[0-9]([-(). /x#]{0,2}[0-9]){2,23}$"))
        .examples([json!("+49 30 123456")])
        .build()
}

fn address_fields() -> ObjectBuilder {
    let field_schema = RefOr::T(Schema::Object(text(0, 200).build()));
    ObjectBuilder::new()
        .additional_properties(Some(AdditionalProperties::RefOr(field_schema)))
        .max_properties(Some(20))
        .property_names(Some(text(1, 64).build()))
        .examples([
            json!({"name": "Ada Lovelace", "line1": "Main Street 1", "city": "Berlin",
                          "postal_code": "10115", "country": "DE"}),
        ])
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

/// Schema of an http or https URL.
fn web_url() -> ObjectBuilder {
    text(8, 2000).pattern(Some(r"^https?://[^\u0000-\u001f\u007f-\u009f]*$"))
}

/// Schema of the URL of a shipment's tracking page.
pub(crate) fn tracking_url() -> Object {
    or_null(web_url(), Type::String)
        .examples([json!("https://track.example.com/00340434161094042557")])
        .build()
}

/// Schema of image URLs: at most 20 on other servers, and paths of the product's photos.
pub(crate) fn image_urls() -> Array {
    let url_schema = web_url().pattern(Some(
        r"^(https?://[^\u0000-\u001f\u007f-\u009f]*|/media/[0-9a-fA-F-]{36})$",
    ));
    let url_schema_ref = RefOr::T(Schema::Object(url_schema.build()));
    ArrayBuilder::new()
        .schema_type(SchemaType::from_iter([Type::Array, Type::Null]))
        .examples([json!(["https://example.com/shirt.jpg"])])
        .max_items(Some(40))
        .items(url_schema_ref)
        .build()
}

/// Schema of the refund at the receipt of a return.
pub(crate) fn receipt_refund() -> Schema {
    let none_schema = ObjectBuilder::new()
        .schema_type(Type::String)
        .enum_values(Some(["none"]));
    let amount_schema = ObjectBuilder::new()
        .schema_type(Type::Integer)
        .minimum(Some(1))
        .maximum(Some(1_000_000_000_000_i64))
        .description(Some("Refund in minor units"));
    let amount_object_schema = ObjectBuilder::new()
        .property("amount", amount_schema)
        .required("amount")
        .additional_properties(Some(AdditionalProperties::FreeForm(false)));
    let refund_schema = OneOfBuilder::new()
        .item(none_schema)
        .item(amount_object_schema)
        .item(ObjectBuilder::new().schema_type(Type::Null))
        .description(Some(
            "The refund: `\"none\"`, or an amount instead of the units' share of the total",
        ))
        .build();
    Schema::OneOf(refund_schema)
}

/// Schema of a filter of event types, such as `order.*`.
pub(crate) fn event_type_filter() -> Array {
    let event_type_schema = ObjectBuilder::new()
        .schema_type(Type::String)
        .min_length(Some(1))
        .max_length(Some(64))
        .pattern(Some(r"^(\*|[a-z_.]+(\.\*)?)$"));
    ArrayBuilder::new()
        .schema_type(SchemaType::from_iter([Type::Array, Type::Null]))
        .examples([json!(["order.*", "payment.captured"])])
        .items(RefOr::T(Schema::Object(event_type_schema.build())))
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
