//! The name of a batch: drawn afresh, or made of its caller and their key.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::ports::Ports;
use crate::{
    auth::Principal,
    id::{InvalidName, JobId},
    pointer::Digest,
};

/// Names a batch.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BatchId(String);

impl BatchId {
    /// A new one.
    pub(super) fn drawn(ports: &Ports) -> Self {
        Self(JobId::drawn(ports.clock.now(), &*ports.entropy).to_string())
    }

    /// The same caller with the same key means the same batch.
    pub(super) fn keyed(who: &Principal, key: &str) -> Self {
        let text = serde_json::to_vec(&(who, key)).expect("names and text are JSON");
        Self(Digest::of(&text).to_string())
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for BatchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for BatchId {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let drawn = text.parse::<JobId>().is_ok();
        if drawn || text.parse::<Digest>().is_ok() {
            return Ok(Self(text.to_owned()));
        }
        let value = text.chars().take(64).collect();
        Err(InvalidName { what: "batch id", value, rule: "the id that the submission of the batch answered" })
    }
}

impl TryFrom<String> for BatchId {
    type Error = InvalidName;

    fn try_from(text: String) -> Result<Self, InvalidName> {
        text.parse()
    }
}

impl From<BatchId> for String {
    fn from(id: BatchId) -> Self {
        id.0
    }
}
