//! The kinds of value a key takes: how each is read from TOML or from plain text, what it refuses, and how it is printed.

use std::{net::SocketAddr, path::PathBuf};

use super::{
    raw::{Raw, quoted},
    store::{StoreKind, shown},
};

/// What a key takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    /// In a file relative to the file, elsewhere to the working directory.
    Path,
    Paths,
    Texts,
    Bool,
    Number {
        min: u64,
        max: u64,
    },
    Choice(&'static [&'static str]),
    Address,
    /// Where a store is; may hold a password, which is never printed.
    Store,
    /// The address of a service, or a directory; may hold a password, which is never printed.
    Place,
}

/// A value of one of the kinds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Setting {
    Text(String),
    /// Printed without what logs in.
    Place(String),
    Path(PathBuf),
    Paths(Vec<PathBuf>),
    Texts(Vec<String>),
    Bool(bool),
    Number(u64),
    Address(SocketAddr),
}

impl Kind {
    /// Reads what a file says.
    ///
    /// # Errors
    /// What to change, in words.
    pub(super) fn read(self, raw: &Raw) -> Result<Setting, String> {
        let texts = |list: &[Raw]| -> Result<Vec<String>, String> {
            list.iter()
                .map(|one| match one {
                    Raw::Text(text) => Ok(text.clone()),
                    other => Err(format!("is {} inside a list; {}", other.what(), self.wish())),
                })
                .collect()
        };
        match (self, raw) {
            (Self::Bool, Raw::Bool(flag)) => Ok(Setting::Bool(*flag)),
            (Self::Number { .. }, Raw::Integer(number)) => self.number(u64::try_from(*number).ok()),
            (Self::Paths | Self::Texts, Raw::List(list)) => Ok(self.list(texts(list)?)),
            (
                Self::Text | Self::Path | Self::Choice(_) | Self::Address | Self::Store | Self::Place,
                Raw::Text(text),
            ) => self.read_text(text),
            (_, other) => Err(format!("is {}; {}", other.what(), self.wish())),
        }
    }

    /// Reads what an environment variable or a flag says; lists are separated by commas.
    ///
    /// # Errors
    /// What to change, in words.
    pub(super) fn read_text(self, text: &str) -> Result<Setting, String> {
        match self {
            Self::Text => Ok(Setting::Text(text.to_owned())),
            Self::Store => StoreKind::parse(text).map(|_| Setting::Place(text.to_owned())),
            Self::Place if text.is_empty() => Err(format!("is empty; {}", self.wish())),
            Self::Place => Ok(Setting::Place(text.to_owned())),
            Self::Path if text.is_empty() => Err(format!("is empty; {}", self.wish())),
            Self::Path => Ok(Setting::Path(text.into())),
            Self::Paths | Self::Texts => {
                Ok(self.list(text.split(',').map(str::trim).filter(|one| !one.is_empty()).map(str::to_owned).collect()))
            }
            Self::Bool => match text {
                "true" | "1" => Ok(Setting::Bool(true)),
                "false" | "0" => Ok(Setting::Bool(false)),
                other => Err(format!("`{other}` is no boolean; {}", self.wish())),
            },
            Self::Number { .. } => self.number(text.parse().ok()),
            Self::Choice(choices) if choices.contains(&text) => Ok(Setting::Text(text.to_owned())),
            Self::Choice(_) => Err(format!("`{text}` is not known; {}", self.wish())),
            // The one host name that means the same everywhere.
            Self::Address => text
                .strip_prefix("localhost:")
                .map_or_else(|| text.parse(), |port| format!("127.0.0.1:{port}").parse())
                .map(Setting::Address)
                .map_err(|_| format!("`{text}` is no address; {}", self.wish())),
        }
    }

    fn number(self, number: Option<u64>) -> Result<Setting, String> {
        match (self, number) {
            (Self::Number { min, max }, Some(number)) if (min..=max).contains(&number) => Ok(Setting::Number(number)),
            (_, Some(number)) => Err(format!("{number} is out of bounds; {}", self.wish())),
            (_, None) => Err(format!("is not a whole number from 0 on; {}", self.wish())),
        }
    }

    fn list(self, texts: Vec<String>) -> Setting {
        if self == Self::Paths {
            Setting::Paths(texts.into_iter().map(PathBuf::from).collect())
        } else {
            Setting::Texts(texts)
        }
    }

    /// What a fitting value looks like.
    fn wish(self) -> String {
        match self {
            Self::Text => "write a string".to_owned(),
            Self::Path => "write a path as a string".to_owned(),
            Self::Paths => "write a list of paths, such as [\"src\", \"docs\"]".to_owned(),
            Self::Texts => "write a list of strings".to_owned(),
            Self::Bool => "write true or false".to_owned(),
            Self::Number { min, max } => format!("write a whole number from {min} to {max}"),
            Self::Choice(choices) => format!("write one of {}", choices.join(", ")),
            Self::Address => "write an IP address and a port, such as 127.0.0.1:7300".to_owned(),
            Self::Store => "write embedded:, memory:, a directory, or an address such as redis://host:6379".to_owned(),
            Self::Place => "write an address or a directory as a string".to_owned(),
        }
    }
}

impl Setting {
    /// As TOML.
    pub(super) fn print(&self) -> String {
        let path = |path: &PathBuf| quoted(&path.to_string_lossy());
        match self {
            Self::Text(text) => quoted(text),
            Self::Place(place) => quoted(&shown(place)),
            Self::Path(one) => path(one),
            Self::Paths(many) => format!("[{}]", many.iter().map(path).collect::<Vec<_>>().join(", ")),
            Self::Texts(many) => format!("[{}]", many.iter().map(|one| quoted(one)).collect::<Vec<_>>().join(", ")),
            Self::Bool(flag) => flag.to_string(),
            Self::Number(number) => number.to_string(),
            Self::Address(address) => quoted(&address.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_or_refused_with_a_mend() {
        let number = Kind::Number { min: 1, max: 9 };
        assert_eq!(number.read(&Raw::Integer(9)), Ok(Setting::Number(9)));
        assert!(number.read(&Raw::Integer(10)).unwrap_err().contains("from 1 to 9"));
        assert!(number.read(&Raw::Integer(-1)).unwrap_err().contains("whole number"));
        assert!(number.read(&Raw::Text("3".to_owned())).unwrap_err().starts_with("is a string"));
        assert_eq!(number.read_text("3"), Ok(Setting::Number(3)));
        assert_eq!(Kind::Address.read_text("localhost:1"), Ok(Setting::Address(([127, 0, 0, 1], 1).into())));
        assert!(Kind::Address.read_text("here").unwrap_err().contains("127.0.0.1:7300"));
        assert_eq!(Kind::Texts.read_text("a, b"), Ok(Setting::Texts(vec!["a".to_owned(), "b".to_owned()])));
        assert_eq!(Kind::Paths.read_text("a").unwrap().print(), "[\"a\"]");
        assert!(Kind::Bool.read_text("yes").unwrap_err().contains("true or false"));
    }
}
