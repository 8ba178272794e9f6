//! The names of all objects, written and read here alone. What a reference or a due entry says is in its name, so that a list tells it.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
use metamcp_core::{entropy::Entropy, id::TenantId, pointer::ResultPointer, time::Timestamp};
use object_store::path::Path;

/// Latest expiry that is kept, in milliseconds since the epoch (the year 2286): thirteen digits, so that names sort by time.
const EXPIRY_MS_MAX: u64 = 9_999_999_999_999;
const MINUTE_MS: u64 = 60_000;
const DAY_MS: u64 = 24 * 60 * MINUTE_MS;

const RESULTS: &str = "results";
const DUE: &str = "due";
const PROBES: &str = "probes";
/// The folder of copies beside the folders of jobs; no job id looks like it.
const COPIES: &str = "copies";
/// Before each tenant's name: a tenant may be called `..`.
const TENANT_PREFIX: &str = "t-";
/// After the name of a copy that takes no more references.
const CLOSED: &str = ".closed";
/// In place of an expiry.
const NEVER: &str = "never";
/// Before a media type, which may be empty.
const MEDIA_PREFIX: char = 'm';

/// One stored copy of a body. Drawn at random for each upload and never used again: what was removed stays removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct CopyId(u64);

impl CopyId {
    pub(super) fn drawn(entropy: &dyn Entropy) -> Self {
        Self(entropy.next_u64())
    }
}

/// That a job's result is a copy, until when, and what is known of it beside its bytes. Immutable: a change is another reference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reference {
    /// `None`: until it is deleted.
    pub(super) expires_at: Option<Timestamp>,
    pub(super) copy: CopyId,
    /// Of the put that made it: no two puts write one name.
    pub(super) nonce: u64,
    /// Length of the body.
    pub(super) bytes: u64,
    pub(super) media_type: String,
}

impl Reference {
    fn name(&self) -> String {
        let expiry = self.expires_at.map_or_else(|| NEVER.to_owned(), digits);
        let (copy, nonce, bytes) = (self.copy.0, self.nonce, self.bytes);
        format!("{expiry}.{copy:016x}.{nonce:016x}.{bytes}.{MEDIA_PREFIX}{}", BASE64.encode(&self.media_type))
    }

    /// The reference of a name; `None` for what is not ours.
    pub(super) fn parse(name: &str) -> Option<Self> {
        let mut parts = name.split('.');
        let expiry = parts.next()?;
        let expires_at = if expiry == NEVER { None } else { Some(timestamp(expiry)?) };
        let (copy, nonce) = (CopyId(hex(parts.next()?)?), hex(parts.next()?)?);
        let bytes = parts.next()?.parse().ok()?;
        let media_type = BASE64.decode(parts.next()?.strip_prefix(MEDIA_PREFIX)?).ok()?;
        let media_type = String::from_utf8(media_type).ok()?;
        parts.next().is_none().then_some(Self { expires_at, copy, nonce, bytes, media_type })
    }
}

/// A note to look after a pointer's body at a time: its reference expires, or it may be an orphan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DueEntry {
    pub(super) at: Timestamp,
    /// Drawn by who writes it: whoever removes an entry has looked at its body after the entry was there.
    pub(super) nonce: u64,
    pub(super) pointer: ResultPointer,
}

impl DueEntry {
    /// The entry of a name; `None` for what is not ours.
    pub(super) fn parse(name: &str) -> Option<Self> {
        let mut parts = name.splitn(5, '.');
        let (at, nonce) = (timestamp(parts.next()?)?, hex(parts.next()?)?);
        let (job, digest) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        let tenant = TenantId::new(parts.next()?.strip_prefix(TENANT_PREFIX)?).ok()?;
        Some(Self { at, nonce, pointer: ResultPointer { tenant, job, digest } })
    }
}

/// Where everything is below one root.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    root: Path,
}

impl Layout {
    pub(super) const fn new(root: Path) -> Self {
        Self { root }
    }

