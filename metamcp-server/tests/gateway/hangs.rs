//! One of several servers hangs: the others are served as before, and people can read which one it is.

use serde_json::json;

use crate::{
    client::{Client, text},
    fleet::ready,
    support::{Home, own, signal},
    until,
    upstream::{self, Era},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_hangs_costs_only_its_own_callers() {
    let home = Home::new();
    let servers = [("stuck", Era::Legacy), ("old", Era::Legacy), ("new", Era::Modern)];
    upstream::config(&home, "[gateway]\nrefresh_s = 1\ngrace_s = 2\n", &own("hangs"), &servers);
    let serve = upstream::serve(&home);
    ready(&serve.url, &["stuck__note", "old__note", "new__note"]).await;
    let clients = [Client::modern(&serve.url), Client::legacy(&serve.url).await];
    let stuck = upstream::who(&home, "start", "stuck")[0];
    signal(stuck, "STOP");
    let waiting = Client::legacy(&serve.url).await;
    let waiting = tokio::spawn(async move { waiting.call("stuck__note", json!({ "key": "late" })).await });

    let told = until("it is told that it hangs", async || {
        for (number, client) in clients.iter().enumerate() {
            let tools = client.tools().await;
            assert!(tools.contains(&"old__note".to_owned()) && tools.contains(&"new__note".to_owned()), "{tools:?}");
            for server in ["old", "new"] {
                let called = client.call(&format!("{server}__look"), json!({ "key": number.to_string() })).await;
                assert_eq!(text(&called), format!("look {number}"));
            }
        }
        let told = clients[0].server("stuck").await;
        told["reason"].is_string().then_some(told)
    })
    .await;
    assert!(told["reason"].as_str().is_some_and(|reason| reason.contains("stuck")), "{told}");
    assert_eq!(clients[0].server("old").await["reason"], json!(null));

    signal(stuck, "CONT");
    assert_eq!(text(&waiting.await.expect("no panic")), "note late", "who waited gets its answer");
    until("it is told that it is well", async || clients[0].server("stuck").await["reason"].is_null().then_some(()))
        .await;
    assert_eq!(upstream::count(&home, "note", "late"), 1);
}
