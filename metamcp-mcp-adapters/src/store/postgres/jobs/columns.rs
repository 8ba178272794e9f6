//! Many heads as parameters of one statement: an array for each column.

use metamcp_core::{
    id::JobId,
    pointer::Digest,
    queue::{JobBody, JobHead, moves::place},
    task::Labels,
    time::Timestamp,
};
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::{
    super::{locks, time::from_instant},
    codec::{self, id_array, uuid, wake},
};

/// New jobs. What is not named begins with its default.
pub(super) const INSERT: &str = "
insert into job (id, lane, tenant, subject, priority, state, created_at, updated_at, due_at, place, wake, wake_at, deadline_at,
    attempts_max, lost_max, users, after, waits_on, concurrency_key, concurrency_max, concurrency_lock, idempotency_key, request_digest,
    terms)
select id, lane, tenant, subject, priority, state, created_at, created_at, due_at, place, wake, wake_at, deadline_at,
    attempts_max, lost_max, users, after::uuid[], waits_on::uuid[], concurrency_key, concurrency_max, concurrency_lock, idempotency_key,
    request_digest, terms::json
from unnest($1::uuid[], $2::text[], $3::text[], $4::bytea[], $5::smallint[], $6::smallint[], $7::bigint[], $8::bigint[], $9::bigint[],
    $10::smallint[], $11::bigint[], $12::bigint[], $13::bigint[], $14::bigint[], $15::bigint[], $16::text[], $17::text[], $18::bytea[],
    $19::bigint[], $20::bigint[], $21::bytea[], $22::bytea[], $23::text[])
  as u(id, lane, tenant, subject, priority, state, created_at, due_at, place, wake, wake_at, deadline_at, attempts_max, lost_max, users,
    after, waits_on, concurrency_key, concurrency_max, concurrency_lock, idempotency_key, request_digest, terms)";

/// Moved jobs. `talk` can be large: it is written only when it changed.
pub(super) const UPDATE: &str = "
update job j
set state = u.state, updated_at = u.updated_at, due_at = u.due_at, place = u.place, wake = u.wake, wake_at = u.wake_at,
    started_at = u.started_at, finished_at = u.finished_at, deadline_at = u.deadline_at, attempts = u.attempts, lost = u.lost,
    epoch = u.epoch, nonce = u.nonce, worker = u.worker, lease_until = u.lease_until, lease_end = u.lease_end,
    maybe_called = u.maybe_called, admitted = u.admitted, unsettled = u.unsettled, users = u.users, candidate = u.candidate,
    input_until = u.input_until, waits_on = u.waits_on::uuid[], cached_from = u.cached_from, result = u.result,
    cancel_reason = u.cancel_reason::json, error = u.error::json, progress = u.progress::json,
    talk = case when u.talked then u.talk::json else j.talk end
from unnest($1::uuid[], $2::smallint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::smallint[], $7::bigint[], $8::bigint[],
    $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[], $13::bigint[], $14::bigint[], $15::text[], $16::bigint[], $17::smallint[],
    $18::boolean[], $19::boolean[], $20::boolean[], $21::bigint[], $22::integer[], $23::bigint[], $24::text[], $25::uuid[], $26::text[],
    $27::text[], $28::text[], $29::text[], $30::boolean[], $31::text[])
  as u(id, state, updated_at, due_at, place, wake, wake_at, started_at, finished_at, deadline_at, attempts, lost, epoch, nonce, worker,
    lease_until, lease_end, maybe_called, admitted, unsettled, users, candidate, input_until, waits_on, cached_from, result,
    cancel_reason, error, progress, talked, talk)
where j.id = u.id";

