//! Strict parsing of JSON bodies: reports every error at once, each with its JSON pointer (RFC 6901).
//!
//! [`parse`] accepts only unambiguous JSON. [`read`] then takes the known fields from an object ([`Fields`]);
//! the remaining fields are reported as unknown. `null` counts as absent, except in a JSON Merge Patch (RFC
//! 7396), where it removes a value. [`crate::request`] parses every request with this module, in the gateway
//! and the worker.
//!
//! `fields` and `values` read objects and values, `strict` has the JSON parser, `number` finds numbers that
//! would change, `stored` reads stored JSON.

use serde_json::Value;

mod fields;
mod number;
mod stored;
mod strict;
mod values;

use self::fields::read_object;
pub use self::{
    fields::Fields,
    number::first_inexact,
    stored::from_stored,
    values::{
        boolean, integer, must_be_true, object, parsed, string, text, visible_text, without_nul,
    },
};
use crate::failure::{Code, Failure};

/// Maximum size of a body in bytes, over HTTP and over AMQP.
pub const MAX_BODY_BYTES: usize = 1024 * 1024;

/// Maximum nesting of a client's body, in levels: as many as most JSON libraries accept.
pub const MAX_NESTING: usize = 127;
/// Levels of nesting that a message adds around a client's body, such as the list of lines of an import.
const ENVELOPE_NESTING: usize = 8;
/// Maximum number of bytes that a message adds around a client's body.
const ENVELOPE_BYTES: usize = 4 * 1024;
/// Maximum nesting of free-form JSON, such as an order's `metadata`, in levels. Representations that contain
/// it stay within the limits of common JSON libraries.
pub const MAX_FREE_NESTING: usize = 32;

/// Parses a client's body as JSON.
///
/// # Errors
/// - `PAYLOAD_TOO_LARGE` above [`MAX_BODY_BYTES`].
/// - `INVALID_REQUEST` (400) with line and column if the body is not JSON, is nested deeper than
///   [`MAX_NESTING`], or has a duplicate member name, of which different parsers may see different values.
/// - `INVALID_REQUEST` (422) with the pointer of a number that can't be stored exactly.
pub fn parse(bytes: &[u8]) -> Result<Value, Failure> {
    parse_within(bytes, MAX_BODY_BYTES, MAX_NESTING, "the body")
}

/// Parses one line of an import. Errors have the column only; the caller adds the line.
///
/// # Errors
/// As [`parse`].
pub fn parse_line(bytes: &[u8]) -> Result<Value, Failure> {
    parse_within(bytes, MAX_BODY_BYTES, MAX_NESTING, "the line")
}

/// Parses the body of an RPC request or of a queued order, which may contain a client's body. Accepts every
/// body that [`parse`] accepts inside the message.
///
/// # Errors
/// As [`parse`], with higher limits for what the message adds to the client's body.
pub fn parse_message(bytes: &[u8]) -> Result<Value, Failure> {
    let (max_bytes, max_nesting) = (
        MAX_BODY_BYTES + ENVELOPE_BYTES,
        MAX_NESTING + ENVELOPE_NESTING,
    );
    parse_within(bytes, max_bytes, max_nesting, "the body")
}

fn parse_within(
    bytes: &[u8],
    max_bytes: usize,
    max_nesting: usize,
    part_name: &str,
) -> Result<Value, Failure> {
    if bytes.len() > max_bytes {
        return Err(Failure::new(
            Code::PayloadTooLarge,
            format!("{part_name} exceeds {max_bytes} bytes"),
        ));
    }
    let (value, has_floats) = strict::parse(bytes, max_nesting).map_err(|error| {
        // In a single line only the column is useful.
        let error_text = match part_name {
            "the line" => error.to_string().replace(" at line 1 column", " at column"),
            _ => error.to_string(),
        };
        Failure::new(
            Code::InvalidRequest,
            format!("{part_name} is not valid JSON: {error_text}"),
        )
    })?;
    // Whole numbers of 64 bits are exact; all others were read as floats.
    let body_text = str::from_utf8(bytes).ok().filter(|_| has_floats);
    match body_text.and_then(|text| first_inexact(text, "")) {
        Some((pointer, number)) => Err(Failure::violation(
            pointer,
            format!("{number} can't be stored exactly as a number; send it as a string"),
        )),
        None => Ok(value),
    }
}

