//! A connected server: its requests, over whichever way it is reached, and what of it lives longer than one request.
//!
//! It waits as long as it is let; deadlines are the engine's. It retries nothing and caches nothing but which arguments go into headers.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use http::{HeaderName, HeaderValue};
use metamcp_core::{
    id::ServerName,
    json::RawJson,
    transport::{Delivered, RelayMeta, RelayRequest, RelaySide, TransportError, TransportErrorKind, TransportInfo},
};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use tokio_util::task::AbortOnDropHandle;

use super::{
    abilities,
    aside::{Another, Aside, Beside, Own},
    handover::{Handover, Holder},
    handshake::{self, Agreed, Refusal},
    level::SessionLevel,
    listen::Ear,
    meta,
    parked::{self, About, Parked, Waiting},
    reached::Reached,
    watched::Watched,
    way::{Ask, Failure, Step, Way, error, plain},
};
use crate::wire::{
    era::Era,
    header::{self, ParamHeader},
};

/// A connected server.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) info: TransportInfo,
    pub(super) agreed: Agreed,
    pub(super) way: Arc<dyn Way>,
    ids: Arc<AtomicU64>,
    /// Which arguments of which tool go along as headers; filled by `discover`.
    pub(super) headers: Mutex<HashMap<String, Vec<ParamHeader>>>,
    pub(super) parked: Arc<Parked>,
    handover: Option<Arc<Handover>>,
    /// Connections of calls that may be asked, where there can be such.
    aside: Option<Arc<Aside>>,
    this: Weak<Self>,
    pub(super) level: SessionLevel,
    pub(super) watched: Watched,
    /// The stream on which a modern server tells that lists changed.
    _lists: Option<AbortOnDropHandle<()>>,
}

impl Session {
    /// Agrees with the server; closes the way when that fails.
    pub(super) async fn open(
        way: Arc<dyn Way>,
        server: ServerName,
        only: Option<Era>,
        handover: Option<Arc<Handover>>,
        another: Option<Box<dyn Another>>,
    ) -> Result<Arc<Self>, Refusal> {
        let ids = Arc::new(AtomicU64::new(1));
        let agreed = match handshake::agree(&*way, &server, &ids, only).await {
            Ok(agreed) => agreed,
            Err(refusal) => {
                way.close().await;
                return Err(refusal);
            }
        };
        let info = TransportInfo::new(server, way.kind(), &agreed.revision, &agreed.implementation);
        way.listen();
        let ear = Ear { way: Arc::clone(&way), ids: Arc::clone(&ids) };
        let lists = if agreed.era == Era::Modern { ear.lists(&agreed.can) } else { None };
        Ok(Arc::new_cyclic(|this| Self {
            info,
            agreed,
            way,
            ids,
            headers: Mutex::default(),
            parked: Arc::default(),
            handover,
            aside: another.map(Aside::new),
            this: Weak::clone(this),
            level: SessionLevel::default(),
            watched: Watched::default(),
            _lists: lists,
        }))
    }

    /// How the server is spoken to.
    pub(super) const fn era(&self) -> Era {
        self.agreed.era
    }

    pub(super) fn ear(&self) -> Ear {
        Ear { way: Arc::clone(&self.way), ids: Arc::clone(&self.ids) }
    }

    /// Makes a request, and parks it when the server asks something first.
    pub(super) async fn make(&self, request: RelayRequest<'_>, side: &dyn RelaySide) -> Result<Reached, Failure> {
        let step = match self.own(&request).await {
            Some(own) => Box::pin(own.ask(&request, side)).await?,
            None => self.way.ask(&mut self.ask(&request), side).await?,
        };
        match step {
            Step::Done(result) => Ok(Reached::Result(result)),
            Step::Asked(_) => Box::pin(self.settle(step, &request, 0, side)).await,
        }
    }

    /// A connection of its own for a request whose client may be asked by a server that does not say for which request it asks.
    async fn own(&self, request: &RelayRequest<'_>) -> Option<Own> {
        let aside = self.aside.as_ref().filter(|_| self.agreed.era == Era::Legacy && self.way.asks())?;
        let may_be_asked = matches!(request.method, "tools/call" | "prompts/get" | "resources/read")
            && abilities::Relayable::of(request.meta.capabilities).any();
        if !may_be_asked {
            return None;
        }
        Box::pin(aside.take(&self.way)).await
    }

    /// Ends the connection, and those beside it.
    pub(super) async fn end(&self) {
        if let Some(aside) = &self.aside {
            aside.close().await;
        }
        self.way.close().await;
    }

    /// Goes on with a request that is parked in another process, if there is one that has it.
    async fn go_on_elsewhere(
        &self,
        state: &str,
        responses: Option<&RawValue>,
        request: &RelayRequest<'_>,
    ) -> Result<Reached, Failure> {
        let server = &self.info.server;
        if let Some(handover) = &self.handover
            && parked::home(state).is_some_and(|home| home != handover.home())
            && let Some(reached) = handover.go_on(server, state, responses, request).await
        {
            return reached;
        }
        let what =
            "the call that waited for this answer is gone: it may have happened; make it anew if that does no harm";
        Err(error(server, TransportErrorKind::Closed, Delivered::Maybe, what).into())
    }

