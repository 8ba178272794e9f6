//! What people see of a task: its match with the reason, its progress, its end and its result. A live bar on a terminal, plain lines
//! elsewhere; all of it on standard error but the result.

use std::{io::IsTerminal as _, time::Duration};

use indicatif::{ProgressBar, ProgressStyle};
use serde::Deserialize;

use super::out;
use crate::api::doc::{CandidateDocument, EventKindDocument, JobDocument, ProgressDocument, RouteDocument, TaskState};

/// How often the live line is drawn anew, in milliseconds.
const TICK_MS: u64 = 100;
/// Most reasons told of one candidate.
const REASONS_MAX: usize = 3;

/// The match of a route in a line or two: the chosen tool with its reason, and the runner-up, or why there is none.
pub(super) fn matched(route: &RouteDocument) -> String {
    let mut lines = Vec::new();
    for (word, candidate) in ["match", "next"].into_iter().zip(&route.candidates) {
        let CandidateDocument { tool, score, .. } = candidate;
        lines.push(format!("{word:<7} {tool}  score {score:.2}  {}", reasons(candidate)));
    }
    if let (1, Some(rejection)) = (lines.len(), route.rejected.first()) {
        lines.push(format!("{:<7} {}  {}", "no", rejection.tool, rejection.reason));
    }
    lines.join("\n")
}

/// What a task waits for beside its time and a worker, in a line; `None`: nothing.
pub(super) fn waits(job: &JobDocument) -> Option<String> {
    if !job.waits_on.is_empty() {
        let tasks: Vec<String> = job.waits_on.iter().map(ToString::to_string).collect();
        return Some(format!("waits   for {}", tasks.join(", ")));
    }
    job.blocked.then(|| "waits   for a task with the same concurrency key to end".to_owned())
}

/// The weightiest reasons of a candidate.
pub(super) fn reasons(candidate: &CandidateDocument) -> String {
    let texts: Vec<&str> = candidate.reasons.iter().take(REASONS_MAX).map(|reason| reason.text.as_str()).collect();
    texts.join(", ")
}

/// How a task ended, in a line.
pub(super) fn ended(job: &JobDocument) -> String {
    let took = job.finished_at.map(|end| end.0.since(job.started_at.unwrap_or(job.created_at).0));
    let took = took.map_or_else(String::new, |took| format!(" in {}", length(took)));
    let attempts = if job.attempts > 0 { format!(" after {} failed attempts", job.attempts) } else { String::new() };
    match (&job.error, job.state) {
        (_, TaskState::Completed) => {
            let cached = job.cached_from.map_or_else(String::new, |from| format!(", with the result of {from}"));
            format!("{}{took}{attempts}{cached}", job.state.as_str())
        }
        (Some(error), _) => format!("{}{took}{attempts}: {}", job.state.as_str(), error.message),
        _ => format!("{}{took}{attempts}", job.state.as_str()),
    }
}

fn length(time: Duration) -> String {
    if time < Duration::from_secs(10) {
        format!("{:.2} s", time.as_secs_f64())
    } else {
        format!("{} s", time.as_secs())
    }
}

/// The live line of one task.
pub(super) struct Live {
    /// `None` where there is no terminal.
    bar: Option<ProgressBar>,
    said: String,
}

impl Live {
    /// A line of its own, or plain lines when standard error is no terminal.
    pub(super) fn new() -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new_spinner().with_message("queued");
            bar.enable_steady_tick(Duration::from_millis(TICK_MS));
            bar
        });
        Self { bar, said: String::new() }
    }

    /// Shows what happened.
    pub(super) fn news(&mut self, news: &EventKindDocument) {
        match news {
            EventKindDocument::Queued => {}
            EventKindDocument::Started { tool, .. } => self.say(format!("working {tool}")),
            EventKindDocument::Progress(progress) => self.progress(progress),
            EventKindDocument::Retrying { error, delay_ms } => {
                let wait = length(Duration::from_millis(*delay_ms));
                self.say(format!("retry   in {wait}, as the attempt failed: {}", error.message));
            }
            EventKindDocument::Released => self.say("queued  again, its worker gave it back".to_owned()),
            EventKindDocument::Resumed => self.say("queued  again".to_owned()),
            // The end is told from the task's document.
            EventKindDocument::InputRequired { .. }
            | EventKindDocument::Completed { .. }
            | EventKindDocument::Failed { .. }
            | EventKindDocument::Cancelled { .. } => {}
        }
    }

    fn progress(&mut self, progress: &ProgressDocument) {
        let message = progress.message.clone().unwrap_or_default();
        let Some(bar) = &self.bar else {
            let total = progress.total.map_or_else(String::new, |total| format!("/{total}"));
            let told = if message.is_empty() { format!("{}{total}", progress.value) } else { message };
            return self.say(format!("progress {told}"));
        };
        // Bars count whole units; fractions of a unit are not worth a column.
        if let Some(total) = progress.total.filter(|total| *total >= 1.0) {
            let style = ProgressStyle::with_template("{spinner} {bar:30} {percent:>3} %  {msg}");
            bar.set_style(style.expect("the template names known parts"));
            bar.set_length(total as u64);
            bar.set_position(progress.value.max(0.0) as u64);
        }
        bar.set_message(out::short(&message, 60));
    }

    /// A line that stays where there is no terminal, and that changes where there is one.
    fn say(&mut self, line: String) {
        match &self.bar {
            Some(bar) => bar.set_message(out::short(&line, 90)),
            None if line != self.said => eprintln!("{line}"),
            None => {}
        }
        self.said = line;
    }

    /// Takes the live line away.
    pub(super) fn clear(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.clear();
    }
}

/// A result as MCP tools give it, as far as it is read here.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ToolResult {
    content: Vec<Block>,
    is_error: bool,
}

#[derive(Debug, Deserialize)]
struct Block {
    r#type: String,
    text: Option<String>,
}

/// A result for people.
pub(super) struct Shown {
    /// The text of its blocks when all of them are text, else the JSON as it came.
    pub(super) text: String,
    /// The tool says that it failed.
    pub(super) is_error: bool,
}

/// Reads a result's body for people.
pub(super) fn result(body: &[u8]) -> Shown {
    let raw = || String::from_utf8_lossy(body).into_owned();
    let Ok(result) = serde_json::from_slice::<ToolResult>(body) else { return Shown { text: raw(), is_error: false } };
    let texts: Option<Vec<&str>> = result
        .content
        .iter()
        .map(|block| block.text.as_deref().filter(|_| block.r#type == "text"))
        .collect::<Option<Vec<_>>>()
        .filter(|texts| !texts.is_empty());
    Shown { text: texts.map_or_else(raw, |texts| texts.join("\n")), is_error: result.is_error }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_blocks_are_shown_as_text_and_anything_else_as_it_came() {
        let shown = result(br#"{"content":[{"type":"text","text":"a"},{"type":"text","text":"b"}],"isError":true}"#);
        assert_eq!((shown.text.as_str(), shown.is_error), ("a\nb", true));
        for raw in [r#"{"content":[{"type":"image","data":"x"}]}"#, r#"{"content":[]}"#, "[1]", "plain"] {
            assert_eq!(result(raw.as_bytes()).text, raw);
        }
    }
}
