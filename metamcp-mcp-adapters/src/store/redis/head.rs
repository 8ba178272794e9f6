//! The stored form of a job: its head as a line of words, what few jobs have as named parts, its body as JSON. What each word and part is
//! stands in `scripts/parts/heads.lua`, which writes the same form.

use std::{collections::HashMap, sync::Arc, time::Duration};

use metamcp_core::{
    auth::Principal,
    error::StoreResult,
    matching::Route,
    queue::{Answer, Job, JobBody, JobHead, JobState, LeaseKey, NewJob},
    task::{Labels, Need, TaskRecord},
    time::Timestamp,
};
use redis::{FromRedisValue, ParsingError, Value};

use super::{
    error::corrupt,
    pointer::{digest_of, digest_word, result_of, result_word},
    script::ScriptCall,
    words::{
        ADMITTED, BLOCKED, LARGE, LEASE_ENDS, LIMITED, MAYBE_CALLED, NONE, RATED, STATES, all, checkpoint_of,
        checkpoint_part, concurrency_of, concurrency_word, error_of, error_part, flags, from_json, ids_of, ids_part,
        instant_ms, instant_of, json, key_word, lease_end, optional, or_none, progress_part, rate_of, rate_word,
        span_ms, state, unword, word,
    },
};

/// Which of the words is the epoch; the nonce is the next.
const EPOCH_AT: usize = 3;

/// The cold words of a new job, which stand behind the others.
fn cold_words(job: &NewJob) -> String {
    let words = [
        word(&job.owner.subject),
        or_none(job.deadline.map(span_ms)),
        0.to_string(),
        job.attempts_max.to_string(),
        0.to_string(),
        job.lost_max.to_string(),
        0.to_string(),
        concurrency_word(job.concurrency.as_ref()),
        rate_word(job.rate.as_ref()),
        key_word(job.idempotency_key.as_deref()),
        digest_word(&job.request_digest),
    ];
    words.join(" ")
}

/// The arguments of one new job for `enqueue.lua`; its body is `None` when it is large.
pub(super) fn enqueue_args<'s>(call: ScriptCall<'s>, job: &NewJob, body: Option<&str>) -> ScriptCall<'s> {
    let flags = flags([(LIMITED, job.concurrency.is_some()), (RATED, job.rate.is_some()), (LARGE, body.is_none())]);
    let held = job.held.as_ref();
    let terms = [
        job.lane.to_string(),
        job.owner.tenant.to_string(),
        job.priority.to_string(),
        span_ms(job.delay).to_string(),
        or_none(job.deadline.map(span_ms)),
        span_ms(job.retain).to_string(),
        word(&job.owner.subject),
        flags,
        or_none(held.map(|held| held.nonce)),
        or_none(held.map(|held| &held.worker)),
        or_none(held.map(|held| span_ms(held.visibility))),
    ];
    call.arg(job.id.to_string())
        .arg(terms.join(" "))
        .arg(key_word(job.idempotency_key.as_deref()))
        .arg(ids_part(&job.after))
        .arg(cold_words(job))
        .arg(body.unwrap_or_default())
}

/// A job as `get.lua` tells it: id, head, body unless it is large, parts.
pub(super) type ToldJob = (String, String, Option<Vec<u8>>, Vec<(String, String)>);

/// Jobs as scripts tell them: one flat list of four entries for each.
#[derive(Debug)]
pub(super) struct ToldJobs(pub(super) Vec<ToldJob>);

impl FromRedisValue for ToldJobs {
    fn from_redis_value(value: Value) -> Result<Self, ParsingError> {
        let entries = Vec::<Value>::from_redis_value(value)?;
        if entries.len() % 4 != 0 {
            return Err(format!("jobs in {} entries, which are not four for each", entries.len()).into());
        }
        let mut entries = entries.into_iter();
        let mut jobs = Vec::with_capacity(entries.len() / 4);
        while let (Some(id), Some(head), Some(body), Some(parts)) =
            (entries.next(), entries.next(), entries.next(), entries.next())
        {
            jobs.push((
                FromRedisValue::from_redis_value(id)?,
                FromRedisValue::from_redis_value(head)?,
                FromRedisValue::from_redis_value(body)?,
                FromRedisValue::from_redis_value(parts)?,
            ));
        }
        Ok(Self(jobs))
    }
}

