//! Opens the stores that an admin command names, with nothing between it and what is stored.

use metamcp_core::{
    admin::{AdminError, Place},
    time::{Clock as _, SystemClock, Timestamp},
};

use super::super::{exit::Failure, log};
use crate::{
    config::{Config, Flag, Sources, StoreKind},
    wire::{self, Stores},
};

/// Whether a data folder may be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Folder {
    MustExist,
    MayBeNew,
}

/// Opens the store that these sources of configuration name.
///
/// # Errors
/// When there is none, or it cannot be used; what to do is told.
pub(in super::super) async fn open(sources: &Sources, folder: Folder) -> Result<Stores, Failure> {
    let mut config = Config::load(sources)?;
    log::start(&config.log, "warn");
    // What is compared or moved is what is stored: no stale replica, no cache.
    config.store_read_url = None;
    config.results.cache_bytes_max = 0;
    let data_dir = &config.server.data_dir;
    match config.store {
        StoreKind::Memory => {
            let mend = "memory: ends with this command; name a directory, redis://… or postgres://… with --store";
            return Err(Failure::refused(mend));
        }
        StoreKind::Embedded if folder == Folder::MustExist && !data_dir.is_dir() => {
            let mend = "name another with --store or --data-dir";
            return Err(Failure::refused(format!("there is no store in {}; {mend}", data_dir.display())));
        }
        StoreKind::Embedded | StoreKind::Shared(_) => {}
    }
    Ok(wire::open_stores(&config).await?)
}

/// The same with the store of `name`, which is called `flag` in errors.
pub(super) async fn open_named(
    mut sources: Sources,
    flag: &'static str,
    name: &str,
    folder: Folder,
) -> Result<Stores, Failure> {
    sources.flags.push(Flag { name: flag, key: "store", value: name.to_owned() });
    open(&sources, folder).await
}

/// The stores as core takes them.
pub(super) fn place(stores: &Stores) -> Place<'_> {
    Place { jobs: &*stores.jobs, results: &*stores.results, records: &*stores.records }
}

/// What time it is on this machine.
pub(super) fn now() -> Timestamp {
    SystemClock::default().now()
}

/// A failure in the words of the command line.
pub(super) fn failure(error: AdminError) -> Failure {
    let refused = matches!(error, AdminError::Held { .. } | AdminError::Line { .. } | AdminError::Lanes);
    let message = format!("{:#}", anyhow::Error::from(error));
    if refused { Failure::refused(message) } else { Failure::failed(message) }
}
