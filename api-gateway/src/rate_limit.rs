//! Rate limits for each credential: `RATE_LIMIT=N/s`. Each gateway counts for itself.
//!
//! The remaining quota is reported in the headers of the IETF draft
//! (<https://datatracker.ietf.org/doc/draft-ietf-httpapi-ratelimit-headers/>) and in the older
//! `RateLimit-Limit`, `RateLimit-Remaining` and `RateLimit-Reset`. [`crate::worker_client`] counts requests,
//! [`crate::middleware`] adds the headers.

use std::{
    num::NonZeroU32,
    sync::{Arc, OnceLock},
};

use anyhow::{Context, bail};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use governor::{
    Quota, RateLimiter,
    clock::{Clock, DefaultClock},
    middleware::StateInformationMiddleware,
    state::keyed::DashMapStateStore,
};
use serde_json::json;
use shared::outcome::{Code, Failure};

/// Number of tracked credentials above which inactive ones are removed.
const CREDENTIALS_BEFORE_CLEANUP: usize = 10_000;

type Limiter =
    RateLimiter<Arc<str>, DashMapStateStore<Arc<str>>, DefaultClock, StateInformationMiddleware>;

/// Counts requests of each credential; clones share the counts.
#[derive(Clone)]
pub(crate) struct RateLimit(Arc<RateLimitState>);

struct RateLimitState {
    rate_limiter: Limiter,
    clock: DefaultClock,
    per_second: NonZeroU32,
}

/// A credential's remaining requests in the current second.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RemainingQuota {
    per_second: u32,
    remaining_requests: u32,
}

impl RateLimit {
    /// Parses `off` or `N/s`.
    ///
    /// # Errors
    /// When `text` is neither, or N is not a positive number.
    pub(crate) fn parse(text: &str) -> anyhow::Result<Option<Self>> {
        if text == "off" {
            return Ok(None);
        }
        let Some(number_text) = text.strip_suffix("/s") else {
            bail!(
                "RATE_LIMIT={text:?}: must be off or a number of requests per second, such as 100/s"
            );
        };
        let per_second: NonZeroU32 = number_text
            .parse()
            .with_context(|| format!("RATE_LIMIT={text:?}"))?;
        let limiter = RateLimiter::dashmap(Quota::per_second(per_second));
        Ok(Some(Self(Arc::new(RateLimitState {
            rate_limiter: limiter.with_middleware(),
            clock: DefaultClock::default(),
            per_second,
        }))))
    }

    /// Counts a request of the credential `credential_id` and stores the remaining quota in `remaining_quota`.
    ///
    /// # Errors
    /// `RATE_LIMITED`, with the seconds to wait in `retry_after_seconds`.
    pub(crate) fn count(
        &self,
        credential_id: &Arc<str>,
        remaining_quota: &OnceLock<RemainingQuota>,
    ) -> Result<(), Failure> {
        let RateLimitState {
            rate_limiter: limiter,
            clock,
            per_second,
        } = &*self.0;
        if limiter.len() > CREDENTIALS_BEFORE_CLEANUP {
            limiter.retain_recent();
        }
        let (remaining_requests, count_result) = match limiter.check_key(credential_id) {
            Ok(limiter_state) => (limiter_state.remaining_burst_capacity(), Ok(())),
            Err(rejection) => {
                let wait_time = rejection.wait_time_from(clock.now());
                let seconds = wait_time.as_secs() + u64::from(wait_time.subsec_nanos() > 0);
                let failure = Failure::new(
                    Code::RateLimited,
                    format!(
                        "more than {per_second} requests per second with this credential; wait as long as Retry-After says"
                    ),
                );
                (
                    0,
                    Err(failure.with(json!({"retry_after_seconds": seconds.max(1)}))),
                )
            }
        };
        let _ = remaining_quota.set(RemainingQuota {
            per_second: per_second.get(),
            remaining_requests,
        });
        count_result
    }
}

impl RemainingQuota {
    /// Adds the rate limit headers to a response.
    pub(crate) fn set_headers(self, headers: &mut HeaderMap) {
        let Self {
            per_second,
            remaining_requests,
        } = self;
        let header_fields = [
            (
                "ratelimit-policy",
                format!("\"default\";q={per_second};w=1"),
            ),
            (
                "ratelimit",
                format!("\"default\";r={remaining_requests};t=1"),
            ),
            ("ratelimit-limit", per_second.to_string()),
            ("ratelimit-remaining", remaining_requests.to_string()),
            ("ratelimit-reset", "1".to_owned()),
        ];
        for (header_name, header_text) in header_fields {
            if let Ok(header_value) = HeaderValue::from_str(&header_text) {
                headers.insert(HeaderName::from_static(header_name), header_value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_credential_has_its_own_rate_limit() {
        let limit = RateLimit::parse("3/s").unwrap().unwrap();
        let count_request = |credential_id: &str| {
            let remaining_quota = OnceLock::new();
            let count_result = limit.count(&credential_id.into(), &remaining_quota);
            (
                count_result.is_ok(),
                remaining_quota.get().unwrap().remaining_requests,
            )
        };
        assert_eq!(count_request("a"), (true, 2));
        assert_eq!(count_request("a"), (true, 1));
        assert_eq!(count_request("a"), (true, 0));
        assert_eq!(count_request("a"), (false, 0));
        assert_eq!(count_request("b"), (true, 2));
    }

    #[test]
    fn invalid_rate_limits_are_refused() {
        assert!(RateLimit::parse("off").unwrap().is_none());
        for invalid_limit in ["", "0/s", "-1/s", "5", "5/m", "many/s"] {
            assert!(RateLimit::parse(invalid_limit).is_err(), "{invalid_limit}");
        }
    }
}
