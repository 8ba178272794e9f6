//! How far a command has come: a line that changes on a terminal, and one line at the end elsewhere; on standard error.

use std::{io::IsTerminal as _, time::Duration};

use indicatif::ProgressBar;
use metamcp_core::admin::{Step, Tally};

/// How often the line is drawn anew, in milliseconds.
const TICK_MS: u64 = 100;

/// The live line of one command.
pub(super) struct Live {
    /// `None` where there is no terminal.
    bar: Option<ProgressBar>,
    last: String,
}

impl Live {
    pub(super) fn new() -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new_spinner();
            bar.enable_steady_tick(Duration::from_millis(TICK_MS));
            bar
        });
        Self { bar, last: String::new() }
    }

    /// Shows how far it has come.
    pub(super) fn tell(&mut self, line: String) {
        if let Some(bar) = &self.bar {
            bar.set_message(line.clone());
        }
        self.last = line;
    }

    /// Shows how much of a copy or a check is done.
    pub(super) fn tally(&mut self, step: Step, tally: &Tally) {
        let word = match step {
            Step::Copy => "copied",
            Step::Verify => "checked",
        };
        self.tell(format!("{word:<8} {}", said(tally)));
    }
}

impl Drop for Live {
    /// Leaves the last line behind: also when the command was interrupted, it tells how far it came.
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        if !self.last.is_empty() {
            eprintln!("{}", self.last);
        }
    }
}

/// A tally in words.
pub(super) fn said(tally: &Tally) -> String {
    let Tally { jobs, results, result_bytes, records, paused } = tally;
    format!("{jobs} jobs, {results} results of {result_bytes} bytes, {records} records, {paused} paused lanes")
}
