//! TOML text as a small tree that knows the line of every key. It says what is written, not whether it makes sense.

use toml::de::{DeTable, DeValue};

/// A value as it is written.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Raw {
    Text(String),
    Integer(i64),
    Decimal(f64),
    Bool(bool),
    List(Vec<Raw>),
    Table(Vec<Item>),
    /// A kind of value that no key takes.
    Other(&'static str),
}

/// A key with its value.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Item {
    pub(super) key: String,
    /// Counted from 1.
    pub(super) line: usize,
    pub(super) value: Raw,
}

impl Raw {
    /// What it is, for people.
    pub(super) fn what(&self) -> &'static str {
        match self {
            Self::Text(_) => "a string",
            Self::Integer(_) => "an integer",
            Self::Decimal(_) => "a number with a fraction",
            Self::Bool(_) => "a boolean",
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
            Self::Other(what) => what,
        }
    }

    /// As TOML, on one line.
    pub(super) fn print(&self) -> String {
        match self {
            Self::Text(text) => quoted(text),
            Self::Integer(number) => number.to_string(),
            Self::Decimal(number) => format!("{number:?}"),
            Self::Bool(flag) => flag.to_string(),
            Self::List(list) => format!("[{}]", list.iter().map(Self::print).collect::<Vec<_>>().join(", ")),
            Self::Table(items) => {
                let pairs = items.iter().map(|item| format!("{} = {}", bare(&item.key), item.value.print()));
                format!("{{ {} }}", pairs.collect::<Vec<_>>().join(", "))
            }
            Self::Other(what) => format!("\"{what}\""),
        }
    }
}

/// A TOML string.
pub(super) fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// A key, quoted when TOML wants it.
pub(super) fn bare(key: &str) -> String {
    let bare = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
    if bare { key.to_owned() } else { quoted(key) }
}

/// Reads a whole file.
///
/// # Errors
/// When it is not TOML: the line, counted from 1, and what is wrong there.
pub(super) fn parse(text: &str) -> Result<Vec<Item>, (usize, String)> {
    let line_of = |at: usize| text.get(..at).unwrap_or(text).matches('\n').count() + 1;
    let table = DeTable::parse(text).map_err(|error| {
        let line = error.span().map_or(1, |span| line_of(span.start));
        (line, error.message().trim_end_matches('.').to_owned())
    })?;
    Ok(items(table.get_ref(), &line_of))
}

fn items(table: &DeTable<'_>, line_of: &dyn Fn(usize) -> usize) -> Vec<Item> {
    let item = |(key, value): (&toml::Spanned<_>, &toml::Spanned<DeValue<'_>>)| {
        let name: &std::borrow::Cow<'_, str> = key.get_ref();
        Item { key: name.to_string(), line: line_of(key.span().start), value: raw(value.get_ref(), line_of) }
    };
    table.iter().map(item).collect()
}

fn raw(value: &DeValue<'_>, line_of: &dyn Fn(usize) -> usize) -> Raw {
    match value {
        DeValue::String(text) => Raw::Text(text.to_string()),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map_or(Raw::Other("an integer beyond 64 bits"), Raw::Integer),
        DeValue::Boolean(flag) => Raw::Bool(*flag),
        DeValue::Array(list) => Raw::List(list.iter().map(|value| raw(value.get_ref(), line_of)).collect()),
        DeValue::Table(table) => Raw::Table(items(table, line_of)),
        DeValue::Float(number) => {
            let finite = number.as_str().parse().ok().filter(|number: &f64| number.is_finite());
            finite.map_or(Raw::Other("a number without an end"), Raw::Decimal)
        }
        DeValue::Datetime(_) => Raw::Other("a date"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_know_their_lines() {
        let items = parse("# c\n[server]\nlisten = \"a\"\n[jobs]\nlease_s = 0x1F\n").unwrap();
        let Raw::Table(jobs) = &items.iter().find(|i| i.key == "jobs").unwrap().value else { panic!() };
        assert_eq!(jobs[0], Item { key: "lease_s".to_owned(), line: 5, value: Raw::Integer(31) });
        let (line, _) = parse("a = 1\nb = ?\n").unwrap_err();
        assert_eq!(line, 2);
    }
}
