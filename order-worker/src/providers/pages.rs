//! Lists that others keep, read page by page: never written.
//!
//! A page is a JSON array, an object with one under `data`, or JSON lines. The next one is where `Link` says
//! (`rel="next"`, RFC 8288), or `next` in the object, or this one with `?cursor=` and its `next_cursor`.

use std::{error::Error, time::Duration};

use anyhow::Context;
use reqwest::{
    Client, Response, StatusCode, Url,
    header::{ETAG, HeaderMap, IF_NONE_MATCH, LINK},
};
use serde_json::Value;

/// For the connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// For a page.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes of a page at most.
const MAX_BYTES: usize = 16 * 1024 * 1024;

/// Reads lists.
#[derive(Clone)]
pub struct Pages(Client);

/// What came of asking for a page.
#[derive(Debug)]
pub enum Fetched {
    /// It is as it was.
    Unchanged,
    /// It is this.
    Page(Page),
}

/// A page.
#[derive(Debug)]
pub struct Page {
    /// What stands on it.
    pub rows: Vec<Value>,
    /// Where the list goes on.
    pub next: Option<Url>,
    /// Names what was read, to ask whether it has changed.
    pub etag: Option<String>,
}

impl Pages {
    /// A reader.
    ///
    /// # Errors
    /// When there can be no HTTP client.
    pub fn new() -> anyhow::Result<Self> {
        let client = Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(TIMEOUT)
            .user_agent(concat!("order-worker/", env!("CARGO_PKG_VERSION")))
            .build()
            .context("can't make an HTTP client")?;
        Ok(Self(client))
    }

    /// The page at `url`, unless it is still the one that `etag` names.
    ///
    /// # Errors
    /// In words, when it can't be had or read.
    pub async fn fetch(&self, url: &Url, etag: Option<&str>) -> Result<Fetched, String> {
        let request = self.0.get(url.clone());
        let request = match etag {
            Some(etag) => request.header(IF_NONE_MATCH, etag),
            None => request,
        };
        let answer = request.send().await.map_err(|error| innermost(&error))?;
        match answer.status() {
            StatusCode::NOT_MODIFIED if etag.is_some() => return Ok(Fetched::Unchanged),
            StatusCode::OK => {}
            other => return Err(format!("answered {}", other.as_u16())),
        }
        let headers = answer.headers().clone();
        let body = read(answer).await?;
        let (rows, told) = rows(&body)?;
        let linked = link(&headers, url);
        Ok(Fetched::Page(Page {
            rows,
            next: linked.or(next(&told, url)?),
            etag: headers
                .get(ETAG)
                .and_then(|etag| etag.to_str().ok())
                .map(str::to_owned),
        }))
    }
}

async fn read(mut answer: Response) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|error| innermost(&error))? {
        if body.len() + chunk.len() > MAX_BYTES {
            return Err(format!("a page has more than {MAX_BYTES} bytes"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// The rows, and the object that they stand in.
fn rows(body: &[u8]) -> Result<(Vec<Value>, Value), String> {
    let unreadable = |error: serde_json::Error| format!("the page is not JSON: {error}");
    match serde_json::from_slice(body) {
        Ok(Value::Array(rows)) => Ok((rows, Value::Null)),
        Ok(Value::Object(mut page)) if page.get("data").is_some_and(Value::is_array) => {
            match page.remove("data") {
                Some(Value::Array(rows)) => Ok((rows, Value::Object(page))),
                _ => Ok((Vec::new(), Value::Object(page))),
            }
        }
        // One line, or several.
        Ok(row @ Value::Object(_)) if row.get("next_cursor").is_none() => {
            Ok((vec![row], Value::Null))
        }
        Ok(_) => Err("the page is neither a list nor an object with data".to_owned()),
        Err(error) => {
            let lines = body.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
            let lines: Vec<_> = lines.filter(|line| !line.is_empty()).collect();
            if lines.len() < 2 {
                return Err(unreadable(error));
            }
            // A line that can't be read is a row that says nothing.
            let rows = lines
                .into_iter()
                .map(|line| serde_json::from_slice(line).unwrap_or_default());
            let rows: Vec<Value> = rows.collect();
            if rows.iter().all(Value::is_null) {
                return Err(unreadable(error));
            }
            Ok((rows, Value::Null))
        }
    }
}

fn link(headers: &HeaderMap, base: &Url) -> Option<Url> {
    let links = headers.get_all(LINK).iter();
    let mut links = links
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    links.find_map(|link| {
        let (target, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
        let is_next = parameters
            .split(';')
            .any(|parameter| matches!(parameter.trim(), "rel=\"next\"" | "rel=next"));
        is_next.then(|| base.join(target).ok())?
    })
}

fn next(told: &Value, base: &Url) -> Result<Option<Url>, String> {
    if let Some(next) = told["next"].as_str() {
        let next = base.join(next);
        return next.map(Some).map_err(|error| format!("next: {error}"));
    }
    Ok(told["next_cursor"].as_str().map(|cursor| {
        let others: Vec<(String, String)> = base
            .query_pairs()
            .filter(|(name, _)| name != "cursor")
            .map(|(name, value)| (name.into_owned(), value.into_owned()))
            .collect();
        let mut next = base.clone();
        next.query_pairs_mut()
            .clear()
            .extend_pairs(others)
            .append_pair("cursor", cursor);
        next
    }))
}

fn innermost(error: &dyn Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base() -> Url {
        "http://example.com/list?limit=2&cursor=a".parse().unwrap()
    }

    #[test]
    fn a_page_has_rows_in_any_of_three_forms() {
        for (body, count) in [
            ("[]", 0),
            (r#"[{"a":1},{"a":2}]"#, 2),
            (r#"{"data":[1,2,3],"next_cursor":null}"#, 3),
            ("{\"a\":1}\n{\"a\":2}\r\n\n", 2),
            ("{\"a\":1}\n{oops}\n{\"a\":3}", 3),
            ("{\"a\":1}\n", 1),
        ] {
            assert_eq!(rows(body.as_bytes()).unwrap().0.len(), count, "{body}");
        }
        for body in [
            "",
            "<html>",
            "7",
            "\"x\"",
            r#"{"next_cursor":"b"}"#,
            "<a>\n<b>",
        ] {
            assert!(rows(body.as_bytes()).is_err(), "{body}");
        }
    }

    #[test]
    fn the_next_page_is_where_it_says() {
        let cursor = serde_json::json!({"next_cursor": "b&c"});
        assert_eq!(
            next(&cursor, &base()).unwrap().unwrap().as_str(),
            "http://example.com/list?limit=2&cursor=b%26c"
        );
        let path = serde_json::json!({"next": "/list/2"});
        assert_eq!(
            next(&path, &base()).unwrap().unwrap().as_str(),
            "http://example.com/list/2"
        );
        assert_eq!(next(&Value::Null, &base()).unwrap(), None);
        let mut headers = HeaderMap::new();
        let links = r#"</list/1>; rel="prev", </list/3>; rel="next""#;
        headers.insert(LINK, links.parse().unwrap());
        assert_eq!(
            link(&headers, &base()).unwrap().as_str(),
            "http://example.com/list/3"
        );
    }
}
