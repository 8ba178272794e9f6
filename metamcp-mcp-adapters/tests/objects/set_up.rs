//! What is told of a place that is set up wrongly, is not there or refuses us; and what is never told.

use std::{fs, path::Path, sync::Arc, time::Duration};

use metamcp_core::{
    error::StoreErrorKind,
    result::ResultStore as _,
    time::{Clock as _, SystemClock},
};
use metamcp_mcp_adapters::{
    store::objects::{ObjectOptions, ObjectPlace, ObjectResultStore, S3Keys, S3Place},
    testing::{S3Server, free_port},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::world::{World, clock, in_every_place, keys, meta, prune, put, read};

in_every_place! {
    a_place_that_is_right_passes_the_check_and_keeps_nothing_of_it
    a_store_shows_its_place_and_no_secret
}

async fn a_place_that_is_right_passes_the_check_and_keeps_nothing_of_it(world: World) {
    world.store().check().await.unwrap();
    assert_eq!(world.objects().await, []);
}

async fn a_store_shows_its_place_and_no_secret(world: World) {
    let shown = format!("{:?} {:?}", world.store(), world.place);
    assert!(!shown.contains("metamcp-test"), "{shown}");
    assert!(shown.contains(world.place.to_string().trim_start_matches('/')), "{shown}");
}

fn open(place: &ObjectPlace) -> Result<ObjectResultStore, metamcp_core::error::StoreError> {
    ObjectResultStore::open(place, Arc::new(SystemClock::default()), &ObjectOptions::default())
}

fn s3(server: &S3Server) -> S3Place {
    let place = format!("s3://{}?endpoint={}", server.bucket(), server.endpoint());
    let ObjectPlace::S3(place) = place.parse().unwrap() else { panic!("not S3") };
    place.with_keys(keys(server))
}

#[tokio::test]
async fn a_bucket_that_is_not_there_is_named_and_trying_again_is_not_advised() {
    let server = S3Server::start().await.unwrap();
    let store = open(&ObjectPlace::S3(S3Place { bucket: "nobodys".to_owned(), ..s3(&server) })).unwrap();
    let pointer = {
        let known = open(&ObjectPlace::S3(s3(&server))).unwrap();
        put(&known, "body", None).await
    };
    let put = store.put(super::world::key(1), "body".into(), meta(None)).await.map(drop);
    for refused in [store.check().await, put, store.get(&pointer, None).await.map(drop), store.delete(&pointer).await] {
        let refused = refused.unwrap_err();
        assert_eq!(refused.kind(), StoreErrorKind::Invalid, "{refused}");
        assert!(refused.to_string().contains("there is no bucket at s3://nobodys"), "{refused}");
    }
}

/// From now on the server checks who asks; it knows nobody.
async fn check_keys(server: &S3Server) {
    let mut socket = TcpStream::connect(("127.0.0.1", server.port())).await.unwrap();
    let ask =
        "POST /moto-api/reset-auth HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nConnection: close\r\n\r\n0";
    socket.write_all(ask.as_bytes()).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn keys_that_are_refused_are_told_as_that_and_never_shown() {
    let server = S3Server::start().await.unwrap();
    let secret = S3Keys {
        access_key_id: "nobodys-key".to_owned(),
        secret_access_key: "hunter2".to_owned(),
        session_token: None,
    };
    let store = open(&ObjectPlace::S3(s3(&server).with_keys(secret))).unwrap();
    let pointer = put(&store, "body", None).await;
    check_keys(&server).await;
    let put = store.put(super::world::key(1), "body".into(), meta(None)).await.map(drop);
    let prune = store.prune(SystemClock::default().now(), 1.try_into().unwrap()).await.map(drop);
    for refused in [store.check().await, put, store.get(&pointer, None).await.map(drop), prune] {
        let refused = refused.unwrap_err();
        assert_eq!(refused.kind(), StoreErrorKind::Invalid, "{refused}");
        assert!(refused.to_string().contains("refuses the keys") && refused.to_string().contains("AWS_ACCESS_KEY_ID"));
        assert!(!format!("{refused:?}").contains("hunter2"), "{refused:?}");
    }
}

#[tokio::test]
async fn a_server_that_is_down_or_silent_may_be_asked_again_and_then_answers() {
    let mut server = S3Server::start().await.unwrap();
    let store = open(&ObjectPlace::S3(s3(&server))).unwrap();
    let pointer = put(&store, "body", None).await;
    server.kill().await.unwrap();
    let put_refused = store.put(super::world::key(1), "body".into(), meta(None)).await.map(drop);
    for refused in [store.check().await, put_refused, store.get(&pointer, None).await.map(drop)] {
        let refused = refused.unwrap_err();
        assert!(refused.is_retryable() && refused.to_string().contains(&server.endpoint()), "{refused}");
    }
    server.restart().await.unwrap();
    let again = put(&store, "body", None).await;
    assert_eq!(read(&store, &again).await.unwrap(), "body");
}

#[tokio::test]
async fn results_do_not_travel_without_tls_unless_that_is_asked_for() {
    let far = "s3://bucket?endpoint=http://192.0.2.1:9000";
    let refused = open(&far.parse().unwrap()).unwrap_err();
    assert_eq!(refused.kind(), StoreErrorKind::Invalid);
    assert!(refused.to_string().contains("allow_http=true"), "{refused}");
    for fine in ["&allow_http=true", ""] {
        let endpoint = if fine.is_empty() { "https://192.0.2.1:9000" } else { "http://192.0.2.1:9000" };
        open(&format!("s3://bucket?endpoint={endpoint}{fine}").parse().unwrap()).unwrap();
    }
    for here in ["localhost", "127.0.0.1", "[::1]"] {
        open(&format!("s3://bucket?endpoint=http://{here}:{}", free_port().unwrap()).parse().unwrap()).unwrap();
    }
}

#[tokio::test]
async fn a_directory_is_made_for_its_owner_alone_and_a_file_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("new/results");
    let store = open(&path.to_str().unwrap().parse().unwrap()).unwrap();
    store.check().await.unwrap();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
    }
    let file = dir.path().join("file");
    fs::write(&file, "no directory").unwrap();
    let refused = open(&ObjectPlace::Directory(file.clone())).unwrap_err();
    assert!(refused.is_retryable() && refused.to_string().contains(file.to_str().unwrap()), "{refused}");
}

fn files(dir: &Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

fn half(dir: &Path) -> usize {
    files(dir).iter().filter(|file| file.to_string_lossy().contains('#')).count()
}

#[tokio::test]
async fn half_written_files_of_a_crash_are_removed_and_their_folders_too() {
    let dir = tempfile::tempdir().unwrap();
    let clock = clock();
    let place = ObjectPlace::Directory(dir.path().to_owned());
    let store = ObjectResultStore::open(&place, Arc::clone(&clock) as _, &ObjectOptions::default()).unwrap();
    put(&store, "body", Some(clock.now())).await;
    for file in files(dir.path()) {
        fs::write(format!("{}#1", file.display()), "half").unwrap();
        fs::write(file.with_file_name("0123456789abcdef#2"), "half").unwrap();
    }
    let young = half(dir.path());
    clock.advance(Duration::from_secs(1));
    prune(&store, clock.now(), 10).await;
    assert_eq!(half(dir.path()), young, "a young one may be somebody's who is at it");
    for _ in 0..5 {
        clock.advance(Duration::from_secs(2 * 3_600));
        prune(&store, clock.now(), 10).await;
    }
    assert_eq!(files(dir.path()), Vec::<std::path::PathBuf>::new());
}
