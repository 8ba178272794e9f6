//! The way out to the one client: what it is answered and told.

use metamcp_core::json::RawJson;
use serde_json::value::RawValue;
use tokio::sync::mpsc;

use crate::gateway::{
    elicitations::{Address, COMPLETE},
    front::{self, Frame},
};

/// The line to the client. It is open as long as somebody has one.
#[derive(Debug)]
pub(super) struct Outlet(mpsc::Sender<Frame>);

impl Outlet {
    /// Onto this line, which the writer empties.
    pub(super) fn new(out: mpsc::Sender<Frame>) -> Self {
        Self(out)
    }

    /// Sends a message, when there is room for it.
    pub(super) async fn send(&self, frame: Frame) {
        // An error says that the writer has ended: nobody reads.
        let _ = self.0.send(frame).await;
    }

    /// Tells what wants no answer, if there is room for it.
    pub(super) fn notify(&self, method: &str, params: Option<&RawValue>) {
        if self.0.try_send(Frame::of(front::message(None, method, params))).is_err() {
            tracing::debug!(method, "dropped a notification: the client does not read");
        }
    }

    /// The same line, not kept open.
    pub(super) fn downgrade(&self) -> WeakOutlet {
        WeakOutlet(self.0.downgrade())
    }
}

/// The line to a client, not kept open.
#[derive(Debug)]
pub(super) struct WeakOutlet(mpsc::WeakSender<Frame>);

impl WeakOutlet {
    /// The line, if it is open still.
    pub(super) fn upgrade(&self) -> Option<Outlet> {
        self.0.upgrade().map(Outlet)
    }
}

impl Address for WeakOutlet {
    fn completed(&self, params: &RawJson) {
        match self.upgrade() {
            Some(outlet) => outlet.notify(COMPLETE, Some(params.raw())),
            None => tracing::debug!("dropped a notification: the client is gone"),
        }
    }
}
