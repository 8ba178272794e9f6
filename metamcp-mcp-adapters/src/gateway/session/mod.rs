//! Sessions of legacy clients over HTTP. A session is its id: sealed, self-contained, good on every replica. What is held here is only what
//! its requests share while they come by, and it is let go when they do not.

mod elsewhere;
mod live;
mod log;
mod questions;
mod running;
mod shared;
mod ticket;

use std::{
    collections::HashMap,
    fmt,
    hash::{BuildHasher, Hasher, RandomState},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use metamcp_core::{
    auth::Principal,
    json::RawJson,
    record::RecordStore,
    time::{Clock, SystemClock},
};
use tokio::time::Instant;

pub(crate) use self::{
    live::{GET_STREAM, Session, Stop},
    log::{EventId, Following},
    questions::{Outcome, Questions},
    running::Running,
    shared::Shared,
};
use super::{RpcFault, lifecycle::Hello, seal::Seal};
use crate::wire::era::INTERNAL_ERROR;

/// Sessions held at the same time, unless options say otherwise. One above it takes the place of the one idle longest.
pub const SESSIONS_MAX: usize = 10_000;
/// How long a session is held whose client does not come by, in seconds. Its id stays good.
pub const SESSION_IDLE_S: u64 = 1_800;
/// How long the id of a session is good, in seconds: 30 days.
pub const SESSION_LIFETIME_S: u64 = 30 * 24 * 3_600;
/// Pause between two looks for sessions to let go, in seconds.
const SWEEP_S: u64 = 30;
/// How long what was sent is kept for a client that lost its connection, in seconds.
const LOG_KEPT_S: u64 = 60;
/// How old what is known of a session's record may be when a request of it comes, in seconds.
const LOOK_S: u64 = 5;

/// Bounds of sessions.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SessionBounds {
    pub(crate) sessions_max: usize,
    pub(crate) idle: Duration,
    pub(crate) lifetime: Duration,
}

/// All sessions that are held here.
pub(crate) struct Sessions {
    seal: Seal,
    records: Arc<dyn RecordStore>,
    clock: SystemClock,
    bounds: SessionBounds,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    by_id: HashMap<Arc<str>, Arc<Session>, ByHead>,
    /// Whether somebody looks for sessions to let go.
    is_swept: bool,
}

/// Tells ids apart by how they begin: with the seal's tag over all the rest, which is long and much alike.
#[derive(Debug, Clone, Default)]
struct ByHead(RandomState);

/// The bytes of an id that are hashed.
const HEAD_BYTES: usize = 16;

struct HeadHasher(<RandomState as BuildHasher>::Hasher);

impl BuildHasher for ByHead {
    type Hasher = HeadHasher;

    fn build_hasher(&self) -> HeadHasher {
        HeadHasher(self.0.build_hasher())
    }
}

impl Hasher for HeadHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.write(&bytes[..bytes.len().min(HEAD_BYTES)]);
    }

    fn finish(&self) -> u64 {
        self.0.finish()
    }
}

impl Sessions {
    /// None, under this seal and with these records.
    pub(crate) fn new(seal: Seal, records: Arc<dyn RecordStore>, bounds: SessionBounds) -> Arc<Self> {
        Arc::new(Self { seal, records, clock: SystemClock::default(), bounds, held: Mutex::default() })
    }

    /// A new session.
    ///
    /// # Errors
    /// When what the client says of itself is too large.
    pub(crate) fn begin(
        self: &Arc<Self>,
        principal: &Principal,
        endpoint: Option<&str>,
        hello: &Hello,
    ) -> Result<Arc<Session>, RpcFault> {
        let now = self.clock.now();
        let (id, opened) = ticket::issue(&self.seal, principal, endpoint, hello, now, self.bounds.lifetime)?;
        let session = Session::new(id, opened, Shared::default(), Instant::now());
        Ok(self.hold(session))
    }

    /// The session of this id, if it is one of this principal on this endpoint and goes on.
    pub(crate) async fn find(
        self: &Arc<Self>,
        id: &str,
        principal: &Principal,
        endpoint: Option<&str>,
    ) -> Option<Arc<Session>> {
        let held = self.held().by_id.get(id).cloned();
        let session = match held {
            Some(session) => session,
            // Boxed, as below: rare, and the future of every call would carry it.
            None => Box::pin(self.take_up(id)).await?,
        };
        if session.visit(principal, endpoint, Instant::now(), Duration::from_secs(LOOK_S))? {
            Box::pin(self.look(&session)).await;
        }
        (!session.has_ended() && session.expires > self.clock.now()).then_some(session)
    }

    /// Looks at what others have set in a session. One that cannot be looked at goes on as it is: its id is proof enough.
    pub(crate) async fn look(&self, session: &Session) {
        match shared::read(&*self.records, session.nonce).await {
            Ok((shared, version)) => session.set(shared, version),
            Err(error) => tracing::warn!(%error, "what other replicas know of a session is not read"),
        }
    }

