//! Result bodies are files: shared within a tenant, whole or said to be damaged, gone with their last pointer.

use std::{fs, num::NonZeroU16};

use bytes::Bytes;
use metamcp_core::{
    error::StoreErrorKind,
    pointer::Digest,
    result::{ByteRange, ResultStore},
    testing::job_store::new_job,
};

use crate::{files, fresh, key, meta, open};

#[tokio::test]
async fn equal_bodies_of_a_tenant_share_a_file_that_goes_with_the_last_pointer() {
    let (dir, _, store) = fresh();
    let results = store.results();
    let body = Bytes::from_static(b"the same");
    let one = results.put(key(new_job().id), body.clone(), meta("a")).await.unwrap();
    let two = results.put(key(new_job().id), body.clone(), meta("a")).await.unwrap();
    let other = results.put(key(new_job().id), body, meta("..")).await.unwrap();
    let tree = dir.path().join("results");
    assert_eq!(files(&tree).len(), 2, "one file for each tenant");
    results.delete(&one).await.unwrap();
    assert_eq!(results.get(&two, None).await.unwrap().bytes, "the same");
    results.delete(&two).await.unwrap();
    assert_eq!(files(&tree).len(), 1);
    assert_eq!(results.get(&other, None).await.unwrap().bytes, "the same");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_put_beside_deletes_of_the_same_body_keeps_its_file() {
    let (dir, _, store) = fresh();
    let mut rounds = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let results = store.results();
        rounds.spawn(async move {
            for _ in 0..25 {
                let body = Bytes::from_static(b"fought over");
                let pointer = results.put(key(new_job().id), body.clone(), meta("a")).await.unwrap();
                assert_eq!(results.get(&pointer, None).await.unwrap().bytes, body);
                results.delete(&pointer).await.unwrap();
            }
        });
    }
    while let Some(round) = rounds.join_next().await {
        round.unwrap();
    }
    assert!(files(&dir.path().join("results")).is_empty(), "the last delete takes the file along");
}

#[tokio::test]
async fn a_damaged_or_missing_body_is_corrupt_and_never_handed_out() {
    let (dir, _, store) = fresh();
    let results = store.results();
    let pointer = results.put(key(new_job().id), Bytes::from_static(b"important"), meta("a")).await.unwrap();
    let file = files(&dir.path().join("results")).remove(0);
    for damaged in [&b"imp0rtant"[..], b"important!", b""] {
        fs::write(&file, damaged).unwrap();
        let e = results.get(&pointer, None).await.unwrap_err();
        assert_eq!(e.kind(), StoreErrorKind::Corrupt, "{e:?}");
    }
    fs::remove_file(&file).unwrap();
    let e = results.get(&pointer, Some(ByteRange { start: 0, len: 1 })).await.unwrap_err();
    assert_eq!(e.kind(), StoreErrorKind::Corrupt, "{e:?}");
    results.put(key(pointer.job), Bytes::from_static(b"important"), meta("a")).await.unwrap();
    assert_eq!(results.get(&pointer, None).await.unwrap().bytes, "important", "putting it again mends it");
}

#[tokio::test]
async fn bodies_that_a_crash_left_behind_are_swept_and_others_are_not() {
    let (dir, clock, store) = fresh();
    let pointer = store.results().put(key(new_job().id), Bytes::from_static(b"kept"), meta("a")).await.unwrap();
    drop(store);
    let tree = dir.path().join("results");
    for n in 0..40_u8 {
        let digest = Digest::of(&[n]).to_string();
        let home = tree.join(["t-a", "t-b"][usize::from(n % 2)]).join(&digest[..2]);
        fs::create_dir_all(&home).unwrap();
        fs::write(home.join(digest), [n]).unwrap();
    }
    fs::write(tree.join("tmp/half-written"), "h").unwrap();
    let store = open(dir.path(), &clock).unwrap();
    for _ in 0..4 {
        store.results().prune(metamcp_core::time::Clock::now(&*clock), NonZeroU16::new(1).unwrap()).await.unwrap();
    }
    assert_eq!(files(&tree).len(), 1);
    assert_eq!(store.results().get(&pointer, None).await.unwrap().bytes, "kept");
}
