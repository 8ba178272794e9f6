//! The log of a process: to standard error, as text or as one JSON object a line, filtered by target and level.

use std::io::{self, IsTerminal as _};

use tracing_subscriber::{Layer as _, filter::Targets, fmt, layer::SubscriberExt as _, util::SubscriberInitExt as _};

use crate::config::LogSection;

/// What holds for chatty libraries unless the filter names them.
const QUIET: &str = "rmcp=warn,hyper=warn,h2=warn,reqwest=warn";

/// Starts the log, `level` being what holds when configuration names none. Only the first call counts.
pub(super) fn start(section: &LogSection, level: &str) {
    // What is said last about a target wins.
    let directives = format!("{QUIET},{}", section.level.as_deref().unwrap_or(level));
    let filter: Targets = directives.parse().expect("the configuration was checked");
    let format = fmt::layer().with_writer(io::stderr);
    let format = if section.json {
        format.json().flatten_event(true).boxed()
    } else {
        format.with_ansi(io::stderr().is_terminal()).boxed()
    };
    if tracing_subscriber::registry().with(format.with_filter(filter)).try_init().is_err() {
        tracing::debug!("the log was started before");
    }
}
