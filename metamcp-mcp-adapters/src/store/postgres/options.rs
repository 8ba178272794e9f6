//! How the store uses PostgreSQL: where it is, what its schema is called, how long it waits, and whether it may lose anything.

use std::time::Duration;

use metamcp_core::error::StoreResult;

use super::{
    address::{SERVER_PARAMETERS, Server},
    error::invalid,
};

/// The schema that holds every table unless the address says otherwise.
pub const SCHEMA: &str = "metamcp";
/// Longest name of a schema, in bytes: more PostgreSQL would cut off.
pub const SCHEMA_BYTES_MAX: usize = 63;
/// Connections of one pool unless the address says otherwise.
pub const POOL_SIZE: u32 = 8;
/// Most connections of one pool.
pub const POOL_SIZE_MAX: u32 = 500;
/// How long to wait for a connection unless the address says otherwise, in milliseconds.
pub const CONNECT_MS: u32 = 5_000;
/// Longest wait for a connection, in milliseconds.
pub const CONNECT_MS_MAX: u32 = 60_000;
/// How long a statement may run unless the address says otherwise, in milliseconds.
pub const STATEMENT_MS: u32 = 10_000;
/// The longest a statement may be allowed to run, in milliseconds.
pub const STATEMENT_MS_MAX: u32 = 600_000;

/// Parameters that hold for the store as a whole.
const STORE_PARAMETERS: [&str; 5] = ["allow_lossy", "connect_ms", "pool", "schema", "statement_ms"];

/// Where PostgreSQL is and how it is used.
///
/// The address is `postgres://user:password@host:port/database?parameter=value`, with several hosts after each other by commas when any
/// of them may be the primary. What is not a letter or a digit in user and password is written as `%XX`. Parameters:
///
/// | parameter | meaning |
/// |---|---|
/// | `allow_lossy` | `true`: run on a server that is set to lose data (`fsync=off`) |
/// | `application_name` | shown in `pg_stat_activity`; `metamcp` |
/// | `channel_binding` | `disable`, `prefer`, `require`; `prefer` |
/// | `connect_ms` | milliseconds to wait for a connection, 1 to [`CONNECT_MS_MAX`]; [`CONNECT_MS`] |
/// | `host` | a host or the folder of a Unix socket, when the address names none |
/// | `pool` | connections, 1 to [`POOL_SIZE_MAX`]; [`POOL_SIZE`] |
/// | `schema` | holds every table; [`SCHEMA`] |
/// | `sslmode` | `disable`, or `require`: TLS with a certificate that is checked, name included; see below |
/// | `sslrootcert` | PEM file of the authorities that are trusted in place of the system's |
/// | `statement_ms` | milliseconds a statement may run, 1 to [`STATEMENT_MS_MAX`]; [`STATEMENT_MS`] |
///
/// Without `sslmode` a server on this machine (a loopback address, a Unix socket) is spoken to without TLS, any other one with it. There
/// is no TLS that takes any certificate: it would protect from nobody who can be in between. `verify-full` means the same as `require`.
///
/// No password is shown by `Debug` or an error. The connection must be a direct one: LISTEN and prepared statements do not survive a pooler that shares sessions by transaction.
#[derive(Debug, Clone)]
pub struct PostgresOptions {
    pub(super) write: Server,
    pub(super) read: Option<Server>,
    pub(super) schema: String,
    pub(super) pool_size: u32,
    pub(super) connect_timeout: Duration,
    pub(super) statement_timeout: Duration,
    pub(super) allow_lossy: bool,
}

impl PostgresOptions {
    /// Reads an address.
    ///
    /// # Errors
    /// `Invalid`, saying which part is wrong and what is allowed; never with a password in it.
    pub fn parse(url: &str) -> StoreResult<Self> {
        let (write, rest) = Server::parse(url)?;
        let mut options = Self {
            write,
            read: None,
            schema: SCHEMA.to_owned(),
            pool_size: POOL_SIZE,
            connect_timeout: Duration::from_millis(CONNECT_MS.into()),
            statement_timeout: Duration::from_millis(STATEMENT_MS.into()),
            allow_lossy: false,
        };
        rest.iter().try_for_each(|(name, value)| options.set(name, value))?;
        Ok(options)
    }

    /// With a replica for reads that may be stale: lists and counts, never leases. Takes only the parameters that say how to reach it.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub fn with_read_url(mut self, url: &str) -> StoreResult<Self> {
        let (read, rest) = Server::parse(url)?;
        if let Some((name, _)) = rest.first() {
            let allowed = SERVER_PARAMETERS.join(", ");
            return Err(invalid(format!(
                "parameter `{name}` does not belong to the address of a replica; allowed: {allowed}"
            )));
        }
        self.read = Some(read);
        Ok(self)
    }

    /// Whether a server that is set to lose data may be used.
    #[must_use]
    pub const fn with_allow_lossy(mut self, allow: bool) -> Self {
        self.allow_lossy = allow;
        self
    }

    fn set(&mut self, name: &str, value: &str) -> StoreResult<()> {
        match name {
            "allow_lossy" => {
                self.allow_lossy =
                    value.parse().map_err(|_| invalid(format!("allow_lossy is `{value}`, say true or false")))?;
            }
            "connect_ms" => self.connect_timeout = milliseconds(name, value, CONNECT_MS_MAX)?,
            "pool" => self.pool_size = number(name, value, POOL_SIZE_MAX)?,
            "schema" => self.schema = schema(value)?,
            "statement_ms" => self.statement_timeout = milliseconds(name, value, STATEMENT_MS_MAX)?,
            _ => {
                let mut allowed = [SERVER_PARAMETERS, STORE_PARAMETERS].concat();
                allowed.sort_unstable();
                let allowed = allowed.join(", ");
                return Err(invalid(format!("unknown parameter `{name}` in a postgres address; allowed: {allowed}")));
            }
        }
        Ok(())
    }
}

