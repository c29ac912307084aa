//! Files of photos in a local folder or an S3 bucket, named by `MEDIA_URL`.
//!
//! A photo has a file for its full size, named by its id, and one for each smaller copy, named by the id and the
//! width. Files are never changed. All gateways use the same storage.

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context, bail};
use futures_util::{StreamExt, TryStreamExt, stream::BoxStream};
use object_store::{
    BackoffConfig, ClientConfigKey, GetOptions, GetResult, ObjectMeta, ObjectStore, ObjectStoreExt,
    PutPayload, RetryConfig,
    aws::{AmazonS3Builder, AmazonS3ConfigKey},
    local::LocalFileSystem,
    path::Path,
};
use reqwest::Url;
use shared::{
    id::ImageId,
    outcome::{Code, Failure},
    settings::{Partner, PartnerKind, PartnerLog},
};

/// Name of the file with the full size.
pub(crate) const FULL_SIZE: &str = "";
/// Widths of the smaller copies in pixels, with their names in paths, from the smallest to the largest.
pub(crate) const VARIANT_WIDTHS: [(u32, &str); 2] = [(320, "320"), (1280, "1280")];
/// Length of an id in characters.
const ID_CHARS: usize = 36;

/// Timeout for connecting to S3.
const CONNECT_TIMEOUT: &str = "3 seconds";
/// Timeout for a request to S3.
const REQUEST_TIMEOUT: &str = "30 seconds";
/// Time in which failed requests to S3 are repeated.
const RETRY_TIMEOUT: Duration = Duration::from_secs(5);
/// Number of repetitions of a failed request to S3.
const MAX_RETRIES: usize = 3;

/// Stored files.
#[derive(Clone)]
pub(crate) struct Storage {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    /// The local folder.
    folder: Option<PathBuf>,
    /// The last calls to the storage.
    partner_log: PartnerLog,
}

impl Storage {
    /// The storage at `url`: `s3://bucket/prefix`, `file:///folder`, or a folder. Neither the folder nor the
    /// bucket is used before the first request.
    ///
    /// # Errors
    /// When the URL can't be used.
    pub(crate) fn open(url: &str) -> anyhow::Result<Self> {
        match url.split_once("://") {
            Some(("s3", _)) => Self::open_s3(url),
            Some(("file", _)) => {
                let parsed_url: Url = url.parse()?;
                let Ok(folder) = parsed_url.to_file_path() else {
                    bail!("must be file:/// and a folder");
                };
                Self::open_folder(&folder)
            }
            Some(_) => bail!("must begin with s3:// or file://, or be a folder"),
            None => Self::open_folder(std::path::Path::new(url)),
        }
    }

    fn open_folder(folder: &std::path::Path) -> anyhow::Result<Self> {
        let folder = std::path::absolute(folder)?;
        Ok(Self {
            store: Arc::new(LocalFileSystem::new().with_fsync(true)),
            prefix: Path::from_absolute_path(&folder)?,
            folder: Some(folder),
            partner_log: PartnerLog::default(),
        })
    }

    fn open_s3(url: &str) -> anyhow::Result<Self> {
        let parsed_url: Url = url.parse()?;
        let bucket = parsed_url
            .host_str()
            .context("must name a bucket: s3://bucket")?;
        let retry_config = RetryConfig {
            backoff: BackoffConfig::default(),
            max_retries: MAX_RETRIES,
            retry_timeout: RETRY_TIMEOUT,
        };
        // Credentials, region and endpoint: the standard variables `AWS_…`.
        let client_option = AmazonS3ConfigKey::Client;
        let builder = AmazonS3Builder::from_env()
            .with_config(
                client_option(ClientConfigKey::ConnectTimeout),
                CONNECT_TIMEOUT,
            )
            .with_config(client_option(ClientConfigKey::Timeout), REQUEST_TIMEOUT)
            .with_bucket_name(bucket)
            .with_retry(retry_config);
        Ok(Self {
            store: Arc::new(builder.build()?),
            prefix: Path::from_url_path(parsed_url.path())?,
            folder: None,
            partner_log: PartnerLog::default(),
        })
    }

