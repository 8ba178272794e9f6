//! News on a line that all share: for a modern client as long as it listens, for a legacy one from its beginning.

use std::sync::Arc;

use metamcp_core::json::RawJson;
use serde_json::value::RawValue;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::outlet::{Outlet, WeakOutlet};
use crate::{
    gateway::{
        Caller, Gateway, Request, RpcFault, front,
        front::Frame,
        http::{acknowledged, listened},
        lifecycle,
        subscribe::Filter,
    },
    wire::era::INVALID_PARAMS,
};

/// Changes of what is watched that wait to be made.
const WATCHES_MAX: usize = 16;

/// A change of what a legacy client is told of.
#[derive(Debug)]
pub(super) enum Watch {
    Add(String),
    Remove(String),
}

/// What tells a legacy client of news until it ends, and where to say what it watches. The line is not kept open by it.
pub(super) fn follow(
    gateway: Gateway,
    line: WeakOutlet,
    caller: Arc<Caller>,
    ended: CancellationToken,
) -> (mpsc::Sender<Watch>, impl Future<Output = ()> + Send) {
    let (sender, mut watches) = mpsc::channel(WATCHES_MAX);
    let mut subscription = gateway.subscribe(&caller, &Filter::lists());
    let following = async move {
        loop {
            tokio::select! {
                () = ended.cancelled() => return,
                watch = watches.recv() => {
                    let Some(watch) = watch else { return };
                    match watch {
                        Watch::Add(uri) => {
                            if !gateway.watch(&caller, &mut subscription, &uri) {
                                tracing::debug!(uri, "no server tells of this resource");
                            }
                        }
                        Watch::Remove(uri) => subscription.unwatch(&uri),
                    }
                }
                news = subscription.recv() => {
                    let Some(outlet) = line.upgrade() else { return };
                    outlet.notify(news.method, news.params.as_ref().map(RawJson::raw));
                }
            }
        }
    };
    (sender, following)
}

/// Answers `subscriptions/listen`: nothing once the client has taken it back, its result when the line ends.
pub(super) async fn listen(
    gateway: &Gateway,
    outlet: &Outlet,
    caller: &Caller,
    request: &Request<'_>,
    [ended, stop]: [&CancellationToken; 2],
) -> Option<Frame> {
    let filter = request.param("notifications").map(|raw| serde_json::from_str::<Filter>(raw.get()));
    let Some(Ok(filter)) = filter else {
        let fault = RpcFault::new(INVALID_PARAMS, "`notifications` must be an object that says what to tell");
        return Some(front::fault(Some(request.id), &fault));
    };
    gateway.settled().await;
    let subscription = gateway.listen(caller, &filter).await;
    outlet.send(Frame::of(acknowledged(request.id, subscription.granted()))).await;
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return None,
            () = ended.cancelled() => return Some(Frame::of(listened(request.id))),
            news = subscription.recv() => {
                let params = lifecycle::tagged(news.params.as_ref().map(RawJson::raw), request.id);
                let params: &RawValue = serde_json::from_str(&params).expect("made of JSON");
                outlet.notify(news.method, Some(params));
            }
        }
    }
}