    /// Keeps a request until its answers come, from wherever.
    fn park(&self, waiting: Waiting, request: &RelayRequest<'_>) -> Result<String, Box<Waiting>> {
        let home = self.handover.as_ref().map(|handover| handover.home());
        let state = self.parked.park(waiting, About::new(request.method, request.name), home)?;
        if let Some(handover) = &self.handover {
            let this: Weak<Self> = Weak::clone(&self.this);
            handover.hold(&state, this);
        }
        Ok(state)
    }

    /// `count`: the questions that the request has asked so far.
    async fn settle(
        &self,
        mut step: Step,
        request: &RelayRequest<'_>,
        mut count: u32,
        side: &dyn RelaySide,
    ) -> Result<Reached, Failure> {
        loop {
            let waiting = match step {
                Step::Done(result) => return Ok(Reached::Result(result)),
                Step::Asked(asked) => Waiting::new(asked, count),
            };
            count = waiting.count();
            let open = waiting.open();
            match self.park(waiting, request) {
                Ok(state) => return Ok(Reached::Parked { open, state }),
                Err(waiting) => {
                    let (rest, answers) = waiting.into_answers("too many calls wait for answers, ask again later");
                    step = rest.go_on(answers, request.meta.capabilities, side).await?;
                }
            }
        }
    }

    /// A request of our own that lets no question through.
    pub(super) async fn plain(
        &self,
        method: &'static str,
        name: Option<&str>,
        params: &[(&str, &RawValue)],
    ) -> Result<RawJson, Failure> {
        let meta = RelayMeta { capabilities: Some(abilities::of_job()), ..RelayMeta::default() };
        plain(&*self.way, self.ask(&RelayRequest { method, name, params, meta })).await
    }

    pub(super) fn ask<'a>(&self, request: &RelayRequest<'a>) -> Ask<'a> {
        let RelayRequest { method, name, params, meta } = *request;
        let (id, era) = (self.ids.fetch_add(1, Ordering::Relaxed), self.agreed.era);
        let frame = meta::request(era, id, method, params, &meta);
        let headers = self.headers_of(request);
        let capabilities = meta.capabilities;
        Ask { id, era, method, frame, name, headers, capabilities, cancellable: true, standing: false }
    }

    /// The arguments that go along as headers.
    fn headers_of(&self, request: &RelayRequest<'_>) -> Vec<(HeaderName, HeaderValue)> {
        if self.agreed.era == Era::Legacy || request.method != "tools/call" {
            return Vec::new();
        }
        let known = self.headers.lock().unwrap_or_else(PoisonError::into_inner);
        let marks = request.name.and_then(|name| known.get(name));
        let arguments = request.params.iter().find(|(key, _)| *key == "arguments");
        match (marks, arguments) {
            (Some(marks), Some((_, arguments))) => header::of_arguments(marks, arguments),
            _ => Vec::new(),
        }
    }

    pub(super) fn failed(&self, failure: Failure) -> TransportError {
        failure.into_error(&self.info.server)
    }

    pub(super) fn invalid(&self, what: impl std::fmt::Display) -> TransportError {
        error(&self.info.server, TransportErrorKind::Invalid, Delivered::No, what)
    }
}

#[async_trait]
impl Holder for Session {
    fn server(&self) -> &ServerName {
        &self.info.server
    }

    async fn go_on(
        &self,
        state: &str,
        responses: Option<&RawValue>,
        request: RelayRequest<'_>,
        side: &dyn RelaySide,
    ) -> Result<Reached, Failure> {
        let Some(mut waiting) = self.parked.take(state, &About::new(request.method, request.name)) else {
            return self.go_on_elsewhere(state, responses, &request).await;
        };
        if let Some(handover) = &self.handover {
            handover.let_go(state);
        }
        waiting.take(responses);
        let (open, count) = (waiting.open(), waiting.count());
        if !open.is_empty() {
            // The server is told when it can be told all; until then the caller is asked again.
            match self.park(waiting, &request) {
                Ok(state) => return Ok(Reached::Parked { open, state }),
                Err(full) => waiting = *full,
            }
        }
        let (rest, answers) = waiting.into_answers("there is no answer to this question");
        let step = rest.go_on(answers, request.meta.capabilities, side).await?;
        self.settle(step, &request, count, side).await
    }

    async fn end_parked(&self, state: &str) {
        let is_here = self.parked.give_up(state);
        let Some(handover) = &self.handover else { return };
        if is_here {
            handover.let_go(state);
        } else if parked::home(state).is_some_and(|home| home != handover.home()) {
            handover.give_up(&self.info.server, state).await;
        }
    }
}

#[async_trait]
impl Beside for Session {
    fn way(&self) -> &dyn Way {
        &*self.way
    }

    async fn step(&self, request: &RelayRequest<'_>, side: &dyn RelaySide) -> Result<Step, Failure> {
        self.way.ask(&mut self.ask(request), side).await
    }
}

/// A value of ours as the JSON text that is sent.
pub(super) fn raw<T: Serialize + ?Sized>(value: &T) -> Box<RawValue> {
    to_raw_value(value).expect("what is sent has string keys only")
}
