//! The languages that can be read: their names, file endings and grammars. What a definition or an identifier looks
//! like in each of them is told in `definitions` and `references`.

use std::path::Path;
use std::sync::LazyLock;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tree_sitter::Language as Grammar;

/// A programming language with a built-in grammar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Language {
    #[serde(alias = "rs")]
    Rust,
    #[serde(alias = "py")]
    Python,
    #[serde(alias = "js", alias = "jsx")]
    JavaScript,
    #[serde(alias = "ts")]
    TypeScript,
    Tsx,
    #[serde(alias = "golang")]
    Go,
}

impl Language {
    pub(super) const ALL: [Self; 6] =
        [Self::Rust, Self::Python, Self::JavaScript, Self::TypeScript, Self::Tsx, Self::Go];

    /// The name used in calls and answers.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Rust => "rust",
            Self::Python => "python",
            Self::JavaScript => "javascript",
            Self::TypeScript => "typescript",
            Self::Tsx => "tsx",
            Self::Go => "go",
        }
    }

    /// File endings, without the dot.
    fn endings(self) -> &'static [&'static str] {
        match self {
            Self::Rust => &["rs"],
            Self::Python => &["py", "pyi"],
            Self::JavaScript => &["js", "mjs", "cjs", "jsx"],
            Self::TypeScript => &["ts", "mts", "cts"],
            Self::Tsx => &["tsx"],
            Self::Go => &["go"],
        }
    }

    /// The language of a file by its ending.
    pub(super) fn of_path(path: &Path) -> Option<Self> {
        let ending = path.extension()?.to_str()?.to_ascii_lowercase();
        Self::ALL.into_iter().find(|language| language.endings().contains(&ending.as_str()))
    }

    /// What stands between the parts of a qualified name.
    pub(super) fn separator(self) -> &'static str {
        if self == Self::Rust { "::" } else { "." }
    }

    /// All names, for error messages.
    pub(super) fn names() -> String {
        Self::ALL.map(Self::name).join(", ")
    }

    /// The grammar, loaded once.
    pub(super) fn grammar(self) -> &'static Grammar {
        static RUST: LazyLock<Grammar> = LazyLock::new(|| tree_sitter_rust::LANGUAGE.into());
        static PYTHON: LazyLock<Grammar> = LazyLock::new(|| tree_sitter_python::LANGUAGE.into());
        static JAVASCRIPT: LazyLock<Grammar> = LazyLock::new(|| tree_sitter_javascript::LANGUAGE.into());
        static TYPESCRIPT: LazyLock<Grammar> = LazyLock::new(|| tree_sitter_typescript::LANGUAGE_TYPESCRIPT.into());
        static TSX: LazyLock<Grammar> = LazyLock::new(|| tree_sitter_typescript::LANGUAGE_TSX.into());
        static GO: LazyLock<Grammar> = LazyLock::new(|| tree_sitter_go::LANGUAGE.into());
        match self {
            Self::Rust => &RUST,
            Self::Python => &PYTHON,
            Self::JavaScript => &JAVASCRIPT,
            Self::TypeScript => &TYPESCRIPT,
            Self::Tsx => &TSX,
            Self::Go => &GO,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_grammar_is_accepted_by_the_parser() {
        for language in Language::ALL {
            let accepted = tree_sitter::Parser::new().set_language(language.grammar());
            assert_eq!(accepted, Ok(()), "{}", language.name());
        }
    }

    #[test]
    fn a_name_is_what_serde_writes_and_reads() {
        for language in Language::ALL {
            let written = serde_json::to_value(language).unwrap();
            assert_eq!(written, language.name());
            assert_eq!(serde_json::from_value::<Language>(written).unwrap(), language);
        }
    }

    #[test]
    fn a_file_is_known_by_its_ending_in_any_case() {
        assert_eq!(Language::of_path(Path::new("a/b.RS")), Some(Language::Rust));
        assert_eq!(Language::of_path(Path::new("a.d.ts")), Some(Language::TypeScript));
        assert_eq!(Language::of_path(Path::new("a.tsx")), Some(Language::Tsx));
        assert_eq!(Language::of_path(Path::new("a.txt")), None);
        assert_eq!(Language::of_path(Path::new("rs")), None);
    }
}
