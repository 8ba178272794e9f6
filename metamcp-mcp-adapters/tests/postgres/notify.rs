//! Hints between processes: they arrive, they are gathered, and the own process does not wait for them.

use std::{
    future::poll_fn,
    time::{Duration, Instant},
};

use metamcp_mcp_adapters::{
    store::postgres::NOTIFY_GAP_MS,
    testing::{CutProxy, ProxyMode},
};
use tokio::sync::mpsc;
use tokio_postgres::{AsyncMessage, NoTls};

use crate::fixture::{bounded, lane, listens, open, server, with};

/// Hints given at once.
const BURST: usize = 1_000;

#[tokio::test]
async fn ready_jobs_and_events_are_told_to_other_processes_of_the_same_schema() {
    let server = server().await;
    let (one, two) = (open(&server.url()).await, open(&server.url()).await);
    let stranger = open(&with(&server.url(), "schema=other")).await;
    for store in [&one, &two, &stranger] {
        listens(store).await;
    }
    let mut light = two.notifier().waiter(&[lane("light"), lane("gpu")]);
    let mut heavy = two.notifier().waiter(&[lane("heavy")]);
    let mut strange = stranger.notifier().waiter(&[lane("light"), lane("heavy")]);
    let mut events = two.notifier().events();
    events.mark_unchanged();

    one.notifier().ready(&[lane("light")]);
    bounded("the hint", light.woken()).await;
    assert!(!events.has_changed().unwrap());
    one.notifier().news();
    bounded("the news", events.changed()).await.unwrap();
    one.notifier().ready(&[lane("heavy")]);
    bounded("the hint", heavy.woken()).await;
    let more = async { tokio::join!(light.woken(), strange.woken()) };
    assert!(tokio::time::timeout(Duration::from_millis(100), more).await.is_err(), "nothing more was meant for them");
}

#[tokio::test]
async fn the_own_process_is_woken_without_a_round_trip() {
    let mut server = server().await;
    let store = open(&server.url()).await;
    listens(&store).await;
    server.stop().await.unwrap();
    let mut waiter = store.notifier().waiter(&[lane("light")]);
    store.notifier().ready(&[lane("light")]);
    bounded("the wake-up", waiter.woken()).await;
}

#[tokio::test]
async fn what_could_not_be_told_is_told_when_the_connection_is_back() {
    let server = server().await;
    let proxy = CutProxy::start(server.port()).await.unwrap();
    let store = open(&format!("postgres://metamcp@127.0.0.1:{}/postgres", proxy.port())).await;
    listens(&store).await;
    let mut heard = hear(&server.url()).await;
    let mut down = store.notifier().listening();
    proxy.set_mode(ProxyMode::Refuse);
    proxy.cut_all();
    bounded("the loss", down.wait_for(|up| !*up)).await.unwrap();
    store.notifier().ready(&[lane("light")]);
    proxy.set_mode(ProxyMode::Pass);
    let told = bounded("the notification", heard.recv()).await.unwrap();
    assert!(told.ends_with(" light"), "{told}");
}

#[tokio::test]
async fn what_may_not_have_been_told_is_told_again() {
    let server = server().await;
    let proxy = CutProxy::start(server.port()).await.unwrap();
    let store = open(&format!("postgres://metamcp@127.0.0.1:{}/postgres", proxy.port())).await;
    listens(&store).await;
    let mut heard = hear(&server.url()).await;
    proxy.cut_after_request_before_reply();
    store.notifier().ready(&[lane("heavy")]);
    for _ in 0..2 {
        let told = bounded("the notification", heard.recv()).await.unwrap();
        assert!(told.ends_with(" heavy"), "{told}");
    }
    assert_eq!(proxy.replies_lost(), 1);
}

#[tokio::test]
async fn many_hints_at_once_are_few_notifications() {
    let server = server().await;
    let store = open(&server.url()).await;
    listens(&store).await;
    let mut heard = hear(&server.url()).await;
    // One thread runs this test: nothing is sent before the loop is over.
    for n in 0..BURST {
        store.notifier().ready(&[lane(if n % 2 == 0 { "light" } else { "heavy" })]);
        store.notifier().news();
    }
    let told = bounded("the notification", heard.recv()).await.unwrap();
    assert!(told.ends_with(" ! heavy light"), "{told}");
    store.notifier().ready(&[lane("last")]);
    let told = bounded("the notification", heard.recv()).await.unwrap();
    assert!(told.ends_with(" last"), "one notification for all before: {told}");
}

#[tokio::test]
async fn hints_that_keep_coming_are_told_at_a_bounded_rate() {
    let server = server().await;
    let store = open(&server.url()).await;
    listens(&store).await;
    let mut heard = hear(&server.url()).await;
    let begun = Instant::now();
    for _ in 0..50 {
        store.notifier().ready(&[lane("light")]);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    store.notifier().ready(&[lane("last")]);
    let mut count = 1;
    while !bounded("the notification", heard.recv()).await.unwrap().contains("last") {
        count += 1;
    }
    // However slow the machine is, no more than the time that it took allows for.
    let most = begun.elapsed().as_millis() / u128::from(NOTIFY_GAP_MS) + 1;
    assert!(count <= most, "{count} notifications, {most} at most");
}

/// What is notified on the channel, heard by somebody who is no store.
async fn hear(url: &str) -> mpsc::UnboundedReceiver<String> {
    let (client, mut wire) = tokio_postgres::connect(url, NoTls).await.expect("a connection");
    let (tell, heard) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(Ok(message)) = poll_fn(|cx| wire.poll_message(cx)).await {
            if let AsyncMessage::Notification(notification) = message {
                let _ = tell.send(notification.payload().to_owned());
            }
        }
    });
    client.batch_execute("listen metamcp").await.expect("it listens");
    // The session lives as long as its client.
    tokio::spawn(async move {
        let _client = client;
        std::future::pending::<()>().await;
    });
    heard
}
