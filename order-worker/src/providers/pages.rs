//! An HTTP client for lists of other systems, read page by page: the stock levels of a warehouse, orders to
//! import.
//!
//! A page is a JSON array, an object with an array in `data`, or JSON lines. The next page is given by the
//! `Link` header (`rel="next"`, RFC 8288), by the URL in `next`, or by `next_cursor`, which becomes the
//! parameter `cursor`. A row that can't be decoded is returned as an error of its own; the other rows stay
//! usable. The [`jobs`](crate::background::jobs) process the rows.

use std::{collections::BTreeMap, time::Duration};

use anyhow::Context;
use reqwest::{
    Client, Response, StatusCode, Url,
    header::{ETAG, HeaderMap, IF_NONE_MATCH, LINK},
};
use serde_json::{Value, value::RawValue};
use shared::body::{first_inexact, from_stored};

use crate::error_cause::innermost_message;

/// Timeout for connecting.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Timeout for a page.
const PAGE_TIMEOUT: Duration = Duration::from_secs(30);
/// Maximum size of a page in bytes.
const MAX_PAGE_BYTES: usize = 16 * 1024 * 1024;

/// A client for lists.
#[derive(Clone)]
pub struct ListClient(Client);

/// Result of fetching a page.
#[derive(Debug)]
pub enum FetchResult {
    /// The page has not changed since `etag`.
    Unchanged,
    /// The page.
    Page(Page),
}

/// A row, or the reason why it can't be decoded.
pub type Row = Result<Value, String>;

/// A page of the list.
#[derive(Debug)]
pub struct Page {
    /// The rows.
    pub rows: Vec<Row>,
    /// URL of the next page; `None` on the last page.
    pub next_url: Option<Url>,
    /// `ETag`, for conditional requests.
    pub etag: Option<String>,
}

impl ListClient {
    /// Creates a client.
    ///
    /// # Errors
    /// When the HTTP client can't be created.
    pub fn new() -> anyhow::Result<Self> {
        let client = Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(PAGE_TIMEOUT)
            .user_agent(concat!("order-worker/", env!("CARGO_PKG_VERSION")))
            .build()
            .context("can't create an HTTP client")?;
        Ok(Self(client))
    }

    /// Fetches the page at `url`, or `Unchanged` if its `ETag` still is `etag`.
    ///
    /// # Errors
    /// A message, when the page can't be fetched or parsed.
    pub async fn fetch(&self, url: &Url, etag: Option<&str>) -> Result<FetchResult, String> {
        let request = self.0.get(url.clone());
        let request = match etag {
            Some(etag) => request.header(IF_NONE_MATCH, etag),
            None => request,
        };
        let response = request
            .send()
            .await
            .map_err(|error| innermost_message(&error))?;
        match response.status() {
            StatusCode::NOT_MODIFIED if etag.is_some() => return Ok(FetchResult::Unchanged),
            StatusCode::OK => {}
            other_status => {
                return Err(format!(
                    "the server responded with status {}",
                    other_status.as_u16()
                ));
            }
        }
        let headers = response.headers().clone();
        let page_body = read_body(response).await?;
        let (page_rows, other_fields) = parse_rows(&page_body)?;
        let next_link = next_page_link(&headers, url);
        Ok(FetchResult::Page(Page {
            rows: page_rows,
            next_url: next_link.or(next_page_url(&other_fields, url)?),
            etag: headers
                .get(ETAG)
                .and_then(|etag| etag.to_str().ok())
                .map(str::to_owned),
        }))
    }
}

async fn read_body(mut response: Response) -> Result<Vec<u8>, String> {
    let mut body_bytes = Vec::new();
    while let Some(chunk) = response
        .chunk()
        .await
        .map_err(|error| innermost_message(&error))?
    {
        if body_bytes.len() + chunk.len() > MAX_PAGE_BYTES {
            return Err(format!("the page is larger than {MAX_PAGE_BYTES} bytes"));
        }
        body_bytes.extend_from_slice(&chunk);
    }
    Ok(body_bytes)
}

