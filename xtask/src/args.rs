//! The few forms of arguments the commands take: switches, numbers, words, and a tail for another tool.
//! An argument nobody asked for is an error that names what would have been understood. It knows no command.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};

/// The arguments of one command, taken out one by one; what is left at the end is a mistake.
pub(crate) struct Args {
    rest: Vec<String>,
    known: Vec<&'static str>,
}

impl Args {
    /// All of `args`, none of them understood yet.
    pub(crate) fn new(args: &[String]) -> Self {
        Self { rest: args.to_vec(), known: Vec::new() }
    }

    /// Whether the switch `name` (`--online`) is there.
    pub(crate) fn switch(&mut self, name: &'static str) -> bool {
        self.known.push(name);
        let before = self.rest.len();
        self.rest.retain(|arg| arg != name);
        self.rest.len() < before
    }

    /// The number after `name`, as `--cycles 20` or `--cycles=20`.
    pub(crate) fn number(&mut self, name: &'static str) -> Result<Option<u64>> {
        let Some(text) = self.value(name, "a number")? else { return Ok(None) };
        let number =
            text.replace('_', "").parse().with_context(|| format!("{name} takes a whole number, not `{text}`"))?;
        Ok(Some(number))
    }

    /// The word after `name`, one of `words`.
    pub(crate) fn word(&mut self, name: &'static str, words: &[&'static str]) -> Result<Option<&'static str>> {
        let Some(text) = self.value(name, "a word")? else { return Ok(None) };
        match words.iter().find(|word| **word == text) {
            Some(word) => Ok(Some(word)),
            None => bail!("{name} takes {}, not `{text}`", words.join(" or ")),
        }
    }

    /// The path after `name`.
    pub(crate) fn path(&mut self, name: &'static str) -> Result<Option<PathBuf>> {
        Ok(self.value(name, "a path")?.map(PathBuf::from))
    }

    /// The text after `name`, which is `what`.
    fn value(&mut self, name: &'static str, what: &str) -> Result<Option<String>> {
        self.known.push(name);
        let prefix = format!("{name}=");
        let Some(at) = self.rest.iter().position(|arg| arg == name || arg.starts_with(&prefix)) else {
            return Ok(None);
        };
        let arg = self.rest.remove(at);
        match arg.strip_prefix(&prefix) {
            Some(text) => Ok(Some(text.to_owned())),
            None if at < self.rest.len() => Ok(Some(self.rest.remove(at))),
            None => bail!("{name} needs {what} after it"),
        }
    }

    /// Refuses whatever was not taken.
    pub(crate) fn finish(self) -> Result<()> {
        let Some(arg) = self.rest.first() else {
            return Ok(());
        };
        if self.known.is_empty() {
            bail!("unexpected argument `{arg}`; this command takes none");
        }
        bail!("unexpected argument `{arg}`; this command takes {}", self.known.join(", "));
    }
}

/// What is meant for another tool: everything, without the `--` that set it apart.
pub(crate) fn passed_on(args: &[String]) -> Vec<String> {
    let mut tail = args.to_vec();
    if let Some(at) = tail.iter().position(|arg| arg == "--") {
        tail.remove(at);
    }
    tail
}

/// The candidate with the fewest letters to change, add or remove from `word`.
pub(crate) fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> &'a str {
    candidates.min_by_key(|candidate| distance(word, candidate)).unwrap_or("--help")
}

/// Levenshtein's distance, one row at a time.
fn distance(from: &str, to: &str) -> usize {
    let mut row: Vec<usize> = (0..=to.chars().count()).collect();
    for (line, a) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = line + 1;
        for (column, b) in to.chars().enumerate() {
            let replaced = diagonal + usize::from(a != b);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[row.len() - 1]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn numbers_are_read_in_both_spellings() {
        let mut args = Args::new(&args(&["--cycles", "20", "--seed=1_000"]));
        assert_eq!(args.number("--cycles").unwrap(), Some(20));
        assert_eq!(args.number("--seed").unwrap(), Some(1000));
        assert_eq!(args.number("--cuts").unwrap(), None);
        args.finish().unwrap();
    }

    #[test]
    fn a_word_is_one_of_those_that_are_known() {
        let mut right = Args::new(&args(&["--store=postgres"]));
        assert_eq!(right.word("--store", &["redis", "postgres"]).unwrap(), Some("postgres"));
        let mut wrong = Args::new(&args(&["--store", "mysql"]));
        let error = wrong.word("--store", &["redis", "postgres"]).unwrap_err().to_string();
        assert_eq!(error, "--store takes redis or postgres, not `mysql`");
    }

    #[test]
    fn what_was_not_understood_is_refused_with_what_would_be() {
        let mut wrong = Args::new(&args(&["--online", "--ofline"]));
        assert!(wrong.switch("--online"));
        let error = wrong.finish().unwrap_err().to_string();
        assert_eq!(error, "unexpected argument `--ofline`; this command takes --online");

        let mut cut_off = Args::new(&args(&["--seed"]));
        assert_eq!(cut_off.number("--seed").unwrap_err().to_string(), "--seed needs a number after it");
    }

    #[test]
    fn only_the_first_separator_is_ours() {
        assert_eq!(passed_on(&args(&["--", "a", "--", "b"])), args(&["a", "--", "b"]));
        assert_eq!(passed_on(&args(&["a"])), args(&["a"]));
    }

    #[test]
    fn nearest_counts_changed_added_and_removed_letters() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(nearest("kill", ["test", "kill9", "tools"].into_iter()), "kill9");
        assert_eq!(nearest("tool", ["test", "kill9", "tools"].into_iter()), "tools");
    }
}
