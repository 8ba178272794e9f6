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
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

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
    /// Those that no call needs; the last was used last.
    idle: Vec<Arc<dyn Beside>>,
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
            state.idle.retain(|session| !session.way().is_closed());
            state.idle.pop()
        };
        let session = match idle {
            Some(session) => session,
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
            while let Ok(told) = news.recv().await {
                let Some(shared) = shared.upgrade() else { return };
                shared.news().tell(&told.method, told.params.as_ref().map(|params| params.raw()));
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
        let weak = Arc::downgrade(&session);
        {
            let mut state = self.state();
            if state.closed {
                return;
            }
            state.idle.push(session);
        }
        let aside = Arc::downgrade(self);
        tokio::spawn(async move {
            tokio::time::sleep(IDLE).await;
            if let Some(aside) = aside.upgrade() {
                aside.state().idle.retain(|idle| !std::ptr::addr_eq(Arc::as_ptr(idle), weak.as_ptr()));
            }
        });
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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
