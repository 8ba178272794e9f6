//! News on a line that all share: for a modern client as long as it listens, for a legacy one from its beginning.

use std::sync::Arc;

use metamcp_core::json::RawJson;
use serde_json::value::RawValue;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::client::Client;
use crate::{
    gateway::{
        Caller, ClientSide as _, Request, RpcFault, front,
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

/// Tells a legacy client of news until it ends.
pub(super) fn follow(client: &Arc<Client>, caller: Arc<Caller>, ended: CancellationToken) -> mpsc::Sender<Watch> {
    let (sender, mut watches) = mpsc::channel(WATCHES_MAX);
    // Only a weak hold: the task must not keep the line open.
    let weak = Arc::downgrade(client);
    let mut subscription = client.gateway.subscribe(&caller, &Filter::lists());
    client.tasks.spawn(async move {
        loop {
            tokio::select! {
                () = ended.cancelled() => return,
                watch = watches.recv() => {
                    let (Some(watch), Some(client)) = (watch, weak.upgrade()) else { return };
                    match watch {
                        Watch::Add(uri) => {
                            if !client.gateway.watch(&caller, &mut subscription, &uri) {
                                tracing::debug!(uri, "no server tells of this resource");
                            }
                        }
                        Watch::Remove(uri) => subscription.unwatch(&uri),
                    }
                }
                news = subscription.recv() => {
                    let Some(client) = weak.upgrade() else { return };
                    client.notify(news.method, news.params.as_ref().map(RawJson::raw));
                }
            }
        }
    });
    sender
}

/// Answers `subscriptions/listen`: nothing once the client has taken it back, its result when the line ends.
pub(super) async fn listen(
    client: &Arc<Client>,
    caller: &Caller,
    request: &Request<'_>,
    ended: &CancellationToken,
    stop: &CancellationToken,
) -> Option<Frame> {
    let filter = request.param("notifications").map(|raw| serde_json::from_str::<Filter>(raw.get()));
    let Some(Ok(filter)) = filter else {
        let fault = RpcFault::new(INVALID_PARAMS, "`notifications` must be an object that says what to tell");
        return Some(front::fault(Some(request.id), &fault));
    };
    client.gateway.settled().await;
    let subscription = client.gateway.listen(caller, &filter).await;
    client.send(Frame::of(acknowledged(request.id, subscription.granted()))).await;
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return None,
            () = ended.cancelled() => return Some(Frame::of(listened(request.id))),
            news = subscription.recv() => {
                let params = lifecycle::tagged(news.params.as_ref().map(RawJson::raw), request.id);
                let params: &RawValue = serde_json::from_str(&params).expect("made of JSON");
                client.notify(news.method, Some(params));
            }
        }
    }
}