    /// Sets something in a session, for all replicas.
    ///
    /// # Errors
    /// When the store cannot be used.
    pub(crate) async fn change(&self, session: &Session, change: impl Fn(&mut Shared)) -> Result<(), RpcFault> {
        let left = session.expires.since(self.clock.now()).max(Duration::from_secs(1));
        match shared::change(&*self.records, session.nonce, left, change).await {
            Ok((shared, version)) => {
                session.set(shared, version);
                Ok(())
            }
            Err(error) => Err(RpcFault::new(INTERNAL_ERROR, format!("the session cannot be changed now: {error}"))),
        }
    }

    /// Has the client of a session told that an elicitation is complete, by whichever replica has its stream.
    ///
    /// # Errors
    /// When the store cannot be used.
    pub(crate) async fn complete(&self, session: &Session, params: &RawJson) -> Result<(), RpcFault> {
        let now = self.clock.now();
        self.change(session, |shared| shared.complete(params, now)).await
    }

    /// Ends a session, for all replicas.
    ///
    /// # Errors
    /// When the store cannot be used: it ended here and may go on elsewhere.
    pub(crate) async fn end(&self, session: &Session) -> Result<(), RpcFault> {
        let ended = self.change(session, |shared| *shared = Shared { ended: true, ..Shared::default() }).await;
        session.set(Shared { ended: true, ..Shared::default() }, u64::MAX);
        self.held().by_id.remove(&session.id);
        ended
    }

    /// Gives a client's answer to who asked, here or on another replica.
    pub(crate) async fn answer(&self, session: &Session, question: &str, outcome: Outcome) -> Result<(), RpcFault> {
        let Err(outcome) = session.questions.answer(question, outcome) else { return Ok(()) };
        if !questions::is_question(question) {
            return Ok(());
        }
        let handed = shared::hand_over(&*self.records, session.nonce, question, outcome).await;
        handed.map_err(|error| RpcFault::new(INTERNAL_ERROR, format!("the answer cannot be handed on now: {error}")))
    }

    /// The answer to a question of ours that came to another replica.
    pub(crate) async fn answered_elsewhere(&self, session: &Session, question: &str) -> Option<Outcome> {
        shared::take_over(&*self.records, session.nonce, question)
            .await
            .inspect_err(|error| tracing::warn!(%error, "answers that came to other replicas are not read"))
            .ok()?
    }

    /// Tells the other replicas that the client took a request back which is not answered here.
    ///
    /// # Errors
    /// When the store cannot be used.
    pub(crate) async fn take_back(&self, session: &Session, request: &str) -> Result<(), RpcFault> {
        let told = shared::take_back(&*self.records, session.nonce, request).await;
        told.map_err(|error| RpcFault::new(INTERNAL_ERROR, format!("the request cannot be taken back now: {error}")))
    }

    /// How many are held.
    pub(crate) fn len(&self) -> usize {
        self.held().by_id.len()
    }

    async fn take_up(self: &Arc<Self>, id: &str) -> Option<Arc<Session>> {
        let opened = ticket::open(&self.seal, id, self.clock.now())?;
        let session = Session::new(id.into(), opened, Shared::default(), Instant::now());
        self.look(&session).await;
        (!session.has_ended()).then(|| self.hold(session))
    }

