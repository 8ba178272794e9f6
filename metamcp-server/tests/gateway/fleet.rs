//! Three replicas on one Redis, each with servers of its own, behind a balancer.

use metamcp_mcp_adapters::testing::{RedisServer, RedisSetup};

use crate::{
    balancer::Balancer,
    client::Client,
    support::{Home, Serve, own},
    until,
    upstream::{self, Era},
};

/// How many replicas there are.
pub(crate) const REPLICAS: usize = 3;
/// Short leases and quick retries: what takes minutes elsewhere is to happen here in seconds.
const SETTINGS: &str = "[jobs]\nlease_s = 3\nbackoff_base_ms = 50\nbackoff_max_s = 1\n[gateway]\nupgrade_after_s = 1\n";

pub(crate) struct Fleet {
    pub(crate) home: Home,
    /// By the order in which the balancer goes round.
    pub(crate) replicas: Vec<Serve>,
    balancer: Balancer,
    _redis: RedisServer,
}

impl Fleet {
    /// Starts all of it, and waits until every replica knows the tools of its servers, `old` and `new`.
    pub(crate) async fn start() -> Self {
        let redis = RedisServer::start(RedisSetup::default()).await.expect("Redis starts");
        let home = Home::new();
        upstream::config(&home, SETTINGS, &own("fleet"), &[("old", Era::Legacy), ("new", Era::Modern)]);
        let start = |_| {
            let mut command = home.command(["serve", "--listen", "127.0.0.1:0", "--log", "warn", "--config"]);
            Serve::of(command.arg(home.path().join("metamcp.toml")).args(["--store", &redis.url()]))
        };
        let replicas: Vec<Serve> = (0..REPLICAS).map(start).collect();
        for replica in &replicas {
            ready(&replica.url, &["old__note", "new__note"]).await;
        }
        let balancer = Balancer::start(replicas.iter().map(|replica| replica.url.clone()).collect()).await;
        Self { home, replicas, balancer, _redis: redis }
    }

    /// Where clients find all replicas as one.
    pub(crate) fn url(&self) -> &str {
        &self.balancer.url
    }

    /// Where one of them alone is found.
    pub(crate) fn replica(&self, number: usize) -> &str {
        &self.replicas[number].url
    }

    /// How often this was done.
    pub(crate) fn count(&self, tool: &str, key: &str) -> usize {
        upstream::count(&self.home, tool, key)
    }

    /// Waits until a call has begun.
    pub(crate) async fn begun(&self, tool: &str, key: &str) {
        until("the call begins", async || (self.count(tool, key) > 0).then_some(())).await;
    }
}

/// Waits until a gateway lists these tools and their servers are connected.
pub(crate) async fn ready(url: &str, tools: &[&str]) {
    let client = Client::modern(url);
    until("the tools are listed", async || {
        let listed = client.tools().await;
        tools.iter().all(|tool| listed.iter().any(|name| name == tool)).then_some(())
    })
    .await;
    for tool in tools {
        let server = tool.split("__").next().expect("a prefix");
        until("the server is connected", async || (client.server(server).await["state"] == "ready").then_some(()))
            .await;
    }
}
