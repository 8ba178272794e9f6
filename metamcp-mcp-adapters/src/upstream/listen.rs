//! Keeps the ear at a modern server: a `subscriptions/listen` that is opened again whenever it ends.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use metamcp_core::transport::{RelayMeta, RelaySide};
use serde_json::value::RawValue;
use tokio::{sync::oneshot, time::Instant};
use tokio_util::task::AbortOnDropHandle;

use super::{
    backoff::Backoff,
    handshake::Can,
    meta,
    way::{Ask, Failure, Way},
};
use crate::wire::{era::Era, object::ObjectText};

/// The first message on a stream that listens.
const ACKNOWLEDGED: &str = "notifications/subscriptions/acknowledged";

/// Opens listening streams of one server.
#[derive(Debug, Clone)]
pub(super) struct Ear {
    pub(super) way: Arc<dyn Way>,
    pub(super) ids: Arc<AtomicU64>,
}

/// Says once how opening has gone.
type Opened = oneshot::Sender<Result<(), Failure>>;

impl Ear {
    /// Listens for changed lists, where the server tells of them.
    pub(super) fn lists(&self, can: &Can) -> Option<AbortOnDropHandle<()>> {
        let offers = [
            ("toolsListChanged", &can.tools),
            ("promptsListChanged", &can.prompts),
            ("resourcesListChanged", &can.resources),
        ];
        let mut filter = ObjectText::with_capacity(128);
        let mut any = false;
        for (key, offer) in offers {
            if offer.as_ref().is_some_and(|offer| offer.list_changed) {
                filter.raw(key, "true");
                any = true;
            }
        }
        any.then(|| self.spawn(filter.finish(), None))
    }

    /// Listens for updates of these resources, once that has been opened.
    pub(super) async fn resources(&self, uris: &[String]) -> Result<AbortOnDropHandle<()>, Failure> {
        let mut filter = ObjectText::with_capacity(128);
        filter.raw("resourceSubscriptions", &serde_json::to_string(uris).expect("strings are JSON"));
        let (opened, opening) = oneshot::channel();
        let handle = self.spawn(filter.finish(), Some(opened));
        // The sender is dropped unused only with the runtime.
        opening.await.unwrap_or(Ok(()))?;
        Ok(handle)
    }

    fn spawn(&self, filter: String, opened: Option<Opened>) -> AbortOnDropHandle<()> {
        AbortOnDropHandle::new(tokio::spawn(self.clone().keep(filter, opened)))
    }

    async fn keep(self, filter: String, mut opened: Option<Opened>) {
        let filter = RawValue::from_string(filter).expect("a filter is JSON");
        let mut backoff = Backoff::default();
        let mut again = false;
        loop {
            let began = Instant::now();
            let stream =
                Stream { way: &*self.way, again, acknowledged: AtomicBool::new(false), opened: Mutex::new(opened) };
            let ended = self.listen(&filter, &stream).await;
            let acknowledged = stream.acknowledged.load(Ordering::Relaxed);
            opened = stream.opened.into_inner().unwrap_or_else(PoisonError::into_inner);
            let over = self.way.is_closed() || !acknowledged && ended.as_ref().map_or_else(is_refusal, |()| true);
            if over {
                if let Err(failure) = &ended {
                    tracing::debug!(?failure, "the server does not let itself be listened to");
                }
                if let Some(opened) = opened {
                    let _ = opened.send(ended);
                }
                return;
            }
            again |= acknowledged;
            backoff.died(if acknowledged { began.elapsed() } else { Duration::ZERO });
            if let Some(pause) = backoff.remaining() {
                tokio::time::sleep(pause).await;
            }
        }
    }

    async fn listen(&self, filter: &RawValue, stream: &Stream<'_>) -> Result<(), Failure> {
        let (era, id) = (Era::Modern, self.ids.fetch_add(1, Ordering::Relaxed));
        let method = "subscriptions/listen";
        let frame = meta::request(era, id, method, &[("notifications", filter)], &RelayMeta::default());
        let (name, headers, capabilities) = (None, Vec::new(), None);
        let mut ask = Ask { id, era, method, frame, name, headers, capabilities, cancellable: true, standing: true };
        self.way.ask(&mut ask, stream).await.map(drop)
    }
}

/// Whether asking again would be answered the same.
fn is_refusal(failure: &Failure) -> bool {
    use metamcp_core::transport::TransportErrorKind as Kind;
    match failure {
        Failure::Rpc(..) => true,
        Failure::Status(status, _) => (400..500).contains(status) && !matches!(status, 408 | 429),
        Failure::Other(error) => matches!(error.kind, Kind::Protocol | Kind::Invalid),
    }
}

/// One opening.
struct Stream<'a> {
    way: &'a dyn Way,
    /// Whether there was one before, and what came in between is not known.
    again: bool,
    acknowledged: AtomicBool,
    opened: Mutex<Option<Opened>>,
}

impl RelaySide for Stream<'_> {
    fn notify(&self, method: &str, params: Option<&RawValue>) {
        if method != ACKNOWLEDGED {
            return self.way.news().tell(method, params);
        }
        self.acknowledged.store(true, Ordering::Relaxed);
        if self.again {
            self.way.news().missed();
        }
        if let Some(opened) = self.opened.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // Who opened it may be gone.
            let _ = opened.send(Ok(()));
        }
    }
}
