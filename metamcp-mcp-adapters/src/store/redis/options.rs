//! How the store uses a Redis: where it is, what it calls its keys, how long it waits, and what it may lose.

use std::{fmt, path::PathBuf, time::Duration};

use metamcp_core::error::StoreResult;

use super::{
    address::{Address, Host, Kind, Login, Secret},
    error::invalid,
};

/// Connections of the pool unless the options say otherwise. Few are enough, as each serves all callers at once, and more were measured to be
/// slower below some hundred callers; the second is there so that not all stand behind one large answer.
pub const POOL_SIZE: u32 = 2;
/// Most connections of the pool.
pub const POOL_SIZE_MAX: u32 = 64;
/// How long one step of connecting may take unless the options say otherwise, in milliseconds.
pub const CONNECT_MS: u64 = 2_000;
/// How long an answer may take unless the options say otherwise, in milliseconds.
pub const RESPONSE_MS: u64 = 2_000;
/// How long replicas have to confirm a write unless the options say otherwise, in milliseconds.
pub const WAIT_MS: u64 = 500;
/// Longest of these times, in milliseconds.
pub const TIME_MS_MAX: u64 = 60_000;
/// Most replicas that a write can be made to wait for.
pub const WAIT_REPLICAS_MAX: u8 = 16;
/// Longest namespace, in bytes.
pub const NAMESPACE_BYTES_MAX: usize = 64;
/// The namespace unless the options say otherwise.
const NAMESPACE: &str = "metamcp";

/// The parameters an address may have, for errors.
const PARAMETERS: &str = "allow_lossy, ca, connect_ms, master, namespace, pool, response_ms, sentinel_password, sentinel_user, wait_ms, \
                          wait_replicas";

/// How the store uses a Redis.
///
/// An address says it all:
/// ```text
/// redis://[[user]:password@]host[:6379][/database]       one server
/// redis-sentinel://[…@]s1[:26379],s2,s3[/database]?master=NAME   whoever the sentinels call master
/// redis-cluster://[…@]n1[:6379],n2,n3                    a cluster, found by any of its nodes
/// rediss://…  rediss-sentinel://…  rediss-cluster://…    the same with TLS, ?ca=FILE for an authority of your own
/// ```
/// Parameters: `namespace`, `pool` (connections), `connect_ms`, `response_ms`, `wait_replicas`, `wait_ms`, `allow_lossy=true`, `ca`,
/// `master`, and `sentinel_user` and `sentinel_password` for sentinels that ask for them. The login of the address is for the servers.
///
/// No password is shown by `Debug`, `Display` or an error.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RedisOptions {
    /// Prefix of all keys, and their hash tag: all keys of a namespace are in one slot of a cluster. Letters, digits, `.`, `_` and `-`;
    /// at most [`NAMESPACE_BYTES_MAX`].
    pub namespace: String,
    /// Connections, 1 to [`POOL_SIZE_MAX`]. Each serves many callers at once.
    pub pool_size: u32,
    /// How long one step of connecting may take, 1 ms to [`TIME_MS_MAX`]. To ask a sentinel, to ask a server for its part, and to connect
    /// to it are three.
    pub connect_timeout: Duration,
    /// How long an answer may take, 1 ms to [`TIME_MS_MAX`].
    pub response_timeout: Duration,
    /// Use a server that is set up to lose data.
    pub allow_lossy: bool,
    /// So many replicas must confirm what is to be durable, 0 to [`WAIT_REPLICAS_MAX`]; with fewer the write fails, though it was done.
    pub wait_replicas: u8,
    /// How long they have for it, 1 ms up to less than `response_timeout`.
    pub wait_timeout: Duration,
    /// A file of PEM certificates to trust with TLS instead of the system's.
    pub ca: Option<PathBuf>,
    pub(super) kind: Kind,
    pub(super) tls: bool,
    pub(super) login: Login,
    pub(super) sentinel_login: Login,
    /// The name by which sentinels know the master.
    pub(super) master: Option<String>,
    pub(super) hosts: Vec<Host>,
    pub(super) database: i64,
}

impl fmt::Display for RedisOptions {
    /// Where the data is, without who logs in and how.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tls = if self.tls { "s" } else { "" };
        let kind = match self.kind {
            Kind::Standalone => "",
            Kind::Sentinel => "-sentinel",
            Kind::Cluster => "-cluster",
        };
        let hosts: Vec<String> = self.hosts.iter().map(ToString::to_string).collect();
        write!(f, "redis{tls}{kind}://{}/{}", hosts.join(","), self.database)
    }
}

