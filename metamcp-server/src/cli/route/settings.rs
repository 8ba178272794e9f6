//! The matcher's settings as flags of `route eval` and `route replay`: they lie over those of the configuration.

use clap::Args;

use crate::config::{Flag, Sources};

/// With which settings needs are ranked, where the configuration says otherwise.
#[derive(Debug, Args)]
#[command(next_help_heading = "Matcher")]
pub(super) struct MatcherArgs {
    /// Words that stand for one another, such as "ticket issue card", in place of matcher.synonyms; may be repeated
    #[arg(long, value_name = "WORDS")]
    synonyms: Vec<String>,
    /// Without the part that ranks by meaning, as matcher.dense = false
    #[arg(long)]
    no_dense: bool,
    /// Without learning from the past, as matcher.learn = false
    #[arg(long)]
    no_learn: bool,
}

impl MatcherArgs {
    /// Makes these flags the last word.
    pub(super) fn lay_over(&self, sources: &mut Sources) {
        if !self.synonyms.is_empty() {
            let value = self.synonyms.join(",");
            sources.flags.push(Flag { name: "--synonyms", key: "matcher.synonyms", value });
        }
        let parts = [(self.no_dense, "--no-dense", "matcher.dense"), (self.no_learn, "--no-learn", "matcher.learn")];
        for (_, name, key) in parts.into_iter().filter(|(off, ..)| *off) {
            sources.flags.push(Flag { name, key, value: false.to_string() });
        }
    }
}
