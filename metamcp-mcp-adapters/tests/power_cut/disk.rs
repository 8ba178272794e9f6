//! A disk in memory that remembers what it was told, and what it holds when the power goes: unsynced writes are lost, kept as a prefix, or torn by
//! sector.

use std::{
    io,
    sync::{Arc, Mutex},
};

use crate::random::Random;

/// What a disk writes whole or not at all, in bytes.
const SECTOR_BYTES: usize = 512;

/// One thing a disk was told.
#[derive(Debug, Clone)]
pub(crate) enum Told {
    Write { at: usize, data: Vec<u8> },
    Length(usize),
    Sync,
}

/// A disk in memory that remembers what it was told.
#[derive(Debug)]
struct Recorded {
    bytes: Vec<u8>,
    told: Vec<Told>,
    /// Whether a sync is one, or only says so.
    syncs: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct Disk(Arc<Mutex<Recorded>>);

impl Disk {
    /// A disk that holds these bytes.
    pub(crate) fn new(bytes: Vec<u8>, syncs: bool) -> Self {
        Self(Arc::new(Mutex::new(Recorded { bytes, told: Vec::new(), syncs })))
    }

    /// How much it was told until now.
    pub(crate) fn position(&self) -> usize {
        self.0.lock().unwrap().told.len()
    }

    /// What it was told until now.
    pub(crate) fn told(&self) -> Vec<Told> {
        self.0.lock().unwrap().told.clone()
    }
}

impl redb::StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().unwrap().bytes.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let at = usize::try_from(offset).unwrap();
        let disk = self.0.lock().unwrap();
        let bytes = disk.bytes.get(at..at + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(bytes);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut disk = self.0.lock().unwrap();
        let len = usize::try_from(len).unwrap();
        disk.bytes.resize(len, 0);
        disk.told.push(Told::Length(len));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut disk = self.0.lock().unwrap();
        if disk.syncs {
            disk.told.push(Told::Sync);
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut disk = self.0.lock().unwrap();
        let at = usize::try_from(offset).unwrap();
        apply(&mut disk.bytes, at, data);
        disk.told.push(Told::Write { at, data: data.to_vec() });
        Ok(())
    }
}

/// Writes what fits: beyond the end of the file there is nothing to write to.
fn apply(bytes: &mut [u8], at: usize, data: &[u8]) {
    let end = bytes.len().min(at + data.len());
    if at < end {
        bytes[at..end].copy_from_slice(&data[..end - at]);
    }
}

/// What happens to the writes after the last sync when the power goes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Loss {
    /// They are gone.
    All,
    /// The first of them are on the disk.
    AllButAPrefix,
    /// Any sectors of them are.
    Torn,
}

impl Loss {
    pub(crate) fn pick(random: &mut Random) -> Self {
        [Self::All, Self::AllButAPrefix, Self::Torn, Self::Torn][random.below(4)]
    }
}

/// What the disk holds when the power goes after it was told `told`.
pub(crate) fn image(base: &[u8], told: &[Told], loss: Loss, random: &mut Random) -> Vec<u8> {
    let synced = told.iter().rposition(|what| matches!(what, Told::Sync)).map_or(0, |at| at + 1);
    let mut bytes = base.to_vec();
    let (safe, pending) = told.split_at(synced);
    let kept = match loss {
        Loss::All => 0,
        Loss::AllButAPrefix => random.below(pending.len() + 1),
        Loss::Torn => pending.len(),
    };
    for (n, what) in safe.iter().chain(&pending[..kept]).enumerate() {
        let torn = n >= safe.len() && matches!(loss, Loss::Torn);
        match what {
            Told::Length(len) if !torn || random.chance(50) => bytes.resize(*len, 0),
            Told::Write { at, data } if torn => {
                let mut start = *at;
                for sector in split_at_sectors(*at, data) {
                    if random.chance(50) {
                        apply(&mut bytes, start, sector);
                    }
                    start += sector.len();
                }
            }
            Told::Write { at, data } => apply(&mut bytes, *at, data),
            Told::Length(_) | Told::Sync => {}
        }
    }
    bytes
}

/// Pieces that end where a sector of the disk ends.
fn split_at_sectors(at: usize, mut data: &[u8]) -> Vec<&[u8]> {
    let mut pieces = Vec::new();
    let mut first = SECTOR_BYTES - at % SECTOR_BYTES;
    while !data.is_empty() {
        let (piece, rest) = data.split_at(first.min(data.len()));
        pieces.push(piece);
        data = rest;
        first = SECTOR_BYTES;
    }
    pieces
}