/// Declares an array for each column, how a head fills them, and their order as parameters.
macro_rules! arrays {
    ($(#[$doc:meta])* $name:ident($head:ident, $beside:ident: $of:ty) { $($column:ident: $type:ty = $value:expr,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Default)]
        pub(super) struct $name<'h> { $($column: Vec<$type>,)* }

        impl<'h> $name<'h> {
            pub(super) fn push(&mut self, $head: &'h JobHead, $beside: $of) { $(self.$column.push($value);)* }

            /// Empty when there is no head.
            pub(super) fn parameters(&self) -> Vec<&(dyn ToSql + Sync)> {
                if self.id.is_empty() { Vec::new() } else { vec![$(&self.$column),*] }
            }
        }
    };
}

arrays! {
    /// The parameters of [`INSERT`]. Beside each head: the schema.
    Inserts(head, schema: &str) {
        id: Uuid = uuid(head.id),
        lane: &'h str = head.lane.as_str(),
        tenant: &'h str = head.owner.tenant.as_str(),
        subject: &'h [u8] = head.owner.subject.as_bytes(),
        priority: i16 = i16::from(head.priority),
        state: i16 = codec::state_number(head),
        created_at: i64 = from_instant(head.created_at),
        due_at: i64 = from_instant(head.due_at),
        place: i64 = place_of(head),
        wake: Option<i16> = wake(head).map(|(kind, _)| kind),
        wake_at: Option<i64> = wake(head).map(|(_, at)| from_instant(at)),
        deadline_at: Option<i64> = head.deadline_at.map(from_instant),
        attempts_max: i64 = i64::from(head.attempts_max),
        lost_max: i64 = i64::from(head.lost_max),
        users: i64 = i64::from(head.users),
        after: Option<String> = id_array(&head.after),
        waits_on: Option<String> = id_array(&head.waits_on),
        concurrency_key: Option<&'h [u8]> = head.concurrency.as_ref().map(|limit| limit.key.as_bytes()),
        concurrency_max: Option<i64> = head.concurrency.as_ref().map(|limit| i64::from(limit.max)),
        concurrency_lock: Option<i64> = head.concurrency.as_ref().map(|limit| locks::of_concurrency(schema, &limit.key)),
        idempotency_key: Option<&'h [u8]> = head.idempotency_key.as_ref().map(String::as_bytes),
        request_digest: &'h [u8] = &head.request_digest.as_bytes()[..],
        terms: String = codec::terms(head),
    }
}

/// What goes with a head when it is written back.
#[derive(Debug, Clone, Copy)]
pub(super) struct Beside {
    pub(super) unsettled: bool,
    /// Checkpoint, requests or answer changed.
    pub(super) talked: bool,
}

arrays! {
    /// The parameters of [`UPDATE`].
    Updates(head, beside: Beside) {
        id: Uuid = uuid(head.id),
        state: i16 = codec::state_number(head),
        updated_at: i64 = from_instant(head.updated_at),
        due_at: i64 = from_instant(head.due_at),
        place: i64 = place_of(head),
        wake: Option<i16> = wake(head).map(|(kind, _)| kind),
        wake_at: Option<i64> = wake(head).map(|(_, at)| from_instant(at)),
        started_at: Option<i64> = head.started_at.map(from_instant),
        finished_at: Option<i64> = head.finished_at.map(from_instant),
        deadline_at: Option<i64> = head.deadline_at.map(from_instant),
        attempts: i64 = i64::from(head.attempts),
        lost: i64 = i64::from(head.lost),
        epoch: i64 = head.epoch.cast_signed(),
        nonce: i64 = head.nonce.cast_signed(),
        worker: Option<&'h str> = head.worker.as_ref().map(AsRef::as_ref),
        lease_until: Option<i64> = head.lease_until.map(from_instant),
        lease_end: Option<i16> = head.lease_end.map(codec::lease_end_number),
        maybe_called: bool = head.maybe_called,
        admitted: bool = head.admitted,
        unsettled: bool = beside.unsettled,
        users: i64 = i64::from(head.users),
        candidate: i32 = i32::from(head.candidate),
        input_until: Option<i64> = head.input_until.map(from_instant),
        waits_on: Option<String> = id_array(&head.waits_on),
        cached_from: Option<Uuid> = head.cached_from.map(uuid),
        result: Option<String> = head.result.as_ref().map(ToString::to_string),
        cancel_reason: Option<String> = head.cancel_reason.as_ref().map(codec::json),
        error: Option<String> = head.error.as_ref().map(codec::json),
        progress: Option<String> = head.progress.as_ref().map(codec::progress),
        talked: bool = beside.talked,
        talk: Option<String> = codec::talk(head).filter(|_| beside.talked),
    }
}

/// Bodies of new jobs.
pub(super) const INSERT_BODIES: &str = "
insert into job_body (id, tenant, subject, labels, body)
select id, tenant, subject, labels::bytea[], body
from unnest($1::uuid[], $2::text[], $3::bytea[], $4::text[], $5::bytea[]) as u(id, tenant, subject, labels, body)";

arrays! {
    /// The parameters of [`INSERT_BODIES`].
    Bodies(head, body: &JobBody) {
        id: Uuid = uuid(head.id),
        tenant: &'h str = head.owner.tenant.as_str(),
        subject: &'h [u8] = head.owner.subject.as_bytes(),
        labels: Option<String> = label_array(&body.task.labels),
        body: Vec<u8> = codec::json(body).into_bytes(),
    }
}

/// What a label is found by. The length of the key keeps key and value apart.
pub(super) fn label_digest(key: &str, value: &str) -> Digest {
    Digest::of(format!("{}:{key}{value}", key.len()).as_bytes())
}

/// The digests as the text of an array of `bytea`.
fn label_array(labels: &Labels) -> Option<String> {
    let digests: Vec<String> =
        labels.iter().map(|(key, value)| format!("\"\\\\x{}\"", label_digest(key, value))).collect();
    (!digests.is_empty()).then(|| format!("{{{}}}", digests.join(",")))
}

/// The place of a head as the column holds it.
pub(super) fn place_of(head: &JobHead) -> i64 {
    from_instant(Timestamp::from_millis(place(head)))
}

/// Ids as one array.
pub(super) fn uuids<'i>(ids: impl IntoIterator<Item = &'i JobId>) -> Vec<Uuid> {
    ids.into_iter().copied().map(uuid).collect()
}
