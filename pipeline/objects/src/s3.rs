//! Objects in a bucket of an S3-compatible store, shared by any number of processes.
//!
//! Under the prefix lie `objects/` and, for moments, `uploads/` with the probes of starting processes. Ciphertext is
//! collected on this machine and goes up when its address is known ([`spool`], decision record 12), in one request or as a
//! multipart upload: either appears under the address whole, or not at all. Reading asks for one piece after the other
//! ([`pieces`]). Unfinished uploads that a crash leaves are aborted after a day ([`unfinished`]).
//! Failure: a request is tried at most five times within half a minute and then is `Unavailable`, which callers repeat; the
//! text says what the store answered in words of our own, since its body may name credentials ([`failure`]).
//! Needs leave for `s3:GetObject`, `PutObject`, `DeleteObject`, `ListBucket`, `ListBucketMultipartUploads` and
//! `AbortMultipartUpload`; without `ListBucket` a missing object cannot be told from a refused one.

mod failure;
mod pieces;
mod spool;
mod unfinished;

use crate::write::Upload;
use crate::{Place, UPLOADS, local, unavailable};
use failure::from_store;
use futures_util::{StreamExt, TryStreamExt};
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::path::Path as ObjectPath;
use object_store::prefix::PrefixStore;
use object_store::{ClientOptions, Error, ObjectStore, RetryConfig};
use schemas::{Millis, Sha256};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::{Handle, RuntimeFlavor};
use unfinished::Unfinished;
use zegel_core::ObjectsError;

/// Of one try: a part has to get through a slow line within it.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// A store that does not even answer the telephone.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// With pauses from a tenth of a second on: over a restart of one server; a longer outage is for the callers, who park.
const TRIES_AGAIN: usize = 4;
/// No further try after this long.
const TRYING: Duration = Duration::from_secs(30);
/// No upload takes longer; other processes' younger ones are on their way.
const UNFINISHED_AGE_MS: i64 = 24 * 60 * 60 * 1000;

/// See the module.
pub(crate) struct Bucket {
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) unfinished: Unfinished,
    scratch: PathBuf,
    runtime: Handle,
}

impl Bucket {
    pub(crate) fn open(
        url: &str,
        variables: impl IntoIterator<Item = (String, String)>,
        scratch: &Path,
        runtime: Handle,
    ) -> Result<Bucket, ObjectsError> {
        let (bucket, prefix) = address(url).ok_or_else(|| unavailable("the address is not s3://bucket/prefix"))?;
        if runtime.runtime_flavor() == RuntimeFlavor::CurrentThread {
            // Nobody would drive its connections: every call would wait for ever.
            return Err(unavailable("a bucket needs a runtime with threads of its own"));
        }
        local::make_folders(scratch).map_err(unavailable)?;
        let mut builder = AmazonS3Builder::new();
        let mut client = ClientOptions::new().with_timeout(REQUEST_TIMEOUT).with_connect_timeout(CONNECT_TIMEOUT);
        for (name, value) in variables.into_iter().filter(|(name, _)| name.starts_with("AWS_")) {
            match name.to_ascii_lowercase().parse() {
                Ok(AmazonS3ConfigKey::Client(key)) => client = client.with_config(key, value),
                Ok(key) => builder = builder.with_config(key, value),
                // Meant for other programs.
                Err(_) => {}
            }
        }
        let retry = RetryConfig { max_retries: TRIES_AGAIN, retry_timeout: TRYING, ..RetryConfig::default() };
        let builder = builder.with_bucket_name(bucket).with_client_options(client.clone()).with_retry(retry);
        let s3 = builder.build().map_err(|_| unavailable("a setting of the bucket (AWS_...) cannot be used"))?;
        let unfinished = Unfinished::new(s3.clone(), &client, prefix.clone())?;
        Ok(Bucket { store: Arc::new(PrefixStore::new(s3, prefix)), unfinished, scratch: scratch.into(), runtime })
    }

    /// Removes probes and aborts uploads from before `before`, however young.
    pub(crate) async fn sweep_now(&self, before: Millis) -> Result<u64, ObjectsError> {
        let aborted = self.unfinished.abort_older(before).await?;
        let prefix = ObjectPath::from(UPLOADS);
        let probes = self.store.list(Some(&prefix)).try_filter_map(move |meta| async move {
            Ok((meta.last_modified.timestamp_millis() < before.0).then_some(meta.location))
        });
        let removed = self.store.delete_stream(probes.boxed());
        let removed: Vec<ObjectPath> = removed.try_collect().await.map_err(from_store)?;
        Ok(aborted + removed.len() as u64)
    }
}

impl Place for Bucket {
    fn store(&self) -> &dyn ObjectStore {
        &*self.store
    }

    fn begin(&self, temporary: &Sha256) -> Result<Box<dyn Upload>, ObjectsError> {
        let file = self.scratch.join(temporary.to_string());
        Ok(Box::new(spool::Spool::new(Arc::clone(&self.store), self.runtime.clone(), file)))
    }

    fn bytes(&self, path: &ObjectPath) -> Result<Box<dyn Read + Send>, ObjectsError> {
        Ok(Box::new(pieces::Pieces::open(Arc::clone(&self.store), self.runtime.clone(), path)?))
    }

    fn sweep(&self, before: Millis) -> Result<u64, ObjectsError> {
        let local = local::sweep(&self.scratch, before)?;
        let there = self.runtime.block_on(async {
            let now = self.unfinished.now().await?;
            self.sweep_now(before.min(now.plus(-UNFINISHED_AGE_MS))).await
        })?;
        Ok(local + there)
    }

    fn failure(&self, error: Error) -> ObjectsError {
        from_store(error)
    }
}

/// Bucket and prefix of `s3://bucket/prefix`; the prefix may be empty. Only characters that need no escaping anywhere.
fn address(url: &str) -> Option<(&str, ObjectPath)> {
    let rest = url.strip_prefix("s3://")?;
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let plain = |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/'));
    let parts_are_names = prefix.trim_end_matches('/').split('/').all(|part| !matches!(part, "." | ".."));
    let fits = !bucket.is_empty() && plain(bucket) && plain(prefix) && parts_are_names && !prefix.contains("//");
    fits.then(|| (bucket, ObjectPath::from(prefix)))
}

#[cfg(test)]
mod tests;
