//! What is wrong with a configuration: where it was said, which key, and what to change. All problems are collected, none hides another.

use std::{collections::BTreeSet, fmt};

/// Largest edit distance at which a known name is offered for an unknown one.
const NEAR_EDITS_MAX: usize = 3;

/// One thing to change.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Where it was said: a file with its line, an environment variable, a flag.
    pub place: String,
    /// The key's path, such as `server.listen`; empty when it is about the whole.
    pub key: String,
    /// What is wrong and what to change.
    pub mend: String,
}

impl Problem {
    /// `key`, as `place` says it, needs `mend`.
    pub fn new(place: impl fmt::Display, key: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { place: place.to_string(), key: key.into(), mend: mend.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.place)?;
        if !self.key.is_empty() {
            write!(f, ": {}", self.key)?;
        }
        write!(f, ": {}", self.mend)
    }
}

/// Everything that is wrong; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    /// Nothing, or all that was collected, each problem once.
    ///
    /// # Errors
    /// When there is any problem.
    pub(super) fn none(found: Vec<Problem>) -> Result<(), Self> {
        let found: BTreeSet<Problem> = found.into_iter().collect();
        if found.is_empty() { Ok(()) } else { Err(Self(found.into_iter().collect())) }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the configuration cannot be used:")?;
        self.0.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}

impl std::error::Error for Problems {}

/// Words for an unknown name: the nearest known one if any is near, else all of them.
pub(super) fn unknown<'a>(what: &str, name: &str, known: impl Iterator<Item = &'a str> + Clone) -> String {
    let near = known
        .clone()
        .map(|candidate| (strsim::damerau_levenshtein(&name.to_lowercase(), &candidate.to_lowercase()), candidate))
        .min();
    match near {
        Some((edits, nearest)) if edits <= NEAR_EDITS_MAX && edits < nearest.len() => {
            format!("unknown {what}; did you mean `{nearest}`?")
        }
        _ => format!("unknown {what}; known are {}", known.collect::<Vec<_>>().join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_name_gets_the_nearest_or_all() {
        let known = ["listen", "data_dir"];
        assert_eq!(unknown("key", "lisen", known.into_iter()), "unknown key; did you mean `listen`?");
        assert_eq!(unknown("key", "frobnicate", known.into_iter()), "unknown key; known are listen, data_dir");
    }
}