/// The error for a body above [`MAX_BODY_BYTES`].
pub fn too_large() -> Failure {
    Failure::new(
        Code::PayloadTooLarge,
        format!("the body exceeds {MAX_BODY_BYTES} bytes"),
    )
}

/// Parses `value` as an object with `read`, which returns `None` after it has reported a violation.
///
/// # Errors
/// `INVALID_REQUEST` (422) with every violation.
pub fn read<T>(
    value: Value,
    read: impl FnOnce(&mut Fields<'_>) -> Option<T>,
) -> Result<T, Failure> {
    let mut violations = Vec::new();
    let read_result = read_object(String::new(), value, &mut violations, read);
    match read_result {
        Some(read_value) if violations.is_empty() => Ok(read_value),
        _ => Err(Failure::violations(&violations)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::failure::Violation;

    fn pointers(failure: &Failure) -> Vec<String> {
        let errors: Vec<Violation> =
            serde_json::from_value(failure.errors().unwrap().clone()).unwrap();
        errors
            .into_iter()
            .map(|violation| violation.pointer)
            .collect()
    }

    #[test]
    fn all_errors_of_a_body_are_reported_at_once() {
        let body = json!({"name": 1, "lines": [{"n": 0}, {"n": 1}, 7, {"n": 2, "a/b": 1}], "x": 1});
        let failure = read(body, |fields| {
            let name = fields.required("name", string);
            let missing_field = fields.required("missing", string);
            let lines = fields.list("lines", 1..=9, |line| line.required("n", integer(1..=2)));
            Some((name?, missing_field?, lines?))
        })
        .unwrap_err();
        assert_eq!(
            pointers(&failure),
            [
                "/name",
                "/missing",
                "/lines/0/n",
                "/lines/2",
                "/lines/3/a~1b",
                "/x"
            ]
        );
        assert_eq!(failure.http_status(), 422);
    }

    #[test]
    fn malformed_json_is_reported_with_line_and_column() {
        let failure = parse(b"{\"a\": }").unwrap_err();
        assert_eq!(failure.http_status(), 400);
        assert!(failure.message.contains("line 1 column 7"), "{failure}");
        assert!(parse(&[0xff, 0xfe]).is_err());
        assert!(parse(b"").is_err());
    }

    #[test]
    fn ambiguous_json_is_refused() {
        for (text, expected_error) in [
            (
                r#"{"a": 1, "b": {"c": 1, "c": 1}}"#,
                "member \"c\" appears twice",
            ),
            (r#"{"a": "\ud800"}"#, "hex escape"),
            (r#"{"a": 1e400}"#, "out of range"),
            (r#"{"a": 01}"#, "invalid number"),
            (r#"{"a": 1} x"#, "trailing"),
            (
                &format!("{}1{}", "[".repeat(200), "]".repeat(200)),
                "nested deeper than 127 levels",
            ),
        ] {
            let failure = parse(text.as_bytes()).unwrap_err();
            assert_eq!(failure.http_status(), 400);
            assert!(
                failure.message.contains(expected_error),
                "{text}: {failure}"
            );
        }
        // No member name has a special meaning for serde_json.
        let private_map = r#"{"$serde_json::private::RawValue": "[1]"}"#;
        assert!(parse(private_map.as_bytes()).unwrap().is_object());
    }

    #[test]
    fn name_without_visible_characters_is_refused() {
        let read_name = visible_text(1..=20);
        for blank_text in [
            " ",
            "\u{3000}\u{a0}",
            "\u{200b}",
            "\u{feff} \u{200d}",
            "\u{2800}",
            "\u{3164}",
            "\u{e0020}",
            "\u{202e}",
        ] {
            assert!(read_name(json!(blank_text)).is_err(), "{blank_text:?}");
        }
        for visible_text in ["A", " Ada ", "می\u{200c}خواهم", "👩\u{200d}🔬", "é", "株"]
        {
            assert_eq!(read_name(json!(visible_text)), Ok(visible_text.to_owned()));
        }
    }

    #[test]
    fn null_in_a_merge_patch_removes_optional_fields() {
        let parse_patch = |body: Value| {
            read(body, |fields| {
                Some((
                    fields.patch_nullable("a", string),
                    fields.patch("b", string),
                ))
            })
        };
        assert_eq!(parse_patch(json!({})), Ok((None, None)));
        assert_eq!(parse_patch(json!({"a": null})), Ok((Some(None), None)));
        assert_eq!(
            parse_patch(json!({"a": "x", "b": "y"})),
            Ok((Some(Some("x".to_owned())), Some("y".to_owned())))
        );
        let failure = parse_patch(json!({"a": 1, "b": null})).unwrap_err();
        assert_eq!(pointers(&failure), ["/a", "/b"]);
    }

    #[test]
    fn null_counts_as_absent() {
        let value_of_null = read(json!({"a": null}), |fields| {
            Some(fields.optional("a", string))
        });
        assert_eq!(value_of_null, Ok(None));
    }

    fn nested_body(levels: usize) -> String {
        format!("{}1{}", "[".repeat(levels), "]".repeat(levels))
    }

    #[test]
    fn accepted_body_can_be_parsed_inside_a_message() {
        let body_text = nested_body(MAX_NESTING);
        parse(body_text.as_bytes()).unwrap();
        assert_eq!(
            parse(nested_body(MAX_NESTING + 1).as_bytes())
                .unwrap_err()
                .http_status(),
            400
        );
        let message = format!(r#"{{"lines": [{{"line": 1, "order": {body_text}}}]}}"#);
        parse_message(message.as_bytes()).unwrap();
        let stored_value: Result<Value, _> = from_stored(&nested_body(200));
        assert!(stored_value.is_ok());
        let stored_value: Result<Value, _> = from_stored(&nested_body(257));
        assert!(stored_value.is_err());
    }

    #[test]
    fn free_form_json_is_limited_in_depth_and_has_no_nul() {
        let parse_free_json = |levels: usize| {
            let value = serde_json::from_str(&nested_body(levels - 1)).unwrap();
            object(10_000)(json!({ "a": Value::Array(vec![value]) }))
        };
        assert!(parse_free_json(MAX_FREE_NESTING - 1).is_ok());
        let nesting_error = parse_free_json(MAX_FREE_NESTING).unwrap_err();
        assert!(nesting_error.contains("32 levels"), "{nesting_error}");
        for value in [json!({"a\0": 1}), json!({"a": ["\0"]})] {
            assert!(object(100)(value).unwrap_err().contains("NUL"));
        }
        assert!(string(json!("a\0")).is_err());
    }

    #[test]
    fn numbers_are_kept_exactly_or_refused() {
        for exact_number in [
            "18446744073709551615",
            "-9223372036854775808",
            "0.1",
            "1.10",
            "-0",
            "1e3",
            "1E+2",
            "100000000000000000000",
            "1.7976931348623157e308",
            "5e-324",
            "2.2250738585072014e-308",
            "0.30000000000000004",
            "9007199254740993",
        ] {
            let text = format!(r#"{{"a": {{"b~/": ["1e999", {exact_number}]}}}}"#);
            parse(text.as_bytes()).unwrap();
        }
        for inexact_number in [
            "18446744073709551616",
            "-9223372036854775809",
            "123456789012345678901234567890",
            "0.1234567890123456789",
            "9007199254740993.0",
            "1e-400",
            "1e-99999999999999999999",
        ] {
            let text = format!(
                r#"{{"x": [[], {{"a": 1}}], "a": {{"b~/": ["1e999", {inexact_number}]}}}}"#
            );
            let failure = parse(text.as_bytes()).unwrap_err();
            assert_eq!(failure.http_status(), 422, "{inexact_number}: {failure}");
            assert_eq!(pointers(&failure), ["/a/b~0~1/1"], "{inexact_number}");
        }
    }
}