    /// The folder of one body of one tenant.
    pub(super) fn body(&self, pointer: &ResultPointer) -> Path {
        let digest = pointer.digest.to_string();
        let tenant = format!("{TENANT_PREFIX}{}", pointer.tenant);
        self.root.clone().join(RESULTS).join(tenant).join(&digest[..2]).join(digest)
    }

    /// The folder of the body's copies.
    pub(super) fn copies(&self, pointer: &ResultPointer) -> Path {
        self.body(pointer).join(COPIES)
    }

    pub(super) fn copy(&self, pointer: &ResultPointer, copy: CopyId) -> Path {
        self.copies(pointer).join(format!("{:016x}", copy.0))
    }

    /// The mark that closes a copy.
    pub(super) fn closed(&self, pointer: &ResultPointer, copy: CopyId) -> Path {
        self.copies(pointer).join(format!("{:016x}{CLOSED}", copy.0))
    }

    /// The folder of one job's references to the body.
    pub(super) fn references(&self, pointer: &ResultPointer) -> Path {
        self.body(pointer).join(pointer.job.to_string())
    }

    pub(super) fn reference(&self, pointer: &ResultPointer, reference: &Reference) -> Path {
        self.references(pointer).join(reference.name())
    }

    /// The folder of all due entries: one folder for each day, one in it for each minute.
    pub(super) fn due(&self) -> Path {
        self.root.clone().join(DUE)
    }

    pub(super) fn due_entry(&self, entry: &DueEntry) -> Path {
        let ms = entry.at.as_millis().min(EXPIRY_MS_MAX);
        let DueEntry { nonce, pointer: ResultPointer { tenant, job, digest }, .. } = entry;
        let name = format!("{}.{nonce:016x}.{job}.{digest}.{TENANT_PREFIX}{tenant}", digits(entry.at));
        self.due().join(format!("{:06}", ms / DAY_MS)).join(format!("{:09}", ms / MINUTE_MS)).join(name)
    }

    /// The folder of names to try one's rights with.
    pub(super) fn probes(&self) -> Path {
        self.root.clone().join(PROBES)
    }

    /// A name in it that nobody else writes.
    pub(super) fn probe(&self, entropy: &dyn Entropy) -> Path {
        self.probes().join(format!("{:016x}", entropy.next_u64()))
    }
}

/// That instant or the next whole minute, so that the entries of one time are in one folder.
pub(super) fn whole_minute(at: Timestamp) -> Timestamp {
    Timestamp::from_millis(at.as_millis().min(EXPIRY_MS_MAX).next_multiple_of(MINUTE_MS).min(EXPIRY_MS_MAX))
}

/// When the day that a folder is named after begins.
pub(super) fn day_begin(folder: &str) -> Option<Timestamp> {
    folder.parse::<u64>().ok()?.checked_mul(DAY_MS).map(Timestamp::from_millis)
}

/// When the minute that a folder is named after begins.
pub(super) fn minute_begin(folder: &str) -> Option<Timestamp> {
    folder.parse::<u64>().ok()?.checked_mul(MINUTE_MS).map(Timestamp::from_millis)
}

/// The copy that an object in a folder of copies is, or the copy that it closes.
pub(super) fn copy_of(name: &str) -> Option<(CopyId, bool)> {
    match name.strip_suffix(CLOSED) {
        Some(copy) => Some((CopyId(hex(copy)?), true)),
        None => Some((CopyId(hex(name)?), false)),
    }
}

fn digits(at: Timestamp) -> String {
    format!("{:013}", at.as_millis().min(EXPIRY_MS_MAX))
}

fn timestamp(digits: &str) -> Option<Timestamp> {
    digits.parse().ok().map(Timestamp::from_millis)
}

