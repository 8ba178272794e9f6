//! What one master tells of itself, judged: whether it can be used, what it may lose, and what an operator should see to.

use std::collections::HashMap;

use metamcp_core::{error::StoreErrorKind, queue::Durability};

use super::{address::Kind, options::RedisOptions};

/// The oldest version that has what the scripts use: flags of scripts, and `CONFIG GET` of several settings.
const VERSION_MIN: (u32, u32) = (7, 0);
/// The settings that are looked at.
pub(super) const SETTINGS: [&str; 4] = ["appendfsync", "appendonly", "maxmemory-policy", "min-replicas-to-write"];

/// Why a master is not used, and what to do about it.
pub(super) type Refusal = (StoreErrorKind, String);

fn refuse(kind: StoreErrorKind, why: impl Into<String>) -> Result<(), Refusal> {
    Err((kind, why.into()))
}

/// What one master told of itself; `None` where it was not allowed to tell.
#[derive(Debug, Clone, Default)]
pub(super) struct Master {
    /// The answer to `INFO`.
    pub(super) info: Option<HashMap<String, String>>,
    /// The answer to `CONFIG GET` of [`SETTINGS`].
    pub(super) settings: Option<HashMap<String, String>>,
}

/// When what was written is brought to the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Sync {
    Never,
    LeftToSystem,
    EverySecond,
    Always,
}