    fn path(&self, photo_id: ImageId, variant: &str) -> Path {
        if variant.is_empty() {
            self.prefix.clone().join(photo_id.to_string())
        } else {
            self.prefix.clone().join(format!("{photo_id}-{variant}"))
        }
    }

    /// Stores the files of a photo, the full size last.
    ///
    /// # Errors
    /// `UNAVAILABLE`; files that were stored before the error are deleted.
    pub(crate) async fn store(
        &self,
        photo_id: ImageId,
        files: Vec<(&'static str, Vec<u8>)>,
    ) -> Result<(), Failure> {
        for (variant, bytes) in files {
            let path = self.path(photo_id, variant);
            if let Err(error) = self.store.put(&path, PutPayload::from(bytes)).await {
                self.delete(photo_id).await;
                return Err(self.unavailable(&error));
            }
        }
        self.partner_log.record(PartnerKind::MediaStorage, Ok(()));
        Ok(())
    }

    /// Deletes all files of a photo. If that fails, the sweep repeats it.
    pub(crate) async fn delete(&self, photo_id: ImageId) {
        let variant_names = VARIANT_WIDTHS
            .into_iter()
            .map(|(_, variant_name)| variant_name);
        for variant in std::iter::once(FULL_SIZE).chain(variant_names) {
            self.delete_file(&self.path(photo_id, variant)).await;
        }
    }

    async fn delete_file(&self, path: &Path) {
        match self.store.delete(path).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
            Err(error) => {
                tracing::warn!(%path, "a file of an unused photo can't be deleted now; it will be deleted later: {error}");
            }
        }
    }

    /// Opens a file; `None` if it does not exist.
    ///
    /// # Errors
    /// `UNAVAILABLE`.
    pub(crate) async fn open_file(
        &self,
        photo_id: ImageId,
        variant: &str,
        options: GetOptions,
    ) -> Result<Option<GetResult>, Failure> {
        match self
            .store
            .get_opts(&self.path(photo_id, variant), options)
            .await
        {
            Ok(stored_file) => {
                self.partner_log.record(PartnerKind::MediaStorage, Ok(()));
                Ok(Some(stored_file))
            }
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.unavailable(&error)),
        }
    }

    fn unavailable(&self, error: &object_store::Error) -> Failure {
        tracing::warn!("the storage of photos does not respond as expected: {error}");
        // The error may contain addresses and names of the storage.
        let shown_error = "it does not respond as expected; the log of the gateway has the error";
        self.partner_log
            .record(PartnerKind::MediaStorage, Err(shown_error));
        Failure::new(
            Code::Unavailable,
            "the storage of photos is not available; try again later",
        )
    }

    /// The storage as a connected system, with the last calls of this gateway.
    pub(crate) fn as_partner(&self) -> Partner {
        let storage_name = if self.folder.is_some() {
            "folder"
        } else {
            "s3"
        };
        self.partner_log
            .partner(PartnerKind::MediaStorage, Some(storage_name.to_owned()))
    }

    /// All files with the id of a photo in their name.
    pub(crate) fn list(&self) -> BoxStream<'static, object_store::Result<(ImageId, ObjectMeta)>> {
        self.store
            .list(Some(&self.prefix))
            .try_filter_map(|file| async move {
                let photo_id = file.location.filename().and_then(photo_of_file);
                Ok(photo_id.map(|photo_id| (photo_id, file)))
            })
            .boxed()
    }

    /// The local folder; `None` for S3.
    pub(crate) fn folder(&self) -> Option<&std::path::Path> {
        self.folder.as_deref()
    }
}

/// The photo that a file with this name belongs to; `None` for other files, which are left alone.
pub(super) fn photo_of_file(file_name: &str) -> Option<ImageId> {
    let (id_text, name_suffix) = file_name.split_at_checked(ID_CHARS)?;
    (name_suffix.is_empty() || name_suffix.starts_with('-'))
        .then(|| id_text.parse().ok())
        .flatten()
}
