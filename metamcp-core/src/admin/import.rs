//! Takes an export into a store.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use tokio::io::AsyncBufRead;

use super::{
    AdminError, Place, Step, Tally, Watch,
    format::{Line, Part, Reader},
    intake::{Body, Intake, Moved},
};
use crate::{
    id::Lane,
    pointer::{Digest, ResultPointer},
    queue::Job,
    record::{Record, RecordKind},
    result::RESULT_BYTES_MAX,
    time::Timestamp,
};

/// Jobs between two words of progress.
const WATCH_EVERY: u64 = 100;

/// A result whose parts are being read.
#[derive(Debug)]
struct Partial {
    pointer: ResultPointer,
    media_type: String,
    total: usize,
    bytes: Vec<u8>,
}

/// What a line brings, once its parts are together.
enum Item {
    Paused(Lane),
    Job(Box<Job>, Option<Body>),
    Record(RecordKind, Record),
    End(Tally),
}

/// Reads an export item by item, and counts what it brings.
struct Items<'a> {
    lines: Reader<'a>,
    partial: Option<Partial>,
    read: Tally,
}

impl<'a> Items<'a> {
    async fn open(input: &'a mut (dyn AsyncBufRead + Unpin + Send)) -> Result<Self, AdminError> {
        Ok(Self { lines: Reader::open(input).await?, partial: None, read: Tally::default() })
    }

    async fn next(&mut self) -> Result<Item, AdminError> {
        loop {
            let line = self.lines.next().await?;
            if self.partial.is_some() && !matches!(line, Line::Result(_) | Line::Job(_)) {
                return Err(self.lines.wrong("should be the job of the result before; use another copy of the file"));
            }
            return Ok(match line {
                Line::Result(part) => {
                    self.part(part)?;
                    continue;
                }
                Line::Job(job) => {
                    let job = Job { head: job.head, body: job.body };
                    let body = self.body_of(&job)?;
                    self.read.jobs += 1;
                    Item::Job(Box::new(job), body)
                }
                Line::Paused(lane) => {
                    self.read.paused += 1;
                    Item::Paused(lane)
                }
                Line::Record(record) => {
                    let value = self.decode(&record.base64)?.into();
                    self.read.records += 1;
                    Item::Record(record.kind, Record { name: record.name, version: 1, value })
                }
                Line::End(end) if end.tally == self.read => Item::End(end.tally),
                Line::End(_) => return Err(self.lines.wrong("tells other counts than those of the lines before")),
            });
        }
    }

    fn decode(&self, base64: &str) -> Result<Vec<u8>, AdminError> {
        STANDARD
            .decode(base64)
            .map_err(|error| self.lines.wrong(format!("is damaged: {error}; use another copy of the file")))
    }

    fn part(&mut self, part: Part) -> Result<(), AdminError> {
        let bytes = self.decode(&part.base64)?;
        let total = usize::try_from(part.total).ok().filter(|total| *total <= RESULT_BYTES_MAX);
        let total = total.ok_or_else(|| {
            self.lines.wrong(format!("is of a result of {} bytes, over {RESULT_BYTES_MAX}", part.total))
        })?;
        let partial = self.partial.get_or_insert_with(|| Partial {
            pointer: part.pointer.clone(),
            media_type: part.media_type,
            total,
            bytes: Vec::with_capacity(total),
        });
        if partial.pointer != part.pointer || partial.total != total || partial.bytes.len() + bytes.len() > total {
            return Err(self.lines.wrong("does not go on with the result of the line before; use another copy"));
        }
        partial.bytes.extend_from_slice(&bytes);
        Ok(())
    }

    /// The result that was read before its job.
    fn body_of(&mut self, job: &Job) -> Result<Option<Body>, AdminError> {
        let Some(Partial { pointer, media_type, total, bytes }) = self.partial.take() else { return Ok(None) };
        if job.head.result.as_ref() != Some(&pointer) {
            return Err(self.lines.wrong(format!("is not the job of {pointer}, which was read before it")));
        }
        if bytes.len() != total || Digest::of(&bytes) != pointer.digest {
            return Err(self.lines.wrong(format!("is of a job whose result {pointer} is not whole; use another copy")));
        }
        self.read.results += 1;
        self.read.result_bytes += bytes.len() as u64;
        Ok(Some(Body { media_type, bytes: Bytes::from(bytes) }))
    }
}

/// Reads an export and changes nothing: answers what it holds, when it is whole and undamaged.
///
/// # Errors
/// [`AdminError::Line`] names the first line that is damaged, or where the file was cut.
pub async fn check(input: &mut (dyn AsyncBufRead + Unpin + Send), watch: &mut Watch<'_>) -> Result<Tally, AdminError> {
    let mut items = Items::open(input).await?;
    loop {
        if let Item::End(tally) = items.next().await? {
            return Ok(tally);
        }
        if items.read.jobs.is_multiple_of(WATCH_EVERY) {
            watch(Step::Verify, &items.read);
        }
    }
}

/// Takes an export into a store, line by line. What stands there already is left as it is, and told when it differs, so that an import that
/// was interrupted is simply repeated. A job that a worker held is held there until its lease runs out, and then comes back as one whose call
/// may have happened. Damage is found where it is: what was before it has been taken in; [`check`] the file first where that
/// matters. Records are in version 1 there.
///
/// # Errors
/// [`AdminError::Line`] names the first line that is damaged, or where the file was cut; and when a store or the reader fails.
pub async fn import(
    input: &mut (dyn AsyncBufRead + Unpin + Send),
    to: Place<'_>,
    now: Timestamp,
    watch: &mut Watch<'_>,
) -> Result<Moved, AdminError> {
    let mut items = Items::open(input).await?;
    let mut intake = Intake::new(to, now);
    loop {
        match items.next().await {
            Ok(Item::Paused(lane)) => intake.pause(&lane).await?,
            Ok(Item::Job(job, body)) => intake.job(*job, body, watch).await?,
            Ok(Item::Record(kind, record)) => {
                intake.jobs_end(watch).await?;
                intake.record(kind, record).await?;
            }
            Ok(Item::End(_)) => {
                intake.jobs_end(watch).await?;
                watch(Step::Copy, &intake.moved.taken);
                return Ok(intake.moved);
            }
            Err(error) => {
                intake.jobs_end(watch).await?;
                return Err(error);
            }
        }
    }
}