/// Lines of `name:value`.
pub(super) fn parse_info(text: &str) -> HashMap<String, String> {
    let pairs = text.lines().filter_map(|line| line.trim_end().split_once(':'));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

impl Master {
    fn info(&self, name: &str) -> Option<&str> {
        self.info.as_ref()?.get(name).map(String::as_str)
    }

    fn setting(&self, name: &str) -> Option<&str> {
        self.settings.as_ref()?.get(name).map(String::as_str)
    }

    fn number(&self, name: &str) -> u64 {
        self.info(name).and_then(|text| text.parse().ok()).unwrap_or_default()
    }

    fn policy(&self) -> Option<&str> {
        self.info("maxmemory_policy").or_else(|| self.setting("maxmemory-policy"))
    }

    fn sync(&self) -> Option<Sync> {
        let appends = match self.info("aof_enabled") {
            Some(flag) => flag == "1",
            None => self.setting("appendonly")? == "yes",
        };
        Some(match self.setting("appendfsync") {
            _ if !appends => Sync::Never,
            Some("always") => Sync::Always,
            Some("no") => Sync::LeftToSystem,
            // Not told: the default.
            _ => Sync::EverySecond,
        })
    }

    /// How far a write is safe once it is answered.
    pub(super) fn durability(&self) -> Durability {
        match self.sync() {
            Some(Sync::Always) => Durability::LocalFsync,
            Some(Sync::EverySecond | Sync::LeftToSystem) => Durability::OsBuffered,
            Some(Sync::Never) | None => Durability::Memory,
        }
    }

    /// What it is and what it may lose.
    pub(super) fn detail(&self, options: &RedisOptions) -> String {
        let replicas = self.number("connected_slaves");
        let version = self.info("redis_version").map_or_else(String::new, |version| format!(" {version}"));
        format!(
            "Redis{version}, {}, {replicas} {}: {}; {}",
            self.policy().unwrap_or("unknown maxmemory-policy"),
            if replicas == 1 { "replica" } else { "replicas" },
            loss_of_power(self.sync()),
            loss_of_master(replicas, options),
        )
    }

    /// Whether it can be used, and keeps what it is given.
    pub(super) fn check(&self, options: &RedisOptions) -> Result<(), Refusal> {
        self.check_serves(options)?;
        match self.losses().into_iter().next() {
            Some(loss) if !options.allow_lossy => {
                refuse(StoreErrorKind::Invalid, format!("{loss}; or accept the loss of jobs with allow_lossy=true"))
            }
            _ => Ok(()),
        }
    }

    /// Whether it can be used at all.
    fn check_serves(&self, options: &RedisOptions) -> Result<(), Refusal> {
        if let Some(version) = self.info("redis_version") {
            let mut numbers = version.split('.').map_while(|number| number.parse().ok());
            if (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) < VERSION_MIN {
                let (major, minor) = VERSION_MIN;
                return refuse(
                    StoreErrorKind::Invalid,
                    format!("this is Redis {version}; use {major}.{minor} or newer"),
                );
            }
        }
        if self.info("loading").is_some_and(|flag| flag != "0") {
            return refuse(
                StoreErrorKind::Unavailable,
                "Redis is reading its data after a start; wait until it is done",
            );
        }
        if self.info("role") == Some("slave") {
            return refuse(
                StoreErrorKind::Unavailable,
                "this Redis is a replica and takes no writes; give the master's address, or redis-sentinel://",
            );
        }
        if options.kind == Kind::Standalone && self.info("redis_mode") == Some("cluster") {
            return refuse(
                StoreErrorKind::Invalid,
                "this Redis is part of a cluster; write the address as redis-cluster://",
            );
        }
        let replicas = self.number("connected_slaves");
        if self.info.is_some() && replicas < options.wait_replicas.into() {
            return refuse(
                StoreErrorKind::Unavailable,
                format!(
                    "writes are to wait for {} replicas and there are {replicas}; start the replicas, or ask for fewer with wait_replicas",
                    options.wait_replicas
                ),
            );
        }
        Ok(())
    }

    /// How it is set up to lose what it was given.
    fn losses(&self) -> Vec<String> {
        let mut losses = Vec::new();
        if let Some(policy) = self.policy().filter(|policy| *policy != "noeviction") {
            losses.push(format!(
                "maxmemory-policy is {policy}, so Redis throws jobs away when memory is short; set maxmemory-policy noeviction"
            ));
        }
        if self.sync() == Some(Sync::Never) {
            losses.push(
                "appendonly is no, so a restart loses all jobs since the last snapshot; set appendonly yes, and appendfsync everysec or \
                 always"
                    .to_owned(),
            );
        }
        losses
    }

    /// What an operator should see to.
    pub(super) fn warnings(&self, options: &RedisOptions) -> Vec<String> {
        let mut warnings = self.losses();
        let mut warn = |holds: bool, words: &str| {
            if holds {
                warnings.push(words.to_owned());
            }
        };
        warn(
            self.info.is_none(),
            "the user may not use INFO, so version, memory policy and durability are unknown; allow it: ACL SETUSER NAME +info",
        );
        warn(
            self.settings.is_none(),
            "the user may not use CONFIG GET, so appendfsync is unknown and taken for everysec; allow it: ACL SETUSER NAME +config|get",
        );
        warn(
            self.sync() == Some(Sync::LeftToSystem),
            "appendfsync is no, so a power loss costs what the system has not written yet, often 30 s of it; set appendfsync everysec",
        );
        warn(
            self.info("maxmemory") == Some("0"),
            "maxmemory is 0, so Redis grows until the system ends it; set maxmemory to what the machine can spare",
        );
        warn(
            self.info("aof_last_write_status").is_some_and(|status| status != "ok"),
            "the last write of the append-only file failed; free space on the disk of Redis and look into its log",
        );
        warn(
            self.number("connected_slaves") > 0
                && options.wait_replicas == 0
                && self.setting("min-replicas-to-write").is_none_or(|count| count == "0"),
            "a failover loses what replicas have not received yet; set wait_replicas=1 to wait for one, or min-replicas-to-write 1 so that a \
             master that was cut off stops taking writes",
        );
        warnings
    }
}

/// What is lost with the power, in words.
const fn loss_of_power(sync: Option<Sync>) -> &'static str {
    match sync {
        Some(Sync::Always) => "a power loss loses nothing that was answered (appendfsync always)",
        Some(Sync::EverySecond) => {
            "a killed server may lose what it answered during a slow sync, up to 2 s; a power loss about 1 s of writes, 2 s when the disk is slow (appendfsync everysec)"
        }
        Some(Sync::LeftToSystem) => {
            "a killed server loses nothing, a power loss what the system has not written yet (appendfsync no)"
        }
        Some(Sync::Never) => "a restart loses everything since the last snapshot (appendonly no)",
        None => "what a restart loses is unknown",
    }
}