/// A job as it is told, and the error when its body cannot be read: another one stands in for it then, so that its owner still sees the job
/// and how it ended.
pub(super) fn job(told: ToldJob) -> StoreResult<(Job, Option<serde_json::Error>)> {
    let (id, words, body, parts) = told;
    let head = head(&id, &words, &parts.into_iter().collect())?;
    Ok(match serde_json::from_slice(&body.unwrap_or_default()) {
        Ok(body) => (Job { head, body: Arc::new(body) }, None),
        Err(error) => (Job { head, body: Arc::new(damaged(&error)) }, Some(error)),
    })
}

/// The key of the lease that was given last, also of a head that cannot be read as a whole.
pub(super) fn lease_key((id, words, ..): &ToldJob) -> Option<LeaseKey> {
    let mut words = words.split_ascii_whitespace().skip(EPOCH_AT);
    Some(LeaseKey { job: id.parse().ok()?, epoch: words.next()?.parse().ok()?, nonce: words.next()?.parse().ok()? })
}

fn damaged(error: &serde_json::Error) -> JobBody {
    let need = Need::new(format!("(the stored request cannot be read: {error})"));
    JobBody { task: TaskRecord { need, labels: Labels::new(), cache: None }, route: Route::default() }
}

/// The head of these words and parts.
///
/// # Errors
/// `Corrupt` when they make no head.
fn head(id: &str, words: &str, parts: &HashMap<String, String>) -> StoreResult<JobHead> {
    decode(id, words, parts)
        .ok_or_else(|| corrupt(format!("the head of job {id} cannot be read: {words:?}; restore the job from a copy")))
}

fn decode(id: &str, words: &str, parts: &HashMap<String, String>) -> Option<JobHead> {
    let words: Vec<&str> = words.split_ascii_whitespace().collect();
    let &[
        fl,
        us,
        st,
        ep,
        no,
        sa,
        wk,
        un,
        le,
        up,
        fi,
        rs,
        cf,
        du,
        ln,
        rt,
        tn,
        pr,
        da,
        cr, // hot
        ow,
        dl,
        at,
        am,
        lo,
        lm,
        ca,
        cc,
        rk,
        ik,
        dg, // cold
    ] = words.as_slice()
    else {
        return None;
    };
    let (id, state) = (id.parse().ok()?, state(st).ok()?);
    let until = instant_of(un)?;
    let part = |name: &str| parts.get(name);
    Some(JobHead {
        id,
        owner: Principal::new(tn.parse().ok()?, unword(ow)?),
        lane: ln.parse().ok()?,
        priority: pr.parse().ok()?,
        state,
        created_at: instant_of(cr)??,
        updated_at: instant_of(up)??,
        due_at: instant_of(du)??,
        started_at: instant_of(sa)?,
        finished_at: instant_of(fi)?,
        deadline: optional(dl, |span| span.parse().ok().map(Duration::from_millis))?,
        deadline_at: instant_of(da)?,
        retain: Duration::from_millis(rt.parse().ok()?),
        attempts: at.parse().ok()?,
        attempts_max: am.parse().ok()?,
        lost: lo.parse().ok()?,
        lost_max: lm.parse().ok()?,
        epoch: ep.parse().ok()?,
        nonce: no.parse().ok()?,
        worker: if state == JobState::Leased { Some(wk.parse().ok()?) } else { None },
        lease_until: until.filter(|_| state == JobState::Leased),
        lease_end: LEASE_ENDS.iter().find(|(name, _)| *name == le).map(|(_, end)| *end),
        maybe_called: fl.contains(MAYBE_CALLED),
        cancel_reason: part("k").cloned(),
        candidate: ca.parse().ok()?,
        checkpoint: all(part("c"), |part| checkpoint_of(part))?,
        requests: all(part("q"), |part| from_json(part))?.unwrap_or_default(),
        answer: part("n").map(|responses| Answer { responses: responses.clone() }),
        input_until: until.filter(|_| state == JobState::Input),
        // Only news: one that is no number in JSON costs nothing else.
        progress: part("p").and_then(|part| from_json(part)),
        result: optional(rs, |result| result_of(result, id))?,
        error: all(part("e"), |part| error_of(part))?,
        idempotency_key: optional(ik, unword)?,
        request_digest: digest_of(dg)?,
        after: all(part("a"), |part| ids_of(part))?.unwrap_or_default(),
        waits_on: all(part("w"), |part| ids_of(part))?.unwrap_or_default(),
        users: us.parse().ok()?,
        concurrency: optional(cc, concurrency_of)?,
        blocked: st == BLOCKED,
        rate: optional(rk, rate_of)?,
        admitted: fl.contains(ADMITTED),
        cached_from: optional(cf, |id| id.parse().ok())?,
    })
}

