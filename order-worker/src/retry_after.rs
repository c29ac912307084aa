//! The delay in a `Retry-After` header (RFC 9110, section 10.2.3), which webhook endpoints and carriers send.

use std::time::{Duration, SystemTime};

use jiff::SignedDuration;
use reqwest::header::{HeaderMap, RETRY_AFTER};

/// Maximum that is honoured: webhooks are retried for this long.
const MAX_RETRY_AFTER_SECONDS: u64 = 24 * 3600;

/// The delay in `Retry-After`, which is a number of seconds or a date; `None` without a readable one.
pub(crate) fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<SignedDuration> {
    let header_text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let is_seconds = !header_text.is_empty() && header_text.chars().all(|c| c.is_ascii_digit());
    let delay = if is_seconds {
        let delay_seconds = header_text.parse().unwrap_or(MAX_RETRY_AFTER_SECONDS);
        Duration::from_secs(delay_seconds.min(MAX_RETRY_AFTER_SECONDS))
    } else {
        let retry_at = httpdate::parse_http_date(header_text).ok()?;
        let max_delay = Duration::from_secs(MAX_RETRY_AFTER_SECONDS);
        retry_at
            .duration_since(now)
            .unwrap_or_default()
            .min(max_delay)
    };
    SignedDuration::try_from(delay).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        let read_header = |header_text: &str| {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, header_text.parse().unwrap())]);
            retry_after(&headers, now).map(|delay| delay.as_secs())
        };
        assert_eq!(read_header("120"), Some(120));
        assert_eq!(read_header(" 0 "), Some(0));
        assert_eq!(read_header("Sun, 06 Nov 1994 08:51:37 GMT"), Some(120));
        assert_eq!(read_header("Sunday, 06-Nov-94 08:51:37 GMT"), Some(120));
        assert_eq!(read_header("Sun, 06 Nov 1994 08:00:00 GMT"), Some(0));
        for long_delay in ["99999999999999999999999", "Sat, 06 Nov 2094 08:49:37 GMT"] {
            assert_eq!(read_header(long_delay), Some(24 * 3600), "{long_delay}");
        }
        for invalid_delay in ["", "soon", "-1", "1.5", "1e3"] {
            assert_eq!(read_header(invalid_delay), None, "{invalid_delay}");
        }
    }
}