    /// Holds a session, or gives the one that is held already.
    fn hold(self: &Arc<Self>, session: Session) -> Arc<Session> {
        let mut held = self.held();
        if let Some(known) = held.by_id.get(&session.id) {
            return Arc::clone(known);
        }
        if held.by_id.len() >= self.bounds.sessions_max {
            let now = Instant::now();
            let idle =
                held.by_id.values().filter(|one| Arc::strong_count(one) == 1 && one.is_idle(now, Duration::ZERO));
            if let Some(oldest) = idle.min_by_key(|one| one.used()).map(|one| Arc::clone(&one.id)) {
                held.by_id.remove(&oldest);
            }
        }
        let session = Arc::new(session);
        held.by_id.insert(Arc::clone(&session.id), Arc::clone(&session));
        if !held.is_swept {
            held.is_swept = true;
            tokio::spawn(sweep(Arc::downgrade(self)));
        }
        session
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets go of what nobody needs; whether there is anything left.
    fn let_go(&self) -> bool {
        let now = Instant::now();
        let mut held = self.held();
        held.by_id.retain(|_, session| {
            session.slim(now, Duration::from_secs(LOG_KEPT_S));
            // Whoever else holds it is serving it.
            Arc::strong_count(session) > 1 || !session.is_idle(now, self.bounds.idle)
        });
        let left = held.by_id.len();
        held.by_id.shrink_to(2 * left);
        held.is_swept = left > 0;
        left > 0
    }
}

/// One task for all sessions, while there are any.
async fn sweep(sessions: Weak<Sessions>) {
    loop {
        tokio::time::sleep(Duration::from_secs(SWEEP_S)).await;
        if !sessions.upgrade().is_some_and(|sessions| sessions.let_go()) {
            return;
        }
    }
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions").field("bounds", &self.bounds).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use metamcp_core::record::MemoryRecordStore;

    use super::*;
    use crate::{gateway::seal::SEAL_KEY_BYTES, wire::era::LEGACY_LATEST};

    fn bounds(sessions_max: usize) -> SessionBounds {
        let idle = Duration::from_secs(SESSION_IDLE_S);
        SessionBounds { sessions_max, idle, lifetime: Duration::from_secs(SESSION_LIFETIME_S) }
    }

    fn replicas<const N: usize>() -> [Arc<Sessions>; N] {
        let records: Arc<dyn RecordStore> = Arc::new(MemoryRecordStore::new(Arc::new(SystemClock::default())));
        [(); N].map(|()| Sessions::new(Seal::new(&[5; SEAL_KEY_BYTES]), Arc::clone(&records), bounds(100)))
    }

    fn hello() -> Hello {
        Hello { revision: LEGACY_LATEST, capabilities: RawJson::empty_object(), client_info: None }
    }

    #[tokio::test]
    async fn a_session_goes_on_at_another_replica_and_ends_at_all() {
        let [one, two] = replicas();
        let me = Principal::local();
        let begun = one.begin(&me, None, &hello()).unwrap();
        let level = RawJson::parse("\"error\"").unwrap();
        one.change(&begun, |shared| shared.log_level = Some(level.clone())).await.unwrap();
        let other = two.find(&begun.id, &me, None).await.unwrap();
        assert_eq!(other.caller().log_level, Some(level));
        assert!(two.find(&begun.id, &me, Some("elsewhere")).await.is_none(), "another endpoint");
        let somebody = Principal::new(me.tenant.clone(), "somebody else");
        assert!(two.find(&begun.id, &somebody, None).await.is_none());
        two.end(&other).await.unwrap();
        assert!(two.find(&begun.id, &me, None).await.is_none());
        let [three] = replicas();
        assert!(three.find(&begun.id, &me, None).await.is_some(), "other records, which know of no end");
        one.look(&begun).await;
        assert!(one.find(&begun.id, &me, None).await.is_none());
    }

    #[tokio::test]
    async fn a_look_that_comes_late_takes_nothing_back() {
        let [sessions] = replicas();
        let me = Principal::local();
        let session = sessions.begin(&me, None, &hello()).unwrap();
        let watch = async |uri: &str| {
            let change = |shared: &mut Shared| shared.uris.extend([uri.to_owned()]);
            sessions.change(&session, change).await.unwrap();
        };
        watch("a:1").await;
        let (looked_at, version) = shared::read(&*sessions.records, session.nonce).await.unwrap();
        watch("a:2").await;
        session.set(looked_at, version);
        assert_eq!(session.uris().len(), 2);
    }

    #[tokio::test]
    async fn an_answer_at_another_replica_reaches_who_asked() {
        let [one, two] = replicas();
        let me = Principal::local();
        let begun = one.begin(&me, None, &hello()).unwrap();
        let question = begun.questions.open().unwrap();
        let other = two.find(&begun.id, &me, None).await.unwrap();
        two.answer(&other, &question.id, Ok(RawJson::empty_object())).await.unwrap();
        assert_eq!(one.answered_elsewhere(&begun, &question.id).await, Some(Ok(RawJson::empty_object())));
        two.answer(&other, "7", Ok(RawJson::empty_object())).await.unwrap();
        assert_eq!(one.answered_elsewhere(&begun, "7").await, None, "nothing that we asked");
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_session_is_let_go_and_taken_up_again() {
        let [sessions] = replicas();
        let me = Principal::local();
        let id = Arc::clone(&sessions.begin(&me, None, &hello()).unwrap().id);
        tokio::time::sleep(Duration::from_secs(SESSION_IDLE_S / 2)).await;
        assert_eq!(sessions.len(), 1);
        tokio::time::sleep(Duration::from_secs(SESSION_IDLE_S)).await;
        assert_eq!((sessions.len(), sessions.held().is_swept), (0, false));
        assert!(sessions.find(&id, &me, None).await.is_some());
        assert_eq!((sessions.len(), sessions.held().is_swept), (1, true));
    }

    #[tokio::test]
    async fn one_too_many_takes_the_place_of_the_one_idle_longest() {
        let records: Arc<dyn RecordStore> = Arc::new(MemoryRecordStore::new(Arc::new(SystemClock::default())));
        let sessions = Sessions::new(Seal::new(&[5; SEAL_KEY_BYTES]), records, bounds(2));
        let begin = || sessions.begin(&Principal::local(), None, &hello()).unwrap();
        let served = begin();
        let idle = Arc::clone(&begin().id);
        let third = begin();
        assert!(sessions.len() == 2 && !sessions.held().by_id.contains_key(&idle));
        assert!(sessions.held().by_id.contains_key(&served.id) && sessions.held().by_id.contains_key(&third.id));
    }
}
