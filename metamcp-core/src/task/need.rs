//! The need itself: words, input, and what the caller asks of the place where it runs. This is all that a matcher sees.

use serde::{Deserialize, Serialize};

use crate::{
    id::{CapabilityId, Lane},
    json::RawJson,
};

/// What a matcher matches.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Need {
    /// The need in words; may be empty only when `tool` is given.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub text: String,
    /// The input, a JSON object; becomes the tool's arguments.
    pub input: RawJson,
    /// Exactly this capability and no other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool: Option<CapabilityId>,
    /// Exactly this lane.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lane: Option<Lane>,
    /// What the place where it runs must have.
    #[serde(default, skip_serializing_if = "Resources::are_none")]
    pub resources: Resources,
}

impl Need {
    /// A need in words with an empty input.
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), ..Self::default() }
    }
}

/// What a need asks of the server that serves it: all of it must fit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Resources {
    /// Needs a GPU.
    pub gpu: bool,
    /// Needs at least this much memory, in MiB.
    pub memory_mib: Option<u32>,
    /// Must run on this machine, its data must not leave it.
    pub local: bool,
    /// Must run on this machine or at a place of the operator's own, such as a Space of theirs: its data must not leave these.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub owned: bool,
}

impl Resources {
    fn are_none(&self) -> bool {
        *self == Self::default()
    }

    /// Why a place that has `offered` cannot serve this, or `None` when it can.
    #[must_use]
    pub fn refused_by(&self, offered: &Self) -> Option<String> {
        if self.gpu && !offered.gpu {
            return Some("needs a GPU, the server declares none".to_owned());
        }
        if self.local && !offered.local {
            return Some("must run locally, the server is remote".to_owned());
        }
        if self.owned && !offered.owned && !offered.local {
            return Some("must run locally or at a place of our own, the server declares neither".to_owned());
        }
        match (self.memory_mib, offered.memory_mib) {
            (Some(need), Some(has)) if has < need => {
                Some(format!("needs {need} MiB of memory, the server declares {has}"))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_of_our_own_serves_what_may_not_go_to_others_but_not_what_must_stay_here() {
        let (local, owned) =
            (Resources { local: true, ..Resources::default() }, Resources { owned: true, ..Resources::default() });
        let other = Resources::default();
        assert_eq!([&local, &owned, &other].map(|place| local.refused_by(place).is_none()), [true, false, false]);
        assert_eq!([&local, &owned, &other].map(|place| owned.refused_by(place).is_none()), [true, true, false]);
    }

    #[test]
    fn what_is_as_usual_is_not_written_and_reads_as_if_it_were() {
        let plain = Need { tool: Some("s/t".parse().unwrap()), ..Need::default() };
        assert_eq!(serde_json::to_string(&plain).unwrap(), r#"{"input":{},"tool":"s/t"}"#);
        let whole = r#"{"text":"","input":{},"tool":"s/t","lane":null,"resources":{"gpu":false,"memory_mib":null,"local":false}}"#;
        for text in [whole, r#"{"input":{},"tool":"s/t"}"#] {
            assert_eq!(serde_json::from_str::<Need>(text).unwrap(), plain, "{text}");
        }
        let odd = Need { resources: Resources { local: true, ..Resources::default() }, ..Need::new("a need") };
        assert_eq!(serde_json::from_str::<Need>(&serde_json::to_string(&odd).unwrap()).unwrap(), odd);
    }
}
