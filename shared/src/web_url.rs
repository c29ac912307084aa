//! URLs of the web as callers give them: read as what they say, or refused.

use url::{Host, Url};

/// Characters of a host name, and of each of its labels (RFC 1035, section 2.3.4).
const MAX_HOST: usize = 253;
const MAX_LABEL: usize = 63;

/// Reads an `http` or `https` URL.
///
/// Browsers repair what they are given (<https://url.spec.whatwg.org/#special-scheme>): `https:///x` is
/// read as `https://x/`. Here it is refused: its author meant something else.
///
/// # Errors
/// Why it is not one that can be called.
pub(crate) fn web_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("is not a URL: {error}"))?;
    if !matches!(url.scheme(), "https" | "http") {
        return Err("must begin with https://".to_owned());
    }
    let rest = text.get(url.scheme().len()..).unwrap_or_default();
    let is_plain = rest
        .strip_prefix("://")
        .is_some_and(|rest| !rest.starts_with(['/', '\\']));
    if !is_plain {
        return Err(format!("must begin with {}:// and a host", url.scheme()));
    }
    if url.port() == Some(0) {
        return Err("must not have port 0".to_owned());
    }
    match url.host() {
        Some(Host::Domain(name)) if !is_host_name(name) => {
            Err(format!("{name:?} is not the name of a host"))
        }
        Some(_) => Ok(url),
        None => Err("must have a host".to_owned()),
    }
}

/// Letters, digits, `-` and `_` in labels apart by dots; one more dot may end it.
fn is_host_name(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    let is_safe = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let is_label = |label: &str| {
        (1..=MAX_LABEL).contains(&label.len())
            && label.chars().all(is_safe)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= MAX_HOST && name.split('.').all(is_label)
}
