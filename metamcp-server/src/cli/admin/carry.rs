//! `metamcp admin export`, `import` and `migrate`: carries a whole store elsewhere.

use std::path::Path;

use anyhow::Context as _;
use metamcp_core::admin::{self, Exported, Findings, MigrateOptions, Migrated, Moved};
use tokio::{
    fs::File,
    io::{AsyncWriteExt as _, BufReader, BufWriter},
};

use super::{
    super::{
        exit::{Exit, Failure, Outcome},
        out,
    },
    args::{FileArgs, MigrateArgs},
    live::{Live, said},
    store::{Folder, failure, now, open, open_named, place},
};

/// Bytes that are read or written at once.
const BUFFER_BYTES: usize = 256 << 10;

pub(super) async fn export(args: &FileArgs) -> Outcome {
    let path = &args.file;
    if path.exists() {
        return Err(Failure::refused(format!("{} exists already; name a new file", path.display())));
    }
    let stores = open(&args.store.config.sources(), Folder::MustExist).await?;
    let mut live = Live::new();
    let exported = write(path, async |out| {
        admin::export(place(&stores), out, now(), &mut |step, tally| live.tally(step, tally)).await.map_err(failure)
    })
    .await;
    drop(live);
    stores.close().await;
    let exported = exported?;
    tell(&exported.findings);
    if args.store.json {
        out::json(&exported).map_err(anyhow::Error::from)?;
    } else {
        let Exported { written, without_result, .. } = &exported;
        out::text(&format!("wrote {} to {}; {}", said(written), path.display(), without(*without_result)))
            .map_err(anyhow::Error::from)?;
    }
    Ok(ended(exported.findings.is_empty()))
}

/// Writes a file beside its place and moves it there when it is whole: no half file ever has the name. It is for its owner alone.
async fn write<T>(
    path: &Path,
    fill: impl AsyncFnOnce(&mut BufWriter<File>) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let cannot = || format!("cannot write {}; check its folder's rights and space", path.display());
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let beside = tempfile::NamedTempFile::new_in(folder).with_context(cannot)?;
    let file = File::from_std(beside.reopen().with_context(cannot)?);
    let mut out = BufWriter::with_capacity(BUFFER_BYTES, file);
    let filled = fill(&mut out).await?;
    out.flush().await.with_context(cannot)?;
    out.get_ref().sync_all().await.with_context(cannot)?;
    beside.persist_noclobber(path).with_context(cannot)?;
    Ok(filled)
}

pub(super) async fn import(args: &FileArgs) -> Outcome {
    let path = &args.file;
    let read = async || {
        let file = File::open(path).await.with_context(|| format!("cannot read {}", path.display()))?;
        Ok::<_, anyhow::Error>(BufReader::with_capacity(BUFFER_BYTES, file))
    };
    let mut live = Live::new();
    // Damage is found before anything is taken in.
    admin::check(&mut read().await?, &mut |step, tally| live.tally(step, tally)).await.map_err(failure)?;
    let stores = open(&args.store.config.sources(), Folder::MayBeNew).await?;
    let mut input = read().await?;
    let moved = admin::import(&mut input, place(&stores), now(), &mut |step, tally| live.tally(step, tally)).await;
    drop(live);
    stores.close().await;
    let moved = moved.map_err(failure)?;
    tell(&moved.findings);
    if args.store.json {
        out::json(&moved).map_err(anyhow::Error::from)?;
    } else {
        out::text(&taken(&moved)).map_err(anyhow::Error::from)?;
    }
    Ok(ended(moved.findings.is_empty()))
}

pub(super) async fn migrate(args: &MigrateArgs) -> Outcome {
    let MigrateArgs { from, to, force, store } = args;
    if store.config.store.is_some() || store.config.memory || store.config.data_dir.is_some() {
        return Err(Failure::refused("the stores are FROM and TO; leave out --store, --data-dir and --memory"));
    }
    if from == to {
        return Err(Failure::refused("FROM and TO are the same store; name two"));
    }
    let old = open_named(store.config.sources(), "FROM", from, Folder::MustExist).await?;
    let new = match open_named(store.config.sources(), "TO", to, Folder::MayBeNew).await {
        Ok(new) => new,
        Err(error) => {
            old.close().await;
            return Err(error);
        }
    };
    let mut live = Live::new();
    let options = MigrateOptions { now: now(), force: *force };
    let mut watch = |step, tally: &_| live.tally(step, tally);
    let migrated = admin::migrate(place(&old), place(&new), &options, &mut watch).await;
    drop(live);
    let places = format!("{} to {}", old.place, new.place);
    old.close().await;
    new.close().await;
    let migrated = migrated.map_err(failure)?;
    tell(&migrated.moved.findings);
    tell(&migrated.verified.findings);
    if store.json {
        out::json(&migrated).map_err(anyhow::Error::from)?;
    } else {
        let Migrated { moved, verified } = &migrated;
        let check = if migrated.is_whole() { "checked, the same on both sides" } else { "the same on both sides" };
        out::text(&format!("{places}: {}\n{check}: {}", taken(moved), said(&verified.same)))
            .map_err(anyhow::Error::from)?;
    }
    Ok(ended(migrated.is_whole()))
}

const fn ended(well: bool) -> Exit {
    if well { Exit::Done } else { Exit::Failed }
}

fn taken(moved: &Moved) -> String {
    let Moved { taken, same, without_result, .. } = moved;
    format!("took in {}; {same} jobs and records stood there already; {}", said(taken), without(*without_result))
}

fn without(jobs: u64) -> String {
    format!("{jobs} jobs point to a result that is no longer kept")
}

/// What is not as it should be, on standard error.
fn tell(findings: &Findings) {
    for finding in &findings.first {
        eprintln!("{finding}");
    }
    let more = findings.total.saturating_sub(findings.first.len() as u64);
    if more > 0 {
        eprintln!("and {more} more");
    }
}
