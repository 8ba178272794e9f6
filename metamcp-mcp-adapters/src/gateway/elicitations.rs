//! Who was sent to a URL by which server, so that a word of the server that this is complete reaches that client and nobody else.
//!
//! A legacy server names such an elicitation by an id, in its question or in the error that says one is required. It may tell of the end at
//! any time and on any stream. Revision 2026-07-28 knows neither: its clients learn the outcome by making their request again.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use metamcp_core::{id::ServerName, json::RawJson};
use serde::Deserialize;
use tokio::time::Instant;

use super::members::Members;

/// How a server tells that an elicitation is complete.
pub(crate) const COMPLETE: &str = "notifications/elicitation/complete";
/// The error of a request that needs elicitations to be complete before it (revision 2025-11-25).
pub(crate) const REQUIRED: i64 = -32042;
/// Elicitations that are remembered; the oldest is forgotten first.
const OUTSTANDING_MAX: usize = 4_096;
/// How long one is remembered.
const OUTSTANDING_TTL: Duration = Duration::from_secs(3_600);
/// Longest id that is remembered, in bytes.
const ID_BYTES_MAX: usize = 256;

/// A client that may be told something when its request is over. Must not block.
pub(crate) trait Address: Send + Sync {
    /// Tells it that an elicitation is complete, unless it is gone. `params`: as its server wrote them.
    fn completed(&self, params: &RawJson);
}

/// The elicitations that are not complete.
#[derive(Default)]
pub(crate) struct Elicitations(Mutex<VecDeque<Outstanding>>);

struct Outstanding {
    server: ServerName,
    id: Box<str>,
    asked: Arc<dyn Address>,
    until: Instant,
}

impl Elicitations {
    /// A client is asked this by a server.
    pub(crate) fn asked(&self, server: &ServerName, params: &RawJson, client: Option<Arc<dyn Address>>) {
        if let (Some(id), Some(client)) = (id_of(params), client) {
            self.add(server, id, client);
        }
    }

    /// A client is told that these are required.
    pub(crate) fn required(&self, server: &ServerName, data: Option<&RawJson>, client: Option<Arc<dyn Address>>) {
        #[derive(Deserialize)]
        struct Required {
            elicitations: Vec<RawJson>,
        }
        let (Some(data), Some(client)) = (data, client) else { return };
        let Ok(Required { elicitations }) = serde_json::from_str(data.get()) else { return };
        for id in elicitations.iter().filter_map(id_of) {
            self.add(server, id, Arc::clone(&client));
        }
    }

    /// A server says that one is complete: who was asked is told, once.
    pub(crate) fn completed(&self, server: &ServerName, params: &RawJson) {
        let Some(id) = id_of(params) else { return };
        let asked: Vec<_> = {
            let mut outstanding = self.lock();
            let (complete, left) =
                std::mem::take(&mut *outstanding).into_iter().partition(|one| one.server == *server && one.id == id);
            *outstanding = left;
            let complete: VecDeque<Outstanding> = complete;
            complete.into_iter().map(|one| one.asked).collect()
        };
        if asked.is_empty() {
            tracing::debug!(%server, "told that an elicitation is complete which nobody here was asked");
        }
        for client in asked {
            client.completed(params);
        }
    }

    fn add(&self, server: &ServerName, id: Box<str>, asked: Arc<dyn Address>) {
        let now = Instant::now();
        let mut outstanding = self.lock();
        while outstanding.front().is_some_and(|one| one.until <= now) || outstanding.len() >= OUTSTANDING_MAX {
            outstanding.pop_front();
        }
        outstanding.push_back(Outstanding { server: server.clone(), id, asked, until: now + OUTSTANDING_TTL });
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Outstanding>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Elicitations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Elicitations").field("outstanding", &self.lock().len()).finish()
    }
}

/// The id of an elicitation; one without has no end that could be told.
fn id_of(params: &RawJson) -> Option<Box<str>> {
    let members = Members::of(params.get()).ok()?;
    members
        .text("elicitationId")
        .filter(|id| (1..=ID_BYTES_MAX).contains(&id.len()))
        .map(|id| id.into_owned().into_boxed_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Told(Mutex<Vec<String>>);

    impl Address for Told {
        fn completed(&self, params: &RawJson) {
            self.0.lock().unwrap().push(params.get().to_owned());
        }
    }

    fn raw(text: &str) -> RawJson {
        RawJson::parse(text).unwrap()
    }

    fn server(name: &str) -> ServerName {
        ServerName::new(name).unwrap()
    }

    #[tokio::test]
    async fn whoever_was_asked_is_told_once_and_nobody_else() {
        let (elicitations, one, two) = (Elicitations::default(), Arc::<Told>::default(), Arc::<Told>::default());
        let address = |told: &Arc<Told>| Some(Arc::clone(told) as Arc<dyn Address>);
        elicitations.asked(&server("a"), &raw(r#"{"mode":"url","elicitationId":"1"}"#), address(&one));
        let data = r#"{"elicitations":[{"elicitationId":"2"},{"elicitationId":"3"},{"mode":"url"}]}"#;
        elicitations.required(&server("a"), Some(&raw(data)), address(&two));
        elicitations.required(&server("a"), Some(&raw("[1]")), address(&two));
        elicitations.asked(&server("a"), &raw(r#"{"message":"a form"}"#), address(&two));
        for complete in ["1", "1", "3", "4"] {
            let params = raw(&format!(r#"{{"elicitationId":"{complete}", "x":1.0}}"#));
            elicitations.completed(&server("b"), &params);
            elicitations.completed(&server("a"), &params);
        }
        assert_eq!(*one.0.lock().unwrap(), [r#"{"elicitationId":"1", "x":1.0}"#]);
        assert_eq!(*two.0.lock().unwrap(), [r#"{"elicitationId":"3", "x":1.0}"#]);
    }

    #[tokio::test(start_paused = true)]
    async fn few_are_remembered_and_none_for_long() {
        let (elicitations, told) = (Elicitations::default(), Arc::<Told>::default());
        let ask = |n: usize| {
            let params = raw(&format!(r#"{{"elicitationId":"{n}"}}"#));
            elicitations.asked(&server("a"), &params, Some(Arc::clone(&told) as Arc<dyn Address>));
        };
        (0..=OUTSTANDING_MAX).for_each(ask);
        assert_eq!(elicitations.lock().len(), OUTSTANDING_MAX);
        elicitations.completed(&server("a"), &raw(r#"{"elicitationId":"0"}"#));
        assert!(told.0.lock().unwrap().is_empty(), "the oldest is forgotten");
        tokio::time::sleep(OUTSTANDING_TTL).await;
        ask(0);
        assert_eq!(elicitations.lock().len(), 1);
    }
}
