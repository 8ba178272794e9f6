//! The questions that a legacy server asks at once: they come one by one, and are put to the caller together.

use std::time::Duration;

use serde_json::value::RawValue;
use tokio::time::{Instant, timeout_at};

use super::{
    abilities::Relayable,
    way::{Asked, Question, Rest, Step},
};

/// How long further questions are waited for after the first, in milliseconds.
const GATHER_MS: u64 = 20;
/// Questions that are put to a caller at once; further ones wait for their turn.
const QUESTIONS_MAX: usize = 8;

/// The questions so far.
#[derive(Debug, Default)]
pub(super) struct Gathering {
    questions: Vec<Question>,
    /// When they are put to the caller; set by the first.
    until: Option<Instant>,
}

impl Gathering {
    /// What comes next; `None` when it is time to ask.
    pub(super) async fn next<T>(&self, next: impl Future<Output = T>) -> Option<T> {
        let Some(until) = self.until else { return Some(next.await) };
        // Looked at first: who always has something to say must not put the questions off.
        if self.questions.len() >= QUESTIONS_MAX || Instant::now() >= until {
            return None;
        }
        timeout_at(until, next).await.ok()
    }

    /// Takes a question, or gives it back when the client cannot be asked it.
    pub(super) fn take(&mut self, question: Question, capabilities: Option<&RawValue>) -> Result<(), Question> {
        if !Relayable::of(capabilities).cover(&question.method, question.params.as_deref()) {
            return Err(question);
        }
        self.questions.push(question);
        self.until.get_or_insert_with(|| Instant::now() + Duration::from_millis(GATHER_MS));
        Ok(())
    }

    /// The step that asks them; `rest` goes on with the answers.
    pub(super) fn ask(self, rest: impl Rest + 'static) -> Step {
        Step::Asked(Asked { questions: self.questions, rest: Box::new(rest) })
    }
}
