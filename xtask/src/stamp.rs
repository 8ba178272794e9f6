//! What is installed already: a stamp for each group of tools, and the lock that keeps two runs from installing at once.

use std::{
    fs::{self, File, TryLockError},
    path::PathBuf,
};

use anyhow::{Context as _, Result, bail};

use crate::process::{Ended, Place};

pub(crate) fn already(what: &str) -> Ended {
    Ended::Done(Some(what.to_owned()))
}

/// Says that a group is installed: the pins it was installed from, and files that must still be there.
pub(crate) struct Stamp {
    file: PathBuf,
    pins: String,
    needed: Vec<PathBuf>,
}

impl Stamp {
    pub(crate) fn new(place: &Place, group: &str, pins: &str, needed: Vec<PathBuf>) -> Self {
        Self { file: place.tools.join(format!("{group}.stamp")), pins: pins.to_owned(), needed }
    }

    pub(crate) fn holds(&self) -> bool {
        fs::read_to_string(&self.file).is_ok_and(|stamped| stamped == self.pins) && self.missing().is_none()
    }

    fn missing(&self) -> Option<&PathBuf> {
        self.needed.iter().find(|path| !path.exists())
    }

    /// Before the work: an installation cut short must not look whole.
    pub(crate) fn lift(&self) -> Result<()> {
        match fs::remove_file(&self.file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error).context("cannot remove a stamp"),
            _ => Ok(()),
        }
    }

    pub(crate) fn set(&self) -> Result<Ended> {
        if let Some(missing) = self.missing() {
            bail!("the installation ended well, yet {} is missing", missing.display());
        }
        fs::write(&self.file, &self.pins).with_context(|| format!("cannot write {}", self.file.display()))?;
        Ok(Ended::Done(Some("installed".to_owned())))
    }
}

/// Makes the tools folder and holds it, so that two runs at once install one after the other. Free again when dropped.
pub(crate) fn lock(place: &Place) -> Result<File> {
    fs::create_dir_all(&place.tools).with_context(|| format!("cannot make {}", place.tools.display()))?;
    let file = File::create(place.tools.join("lock")).context("cannot make the lock file of the tools folder")?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            println!("another `cargo xtask` is installing; waiting for it");
            file.lock().context("cannot lock the tools folder")?;
        }
        Err(TryLockError::Error(error)) => return Err(error).context("cannot lock the tools folder"),
    }
    Ok(file)
}
