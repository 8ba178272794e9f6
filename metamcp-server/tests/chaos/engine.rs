//! The store under test as a real server, with what happens to such servers: a restart, a crash, a failover, cut connections.

use std::{io, time::Duration};

use metamcp_mcp_adapters::testing::{Append, PostgresServer, PostgresSetup, RedisServer, RedisSetup, Sentinels};
use rand::{RngExt as _, rngs::StdRng};

/// Longest pause between the end of a server and its next start, in milliseconds.
const DOWN_MS_MAX: u64 = 1_500;

/// Which store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Redis,
    Sentinel,
    Postgres,
}

impl Kind {
    /// The store of this name.
    pub(crate) fn named(name: &str) -> Self {
        match name {
            "redis" => Self::Redis,
            "sentinel" => Self::Sentinel,
            "postgres" => Self::Postgres,
            _ => panic!("METAMCP_CHAOS_STORE must be redis, sentinel or postgres, not `{name}`"),
        }
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Redis => "redis",
            Self::Sentinel => "sentinel",
            Self::Postgres => "postgres",
        }
    }
}

/// A running store.
#[derive(Debug)]
pub(crate) enum Engine {
    /// One Redis, and whether it syncs at each command.
    Redis(RedisServer, Append),
    Sentinel(Sentinels),
    Postgres(PostgresServer),
}

impl Engine {
    /// Starts a store. The seed decides how a Redis writes its file, and with it what it must survive.
    pub(crate) async fn start(kind: Kind, rng: &mut StdRng) -> io::Result<Self> {
        Ok(match kind {
            Kind::Redis => {
                let append = if rng.random_bool(0.5) { Append::EverySecond } else { Append::Always };
                Self::Redis(RedisServer::start(RedisSetup { append, ..RedisSetup::default() }).await?, append)
            }
            Kind::Sentinel => Self::Sentinel(Sentinels::start(RedisSetup::default()).await?),
            Kind::Postgres => {
                Self::Postgres(PostgresServer::start(PostgresSetup { fsync: true, ..PostgresSetup::default() }).await?)
            }
        })
    }

    /// The port behind which a proxy can stand. Sentinels tell addresses of their own, so there is none.
    pub(crate) fn port(&self) -> Option<u16> {
        match self {
            Self::Redis(server, _) => Some(server.port()),
            Self::Sentinel(_) => None,
            Self::Postgres(server) => Some(server.port()),
        }
    }

    /// Its address, seen through a proxy at this port if there is one.
    pub(crate) fn url(&self, proxy: Option<u16>) -> String {
        let through = |url: String, port: u16| match proxy {
            Some(proxy) => url.replacen(&format!(":{port}/"), &format!(":{proxy}/"), 1),
            None => url,
        };
        match self {
            Self::Redis(server, _) => through(server.url(), server.port()),
            // Both replicas: either may be promoted. From a death to the return of the dead no write is confirmed, and nobody else dies.
            Self::Sentinel(sentinels) => format!("{}&wait_replicas=2", sentinels.url()),
            Self::Postgres(server) => through(server.url(), server.port()),
        }
    }

    /// Something goes wrong with the server, and is over when this returns. Answers what it was.
    pub(crate) async fn suffer(&mut self, rng: &mut StdRng) -> io::Result<&'static str> {
        let down = Duration::from_millis(rng.random_range(0..DOWN_MS_MAX));
        match self {
            // Redis answers before it writes while a sync of the second before is under way: a crash may then lose what was acknowledged, and
            // only a server that syncs at each command must survive it whole.
            Self::Redis(server, Append::Always) => {
                server.kill().await?;
                tokio::time::sleep(down).await;
                server.restart().await?;
                Ok("redis killed")
            }
            Self::Redis(server, _) => {
                server.stop().await?;
                tokio::time::sleep(down).await;
                server.restart().await?;
                Ok("redis restarted")
            }
            Self::Sentinel(sentinels) if rng.random_bool(0.6) => {
                let dead = sentinels.kill_master().await?;
                sentinels.successor(dead).await?;
                tokio::time::sleep(down).await;
                sentinels.revive().await?;
                Ok("master killed")
            }
            Self::Sentinel(sentinels) => {
                for server in sentinels.servers() {
                    server.cli(&["CLIENT", "KILL", "TYPE", "normal"]).await?;
                }
                Ok("clients of all servers cut")
            }
            Self::Postgres(server) if rng.random_bool(0.5) => {
                server.kill().await?;
                tokio::time::sleep(down).await;
                server.restart().await?;
                Ok("postgres killed")
            }
            Self::Postgres(server) if rng.random_bool(0.5) => {
                server.restart().await?;
                Ok("postgres restarted")
            }
            Self::Postgres(server) => {
                let others = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                              WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'";
                server.psql(others).await?;
                Ok("postgres sessions ended")
            }
        }
    }
}
