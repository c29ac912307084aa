//! Photos of products: the only files that gateways store.
//!
//! # Layout
//!
//! - [`upload`]: receives an upload into bounded memory.
//! - [`photo`]: decodes it within limits, and encodes the photo and its smaller copies anew.
//! - [`webp`]: checks a WebP file before it is decoded.
//! - [`storage`]: files in a local folder or an S3 bucket; all gateways share one storage.
//! - [`sweep`]: deletes files that no product refers to.
//!
//! The order of changes makes lost files impossible: the files are stored before the worker adds the photo to
//! its product, and deleted after the worker has removed it. A gateway that is killed in between leaves files
//! without a product, which the sweep deletes. Each upload has a new random id, so no file is ever replaced.

pub(crate) mod photo;
pub(crate) mod storage;
pub(crate) mod sweep;
pub(crate) mod upload;
mod webp;

use std::{sync::Arc, time::Duration};

use photo::{EncodedPhoto, PhotoHeader, Rejection};
use shared::outcome::{Code, Failure};
use storage::Storage;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task, time,
};

use crate::problem::Problem;

/// Maximum number of uploads whose bodies or encoded files are in memory; further ones wait.
const MAX_UPLOADS: usize = 6;
/// Time for which an upload waits for its turn.
const UPLOAD_WAIT: Duration = Duration::from_secs(20);
/// Memory for decoding photos, in MiB, by the estimate of [`PhotoHeader::memory_mib`]. Photos are decoded at the
/// same time as long as they need no more together. A photo that needs more is decoded alone.
const DECODE_MEMORY_MIB: u32 = 192;
/// Time within which a photo must be decoded and encoded.
const DECODE_TIMEOUT: Duration = Duration::from_secs(30);
/// Delay before a refused upload should be repeated, in seconds.
const RETRY_AFTER_SECONDS: u64 = 5;

/// Storage of photos, and the limits of the work on them.
pub(crate) struct Media {
    pub(crate) storage: Storage,
    upload_permits: Arc<Semaphore>,
    decode_memory_mib: Arc<Semaphore>,
}

impl Media {
    pub(crate) fn new(storage: Storage) -> Self {
        Self {
            storage,
            upload_permits: Arc::new(Semaphore::new(MAX_UPLOADS)),
            decode_memory_mib: Arc::new(Semaphore::new(DECODE_MEMORY_MIB as usize)),
        }
    }

    /// Waits until another upload may be in memory. The permit must be held until its files are stored.
    ///
    /// # Errors
    /// `UNAVAILABLE` when other uploads take too long.
    pub(crate) async fn begin_upload(&self) -> Result<OwnedSemaphorePermit, Problem> {
        let permit = Arc::clone(&self.upload_permits).acquire_owned();
        match time::timeout(UPLOAD_WAIT, permit).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) | Err(_) => Err(busy_problem("the gateway is receiving too many photos")),
        }
    }

    /// Decodes a photo and encodes it anew with its smaller copies, on a thread for blocking work.
    ///
    /// # Errors
    /// The reason why the photo is refused; `UNAVAILABLE` when the gateway is busy.
    pub(crate) async fn decode_and_reencode(
        &self,
        bytes: Vec<u8>,
        header: PhotoHeader,
    ) -> Result<EncodedPhoto, Problem> {
        // A larger photo takes all permits, so that it is the only one.
        let memory_mib = header.memory_mib().min(DECODE_MEMORY_MIB);
        let permit = Arc::clone(&self.decode_memory_mib).acquire_many_owned(memory_mib);
        let Ok(Ok(permit)) = time::timeout(UPLOAD_WAIT, permit).await else {
            return Err(busy_problem("the gateway is decoding too many photos"));
        };
        // The permit is held until the thread has finished, even after the request was given up.
        let decoding = task::spawn_blocking(move || {
            let reencode_result = photo::decode_and_reencode(&bytes, &header);
            drop(permit);
            reencode_result
        });
        match time::timeout(DECODE_TIMEOUT, decoding).await {
            Ok(Ok(reencode_result)) => reencode_result.map_err(Problem::from),
            Ok(Err(_)) => Err(Rejection::Unreadable(
                "the image can't be decoded: its content is damaged".to_owned(),
            )
            .into()),
            Err(_) => Err(busy_problem("the photo could not be decoded in time")),
        }
    }
}

fn busy_problem(reason: &str) -> Problem {
    let failure = Failure::new(Code::Unavailable, format!("{reason}; try again later"));
    failure
        .with(serde_json::json!({"retry_after_seconds": RETRY_AFTER_SECONDS}))
        .into()
}