impl RedisOptions {
    /// Options as an address tells them.
    ///
    /// # Errors
    /// `Invalid`, with what to write instead, where the address is wrong or has a parameter that there is not.
    pub fn parse(url: &str) -> StoreResult<Self> {
        let address = Address::parse(url)?;
        let mut options = Self {
            namespace: NAMESPACE.to_owned(),
            pool_size: POOL_SIZE,
            connect_timeout: Duration::from_millis(CONNECT_MS),
            response_timeout: Duration::from_millis(RESPONSE_MS),
            allow_lossy: false,
            wait_replicas: 0,
            wait_timeout: Duration::from_millis(WAIT_MS),
            ca: None,
            kind: address.kind,
            tls: address.tls,
            login: address.login,
            sentinel_login: Login::default(),
            master: None,
            hosts: address.hosts,
            database: address.database,
        };
        for (name, value) in address.parameters {
            options.set(&name, value)?;
        }
        options.check()?;
        Ok(options)
    }

    fn set(&mut self, name: &str, value: String) -> StoreResult<()> {
        match name {
            "allow_lossy" => self.allow_lossy = parameter(name, &value, "true or false")?,
            "ca" => self.ca = Some(value.into()),
            "connect_ms" => self.connect_timeout = Duration::from_millis(parameter(name, &value, "milliseconds")?),
            "master" => self.master = Some(value),
            "namespace" => self.namespace = value,
            "pool" => self.pool_size = parameter(name, &value, "a number of connections")?,
            "response_ms" => self.response_timeout = Duration::from_millis(parameter(name, &value, "milliseconds")?),
            "sentinel_password" => self.sentinel_login.password = Some(Secret::new(value)),
            "sentinel_user" => self.sentinel_login.username = Some(value),
            "wait_ms" => self.wait_timeout = Duration::from_millis(parameter(name, &value, "milliseconds")?),
            "wait_replicas" => self.wait_replicas = parameter(name, &value, "a number of replicas")?,
            // What is no name may be the end of a password with a raw `?`.
            _ if !name.chars().all(|c| c.is_ascii_alphabetic() || c == '_') => {
                return Err(invalid(format!("what follows `?` must be parameters; there are {PARAMETERS}")));
            }
            _ => return Err(invalid(format!("there is no parameter `{name}`; there are {PARAMETERS}"))),
        }
        Ok(())
    }

    /// Checks what callers may have set.
    ///
    /// # Errors
    /// `Invalid` where a bound is not kept or two options do not go together.
    pub(super) fn check(&self) -> StoreResult<()> {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let times = Duration::from_millis(1)..=Duration::from_millis(TIME_MS_MAX);
        let sentinel = self.kind == Kind::Sentinel;
        let refusals = [
            (
                self.namespace.is_empty()
                    || self.namespace.len() > NAMESPACE_BYTES_MAX
                    || !self.namespace.chars().all(fits),
                format!("a namespace is 1 to {NAMESPACE_BYTES_MAX} letters, digits, `.`, `_` or `-`"),
            ),
            (
                !(1..=POOL_SIZE_MAX).contains(&self.pool_size),
                format!(
                    "a pool has 1 to {POOL_SIZE_MAX} connections; few are enough, each serves many callers at once"
                ),
            ),
            (
                ![self.connect_timeout, self.response_timeout, self.wait_timeout]
                    .iter()
                    .all(|time| times.contains(time)),
                format!("connect_ms, response_ms and wait_ms are 1 to {TIME_MS_MAX}"),
            ),
            (self.wait_replicas > WAIT_REPLICAS_MAX, format!("a write waits for at most {WAIT_REPLICAS_MAX} replicas")),
            (
                self.wait_replicas > 0 && self.wait_timeout >= self.response_timeout,
                "wait_ms must be less than response_ms: the wait for replicas is part of the answer's time".to_owned(),
            ),
            (
                self.ca.is_some() && !self.tls,
                "`ca` is for TLS: write rediss://, rediss-sentinel:// or rediss-cluster://".to_owned(),
            ),
            (
                sentinel != self.master.as_ref().is_some_and(|name| !name.is_empty()),
                "redis-sentinel:// needs `?master=NAME`, the name the sentinels monitor, and no other scheme has it"
                    .to_owned(),
            ),
            (
                !sentinel && self.sentinel_login != Login::default(),
                "`sentinel_user` and `sentinel_password` are for redis-sentinel:// alone".to_owned(),
            ),
            (
                self.sentinel_login.username.is_some() && self.sentinel_login.password.is_none(),
                "`sentinel_user` needs `sentinel_password`".to_owned(),
            ),
        ];
        refusals.into_iter().find(|(wrong, _)| *wrong).map_or(Ok(()), |(_, why)| Err(invalid(why)))
    }

