//! The look at a server before it is used: every master is asked what it is and what it may lose.

use std::collections::{BTreeSet, HashMap};

use metamcp_core::{
    error::{StoreError, StoreResult},
    queue::Durability,
};
use redis::{FromRedisValue, RedisResult, Value};

use super::{
    address::Kind,
    error::{STORE, is_forbidden, store_error, unavailable},
    master::{Master, SETTINGS, parse_info},
    pool::{RedisPool, Share},
};

/// What a Redis really gives.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerReport {
    /// How far a write is safe once it is answered, on the master that gives least.
    pub durability: Durability,
    /// What each master is and what it may lose, in words.
    pub detail: String,
    /// What an operator should see to, in words.
    pub warnings: Vec<String>,
}

impl RedisPool {
    /// Looks whether the server can be used, and what it may lose.
    ///
    /// # Errors
    /// `Invalid` for a server that is too old, or that is set up to lose jobs and the options do not allow that; `Unavailable` for one that
    /// is a replica, is starting, belongs to a cluster that is down, or has fewer replicas than writes are to wait for.
    pub async fn check(&self) -> StoreResult<ServerReport> {
        let mut share = self.share().await?;
        if self.options().kind == Kind::Cluster {
            check_cluster(&mut share).await?;
        }
        let infos: HashMap<String, String> = ask(&mut share, &redis::cmd("INFO")).await?;
        let settings: HashMap<String, HashMap<String, String>> =
            ask(&mut share, redis::cmd("CONFIG").arg("GET").arg(&SETTINGS)).await?;
        let mut addresses: BTreeSet<&str> = infos.keys().chain(settings.keys()).map(String::as_str).collect();
        if addresses.is_empty() {
            // Nobody may tell anything: that is told too.
            addresses.insert("");
        }
        let mut report =
            ServerReport { durability: Durability::LocalFsync, detail: String::new(), warnings: Vec::new() };
        for address in addresses {
            let info = infos.get(address).map(|text| parse_info(text));
            self.add(&mut report, address, &Master { info, settings: settings.get(address).cloned() })?;
        }
        Ok(report)
    }

    fn add(&self, report: &mut ServerReport, address: &str, master: &Master) -> StoreResult<()> {
        let named = |words: String| if address.is_empty() { words } else { format!("{address}: {words}") };
        let options = self.options();
        master.check(options).map_err(|(kind, why)| StoreError::new(kind, STORE, named(why)))?;
        if rank(master.durability()) < rank(report.durability) {
            report.durability = master.durability();
        }
        if !report.detail.is_empty() {
            report.detail.push_str(" | ");
        }
        report.detail.push_str(&named(master.detail(options)));
        report.warnings.extend(master.warnings(options).into_iter().map(named));
        Ok(())
    }
}

/// A chain is as strong as its weakest link.
const fn rank(durability: Durability) -> u8 {
    match durability {
        Durability::Memory => 0,
        Durability::OsBuffered => 1,
        _ => 2,
    }
}

/// Asks all masters, by address; none answers where that is forbidden.
async fn ask<T: FromRedisValue>(share: &mut Share<'_>, command: &redis::Cmd) -> StoreResult<HashMap<String, T>> {
    let understood = |answers: Vec<(String, Value)>| {
        let pairs = answers.into_iter().map(|(address, value)| Ok((address, redis::from_redis_value(value)?)));
        pairs.collect::<RedisResult<_>>()
    };
    match share.ask_masters(command).await.and_then(understood) {
        Err(error) if is_forbidden(&error) => Ok(HashMap::new()),
        answers => answers.map_err(store_error),
    }
}

async fn check_cluster(share: &mut Share<'_>) -> StoreResult<()> {
    let state: RedisResult<String> = share.query(redis::cmd("CLUSTER").arg("INFO")).await;
    match state {
        Ok(text) => match parse_info(&text).get("cluster_state").map(String::as_str) {
            Some("ok") => Ok(()),
            state => Err(unavailable(format!(
                "the cluster is {}: a master is missing or slots have no owner; see CLUSTER INFO, start the node or let a replica take over",
                state.unwrap_or("in no known state")
            ))),
        },
        Err(error) if is_forbidden(&error) => Ok(()),
        Err(error) => Err(store_error(error)),
    }
}
