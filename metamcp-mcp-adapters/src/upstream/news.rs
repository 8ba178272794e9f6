//! What a server tells without being asked: lists that changed, resources that were updated, elicitations that are complete.

use metamcp_core::{json::RawJson, transport::RelayNews};
use serde_json::value::RawValue;
use tokio::sync::{Notify, broadcast};

/// News that wait for a receiver; one that lags behind more loses the oldest.
const NEWS_MAX: usize = 256;

/// That the tools of a server changed.
const TOOLS_CHANGED: &str = "notifications/tools/list_changed";
/// That a resource changed which is watched.
const RESOURCE_UPDATED: &str = "notifications/resources/updated";
/// That what a person was sent to a URL for is complete: for whoever was asked, on whichever stream it comes.
const ELICITATION_COMPLETE: &str = "notifications/elicitation/complete";
/// Every list that may change.
const LISTS_CHANGED: [&str; 3] =
    [TOOLS_CHANGED, "notifications/prompts/list_changed", "notifications/resources/list_changed"];

/// The news of one connection.
#[derive(Debug)]
pub(super) struct News {
    sender: broadcast::Sender<RelayNews>,
    tools: Notify,
}

impl News {
    pub(super) fn new() -> Self {
        Self { sender: broadcast::Sender::new(NEWS_MAX), tools: Notify::new() }
    }

    /// Whether a notification belongs to no request, wherever it comes.
    pub(super) fn is(method: &str) -> bool {
        method == RESOURCE_UPDATED || method == ELICITATION_COMPLETE || LISTS_CHANGED.contains(&method)
    }

    /// Something is new.
    pub(super) fn tell(&self, method: &str, params: Option<&RawValue>) {
        if method == TOOLS_CHANGED {
            self.tools.notify_one();
        }
        // Without a receiver nobody wants to know.
        if self.sender.receiver_count() > 0 {
            let params = params.map(|params| RawJson::from(params.to_owned()));
            let _ = self.sender.send(RelayNews { method: method.to_owned(), params });
        }
    }

    /// Something may have been missed: every list is to be looked at again.
    pub(super) fn missed(&self) {
        for method in LISTS_CHANGED {
            self.tell(method, None);
        }
    }

    /// From now on.
    pub(super) fn receiver(&self) -> broadcast::Receiver<RelayNews> {
        self.sender.subscribe()
    }

    /// Waits until the tools changed. A change between two waits is not lost.
    pub(super) async fn tools_changed(&self) {
        self.tools.notified().await;
    }
}
