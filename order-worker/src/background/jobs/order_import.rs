//! Imports orders from another system, page by page. An order is identified by its id there (`external_id`),
//! so a repeated run imports nothing twice. The other system is only read, never written to.

use serde_json::{Map, Value};
use shared::{
    order::{ImportLine, MAX_LINES},
    outcome::Code,
};

use super::{Job, Report, Source, job_caller, run_job};
use crate::{
    engine::Engine,
    providers::pages::{ListClient, Row},
    rpc::import,
    store::Store,
};

/// Name of the job.
pub const NAME: &str = "order.import";
/// Fields of an order that are used; others are ignored.
const USED_FIELDS: [&str; 8] = [
    "external_id",
    "customer_id",
    "items",
    "shipping_address",
    "payment_method",
    "expected_total",
    "metadata",
    "storefront",
];

/// Imports orders from `source` periodically, until the future is dropped.
pub async fn import_from(store: Store, engine: Engine, list_client: ListClient, source: Source) {
    run_job(OrderImport { engine }, store, list_client, source).await;
}

struct OrderImport {
    engine: Engine,
}

impl Job for OrderImport {
    const NAME: &'static str = NAME;

    async fn apply_rows(&self, rows: Vec<Row>, report: &mut Report) -> Result<(), String> {
        let caller = job_caller(NAME);
        let mut import_lines = Vec::with_capacity(rows.len());
        for (row_index, row) in rows.into_iter().enumerate() {
            match row.and_then(import_request) {
                Ok(order) => import_lines.push(ImportLine {
                    line: row_index as u64 + 1,
                    occurrence: None,
                    order,
                }),
                Err(reason) => report.record_skipped_row(row_index, reason),
            }
        }
        while !import_lines.is_empty() {
            let remaining_lines = import_lines.split_off(import_lines.len().min(MAX_LINES));
            let import_report = import(&self.engine, &caller, import_lines, None, None).await;
            let import_report = import_report.map_err(|failure| failure.message)?;
            report.changed += import_report.accepted;
            for rejected_line in import_report.rejected {
                if rejected_line.code == Code::Internal {
                    return Err(rejected_line.detail);
                }
                let line_number = usize::try_from(rejected_line.line).unwrap_or_default();
                report.record_skipped_row(line_number.saturating_sub(1), rejected_line.detail);
            }
            import_lines = remaining_lines;
        }
        Ok(())
    }
}

/// The import request of a row. `id` counts as `external_id` if there is none.
fn import_request(row: Value) -> Result<Value, String> {
    let Value::Object(mut fields) = row else {
        return Err("the row is not a JSON object".to_owned());
    };
    let row_id = match fields.remove("id") {
        Some(Value::Number(numeric_id)) => Some(Value::String(numeric_id.to_string())),
        row_id => row_id,
    };
    let mut order: Map<String, Value> = fields
        .into_iter()
        .filter(|(field_name, _)| USED_FIELDS.contains(&field_name.as_str()))
        .collect();
    if !order.contains_key("external_id") {
        let row_id = row_id.ok_or("the row has neither an external_id nor an id")?;
        order.insert("external_id".to_owned(), row_id);
    }
    Ok(Value::Object(order))
}
