//! What is stored and what is left of it: damage is told, equal bodies share a copy, nothing stays behind, ranges end where they must.

use std::time::Duration;

use bytes::Bytes;
use metamcp_core::{
    error::StoreErrorKind,
    id::TenantId,
    result::{ByteRange, ResultMeta, ResultStore as _},
    time::Clock as _,
};
use object_store::{ObjectStoreExt as _, path::Path};

use super::world::{World, in_every_place, is_gone, key, meta, prune, put, read};

in_every_place! {
    a_body_with_other_bytes_is_corrupt
    a_body_that_was_cut_is_corrupt_in_every_part
    a_body_that_is_missing_is_corrupt
    a_damaged_body_that_is_put_again_in_another_length_is_whole
    equal_bodies_of_a_tenant_share_a_copy_until_the_last_is_deleted
    a_body_put_again_for_good_does_not_expire_and_leaves_nothing_when_deleted
    nothing_is_left_of_results_that_expired
    what_is_deleted_early_is_removed_early
    a_removed_body_stays_for_the_grace_and_comes_back_as_a_copy_of_its_own
    objects_of_others_are_left_alone
    ranges_end_where_the_body_does
    a_prune_takes_up_where_its_bound_left_it
}

async fn a_body_with_other_bytes_is_corrupt(world: World) {
    let store = world.store();
    let pointer = put(&*store, "0123456789", None).await;
    world.damage(b"012345678x").await;
    assert_eq!(read(&*store, &pointer).await.unwrap_err().kind(), StoreErrorKind::Corrupt);
    let all = Some(ByteRange { start: 0, len: 100 });
    assert_eq!(store.get(&pointer, all).await.unwrap_err().kind(), StoreErrorKind::Corrupt, "all of it as a part");
}

async fn a_body_that_was_cut_is_corrupt_in_every_part(world: World) {
    let store = world.store();
    let pointer = put(&*store, "0123456789", None).await;
    for cut in [b"01234".as_slice(), b"", b"0123456789+"] {
        world.damage(cut).await;
        assert_eq!(read(&*store, &pointer).await.unwrap_err().kind(), StoreErrorKind::Corrupt);
        for (start, len) in [(0, 3), (3, 4), (8, 1)] {
            let refused = store.get(&pointer, Some(ByteRange { start, len })).await.unwrap_err();
            assert_eq!(refused.kind(), StoreErrorKind::Corrupt, "{len} bytes from {start} of {cut:?}: {refused}");
        }
    }
}

async fn a_body_that_is_missing_is_corrupt(world: World) {
    let store = world.store();
    let pointer = put(&*store, "0123456789", None).await;
    world.raw.delete(&world.copies().await[0]).await.unwrap();
    let refused = read(&*store, &pointer).await.unwrap_err();
    assert_eq!(refused.kind(), StoreErrorKind::Corrupt);
    assert!(refused.to_string().contains("missing"), "{refused}");
    let again = put(&*store, "0123456789", None).await;
    assert_eq!(read(&*store, &again).await.unwrap(), "0123456789", "it can be put again");
}

async fn a_damaged_body_that_is_put_again_in_another_length_is_whole(world: World) {
    let store = world.store();
    let pointer = put(&*store, "0123456789", None).await;
    world.damage(b"01234").await;
    let other = store.put(key(2), Bytes::from_static(b"0123456789"), meta(None)).await.unwrap();
    assert_eq!(read(&*store, &other).await.unwrap(), "0123456789");
    assert_eq!(read(&*store, &pointer).await.unwrap_err().kind(), StoreErrorKind::Corrupt);
}

async fn equal_bodies_of_a_tenant_share_a_copy_until_the_last_is_deleted(world: World) {
    let store = world.store();
    let (one, two) = (put(&*store, "the same", None).await, put(&*store, "the same", None).await);
    let tenant = TenantId::new("..").unwrap();
    let other = ResultMeta { tenant, ..meta(None) };
    let other = store.put(key(1), Bytes::from_static(b"the same"), other).await.unwrap();
    assert_eq!(world.copies().await.len(), 2, "one for each tenant");
    store.delete(&one).await.unwrap();
    world.settle(&*store).await;
    assert_eq!(read(&*store, &two).await.unwrap(), "the same");
    assert_eq!(world.copies().await.len(), 2);
    store.delete(&two).await.unwrap();
    world.settle(&*store).await;
    assert_eq!(world.copies().await.len(), 1);
    assert_eq!(read(&*store, &other).await.unwrap(), "the same");
    store.delete(&other).await.unwrap();
    world.settle(&*store).await;
    assert_eq!(world.objects().await, []);
}

async fn a_body_put_again_for_good_does_not_expire_and_leaves_nothing_when_deleted(world: World) {
    let store = world.store();
    let soon = world.clock.now() + Duration::from_secs(10);
    let body = Bytes::from_static(b"body");
    for (expires_at, media_type) in [(Some(soon), "a/a"), (None, "b/b"), (None, "c/c")] {
        let meta = ResultMeta { media_type: media_type.to_owned(), ..meta(expires_at) };
        let pointer = store.put(key(5), body.clone(), meta).await.unwrap();
        assert_eq!(store.get(&pointer, None).await.unwrap().media_type, media_type);
        if expires_at.is_none() {
            world.settle(&*store).await;
            assert_eq!(read(&*store, &pointer).await.unwrap(), body);
            assert_eq!(world.objects().await.len(), 2, "a copy and a reference");
        }
    }
    let pointer = store.put(key(5), body, meta(None)).await.unwrap();
    store.delete(&pointer).await.unwrap();
    world.settle(&*store).await;
    assert_eq!(world.objects().await, []);
}

