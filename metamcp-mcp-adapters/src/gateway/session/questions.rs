//! Questions to a legacy client that wait for its answer.

use std::{
    collections::HashMap,
    sync::{
        LazyLock, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use metamcp_core::json::RawJson;
use rand::random;
use tokio::sync::oneshot;

use crate::{gateway::RpcFault, wire::era::INTERNAL_ERROR};

/// Most questions that one client has open.
const QUESTIONS_MAX: usize = 64;

/// What a client answered.
pub(crate) type Outcome = Result<RawJson, RpcFault>;

/// The open questions of one client.
#[derive(Debug, Default)]
pub(crate) struct Questions(Mutex<HashMap<String, oneshot::Sender<Outcome>>>);

/// One open question; dropping it closes it.
#[derive(Debug)]
pub(crate) struct Question<'a> {
    questions: &'a Questions,
    /// Its id, of this process alone.
    pub(crate) id: String,
    answer: oneshot::Receiver<Outcome>,
}

impl Questions {
    /// Opens a question.
    ///
    /// # Errors
    /// When the client has too many of them open.
    pub(crate) fn open(&self) -> Result<Question<'_>, RpcFault> {
        let (sender, answer) = oneshot::channel();
        let id = next_id();
        let mut open = self.lock();
        if open.len() >= QUESTIONS_MAX {
            let why = format!("the client has {QUESTIONS_MAX} questions open; ask again when it has answered some");
            return Err(RpcFault::new(INTERNAL_ERROR, why));
        }
        open.insert(id.clone(), sender);
        drop(open);
        Ok(Question { questions: self, id, answer })
    }

    /// Gives an answer to who asked; gives it back when nobody did here.
    pub(crate) fn answer(&self, id: &str, outcome: Outcome) -> Result<(), Outcome> {
        match self.lock().remove(id) {
            Some(sender) => sender.send(outcome),
            None => Err(outcome),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, oneshot::Sender<Outcome>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Question<'_> {
    /// Waits for the answer. Cancel safe.
    pub(crate) async fn answered(&mut self) -> Outcome {
        let gone = |_| Err(RpcFault::new(INTERNAL_ERROR, "the client went away before it answered"));
        (&mut self.answer).await.unwrap_or_else(gone)
    }
}

impl Drop for Question<'_> {
    fn drop(&mut self) {
        let mut open = self.questions.lock();
        open.remove(&self.id);
        if open.is_empty() {
            // An idle session holds nothing.
            *open = HashMap::new();
        }
    }
}

/// Whether this may be the id of a question of any replica.
pub(super) fn is_question(id: &str) -> bool {
    id.len() <= ID_BYTES_MAX && id.starts_with(KIND) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

/// How ids of questions begin.
const KIND: &str = "ask-";
/// Longest id of a question, in bytes.
const ID_BYTES_MAX: usize = 64;
/// Tells questions of this process from those of other replicas.
static PREFIX: LazyLock<String> = LazyLock::new(|| format!("{KIND}{:016x}-", random::<u64>()));

fn next_id() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    format!("{}{}", *PREFIX, COUNT.fetch_add(1, Ordering::Relaxed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_answer_finds_its_question_once() {
        let questions = Questions::default();
        let (mut one, two) = (questions.open().unwrap(), questions.open().unwrap());
        let answer = || Ok(RawJson::empty_object());
        let (first, second) = (one.id.clone(), two.id.clone());
        assert!(is_question(&first) && first != second && !is_question("7"));
        drop(two);
        assert!(questions.answer(&second, answer()).is_err(), "nobody waits");
        assert!(questions.answer(&first, answer()).is_ok() && questions.answer(&first, answer()).is_err());
        assert_eq!(one.answered().await, answer());
    }

    #[test]
    fn a_client_is_not_asked_without_end() {
        let questions = Questions::default();
        let open: Vec<_> = (0..QUESTIONS_MAX).map(|_| questions.open().unwrap()).collect();
        assert!(questions.open().is_err());
        drop(open);
        assert!(questions.open().is_ok());
    }
}
