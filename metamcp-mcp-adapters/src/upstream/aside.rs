//! Further connections to a server that asks, each for one call at a time.
//!
//! On a shared stream of bytes a question does not say for which call it is. A server that was seen to ask is started once more for every
//! further call that can be asked, so that each question has one call it can be for; what else is called goes on over the shared connection.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use async_trait::async_trait;
use metamcp_core::transport::{RelayRequest, RelaySide, TransportError};
use serde_json::value::RawValue;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, broadcast::error::RecvError},
    time::{Instant, sleep_until},
};

use super::way::{Asked, Failure, Rest, Step, Way};

/// Calls that have a connection of their own at a time; further ones share the first.
const ASIDE_MAX: usize = 8;
/// How long a connection that no call needs is kept: what its process tells of an elicitation by URL comes late.
const IDLE: Duration = Duration::from_secs(600);

/// A connection beside the shared one.
#[async_trait]
pub(super) trait Beside: fmt::Debug + Send + Sync {
    fn way(&self) -> &dyn Way;

    /// Makes a call until it ends or asks.
    async fn step(&self, request: &RelayRequest<'_>, side: &dyn RelaySide) -> Result<Step, Failure>;
}

/// Opens one more connection to the same server.
#[async_trait]
pub(super) trait Another: fmt::Debug + Send + Sync {
    /// It speaks the legacy era.
    async fn open(&self) -> Result<Arc<dyn Beside>, TransportError>;
}

/// The connections beside the shared one.
#[derive(Debug)]
pub(super) struct Aside {
    another: Box<dyn Another>,
    places: Arc<Semaphore>,
    /// Short sections, never held over an await.
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Those that no call needs, and since when; the last was used last.
    idle: Vec<(Instant, Arc<dyn Beside>)>,
    /// Whether a task waits to end them.
    is_swept: bool,
    /// All there are.
    open: Vec<Weak<dyn Beside>>,
    closed: bool,
}

impl Aside {
    pub(super) fn new(another: Box<dyn Another>) -> Arc<Self> {
        Arc::new(Self { another, places: Arc::new(Semaphore::new(ASIDE_MAX)), state: Mutex::default() })
    }

    /// A connection for one call; what its server tells goes to those who listen to `shared`. `None`: there is no room, or it cannot be opened.
    pub(super) async fn take(self: &Arc<Self>, shared: &Arc<dyn Way>) -> Option<Own> {
        let place = Arc::clone(&self.places).try_acquire_owned().ok()?;
        let idle = {
            let mut state = self.state();
            state.idle.retain(|(_, session)| !session.way().is_closed());
            state.idle.pop()
        };
        let session = match idle {
            Some((_, session)) => session,
            None => self.open(shared).await?,
        };
        Some(Own { aside: Arc::clone(self), session, _place: place })
    }

    async fn open(&self, shared: &Arc<dyn Way>) -> Option<Arc<dyn Beside>> {
        let session = match self.another.open().await {
            Ok(session) => session,
            Err(error) => {
                tracing::warn!(%error, "no further connection for a call that may be asked");
                return None;
            }
        };
        let (mut news, shared) = (session.way().news().receiver(), Arc::downgrade(shared));
        tokio::spawn(async move {
            // Ends with the connection.
            loop {
                let told = news.recv().await;
                let (false, Some(shared)) = (matches!(told, Err(RecvError::Closed)), shared.upgrade()) else { return };
                match told {
                    Ok(told) => shared.news().tell(&told.method, told.params.as_ref().map(|params| params.raw())),
                    Err(_) => shared.news().missed(),
                }
            }
        });
        let mut state = self.state();
        if state.closed {
            return None;
        }
        state.open.retain(|session| session.strong_count() > 0);
        state.open.push(Arc::downgrade(&session));
        drop(state);
        Some(session)
    }

    /// Ends all of them.
    pub(super) async fn close(&self) {
        let open = {
            let mut state = self.state();
            state.closed = true;
            state.idle.clear();
            std::mem::take(&mut state.open)
        };
        for session in open.iter().filter_map(Weak::upgrade) {
            session.way().close().await;
        }
    }

    /// Takes a connection back whose call has ended.
    fn give_back(self: &Arc<Self>, session: Arc<dyn Beside>) {
        let mut state = self.state();
        if state.closed {
            return;
        }
        state.idle.push((Instant::now(), session));
        if !state.is_swept {
            state.is_swept = true;
            tokio::spawn(sweep(Arc::downgrade(self)));
        }
    }

