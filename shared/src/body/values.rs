//! Readers of single values: each checks the type and the limits of a field, and returns the value or the
//! reason why it is refused.

use std::{fmt::Display, ops::RangeInclusive, str::FromStr};

use serde_json::{Map, Value};

use super::MAX_FREE_NESTING;

/// Reads a string that parses as `T`.
///
/// # Errors
/// The reason why it does not parse.
pub fn parsed<T: FromStr<Err: Display>>(value: Value) -> Result<T, String> {
    string(value)?
        .parse()
        .map_err(|error: T::Err| error.to_string())
}

/// A string. NUL characters, which PostgreSQL can't store, are refused.
///
/// # Errors
/// When the value is not a string, or contains a NUL character.
pub fn string(value: Value) -> Result<String, String> {
    match value {
        Value::String(text) => without_nul(&text).map(|()| text),
        _ => Err("must be a string".to_owned()),
    }
}

/// Refuses NUL characters, which PostgreSQL can't store, in text that is stored or searched for.
///
/// # Errors
/// When the text contains a NUL character.
pub fn without_nul(text: &str) -> Result<(), String> {
    if text.contains('\0') {
        return Err("must not contain NUL characters".to_owned());
    }
    Ok(())
}

/// A string of `length` characters without control characters.
pub fn text(length: RangeInclusive<usize>) -> impl Fn(Value) -> Result<String, String> {
    move |value| {
        let text = string(value)?;
        if !length.contains(&text.chars().count()) {
            return Err(format!(
                "must have {} to {} characters",
                length.start(),
                length.end()
            ));
        }
        if text.chars().any(char::is_control) {
            return Err("must not contain control characters".to_owned());
        }
        Ok(text)
    }
}

/// A string of `length` characters without control characters, with at least one visible character.
pub fn visible_text(length: RangeInclusive<usize>) -> impl Fn(Value) -> Result<String, String> {
    let read_text = text(length);
    move |value| {
        let text = read_text(value)?;
        if text.chars().any(is_visible) {
            Ok(text)
        } else {
            Err("must not be blank".to_owned())
        }
    }
}

/// Whether a character is visible: not white space, not ignorable for display by Unicode
/// (`Default_Ignorable_Code_Point`, <https://www.unicode.org/reports/tr44/#Default_Ignorable_Code_Point>),
/// and not the blank Braille pattern. Invisible characters are allowed inside text: some scripts and emoji
/// need them.
fn is_visible(c: char) -> bool {
    let is_ignorable = matches!(
        c,
        '\u{00ad}'
            | '\u{034f}'
            | '\u{061c}'
            | '\u{115f}'..='\u{1160}'
            | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{2800}'
            | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}'
            | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffb}'
            | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}'
    );
    !is_ignorable && !c.is_whitespace() && !c.is_control()
}

/// An integer within `range`.
pub fn integer(range: RangeInclusive<i64>) -> impl Fn(Value) -> Result<i64, String> {
    move |value| match value.as_i64() {
        Some(number) if range.contains(&number) => Ok(number),
        _ => Err(format!(
            "must be a whole number from {} to {}",
            range.start(),
            range.end()
        )),
    }
}

/// Reads a boolean.
///
/// # Errors
/// When the value is not a boolean.
pub fn boolean(value: Value) -> Result<bool, String> {
    value
        .as_bool()
        .ok_or_else(|| "must be true or false".to_owned())
}

/// Reads a boolean that must be `true`, as a safeguard against accidental requests.
///
/// # Errors
/// When the value is not `true`.
pub fn must_be_true(value: Value) -> Result<bool, String> {
    let is_true = boolean(value)?;
    is_true
        .then_some(true)
        .ok_or("must be true, to confirm the request".to_owned())
}

/// A free-form object of at most `max_bytes` bytes as JSON and [`MAX_FREE_NESTING`] levels, without NUL
/// characters.
pub fn object(max_bytes: usize) -> impl Fn(Value) -> Result<Map<String, Value>, String> {
    move |value| {
        let Value::Object(map) = value else {
            return Err("must be an object".to_owned());
        };
        if serde_json::to_string(&map).map_or(usize::MAX, |text| text.len()) > max_bytes {
            return Err(format!("must not exceed {max_bytes} bytes as JSON"));
        }
        let value = Value::Object(map);
        check_free_json(&value, MAX_FREE_NESTING)?;
        match value {
            Value::Object(map) => Ok(map),
            _ => Ok(Map::new()),
        }
    }
}

/// Checks free-form JSON, which may be nested up to `remaining_levels` levels.
fn check_free_json(value: &Value, remaining_levels: usize) -> Result<(), String> {
    let is_nested = value.is_array() || value.is_object();
    if is_nested && remaining_levels == 0 {
        return Err(format!(
            "must not be nested deeper than {MAX_FREE_NESTING} levels"
        ));
    }
    match value {
        Value::String(text) => without_nul(text),
        Value::Array(values) => values
            .iter()
            .try_for_each(|value| check_free_json(value, remaining_levels - 1)),
        Value::Object(map) => map.iter().try_for_each(|(name, value)| {
            without_nul(name)?;
            check_free_json(value, remaining_levels - 1)
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) => Ok(()),
    }
}
