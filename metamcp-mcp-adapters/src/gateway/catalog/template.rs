//! Whether a URI comes of a URI template (RFC 6570), to know whose resource it is. It tells what may be; the server has the last word.

/// A template as the texts between its expressions, and whether each expression may hold a `/`.
#[derive(Debug, Clone)]
pub(crate) struct UriTemplate {
    first: Box<str>,
    /// What each expression may be, and the text after it.
    parts: Vec<(Hole, Box<str>)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hole {
    /// `{name}`: something without `/`.
    Segment,
    /// `{+name}`, `{/name*}` and the other forms: anything, also nothing.
    Anything,
}

impl UriTemplate {
    /// Reads a template; what is not closed stands for itself.
    pub(crate) fn new(template: &str) -> Self {
        let mut pieces = template.split('{');
        let first = pieces.next().unwrap_or_default().into();
        let parts = pieces.map(|piece| {
            let (expression, after) = piece.split_once('}').unwrap_or((piece, ""));
            let plain = expression.starts_with(|c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '%'));
            let hole = if plain && !expression.ends_with('*') { Hole::Segment } else { Hole::Anything };
            (hole, after.into())
        });
        Self { first, parts: parts.collect() }
    }

    /// Whether the URI may come of it. Takes time in proportion to the URI and the number of expressions, whatever the template.
    pub(crate) fn matches(&self, uri: &str) -> bool {
        let Some(rest) = uri.strip_prefix(&*self.first) else { return false };
        let rest = rest.as_bytes();
        // Up to where the parts so far may have come.
        let mut reached = vec![false; rest.len() + 1];
        reached[0] = true;
        for (hole, text) in &self.parts {
            let mut next = vec![false; rest.len() + 1];
            let mut open = false;
            for at in 0..=rest.len() {
                if *hole == Hole::Anything {
                    open |= reached[at];
                }
                if open && rest[at..].starts_with(text.as_bytes()) {
                    next[at + text.len()] = true;
                }
                if *hole == Hole::Segment {
                    open = (open || reached[at]) && rest.get(at) != Some(&b'/');
                }
            }
            reached = next;
        }
        reached[rest.len()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expression_stands_for_a_segment_or_for_anything() {
        for (template, uri, fits) in [
            ("test://template/{id}/data", "test://template/7/data", true),
            ("test://template/{id}/data", "test://template//data", false),
            ("test://template/{id}/data", "test://template/a/b/data", false),
            ("file:///{+path}", "file:///a/b/c", true),
            ("file:///{path*}", "file:///a/b/c", true),
            ("x://s{?q,r}", "x://s", true),
            ("x://s{?q,r}", "x://s?q=1", true),
            ("x://s{?q,r}", "y://s?q=1", false),
            ("x://{a}.{b}", "x://1.2.3", true),
            ("x://{a}-{b}/end", "x://1-2/end", true),
            ("x://plain", "x://plain", true),
            ("x://plain", "x://plainer", false),
            ("x://{a", "x://b", true),
            ("{+any}", "", true),
        ] {
            assert_eq!(UriTemplate::new(template).matches(uri), fits, "{template} {uri}");
        }
    }
}
