//! A restart while every server is down: what they offered is known.

use serde_json::json;

use crate::{
    client::{Client, failure, text},
    fleet::ready,
    support::{Home, own},
    until,
    upstream::{self, Era},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_lists_are_there_before_any_server_is() {
    let home = Home::new();
    upstream::config(&home, "", &own("restart"), &[("old", Era::Legacy), ("new", Era::Modern)]);
    let tools = {
        let serve = upstream::serve(&home);
        ready(&serve.url, &["old__note", "new__note"]).await;
        let tools = Client::modern(&serve.url).tools().await;
        serve.signal("TERM");
        assert_eq!(serve.wait().0, Some(0));
        tools
    };
    // One hangs, the other ends at once.
    home.file("old.down", "hang");
    home.file("new.down", "end");
    let started = upstream::trace(&home).len();
    let serve = upstream::serve(&home);
    let clients = [Client::modern(&serve.url), Client::legacy(&serve.url).await];
    for client in &clients {
        assert_eq!(client.tools().await, tools);
        assert!(client.server("old").await["state"] != "ready" && client.server("new").await["state"] != "ready");
    }
    assert_eq!(upstream::trace(&home).len(), started, "nobody serves");
    let told =
        until("why is told", async || clients[0].server("new").await["reason"].as_str().map(str::to_owned)).await;
    assert!(told.contains("new"), "{told}");
    let refused = clients[0].call("new__note", json!({ "key": "early" })).await;
    assert_eq!(failure(&refused), "not_delivered", "{refused}");

    std::fs::remove_file(home.path().join("old.down")).expect("it is there");
    std::fs::remove_file(home.path().join("new.down")).expect("it is there");
    for server in ["old", "new"] {
        until("it serves again", async || {
            let told = clients[1].call(&format!("{server}__look"), json!({ "key": "late" })).await;
            (text(&told) == "look late").then_some(())
        })
        .await;
    }
    assert_eq!(upstream::count(&home, "note", "early"), 0);
}
