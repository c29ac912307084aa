//! Parses request headers (RFC 9110, sections 5.2 to 5.6): headers that may occur once ([`single_value`]),
//! comma-separated lists ([`list_value`], [`split`]) and `Prefer` ([`preferences`], RFC 7240).
//!
//! All handlers use these functions, so the same rules hold for each header: several lines of a list header
//! form one list, and a separator inside a quoted string does not separate.

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use shared::outcome::{Code, Failure};

/// The value of a header that may occur at most once.
///
/// # Errors
/// `INVALID_REQUEST` (400) when the header occurs more than once.
pub(crate) fn single_value<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> Result<Option<&'a HeaderValue>, Failure> {
    let mut header_values = headers.get_all(name).iter();
    let header_value = header_values.next();
    if header_values.next().is_some() {
        let message = format!("{name} occurs more than once; send it once");
        return Err(Failure::new(Code::InvalidRequest, message));
    }
    Ok(header_value)
}

/// The value of a list header; several lines are joined with commas.
///
/// # Errors
/// `INVALID_REQUEST` (400) when the value has characters other than visible ASCII.
pub(crate) fn list_value(
    headers: &HeaderMap,
    name: &HeaderName,
) -> Result<Option<String>, Failure> {
    let mut joined_list: Option<String> = None;
    for header_value in headers.get_all(name) {
        let line_text = header_value
            .to_str()
            .map_err(|error| Failure::new(Code::InvalidRequest, format!("{name}: {error}")))?;
        match &mut joined_list {
            Some(list) => {
                list.push_str(", ");
                list.push_str(line_text);
            }
            None => joined_list = Some(line_text.to_owned()),
        }
    }
    Ok(joined_list)
}

/// Splits `text` at each `separator` outside quoted strings. Parts are trimmed; empty parts are omitted.
pub(crate) fn split(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    text.split(move |c| {
        if is_escaped {
            is_escaped = false;
            return false;
        }
        match c {
            '\\' if is_quoted => is_escaped = true,
            '"' => is_quoted = !is_quoted,
            _ => return c == separator && !is_quoted,
        }
        false
    })
    .map(str::trim)
    .filter(|part| !part.is_empty())
}

/// A preference of the `Prefer` header: `name` or `name=value` (RFC 7240, section 2). Parameters are ignored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Preference {
    /// The name in lower case.
    pub(crate) name: String,
    /// The value without quotation marks; empty if there is none.
    pub(crate) value: String,
}

/// The preferences of the `Prefer` headers. If a name occurs more than once, the first one applies. Invalid
/// preferences are ignored: a server may ignore any preference (RFC 7240, section 2).
pub(crate) fn preferences(headers: &HeaderMap) -> Vec<Preference> {
    let header_lines = headers.get_all("prefer").iter();
    let line_texts = header_lines.filter_map(|line| line.to_str().ok());
    let mut preferences: Vec<Preference> = Vec::new();
    for preference in line_texts
        .flat_map(|line| split(line, ','))
        .filter_map(parse_preference)
    {
        if !preferences
            .iter()
            .any(|known_preference| known_preference.name == preference.name)
        {
            preferences.push(preference);
        }
    }
    preferences
}

fn parse_preference(text: &str) -> Option<Preference> {
    let first_part = split(text, ';').next()?;
    let (name, value) = match first_part.split_once('=') {
        Some((name, value)) => (name.trim_end(), parse_token_or_quoted(value.trim_start())?),
        None => (first_part, String::new()),
    };
    is_token(name).then(|| Preference {
        name: name.to_ascii_lowercase(),
        value,
    })
}

/// Parses a token or a quoted string (RFC 9110, section 5.6) and removes the quotation marks.
fn parse_token_or_quoted(text: &str) -> Option<String> {
    let Some(after_quote) = text.strip_prefix('"') else {
        return is_token(text).then(|| text.to_owned());
    };
    let (mut value, mut characters) = (String::new(), after_quote.chars());
    loop {
        match characters.next()? {
            '"' => break,
            '\\' => value.push(characters.next()?),
            c => value.push(c),
        }
    }
    characters.next().is_none().then_some(value)
}

fn is_token(text: &str) -> bool {
    let is_token_character = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    !text.is_empty() && text.chars().all(is_token_character)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name_value_pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in name_value_pairs {
            headers.append(HeaderName::from_static(name), value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn several_lines_form_one_list_and_single_headers_must_not_repeat() {
        let repeated_header = headers(&[("if-match", "\"1\""), ("if-match", "\"2\"")]);
        let name = HeaderName::from_static("if-match");
        assert_eq!(
            list_value(&repeated_header, &name).unwrap().unwrap(),
            "\"1\", \"2\""
        );
        assert_eq!(
            single_value(&repeated_header, &name)
                .unwrap_err()
                .http_status(),
            400
        );
        assert!(single_value(&headers(&[]), &name).unwrap().is_none());
    }

    #[test]
    fn preferences_are_parsed_with_quoted_strings() {
        let preferences_of = |lines: &[&'static str]| {
            let lines: Vec<_> = lines.iter().map(|line| ("prefer", *line)).collect();
            let preference_list = preferences(&headers(&lines)).into_iter();
            preference_list
                .map(|preference| (preference.name, preference.value))
                .collect::<Vec<_>>()
        };
        let name_and_value = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            preferences_of(&["foo=\"a, respond-async\""]),
            [name_and_value("foo", "a, respond-async")]
        );
        assert_eq!(
            preferences_of(&["foo=\"a\\\", wait=3\""]),
            [name_and_value("foo", "a\", wait=3")]
        );
        assert_eq!(
            preferences_of(&["respond-async;x=\",wait=9\" , Wait = \"7\"; y", "wait=1"]),
            [
                name_and_value("respond-async", ""),
                name_and_value("wait", "7")
            ]
        );
        for invalid_preference in ["", ",", "=", "wait=\"3", "wait=3 4", "a b", "wait=\"3\"x"] {
            assert!(
                preferences(&headers(&[("prefer", invalid_preference)])).is_empty(),
                "{invalid_preference}"
            );
        }
    }
}
