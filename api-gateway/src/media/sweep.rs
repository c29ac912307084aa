//! Deletes stored files that no product refers to: those of uploads that were interrupted by the end of a
//! gateway, and of photos that were removed while the storage was not available.
//!
//! Only files that are older than `MEDIA_SWEEP_SECONDS` are deleted, so that an upload in progress keeps its
//! files. The files are listed before the photos of all products are read: a photo that is added in the
//! meantime has new files. When a list can't be read completely, nothing is deleted.

use std::{
    collections::{HashMap, HashSet},
    fs,
    path::Path,
    time::{Duration, SystemTime},
};

use futures_util::TryStreamExt;
use shared::{
    amqp::rpc_client::{Call, RpcClient},
    id::{ImageId, Sku, Storefront},
    outcome::{Code, Failure},
    page::Page,
    product::{ListImages, MAX_IMAGE_PAGE, ProductImageIds},
    request::{Caller, Request, Role},
    trace::unsampled_traceparent,
};
use tokio::{task, time};
use tokio_util::sync::CancellationToken;

use super::storage::{Storage, photo_of_file};

/// Delay between the start of the gateway and its first sweep, and after a sweep that failed.
const FIRST_DELAY: Duration = Duration::from_secs(5);
/// Longest delay after a sweep that failed.
const MAX_RETRY_DELAY: Duration = Duration::from_mins(5);
/// Number of photos above which a sweep never deletes all of them: the storage probably belongs to another
/// database.
const MAX_UNREFERENCED: usize = 100;

/// Deletes unused files again and again.
pub(crate) struct Sweeper {
    pub(crate) storage: Storage,
    pub(crate) rpc: RpcClient,
    pub(crate) request_timeout: Duration,
    /// Minimum age of deleted files, and time between two sweeps.
    pub(crate) interval: Duration,
}

impl Sweeper {
    /// Sweeps until the gateway stops.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let mut retry_delay = FIRST_DELAY.min(self.interval);
        let mut delay = retry_delay;
        while stop.run_until_cancelled(time::sleep(delay)).await.is_some() {
            match self.sweep().await {
                Ok(0) => {}
                Ok(deleted) => {
                    tracing::info!(deleted, "deleted stored photos that no product refers to");
                }
                Err(error) => {
                    tracing::debug!("unused photos can't be deleted now: {error:#}");
                    delay = retry_delay;
                    retry_delay = (2 * retry_delay).min(MAX_RETRY_DELAY);
                    continue;
                }
            }
            (delay, retry_delay) = (self.interval, FIRST_DELAY.min(self.interval));
        }
    }

    /// Deletes the files of photos that no product refers to; returns the number of photos.
    async fn sweep(&self) -> anyhow::Result<usize> {
        let newest = SystemTime::now() - self.interval;
        if let Some(folder) = self.storage.folder() {
            let folder = folder.to_owned();
            task::spawn_blocking(move || delete_unfinished_files(&folder, newest)).await?;
        }
        let mut photos: HashMap<ImageId, bool> = HashMap::new();
        let mut files = self.storage.list();
        while let Some((id, file)) = files.try_next().await? {
            let is_old = SystemTime::from(file.last_modified) < newest;
            *photos.entry(id).or_insert(true) &= is_old;
        }
        if photos.is_empty() {
            return Ok(0);
        }
        let referenced = self.referenced_photos().await?;
        let photo_count = photos.len();
        let unreferenced: Vec<_> = photos
            .into_iter()
            .filter(|(id, is_old)| *is_old && !referenced.contains(id))
            .map(|(id, _)| id)
            .collect();
        if unreferenced.len() == photo_count && photo_count > MAX_UNREFERENCED {
            tracing::error!(
                photo_count,
                "no product refers to any stored photo: MEDIA_URL probably belongs to another database; nothing is deleted"
            );
            return Ok(0);
        }
        for id in &unreferenced {
            self.storage.delete(*id).await;
        }
        Ok(unreferenced.len())
    }

    /// The photos of all products.
    async fn referenced_photos(&self) -> Result<HashSet<ImageId>, Failure> {
        let mut referenced = HashSet::new();
        let mut cursor: Option<Sku> = None;
        loop {
            let request = Request::ListImages(ListImages {
                limit: MAX_IMAGE_PAGE,
                cursor: cursor.take(),
            });
            let call = Call {
                caller: sweep_caller(),
                idempotency_key: None,
                if_match: None,
                message_id: None,
                timeout: self.request_timeout,
            };
            let page = self.rpc.call(&request, call).await.outcome?;
            let page: Page<ProductImageIds> =
                serde_json::from_str(page.text()).map_err(unreadable_page)?;
            referenced.extend(page.data.into_iter().flat_map(|product| product.ids));
            let Some(next_cursor) = page.next_cursor else {
                return Ok(referenced);
            };
            cursor = Some(next_cursor.parse().map_err(unreadable_page)?);
        }
    }
}

fn unreadable_page(error: impl std::fmt::Display) -> Failure {
    Failure::new(
        Code::Internal,
        format!("the list of photos can't be read: {error}"),
    )
}

fn sweep_caller() -> Caller {
    Caller {
        role: Role::Operator,
        storefront: Storefront::default(),
        actor: "gateway".to_owned(),
        intent: "product.list_images".to_owned(),
        request_id: "media-sweep".to_owned(),
        traceparent: Some(unsampled_traceparent()),
    }
}

/// Deletes files that a gateway was writing when it was killed. `object_store` writes to `<name>#<number>`
/// first, and does not list such files.
fn delete_unfinished_files(folder: &Path, newest: SystemTime) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let is_unfinished = name
            .split_once('#')
            .is_some_and(|(name, _)| photo_of_file(name).is_some());
        let modified = entry.metadata().and_then(|metadata| metadata.modified());
        if is_unfinished && modified.is_ok_and(|modified| modified < newest) {
            let _ = fs::remove_file(entry.path());
        }
    }
}
