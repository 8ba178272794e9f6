//! The note a server leaves in its data folder, so that other commands find it: its address and its process id. A note can be stale, as
//! after a crash; whoever reads it asks the server whether it is there.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

/// The note's name in the data folder.
const FILE_NAME: &str = "server.json";

/// What the note says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Presence {
    pub(super) url: String,
    pub(super) pid: u32,
}

impl Presence {
    /// The note in this data folder, unless its process is gone.
    pub(super) fn read(data_dir: &Path) -> Option<Self> {
        let text = fs::read(data_dir.join(FILE_NAME)).ok()?;
        let presence: Self = serde_json::from_slice(&text).ok()?;
        let processes = Path::new("/proc/self");
        let gone = processes.exists() && !Path::new("/proc").join(presence.pid.to_string()).exists();
        (!gone).then_some(presence)
    }
}

/// The note of this process; taken away when it is dropped.
#[derive(Debug)]
pub(super) struct Note(PathBuf);

impl Note {
    /// Leaves the note.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn leave(data_dir: &Path, url: &str) -> io::Result<Self> {
        let (path, draft) = (data_dir.join(FILE_NAME), data_dir.join(format!("{FILE_NAME}.new")));
        let presence = Presence { url: url.to_owned(), pid: std::process::id() };
        fs::write(&draft, serde_json::to_vec(&presence)?)?;
        // Nobody ever reads half a note.
        fs::rename(draft, &path)?;
        Ok(Self(path))
    }
}

impl Drop for Note {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.0) {
            tracing::debug!(%error, path = %self.0.display(), "note not taken away");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_read_while_its_process_is_there() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Presence::read(dir.path()), None);
        let note = Note::leave(dir.path(), "http://127.0.0.1:1").unwrap();
        let expected = Presence { url: "http://127.0.0.1:1".to_owned(), pid: std::process::id() };
        assert_eq!(Presence::read(dir.path()), Some(expected));
        drop(note);
        assert_eq!(Presence::read(dir.path()), None);
        if Path::new("/proc/self").exists() {
            fs::write(dir.path().join(FILE_NAME), r#"{"url":"http://127.0.0.1:1","pid":4294967295}"#).unwrap();
            assert_eq!(Presence::read(dir.path()), None);
        }
    }
}
