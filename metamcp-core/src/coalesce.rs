//! Concurrent calls become one: entries that callers bring while a call is under way go out together with the next.
//!
//! Nothing waits for company: an entry that comes alone goes out alone and at once. A store whose cost is by the call, not by the entry, so
//! serves many callers at the price of few.

use std::{fmt, future::Future, pin::Pin, sync::Arc};

use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::error::{StoreError, StoreErrorKind, StoreResult};

/// Calls under way at a time: while one is answered the next is already on its way.
const IN_FLIGHT_MAX: usize = 2;
/// Weight of one call, in bytes: one large entry must not hold up, nor fail, a hundred small ones.
const CALL_BYTES_MAX: usize = 4 << 20;
/// Callers that wait in line before further ones wait for room.
const CALLERS_MAX: usize = 4_096;

type Answer<O> = Pin<Box<dyn Future<Output = StoreResult<Vec<O>>> + Send>>;
type Call<I, O> = Arc<dyn Fn(Vec<I>) -> Answer<O> + Send + Sync>;

struct Entry<I, O> {
    items: Vec<I>,
    reply: oneshot::Sender<StoreResult<Vec<O>>>,
}

/// One kind of call that takes entries and answers entry by entry.
pub(crate) struct Coalescer<I, O> {
    line: mpsc::Sender<Entry<I, O>>,
    store: &'static str,
}

impl<I, O> fmt::Debug for Coalescer<I, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Coalescer").field("store", &self.store).finish_non_exhaustive()
    }
}

impl<I: Send + 'static, O: Send + 'static> Coalescer<I, O> {
    /// Makes calls of at most `entries_max` entries that weigh no more than [`CALL_BYTES_MAX`] together, unless one alone does, from a task of the current tokio runtime that ends with the last clone of the line.
    pub(crate) fn new<F>(
        store: &'static str,
        entries_max: usize,
        weigh: fn(&I) -> usize,
        call: impl Fn(Vec<I>) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = StoreResult<Vec<O>>> + Send + 'static,
    {
        let (line, mut entries) = mpsc::channel::<Entry<I, O>>(CALLERS_MAX);
        let call: Call<I, O> = Arc::new(move |items| Box::pin(call(items)));
        tokio::spawn(async move {
            let room = Arc::new(Semaphore::new(IN_FLIGHT_MAX));
            let mut held_over = None;
            loop {
                let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
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
                let call = Arc::clone(&call);
                tokio::spawn(async move {
                    deal_out(store, call(items).await, counts, replies);
                    drop(permit);
                });
            }
        });
        Self { line, store }
    }

    /// Brings entries and waits for their answers.
    ///
    /// # Cancel safety
    /// Entries that were brought are called for even if nobody waits any more.
    pub(crate) async fn call(&self, items: Vec<I>) -> StoreResult<Vec<O>> {
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
