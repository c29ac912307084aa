//! Consistency checks: `order-worker verify`, and the payments at the provider.

use super::{Book, Process, Store, System};

impl System {
    /// `order-worker verify`: whether the books are right, and the report.
    pub(crate) fn verify(&self) -> (bool, String) {
        let (status, report) = self.verify_store(&self.store);
        (status == Some(0), report)
    }

    /// The exit status for another database, and the report.
    pub(crate) fn verify_store(&self, store: &Store) -> (Option<i32>, String) {
        let output = Process::command("order-worker")
            .arg("verify")
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .env("DATABASE_URL", store.url())
            .output()
            .unwrap();
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stdout).into_owned(),
        )
    }

    /// Checks that `order-worker verify` finds no inconsistency.
    pub(crate) fn assert_verified(&self) {
        let (is_right, report) = self.verify();
        assert!(is_right, "order-worker verify:\n{report}");
    }

    /// Returns the totals of all payments at the provider.
    pub(crate) async fn moved(&self) -> Moved {
        if let Some(stripe) = &self.stripe {
            return stripe.moved().await;
        }
        let mut moved = Moved::default();
        let rows = self.ledger("SELECT kind, count(*), sum(amount) FROM movements GROUP BY kind");
        for row in rows.lines() {
            let fields: Vec<&str> = row.split(' ').collect();
            let count = fields[1].parse().unwrap();
            match fields[0] {
                "authorize" => moved.held = count,
                "capture" => moved.taken = count,
                "void" => moved.let_go = count,
                "refund" => moved.given_back = fields[2].parse().unwrap(),
                other => panic!("{other}"),
            }
        }
        moved
    }

    /// Runs SQL on the sandbox provider's ledger.
    pub(crate) fn ledger(&self, sql: &str) -> String {
        self.store.run(Book::Ledger, sql)
    }
}

/// Totals of all payments at the provider.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Moved {
    /// Number of authorizations.
    pub(crate) held: usize,
    /// Number of captures.
    pub(crate) taken: usize,
    /// Number of voided authorizations.
    pub(crate) let_go: usize,
    /// Refunded amount in minor units.
    pub(crate) given_back: i64,
}