fn number(name: &str, value: &str, max: u32) -> StoreResult<u32> {
    let number = value.parse().ok().filter(|number| (1..=max).contains(number));
    number.ok_or_else(|| invalid(format!("{name} is `{value}`, say a number from 1 to {max}")))
}

fn milliseconds(name: &str, value: &str, max: u32) -> StoreResult<Duration> {
    number(name, value, max).map(|ms| Duration::from_millis(ms.into()))
}

/// A name that needs no quotes, so that it can stand in a statement as it is.
fn schema(value: &str) -> StoreResult<String> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let starts_well = value.starts_with(|c: char| c.is_ascii_lowercase() || c == '_') && !value.starts_with("pg_");
    if starts_well && value.len() <= SCHEMA_BYTES_MAX && value.chars().all(plain) {
        return Ok(value.to_owned());
    }
    let rule = "1 to 63 of a-z 0-9 _, not beginning with a digit or pg_";
    Err(invalid(format!("schema is `{value}`, say a name of {rule}")))
}

#[cfg(test)]
mod tests {
    use tokio_postgres::config::SslMode;

    use super::*;

    fn refused(url: &str) -> String {
        PostgresOptions::parse(url).unwrap_err().to_string()
    }

    #[test]
    fn an_address_is_read_as_a_whole() {
        let options = PostgresOptions::parse(
            "postgresql://me:s3%40cret@db1:6432,db2/jobs?schema=fleet&pool=3&connect_ms=2000&statement_ms=1500\
             &application_name=a%20b&sslrootcert=/etc/ca.pem&allow_lossy=true",
        )
        .unwrap();
        assert_eq!(options.write.place, "db1:6432,db2:5432/jobs");
        assert_eq!(options.write.config.get_password(), Some(&b"s3@cret"[..]));
        assert_eq!(options.write.config.get_ssl_mode(), SslMode::Require);
        assert_eq!(options.write.config.get_application_name(), Some("a b"));
        assert_eq!(options.write.ca_file.as_deref(), Some(std::path::Path::new("/etc/ca.pem")));
        assert_eq!((options.schema.as_str(), options.pool_size, options.allow_lossy), ("fleet", 3, true));
        assert_eq!(options.connect_timeout, Duration::from_secs(2));
        assert_eq!(options.statement_timeout, Duration::from_millis(1_500));
    }

    #[test]
    fn tls_is_off_only_on_this_machine_or_by_word() {
        for (url, expected) in [
            ("postgres://u@localhost/d", SslMode::Disable),
            ("postgres://u@127.0.0.1:1/d", SslMode::Disable),
            ("postgres://u@[::1]/d", SslMode::Disable),
            ("postgres://u@/d?host=/run/postgresql", SslMode::Disable),
            ("postgres://u@%2Frun%2Fpostgresql/d", SslMode::Disable),
            ("postgres://u@db/d", SslMode::Require),
            ("postgres://u@localhost,db/d", SslMode::Require),
            ("postgres://u@db/d?sslmode=disable", SslMode::Disable),
            ("postgres://u@localhost/d?sslmode=verify-full", SslMode::Require),
        ] {
            assert_eq!(PostgresOptions::parse(url).unwrap().write.config.get_ssl_mode(), expected, "{url}");
        }
    }

    #[test]
    fn what_is_wrong_is_named_with_what_is_allowed() {
        for (url, words) in [
            ("mysql://h/d", "postgres://"),
            ("postgres:///d", "names no host"),
            (
                "postgres://h/d?pol=3",
                "unknown parameter `pol` in a postgres address; allowed: allow_lossy, application_name",
            ),
            ("postgres://h/d?pool=0", "from 1 to 500"),
            ("postgres://h/d?connect_ms=x", "from 1 to 60000"),
            ("postgres://h/d?sslmode=prefer", "say require"),
            ("postgres://h/d?schema=Fleet;drop", "a-z 0-9 _"),
            ("postgres://h/d?schema=pg_x", "pg_"),
            ("postgres://h/d?allow_lossy=maybe", "true or false"),
            ("postgres://h/d?host=x", "twice"),
            ("postgres://localhost/d?sslrootcert=/ca", "sslmode=require"),
            ("postgres://h/d?schema", "no value"),
        ] {
            let said = refused(url);
            assert!(said.contains(words), "{url}: {said}");
        }
        let options = PostgresOptions::parse("postgres://h/d").unwrap();
        let said = options.with_read_url("postgres://r/d?schema=x").unwrap_err().to_string();
        assert!(said.contains("`schema` does not belong"), "{said}");
    }

    #[test]
    fn a_password_is_shown_nowhere() {
        let options = PostgresOptions::parse("postgres://me:s3cret@db/d").unwrap();
        let options = options.with_read_url("postgres://me:s3cret@replica/d").unwrap();
        assert!(!format!("{options:?}").contains("s3cret"));
        for url in [
            "postgres://me:s3cret@x@h/d",
            "postgres://me:x/s3cret@h/d",
            "postgres://me:x?s3cret@h/d",
            "postgres://me:x#s3cret@h/d",
            "postgres://me:s3cret@h:port/d",
            "postgres://me:s3cret",
            "postgres://h/d?password=s3cret",
            "me:s3cret@h/d",
        ] {
            let error = PostgresOptions::parse(url).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("s3cret"), "{url}: {error:?}");
        }
    }
}
