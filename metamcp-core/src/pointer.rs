//! The pointer to a result: what travels in place of a body.
//!
//! Written `res://tenant/job/sha256-hex`. It names the job, so that a reader's right is the right to that job, and the digest of the body,
//! so that what is read can be checked. Possession of a pointer is not authority.

use std::{fmt, str::FromStr};

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use serde::{Deserialize, Serialize};

use crate::id::{InvalidName, JobId, TenantId};

/// Hexadecimal digits of a digest.
const DIGITS: usize = 64;

/// A SHA-256 digest, 32 bytes, printed as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        use sha2::Digest as _;
        Self(sha2::Sha256::digest(bytes).into())
    }

    /// The digest as 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The digest of these 32 bytes' value (not of their content).
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HEXLOWER.encode_mut_str(&self.0, &mut [0; DIGITS]))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = InvalidName;

    fn from_str(s: &str) -> Result<Self, InvalidName> {
        let mut bytes = [0; 32];
        match s.len() == DIGITS && HEXLOWER_PERMISSIVE.decode_mut(s.as_bytes(), &mut bytes).is_ok() {
            true => Ok(Self(bytes)),
            false => Err(InvalidName {
                what: "digest",
                value: s.chars().take(DIGITS).collect(),
                rule: "64 hexadecimal digits",
            }),
        }
    }
}

impl Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() { serializer.collect_str(self) } else { self.0.serialize(serializer) }
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
        } else {
            <[u8; 32]>::deserialize(deserializer).map(Self)
        }
    }
}

/// Where a result can be read.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ResultPointer {
    /// Whose result it is.
    pub tenant: TenantId,
    /// Which job made it.
    pub job: JobId,
    /// What its bytes hash to.
    pub digest: Digest,
}

const SCHEME: &str = "res://";

impl fmt::Display for ResultPointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}/{}/{}", self.tenant, self.job, self.digest)
    }
}

impl FromStr for ResultPointer {
    type Err = InvalidName;

    fn from_str(s: &str) -> Result<Self, InvalidName> {
        let bad = || InvalidName {
            what: "result pointer",
            value: s.chars().take(160).collect(),
            rule: "res://tenant/job/sha256, as the job document's `result` says it",
        };
        let mut parts = s.strip_prefix(SCHEME).ok_or_else(bad)?.split('/');
        let (Some(tenant), Some(job), Some(digest), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(bad());
        };
        Ok(Self {
            tenant: tenant.parse().map_err(|_| bad())?,
            job: job.parse().map_err(|_| bad())?,
            digest: digest.parse().map_err(|_| bad())?,
        })
    }
}

impl TryFrom<String> for ResultPointer {
    type Error = InvalidName;

    fn try_from(s: String) -> Result<Self, InvalidName> {
        s.parse()
    }
}

impl From<ResultPointer> for String {
    fn from(pointer: ResultPointer) -> Self {
        pointer.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Timestamp;

    #[test]
    fn a_pointer_prints_and_parses() {
        let pointer = ResultPointer {
            tenant: TenantId::new("local").unwrap(),
            job: JobId::new(Timestamp::from_millis(7)),
            digest: Digest::of(b"body"),
        };
        assert_eq!(pointer.to_string().parse::<ResultPointer>().unwrap(), pointer);
        for bad in ["", "res://", "res://local/x/y", "http://a/b/c", &format!("{pointer}/more")] {
            assert!(bad.parse::<ResultPointer>().unwrap_err().to_string().contains("res://tenant/job/sha256"), "{bad}");
        }
    }

    #[test]
    fn a_digest_has_one_text() {
        let text = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Digest::of(b"").to_string(), text);
        assert_eq!(text.parse::<Digest>().unwrap(), Digest::of(b""));
        for bad in [
            "é".repeat(32),
            format!("+{}", &text[1..]),
            format!("{}+{}", &text[..32], &text[33..]),
            text[1..].to_owned(),
        ] {
            assert!(bad.parse::<Digest>().is_err(), "{bad}");
        }
    }
}
