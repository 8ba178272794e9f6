//! The stream on which a legacy server tells over HTTP what belongs to no request: a GET, opened again whenever it ends.

use std::sync::{Arc, Weak};

use tokio::time::Instant;

use super::{
    backoff::Backoff,
    http_events::{self, Mark},
    http_link::{Link, UNADDRESSED},
    news::News,
    slot::Event,
    way::{Failure, Question},
};
use crate::wire::{
    era::INTERNAL_ERROR,
    frame::{self, Frame},
};

/// Listens until the connection is closed, or the server says that it has no such stream.
pub(super) fn spawn(link: &Arc<Link>) {
    let (closing, link) = (link.closing.clone(), Arc::downgrade(link));
    tokio::spawn(async move { closing.run_until_cancelled(listen(link)).await });
}

async fn listen(weak: Weak<Link>) {
    let (mut mark, mut backoff) = (Mark::default(), Backoff::default());
    let mut again = false;
    while let Some(link) = weak.upgrade() {
        let began = Instant::now();
        match http_events::get(&link, &mark).await {
            Ok(mut events) => {
                if again && mark.last_id.is_none() {
                    // What came in between is not known.
                    link.news.missed();
                }
                again = true;
                // Who waits for events does not keep the connection.
                drop(link);
                while let Ok(Some(event)) = events.next().await {
                    let Some(link) = weak.upgrade() else { return };
                    mark.take(&event);
                    let read = event.data.map_or(Ok(()), |data| frame::each(&data, |frame| hear(&link, frame)));
                    if let Err(reason) = read {
                        tracing::debug!(server = %link.server, %reason, "skipped an event that is not a message");
                    }
                }
            }
            Err(failure) if is_refusal(&failure) => {
                tracing::debug!(server = %link.server, ?failure, "the server has no stream of its own");
                return;
            }
            Err(failure) => {
                tracing::debug!(server = %link.server, ?failure, "the server cannot be listened to for now");
                // It may have forgotten where the stream stood.
                mark.last_id = None;
            }
        }
        backoff.died(began.elapsed());
        tokio::time::sleep(backoff.remaining().unwrap_or_default().max(mark.pause())).await;
    }
}

/// Whether asking again would be answered the same. A session that was forgotten (404) may be begun anew by a call.
fn is_refusal(failure: &Failure) -> bool {
    use metamcp_core::transport::TransportErrorKind as Kind;
    match failure {
        Failure::Rpc(_, Some(status)) | Failure::Status(status, _) => {
            (300..500).contains(status) && !matches!(status, 404 | 408 | 429) || *status == 501
        }
        Failure::Rpc(_, None) => true,
        Failure::Other(error) => matches!(error.kind, Kind::Protocol | Kind::Invalid),
    }
}

fn hear(link: &Arc<Link>, frame: Frame<'_>) {
    match frame {
        Frame::Notification { method, params } if News::is(&method) => link.news.tell(&method, params),
        Frame::Notification { method, params } => {
            let is_log = method == "notifications/message";
            let event = Event::Notification { method: method.into_owned(), params: params.map(ToOwned::to_owned) };
            if !is_log || !link.push_only(event) {
                tracing::debug!(server = %link.server, "dropped a notification that is for nobody");
            }
        }
        Frame::Request { id, method, .. } if method == "ping" => link.answer_later(frame::answer(id, &method)),
        Frame::Request { id, method, params } => {
            if !link.push_only(Event::Question(Question::read(id, &method, params))) {
                link.answer_later(frame::error(id, INTERNAL_ERROR, UNADDRESSED));
            }
        }
        Frame::Response { .. } => {
            tracing::debug!(server = %link.server, "dropped an answer that nobody waits for");
        }
    }
}
