//! Consistency checks: `order-worker verify`, and the payments at the provider.

use super::{Process, Store, System, Tables};

impl System {
    /// Runs `order-worker verify` and returns whether the data is consistent, and the report.
    pub(crate) fn verify(&self) -> (bool, String) {
        let (status, report) = self.verify_store(&self.store);
        (status == Some(0), report)
    }

    /// Runs `order-worker verify` on another database and returns the exit status and the report.
    pub(crate) fn verify_store(&self, store: &Store) -> (Option<i32>, String) {
        let verify_output = Process::command("order-worker")
            .arg("verify")
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .env("DATABASE_URL", store.url())
            .output()
            .unwrap();
        (
            verify_output.status.code(),
            String::from_utf8_lossy(&verify_output.stdout).into_owned(),
        )
    }

    /// Checks that `order-worker verify` finds no inconsistency.
    pub(crate) fn assert_verified(&self) {
        let (is_consistent, report) = self.verify();
        assert!(is_consistent, "order-worker verify:\n{report}");
    }

    /// Returns the totals of all payments at the provider.
    pub(crate) async fn payment_totals(&self) -> PaymentTotals {
        if let Some(stripe) = &self.stripe {
            return stripe.payment_totals().await;
        }
        let mut payment_totals = PaymentTotals::default();
        let movement_rows =
            self.query_ledger("SELECT kind, count(*), sum(amount) FROM movements GROUP BY kind");
        for row in movement_rows.lines() {
            let columns: Vec<&str> = row.split(' ').collect();
            let movement_count = columns[1].parse().unwrap();
            match columns[0] {
                "authorize" => payment_totals.authorizations = movement_count,
                "capture" => payment_totals.captures = movement_count,
                "void" => payment_totals.voids = movement_count,
                "refund" => payment_totals.refunded_amount = columns[2].parse().unwrap(),
                unknown_kind => panic!("{unknown_kind}"),
            }
        }
        payment_totals
    }

    /// Runs SQL on the sandbox provider's ledger.
    pub(crate) fn query_ledger(&self, sql: &str) -> String {
        self.store.run(Tables::Ledger, sql)
    }
}

/// Totals of all payments at the provider.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct PaymentTotals {
    /// Number of authorizations.
    pub(crate) authorizations: usize,
    /// Number of captures.
    pub(crate) captures: usize,
    /// Number of voided authorizations.
    pub(crate) voids: usize,
    /// Refunded amount in minor units.
    pub(crate) refunded_amount: i64,
}
