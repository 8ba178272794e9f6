//! The form of an export: JSON Lines, told by its first line, proven whole by its last.
//!
//! ```text
//! {"format":"metamcp-export","version":1,"written_at":…}
//! {"paused":"heavy"}
//! {"result":{"pointer":"res://…","media_type":"…","total":…,"base64":"…"}}    parts of one result, then the job that points to it
//! {"job":{"head":{…},"body":{…}}}
//! {"record":{"kind":"schedule","name":"…","base64":"…"}}
//! {"end":{"tally":{…},"sha256":"…"}}                                          of every byte before this line
//! ```

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::{AdminError, Tally};
use crate::{
    id::Lane,
    pointer::{Digest, ResultPointer},
    queue::{JobBody, JobHead},
    record::RecordKind,
    time::Timestamp,
};

/// What the first line calls the form.
pub const FORMAT: &str = "metamcp-export";
/// The version that is written, and the newest that is read.
pub const VERSION: u32 = 1;
/// Longest line, in bytes.
pub const LINE_BYTES_MAX: usize = 64 << 20;
/// Bytes of a result on one line, before they are written as base64. A multiple of three: only the last part is padded.
pub const CHUNK_BYTES: usize = 768 << 10;

/// The first line.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Header {
    pub(super) format: String,
    pub(super) version: u32,
    pub(super) written_at: Timestamp,
}

/// A line after the first.
// Tagged from outside: raw JSON inside survives no other form.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Line {
    Paused(Lane),
    Result(Part),
    Job(Box<JobLine>),
    Record(RecordLine),
    End(End),
}

/// A part of a result.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Part {
    pub(super) pointer: ResultPointer,
    pub(super) media_type: String,
    /// Bytes of the whole result.
    pub(super) total: u64,
    pub(super) base64: String,
}

/// A job.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct JobLine {
    pub(super) head: JobHead,
    pub(super) body: Arc<JobBody>,
}

/// A record.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct RecordLine {
    pub(super) kind: RecordKind,
    pub(super) name: String,
    pub(super) base64: String,
}

/// The last line.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct End {
    pub(super) tally: Tally,
    pub(super) sha256: Digest,
}

/// Writes lines, and keeps the digest of them.
pub(super) struct Writer<'a> {
    out: &'a mut (dyn AsyncWrite + Unpin + Send),
    digest: Sha256,
    lines: u64,
}

impl<'a> Writer<'a> {
    pub(super) fn new(out: &'a mut (dyn AsyncWrite + Unpin + Send)) -> Self {
        Self { out, digest: Sha256::new(), lines: 0 }
    }

    /// Writes one line.
    pub(super) async fn line<T: Serialize + Sync>(&mut self, line: &T) -> Result<(), AdminError> {
        self.lines += 1;
        let mut bytes = serde_json::to_vec(line)
            .map_err(|error| AdminError::Line { line: self.lines, why: format!("cannot be written: {error}") })?;
        bytes.push(b'\n');
        if bytes.len() > LINE_BYTES_MAX {
            let why = format!("would have {} bytes, and no line is read above {LINE_BYTES_MAX}", bytes.len());
            return Err(AdminError::Line { line: self.lines, why });
        }
        self.digest.update(&bytes);
        self.out.write_all(&bytes).await?;
        Ok(())
    }

    /// Writes the last line, and all that is still on its way.
    pub(super) async fn end(mut self, tally: Tally) -> Result<(), AdminError> {
        let sha256 = Digest::from_bytes(self.digest.clone().finalize().into());
        self.line(&Line::End(End { tally, sha256 })).await?;
        self.out.flush().await?;
        Ok(())
    }
}

/// Reads lines, and checks them against the digest of the last.
pub(super) struct Reader<'a> {
    input: &'a mut (dyn AsyncBufRead + Unpin + Send),
    digest: Sha256,
    /// The number of the line that was read last, from 1.
    number: u64,
    bytes: Vec<u8>,
}

impl<'a> Reader<'a> {
    /// Reads the first line.
    pub(super) async fn open(input: &'a mut (dyn AsyncBufRead + Unpin + Send)) -> Result<Self, AdminError> {
        let mut reader = Self { input, digest: Sha256::new(), number: 0, bytes: Vec::new() };
        reader.read().await?;
        let header: Option<Header> = serde_json::from_slice(&reader.bytes).ok();
        match header.filter(|header| header.format == FORMAT) {
            Some(header) if header.version <= VERSION => {}
            Some(header) => {
                let why =
                    format!("has version {} and this build reads {VERSION} at most; use a newer one", header.version);
                return Err(reader.wrong(why));
            }
            None => return Err(reader.wrong("is not the first line of an export of MetaMCP; name such a file")),
        }
        reader.digest.update(&reader.bytes);
        Ok(reader)
    }

    /// The next line. After the last one, which was checked, nothing follows.
    pub(super) async fn next(&mut self) -> Result<Line, AdminError> {
        self.read().await?;
        let line: Line = serde_json::from_slice(&self.bytes)
            .map_err(|error| self.wrong(format!("is damaged: {error}; use another copy of the file")))?;
        let Line::End(end) = &line else {
            self.digest.update(&self.bytes);
            return Ok(line);
        };
        if end.sha256.as_bytes()[..] != self.digest.clone().finalize()[..] {
            return Err(
                self.wrong("tells another digest than that of the lines before; one is damaged, use another copy")
            );
        }
        if !self.input.fill_buf().await?.is_empty() {
            return Err(self.wrong("is the last one, and something follows; use another copy of the file"));
        }
        Ok(line)
    }

    /// An error of the line that was read last.
    pub(super) fn wrong(&self, why: impl Into<String>) -> AdminError {
        AdminError::Line { line: self.number, why: why.into() }
    }

    async fn read(&mut self) -> Result<(), AdminError> {
        self.number += 1;
        self.bytes.clear();
        let mut bounded = (&mut *self.input).take(LINE_BYTES_MAX as u64);
        bounded.read_until(b'\n', &mut self.bytes).await?;
        match self.bytes.last() {
            Some(b'\n') => Ok(()),
            _ if self.bytes.len() == LINE_BYTES_MAX => Err(self.wrong(format!("has over {LINE_BYTES_MAX} bytes"))),
            _ => Err(self.wrong("the file ends here, before its last line: it was cut; use a whole copy")),
        }
    }
}
