//! The journal: one redb table of bytes to bytes, committed in batches that are all there or not at all, and durable when the commit returns.
//!
//! It knows neither jobs nor events; the writer makes the batches. Reads see the last commit and never wait for the next one.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    ops::{ControlFlow, Range},
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

use metamcp_core::error::{StoreError, StoreErrorKind, StoreResult};
use redb::{
    Builder, Database, DatabaseError, Durability, ReadOnlyTable, ReadableDatabase, StorageBackend, StorageError,
    TableDefinition,
};

use super::{STORE, codec, keys};

const TABLE: TableDefinition<&[u8], &[u8]> = TableDefinition::new("journal");

/// The file's name in the data directory.
pub(super) const FILE_NAME: &str = "journal.redb";
/// Where a new journal is made before it gets its name: what has the name is whole.
const NEW_FILE_NAME: &str = "journal.redb.new";
/// Memory for pages of the file, in bytes; what does not fit is read again.
const CACHE_BYTES_MAX: usize = 64 << 20;

/// What one commit changes: key → record, or `None` to remove it. Sorted, so that it is written in the order of the tree.
pub(super) type Batch = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// One open journal.
#[derive(Debug)]
pub(super) struct Journal {
    database: Database,
}

impl Journal {
    /// Opens the journal of a data directory, and makes one where there is none.
    pub(super) fn open(dir: &Path) -> StoreResult<Self> {
        let path = dir.join(FILE_NAME);
        let failed = |e: io::Error| {
            let message = format!("cannot make a journal in {}; check its rights and space", dir.display());
            StoreError::new(StoreErrorKind::Unavailable, STORE, message).with_source(e)
        };
        if !path.try_exists().map_err(failed)? {
            // A power cut while the file is made would leave one that cannot be opened.
            let new = dir.join(NEW_FILE_NAME);
            match fs::remove_file(&new) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(failed(e)),
                _ => {}
            }
            drop(Self::start(|builder| builder.create(&new), &new.display().to_string())?);
            File::open(&new).and_then(|file| file.sync_all()).map_err(failed)?;
            fs::rename(&new, &path).map_err(failed)?;
            sync_dir(dir).map_err(failed)?;
        }
        Self::start(|builder| builder.open(&path), &path.display().to_string())
    }

    /// Opens, or makes, a journal on a storage of the caller's.
    pub(super) fn with_backend(backend: impl StorageBackend) -> StoreResult<Self> {
        Self::start(|builder| builder.create_with_backend(backend), "the given storage")
    }

    fn start(open: impl FnOnce(&mut Builder) -> Result<Database, DatabaseError>, place: &str) -> StoreResult<Self> {
        // redb says that it may panic on a file that was damaged from outside: the caller gets an error all the same.
        catch_unwind(AssertUnwindSafe(|| {
            let database = open(Builder::new().set_cache_size(CACHE_BYTES_MAX)).map_err(|e| cannot_open(place, e))?;
            let journal = Self { database };
            journal.check_format(place)?;
            Ok(journal)
        }))
        .unwrap_or_else(|_| Err(damaged(place)))
    }

    fn check_format(&self, place: &str) -> StoreResult<()> {
        let key = keys::format_key();
        if let Some(view) = self.view_if_any()? {
            return match view.get(&key)? {
                Some(record) if codec::version_of(&record) > codec::RECORD_VERSION => {
                    Err(newer(place, codec::version_of(&record)))
                }
                Some(record) => codec::decode_mark(&key, &record),
                None => Err(keys::corrupt(&key, "it is missing; this is not a journal of MetaMCP")),
            };
        }
        let mark = codec::encode_mark(&key)?;
        self.commit(&Batch::from([(key, Some(mark))]))
    }

    /// Makes a batch durable.
    ///
    /// # Errors
    /// When it is not known to be durable. The journal must then be opened again.
    pub(super) fn commit(&self, batch: &Batch) -> StoreResult<()> {
        self.try_commit(batch).map_err(|e| {
            let message = "a commit to the journal failed; check the disk for space and faults, then start again";
            StoreError::new(StoreErrorKind::Closed, STORE, message).with_source(e)
        })
    }

    fn try_commit(&self, batch: &Batch) -> Result<(), redb::Error> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        transaction.set_two_phase_commit(true);
        {
            let mut table = transaction.open_table(TABLE)?;
            for (key, record) in batch {
                match record {
                    Some(record) => drop(table.insert(key.as_slice(), record.as_slice())?),
                    None => drop(table.remove(key.as_slice())?),
                }
            }
        }
        transaction.commit()?;
        Ok(())
    }

    /// The state of the last commit.
    pub(super) fn view(&self) -> StoreResult<View> {
        self.view_if_any()?.ok_or_else(|| {
            StoreError::new(StoreErrorKind::Corrupt, STORE, "the journal has lost its table; restore it from a copy")
        })
    }

    fn view_if_any(&self) -> StoreResult<Option<View>> {
        let transaction = self.database.begin_read().map_err(cannot_read)?;
        match transaction.open_table(TABLE) {
            Ok(table) => Ok(Some(View { table })),
            Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
            Err(e) => Err(cannot_read(e)),
        }
    }
}

