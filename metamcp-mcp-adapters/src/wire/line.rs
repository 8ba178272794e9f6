//! Newline-delimited frames: a reader that keeps every line under a bound, and the one rule for writing.
//!
//! A line over the bound is read to its end and thrown away, so the next one is found again.

use std::io;

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};

/// Room kept for the next line after a long one, in bytes.
const KEPT_BYTES_MAX: usize = 1 << 20;

/// What was read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line<'a> {
    /// A line without its end.
    Text(&'a [u8]),
    /// A line over the bound, thrown away.
    TooLong {
        /// How long it was.
        bytes: u64,
        /// The id of the answer it was, where that stands at either end of the line.
        id: Option<u64>,
    },
}

/// Reads lines of at most a bound.
#[derive(Debug)]
pub(crate) struct LineReader<R> {
    inner: BufReader<R>,
    line: Vec<u8>,
    bytes_max: usize,
}

impl<R: AsyncRead + Unpin> LineReader<R> {
    /// Lines of at most `bytes_max` bytes from `inner`.
    pub(crate) fn new(inner: R, bytes_max: usize) -> Self {
        Self { inner: BufReader::new(inner), line: Vec::new(), bytes_max }
    }

    /// Whether a whole line is there already.
    pub(crate) fn has_line(&self) -> bool {
        self.inner.buffer().contains(&b'\n')
    }

    /// The next line; `None` at the end of the stream. A last line without an end counts. Not cancel safe: a dropped call loses its part.
    pub(crate) async fn next(&mut self) -> io::Result<Option<Line<'_>>> {
        self.line.clear();
        self.line.shrink_to(KEPT_BYTES_MAX);
        let bound = self.bytes_max as u64 + 1;
        (&mut self.inner).take(bound).read_until(b'\n', &mut self.line).await?;
        if self.line.last() == Some(&b'\n') {
            self.line.pop();
            if self.line.last() == Some(&b'\r') {
                self.line.pop();
            }
        } else if self.line.len() as u64 == bound {
            let at_start = id_at_start(&self.line);
            let (skipped, at_end) = self.skip().await?;
            return Ok(Some(Line::TooLong { bytes: bound + skipped, id: at_start.or(at_end) }));
        } else if self.line.is_empty() {
            return Ok(None);
        }
        Ok(Some(Line::Text(&self.line)))
    }

    /// Throws away the rest of a line; how much that was, and the id at its end.
    async fn skip(&mut self) -> io::Result<(u64, Option<u64>)> {
        let mut skipped = 0_u64;
        let mut end = self.line.split_off(self.line.len().saturating_sub(ID_BYTES_MAX));
        loop {
            self.line.clear();
            let read = (&mut self.inner).take(KEPT_BYTES_MAX as u64).read_until(b'\n', &mut self.line).await?;
            skipped += read as u64;
            end.extend_from_slice(&self.line[read.saturating_sub(ID_BYTES_MAX)..]);
            end.drain(..end.len().saturating_sub(ID_BYTES_MAX));
            if read == 0 || self.line.last() == Some(&b'\n') {
                return Ok((skipped, id_at_end(&end)));
            }
        }
    }
}

/// How far from either end of a frame its id is looked for, in bytes.
const ID_BYTES_MAX: usize = 64;

/// `{"jsonrpc":"2.0","id":7,…`: the envelope before the body. Quotes within a body are escaped, or stand deeper.
fn id_at_start(line: &[u8]) -> Option<u64> {
    let start = compact(&line[..line.len().min(ID_BYTES_MAX)]);
    let rest = start.strip_prefix(r#"{"jsonrpc":"2.0","#).or_else(|| start.strip_prefix('{'))?;
    let (id, _) = rest.strip_prefix(r#""id":"#)?.split_once(',')?;
    id.parse().ok()
}

/// `…},"jsonrpc":"2.0","id":7}`: the envelope after the body.
fn id_at_end(line: &[u8]) -> Option<u64> {
    let end = compact(line);
    let (_, id) = end.strip_suffix('}')?.rsplit_once(r#","jsonrpc":"2.0","id":"#)?;
    id.parse().ok()
}

fn compact(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).chars().filter(|c| !c.is_ascii_whitespace()).collect()
}

/// A frame as one line. Line ends within JSON text are white space between tokens, so a blank in their place changes nothing.
pub(crate) fn of_frame(frame: String) -> Vec<u8> {
    let mut line = frame.into_bytes();
    for byte in &mut line {
        if matches!(*byte, b'\n' | b'\r') {
            *byte = b' ';
        }
    }
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn lines(input: &[u8], bytes_max: usize) -> Vec<String> {
        let mut reader = LineReader::new(input, bytes_max);
        let mut seen = Vec::new();
        while let Some(line) = reader.next().await.unwrap() {
            seen.push(match line {
                Line::Text(text) => String::from_utf8(text.to_vec()).unwrap(),
                Line::TooLong { bytes, id: None } => format!("<{bytes}>"),
                Line::TooLong { bytes, id: Some(id) } => format!("<{bytes}: {id}>"),
            });
        }
        seen
    }

    #[tokio::test]
    async fn an_over_long_line_costs_only_itself() {
        assert_eq!(lines(b"ab\r\n0123456789\n\ncd", 4).await, ["ab", "<11>", "", "cd"]);
        assert_eq!(lines(b"abcd\nabcde", 4).await, ["abcd", "<5>"]);
        let mut long = vec![b'x'; 3 * KEPT_BYTES_MAX];
        long.extend_from_slice(b"\nok\n");
        assert_eq!(lines(&long, 10).await, [format!("<{}>", 3 * KEPT_BYTES_MAX + 1), "ok".to_owned()]);
    }

    #[tokio::test]
    async fn the_id_of_an_over_long_answer_is_seen_at_either_end() {
        let body = "x".repeat(2 * KEPT_BYTES_MAX);
        let first = format!("{{\"jsonrpc\": \"2.0\", \"id\": 7, \"result\": \"{body}\"}}\n");
        let last = format!("{{\"result\":{{\"id\":1,\"t\":\"{body}\"}},\"jsonrpc\":\"2.0\",\"id\":8}}\n");
        let none = format!("{{\"result\":{{\"t\":\"{body}\",\"id\":8}}}}\n");
        let all = format!("{first}{last}{none}");
        let expected = [(first.len(), ": 7"), (last.len(), ": 8"), (none.len(), "")];
        assert_eq!(lines(all.as_bytes(), 300).await, expected.map(|(len, id)| format!("<{len}{id}>")));
    }

    #[test]
    fn a_frame_is_one_line() {
        assert_eq!(of_frame("{\n\"a\":\r\n\"\\n\"}".to_owned()), b"{ \"a\":  \"\\n\"}\n");
    }
}
