//! Periodic jobs that read lists of other systems over HTTP: stock levels of a [`warehouse`], and [`orders`]
//! to import. One worker at a time runs a job, under a lease in the database. No request depends on a job; a
//! failed run is repeated. Pages are fetched by [`providers::pages`](crate::providers::pages), and changes
//! are decided as commands by the [`engine`](crate::engine).

pub mod orders;
pub mod warehouse;

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
    store::{Store, StoreError},
};

/// Interval for checking whether a job is due.
const INTERVAL: Duration = Duration::from_millis(500);
/// Lease of a running job, renewed with every page.
const LEASE: SignedDuration = SignedDuration::from_mins(2);
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
    pub every: SignedDuration,
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
    pub skipped: Vec<Skipped>,
    /// Number of rows that could not be applied completely.
    pub conflict_count: u64,
    /// The first rows that could not be applied completely.
    pub conflicts: Vec<Value>,
}

/// An invalid row.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Skipped {
    /// Page number, from 1.
    pub page: u64,
    /// Row number in the page, from 1.
    pub row: u64,
    /// The reason why the row is invalid.
    pub detail: String,
}

impl Report {
    fn skip(&mut self, row: usize, detail: String) {
        self.skipped_count += 1;
        if self.skipped.len() < MAX_LISTED_ROWS {
            self.skipped.push(Skipped {
                page: self.pages,
                row: row as u64 + 1,
                detail,
            });
        }
    }

    fn conflict(&mut self, row: Value) {
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
async fn run<J: Job>(job: J, store: Store, list_client: ListClient, source: Source) {
    loop {
        time::sleep(INTERVAL).await;
        let claimed = store.claim_job(J::NAME, Timestamp::now(), LEASE).await;
        let state = match claimed {
            Ok(Some(state)) => state,
            Ok(None) => continue,
            Err(error) => {
                tracing::debug!(%error, job = J::NAME, "a job could not be claimed: the database is unavailable");
                continue;
            }
        };
        if let Err(error) = run_once(&job, &store, &list_client, &source, state).await {
            tracing::warn!(%error, job = J::NAME, "the state of a job could not be stored");
        }
    }
}

async fn run_once<J: Job>(
    job: &J,
    store: &Store,
    list_client: &ListClient,
    source: &Source,
    mut state: JobState,
) -> Result<(), StoreError> {
    state.report = Report {
        started_at: Some(Timestamp::now()),
        ..Report::default()
    };
    let known_etag = state.etag.take();
    let result = read_list(job, store, list_client, source, known_etag, &mut state).await?;
    let now = Timestamp::now();
    state.report.finished_at = Some(now);
    match result {
        Ok(()) => state.succeeded_at = Some(now),
        Err(error) => state.report.error = Some(error),
    }
    log_report(J::NAME, &state.report);
    store.keep_job(J::NAME, now + source.every, &state).await
}

/// Reads and applies the complete list, unless it has not changed.
async fn read_list<J: Job>(
    job: &J,
    store: &Store,
    list_client: &ListClient,
    source: &Source,
    known_etag: Option<String>,
    state: &mut JobState,
) -> Result<Result<(), String>, StoreError> {
    let (mut next, mut seen) = (Some(source.url.clone()), HashSet::new());
    let mut first_etag = None;
    while let Some(url) = next {
        let is_first = seen.is_empty();
        let condition = known_etag.as_deref().filter(|_| is_first);
        let page = match list_client.fetch(&url, condition).await {
            Ok(FetchResult::Page(page)) => page,
            Ok(FetchResult::Unchanged) => {
                state.report.is_unchanged = true;
                state.etag = known_etag;
                return Ok(Ok(()));
            }
            Err(error) => return Ok(Err(format!("page {}: {error}", seen.len() + 1))),
        };
        if is_first {
            first_etag = page.etag;
        }
        state.report.pages += 1;
        state.report.rows += page.rows.len() as u64;
        if let Err(error) = job.apply_rows(page.rows, &mut state.report).await {
            return Ok(Err(error));
        }
        let lease = Timestamp::now() + LEASE;
        store.keep_job(J::NAME, lease, state).await?;
        seen.insert(url);
        next = page.next;
        if next.as_ref().is_some_and(|url| seen.contains(url)) {
            return Ok(Err(
                "the list links back to a page that was already read".to_owned()
            ));
        }
        if seen.len() >= MAX_PAGES {
            return Ok(Err(format!("the list has more than {MAX_PAGES} pages")));
        }
    }
    // The `ETag` of a first page does not cover further pages. And rows that were invalid now may be valid
    // later, when something has changed here.
    let is_whole =
        seen.len() == 1 && state.report.skipped_count == 0 && state.report.conflict_count == 0;
    state.etag = first_etag.filter(|_| is_whole);
    Ok(Ok(()))
}

fn log_report(job: &str, report: &Report) {
    let Report {
        pages,
        rows,
        changed,
        ..
    } = report;
    let (skipped, conflicts) = (report.skipped_count, report.conflict_count);
    if let Some(error) = &report.error {
        tracing::warn!(
            job,
            error,
            pages,
            rows,
            changed,
            "{job} ended early; the stored data stays in use"
        );
    } else if skipped + conflicts > 0 {
        tracing::warn!(
            job,
            pages,
            rows,
            changed,
            skipped,
            conflicts,
            "{job}: some rows could not be applied"
        );
    } else if *changed > 0 {
        tracing::info!(job, pages, rows, changed, "{job}");
    } else {
        tracing::debug!(job, pages, rows, "{job}: the source has not changed");
    }
}

/// The caller of the commands that a job sends.
fn caller(job: &str) -> Caller {
    Caller {
        role: Role::Operator,
        storefront: Storefront::default(),
        actor: job.to_owned(),
        intent: job.to_owned(),
        request_id: Uuid::now_v7().to_string(),
        traceparent: None,
    }
}
