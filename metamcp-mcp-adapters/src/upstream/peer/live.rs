//! One request under way on a shared connection, from when it is queued until its caller is done with it.

use std::sync::Arc;

use async_trait::async_trait;
use metamcp_core::transport::RelaySide;
use serde_json::value::RawValue;

use super::Peer;
use crate::{
    upstream::{
        abilities::Lacking,
        gather::Gathering,
        slot::{Came, Event, Slot},
        way::{Ask, Failure, Rest, Step},
    },
    wire::frame,
};

/// A request under way. Forgets it when its caller is done with it, and tells the far side when that was before its answer.
#[derive(Debug)]
pub(super) struct Live {
    peer: Arc<Peer>,
    id: u64,
    slot: Arc<Slot>,
    cancellable: bool,
    lacking: Lacking,
}

impl Live {
    /// The request that is asked, in its place.
    pub(super) fn new(peer: &Arc<Peer>, ask: &Ask<'_>, slot: &Arc<Slot>) -> Self {
        let (peer, slot) = (Arc::clone(peer), Arc::clone(slot));
        Self { peer, id: ask.id, slot, cancellable: ask.cancellable, lacking: Lacking::default() }
    }

    /// Waits for the result, or for a question on the way there.
    pub(super) async fn wait(mut self, capabilities: Option<&RawValue>, side: &dyn RelaySide) -> Result<Step, Failure> {
        let mut asked = Gathering::default();
        while let Some(came) = asked.next(self.slot.next()).await {
            match came {
                Came::Answer(answer) => {
                    return answer.map(Step::Done).map_err(|failure| self.lacking.told(failure));
                }
                Came::Event(Event::Notification { method, params }) => side.notify(&method, params.as_deref()),
                Came::Event(Event::Question(question)) => {
                    if let Err(question) = asked.take(question, capabilities) {
                        self.lacking.note(&question.method, question.params.as_deref());
                        self.peer.send_now(question.answer_of_ours());
                    }
                }
            }
        }
        Ok(asked.ask(self))
    }
}

#[async_trait]
impl Rest for Live {
    async fn go_on(
        self: Box<Self>,
        answers: Vec<String>,
        capabilities: Option<&RawValue>,
        side: &dyn RelaySide,
    ) -> Result<Step, Failure> {
        for answer in answers {
            self.peer.tell(answer).await?;
        }
        self.wait(capabilities, side).await
    }

    fn give_up(self: Box<Self>, answers: Vec<String>) {
        for answer in answers {
            self.peer.send_now(answer);
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        let may_have_left = !self.slot.abandon();
        let unanswered = {
            let mut state = self.peer.state();
            let unanswered = state.under_way.waiting.remove(&self.id).is_some();
            if unanswered && may_have_left && !self.slot.standing {
                state.under_way.cancelled(self.id);
            }
            unanswered
        };
        if unanswered && may_have_left && self.cancellable {
            self.peer.send_now(frame::cancelled(self.id));
        }
    }
}
