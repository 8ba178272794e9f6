//! The one client at the other end of the line: what it said of itself, what it is asked and told, and what is done for it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use metamcp_core::json::RawJson;
use serde_json::value::RawValue;
use tokio::sync::mpsc;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{StdioOptions, listen, outlet::Outlet};
use crate::{
    gateway::{
        Caller, ClientSide, Gateway, Reply, Request, RpcFault,
        elicitations::Address,
        front::{self, Frame},
        incoming::Notification,
        lifecycle::{self, Hello, text},
        session::{Outcome, Questions, Running},
    },
    wire::era::{Era, INTERNAL_ERROR, INVALID_PARAMS, METHOD_NOT_FOUND},
};

/// The client.
pub(super) struct Client {
    pub(super) gateway: Gateway,
    pub(super) options: StdioOptions,
    pub(super) running: Running<CancellationToken>,
    pub(super) tasks: TaskTracker,
    /// Cancelled when there is nobody to tell any more.
    pub(super) gone: CancellationToken,
    endpoint: Option<Arc<str>>,
    outlet: Outlet,
    questions: Questions,
    session: Mutex<Option<Session>>,
    /// Cancelled when the client has closed its end: what listens for it ends.
    ended: CancellationToken,
}

/// What a legacy client said at its beginning and set since.
struct Session {
    caller: Arc<Caller>,
    watch: mpsc::Sender<listen::Watch>,
}

impl Client {
    pub(super) fn new(
        gateway: Gateway,
        options: StdioOptions,
        outlet: Outlet,
        tasks: TaskTracker,
        gone: CancellationToken,
    ) -> Arc<Self> {
        Arc::new(Self {
            endpoint: options.endpoint.as_deref().map(Arc::from),
            ended: gone.child_token(),
            gateway,
            options,
            running: Running::default(),
            tasks,
            gone,
            outlet,
            questions: Questions::default(),
            session: Mutex::default(),
        })
    }

    /// Sends a message, when there is room for it.
    pub(super) async fn send(&self, frame: Frame) {
        self.outlet.send(frame).await;
    }

    /// How many requests are being answered.
    pub(super) fn requests(&self) -> usize {
        self.running.len()
    }

    /// The client has closed its end.
    pub(super) fn end(&self) {
        self.ended.cancel();
        *self.session() = None;
    }

    /// Takes back what is being answered.
    pub(super) fn stop_all(&self) {
        for running in self.running.take_all() {
            running.cancel();
        }
        self.gone.cancel();
    }

    /// Answers `initialize`.
    pub(super) async fn initialize(self: &Arc<Self>, request: &Request<'_>) {
        let begun = async {
            let hello = Hello::of(request)?;
            self.gateway.settled().await;
            let endpoint = self.endpoint.as_deref();
            let unknown = || RpcFault::new(INVALID_PARAMS, "there is no such endpoint; see [gateway.endpoints]");
            let discover = self.gateway.discover(endpoint, &self.options.principal).ok_or_else(unknown)?;
            let result = lifecycle::initialized(&hello, &discover);
            let caller = Arc::new(Caller {
                principal: self.options.principal.clone(),
                endpoint: self.endpoint.clone(),
                era: Era::Legacy,
                revision: hello.revision.into(),
                capabilities: hello.capabilities,
                client_info: hello.client_info,
                log_level: Some(lifecycle::default_log_level()),
            });
            Ok((caller, result))
        };
        match begun.await {
            Ok((caller, result)) => {
                self.send(front::answer(Era::Legacy, request, Reply::Result(result))).await;
                let (gateway, line, ended) = (self.gateway.clone(), self.outlet.downgrade(), self.ended.clone());
                let (watch, following) = listen::follow(gateway, line, Arc::clone(&caller), ended);
                self.tasks.spawn(following);
                *self.session() = Some(Session { caller, watch });
            }
            Err(fault) => self.send(front::fault(Some(request.id), &fault)).await,
        }
    }

    /// The client sent what wants no answer.
    pub(super) fn notified(&self, notification: &Notification<'_>) {
        if notification.method == "notifications/cancelled"
            && let Some(id) = notification.param("requestId")
            && let Some(running) = self.running.take(id.get())
        {
            running.cancel();
        }
    }

