//! Words with `*`: which tools, prompts and resources of a server, or on an endpoint, are meant.

use std::fmt;

/// Text in which `*` stands for any text, also none; everything else stands for itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pattern(String);

impl Pattern {
    /// This pattern.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Whether it means this name.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        let Some((first, rest)) = self.0.split_once('*') else { return self.0 == name };
        let (middle, last) = rest.rsplit_once('*').map_or((None, rest), |(middle, last)| (Some(middle), last));
        let inner = name.strip_prefix(first).and_then(|name| name.strip_suffix(last));
        let Some(mut inner) = inner else { return false };
        // The first place found leaves the most room for what follows.
        middle.is_none_or(|middle| {
            middle.split('*').all(|part| match inner.split_once(part) {
                Some((_, after)) => {
                    inner = after;
                    true
                }
                None => false,
            })
        })
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which of many are shown: those that an `include` pattern means, and no `exclude` pattern.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// Empty: all.
    pub include: Vec<Pattern>,
    /// Left out even when included.
    pub exclude: Vec<Pattern>,
}

impl Selection {
    /// Whether this name is shown.
    #[must_use]
    pub fn takes(&self, name: &str) -> bool {
        let any = |patterns: &[Pattern]| patterns.iter().any(|pattern| pattern.matches(name));
        (self.include.is_empty() || any(&self.include)) && !any(&self.exclude)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_star_stands_for_any_text() {
        for (pattern, name, fits) in [
            ("read", "read", true),
            ("read", "reader", false),
            ("read*", "read", true),
            ("*_file", "read_file", true),
            ("*_file", "read_files", false),
            ("a*a", "a", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("**", "", true),
            ("file:///*?x=*", "file:///a?x=1", true),
        ] {
            assert_eq!(Pattern::new(pattern).matches(name), fits, "{pattern} {name}");
        }
    }

    #[test]
    fn what_is_excluded_is_out_even_when_included() {
        let all = Selection::default();
        assert!(all.takes("x"));
        let some = Selection { include: vec![Pattern::new("read*")], exclude: vec![Pattern::new("*secret*")] };
        assert!(some.takes("read_file") && !some.takes("write") && !some.takes("read_secret_file"));
    }

    proptest! {
        #[test]
        fn a_name_with_parts_blanked_is_matched(parts in prop::collection::vec("[a-c]{0,4}", 1..6), gaps in prop::collection::vec("[a-d]{0,3}", 5)) {
            let mut name = parts[0].clone();
            for (part, gap) in parts[1..].iter().zip(&gaps) {
                name.push_str(gap);
                name.push_str(part);
            }
            prop_assert!(Pattern::new(parts.join("*")).matches(&name));
        }
    }
}