    /// What every key begins with, `{namespace}`: the braces make it the hash tag, so that one script may use all keys of a namespace.
    #[must_use]
    pub fn tag(&self) -> String {
        format!("{{{}}}", self.namespace)
    }

    /// How long connecting as a whole may take.
    pub(super) fn connect_time(&self) -> Duration {
        match self.kind {
            Kind::Standalone => self.connect_timeout,
            // Asks a sentinel or any node, asks the server for its part, connects.
            Kind::Sentinel | Kind::Cluster => self.connect_timeout * 3,
        }
    }
}

fn parameter<T: std::str::FromStr>(name: &str, value: &str, what: &str) -> StoreResult<T> {
    value.parse().map_err(|_| invalid(format!("`{name}` is {what}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(url: &str) -> String {
        RedisOptions::parse(url).expect_err(url).to_string()
    }

    #[test]
    fn every_form_is_understood() {
        for (url, shown) in [
            ("redis://localhost", "redis://localhost:6379/0"),
            ("redis://h:7000/3", "redis://h:7000/3"),
            ("rediss://me:pw@h/?ca=%2Fca.pem", "rediss://h:6379/0"),
            ("redis://[::1]:7000", "redis://[::1]:7000/0"),
            ("redis-sentinel://a,b:9,c/2?master=m", "redis-sentinel://a:26379,b:9,c:26379/2"),
            ("rediss-sentinel://a?master=m&sentinel_password=x", "rediss-sentinel://a:26379/0"),
            ("redis-cluster://a:1,b", "redis-cluster://a:1,b:6379/0"),
            ("rediss-cluster://a", "rediss-cluster://a:6379/0"),
        ] {
            assert_eq!(RedisOptions::parse(url).expect(url).to_string(), shown);
        }
    }

    #[test]
    fn parameters_are_taken_and_unknown_ones_refused_with_those_there_are() {
        let url =
            "redis://h?namespace=a.b&pool=2&connect_ms=5&response_ms=700&wait_replicas=1&wait_ms=20&allow_lossy=true";
        let options = RedisOptions::parse(url).expect("good");
        assert_eq!((options.tag().as_str(), options.pool_size, options.wait_replicas), ("{a.b}", 2, 1));
        assert_eq!((options.connect_timeout.as_millis(), options.response_timeout.as_millis()), (5, 700));
        assert!(options.allow_lossy && options.wait_timeout.as_millis() == 20);
        assert!(refused("redis://h?timeout=5").contains("no parameter `timeout`; there are allow_lossy, ca,"));
    }

    #[test]
    fn secrets_are_decoded_and_never_shown() {
        let options = RedisOptions::parse("redis://me:s3%40cret%2F@h").expect("good");
        let password = options.login.password.as_ref().map(Secret::expose);
        assert_eq!((options.login.username.as_deref(), password), (Some("me"), Some("s3@cret/")));
        let raw = RedisOptions::parse("redis-sentinel://:s3@cret@h?master=m&sentinel_password=s3cond").expect("good");
        assert_eq!(raw.login.password.as_ref().map(Secret::expose), Some("s3@cret"));
        for shown in [format!("{options:?} {options}"), format!("{raw:?} {raw}")] {
            assert!(!shown.contains("s3"), "{shown}");
        }
        for wrong in [
            "redis://u:s3c/ret@h",
            "redis://u:s3c?ret@h",
            "redis://u:1?s3c@h",
            "redis://u:s3c#ret@h:x",
            "redis://u:%ff@h",
            "s3cret@h",
        ] {
            assert!(!refused(wrong).contains("s3c"), "{}", refused(wrong));
        }
    }

    #[test]
    fn what_does_not_go_together_is_refused_with_what_to_write() {
        for (url, words) in [
            ("postgres://h", "the scheme must be redis"),
            ("redis://", "a host is"),
            ("redis://h:0", "a host is"),
            ("redis://a,b", "redis-sentinel:// or redis-cluster://"),
            ("redis://me@h", "a user name needs a password"),
            ("redis://h/x", "number of the database"),
            ("redis-cluster://h/1", "database 0 only"),
            ("redis-sentinel://h", "needs `?master=NAME`"),
            ("redis://h?master=m", "no other scheme has it"),
            ("redis://h?ca=x", "write rediss://"),
            ("redis://h?sentinel_password=x", "redis-sentinel:// alone"),
            ("redis://h?namespace={a}", "a namespace is 1 to 64"),
            ("redis://h?pool=0", "1 to 64 connections"),
            ("redis://h?pool=many", "`pool` is a number of connections"),
            ("redis://h?response_ms=0", "are 1 to 60000"),
            ("redis://h?wait_replicas=1&wait_ms=2000", "less than response_ms"),
        ] {
            assert!(refused(url).contains(words), "{url}: {}", refused(url));
        }
    }
}