/// The rows of a page, and the other fields of the object around them.
fn parse_rows(page_body: &[u8]) -> Result<(Vec<Row>, Value), String> {
    let unreadable_page = |error: serde_json::Error| format!("the page is not JSON: {error}");
    let error = match parse_page(page_body) {
        Ok(page) => return page,
        Err(error) => error,
    };
    // Otherwise JSON lines. A line that can't be decoded becomes an invalid row.
    let body_lines = page_body
        .split(|byte| *byte == b'\n')
        .map(<[u8]>::trim_ascii);
    let nonempty_lines = body_lines.filter(|line| !line.is_empty());
    let parsed_lines: Vec<_> = nonempty_lines
        .map(serde_json::from_slice::<&RawValue>)
        .collect();
    if parsed_lines.len() < 2 || parsed_lines.iter().all(Result::is_err) {
        return Err(unreadable_page(error));
    }
    let row_results = parsed_lines
        .into_iter()
        .map(|parsed_line| match parsed_line {
            Ok(parsed_line) => parse_row(parsed_line),
            Err(error) => Err(format!("the line is not JSON: {error}")),
        });
    Ok((row_results.collect(), Value::Null))
}

/// The rows of a page that is one JSON value. The outer error means that it is not JSON, the inner one that
/// it has no rows.
fn parse_page(page_body: &[u8]) -> Result<Result<(Vec<Row>, Value), String>, serde_json::Error> {
    let page_json: &RawValue = serde_json::from_slice(page_body)?;
    let rows_of_list = |list_json: &RawValue| -> Option<Vec<Row>> {
        let raw_rows: Vec<&RawValue> = serde_json::from_str(list_json.get()).ok()?;
        Some(raw_rows.into_iter().map(parse_row).collect())
    };
    if let Some(page_rows) = rows_of_list(page_json) {
        return Ok(Ok((page_rows, Value::Null)));
    }
    let page_fields: Option<BTreeMap<String, &RawValue>> =
        serde_json::from_str(page_json.get()).ok();
    let Some(mut page_fields) = page_fields else {
        return Ok(Err(
            "the page is neither a list nor an object with data".to_owned()
        ));
    };
    if let Some(page_rows) = page_fields.get("data").and_then(|data| rows_of_list(data)) {
        page_fields.remove("data");
        let parsed_fields = page_fields.into_iter().map(|(field_name, raw_value)| {
            let field_value = from_stored(raw_value.get()).unwrap_or_default();
            (field_name, field_value)
        });
        return Ok(Ok((page_rows, Value::Object(parsed_fields.collect()))));
    }
    if page_fields.contains_key("next_cursor") {
        return Ok(Err(
            "the page is neither a list nor an object with data".to_owned()
        ));
    }
    Ok(Ok((vec![parse_row(page_json)], Value::Null)))
}

/// Decodes a row. Its `metadata` is stored unchanged, so a number that a 64-bit float can't represent is
/// refused.
fn parse_row(row_json: &RawValue) -> Row {
    let row = from_stored(row_json.get())
        .map_err(|error| format!("the row can't be decoded: {error}"))?;
    match first_inexact(row_json.get(), "/metadata/") {
        Some((pointer, inexact_number)) => {
            Err(format!("{pointer}: {inexact_number} can't be kept exactly"))
        }
        None => Ok(row),
    }
}

