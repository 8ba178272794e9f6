//! One child process of a stdio server behind many clients, and its death in the middle of their calls.

use futures_util::future::join_all;
use serde_json::json;

use crate::{
    client::{Client, failure, text},
    fleet::ready,
    support::{Home, eventually, marked, own, signal},
    until,
    upstream::{self, Era},
};

/// Clients at the same time.
const CLIENTS: usize = 50;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_clients_share_a_child_and_outlive_it() {
    let home = Home::new();
    let mark = own("shared");
    upstream::config(&home, "", &mark, &[("old", Era::Legacy)]);
    let serve = upstream::serve(&home);
    ready(&serve.url, &["old__note"]).await;
    let clients = join_all((0..CLIENTS).map(async |number| match number % 2 {
        0 => Client::modern(&serve.url),
        _ => Client::legacy(&serve.url).await,
    }))
    .await;

    let never = home.path().join("never");
    let calls = join_all(clients.iter().enumerate().map(async |(number, client)| {
        client.call("old__note", json!({ "key": format!("cut{number}"), "until": never })).await
    }));
    let killing = async {
        until("all calls run", async || {
            (0..CLIENTS).all(|number| upstream::count(&home, "note", &format!("cut{number}")) == 1).then_some(())
        })
        .await;
        let children = upstream::who(&home, "start", "old");
        assert_eq!(children.len(), 1, "all share one child");
        signal(children[0], "KILL");
    };
    for (number, told) in tokio::join!(calls, killing).0.iter().enumerate() {
        assert_eq!(failure(told), "outcome_unknown", "{told}");
        assert!(text(told).contains("server `old`") && text(told).contains("may have happened"), "{told}");
        assert_eq!(upstream::count(&home, "note", &format!("cut{number}")), 1, "it is not repeated");
    }

    join_all(clients.iter().enumerate().map(async |(number, client)| {
        let told = client.call("old__note", json!({ "key": format!("next{number}") })).await;
        assert_eq!(text(&told), format!("note next{number}"));
        assert_eq!(upstream::count(&home, "note", &format!("next{number}")), 1);
    }))
    .await;
    assert_eq!(upstream::who(&home, "start", "old").len(), 2, "one child took the place of the dead one");

    serve.signal("TERM");
    let (code, said) = serve.wait();
    assert_eq!(code, Some(0), "{said}");
    eventually("no orphan remains", || marked(&mark).is_empty().then_some(()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_only_reads_is_read_again_from_the_next_child() {
    let home = Home::new();
    upstream::config(&home, "", &own("read"), &[("old", Era::Legacy)]);
    let serve = upstream::serve(&home);
    ready(&serve.url, &["old__look"]).await;
    let (client, gate) = (Client::modern(&serve.url), home.path().join("gate"));
    let call = client.call("old__look", json!({ "key": "page", "until": gate }));
    let killing = async {
        until("the call runs", async || (upstream::count(&home, "look", "page") == 1).then_some(())).await;
        signal(upstream::who(&home, "start", "old")[0], "KILL");
        home.file("gate", "");
    };
    let (told, ()) = tokio::join!(call, killing);
    assert_eq!((text(&told), upstream::count(&home, "look", "page")), ("look page", 2));
}
