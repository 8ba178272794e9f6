//! What tools and prompts are called here. Pure: a name comes from the naming of its server, the server and the tool alone, so that no other
//! server, no order of start and no replica can change what a name means.
//!
//! Of two that come to the same name neither is shown (see `catalog`): a name never silently means another tool.

use std::{collections::BTreeMap, sync::Arc};

use metamcp_core::{id::ServerName, pointer::Digest};

/// Longest name that is shown, in bytes: what clients and models take.
pub const EXPOSED_NAME_BYTES_MAX: usize = 64;
/// Hexadecimal digits at the end of a short form.
const DIGEST_DIGITS: usize = 10;
/// Between prefix and name. Two underscores: servers and tools are full of single ones, so that `git_log` could be two things; with two, a
/// reader sees where the server ends, and clashes are rare.
const SEPARATOR: &str = "__";

/// How the names of a server's tools and prompts are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Naming(Kind);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    /// `prefix__name`; `None`: the server's name is the prefix.
    Prefix(Option<Arc<str>>),
    /// As the server calls them.
    Plain,
    /// These as given here, all others with the server's name as prefix.
    Alias(BTreeMap<String, String>),
}

impl Default for Naming {
    fn default() -> Self {
        Self(Kind::Prefix(None))
    }
}

/// A name that cannot be shown to clients.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` cannot be shown; write 1 to {EXPOSED_NAME_BYTES_MAX} of A-Z a-z 0-9 _ . / -")]
pub struct UnfitName(String);

impl Naming {
    /// `text__name` for every name.
    ///
    /// # Errors
    /// When the text cannot stand in a name.
    pub fn prefix(text: &str) -> Result<Self, UnfitName> {
        if fits(text) { Ok(Self(Kind::Prefix(Some(text.into())))) } else { Err(UnfitName(text.to_owned())) }
    }

    /// Names as the server gives them.
    #[must_use]
    pub const fn plain() -> Self {
        Self(Kind::Plain)
    }

    /// From the server's name of a tool or prompt to what it is called here; those that are not in it get the server's name as prefix.
    ///
    /// # Errors
    /// When one cannot be shown.
    pub fn alias(names: BTreeMap<String, String>) -> Result<Self, UnfitName> {
        match names.values().find(|name| !fits(name)) {
            Some(unfit) => Err(UnfitName(unfit.clone())),
            None => Ok(Self(Kind::Alias(names))),
        }
    }

    /// What a tool or prompt of `server` is called here: 1 to [`EXPOSED_NAME_BYTES_MAX`] of `A-Z a-z 0-9 _ . / -`.
    #[must_use]
    pub fn exposed(&self, server: &ServerName, name: &str) -> String {
        let whole = match &self.0 {
            Kind::Plain => name.to_owned(),
            Kind::Prefix(Some(prefix)) => format!("{prefix}{SEPARATOR}{name}"),
            Kind::Prefix(None) => format!("{server}{SEPARATOR}{name}"),
            Kind::Alias(names) => match names.get(name) {
                Some(alias) => return alias.clone(),
                None => format!("{server}{SEPARATOR}{name}"),
            },
        };
        if fits(&whole) { whole } else { short(&whole, server, name) }
    }
}

fn is_fit(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '/' | '-')
}

fn fits(name: &str) -> bool {
    !name.is_empty() && name.len() <= EXPOSED_NAME_BYTES_MAX && name.chars().all(is_fit)
}

/// The beginning of a name that is too long or has other letters, and a digest of what it stands for.
fn short(whole: &str, server: &ServerName, name: &str) -> String {
    let room = EXPOSED_NAME_BYTES_MAX - DIGEST_DIGITS - 1;
    let mut text: String = whole.chars().map(|c| if is_fit(c) { c } else { '_' }).take(room).collect();
    let digest = Digest::of(format!("{server}/{name}").as_bytes()).to_string();
    text.push('_');
    text.push_str(&digest[..DIGEST_DIGITS]);
    text
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn server(name: &str) -> ServerName {
        ServerName::new(name).unwrap()
    }

    #[test]
    fn a_name_says_its_server_unless_told_otherwise() {
        let git = server("git");
        assert_eq!(Naming::default().exposed(&git, "log"), "git__log");
        assert_eq!(Naming::prefix("g").unwrap().exposed(&git, "log"), "g__log");
        assert_eq!(Naming::plain().exposed(&git, "log"), "log");
        let alias = Naming::alias([("log".to_owned(), "history".to_owned())].into()).unwrap();
        assert_eq!((&*alias.exposed(&git, "log"), &*alias.exposed(&git, "diff")), ("history", "git__diff"));
    }

    #[test]
    fn what_cannot_be_shown_is_refused_or_shortened() {
        assert!(Naming::prefix("").is_err() && Naming::prefix("a b").is_err());
        assert!(Naming::alias([("a".to_owned(), "é".to_owned())].into()).unwrap_err().to_string().contains("1 to 64"));
        let git = server("git");
        assert_eq!(Naming::plain().exposed(&git, "größe"), format!("gr__e_{}", digest("git/größe")));
        let long = "x".repeat(200);
        let name = Naming::default().exposed(&git, &long);
        assert!(name.len() == 64 && name.starts_with("git__xxx") && name.ends_with(&digest(&format!("git/{long}"))));
    }

    fn digest(text: &str) -> String {
        Digest::of(text.as_bytes()).to_string()[..DIGEST_DIGITS].to_owned()
    }

    #[test]
    fn this_name_stands_in_clients_settings_and_must_not_change() {
        let name = Naming::default().exposed(&server("git"), "a name with blanks");
        assert_eq!(name, "git__a_name_with_blanks_4f7f750f77");
    }

    proptest! {
        #[test]
        fn every_name_fits_and_is_the_same_each_time(name in "\\PC{1,256}", prefix in "[a-z.]{1,64}", of in "[A-Za-z0-9._-]{1,64}") {
            let of = server(&of);
            for naming in [Naming::default(), Naming::plain(), Naming::prefix(&prefix).unwrap()] {
                let exposed = naming.exposed(&of, &name);
                prop_assert!(fits(&exposed), "{exposed}");
                prop_assert_eq!(naming.exposed(&of, &name), exposed);
            }
        }

        #[test]
        fn different_tools_of_one_server_have_different_names(names in prop::collection::hash_set("[a-zé ]{1,100}", 1..40)) {
            let exposed: HashSet<String> = names.iter().map(|name| Naming::default().exposed(&server("s"), name)).collect();
            prop_assert_eq!(exposed.len(), names.len());
        }
    }
}
