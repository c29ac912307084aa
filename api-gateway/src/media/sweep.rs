//! Deletes stored files that no product refers to: those of uploads that were interrupted by the end of a
//! gateway, and of photos that were removed while the storage was not available.
//!
//! Only files that are older than an hour are deleted, so that an upload in progress keeps its files, also when
//! the clock of the storage differs. The files are listed before the photos of all products are read: a photo that
//! is added in the meantime has new files. When a list can't be read completely, nothing is deleted.

use std::{
    collections::{HashMap, HashSet},
    fs,
    path::Path,
    time::{Duration, SystemTime},
};

use futures_util::TryStreamExt;
use shared::{
    amqp::rpc_client::{CallOptions, RpcClient},
    id::{ImageId, Sku, Storefront},
    outcome::{Code, Failure},
    page::Page,
    product::{ListImages, MAX_PRODUCTS_PER_IMAGE_PAGE, ProductImageIds},
    request::{Caller, Request, Role},
    trace_context::TraceContext,
};
use tokio::{task, time};
use tokio_util::sync::CancellationToken;

use super::storage::{Storage, photo_of_file};

/// Delay between the start of the gateway and its first sweep, and after a sweep that failed.
const FIRST_DELAY: Duration = Duration::from_secs(5);
/// Longest delay after a sweep that failed.
const MAX_RETRY_DELAY: Duration = Duration::from_mins(5);
/// Minimum age of deleted files. It must be longer than any upload takes, however often gateways sweep.
const MIN_AGE: Duration = Duration::from_hours(1);
/// Number of photos that a sweep deletes without regard to the number of stored ones.
const ALWAYS_DELETABLE_PHOTOS: usize = 20;

/// Deletes unused files again and again.
pub(crate) struct Sweeper {
    pub(crate) storage: Storage,
    pub(crate) rpc: RpcClient,
    pub(crate) request_timeout: Duration,
    /// Time between two sweeps.
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
                Ok(deleted_count) => {
                    tracing::info!(
                        deleted = deleted_count,
                        "deleted stored photos that no product refers to"
                    );
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
        let max_modified_at = SystemTime::now() - MIN_AGE;
        if let Some(folder) = self.storage.folder() {
            let folder = folder.to_owned();
            task::spawn_blocking(move || delete_unfinished_files(&folder, max_modified_at)).await?;
        }
        let mut is_old_by_photo: HashMap<ImageId, bool> = HashMap::new();
        let mut files = self.storage.list();
        while let Some((photo_id, file)) = files.try_next().await? {
            let is_old = SystemTime::from(file.last_modified) < max_modified_at;
            *is_old_by_photo.entry(photo_id).or_insert(true) &= is_old;
        }
        let old_photos = old_photos(is_old_by_photo);
        if old_photos.is_empty() {
            return Ok(0);
        }
        let referenced_ids = self.referenced_photos().await?;
        let old_count = old_photos.len();
        let unreferenced_ids: Vec<_> = old_photos
            .into_iter()
            .filter(|id| !referenced_ids.contains(id))
            .collect();
        if unreferenced_ids.len() > max_deletable_photos(old_count) {
            tracing::error!(
                unreferenced = unreferenced_ids.len(),
                stored = old_count,
                "too many stored photos belong to no product; nothing is deleted. Check that MEDIA_URL belongs to the worker's database, and that an older copy of the database was not restored"
            );
            return Ok(0);
        }
        for photo_id in &unreferenced_ids {
            self.storage.delete(*photo_id).await;
        }
        Ok(unreferenced_ids.len())
    }

    /// The photos of all products.
    async fn referenced_photos(&self) -> Result<HashSet<ImageId>, Failure> {
        let mut referenced_ids = HashSet::new();
        let mut cursor: Option<Sku> = None;
        loop {
            let request = Request::ListImages(ListImages {
                limit: MAX_PRODUCTS_PER_IMAGE_PAGE,
                cursor: cursor.take(),
            });
            let call = CallOptions {
                caller: sweep_caller(),
                idempotency_key: None,
                if_match: None,
                message_id: None,
                timeout: self.request_timeout,
            };
            let page = self.rpc.call(&request, call).await.outcome?;
            let page: Page<ProductImageIds> =
                serde_json::from_str(page.text()).map_err(unreadable_page)?;
            referenced_ids.extend(page.data.into_iter().flat_map(|product| product.ids));
            let Some(next_cursor) = page.next_cursor else {
                return Ok(referenced_ids);
            };
            cursor = Some(next_cursor.parse().map_err(unreadable_page)?);
        }
    }
}

/// The photos of which all files are old.
fn old_photos(is_old_by_photo: HashMap<ImageId, bool>) -> Vec<ImageId> {
    let old_photos = is_old_by_photo.into_iter().filter(|(_, is_old)| *is_old);
    old_photos.map(|(photo_id, _)| photo_id).collect()
}

/// The number of photos that a sweep may delete of `old_count`. When a product is deleted, its files are deleted at
/// once, so a sweep finds only a few. More than half of the photos are without a product when the storage belongs to
/// another database, or when the database is an older copy.
fn max_deletable_photos(old_count: usize) -> usize {
    ALWAYS_DELETABLE_PHOTOS.max(old_count / 2)
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
        trace_context: Some(TraceContext::unsampled()),
    }
}

/// Deletes files that a gateway was writing when it was killed. `object_store` writes to `<name>#<number>`
/// first, and does not list such files.
fn delete_unfinished_files(folder: &Path, max_modified_at: SystemTime) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let file_name = entry.file_name();
        let file_name = file_name.to_string_lossy();
        let is_unfinished = file_name
            .split_once('#')
            .is_some_and(|(name, _)| photo_of_file(name).is_some());
        let modification_time = entry.metadata().and_then(|metadata| metadata.modified());
        if is_unfinished
            && modification_time.is_ok_and(|modification_time| modification_time < max_modified_at)
        {
            let _ = fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn only_photos_whose_files_are_all_old_are_counted() {
        let (old_id, young_id) = (Uuid::new_v4().into(), Uuid::new_v4().into());
        assert_eq!(
            old_photos(HashMap::from([(old_id, true), (young_id, false)])),
            [old_id]
        );
    }

    #[test]
    fn sweep_deletes_twenty_photos_or_half_of_them() {
        for (old_count, max_count) in [(0, 20), (1, 20), (20, 20), (41, 20), (42, 21), (1_000, 500)]
        {
            assert_eq!(max_deletable_photos(old_count), max_count, "{old_count}");
        }
    }
}
