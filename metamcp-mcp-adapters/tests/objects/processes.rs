//! Several real processes on one place: two that prune while a third puts the same bodies. Their keys come from the environment.

use std::{
    io::Read as _,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use metamcp_core::{
    pointer::{Digest, ResultPointer},
    result::ResultStore as _,
    time::{Clock as _, SystemClock},
};
use metamcp_mcp_adapters::store::objects::{ObjectOptions, ObjectPlace, ObjectResultStore};

use super::world::{World, in_every_place, is_gone, key, meta, prune, read};

const PLACE: &str = "METAMCP_TEST_PLACE";
const EXPIRED: u64 = 60;
const BODIES: u64 = 7;
const PUTS: u64 = 60;
/// Prunes of a process at least; each removes at most 50.
const ROUNDS_MIN: u32 = 5;

in_every_place! {
    two_processes_prune_while_a_third_puts_the_same_bodies
}

/// Not a test: what a pruning process does, until its input ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "run by the test of two processes"]
async fn pruner() {
    let place: ObjectPlace = std::env::var(PLACE).unwrap().parse().unwrap();
    let mut options = ObjectOptions::default();
    options.grace = Duration::ZERO;
    let clock = Arc::new(SystemClock::default());
    let store = ObjectResultStore::open(&place, clock.clone(), &options).unwrap();
    store.check().await.unwrap();
    let input_ends = tokio::task::spawn_blocking(|| std::io::stdin().read_to_string(&mut String::new()));
    let mut rounds = 0;
    while !input_ends.is_finished() || rounds < ROUNDS_MIN {
        // As if it were later, so that what is put off is due at once.
        prune(&store, clock.now() + Duration::from_secs(300), 50).await;
        rounds += 1;
    }
}

fn start(world: &World) -> Child {
    let place = match &world.place {
        ObjectPlace::S3(s3) => {
            let endpoint = s3.endpoint.as_ref().unwrap();
            format!("s3://{}/{}?endpoint={endpoint}", s3.bucket, s3.prefix)
        }
        directory => directory.to_string(),
    };
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "processes::pruner", "--ignored"])
        .env(PLACE, place)
        .env("AWS_ACCESS_KEY_ID", "metamcp-test")
        .env("AWS_SECRET_ACCESS_KEY", "metamcp-test-secret")
        .env("AWS_REGION", "us-east-1")
        .stdin(Stdio::piped())
        .spawn()
        .unwrap()
}

async fn two_processes_prune_while_a_third_puts_the_same_bodies(world: World) {
    let world = world.without_grace();
    let store = world.store();
    let body = |number: u64| Bytes::from(format!("body {}", number % BODIES));
    let (past, late) = (world.clock.now(), world.clock.now() + Duration::from_secs(24 * 3_600));
    for number in 0..EXPIRED {
        store.put(key(number), body(number), meta(Some(past))).await.unwrap();
    }
    let mut pruners = [start(&world), start(&world)];
    let mut pointers = Vec::new();
    for number in 0..PUTS {
        let pointer = store.put(key(1_000 + number), body(number), meta(Some(late))).await.unwrap();
        assert_eq!(read(&*store, &pointer).await.unwrap(), body(number));
        if number < 3 * BODIES {
            // All bodies lose their last reference, some while another is being put.
            store.delete(&pointer).await.unwrap();
        } else {
            pointers.push((pointer, body(number)));
        }
    }
    for pruner in &mut pruners {
        drop(pruner.stdin.take());
        assert!(pruner.wait().unwrap().success());
    }
    for (pointer, body) in &pointers {
        assert_eq!(read(&*store, pointer).await.unwrap(), body);
    }
    for number in 0..EXPIRED {
        let (job, digest) = (key(number).job, Digest::of(&body(number)));
        let gone = ResultPointer { job, digest, ..pointers[0].0.clone() };
        assert!(is_gone(&*store, &gone).await, "result {number} is still there");
    }
    world.clock.set(late + Duration::from_secs(1));
    assert_eq!(usize::from(prune(&*store, world.clock.now(), 1_000).await), pointers.len());
    world.settle(&*store).await;
    assert_eq!(world.objects().await, []);
}