    /// The client answered a question.
    pub(super) fn answered(&self, id: &RawValue, outcome: Outcome) {
        let unknown = text(id).is_none_or(|id| self.questions.answer(&id, outcome).is_err());
        if unknown {
            tracing::debug!("dropped an answer that nobody waits for");
        }
    }

    /// The answer to a request; `None` when there is none to give.
    pub(super) async fn answer(self: &Arc<Self>, request: &Request<'_>, stop: &CancellationToken) -> Option<Frame> {
        if lifecycle::revision(request).is_some() {
            return self.modern(request, stop).await;
        }
        let session = self.session().as_ref().map(|session| (Arc::clone(&session.caller), session.watch.clone()));
        let reply = match (&*request.method, session) {
            ("ping", _) => Ok(Reply::Result(RawJson::empty_object())),
            (_, Some((caller, watch))) => self.legacy(&caller, &watch, request).await,
            // A modern request without what it must say, and how to say it.
            (_, None) => lifecycle::modern_caller(request, self.options.principal.clone(), None)
                .map(|_| Reply::Result(RawJson::empty_object())),
        };
        Some(front::answer(Era::Legacy, request, reply.unwrap_or_else(Reply::Fault)))
    }

    async fn modern(self: &Arc<Self>, request: &Request<'_>, stop: &CancellationToken) -> Option<Frame> {
        let reply = match lifecycle::modern_caller(request, self.options.principal.clone(), self.endpoint.clone()) {
            Ok(_) if lifecycle::is_removed(&request.method) => {
                let why = format!("the modern revision has no `{}`", request.method);
                Reply::Fault(RpcFault::new(METHOD_NOT_FOUND, why))
            }
            Ok(caller) if request.method == "subscriptions/listen" => {
                return listen::listen(&self.gateway, &self.outlet, &caller, request, [&self.ended, stop]).await;
            }
            Ok(caller) => self.gateway.handle(&caller, request, &**self).await,
            Err(fault) => Reply::Fault(fault),
        };
        Some(front::answer(Era::Modern, request, reply))
    }

    async fn legacy(
        self: &Arc<Self>,
        caller: &Caller,
        watch: &mpsc::Sender<listen::Watch>,
        request: &Request<'_>,
    ) -> Result<Reply, RpcFault> {
        let gone = |_| RpcFault::new(INTERNAL_ERROR, "the process ends");
        match &*request.method {
            "logging/setLevel" => {
                let level = lifecycle::log_level(request)?;
                if let Some(session) = &mut *self.session() {
                    session.caller = Arc::new(Caller { log_level: Some(level), ..Caller::clone(&session.caller) });
                }
            }
            "resources/subscribe" => {
                let uri = lifecycle::uri(request)?.into_owned();
                watch.send(listen::Watch::Add(uri)).await.map_err(gone)?;
            }
            "resources/unsubscribe" => {
                let uri = lifecycle::uri(request)?.into_owned();
                watch.send(listen::Watch::Remove(uri)).await.map_err(gone)?;
            }
            _ => return Ok(self.gateway.handle(caller, request, &**self).await),
        }
        Ok(Reply::Result(RawJson::empty_object()))
    }

    fn session(&self) -> MutexGuard<'_, Option<Session>> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl ClientSide for Client {
    fn notify(&self, method: &str, params: Option<&RawValue>) {
        self.outlet.notify(method, params);
    }

    fn address(&self) -> Option<Arc<dyn Address>> {
        Some(Arc::new(self.outlet.downgrade()))
    }

    async fn ask(&self, method: &str, params: &RawJson) -> Result<RawJson, RpcFault> {
        let mut question = self.questions.open()?;
        self.send(Frame::of(front::message(Some(&question.id), method, Some(params.raw())))).await;
        let wait = self.options.question_wait;
        tokio::time::timeout(wait, question.answered()).await.unwrap_or_else(|_| {
            let why = format!("the client has not answered `{method}` within {} s", wait.as_secs());
            Err(RpcFault::new(INTERNAL_ERROR, why))
        })
    }
}
