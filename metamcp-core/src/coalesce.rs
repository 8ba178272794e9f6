//! Concurrent calls become one: entries that callers bring while a call is under way go out together with the next.
//!
//! Nothing waits for company: an entry that comes alone goes out alone and at once. A store whose cost is by the call, not by the entry, so
//! serves many callers at the price of few. One call is under way at a time: a second one would halve them both, not end them earlier.

use std::{fmt, future::Future};

use tokio::sync::{mpsc, oneshot};

use crate::error::{StoreError, StoreErrorKind, StoreResult};

/// Weight of one call, in bytes: one large entry must not hold up, nor fail, a hundred small ones.
const CALL_BYTES_MAX: usize = 4 << 20;
/// Callers that wait in line before further ones wait for room.
const CALLERS_MAX: usize = 4_096;

struct Entry<I, O> {
    items: Vec<I>,
    reply: oneshot::Sender<StoreResult<Vec<O>>>,
}

/// One kind of call that takes entries and answers entry by entry.
pub struct Coalescer<I, O> {
    line: mpsc::Sender<Entry<I, O>>,
    store: &'static str,
}

impl<I, O> fmt::Debug for Coalescer<I, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Coalescer").field("store", &self.store).finish_non_exhaustive()
    }
}

impl<I: Send + 'static, O: Send + 'static> Coalescer<I, O> {
    /// Makes calls of at most `entries_max` entries that weigh no more than 4 MiB together, unless one alone does. `store` is for errors.
    ///
    /// # Panics
    /// Outside of a tokio runtime, which must live as long as this is used.
    pub fn new<F>(
        store: &'static str,
        entries_max: usize,
        weigh: fn(&I) -> usize,
        call: impl Fn(Vec<I>) -> F + Send + 'static,
    ) -> Self
    where
        F: Future<Output = StoreResult<Vec<O>>> + Send + 'static,
    {
        let (line, mut entries) = mpsc::channel::<Entry<I, O>>(CALLERS_MAX);
        tokio::spawn(async move {
            let mut held_over = None;
            loop {
                let first = match held_over.take() {
                    Some(entry) => Some(entry),
                    None => entries.recv().await,
                };
                let Some(first) = first else { return };
                let (mut items, mut replies) = (first.items, vec![first.reply]);
                let mut counts = vec![items.len()];
                let mut bytes: usize = items.iter().map(weigh).sum();
                while items.len() < entries_max
                    && bytes < CALL_BYTES_MAX
                    && let Ok(next) = entries.try_recv()
                {
                    let next_bytes: usize = next.items.iter().map(weigh).sum();
                    if items.len() + next.items.len() > entries_max || bytes + next_bytes > CALL_BYTES_MAX {
                        held_over = Some(next);
                        break;
                    }
                    bytes += next_bytes;
                    counts.push(next.items.len());
                    items.extend(next.items);
                    replies.push(next.reply);
                }
                let calling = call(items);
                // In a task of its own: a call that panics leaves its own callers without an answer, and no others.
                // On the heap from the start: a task that is spawned is moved about a dozen times.
                let dealt = Box::pin(async move { deal_out(store, calling.await, counts, replies) });
                let called = tokio::spawn(dealt);
                let _ended = called.await;
            }
        });
        Self { line, store }
    }

    /// Brings entries and waits for their answers.
    ///
    /// # Errors
    /// That of the call they went out with; `Closed` when the runtime is gone.
    ///
    /// # Cancel safety
    /// Entries that were brought are called for even if nobody waits any more.
    pub async fn call(&self, items: Vec<I>) -> StoreResult<Vec<O>> {
        let gone = || StoreError::new(StoreErrorKind::Closed, self.store, "its runtime is gone, open it anew");
        let (reply, answer) = oneshot::channel();
        self.line.send(Entry { items, reply }).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

fn deal_out<O>(
    store: &'static str,
    answers: StoreResult<Vec<O>>,
    counts: Vec<usize>,
    replies: Vec<oneshot::Sender<StoreResult<Vec<O>>>>,
) {
    let wanted: usize = counts.iter().sum();
    let answers = answers.and_then(|answers| match answers.len() == wanted {
        true => Ok(answers),
        false => {
            let message = format!("{} answers for {wanted} entries", answers.len());
            Err(StoreError::new(StoreErrorKind::Corrupt, store, message))
        }
    });
    // A caller that went away wants no answer.
    match answers {
        Ok(answers) => {
            let mut answers = answers.into_iter();
            for (count, reply) in counts.into_iter().zip(replies) {
                let _ = reply.send(Ok(answers.by_ref().take(count).collect()));
            }
        }
        Err(error) => replies.into_iter().for_each(|reply| {
            let _ = reply.send(Err(error.clone()));
        }),
    }
}
