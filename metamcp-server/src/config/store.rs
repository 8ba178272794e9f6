//! Where jobs and results are kept, as configuration says it. Which adapters that means is decided where they are wired.

use std::{fmt, path::PathBuf};

/// The schemes of stores that many processes share, for errors.
const SHARED_SCHEMES: [&str; 8] = [
    "redis",
    "rediss",
    "redis-sentinel",
    "rediss-sentinel",
    "redis-cluster",
    "rediss-cluster",
    "postgres",
    "postgresql",
];

/// Where jobs, results and events are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreKind {
    /// In files of the data directory; survives a crash and power loss. Belongs to one process at a time.
    Embedded,
    /// In this process only.
    Memory,
    /// In a service that any number of processes share.
    Shared(Address),
}

impl StoreKind {
    /// Reads `embedded:`, `memory:`, an address, or a directory; the latter is answered beside the kind.
    ///
    /// # Errors
    /// What to write, in words.
    pub fn parse(text: &str) -> Result<(Self, Option<PathBuf>), String> {
        let wish = || {
            format!("write embedded:, memory:, a directory such as ./state, or an address that begins with {}", {
                SHARED_SCHEMES.map(|scheme| format!("{scheme}://")).join(", ")
            })
        };
        match text {
            "embedded:" => return Ok((Self::Embedded, None)),
            "memory:" => return Ok((Self::Memory, None)),
            _ => {}
        }
        if let Some((scheme, _)) = text.split_once("://") {
            let path = text.strip_prefix("file://").filter(|path| path.starts_with('/'));
            return match path {
                Some(path) => Ok((Self::Embedded, Some(path.into()))),
                None if SHARED_SCHEMES.contains(&scheme) => Ok((Self::Shared(Address(text.to_owned())), None)),
                None => Err(format!("`{scheme}://` is no store; {}", wish())),
            };
        }
        // A shell expands `~`; here it would be a folder of that name.
        let is_path = !text.starts_with('~')
            && (text.starts_with(['.', '/']) || text.contains(std::path::MAIN_SEPARATOR))
            && !text.contains('@');
        // What is said is not repeated: it may be an address without its slashes, with a password.
        if is_path { Ok((Self::Embedded, Some(text.into()))) } else { Err(format!("that is no store; {}", wish())) }
    }

    /// Whether other processes may work on the same store at the same time.
    #[must_use]
    pub const fn is_shared(&self) -> bool {
        matches!(self, Self::Shared(_))
    }
}

/// The address of a service. What logs in is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Address(String);

impl Address {
    /// The address `text`.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The whole address, with what logs in.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether it is one of PostgreSQL.
    #[must_use]
    pub fn is_postgres(&self) -> bool {
        self.0.starts_with("postgres")
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&shown(&self.0))
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An address without its login and its parameters: either may hold a secret, and a raw `@`, `/` or `?` may stand in a password.
pub(super) fn shown(address: &str) -> String {
    let Some((scheme, rest)) = address.split_once("://") else { return address.to_owned() };
    let (login, place) = rest.rsplit_once('@').map_or(("", rest), |(_, place)| ("…@", place));
    // An `@` after the first `?` may be one of a parameter: then nothing behind it is safe to show.
    if rest.find('?').zip(rest.rfind('@')).is_some_and(|(question, at)| question < at) {
        return format!("{scheme}://…");
    }
    let (place, parameters) = place.split_once('?').map_or((place, ""), |(place, _)| (place, "?…"));
    format!("{scheme}://{login}{place}{parameters}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_read_and_others_are_told_what_to_write() {
        assert_eq!(StoreKind::parse("embedded:"), Ok((StoreKind::Embedded, None)));
        assert_eq!(StoreKind::parse("memory:"), Ok((StoreKind::Memory, None)));
        assert_eq!(StoreKind::parse("./state"), Ok((StoreKind::Embedded, Some("./state".into()))));
        assert_eq!(StoreKind::parse("file:///srv/state"), Ok((StoreKind::Embedded, Some("/srv/state".into()))));
        for url in ["redis://h", "rediss-cluster://a,b", "postgres://u:p@h/db"] {
            assert!(StoreKind::parse(url).unwrap().0.is_shared(), "{url}");
        }
        for wrong in ["redis", "mysql://h", "file://relative", "", "~/state", "redis:me:s3cret@h"] {
            let told = StoreKind::parse(wrong).unwrap_err();
            assert!(told.contains("write embedded:") && !told.contains("s3cret"), "{told}");
        }
    }

    #[test]
    fn a_secret_is_never_shown() {
        for (address, seen) in [
            ("redis://me:s3cret@h:1/0?wait_replicas=1", "redis://…@h:1/0?…"),
            ("postgres://u:a@b/s3cret@h/db", "postgres://…@h/db"),
            ("redis-sentinel://h?sentinel_password=s3cret", "redis-sentinel://h?…"),
            ("redis-sentinel://h?sentinel_password=s3@cret", "redis-sentinel://…"),
        ] {
            let address = Address::new(address);
            assert_eq!((format!("{address}"), format!("{address:?}")), (seen.to_owned(), seen.to_owned()));
        }
    }
}
