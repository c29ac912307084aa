//! Bulk import of orders from other systems: the lines of an import, and its report.
//!
//! The gateway splits an uploaded file into `order.import` requests and adds up their reports.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::CreateOrder;
use crate::{
    body::{self, Fields},
    outcome::Code,
};

/// Maximum number of lines in one request.
pub const MAX_LINES: usize = 1_000;

/// `order.import`: some lines of an import.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ImportOrders {
    /// Lines in any order; each is accepted or rejected on its own.
    pub lines: Vec<ImportLine>,
}

/// One line of an import.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ImportLine {
    /// Line number, from 1.
    pub line: u64,
    /// Number of the occurrence among lines of the import with the same content, from 1; absent: counted among
    /// the lines of the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub occurrence: Option<u64>,
    /// Content of the line: an [`ImportedOrder`] if it is valid.
    pub order: Value,
}

impl ImportOrders {
    pub(crate) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let lines = fields.list("lines", 1..=MAX_LINES, |line_fields| {
            let line_number = line_fields.required("line", body::integer(1..=i64::MAX));
            let occurrence = line_fields.optional("occurrence", body::integer(1..=i64::MAX));
            let order = line_fields.required("order", Ok);
            Some(ImportLine {
                line: line_number?.unsigned_abs(),
                occurrence: occurrence.map(i64::unsigned_abs),
                order: order?,
            })
        });
        Some(Self { lines: lines? })
    }
}

impl ImportLine {
    /// A digest of the line's JSON value, independent of its formatting.
    pub fn digest(&self) -> [u8; 32] {
        Sha256::digest(self.order.to_string()).into()
    }
}

/// An order from another system; its stock is reserved when it is processed.
#[derive(Debug, Clone, PartialEq)]
pub struct ImportedOrder {
    /// Id of the order in the other system, unique per storefront.
    pub external_id: Option<String>,
    /// The order.
    pub order: CreateOrder,
}

impl ImportedOrder {
    /// Parses the content of a line.
    pub fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let external_id = fields.optional("external_id", body::text(1..=200));
        let order = CreateOrder::read(fields);
        Some(Self {
            external_id,
            order: order?,
        })
    }
}

/// Result of an import.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(example = json!({
    "accepted": 2, "duplicates": 1, "rejected_count": 1,
    "rejected": [{"line": 3, "code": "INVALID_REQUEST", "detail": "/items/0/sku no product X"}]
}))]
pub struct ImportReport {
    /// Number of imported orders.
    pub accepted: u64,
    /// Number of lines whose order existed already and was left unchanged.
    pub duplicates: u64,
    /// Number of rejected lines.
    pub rejected_count: u64,
    /// The rejected lines and their errors, at most the first 10,000.
    pub rejected: Vec<RejectedLine>,
}

/// A rejected line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RejectedLine {
    /// Line number, from 1.
    pub line: u64,
    /// Error code.
    pub code: Code,
    /// Error message.
    pub detail: String,
}

impl ImportReport {
    /// Maximum number of rejected lines in a report.
    pub const MAX_REJECTED: usize = 10_000;

    /// Adds the report of another request of the same import.
    pub fn add(&mut self, other_report: Self) {
        self.accepted += other_report.accepted;
        self.duplicates += other_report.duplicates;
        self.rejected_count += other_report.rejected_count;
        let free_slots = Self::MAX_REJECTED.saturating_sub(self.rejected.len());
        self.rejected
            .extend(other_report.rejected.into_iter().take(free_slots));
    }

    /// Adds a rejected line.
    pub fn reject(&mut self, rejected_line: RejectedLine) {
        self.rejected_count += 1;
        if self.rejected.len() < Self::MAX_REJECTED {
            self.rejected.push(rejected_line);
        }
    }
}
