//! An answer to a POST that is a stream of events: what comes beside the answer goes to the caller, a question stops there, and a broken
//! stream of a legacy server is taken up again.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use http::{
    Method, Response, StatusCode,
    header::{ACCEPT, CONTENT_TYPE, HeaderValue},
};
use metamcp_core::transport::{Delivered, RelaySide, TransportError, TransportErrorKind};
use serde_json::value::RawValue;

use super::{
    abilities::Lacking,
    gather::Gathering,
    http_answer::{broke_off, is_answer_to, judge, too_large},
    http_body::{EVENTS, EventBody, is_media},
    http_client::AnswerBody,
    http_link::{Guard, Link},
    http_refusal::refused,
    news::News,
    slot::{self, Growing, PROGRESS, Report},
    way::{Ask, Failure, Question, Rest, Step, violation},
};
use crate::wire::{
    era::Era,
    frame::{self, Frame, Outcome},
    header,
    sse::{Event, EventsError},
};

/// Questions of one event or batch that wait for their turn; further ones are refused.
const QUESTIONS_MAX: usize = 8;
/// How often a broken stream is taken up again without anything new on it.
const RESUMES_MAX: usize = 5;
/// Pause before that, unless the server names one, in milliseconds.
const RESUME_MS_DEFAULT: u64 = 1_000;
/// Longest pause that a server may name, in milliseconds.
const RESUME_MS_MAX: u64 = 60_000;

/// The result of a request, or the question on the way there.
pub(super) async fn read(
    guard: Guard,
    response: Response<AnswerBody>,
    ask: &Ask<'_>,
    side: &dyn RelaySide,
) -> Result<Step, Failure> {
    let status = response.status();
    let events = EventBody::new(response.into_body(), guard.link.idle);
    let (id, standing, mark) = (ask.id, ask.standing, (ask.era == Era::Legacy).then(Mark::default));
    let (progress, questions, lacking) = (Growing::default(), VecDeque::new(), Lacking::default());
    let (resumes, broken) = (0, None);
    let reading = Reading { guard, events, status, id, standing, progress, mark, resumes, broken, questions, lacking };
    reading.on(ask.capabilities, side).await
}

/// Where a stream stands, by what its server said last.
#[derive(Debug, Default)]
pub(super) struct Mark {
    pub(super) last_id: Option<String>,
    retry_ms: Option<u64>,
}

impl Mark {
    pub(super) fn take(&mut self, event: &Event) {
        if event.id.is_some() {
            self.last_id.clone_from(&event.id);
        }
        self.retry_ms = event.retry_ms.or(self.retry_ms);
    }

    /// How long to wait before the stream is taken up again.
    pub(super) fn pause(&self) -> Duration {
        Duration::from_millis(self.retry_ms.unwrap_or(RESUME_MS_DEFAULT).min(RESUME_MS_MAX))
    }
}

/// Opens a stream of a legacy server by GET: one of its own, or the one that a mark stands on.
pub(super) async fn get(link: &Link, mark: &Mark) -> Result<EventBody, Failure> {
    let mut headers = link.headers();
    headers.remove(CONTENT_TYPE);
    headers.insert(ACCEPT, HeaderValue::from_static(EVENTS));
    if let Some(id) = mark.last_id.as_deref().and_then(|id| HeaderValue::from_str(id).ok()) {
        headers.insert(header::LAST_EVENT_ID, id);
    }
    let response = link.send(Method::GET, headers, Bytes::new()).await?;
    if !response.status().is_success() {
        return Err(refused(&link.server, link.idle, response).await);
    }
    if !is_media(response.headers(), EVENTS) {
        return Err(violation(&link.server, "a GET that is answered with something else than events").into());
    }
    Ok(EventBody::new(response.into_body(), link.idle))
}

/// An answer that is a stream of events.
#[derive(Debug)]
struct Reading {
    guard: Guard,
    events: EventBody,
    status: StatusCode,
    id: u64,
    standing: bool,
    progress: Growing,
    /// Where the stream stands; only legacy streams can be taken up again.
    mark: Option<Mark>,
    /// How often it was taken up again since something came.
    resumes: usize,
    /// Why the stream is to be taken up again.
    broken: Option<String>,
    questions: VecDeque<Question>,
    lacking: Lacking,
}

/// What came.
enum Came {
    /// Nothing that matters here.
    Nothing,
    Question(Question),
    Answer(Outcome),
}

impl Reading {
    async fn on(mut self, capabilities: Option<&RawValue>, side: &dyn RelaySide) -> Result<Step, Failure> {
        let mut asked = Gathering::default();
        while let Some(came) = asked.next(self.next(side)).await {
            let outcome = match came {
                Ok(Came::Nothing) => continue,
                Ok(Came::Question(question)) => {
                    if let Err(question) = asked.take(question, capabilities) {
                        self.lacking.note(&question.method, question.params.as_deref());
                        self.guard.link.answer_later(question.answer_of_ours());
                    }
                    continue;
                }
                Ok(Came::Answer(outcome)) => judge(&self.guard.link, outcome, self.status),
                Err(failure) => Err(failure),
            };
            let outcome = outcome.map(Step::Done).map_err(|failure| self.lacking.told(failure));
            return self.guard.over(outcome);
        }
        self.events.rest();
        Ok(asked.ask(self))
    }