async fn nothing_is_left_of_results_that_expired(world: World) {
    let store = world.store();
    let soon = world.clock.now() + Duration::from_secs(10);
    let mut pointers = Vec::new();
    for body in ["a", "b", "a", ""] {
        pointers.push(put(&*store, body, Some(soon)).await);
    }
    assert_eq!(prune(&*store, world.clock.now(), 100).await, 0, "nothing is due yet");
    world.clock.advance(Duration::from_secs(11));
    assert_eq!(prune(&*store, world.clock.now(), 100).await, 4);
    for pointer in &pointers {
        assert!(is_gone(&*store, pointer).await);
    }
    world.settle(&*store).await;
    assert_eq!(world.objects().await, []);
}

async fn what_is_deleted_early_is_removed_early(world: World) {
    let store = world.store();
    let late = world.clock.now() + Duration::from_secs(7 * 24 * 3_600);
    let pointers = [put(&*store, "kept for a week", Some(late)).await, put(&*store, "kept for good", None).await];
    for pointer in &pointers {
        store.delete(pointer).await.unwrap();
        assert!(is_gone(&*store, pointer).await);
    }
    world.settle(&*store).await;
    assert_eq!(world.copies().await, [], "no body waits for its week to end");
    world.clock.set(late);
    world.settle(&*store).await;
    assert_eq!(world.objects().await, []);
}

async fn a_removed_body_stays_for_the_grace_and_comes_back_as_a_copy_of_its_own(world: World) {
    let store = world.store();
    let soon = world.clock.now() + Duration::from_secs(10);
    put(&*store, "body", Some(soon)).await;
    world.clock.advance(Duration::from_secs(11));
    assert_eq!(prune(&*store, world.clock.now(), 100).await, 1);
    assert_eq!(prune(&*store, world.clock.now(), 100).await, 0);
    assert_eq!(world.copies().await.len(), 1, "it is only closed");
    let again = put(&*store, "body", None).await;
    assert_eq!(world.copies().await.len(), 2, "nobody refers to a closed copy");
    world.settle(&*store).await;
    assert_eq!(world.copies().await.len(), 1);
    assert_eq!(read(&*store, &again).await.unwrap(), "body");
}

async fn objects_of_others_are_left_alone(world: World) {
    let store = world.store();
    let root = if matches!(world.place, metamcp_mcp_adapters::store::objects::ObjectPlace::S3(_)) {
        Path::from("team/results")
    } else {
        Path::default()
    };
    let pointer = put(&*store, "body", Some(world.clock.now())).await;
    let copies = world.copies().await[0].as_ref().rsplit_once('/').unwrap().0.to_owned();
    let mut foreign = vec![Path::from("README.md"), Path::from(format!("{copies}/notes.txt"))];
    for name in ["due/000001/000001440/notes.txt", "due/today/notes.txt", "due/notes.txt", "results/notes.txt"] {
        foreign.push(name.split('/').fold(root.clone(), |path, part| path.join(part)));
    }
    for path in &foreign {
        world.raw.put(path, b"not ours".as_slice().into()).await.unwrap();
    }
    world.clock.advance(Duration::from_secs(1));
    assert_eq!(prune(&*store, world.clock.now(), 100).await, 1);
    world.settle(&*store).await;
    assert!(is_gone(&*store, &pointer).await);
    let mut left: Vec<Path> = world.objects().await.into_iter().map(|object| object.location).collect();
    left.sort();
    foreign.sort();
    assert_eq!(left, foreign);
}

async fn ranges_end_where_the_body_does(world: World) {
    let store = world.store();
    let whole: Bytes = (0..100_000_u32).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
    let pointer = store.put(key(1), whole.clone(), meta(None)).await.unwrap();
    let total = whole.len() as u64;
    for (start, len) in [
        (0, 1),
        (0, total),
        (0, total + 1),
        (0, u64::MAX),
        (1, total - 1),
        (1, u64::MAX),
        (total - 1, 1),
        (total - 1, 2),
        (total, 0),
        (total, 1),
        (total, u64::MAX),
        (5, 0),
    ] {
        let part = store.get(&pointer, Some(ByteRange { start, len })).await.unwrap();
        let end = start.saturating_add(len).min(total);
        assert!(part.bytes == whole.slice(start as usize..end as usize), "{len} bytes from {start}");
        assert_eq!((part.total, part.media_type.as_str()), (total, "text/plain"));
    }
    for start in [total + 1, u64::MAX] {
        let refused = store.get(&pointer, Some(ByteRange { start, len: 0 })).await.unwrap_err();
        assert_eq!(refused.kind(), StoreErrorKind::Invalid);
    }
    let empty = store.put(key(2), Bytes::new(), meta(None)).await.unwrap();
    for len in [0, 1, u64::MAX] {
        assert_eq!(store.get(&empty, Some(ByteRange { start: 0, len })).await.unwrap().bytes, "");
    }
}

async fn a_prune_takes_up_where_its_bound_left_it(world: World) {
    let store = world.store();
    let expiry = world.clock.now();
    for job in 0..20 {
        store.put(key(job), Bytes::from(format!("body {}", job % 7)), meta(Some(expiry))).await.unwrap();
    }
    world.clock.advance(Duration::from_secs(1));
    let mut removed = Vec::new();
    for _ in 0..4 {
        removed.push(prune(&*store, world.clock.now(), 6).await);
    }
    assert_eq!(removed, [6, 6, 6, 2]);
    world.settle(&*store).await;
    assert_eq!(world.objects().await, []);
}