fn hex(digits: &str) -> Option<u64> {
    (digits.len() == 16).then(|| u64::from_str_radix(digits, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use metamcp_core::{
        entropy::OsEntropy,
        id::{JobId, NAME_BYTES_MAX},
        pointer::Digest,
        result::{MEDIA_TYPE_BYTES_MAX, RESULT_BYTES_MAX},
    };

    use super::*;

    /// Longest file name that every file system takes, in bytes, with room for the `#1` of a file that is being written.
    const FILE_NAME_BYTES_MAX: usize = 255 - 4;

    fn pointer(tenant: &str) -> ResultPointer {
        ResultPointer {
            tenant: TenantId::new(tenant).unwrap(),
            job: JobId::new(Timestamp::from_millis(7)),
            digest: Digest::of(b"body"),
        }
    }

    fn last(path: &Path) -> String {
        path.filename().unwrap().to_owned()
    }

    #[test]
    fn names_read_back_as_they_were_written_and_fit_a_file_system() {
        let layout = Layout::new(Path::from("a/b"));
        for (tenant, expires_at, media_type) in [
            ("local", None, String::new()),
            ("..", Some(Timestamp::from_millis(0)), "text/plain; charset=utf-8".to_owned()),
            ("a.b.c", Some(Timestamp::from_millis(1_767_225_600_000)), "é/∆.?#%".to_owned()),
            (
                &"x".repeat(NAME_BYTES_MAX),
                Some(Timestamp::from_millis(EXPIRY_MS_MAX)),
                "x".repeat(MEDIA_TYPE_BYTES_MAX),
            ),
        ] {
            let pointer = pointer(tenant);
            let bytes = RESULT_BYTES_MAX as u64;
            let reference = Reference {
                expires_at,
                copy: CopyId::drawn(&OsEntropy),
                nonce: OsEntropy.next_u64(),
                bytes,
                media_type,
            };
            let name = last(&layout.reference(&pointer, &reference));
            assert_eq!(Reference::parse(&name).unwrap(), reference);
            let entry = DueEntry { at: expires_at.unwrap_or_default(), nonce: OsEntropy.next_u64(), pointer };
            let path = layout.due_entry(&entry);
            assert_eq!(DueEntry::parse(&last(&path)).unwrap(), entry);
            assert!(name.len().max(last(&path).len()) <= FILE_NAME_BYTES_MAX);
            assert!(path.as_ref().starts_with("a/b/due/"), "{path}");
        }
    }

    #[test]
    fn a_time_beyond_all_names_is_cut_and_foreign_names_are_nobodys() {
        let (layout, far) = (Layout::new(Path::default()), Timestamp::from_millis(u64::MAX));
        let entry = DueEntry { at: far, nonce: 1, pointer: pointer("local") };
        let name = last(&layout.due_entry(&entry));
        assert_eq!(DueEntry::parse(&name).unwrap().at, Timestamp::from_millis(EXPIRY_MS_MAX));
        assert_eq!(whole_minute(far), Timestamp::from_millis(EXPIRY_MS_MAX));
        for foreign in ["", "x", "never", "never.0.0.0.m", "0.1.2.3.4", ".DS_Store", "0123456789abcdefg"] {
            assert_eq!(Reference::parse(foreign), None, "{foreign}");
            assert_eq!(DueEntry::parse(foreign), None, "{foreign}");
            assert_eq!(copy_of(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn an_entry_is_in_the_folder_of_a_minute_that_begins_before_it() {
        let (layout, at) = (Layout::new(Path::default()), Timestamp::from_millis(DAY_MS + 60_001));
        let path = layout.due_entry(&DueEntry { at, nonce: 1, pointer: pointer("local") });
        let folders: Vec<String> = path.parts().map(|part| part.as_ref().to_owned()).collect();
        assert_eq!(day_begin(&folders[1]), Some(Timestamp::from_millis(DAY_MS)));
        assert_eq!(minute_begin(&folders[2]), Some(Timestamp::from_millis(DAY_MS + 60_000)));
        assert_eq!(whole_minute(at), Timestamp::from_millis(DAY_MS + 120_000));
    }
}
