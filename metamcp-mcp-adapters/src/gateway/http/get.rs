//! GET and DELETE of a legacy session: its stream of news, the rest of a stream that was cut, and its end.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{FutureExt as _, stream};
use http::StatusCode;
use metamcp_core::json::RawJson;
use tokio::time::{Instant, sleep_until};

use super::{
    Front,
    body::Events,
    call::{ALIVE, Answer},
    head::{Head, invalid},
    legacy,
    outbox::event,
};
use crate::{
    gateway::{
        elicitations::COMPLETE,
        front,
        session::{EventId, Following, GET_STREAM, Session},
        subscribe::{Filter, News, Subscription},
    },
    wire::header::LAST_EVENT_ID,
};

/// From this revision on a stream begins with an event without data.
const PRIMED_SINCE: &str = "2025-11-25";

/// Answers a GET.
pub(super) async fn stream(front: &Arc<Front>, head: &Head) -> Answer {
    if !head.accepts.events {
        return invalid(StatusCode::NOT_ACCEPTABLE, "the answer is a stream; accept `text/event-stream`");
    }
    let session = match legacy::session(front, head).await {
        Ok(session) => session,
        Err(refused) => return refused,
    };
    let last = head.headers.get(LAST_EVENT_ID).and_then(|id| id.to_str().ok()?.parse::<EventId>().ok());
    let news = |last| Answer::Events(news(Arc::clone(front), Arc::clone(&session), last));
    match last {
        None => news(None),
        Some(last) if last.stream == GET_STREAM => news(last.is_here().then_some(last)),
        Some(last) if last.is_here() && session.behind(last) != Following::End => {
            Answer::Events(rest(Arc::clone(front), session, last))
        }
        // Not 404, which would tell that the session is over; and not the news, which somebody else may be reading.
        Some(_) => {
            let why = "nothing that came behind the event of `Last-Event-ID` is kept; make the request anew if its answer is missing";
            invalid(StatusCode::GONE, why)
        }
    }
}

/// Answers a DELETE.
pub(super) async fn end(front: &Front, head: &Head) -> Answer {
    let session = match legacy::session(front, head).await {
        Ok(session) => session,
        Err(refused) => return refused,
    };
    match front.sessions.end(&session).await {
        Ok(()) => Answer::Ended,
        Err(fault) => Answer::whole(StatusCode::SERVICE_UNAVAILABLE, front::fault(None, &fault)),
    }
}

/// What is still to come on the stream of an answer.
fn rest(front: Arc<Front>, session: Arc<Session>, last: EventId) -> Events {
    Box::pin(stream::unfold(Some((front, session, last)), async |state| {
        let (front, session, mut last) = state?;
        let following = tokio::select! {
            biased;
            () = front.options.drain.cancelled() => Following::End,
            following = session.following(last) => following,
            () = sleep_until(Instant::now() + front.options.keep_alive) => return Some((ALIVE, Some((front, session, last)))),
        };
        match following {
            Following::Events(events) => {
                let text: Vec<Bytes> = events.iter().map(|(_, event)| event.clone()).collect();
                last = events.last().map_or(last, |(id, _)| *id);
                Some((text.concat().into(), Some((front, session, last))))
            }
            Following::End => None,
        }
    }))
}

/// News that belong to no request, behind what was sent before the stream was cut.
fn news(front: Arc<Front>, session: Arc<Session>, last: Option<EventId>) -> Events {
    let (number, parked) = session.take_get();
    let again = match last.map(|last| session.behind(last)) {
        Some(Following::Events(events)) => events,
        _ => Vec::new(),
    };
    let mut begin: Vec<Bytes> = Vec::new();
    if *session.caller().revision >= *PRIMED_SINCE && last.is_none() {
        begin.push(event(Some(EventId::new(GET_STREAM, session.sent())), &[]));
    }
    begin.extend(again.into_iter().map(|(_, event)| event));
    let watched = parked.as_ref().map(|parked| parked.granted().resource_subscriptions.clone());
    let subscription = parked.filter(|_| watched.as_deref() == Some(&*session.uris()));
    let stream = NewsStream { front, session, number, begin: begin.concat().into(), subscription };
    Box::pin(stream::unfold(stream, NewsStream::next))
}

/// The stream of one GET.
struct NewsStream {
    front: Arc<Front>,
    session: Arc<Session>,
    number: u32,
    /// What goes first.
    begin: Bytes,
    subscription: Option<Subscription>,
}

/// What a stream waits for.
enum Came {
    News(News),
    Changed,
    Silence,
    Drain,
}

impl NewsStream {
    async fn next(mut self) -> Option<(Bytes, Self)> {
        if !self.begin.is_empty() {
            return Some((std::mem::take(&mut self.begin), self));
        }
        let until = Instant::now() + self.front.options.keep_alive;
        loop {
            // Listens before it looks: what changes in between is not missed.
            let session = Arc::clone(&self.session);
            let changed = session.changed.notified();
            if !session.has_get(self.number) {
                return None;
            }
            if let Some(params) = session.take_completed() {
                return Some((self.told(&News { method: COMPLETE, params: Some(params) }), self));
            }
            if self.subscription.is_none() {
                self.subscription = Some(self.subscribe());
            }
            let came = tokio::select! {
                biased;
                () = self.front.options.drain.cancelled() => Came::Drain,
                () = changed => Came::Changed,
                news = self.news() => Came::News(news),
                () = sleep_until(until) => Came::Silence,
            };
            match came {
                Came::News(news) => return Some((self.told(&news), self)),
                Came::Changed => {
                    // What it knows of and has not told is told before another takes its place.
                    if let Some(told) = self.renew() {
                        return Some((told, self));
                    }
                }
                Came::Silence => {
                    // A client that only listens is one that is there.
                    session.touch(Instant::now());
                    self.front.sessions.look(&session).await;
                    return Some((ALIVE, self));
                }
                Came::Drain => return None,
            }
        }
    }

    async fn news(&self) -> News {
        match &self.subscription {
            Some(subscription) => subscription.recv().await,
            None => std::future::pending().await,
        }
    }

    fn subscribe(&self) -> Subscription {
        let filter = Filter { resource_subscriptions: self.session.uris(), ..Filter::lists() };
        self.front.gateway.subscribe(&self.session.caller(), &filter)
    }

    /// Subscribes anew, and gives back what the old subscription had not told.
    fn renew(&mut self) -> Option<Bytes> {
        let next = self.subscribe();
        let old = self.subscription.replace(next)?;
        let mut told = Vec::new();
        while let Some(news) = old.recv().now_or_never() {
            told.push(self.told(&news));
        }
        (!told.is_empty()).then(|| told.concat().into())
    }

    fn told(&self, news: &News) -> Bytes {
        let message = front::message(None, news.method, news.params.as_ref().map(RawJson::raw));
        self.session.send_news(|id| event(Some(id), &[message.into()]))
    }
}

impl Drop for NewsStream {
    fn drop(&mut self) {
        if let Some(subscription) = self.subscription.take() {
            self.session.park(self.number, subscription);
        }
    }
}
