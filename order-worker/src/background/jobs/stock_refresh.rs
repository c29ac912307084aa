//! Copies stock levels from an external warehouse system. Orders use the stored stock levels, also while the
//! warehouse system is unavailable. A stock level never falls below its reserved units: such a row is applied
//! as far as possible and reported as a conflict.

use serde_json::{Value, json};
use shared::{
    id::{Sku, Warehouse},
    outcome::{Code, Failure},
    product::{MAX_ON_HAND, SetStock},
    request::Caller,
};

use super::{Job, Report, Source, job_caller, run_job};
use crate::{
    domain::command::{Action, Command},
    engine::Engine,
    providers::pages::{ListClient, Row},
    store::Store,
};

/// Name of the job.
pub const NAME: &str = "warehouse.refresh";
/// Rows that are processed concurrently.
const CONCURRENT_ROWS: usize = 200;
/// Maximum number of attempts for a stock level that orders change at the same time.
const MAX_ATTEMPTS: usize = 5;

/// Copies stock levels from `source` periodically, until the future is dropped.
pub async fn refresh(store: Store, engine: Engine, list_client: ListClient, source: Source) {
    let job = StockRefresh {
        store: store.up_to_date(),
        engine,
    };
    run_job(job, store, list_client, source).await;
}

struct StockRefresh {
    store: Store,
    engine: Engine,
}

/// A row of the list: the counted units of a product in a warehouse.
struct CountedStock {
    sku: Sku,
    warehouse: Warehouse,
    on_hand: i64,
}

/// Result of applying a row.
enum SetResult {
    /// The stock level is as counted.
    Applied { is_changed: bool },
    /// The count is below the reserved units. The stock level is set to this number of reserved units instead.
    RaisedToReserved {
        reserved_units: i64,
        is_changed: bool,
    },
}

impl Job for StockRefresh {
    const NAME: &'static str = NAME;

    async fn apply_rows(&self, rows: Vec<Row>, report: &mut Report) -> Result<(), String> {
        let caller = job_caller(NAME);
        // An unreadable row becomes `null`, which fails below with a message about its fields.
        let row_values: Vec<Value> = rows.into_iter().map(Result::unwrap_or_default).collect();
        for (chunk_index, row_chunk) in row_values.chunks(CONCURRENT_ROWS).enumerate() {
            let row_updates = row_chunk.iter().map(|row| self.apply_row(&caller, row));
            let row_results = futures_util::future::join_all(row_updates).await;
            for (row_index, (row, row_result)) in row_chunk.iter().zip(row_results).enumerate() {
                match row_result {
                    Ok(SetResult::Applied { is_changed }) => {
                        report.changed += u64::from(is_changed);
                    }
                    Ok(SetResult::RaisedToReserved {
                        reserved_units,
                        is_changed,
                    }) => {
                        report.changed += u64::from(is_changed);
                        report.record_conflict(json!({"row": row, "reserved": reserved_units}));
                    }
                    Err(failure) if failure.code == Code::Unavailable => {
                        return Err(failure.message);
                    }
                    Err(failure) => {
                        report.record_skipped_row(
                            chunk_index * CONCURRENT_ROWS + row_index,
                            failure.message,
                        );
                    }
                }
            }
        }
        Ok(())
    }
}

impl StockRefresh {
    async fn apply_row(&self, caller: &Caller, row: &Value) -> Result<SetResult, Failure> {
        let CountedStock {
            sku,
            warehouse,
            on_hand,
        } = self.read_row(row).await?;
        let mut set_result = self.set_on_hand(caller, &sku, &warehouse, on_hand).await;
        // Reserved units can't be taken back: the stock level is set to the reserved units, so no more are
        // sold, and the conflict is reported.
        let mut raised_to_units = None;
        for _ in 0..MAX_ATTEMPTS {
            let Err(failure) = &set_result else { break };
            let Some(reserved_units) = failure.details["reserved"].as_i64() else {
                break;
            };
            raised_to_units = Some(reserved_units);
            set_result = self
                .set_on_hand(caller, &sku, &warehouse, reserved_units)
                .await;
        }
        let is_changed = set_result?;
        Ok(match raised_to_units {
            Some(reserved_units) => SetResult::RaisedToReserved {
                reserved_units,
                is_changed,
            },
            None => SetResult::Applied { is_changed },
        })
    }