/// One commit's state, unchanged for as long as it is held.
pub(super) struct View {
    table: ReadOnlyTable<&'static [u8], &'static [u8]>,
}

/// What a scan walks: key and record, in one direction.
pub(super) type Entries<'v> = Box<dyn Iterator<Item = StoreResult<(Vec<u8>, Vec<u8>)>> + 'v>;

impl View {
    /// One record.
    pub(super) fn get(&self, key: &[u8]) -> StoreResult<Option<Vec<u8>>> {
        let record = self.table.get(key).map_err(cannot_read)?;
        Ok(record.map(|record| record.value().to_vec()))
    }

    /// Shows the records of a range, in order, until `show` breaks.
    pub(super) fn scan(
        &self,
        range: &Range<Vec<u8>>,
        mut show: impl FnMut(&[u8], &[u8]) -> StoreResult<ControlFlow<()>>,
    ) -> StoreResult<()> {
        for entry in self.table.range(range.start.as_slice()..range.end.as_slice()).map_err(cannot_read)? {
            let (key, record) = entry.map_err(cannot_read)?;
            if show(key.value(), record.value())?.is_break() {
                break;
            }
        }
        Ok(())
    }

    /// The records of a range, the last one first.
    pub(super) fn backwards(&self, range: &Range<Vec<u8>>) -> StoreResult<Entries<'_>> {
        let entries = self.table.range(range.start.as_slice()..range.end.as_slice()).map_err(cannot_read)?;
        Ok(Box::new(entries.rev().map(|entry| {
            let (key, record) = entry.map_err(cannot_read)?;
            Ok((key.value().to_vec(), record.value().to_vec()))
        })))
    }
}

/// Makes names in a directory durable.
pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

fn newer(place: &str, version: u8) -> StoreError {
    let message = format!(
        "{place} has format {version} and this build of MetaMCP reads up to {}; run the build that wrote it, or a newer one",
        codec::RECORD_VERSION
    );
    StoreError::new(StoreErrorKind::Corrupt, STORE, message)
}

fn damaged(place: &str) -> StoreError {
    let message = format!("{place} is not a readable journal; move it away, or restore it from a copy");
    StoreError::new(StoreErrorKind::Corrupt, STORE, message)
}

fn cannot_open(place: &str, e: DatabaseError) -> StoreError {
    match &e {
        DatabaseError::DatabaseAlreadyOpen => {
            let message = format!("{place} is open in another process; stop that one, or choose another --data-dir");
            StoreError::new(StoreErrorKind::Unavailable, STORE, message).with_source(e)
        }
        DatabaseError::Storage(StorageError::Io(io)) if io.kind() != io::ErrorKind::InvalidData => {
            let message = format!("cannot read {place}; check its rights and the disk");
            StoreError::new(StoreErrorKind::Unavailable, STORE, message).with_source(e)
        }
        _ => damaged(place).with_source(e),
    }
}

fn cannot_read(e: impl Into<redb::Error>) -> StoreError {
    let e = e.into();
    let (kind, message) = match &e {
        redb::Error::Corrupted(_) => (StoreErrorKind::Corrupt, "the journal is damaged; restore it from a copy"),
        redb::Error::PreviousIo | redb::Error::DatabaseClosed => {
            (StoreErrorKind::Closed, "the journal failed before; check the disk, then start again")
        }
        _ => (StoreErrorKind::Unavailable, "cannot read the journal; check the disk"),
    };
    StoreError::new(kind, STORE, message).with_source(e)
}
