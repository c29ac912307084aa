//! Periodic jobs that read lists of other systems over HTTP: stock levels ([`stock_refresh`]) and orders to
//! import ([`order_import`]). One worker at a time runs a job, under a lease in the database. No request
//! depends on a job; a failed run is repeated. Pages are fetched by
//! [`providers::pages`](crate::providers::pages), and changes are decided as commands by the
//! [`engine`](crate::engine).

pub mod order_import;
pub mod stock_refresh;

use std::{collections::HashSet, time::Duration};

use jiff::{SignedDuration, Timestamp};
use reqwest::Url;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use shared::{
    id::Storefront,
    request::{Caller, Role},
};
use tokio::time;
use uuid::Uuid;

use crate::{
    providers::pages::{FetchResult, ListClient, Row},
    store::{JobClaim, Store, StoreError},
};

/// Interval for checking whether a job is due.
const DUE_CHECK_INTERVAL: Duration = Duration::from_millis(500);
/// Lease of a running job, renewed with every page.
const JOB_LEASE: SignedDuration = SignedDuration::from_mins(2);
/// Maximum number of pages in a list.
const MAX_PAGES: usize = 100_000;
/// Maximum number of invalid rows, and of conflicts, that a report lists.
const MAX_LISTED_ROWS: usize = 100;

/// Source of a job, and its interval.
#[derive(Debug, Clone)]
pub struct Source {
    /// URL of the first page.
    pub url: Url,
    /// Time between the end of a run and the next run.
    pub interval: SignedDuration,
}

/// Report of a run, shown to operators.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Report {
    /// Start of the run.
    pub started_at: Option<Timestamp>,
    /// End of the run; `None` while it is in progress.
    pub finished_at: Option<Timestamp>,
    /// The error that ended the run.
    pub error: Option<String>,
    /// Whether the list had not changed.
    pub is_unchanged: bool,
    /// Number of pages.
    pub pages: u64,
    /// Number of rows.
    pub rows: u64,
    /// Number of rows that changed something.
    pub changed: u64,
    /// Number of invalid rows.
    pub skipped_count: u64,
    /// The first invalid rows, with their errors.
    pub skipped: Vec<SkippedRow>,
    /// Number of rows that could not be applied completely.
    pub conflict_count: u64,
    /// The first rows that could not be applied completely.
    pub conflicts: Vec<Value>,
}

/// An invalid row.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SkippedRow {
    /// Page number, from 1.
    pub page: u64,
    /// Row number in the page, from 1.
    pub row: u64,
    /// The reason why the row is invalid.
    pub detail: String,
}

impl Report {
    fn record_skipped_row(&mut self, row_number: usize, detail: String) {
        self.skipped_count += 1;
        if self.skipped.len() < MAX_LISTED_ROWS {
            self.skipped.push(SkippedRow {
                page: self.pages,
                row: row_number as u64 + 1,
                detail,
            });
        }
    }

    fn record_conflict(&mut self, row: Value) {
        self.conflict_count += 1;
        if self.conflicts.len() < MAX_LISTED_ROWS {
            self.conflicts.push(row);
        }
    }
}

/// Stored state of a job.
#[derive(Debug, Default, Serialize, Deserialize)]
struct JobState {
    /// `ETag` of the first page, if that page was the whole list and all rows were applied.
    #[serde(default)]
    etag: Option<String>,
    #[serde(default)]
    report: Report,
    /// End of the last complete run.
    #[serde(default)]
    succeeded_at: Option<Timestamp>,
}

/// A job: processes the rows of each page of its list.
trait Job: Send + Sync {
    /// Name in the database, in logs and in statistics.
    const NAME: &'static str;

    /// Applies `rows`, and counts changes and invalid rows in `report`.
    ///
    /// # Errors
    /// A message, when the run can't continue.
    fn apply_rows(
        &self,
        rows: Vec<Row>,
        report: &mut Report,
    ) -> impl Future<Output = Result<(), String>> + Send;
}

/// Runs `job` whenever it is due.
async fn run_job<J: Job>(job: J, store: Store, list_client: ListClient, source: Source) {
    loop {
        time::sleep(DUE_CHECK_INTERVAL).await;
        let claim_result = store.claim_job(J::NAME, Timestamp::now(), JOB_LEASE).await;
        let (claim, state) = match claim_result {
            Ok(Some(claim_result)) => claim_result,
            Ok(None) => continue,
            Err(error) => {
                tracing::debug!(%error, job = J::NAME, "a job could not be claimed; trying again");
                continue;
            }
        };
        match run_once(&job, &store, &list_client, &source, claim, state).await {
            Ok(Some(_)) => {}
            Ok(None) => {
                tracing::warn!(
                    job = J::NAME,
                    "a job took longer than its lease, and another worker has started it again"
                );
            }
            Err(error) => {
                tracing::warn!(%error, job = J::NAME, "the state of a job could not be stored");
            }
        }
    }
}