    /// Sets the units on hand; returns whether they changed.
    async fn set_on_hand(
        &self,
        caller: &Caller,
        sku: &Sku,
        warehouse: &Warehouse,
        on_hand: i64,
    ) -> Result<bool, Failure> {
        let stored_on_hand = self.stored_on_hand(sku, warehouse).await?;
        if stored_on_hand == Some(on_hand) {
            return Ok(false);
        }
        let command = Command::Request {
            caller: caller.clone(),
            idempotency: None,
            if_match: None,
            action: Action::SetStock(SetStock {
                sku: sku.clone(),
                warehouse: warehouse.clone(),
                on_hand,
                reason: Some(NAME.to_owned()),
            }),
        };
        let decided_reply = self.engine.decide(command, None).await?;
        decided_reply.outcome.map(|_| true)
    }

    async fn stored_on_hand(
        &self,
        sku: &Sku,
        warehouse: &Warehouse,
    ) -> Result<Option<i64>, Failure> {
        let unavailable_failure = |error| Failure::new(Code::Unavailable, format!("{error}"));
        let product_and_stock = self.store.product(sku).await.map_err(unavailable_failure)?;
        let Some((_, stock_levels)) = product_and_stock.filter(|(product, _)| !product.is_deleted)
        else {
            return Err(Failure::not_found("product", sku));
        };
        Ok(stock_levels
            .get(warehouse)
            .map(|stock_level| stock_level.on_hand))
    }

    /// Parses `{sku, warehouse?, on_hand}`; other fields are ignored.
    async fn read_row(&self, row: &Value) -> Result<CountedStock, Failure> {
        let invalid_row = |message: String| Failure::new(Code::InvalidRequest, message);
        let sku_text = row["sku"].as_str().unwrap_or_default();
        let sku: Sku = sku_text
            .parse()
            .map_err(|reason| invalid_row(format!("sku: {reason}")))?;
        let on_hand = row["on_hand"].as_i64().or(row["quantity"].as_i64());
        let on_hand = on_hand.filter(|units| (0..=MAX_ON_HAND).contains(units));
        let on_hand = on_hand.ok_or_else(|| {
            invalid_row(format!(
                "{sku}: on_hand must be a whole number from 0 to {MAX_ON_HAND}"
            ))
        })?;
        let warehouse = match row["warehouse"].as_str() {
            Some(warehouse_name) => warehouse_name
                .parse()
                .map_err(|reason| invalid_row(format!("{sku}: warehouse: {reason}")))?,
            None => self.only_warehouse(&sku).await?,
        };
        Ok(CountedStock {
            sku,
            warehouse,
            on_hand,
        })
    }

    /// The only warehouse that stocks the product; `default` if none does.
    async fn only_warehouse(&self, sku: &Sku) -> Result<Warehouse, Failure> {
        let unavailable_failure = |error| Failure::new(Code::Unavailable, format!("{error}"));
        let product_and_stock = self.store.product(sku).await.map_err(unavailable_failure)?;
        let Some((_, stock_levels)) = product_and_stock else {
            return Err(Failure::not_found("product", sku));
        };
        let mut warehouses = stock_levels.into_keys();
        let ambiguous_warehouse = || {
            let message =
                format!("{sku}: warehouse is missing, and several warehouses stock the product");
            Failure::new(Code::InvalidRequest, message)
        };
        match (warehouses.next(), warehouses.next()) {
            (Some(warehouse), None) => Ok(warehouse),
            (None, _) => "default".parse().map_err(|_| ambiguous_warehouse()),
            (Some(_), Some(_)) => Err(ambiguous_warehouse()),
        }
    }
}