/// The words of a head, and its parts by name: the other way round than [`head`].
///
/// # Errors
/// `Invalid` when a part has no stored form.
pub(super) fn encode(head: &JobHead, large: bool) -> StoreResult<(String, Vec<(&'static str, String)>)> {
    let mut parts = vec![];
    parts.extend(head.checkpoint.as_ref().map(|at| ("c", checkpoint_part(at))));
    parts.extend((!head.requests.is_empty()).then(|| json(&head.requests)).transpose()?.map(|part| ("q", part)));
    parts.extend(head.answer.as_ref().map(|answer| ("n", answer.responses.clone())));
    parts.extend(head.progress.as_ref().map(progress_part).transpose()?.map(|part| ("p", part)));
    parts.extend(head.error.as_ref().map(error_part).transpose()?.map(|part| ("e", part)));
    parts.extend(head.cancel_reason.as_ref().map(|reason| ("k", reason.clone())));
    parts.extend((!head.after.is_empty()).then(|| ("a", ids_part(&head.after))));
    parts.extend((!head.waits_on.is_empty()).then(|| ("w", ids_part(&head.waits_on))));

    let state = STATES.iter().find(|(_, state)| *state == head.state).map_or(NONE, |(name, _)| name);
    let flags = flags([
        (MAYBE_CALLED, head.maybe_called),
        (ADMITTED, head.admitted),
        (LIMITED, head.concurrency.is_some()),
        (RATED, head.rate.is_some()),
        (LARGE, large),
    ]);
    let instant = |at: Option<Timestamp>| or_none(at.map(instant_ms));
    let words = [
        flags,
        head.users.to_string(),
        if head.blocked { BLOCKED } else { state }.to_owned(),
        head.epoch.to_string(),
        head.nonce.to_string(),
        instant(head.started_at),
        or_none(head.worker.as_ref()),
        instant(head.lease_until.or(head.input_until)),
        head.lease_end.map_or(NONE, lease_end).to_owned(),
        instant_ms(head.updated_at).to_string(),
        instant(head.finished_at),
        or_none(head.result.as_ref().map(|result| result_word(result, head.id))),
        or_none(head.cached_from),
        instant_ms(head.due_at).to_string(),
        head.lane.to_string(),
        span_ms(head.retain).to_string(),
        head.owner.tenant.to_string(),
        head.priority.to_string(),
        instant(head.deadline_at),
        instant_ms(head.created_at).to_string(),
        word(&head.owner.subject),
        or_none(head.deadline.map(span_ms)),
        head.attempts.to_string(),
        head.attempts_max.to_string(),
        head.lost.to_string(),
        head.lost_max.to_string(),
        head.candidate.to_string(),
        concurrency_word(head.concurrency.as_ref()),
        rate_word(head.rate.as_ref()),
        key_word(head.idempotency_key.as_deref()),
        digest_word(&head.request_digest),
    ];
    Ok((words.join(" "), parts))
}

#[cfg(test)]
mod tests {
    use metamcp_core::{
        queue::{Checkpoint, InputRequest, JobError, JobErrorCode, LeaseEnd, Progress, moves},
        testing::job_store::new_job,
    };

    use super::*;

    /// A head with everything that can be there, whether or not a job can come to have it all at once.
    fn full(state: JobState) -> JobHead {
        let id = |n: u8| metamcp_core::id::JobId::from_bytes([n; 16]);
        let at = |n: u64| Some(Timestamp::from_millis(1_767_225_600_000 + n));
        let new = NewJob {
            id: id(1),
            owner: Principal::new("acme".parse().expect("a name"), "Zoë 100% {x}"),
            priority: 3,
            deadline: Some(Duration::from_secs(60)),
            idempotency_key: Some("-".to_owned()),
            after: vec![id(2), id(3)],
            concurrency: Some(metamcp_core::task::ConcurrencyKey { key: "a b".to_owned(), max: 2 }),
            rate: Some(metamcp_core::task::RateKey {
                key: "per:minute".to_owned(),
                every: Duration::from_millis(1_500),
                burst: 4,
            }),
            ..new_job()
        };
        let accepted = moves::accept(&new, Timestamp::from_millis(1_767_225_600_000), vec![id(3)]);
        JobHead {
            state,
            started_at: at(1),
            updated_at: Timestamp::from_millis(1_767_225_600_009),
            finished_at: at(2),
            attempts: 1,
            lost: 2,
            epoch: 5,
            nonce: u64::MAX,
            worker: (state == JobState::Leased).then(|| "-".parse().expect("a name")),
            lease_until: at(3).filter(|_| state == JobState::Leased),
            lease_end: Some(LeaseEnd::Parked),
            maybe_called: true,
            cancel_reason: Some(String::new()),
            candidate: 7,
            checkpoint: Some(Checkpoint { text: "{\"a\": 1}".to_owned(), replay_safe: true }),
            requests: vec![InputRequest { key: "q".to_owned(), request: "{}".to_owned() }],
            answer: Some(Answer { responses: "{\"q\":1}".to_owned() }),
            input_until: at(4).filter(|_| state == JobState::Input),
            progress: Some(Progress { value: 0.5, total: Some(2.0), message: Some("half".to_owned()) }),
            result: Some(format!("res://acme/{}/{}", id(1), new.request_digest).parse().expect("a pointer")),
            error: Some(JobError::new(JobErrorCode::ServerUnavailable, "no  answer\nat all")),
            users: 9,
            blocked: state == JobState::Ready,
            admitted: true,
            cached_from: Some(id(4)),
            ..accepted
        }
    }

    #[test]
    fn every_head_reads_as_it_was_written() {
        for (_, state) in STATES {
            for large in [false, true] {
                let head = full(state);
                let (words, parts) = encode(&head, large).expect("it has a form");
                let parts = parts.into_iter().map(|(name, part)| (name.to_owned(), part)).collect();
                assert_eq!(super::head(&head.id.to_string(), &words, &parts).expect("it reads"), head);
            }
        }
    }

    #[test]
    fn the_form_is_that_of_version_1() {
        let (words, parts) = encode(&full(JobState::Leased), true).expect("it has a form");
        let digest = digest_word(&new_job().request_digest);
        let ids =
            ["01", "02", "03", "04"].map(|byte| byte.repeat(16).parse::<metamcp_core::id::JobId>().expect("an id"));
        assert_eq!(
            words,
            format!(
                "mdLRB 9 l 5 18446744073709551615 1767225600001 - 1767225600003 p 1767225600009 1767225600002 acme/{digest} {} \
                 1767225600000 light 3600000 acme 3 1767225660000 1767225600000 Zo%C3%AB%20100%25%20{{x}} 60000 1 3 2 3 7 \
                 2:a%20b 1500:4:per:minute %2D {digest}",
                ids[3]
            )
        );
        let expected = [
            ("c", "1{\"a\": 1}".to_owned()),
            ("q", r#"[{"key":"q","request":"{}"}]"#.to_owned()),
            ("n", "{\"q\":1}".to_owned()),
            ("p", r#"{"value":0.5,"total":2.0,"message":"half"}"#.to_owned()),
            ("e", "server_unavailable no  answer\nat all".to_owned()),
            ("k", String::new()),
            ("a", format!("{} {}", ids[1], ids[2])),
            ("w", ids[2].to_string()),
        ];
        assert_eq!(parts, expected);
    }

    #[test]
    fn a_list_of_jobs_has_four_entries_for_each() {
        let text = |text: &str| Value::BulkString(text.into());
        let parts = Value::Array(vec![text("e"), text("why"), text("k"), text("so")]);
        let mut told =
            vec![text("id"), text("head"), text("body"), parts, text("id"), text("head"), Value::Nil, Value::Nil];
        let ToldJobs(jobs) = ToldJobs::from_redis_value(Value::Array(told.clone())).expect("it reads");
        let of = |name: &str, part: &str| (name.to_owned(), part.to_owned());
        assert_eq!(jobs[0].3, [of("e", "why"), of("k", "so")]);
        assert_eq!(jobs[1], ("id".to_owned(), "head".to_owned(), None, Vec::new()));
        told.pop();
        assert!(ToldJobs::from_redis_value(Value::Array(told)).is_err(), "nothing is left out silently");
    }

    #[test]
    fn what_is_no_head_is_told_as_such() {
        let (words, _) = encode(&full(JobState::Ready), false).expect("it has a form");
        for wrong in
            ["", "x", &format!("{words} more"), &words.replacen("b ", "? ", 1), &words.replacen(" 3 ", " x ", 1)]
        {
            let error = head("01010101-0101-0101-0101-010101010101", wrong, &HashMap::new()).expect_err(wrong);
            assert_eq!(error.kind(), metamcp_core::error::StoreErrorKind::Corrupt, "{error}");
        }
    }
}
