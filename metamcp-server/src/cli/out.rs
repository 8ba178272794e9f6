//! Writes to standard output, in text and as JSON. A reader that has gone away is no error: it has seen what it wanted.

use std::io::{self, Write as _};

use serde::Serialize;

/// Writes a text, and a line end if it has none.
pub(super) fn text(text: &str) -> io::Result<()> {
    bytes(text.as_bytes(), !text.ends_with('\n'))
}

/// Writes a document as indented JSON.
pub(super) fn json<T: Serialize + ?Sized>(document: &T) -> io::Result<()> {
    bytes(&serde_json::to_vec_pretty(document).map_err(io::Error::other)?, true)
}

/// Writes bytes as they are, and a line end if asked to.
pub(super) fn bytes(bytes: &[u8], line_end: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let written = out.write_all(bytes).and_then(|()| if line_end { out.write_all(b"\n") } else { Ok(()) });
    match written.and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// A table with aligned columns; the last column is not padded.
pub(super) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = head.iter().map(|cell| cell.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let padded = cells.zip(&widths).map(|(cell, &width)| format!("{cell:<width$}"));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let mut lines = vec![line(&mut head.iter().copied())];
    lines.extend(rows.iter().map(|row| line(&mut row.iter().map(String::as_str))));
    lines.join("\n") + "\n"
}

/// The beginning of a text on one line, at most `chars_max` characters.
pub(super) fn short(text: &str, chars_max: usize) -> String {
    let one_line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if one_line.chars().count() <= chars_max {
        return one_line;
    }
    one_line.chars().take(chars_max.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_texts_cut_at_characters() {
        let rows = [vec!["é".to_owned(), "1".to_owned()], vec!["long".to_owned(), "2".to_owned()]];
        assert_eq!(table(&["A", "B"], &rows), "A     B\né     1\nlong  2\n");
        assert_eq!(short("a  b\nc", 9), "a b c");
        assert_eq!(short("éééé", 3), "éé…");
    }
}
