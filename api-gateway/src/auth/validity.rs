//! The time for which a credential is valid: until it expires or is revoked. Streams and waiting requests end with
//! it.

use std::{sync::Arc, time::SystemTime};

use shared::outcome::Failure;
use tokio::time;
use tokio_util::sync::CancellationToken;

use super::unauthenticated_failure;

/// The validity of a credential.
#[derive(Debug, Clone, Default)]
pub(crate) struct Validity {
    /// Expiry; `None` if the credential does not expire.
    expires_at: Option<SystemTime>,
    /// Cancelled when the key is revoked; `None` if the credential can't be revoked.
    revocation: Option<Arc<CancellationToken>>,
}

impl Validity {
    /// Valid until `expires_at`.
    pub(super) fn until(expires_at: Option<SystemTime>) -> Self {
        Self {
            expires_at,
            revocation: None,
        }
    }

    /// The same validity, also ended by `revocation`.
    pub(super) fn revocable(self, revocation: CancellationToken) -> Self {
        Self {
            revocation: Some(Arc::new(revocation)),
            ..self
        }
    }

    /// The same validity, at most until `latest_end`.
    pub(super) fn at_most_until(self, latest_end: SystemTime) -> Self {
        let expires_at = self
            .expires_at
            .map_or(latest_end, |expires_at| expires_at.min(latest_end));
        Self {
            expires_at: Some(expires_at),
            ..self
        }
    }

    /// Expiry of the credential.
    pub(super) fn expires_at(&self) -> Option<SystemTime> {
        self.expires_at
    }

    /// Requires that the credential is still valid.
    ///
    /// # Errors
    /// `UNAUTHENTICATED`.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        let is_revoked = |revocation: &Arc<CancellationToken>| revocation.is_cancelled();
        if self.revocation.as_ref().is_some_and(is_revoked) {
            return Err(unauthenticated_failure("the API key was revoked"));
        }
        if self
            .expires_at
            .is_some_and(|expires_at| expires_at <= SystemTime::now())
        {
            return Err(unauthenticated_failure("the credential has expired"));
        }
        Ok(())
    }

    /// Waits until the credential is no longer valid; cancel-safe.
    pub(crate) async fn ended(&self) {
        let expiry = async {
            while let Some(expires_at) = self.expires_at
                && let Ok(remaining_time) = expires_at.duration_since(SystemTime::now())
                && !remaining_time.is_zero()
            {
                time::sleep(remaining_time).await;
            }
            if self.expires_at.is_none() {
                std::future::pending::<()>().await;
            }
        };
        match &self.revocation {
            Some(revocation) => {
                let _ = revocation.run_until_cancelled(expiry).await;
            }
            None => expiry.await,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn credential_ends_when_it_expires_or_is_revoked() {
        let unlimited_validity = Validity::default();
        assert!(unlimited_validity.check().is_ok());
        assert!(unlimited_validity.ended().now_or_never().is_none());

        let now = SystemTime::now();
        let expired_validity = Validity::until(Some(now));
        assert!(expired_validity.check().is_err());
        expired_validity.ended().await;

        let one_hour_later = now + Duration::from_hours(1);
        let revocation = CancellationToken::new();
        let revocable_validity =
            Validity::until(Some(one_hour_later)).revocable(revocation.clone());
        assert!(revocable_validity.check().is_ok());
        assert!(revocable_validity.ended().now_or_never().is_none());
        revocation.cancel();
        assert!(revocable_validity.check().is_err());
        revocable_validity.ended().await;
        assert_eq!(
            revocable_validity.at_most_until(now).expires_at(),
            Some(now)
        );
    }
}