    /// Lets go of those that have been idle for long; when the next one will have been, if there is one.
    fn let_go(&self) -> Option<Instant> {
        let mut state = self.state();
        let now = Instant::now();
        state.idle.retain(|(since, _)| now < *since + IDLE);
        let next = state.idle.first().map(|(since, _)| *since + IDLE);
        state.is_swept = next.is_some();
        next
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends connections that stay idle, for as long as there are any.
async fn sweep(aside: Weak<Aside>) {
    while let Some(next) = aside.upgrade().and_then(|aside| aside.let_go()) {
        sleep_until(next).await;
    }
}

/// A connection of one call. One whose call was given up is dropped with it: something may come for that call still.
#[derive(Debug)]
pub(super) struct Own {
    aside: Arc<Aside>,
    session: Arc<dyn Beside>,
    _place: OwnedSemaphorePermit,
}

impl Own {
    /// Makes the call.
    pub(super) async fn ask(self, request: &RelayRequest<'_>, side: &dyn RelaySide) -> Result<Step, Failure> {
        let step = self.session.step(request, side).await;
        self.after(step)
    }

    /// Kept as long as the call goes on.
    fn after(self, step: Result<Step, Failure>) -> Result<Step, Failure> {
        match step {
            Ok(Step::Asked(Asked { questions, rest })) => {
                Ok(Step::Asked(Asked { questions, rest: Box::new(OnOwn { rest, own: self }) }))
            }
            ended @ (Ok(Step::Done(_)) | Err(Failure::Rpc(..))) => {
                let Self { aside, session, .. } = self;
                aside.give_back(session);
                ended
            }
            broken => broken,
        }
    }
}

/// A call that waits for answers on its own connection.
#[derive(Debug)]
struct OnOwn {
    rest: Box<dyn Rest>,
    own: Own,
}

#[async_trait]
impl Rest for OnOwn {
    async fn go_on(
        self: Box<Self>,
        answers: Vec<String>,
        capabilities: Option<&RawValue>,
        side: &dyn RelaySide,
    ) -> Result<Step, Failure> {
        let Self { rest, own } = *self;
        let step = rest.go_on(answers, capabilities, side).await;
        own.after(step)
    }

    fn give_up(self: Box<Self>, answers: Vec<String>) {
        self.rest.give_up(answers);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use metamcp_core::json::RawJson;

    use super::*;
    use crate::upstream::{
        news::News,
        way::{Ask, Deaf},
    };

    /// A connection whose calls end at once.
    #[derive(Debug)]
    struct Quick(News);

    #[async_trait]
    impl Way for Quick {
        fn kind(&self) -> &'static str {
            "quick"
        }

        async fn ask(&self, _: &mut Ask<'_>, _: &dyn RelaySide) -> Result<Step, Failure> {
            Ok(Step::Done(RawJson::empty_object()))
        }

        async fn tell(&self, _: &'static str) -> Result<(), Failure> {
            Ok(())
        }

        fn agreed(&self, _: &str) {}

        fn news(&self) -> &News {
            &self.0
        }

        fn is_closed(&self) -> bool {
            false
        }

        async fn close(&self) {}
    }

    #[async_trait]
    impl Beside for Quick {
        fn way(&self) -> &dyn Way {
            self
        }

        async fn step(&self, _: &RelayRequest<'_>, _: &dyn RelaySide) -> Result<Step, Failure> {
            Ok(Step::Done(RawJson::empty_object()))
        }
    }

    /// Opens quick ones and counts them; the last is kept to be spoken by.
    #[derive(Debug, Default, Clone)]
    struct Opens(Arc<AtomicUsize>, Arc<Mutex<Weak<Quick>>>);

    #[async_trait]
    impl Another for Opens {
        async fn open(&self) -> Result<Arc<dyn Beside>, TransportError> {
            self.0.fetch_add(1, Ordering::Relaxed);
            let quick = Arc::new(Quick(News::new()));
            *self.1.lock().unwrap() = Arc::downgrade(&quick);
            Ok(quick)
        }
    }

    async fn call(aside: &Arc<Aside>, shared: &Arc<dyn Way>) {
        let request = RelayRequest { method: "tools/call", name: None, params: &[], meta: Default::default() };
        aside.take(shared).await.expect("there is room").ask(&request, &Deaf).await.expect("it ends");
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_ends_when_it_was_idle_for_long_and_not_before() {
        let (opens, shared): (_, Arc<dyn Way>) = (Opens::default(), Arc::new(Quick(News::new())));
        let aside = Aside::new(Box::new(opens.clone()));
        let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
        call(&aside, &shared).await;
        let before = tasks();
        for _ in 0..4 {
            tokio::time::sleep(IDLE / 2).await;
            call(&aside, &shared).await;
        }
        assert_eq!((opens.0.load(Ordering::Relaxed), tasks()), (1, before), "it was in use all the time");
        tokio::time::sleep(IDLE + Duration::from_secs(1)).await;
        assert!(opens.1.lock().unwrap().upgrade().is_none(), "nobody holds it any more");
        call(&aside, &shared).await;
        assert_eq!(opens.0.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn what_it_tells_is_heard_also_after_a_burst() {
        let (opens, shared): (_, Arc<dyn Way>) = (Opens::default(), Arc::new(Quick(News::new())));
        let aside = Aside::new(Box::new(opens.clone()));
        let mut heard = shared.news().receiver();
        call(&aside, &shared).await;
        let quick = opens.1.lock().unwrap().upgrade().expect("idle");
        for _ in 0..1_000 {
            quick.0.tell("notifications/resources/updated", None);
        }
        while heard.recv().await.expect("lists to be read again").method != "notifications/tools/list_changed" {}
        quick.0.tell("notifications/elicitation/complete", None);
        while heard.recv().await.expect("what came later").method != "notifications/elicitation/complete" {}
    }
}