/// The end of a run that was not taken over by another worker, with the claim of the job.
type RunResult = (JobClaim, Result<(), String>);

/// Runs the claimed job; `None` if another worker has taken it over.
async fn run_once<J: Job>(
    job: &J,
    store: &Store,
    list_client: &ListClient,
    source: &Source,
    claim: JobClaim,
    mut state: JobState,
) -> Result<Option<JobClaim>, StoreError> {
    state.report = Report {
        started_at: Some(Timestamp::now()),
        ..Report::default()
    };
    let stored_etag = state.etag.take();
    let store_and_client = (store, list_client);
    let read_result = read_list(
        job,
        store_and_client,
        source,
        claim,
        stored_etag,
        &mut state,
    )
    .await?;
    let Some((claim, run_result)) = read_result else {
        return Ok(None);
    };
    let now = Timestamp::now();
    state.report.finished_at = Some(now);
    match run_result {
        Ok(()) => state.succeeded_at = Some(now),
        Err(error) => state.report.error = Some(error),
    }
    log_report(J::NAME, &state.report);
    store
        .store_job_state(claim, now + source.interval, &state)
        .await
}

/// Reads and applies the complete list, unless it has not changed. The lease is renewed before each page is
/// applied, so that a worker that was frozen applies no outdated page.
async fn read_list<J: Job>(
    job: &J,
    (store, list_client): (&Store, &ListClient),
    source: &Source,
    mut claim: JobClaim,
    known_etag: Option<String>,
    state: &mut JobState,
) -> Result<Option<RunResult>, StoreError> {
    let (mut next_url, mut visited_urls) = (Some(source.url.clone()), HashSet::new());
    let mut first_page_etag = None;
    while let Some(page_url) = next_url {
        let is_first_page = visited_urls.is_empty();
        let if_none_match = known_etag.as_deref().filter(|_| is_first_page);
        let page = match list_client.fetch(&page_url, if_none_match).await {
            Ok(FetchResult::Page(page)) => page,
            Ok(FetchResult::Unchanged) => {
                state.report.is_unchanged = true;
                state.etag = known_etag;
                return Ok(Some((claim, Ok(()))));
            }
            Err(error) => {
                let error_text = format!("page {}: {error}", visited_urls.len() + 1);
                return Ok(Some((claim, Err(error_text))));
            }
        };
        if is_first_page {
            first_page_etag = page.etag;
        }
        state.report.pages += 1;
        state.report.rows += page.rows.len() as u64;
        let lease_end = Timestamp::now() + JOB_LEASE;
        let Some(renewed_claim) = store.store_job_state(claim, lease_end, state).await? else {
            return Ok(None);
        };
        claim = renewed_claim;
        if let Err(error) = job.apply_rows(page.rows, &mut state.report).await {
            return Ok(Some((claim, Err(error))));
        }
        visited_urls.insert(page_url);
        next_url = page.next_url;
        if next_url
            .as_ref()
            .is_some_and(|page_url| visited_urls.contains(page_url))
        {
            let error_text = "the list links back to a page that was already read".to_owned();
            return Ok(Some((claim, Err(error_text))));
        }
        if visited_urls.len() >= MAX_PAGES {
            let error_text = format!("the list has more than {MAX_PAGES} pages");
            return Ok(Some((claim, Err(error_text))));
        }
    }
    // The `ETag` of a first page does not cover further pages. And rows that were invalid now may be valid
    // later, when something has changed here.
    let is_complete_list = visited_urls.len() == 1
        && state.report.skipped_count == 0
        && state.report.conflict_count == 0;
    state.etag = first_page_etag.filter(|_| is_complete_list);
    Ok(Some((claim, Ok(()))))
}

fn log_report(job_name: &str, report: &Report) {
    let Report {
        pages,
        rows,
        changed: changed_count,
        ..
    } = report;
    let (skipped_count, conflict_count) = (report.skipped_count, report.conflict_count);
    if let Some(error_text) = &report.error {
        tracing::warn!(
            job = job_name,
            error = error_text,
            pages,
            rows,
            changed = changed_count,
            "{job_name} ended early; the stored data stays in use"
        );
    } else if skipped_count + conflict_count > 0 {
        tracing::warn!(
            job = job_name,
            pages,
            rows,
            changed = changed_count,
            skipped = skipped_count,
            conflicts = conflict_count,
            "{job_name}: some rows could not be applied"
        );
    } else if *changed_count > 0 {
        tracing::info!(
            job = job_name,
            pages,
            rows,
            changed = changed_count,
            "{job_name}: applied the list"
        );
    } else {
        tracing::debug!(
            job = job_name,
            pages,
            rows,
            "{job_name}: the list contains no changes"
        );
    }
}

/// The caller of the commands that a job sends.
fn job_caller(job_name: &str) -> Caller {
    Caller {
        role: Role::Operator,
        storefront: Storefront::default(),
        actor: job_name.to_owned(),
        intent: job_name.to_owned(),
        request_id: Uuid::now_v7().to_string(),
        trace_context: None,
    }
}
