//! Takes the address of a Redis apart: scheme, login, hosts, database and parameters. It says where the text is wrong and never repeats a
//! secret of it. What the parameters mean is in [`options`](super::options).

use std::fmt;

use metamcp_core::error::StoreResult;
use percent_encoding::percent_decode_str;

use super::error::invalid;

/// Most hosts an address names.
const HOSTS_MAX: usize = 32;
/// The port of a Redis when none is named.
const PORT: u16 = 6379;
/// The port of a Sentinel when none is named.
const SENTINEL_PORT: u16 = 26379;
/// The schemes there are, for errors.
const SCHEMES: &str = "redis, redis-cluster or redis-sentinel, or with TLS rediss, rediss-cluster or rediss-sentinel";

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Secret(String);

impl Secret {
    pub(super) fn new(text: String) -> Self {
        Self(text)
    }

    /// The text, for those who log in with it.
    pub(super) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// A name and a password; either may be missing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Login {
    pub(super) username: Option<String>,
    pub(super) password: Option<Secret>,
}

/// Where one server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Host {
    pub(super) name: String,
    pub(super) port: u16,
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, port } = self;
        if name.contains(':') { write!(f, "[{name}]:{port}") } else { write!(f, "{name}:{port}") }
    }
}

/// How the servers stand together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// One server.
    Standalone,
    /// Sentinels that know who the master is.
    Sentinel,
    /// Masters that share the keys.
    Cluster,
}

/// The parts of an address. Not to be shown: parameters may be secrets.
pub(super) struct Address {
    pub(super) kind: Kind,
    pub(super) tls: bool,
    pub(super) login: Login,
    pub(super) hosts: Vec<Host>,
    pub(super) database: i64,
    /// The parameters in their order, decoded.
    pub(super) parameters: Vec<(String, String)>,
}

impl Address {
    /// Takes `url` apart.
    ///
    /// # Errors
    /// `Invalid` where it is not an address of a Redis; told without what may be a secret.
    pub(super) fn parse(url: &str) -> StoreResult<Self> {
        let Some((scheme, rest)) = url.split_once("://") else {
            return Err(invalid(format!("an address begins with a scheme and `://`; the scheme is {SCHEMES}")));
        };
        let (tls, kind) = match scheme {
            "redis" => (false, Kind::Standalone),
            "rediss" => (true, Kind::Standalone),
            "redis-sentinel" => (false, Kind::Sentinel),
            "rediss-sentinel" => (true, Kind::Sentinel),
            "redis-cluster" => (false, Kind::Cluster),
            "rediss-cluster" => (true, Kind::Cluster),
            _ => return Err(invalid(format!("the scheme must be {SCHEMES}"))),
        };
        // A raw `/`, `?` or `#` in a password would end up in the host; errors below do not repeat hosts for that reason.
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, hosts) = match authority.rsplit_once('@') {
            Some((login, hosts)) => (parse_login(login)?, hosts),
            None => (Login::default(), authority),
        };
        Ok(Self {
            kind,
            tls,
            login,
            hosts: parse_hosts(hosts, kind)?,
            database: parse_database(path, kind)?,
            parameters: parse_query(query)?,
        })
    }
}

fn decode(text: &str, what: &str) -> StoreResult<String> {
    let decoded = percent_decode_str(text).decode_utf8();
    decoded.map(Into::into).map_err(|_| invalid(format!("{what} is not UTF-8 once its percent signs are decoded")))
}

fn parse_login(text: &str) -> StoreResult<Login> {
    let (username, password) = match text.split_once(':') {
        Some((username, password)) => (username, Some(Secret::new(decode(password, "the password")?))),
        None => (text, None),
    };
    let username = Some(decode(username, "the user name")?).filter(|name| !name.is_empty());
    if username.is_some() && password.is_none() {
        return Err(invalid(
            "a user name needs a password: `user:password@host`; for a password alone write `:password@host`",
        ));
    }
    Ok(Login { username, password })
}

fn parse_hosts(text: &str, kind: Kind) -> StoreResult<Vec<Host>> {
    let port = if kind == Kind::Sentinel { SENTINEL_PORT } else { PORT };
    let hosts = text.split(',').map(|host| parse_host(host, port)).collect::<StoreResult<Vec<_>>>()?;
    match hosts.len() {
        2.. if kind == Kind::Standalone => {
            Err(invalid("redis:// names one host; for several use redis-sentinel:// or redis-cluster://"))
        }
        count if count > HOSTS_MAX => Err(invalid(format!("{count} hosts, name at most {HOSTS_MAX}"))),
        _ => Ok(hosts),
    }
}

fn parse_host(text: &str, default_port: u16) -> StoreResult<Host> {
    let wrong = || {
        invalid(
            "a host is `name`, `name:port` or `[ip6]:port`; write `@`, `/`, `?`, `#` and `%` of a password percent-encoded",
        )
    };
    let (name, port) = match text.strip_prefix('[') {
        Some(ip6) => {
            let (name, port) = ip6.split_once(']').ok_or_else(wrong)?;
            (name, if port.is_empty() { None } else { Some(port.strip_prefix(':').ok_or_else(wrong)?) })
        }
        None => text.split_once(':').map_or((text, None), |(name, port)| (name, Some(port))),
    };
    let port = port.map_or(Ok(default_port), |port| port.parse().map_err(|_| wrong()))?;
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
    if name.is_empty() || port == 0 || !name.chars().all(fits) {
        return Err(wrong());
    }
    Ok(Host { name: name.to_owned(), port })
}

fn parse_database(path: &str, kind: Kind) -> StoreResult<i64> {
    let database = if path.is_empty() { Some(0) } else { path.parse::<u16>().ok() };
    match database {
        Some(0) => Ok(0),
        Some(_) if kind == Kind::Cluster => {
            Err(invalid("a cluster has the database 0 only; leave it out of the address"))
        }
        Some(number) => Ok(number.into()),
        None => Err(invalid("what follows the host is the number of the database, as in redis://host:6379/0")),
    }
}

fn parse_query(text: &str) -> StoreResult<Vec<(String, String)>> {
    let pairs = text.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        Ok((decode(name, "a parameter's name")?, decode(value, "a parameter's value")?))
    });
    pairs.collect()
}
