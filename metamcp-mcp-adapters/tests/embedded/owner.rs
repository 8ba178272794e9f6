//! One data directory belongs to one process, and to one user.

use std::{
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use metamcp_core::{error::StoreErrorKind, testing::ManualClock};
use metamcp_mcp_adapters::store::embedded::{EmbeddedOptions, EmbeddedStore};

use crate::{fresh, open};

#[tokio::test]
async fn a_second_open_in_the_same_process_is_refused_and_names_the_owner() {
    let (dir, clock, store) = fresh();
    store.describe_owner("listening on 127.0.0.1:7777").unwrap();
    clock.advance(Duration::from_secs(75));
    let e = open(dir.path(), &clock).unwrap_err();
    assert_eq!(e.kind(), StoreErrorKind::Unavailable);
    let text = e.to_string();
    for part in [&format!("process {}", std::process::id()), "listening on 127.0.0.1:7777", "for 75 s", "--data-dir"] {
        assert!(text.contains(part), "{text} does not say {part}");
    }
    drop(store);
    open(dir.path(), &clock).unwrap();
}

const CHILD_DIR: &str = "METAMCP_TEST_CHILD_DIR";

/// Not a test of its own: what `a_second_process_is_refused…` runs in another process. Without the variable there is nothing to do.
#[test]
fn child_that_opens_a_directory() {
    let Ok(dir) = std::env::var(CHILD_DIR) else { return };
    match open(Path::new(&dir), &ManualClock::new()) {
        Ok(_) => println!("opened"),
        Err(e) => println!("refused: {e}"),
    }
}

fn open_in_another_process(dir: &Path) -> String {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "owner::child_that_opens_a_directory", "--nocapture"])
        .env(CHILD_DIR, dir)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    String::from_utf8(child.stdout).unwrap()
}

#[test]
fn a_second_process_is_refused_and_told_the_owner_until_the_first_one_ends() {
    let (dir, _, store) = fresh();
    let said = open_in_another_process(dir.path());
    assert!(
        said.contains("refused: ") && said.contains(&format!("in use by process {}", std::process::id())),
        "{said}"
    );
    drop(store);
    let said = open_in_another_process(dir.path());
    assert!(said.contains("opened"), "{said}");
}

#[cfg(unix)]
#[tokio::test]
async fn a_new_data_directory_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("data");
    let _store = EmbeddedStore::open(&dir, ManualClock::new(), &EmbeddedOptions::default()).unwrap();
    assert_eq!(std::fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
}