    /// Takes what comes next: on the stream, or on the server's own, when it can only be for this request. Cancel safe.
    async fn next(&mut self, side: &dyn RelaySide) -> Result<Came, Failure> {
        if let Some(question) = self.questions.pop_front() {
            return Ok(Came::Question(question));
        }
        if let Some(reason) = &self.broken {
            let reason = reason.clone();
            return self.resume(&reason).await.map(|()| Came::Nothing);
        }
        let event = match &self.guard.slot {
            None => self.events.next().await,
            Some(slot) => tokio::select! {
                biased;
                () = slot.filled() => {
                    for event in slot.events() {
                        match event {
                            slot::Event::Question(question) => self.questions.push_back(question),
                            slot::Event::Notification { method, params } => {
                                side.notify(&method, params.as_deref());
                            }
                        }
                    }
                    return Ok(Came::Nothing);
                }
                event = self.events.next() => event,
            },
        };
        let event = match event {
            Ok(Some(event)) => event,
            Ok(None) => {
                self.broken = Some("the stream ended before the answer".to_owned());
                return Ok(Came::Nothing);
            }
            Err(EventsError::Broken(reason)) => {
                self.broken = Some(reason);
                return Ok(Came::Nothing);
            }
            Err(EventsError::TooLarge(bytes)) => return Err(too_large(&self.guard.link, bytes).into()),
            Err(EventsError::Silent) => return Err(self.guard.link.silent().into()),
        };
        if let Some(mark) = &mut self.mark {
            mark.take(&event);
        }
        self.resumes = 0;
        let Some(data) = event.data else { return Ok(Came::Nothing) };
        let mut found = None;
        // What is no message is skipped: the answer may still come.
        if let Err(reason) = frame::each(&data, |frame| self.take(frame, &mut found, side)) {
            tracing::debug!(server = %self.guard.link.server, %reason, "skipped an event that is not a message");
        }
        Ok(found.map_or(Came::Nothing, Came::Answer))
    }

    fn take(&mut self, frame: Frame<'_>, found: &mut Option<Outcome>, side: &dyn RelaySide) {
        let link = &self.guard.link;
        match frame {
            Frame::Response { id, outcome } if found.is_none() && is_answer_to(self.id, id, &outcome) => {
                *found = Some(outcome);
            }
            Frame::Response { .. } => {
                tracing::debug!(server = %link.server, "dropped an answer that nobody waits for");
            }
            Frame::Request { id, method, params } => {
                // Modern servers do not send requests.
                if self.mark.is_some() && method != "ping" && self.questions.len() < QUESTIONS_MAX {
                    self.questions.push_back(Question::read(id, &method, params));
                } else {
                    link.answer_later(frame::answer(id, &method));
                }
            }
            Frame::Notification { method, params } if method == PROGRESS => {
                let ours = Report::read(params).filter(|report| report.progress_token == self.id);
                if ours.is_some_and(|report| self.progress.grows(report.progress)) {
                    side.notify(&method, params);
                }
            }
            Frame::Notification { method, params } if !self.standing && News::is(&method) => {
                link.news.tell(&method, params);
            }
            Frame::Notification { method, params } => side.notify(&method, params),
        }
    }

    /// Takes the stream up where it broke off, if its server marks its events.
    async fn resume(&mut self, reason: &str) -> Result<(), Failure> {
        let link = &self.guard.link;
        let Some(mark) = self.mark.as_ref().filter(|mark| mark.last_id.is_some()) else {
            return Err(broke_off(link, reason).into());
        };
        while self.resumes < RESUMES_MAX {
            self.resumes += 1;
            tokio::time::sleep(mark.pause()).await;
            match get(link, mark).await {
                Ok(events) => {
                    self.events = events;
                    self.broken = None;
                    return Ok(());
                }
                Err(Failure::Other(error)) if error.kind != TransportErrorKind::Protocol => {
                    tracing::debug!(server = %link.server, %error, "a broken stream could not be taken up again yet");
                }
                Err(_) => break,
            }
        }
        Err(broke_off(link, reason).into())
    }
}

#[async_trait]
impl Rest for Reading {
    async fn go_on(
        self: Box<Self>,
        answers: Vec<String>,
        capabilities: Option<&RawValue>,
        side: &dyn RelaySide,
    ) -> Result<Step, Failure> {
        for answer in answers {
            if let Err(error) = self.guard.link.tell(answer).await {
                // The question stays unanswered, and the request will not come to its end.
                return Err(TransportError { delivered: Delivered::Maybe, ..error }.into());
            }
        }
        let closing = self.guard.link.closing.clone();
        let link = Arc::clone(&self.guard.link);
        let went_on = closing.run_until_cancelled(self.on(capabilities, side)).await;
        went_on.unwrap_or_else(|| Err(link.closed(Delivered::Maybe).into()))
    }

    fn give_up(self: Box<Self>, answers: Vec<String>) {
        for answer in answers {
            self.guard.link.answer_later(answer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_names_the_pause_within_a_bound_and_the_last_word_counts() {
        let mut mark = Mark::default();
        assert_eq!(mark.pause(), Duration::from_millis(RESUME_MS_DEFAULT));
        let event = |retry_ms| Event { data: None, id: None, retry_ms };
        for (named, pause) in [(Some(u64::MAX), RESUME_MS_MAX), (None, RESUME_MS_MAX), (Some(0), 0), (Some(50), 50)] {
            mark.take(&event(named));
            assert_eq!(mark.pause(), Duration::from_millis(pause), "{named:?}");
        }
    }
}
