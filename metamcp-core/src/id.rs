//! Identifiers as types, so that a lane can never stand where a tenant is meant.
//!
//! A [`JobId`] is the one name of a job inside and outside: time-ordered, and unguessable because every id draws fresh randomness
//! from the operating system. Knowing an id is still not a right; every read is authorised.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    entropy::{Entropy, OsEntropy},
    time::Timestamp,
};

/// Longest accepted name of a tenant, subject, server or lane, in bytes.
pub const NAME_BYTES_MAX: usize = 64;

/// A name or an id that does not have the required form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} `{value}` is not valid: {rule}")]
pub struct InvalidName {
    /// Which kind of name was meant.
    pub what: &'static str,
    /// What was given, cut to [`NAME_BYTES_MAX`] bytes.
    pub value: String,
    /// What a valid one looks like.
    pub rule: &'static str,
}

impl InvalidName {
    fn new(what: &'static str, value: &str, rule: &'static str) -> Self {
        Self { what, value: value.chars().take(NAME_BYTES_MAX).collect(), rule }
    }
}

/// A job: UUID version 7 layout, 48 bits of milliseconds and 74 random bits drawn afresh for every id.
///
/// Ids sort by time of creation, so a page of jobs is a range of ids.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct JobId(Uuid);

impl JobId {
    /// The smallest id: before every job.
    pub const MIN: Self = Self(Uuid::nil());
    /// The largest id: after every job.
    pub const MAX: Self = Self(Uuid::max());

    /// A new id for a job made at `now`.
    #[must_use]
    pub fn new(now: Timestamp) -> Self {
        Self::drawn(now, &OsEntropy)
    }

    /// A new id for a job made at `now`, its random bits drawn from `entropy`.
    #[must_use]
    pub fn drawn(now: Timestamp, entropy: &dyn Entropy) -> Self {
        let mut random = [0; 10];
        random[..8].copy_from_slice(&entropy.next_u64().to_be_bytes());
        random[8..].copy_from_slice(&entropy.next_u64().to_be_bytes()[..2]);
        Self(uuid::Builder::from_unix_timestamp_millis(now.as_millis(), &random).into_uuid())
    }

    /// The id as 16 bytes, big endian: byte order is time order.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    /// The id of these 16 bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_hyphenated().fmt(f)
    }
}

impl fmt::Debug for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for JobId {
    type Err = InvalidName;

