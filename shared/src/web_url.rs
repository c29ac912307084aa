//! Strict parsing of http and https URLs from callers and carriers: image URLs, tracking and label URLs, webhook
//! endpoints.
//!
//! A malformed URL that a URL parser would repair into a different one is refused.

use serde_json::Value;
use url::{Host, Url};

use crate::body;

/// Maximum length of a URL in characters.
const MAX_URL_CHARS: usize = 2000;
/// Maximum length of a host name in characters (RFC 1035, section 2.3.4).
const MAX_HOST_CHARS: usize = 253;
/// Maximum length of a label of a host name in characters (RFC 1035, section 2.3.4).
const MAX_LABEL_CHARS: usize = 63;

/// Reads an `http` or `https` URL.
///
/// The URL standard (<https://url.spec.whatwg.org/#special-scheme>) repairs malformed URLs: `https:///x` is
/// parsed as `https://x/`. Such a URL is refused here, because its author probably meant another one.
///
/// # Errors
/// The reason why no request can be sent to the URL.
pub(crate) fn web_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("is not a URL: {error}"))?;
    if !matches!(url.scheme(), "https" | "http") {
        return Err("must begin with https:// or http://".to_owned());
    }
    let after_scheme = text.get(url.scheme().len()..).unwrap_or_default();
    let has_plain_host = after_scheme
        .strip_prefix("://")
        .is_some_and(|after_scheme| !after_scheme.starts_with(['/', '\\']));
    if !has_plain_host {
        return Err(format!("must begin with {}:// and a host", url.scheme()));
    }
    if url.port() == Some(0) {
        return Err("must not have port 0".to_owned());
    }
    match url.host() {
        Some(Host::Domain(host_name)) if !is_host_name(host_name) => {
            Err(format!("has an invalid host name: {host_name:?}"))
        }
        Some(_) => Ok(url),
        None => Err("must have a host".to_owned()),
    }
}

/// Reads an `http` or `https` URL that is stored as it was sent.
///
/// Browsers open these URLs: `javascript:` and `data:` URLs are refused.
///
/// # Errors
/// The reason why it is refused.
pub(crate) fn web_url_text(value: Value) -> Result<String, String> {
    let text = body::text(1..=MAX_URL_CHARS)(value)?;
    match web_url(&text) {
        Ok(_) => Ok(text),
        Err(reason) => Err(format!("must be an http or https URL; {text} {reason}")),
    }
}

/// Whether `host_name` consists of labels separated by dots, each of letters, digits, `-` and `_`; a dot may end
/// it.
fn is_host_name(host_name: &str) -> bool {
    let host_name = host_name.strip_suffix('.').unwrap_or(host_name);
    let is_safe = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let is_label = |label: &str| {
        (1..=MAX_LABEL_CHARS).contains(&label.len())
            && label.chars().all(is_safe)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    host_name.len() <= MAX_HOST_CHARS && host_name.split('.').all(is_label)
}