fn next_page_link(headers: &HeaderMap, base_url: &Url) -> Option<Url> {
    let link_headers = headers.get_all(LINK).iter();
    let mut link_headers = link_headers
        .filter_map(|header_value| header_value.to_str().ok())
        .flat_map(|header_value| header_value.split(','));
    link_headers.find_map(|link| {
        let (link_target, link_parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
        let is_next = link_parameters
            .split(';')
            .any(|parameter| matches!(parameter.trim(), "rel=\"next\"" | "rel=next"));
        is_next.then(|| base_url.join(link_target).ok())?
    })
}

fn next_page_url(other_fields: &Value, base_url: &Url) -> Result<Option<Url>, String> {
    if let Some(next_link) = other_fields["next"].as_str() {
        let next_page = base_url.join(next_link);
        return next_page
            .map(Some)
            .map_err(|error| format!("next: {error}"));
    }
    Ok(other_fields["next_cursor"].as_str().map(|cursor| {
        let query_pairs: Vec<(String, String)> = base_url
            .query_pairs()
            .filter(|(parameter_name, _)| parameter_name != "cursor")
            .map(|(parameter_name, parameter_value)| {
                (parameter_name.into_owned(), parameter_value.into_owned())
            })
            .collect();
        let mut next_url = base_url.clone();
        next_url
            .query_pairs_mut()
            .clear()
            .extend_pairs(query_pairs)
            .append_pair("cursor", cursor);
        next_url
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list_url() -> Url {
        "http://example.com/list?limit=2&cursor=a".parse().unwrap()
    }

    #[test]
    fn page_rows_are_parsed_from_array_object_or_ndjson() {
        for (body, row_count) in [
            ("[]", 0),
            (r#"[{"a":1},{"a":2}]"#, 2),
            (r#"{"data":[1,2,3],"next_cursor":null}"#, 3),
            ("{\"a\":1}\n{\"a\":2}\r\n\n", 2),
            ("{\"a\":1}\n{oops}\n{\"a\":3}", 3),
            ("{\"a\":1}\n", 1),
        ] {
            assert_eq!(
                parse_rows(body.as_bytes()).unwrap().0.len(),
                row_count,
                "{body}"
            );
        }
        // A row that can't be decoded does not affect the other rows.
        let deep_array = format!("{}1{}", "[".repeat(5_000), "]".repeat(5_000));
        let inexact_metadata_row =
            r#"{"price": 0.1234567890123456789, "metadata": {"n": 12345678901234567890123}}"#;
        let inexact_price_row = r#"{"price": 0.1234567890123456789}"#;
        let body = format!(
            r#"{{"data": [{{"a": 1}}, {deep_array}, {inexact_metadata_row}, {inexact_price_row}], "next": "x"}}"#
        );
        let (page_rows, other_fields) = parse_rows(body.as_bytes()).unwrap();
        let readable_flags: Vec<_> = page_rows.iter().map(Result::is_ok).collect();
        assert_eq!(readable_flags, [true, false, false, true]);
        assert_eq!(other_fields, serde_json::json!({"next": "x"}));
        for body in [
            "",
            "<html>",
            "7",
            "\"x\"",
            r#"{"next_cursor":"b"}"#,
            "<a>\n<b>",
        ] {
            assert!(parse_rows(body.as_bytes()).is_err(), "{body}");
        }
    }

    #[test]
    fn next_page_is_found_by_cursor_link_or_header() {
        let cursor_fields = serde_json::json!({"next_cursor": "b&c"});
        assert_eq!(
            next_page_url(&cursor_fields, &list_url())
                .unwrap()
                .unwrap()
                .as_str(),
            "http://example.com/list?limit=2&cursor=b%26c"
        );
        let link_fields = serde_json::json!({"next": "/list/2"});
        assert_eq!(
            next_page_url(&link_fields, &list_url())
                .unwrap()
                .unwrap()
                .as_str(),
            "http://example.com/list/2"
        );
        assert_eq!(next_page_url(&Value::Null, &list_url()).unwrap(), None);
        let mut headers = HeaderMap::new();
        let link_header = r#"</list/1>; rel="prev", </list/3>; rel="next""#;
        headers.insert(LINK, link_header.parse().unwrap());
        assert_eq!(
            next_page_link(&headers, &list_url()).unwrap().as_str(),
            "http://example.com/list/3"
        );
    }
}
