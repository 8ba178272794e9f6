//! The input of a need as the command line gives it: a JSON text, a file or standard input, and single fields over it.

use std::{
    fs,
    io::{self, Read as _},
};

use metamcp_core::json::RawJson;
use serde_json::{Map, Value};

use super::{args::InputArgs, exit::Failure};

/// Largest text read from a file or from standard input, in bytes.
const TEXT_BYTES_MAX: u64 = 16 << 20;

impl InputArgs {
    /// The input object. Without single fields it stays as it was written.
    pub(super) fn read(&self) -> Result<RawJson, Failure> {
        let whole = self.input.as_deref().map(|input| json("--input", input)).transpose()?;
        if self.fields.is_empty() {
            return Ok(whole.unwrap_or_default());
        }
        let mut object: Map<String, Value> = match whole {
            None => Map::new(),
            Some(raw) => {
                raw.view().map_err(|_| Failure::refused("--input: must be a JSON object, the tool's arguments"))?
            }
        };
        for one in &self.fields {
            let (name, value) = field(one)?;
            object.insert(name, value);
        }
        Ok(Value::Object(object).into())
    }
}

/// The text of a file, or of standard input for `-`.
pub(super) fn text(file: &str) -> Result<String, Failure> {
    let read = if file == "-" { limited(io::stdin()) } else { fs::File::open(file).and_then(limited) };
    read.map_err(|error| Failure::refused(format!("{file}: {error}")))
}

/// JSON given as text, as `@FILE`, or as `-` for standard input.
pub(super) fn json(flag: &str, given: &str) -> Result<RawJson, Failure> {
    let text = match given.strip_prefix('@') {
        Some(file) => {
            fs::File::open(file).and_then(limited).map_err(|e| Failure::refused(format!("{flag}: {file}: {e}")))?
        }
        None if given == "-" => {
            limited(io::stdin()).map_err(|e| Failure::refused(format!("{flag}: standard input: {e}")))?
        }
        None => given.to_owned(),
    };
    let wish = "write a JSON object, @FILE, or - for standard input";
    RawJson::parse(text.trim()).map_err(|error| Failure::refused(format!("{flag}: not JSON ({error}); {wish}")))
}

fn limited(from: impl io::Read) -> io::Result<String> {
    let mut text = String::new();
    from.take(TEXT_BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > TEXT_BYTES_MAX {
        return Err(io::Error::other(format!("more than {TEXT_BYTES_MAX} bytes")));
    }
    Ok(text)
}

/// `NAME=TEXT` or `NAME:=JSON`.
fn field(given: &str) -> Result<(String, Value), Failure> {
    let wish = || Failure::refused(format!("--arg {given}: write NAME=TEXT, or NAME:=JSON"));
    let (name, value) = given.split_once('=').ok_or_else(wish)?;
    let (name, value) = match name.strip_suffix(':') {
        Some(name) => {
            let value = serde_json::from_str(value);
            (name, value.map_err(|error| Failure::refused(format!("--arg {given}: not JSON ({error})")))?)
        }
        None => (name, Value::String(value.to_owned())),
    };
    if name.is_empty() { Err(wish()) } else { Ok((name.to_owned(), value)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(input: Option<&str>, fields: &[&str]) -> Result<String, Failure> {
        let args =
            InputArgs { input: input.map(str::to_owned), fields: fields.iter().map(|f| (*f).to_owned()).collect() };
        args.read().map(|raw| raw.get().to_owned())
    }

    #[test]
    fn fields_lie_over_the_whole_and_the_whole_alone_stays_as_written() {
        assert_eq!(read(None, &[]).unwrap(), "{}");
        assert_eq!(read(Some("{ \"b\":1.0,\"a\":2}"), &[]).unwrap(), "{ \"b\":1.0,\"a\":2}");
        assert_eq!(read(Some(r#"{"a":1}"#), &["a=x=y", "n:=3"]).unwrap(), r#"{"a":"x=y","n":3}"#);
        assert!(read(Some("{"), &[]).unwrap_err().to_string().contains("not JSON"));
        assert!(read(Some("[1]"), &["a=1"]).unwrap_err().to_string().contains("object"));
        assert!(read(None, &["a"]).unwrap_err().to_string().contains("NAME=TEXT"));
        assert!(read(None, &["a:=x"]).unwrap_err().to_string().contains("not JSON"));
    }
}
