//! Objects in one place: what the rest of this folder needs of `object_store`, with the errors of stores and every list bounded.

use std::{error::Error as StdError, fmt, fs, io, ops::Range, path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream::BoxStream};
use metamcp_core::{
    error::{StoreError, StoreResult},
    time::Timestamp,
};
use object_store::{Error, GetOptions, ObjectMeta, ObjectStore, ObjectStoreExt as _, path::Path};

use super::error::{corrupt, failed};

/// How old a half-written file is before it is taken as left by a crash. Longer than any write takes, whatever the grace.
const UNFINISHED_AGE_MIN: Duration = Duration::from_secs(3_600);
/// Writes of one file when another process removes its empty folder just then.
const FOLDER_RACES_MAX: u32 = 8;

/// One place with objects.
pub(super) struct Backend {
    store: Arc<dyn ObjectStore>,
    /// Where it is, for errors; no secrets.
    place: String,
    /// What to look at when it does not answer.
    hint: &'static str,
    /// The directory that it is, if it is one.
    directory: Option<PathBuf>,
}

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the store itself: it may hold keys.
        f.debug_tuple("Backend").field(&self.place).finish()
    }
}

impl Backend {
    pub(super) fn new(
        store: Arc<dyn ObjectStore>,
        place: String,
        hint: &'static str,
        directory: Option<PathBuf>,
    ) -> Self {
        Self { store, place, hint, directory }
    }

    pub(super) fn place(&self) -> &str {
        &self.place
    }

    fn failed(&self, action: &str, error: Error) -> StoreError {
        failed(action, &self.place, self.hint, error)
    }

    /// Writes an object, whole and durable before it returns.
    pub(super) async fn put(&self, path: &Path, body: Bytes) -> StoreResult<()> {
        let mut races = 0;
        loop {
            match self.store.put(path, body.clone().into()).await {
                Ok(_) => return Ok(()),
                Err(error) if races < FOLDER_RACES_MAX && folder_is_gone(&error) => races += 1,
                Err(error) => return Err(self.failed("write", error)),
            }
        }
    }

    /// The length of an object in bytes; `None` where there is none.
    pub(super) async fn size(&self, path: &Path) -> StoreResult<Option<u64>> {
        match self.store.head(path).await {
            Ok(meta) => Ok(Some(meta.size)),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.failed("look up", error)),
        }
    }

    /// Reads an object of `total` bytes, or a part within it; `None` where there is none. One of another length is `Corrupt`.
    pub(super) async fn read(&self, path: &Path, part: Option<Range<u64>>, total: u64) -> StoreResult<Option<Bytes>> {
        let damaged = || corrupt(format!("{path} at {} is damaged; restore it from a copy", self.place));
        let ranged = part.is_some();
        let len = part.as_ref().map_or(total, |part| part.end - part.start);
        let options = part.map_or_else(GetOptions::new, |part| GetOptions::new().with_range(Some(part)));
        let answer = match self.store.get_opts(path, options).await {
            Ok(answer) => answer,
            Err(Error::NotFound { .. }) => return Ok(None),
            Err(error) => {
                // A range behind the end of a body that was cut is refused, by each backend in words of its own.
                let cut = ranged && self.size(path).await?.is_some_and(|size| size != total);
                return Err(if cut { damaged() } else { self.failed("read", error) });
            }
        };
        if answer.meta.size != total {
            return Err(damaged());
        }
        let bytes = answer.bytes().await.map_err(|error| self.failed("read", error))?;
        if bytes.len() as u64 == len { Ok(Some(bytes)) } else { Err(damaged()) }
    }

    /// Removes an object; what is not there is fine.
    pub(super) async fn delete(&self, path: &Path) -> StoreResult<()> {
        match self.store.delete(path).await {
            Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.failed("remove", error)),
        }
    }

    /// All objects under a folder, in no order that every backend keeps. The caller bounds how many it takes.
    pub(super) fn list(&self, folder: &Path) -> BoxStream<'_, StoreResult<ObjectMeta>> {
        self.store.list(Some(folder)).map_err(|error| self.failed("list", error)).boxed()
    }

    /// At most `max` objects under a folder.
    pub(super) async fn list_some(&self, folder: &Path, max: usize) -> StoreResult<Vec<ObjectMeta>> {
        self.list(folder).take(max).try_collect().await
    }

    /// The names of the folders in a folder, in order. For folders of days and of minutes only: there are at most 1,440 minutes in a day, and
    /// no more days than results are kept.
    pub(super) async fn folders(&self, folder: &Path) -> StoreResult<Vec<String>> {
        let list = self.store.list_with_delimiter(Some(folder)).await;
        let list = list.map_err(|error| self.failed("list", error))?;
        let names = list.common_prefixes.iter().filter_map(|path| path.filename());
        let mut names: Vec<String> = names.map(ToOwned::to_owned).collect();
        names.sort();
        Ok(names)
    }

    /// Removes what writers that crashed left half-written in a folder, and the folder if nothing else is in it. Only directories have such
    /// files. One that cannot be removed now is met again.
    pub(super) async fn remove_unfinished(&self, folder: &Path, now: Timestamp) {
        let Some(directory) = &self.directory else { return };
        let folder = folder.parts().fold(directory.clone(), |path, part| path.join(part.as_ref()));
        let work = move || {
            for file in fs::read_dir(&folder).into_iter().flatten().flatten() {
                let is_old = |modified| now.since(timestamp(modified)) >= UNFINISHED_AGE_MIN;
                let unfinished = file.file_name().to_string_lossy().contains('#');
                if unfinished && file.metadata().and_then(|meta| meta.modified()).is_ok_and(is_old) {
                    let _ = fs::remove_file(file.path());
                }
            }
            let _ = fs::remove_dir(&folder);
        };
        // It only ends early when the runtime does.
        let _ = tokio::task::spawn_blocking(work).await;
    }
}

/// When an object was written, by the backend's clock.
pub(super) fn written_at(object: &ObjectMeta) -> Timestamp {
    Timestamp::from_millis(u64::try_from(object.last_modified.timestamp_millis()).unwrap_or_default())
}

fn timestamp(at: std::time::SystemTime) -> Timestamp {
    let since = at.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(0) + since
}

/// Whether a file could not be written because its folder was removed, being empty, after it was made.
fn folder_is_gone(error: &Error) -> bool {
    let mut source: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(error) = source {
        if error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::NotFound) {
            return true;
        }
        source = error.source();
    }
    false
}
