//! Writes all that a store holds as JSON Lines.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Serialize;
use tokio::io::AsyncWrite;

use super::{
    AdminError, Findings, Place, Step, Tally, Watch,
    format::{CHUNK_BYTES, FORMAT, Header, JobLine, Line, Part, RecordLine, VERSION, Writer},
    intake::Body,
    walk::{self, Jobs, KINDS, Records},
};
use crate::{
    error::{StoreErrorKind, StoreResult},
    pointer::{Digest, ResultPointer},
    queue::Job,
    result::ResultStore,
    time::Timestamp,
};

/// Jobs between two words of progress.
const WATCH_EVERY: u64 = 100;

/// What was written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Exported {
    /// How much.
    pub written: Tally,
    /// Jobs that point to a result which the store no longer has.
    pub without_result: u64,
    /// Results that are damaged: their jobs were written without.
    pub findings: Findings,
}

/// Writes the jobs of a store, the results they point to, its records and pauses. Events are not among them.
///
/// A store at rest is written as it stands. Of one at work each job is written as it stood when its page was read, and what comes in later is
/// left out. Dropped, it leaves a file without its last line, which no import takes for whole.
///
/// # Errors
/// When a store or the writer fails, and for more lanes than a store tells of.
pub async fn export(
    from: Place<'_>,
    out: &mut (dyn AsyncWrite + Unpin + Send),
    now: Timestamp,
    watch: &mut Watch<'_>,
) -> Result<Exported, AdminError> {
    let mut exported = Exported::default();
    let written = &mut exported.written;
    let mut out = Writer::new(out);
    out.line(&Header { format: FORMAT.to_owned(), version: VERSION, written_at: now }).await?;
    for (lane, counts) in walk::lanes(&from).await? {
        if counts.paused {
            out.line(&Line::Paused(lane)).await?;
            written.paused += 1;
        }
    }
    let mut jobs = Jobs::all(from.jobs);
    while let Some(job) = jobs.next().await? {
        let body = result_of(from.results, &job, &mut exported.findings).await?;
        exported.without_result += u64::from(job.head.result.is_some() && body.is_none());
        if let (Some(body), Some(pointer)) = (body, &job.head.result) {
            write_result(&mut out, pointer, &body).await?;
            written.results += 1;
            written.result_bytes += body.bytes.len() as u64;
        }
        let Job { head, body } = job;
        out.line(&Line::Job(Box::new(JobLine { head, body }))).await?;
        written.jobs += 1;
        if written.jobs.is_multiple_of(WATCH_EVERY) {
            watch(Step::Copy, written);
        }
    }
    for kind in KINDS {
        let mut records = Records::all(from.records, kind);
        while let Some(record) = records.next().await? {
            let base64 = STANDARD.encode(&record.value);
            out.line(&Line::Record(RecordLine { kind, name: record.name, base64 })).await?;
            written.records += 1;
        }
    }
    out.end(*written).await?;
    watch(Step::Copy, written);
    Ok(exported)
}

async fn write_result(out: &mut Writer<'_>, pointer: &ResultPointer, body: &Body) -> Result<(), AdminError> {
    // An empty result has one part all the same.
    let parts = body.bytes.len().div_ceil(CHUNK_BYTES).max(1);
    for part in 0..parts {
        let end = body.bytes.len().min((part + 1) * CHUNK_BYTES);
        let base64 = STANDARD.encode(&body.bytes[part * CHUNK_BYTES..end]);
        let (pointer, media_type) = (pointer.clone(), body.media_type.clone());
        out.line(&Line::Result(Part { pointer, media_type, total: body.bytes.len() as u64, base64 })).await?;
    }
    Ok(())
}

/// The result of a job, if it has one that is still kept; a damaged one is left out and told in the findings.
pub(super) async fn result_of(
    results: &dyn ResultStore,
    job: &Job,
    findings: &mut Findings,
) -> StoreResult<Option<Body>> {
    let Some(pointer) = &job.head.result else { return Ok(None) };
    match results.get(pointer, None).await {
        // Stores may leave out the check of what never leaves their memory.
        Ok(body) if Digest::of(&body.bytes) == pointer.digest => {
            Ok(Some(Body { media_type: body.media_type, bytes: body.bytes }))
        }
        Ok(_) => {
            findings.add(|| format!("job {}: its result does not match its digest; it is left out", job.head.id));
            Ok(None)
        }
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) if error.kind() == StoreErrorKind::Corrupt => {
            findings.add(|| format!("job {}: its result is left out: {error}", job.head.id));
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