/// What is lost with the master, in words.
fn loss_of_master(replicas: u64, options: &RedisOptions) -> String {
    match options.wait_replicas {
        0 if replicas == 0 => "no replica can take over".to_owned(),
        0 => "a failover loses what the replicas have not received yet".to_owned(),
        wanted => format!(
            "a failover loses nothing that was answered, as long as one of the {wanted} replicas that confirmed it takes over"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn master(info: &str, settings: &[(&str, &str)]) -> Master {
        let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Master { info: Some(parse_info(info)), settings: Some(settings.collect()) }
    }

    const GOOD: &str = "redis_version:7.0.15\r\nredis_mode:standalone\r\nrole:master\r\nloading:0\r\nconnected_slaves:0\r\n\
                        maxmemory:1000\r\nmaxmemory_policy:noeviction\r\naof_enabled:1\r\n";

    fn options(parameters: &str) -> RedisOptions {
        RedisOptions::parse(&format!("redis://h?{parameters}")).expect("good")
    }

    #[test]
    fn a_server_that_cannot_serve_is_refused_with_what_to_do() {
        for (line, kind, words) in [
            ("redis_version:6.2.14", StoreErrorKind::Invalid, "use 7.0 or newer"),
            ("role:slave", StoreErrorKind::Unavailable, "is a replica"),
            ("loading:1", StoreErrorKind::Unavailable, "reading its data"),
            ("redis_mode:cluster", StoreErrorKind::Invalid, "redis-cluster://"),
            ("maxmemory_policy:volatile-lru", StoreErrorKind::Invalid, "set maxmemory-policy noeviction; or accept"),
            ("aof_enabled:0", StoreErrorKind::Invalid, "set appendonly yes"),
        ] {
            let (refused, why) = master(&format!("{GOOD}{line}\r\n"), &[]).check(&options("")).expect_err(line);
            assert!(refused == kind && why.contains(words), "{line}: {why}");
        }
        let (_, why) = master(GOOD, &[]).check(&options("wait_replicas=1")).expect_err("no replica");
        assert!(why.contains("start the replicas"), "{why}");
    }

    #[test]
    fn a_lossy_server_is_used_when_that_is_allowed_and_warned_of() {
        let lossy = master(&format!("{GOOD}aof_enabled:0\r\nmaxmemory_policy:allkeys-lru\r\n"), &[]);
        let options = options("allow_lossy=true");
        assert_eq!(lossy.check(&options), Ok(()));
        assert_eq!((lossy.warnings(&options).len(), lossy.durability()), (2, Durability::Memory));
    }

    #[test]
    fn what_is_lost_follows_from_the_settings() {
        for (fsync, durability, words) in [
            ("always", Durability::LocalFsync, "loses nothing that was answered"),
            ("everysec", Durability::OsBuffered, "about 1 s of writes"),
            ("no", Durability::OsBuffered, "has not written yet"),
        ] {
            let master = master(GOOD, &[("appendfsync", fsync)]);
            assert_eq!(master.durability(), durability);
            assert!(master.detail(&options("")).contains(words), "{}", master.detail(&options("")));
        }
        assert!(master(GOOD, &[("appendfsync", "always")]).warnings(&options("")).is_empty());
    }

    #[test]
    fn replicas_are_spoken_of() {
        let replicated = format!("{GOOD}connected_slaves:2\r\n");
        let plain = master(&replicated, &[("min-replicas-to-write", "0")]);
        assert!(plain.warnings(&options(""))[0].contains("wait_replicas=1"));
        let waits = options("wait_replicas=1");
        assert!(plain.warnings(&waits).is_empty() && plain.check(&waits).is_ok());
        assert!(plain.detail(&waits).contains("a failover loses nothing"));
    }

    #[test]
    fn a_server_that_may_not_tell_is_used_and_warned_of() {
        let silent = Master::default();
        let options = options("");
        assert_eq!((silent.check(&options), silent.durability()), (Ok(()), Durability::Memory));
        let warnings = silent.warnings(&options);
        assert!(warnings[0].contains("+info") && warnings[1].contains("+config|get"), "{warnings:?}");
    }
}