    fn from_str(s: &str) -> Result<Self, InvalidName> {
        Uuid::try_parse(s)
            .map(Self)
            .map_err(|_| InvalidName::new("job id", s, "a UUID such as 01997f3e-5c1a-7d3e-9c55-0a1b2c3d4e5f"))
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal, $rule:literal, $ok:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(std::sync::Arc<str>);

        impl $name {
            /// Checks the form and makes the name.
            ///
            /// # Errors
            /// When the form is not the documented one.
            pub fn new(value: impl AsRef<str>) -> Result<Self, InvalidName> {
                let value = value.as_ref();
                let ok: fn(char) -> bool = $ok;
                if value.is_empty() || value.len() > NAME_BYTES_MAX || !value.chars().all(ok) {
                    return Err(InvalidName::new($what, value, $rule));
                }
                Ok(Self(value.into()))
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;

            fn from_str(s: &str) -> Result<Self, InvalidName> {
                Self::new(s)
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;

            fn try_from(s: String) -> Result<Self, InvalidName> {
                Self::new(s)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0.as_ref().to_owned()
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    };
}

name!(
    /// Who shares a queue weight and a pool of results; the boundary nothing crosses.
    TenantId,
    "tenant",
    "1 to 64 of a-z 0-9 . _ -",
    |c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_' | '-')
);
name!(
    /// A queue that workers lease from: a short word computed before enqueue, such as `light` or `heavy`.
    Lane,
    "lane",
    "1 to 64 of a-z 0-9 . _ -",
    |c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_' | '-')
);
name!(
    /// What configuration calls an MCP server; the first half of a capability id.
    ServerName,
    "server name",
    "1 to 64 of A-Z a-z 0-9 . _ -",
    |c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
);
name!(
    /// One process that leases jobs, unique for each start; informational, never a fence.
    WorkerId,
    "worker id",
    "1 to 64 visible ASCII characters",
    |c| c.is_ascii_graphic()
);

impl Lane {
    /// The lane of quick tools, the default.
    #[must_use]
    pub fn light() -> Self {
        Self("light".into())
    }

    /// The lane of tools declared heavy.
    #[must_use]
    pub fn heavy() -> Self {
        Self("heavy".into())
    }
}

impl WorkerId {
    /// A fresh id for this start of the process: its pid and 64 random bits.
    #[must_use]
    pub fn fresh(entropy: &dyn Entropy) -> Self {
        Self(format!("{}-{:016x}", std::process::id(), entropy.next_u64()).into())
    }
}

/// One tool of one server, written `server/tool`. The server name has no slash; the tool's own name may.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CapabilityId {
    server: ServerName,
    tool: std::sync::Arc<str>,
}

/// Longest accepted tool name, in bytes (the protocol advises 128).
pub const TOOL_NAME_BYTES_MAX: usize = 256;

impl CapabilityId {
    /// The capability that `server` offers as `tool`.
    ///
    /// # Errors
    /// When the tool name is empty or longer than [`TOOL_NAME_BYTES_MAX`].
    pub fn new(server: ServerName, tool: &str) -> Result<Self, InvalidName> {
        if tool.is_empty() || tool.len() > TOOL_NAME_BYTES_MAX {
            return Err(InvalidName::new("tool name", tool, "1 to 256 bytes"));
        }
        Ok(Self { server, tool: tool.into() })
    }

    /// The server's name.
    #[must_use]
    pub const fn server(&self) -> &ServerName {
        &self.server
    }

    /// The tool's name on that server.
    #[must_use]
    pub fn tool(&self) -> &str {
        &self.tool
    }
}

impl fmt::Display for CapabilityId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.server, self.tool)
    }
}

impl FromStr for CapabilityId {
    type Err = InvalidName;

    fn from_str(s: &str) -> Result<Self, InvalidName> {
        let (server, tool) = s.split_once('/').ok_or_else(|| {
            InvalidName::new("tool", s, "server/name, such as code/outline; GET /api/tools lists them")
        })?;
        Self::new(ServerName::new(server)?, tool)
    }
}

impl TryFrom<String> for CapabilityId {
    type Error = InvalidName;

    fn try_from(s: String) -> Result<Self, InvalidName> {
        s.parse()
    }
}

impl From<CapabilityId> for String {
    fn from(id: CapabilityId) -> Self {
        id.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn job_ids_sort_by_time_and_never_repeat() {
        let early = JobId::new(Timestamp::from_millis(1_000));
        let late = JobId::new(Timestamp::from_millis(2_000));
        assert!(early < late && JobId::MIN < early && late < JobId::MAX);
        let same: std::collections::HashSet<_> = (0..10_000).map(|_| JobId::new(Timestamp::from_millis(5))).collect();
        assert_eq!(same.len(), 10_000);
        assert_eq!(early.to_string().parse::<JobId>().unwrap(), early);
    }

    #[test]
    fn names_are_checked_and_say_the_rule() {
        assert!(Lane::new("gpu-a100").is_ok());
        assert!(Lane::new("GPU").is_err());
        assert!(TenantId::new("").is_err());
        let long = "x".repeat(NAME_BYTES_MAX + 1);
        assert!(ServerName::new(&long).unwrap_err().to_string().contains("1 to 64"));
    }

    #[test]
    fn a_capability_id_keeps_slashes_of_the_tool_name() {
        let id: CapabilityId = "git/log/short".parse().unwrap();
        assert_eq!((id.server().as_str(), id.tool()), ("git", "log/short"));
        assert!("outline".parse::<CapabilityId>().unwrap_err().to_string().contains("server/name"));
    }
}
