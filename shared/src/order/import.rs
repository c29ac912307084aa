//! Orders that come from elsewhere, many at once.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::CreateOrder;
use crate::{
    body::{self, Fields},
    outcome::Code,
};

/// Lines of one request at most.
pub const MAX_LINES: usize = 1_000;

/// `order.import`: some lines of an import.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ImportOrders {
    /// In any order; each is accepted or rejected on its own.
    pub lines: Vec<ImportLine>,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ImportLine {
    /// Its number, from 1.
    pub line: u64,
    /// Which of several lines of the import with the same content it is, from 1; absent: the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub occurrence: Option<u64>,
    /// What stands on it: an [`ImportedOrder`], if nothing is wrong with it.
    pub order: Value,
}

impl ImportOrders {
    pub(crate) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let lines = fields.list("lines", 1..=MAX_LINES, |line| {
            let number = line.required("line", body::integer(1..=i64::MAX));
            let occurrence = line.optional("occurrence", body::integer(1..=i64::MAX));
            let order = line.required("order", Ok);
            Some(ImportLine {
                line: number?.unsigned_abs(),
                occurrence: occurrence.map(i64::unsigned_abs),
                order: order?,
            })
        });
        Some(Self { lines: lines? })
    }
}

impl ImportLine {
    /// A digest of the line's content: the same for the same JSON, however it is written.
    pub fn digest(&self) -> [u8; 32] {
        Sha256::digest(self.order.to_string()).into()
    }
}

/// An order as another system has it: its stock is taken when it is processed.
#[derive(Debug, Clone, PartialEq)]
pub struct ImportedOrder {
    /// What the other system calls it: there is one order of each storefront by this name.
    pub external_id: Option<String>,
    /// The order.
    pub order: CreateOrder,
}

impl ImportedOrder {
    /// Reads what stands on a line.
    pub fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let external_id = fields.optional("external_id", body::text(1..=200));
        let order = CreateOrder::read(fields);
        Some(Self {
            external_id,
            order: order?,
        })
    }
}

/// What came of an import.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(example = json!({
    "accepted": 2, "duplicates": 1, "rejected_count": 1,
    "rejected": [{"line": 3, "code": "INVALID_REQUEST", "detail": "/items/0/sku no product X"}]
}))]
pub struct ImportReport {
    /// So many are new.
    pub accepted: u64,
    /// So many were there already; they stay as they are.
    pub duplicates: u64,
    /// So many are not accepted.
    pub rejected_count: u64,
    /// Which of them and why: the first ones, should there be very many.
    pub rejected: Vec<RejectedLine>,
}

/// A line that is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RejectedLine {
    /// Which, from 1.
    pub line: u64,
    /// Why, for programs.
    pub code: Code,
    /// Why, for people.
    pub detail: String,
}

impl ImportReport {
    /// Lines that a report lists at most.
    pub const MAX_REJECTED: usize = 10_000;

    /// Adds what came of other lines.
    pub fn add(&mut self, other: Self) {
        self.accepted += other.accepted;
        self.duplicates += other.duplicates;
        self.rejected_count += other.rejected_count;
        let room = Self::MAX_REJECTED.saturating_sub(self.rejected.len());
        self.rejected.extend(other.rejected.into_iter().take(room));
    }

    /// Adds a line that is not accepted.
    pub fn reject(&mut self, line: RejectedLine) {
        self.rejected_count += 1;
        if self.rejected.len() < Self::MAX_REJECTED {
            self.rejected.push(line);
        }
    }
}
