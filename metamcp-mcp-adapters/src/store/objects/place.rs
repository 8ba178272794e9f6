//! Where objects are kept, as configuration says it: `s3://bucket/prefix?endpoint=…&region=…`, `file:///path` or a path. Keys are never part of
//! it; what is not understood is refused in words that say what is.

use std::{
    fmt,
    net::IpAddr,
    path::{Path, PathBuf},
    str::FromStr,
};

use http::Uri;
use metamcp_core::error::{StoreError, StoreResult};
use percent_encoding::percent_decode_str;

use super::error::invalid;

/// Longest address, in bytes.
const ADDRESS_BYTES_MAX: usize = 4_096;
/// Longest prefix of a bucket's keys, in bytes: S3 keys have 1,024, and ours need less than half.
const PREFIX_BYTES_MAX: usize = 256;

const S3_SCHEME: &str = "s3://";
const FILE_SCHEME: &str = "file://";
/// The parameters of `s3://`, for errors.
const PARAMETERS: &str = "allow_http, endpoint, path_style and region";

/// A place for objects.
///
/// As text: `s3://bucket/prefix` with the parameters `endpoint` (such as `https://minio.example:9000`), `region`, `path_style` (`true` or
/// `false`) and `allow_http` (`true`: also to other machines than this one), or `file:///path`, or a path.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ObjectPlace {
    /// S3-compatible object storage.
    S3(S3Place),
    /// A directory, shared by all machines that use it; made when it is missing.
    Directory(PathBuf),
}

/// A bucket, or a part of one. What it does not say comes from the usual `AWS_*` environment variables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3Place {
    /// The bucket's name.
    pub bucket: String,
    /// Before every key, without a slash at either end; may be empty.
    pub prefix: String,
    /// Such as `https://minio.example:9000`; `None`: `AWS_ENDPOINT_URL_S3`, `AWS_ENDPOINT_URL`, else Amazon's of the region.
    pub endpoint: Option<String>,
    /// Such as `eu-central-1`; `None`: `AWS_REGION`, `AWS_DEFAULT_REGION`, else `us-east-1`.
    pub region: Option<String>,
    /// Whether the bucket is in the path of requests rather than in the host name; `None`: in the path when an endpoint is named or the
    /// bucket's name has a dot.
    pub path_style: Option<bool>,
    /// Whether an endpoint on another machine may be spoken to without TLS. Bodies and requests can then be read on the way.
    pub allow_http: bool,
    /// `None`: `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`, else what the cloud gives its machines (web identity, container, instance).
    pub keys: Option<S3Keys>,
}

/// Who asks. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct S3Keys {
    /// The key's public name.
    pub access_key_id: String,
    /// The secret.
    pub secret_access_key: String,
    /// Comes with keys that end.
    pub session_token: Option<String>,
}

impl fmt::Debug for S3Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("S3Keys(secret)")
    }
}

impl S3Place {
    /// The place with these keys.
    #[must_use]
    pub fn with_keys(self, keys: S3Keys) -> Self {
        Self { keys: Some(keys), ..self }
    }
}

impl ObjectPlace {
    /// The place with these keys; a directory needs none.
    #[must_use]
    pub fn with_keys(self, keys: S3Keys) -> Self {
        match self {
            Self::S3(place) => Self::S3(place.with_keys(keys)),
            directory @ Self::Directory(_) => directory,
        }
    }
}

/// Without secrets.
impl fmt::Display for ObjectPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::S3(place) => place.fmt(f),
            Self::Directory(path) => path.display().fmt(f),
        }
    }
}

impl fmt::Display for S3Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{S3_SCHEME}{}", self.bucket)?;
        if !self.prefix.is_empty() {
            write!(f, "/{}", self.prefix)?;
        }
        self.endpoint.as_ref().map_or(Ok(()), |endpoint| write!(f, " at {endpoint}"))
    }
}

impl FromStr for ObjectPlace {
    type Err = StoreError;

    /// # Errors
    /// `Invalid`; the text is not repeated, as it may hold a secret at the wrong place.
    fn from_str(text: &str) -> StoreResult<Self> {
        if text.is_empty() || text.len() > ADDRESS_BYTES_MAX {
            return Err(invalid(format!("a place for results has 1 to {ADDRESS_BYTES_MAX} bytes")));
        }
        if let Some(rest) = text.strip_prefix(S3_SCHEME) {
            return s3(rest).map(Self::S3);
        }
        if let Some(rest) = text.strip_prefix(FILE_SCHEME) {
            return file(rest).map(Self::Directory);
        }
        if text.contains("://") {
            return Err(invalid("a place for results is s3://bucket/prefix, file:///path or a path"));
        }
        Ok(Self::Directory(PathBuf::from(text)))
    }
}

fn file(rest: &str) -> StoreResult<PathBuf> {
    let path = rest.strip_prefix("localhost").unwrap_or(rest);
    if !path.starts_with('/') || path.contains(['?', '#']) {
        return Err(invalid("a directory is written file:///absolute/path, with no host and no parameters"));
    }
    let decoded = percent_decode_str(path).decode_utf8();
    let decoded =
        decoded.map_err(|_| invalid("the path of file:// is not UTF-8 once its percent signs are decoded"))?;
    Ok(Path::new(decoded.as_ref()).to_owned())
}

fn s3(rest: &str) -> StoreResult<S3Place> {
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    if rest.contains('#') || path.contains('@') {
        return Err(invalid(keys_are_no_part_of_it()));
    }
    let (bucket, prefix) = path.split_once('/').unwrap_or((path, ""));
    let mut place = S3Place {
        bucket: checked_bucket(bucket)?,
        prefix: checked_prefix(prefix)?,
        endpoint: None,
        region: None,
        path_style: None,
        allow_http: false,
        keys: None,
    };
    let mut seen = Vec::new();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        match name.as_ref() {
            "allow_http" => place.allow_http = flag("allow_http", &value)?,
            "endpoint" => place.endpoint = Some(Endpoint::parse(&value)?.text),
            "path_style" => place.path_style = Some(flag("path_style", &value)?),
            "region" if !value.is_empty() => place.region = Some(value.into_owned()),
            "region" => return Err(invalid("`region` is empty; leave it out for AWS_REGION or us-east-1")),
            other if other.contains("key") || other.contains("secret") || other.contains("token") => {
                return Err(invalid(keys_are_no_part_of_it()));
            }
            other => return Err(invalid(format!("unknown parameter `{other}`; there are {PARAMETERS}"))),
        }
        if seen.contains(&name) {
            return Err(invalid(format!("the parameter `{name}` is there twice")));
        }
        seen.push(name);
    }
    Ok(place)
}

fn keys_are_no_part_of_it() -> String {
    "an s3:// address is s3://bucket/prefix and parameters; keys do not belong into it, as addresses are shown and logged: set \
     AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        .to_owned()
}

fn flag(name: &str, value: &str) -> StoreResult<bool> {
    value.parse().map_err(|_| invalid(format!("`{name}` is true or false")))
}

fn checked_bucket(name: &str) -> StoreResult<String> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '-');
    if (3..=63).contains(&name.len()) && name.chars().all(fits) {
        return Ok(name.to_owned());
    }
    Err(invalid("the bucket of s3://bucket/prefix has 3 to 63 of a-z 0-9 . -"))
}

fn checked_prefix(prefix: &str) -> StoreResult<String> {
    let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '=');
    let part_fits = |part: &str| !matches!(part, "" | "." | "..") && part.chars().all(fits);
    if prefix.is_empty() || (prefix.len() <= PREFIX_BYTES_MAX && prefix.split('/').all(part_fits)) {
        return Ok(prefix.to_owned());
    }
    Err(invalid(format!(
        "the prefix of s3://bucket/prefix has up to {PREFIX_BYTES_MAX} of A-Z a-z 0-9 . - _ = in parts with one slash between them"
    )))
}

/// Where an S3 protocol server listens.
#[derive(Debug)]
pub(super) struct Endpoint {
    /// Without a slash at its end.
    pub(super) text: String,
    /// Without TLS.
    pub(super) plain: bool,
    /// On this machine.
    pub(super) loopback: bool,
}

impl Endpoint {
    pub(super) fn parse(text: &str) -> StoreResult<Self> {
        let bad = || invalid("an endpoint is http://host:port or https://host:port, with nothing behind it");
        let uri: Uri = text.parse().map_err(|_| bad())?;
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else { return Err(bad()) };
        let more = uri.path().len() > 1 || uri.query().is_some() || authority.as_str().contains('@');
        if more || !matches!(scheme, "http" | "https") {
            return Err(bad());
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        let loopback = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        Ok(Self { text: format!("{scheme}://{authority}"), plain: scheme == "http", loopback })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> ObjectPlace {
        text.parse().unwrap()
    }

    fn refusal(text: &str) -> String {
        text.parse::<ObjectPlace>().unwrap_err().to_string()
    }

    #[test]
    fn a_bucket_a_prefix_and_parameters_are_read() {
        let ObjectPlace::S3(place) = parsed(
            "s3://b-1.x/team/results/?endpoint=http%3A%2F%2F127.0.0.1:9000/&region=eu-central-1&path_style=false",
        ) else {
            panic!("not S3")
        };
        assert_eq!((place.bucket.as_str(), place.prefix.as_str()), ("b-1.x", "team/results"));
        assert_eq!(place.endpoint.as_deref(), Some("http://127.0.0.1:9000"));
        assert_eq!(
            (place.region.as_deref(), place.path_style, place.allow_http),
            (Some("eu-central-1"), Some(false), false)
        );
        assert_eq!(ObjectPlace::S3(place).to_string(), "s3://b-1.x/team/results at http://127.0.0.1:9000");
        assert_eq!(parsed("s3://bucket").to_string(), "s3://bucket");
    }

    #[test]
    fn a_directory_is_a_path_or_a_file_address() {
        for (text, path) in [
            ("/var/results", "/var/results"),
            ("results", "results"),
            ("file:///var/my%20results", "/var/my results"),
            ("file://localhost/x", "/x"),
        ] {
            assert_eq!(parsed(text), ObjectPlace::Directory(path.into()), "{text}");
        }
    }

    #[test]
    fn what_is_not_understood_is_refused_in_clear_words() {
        for (text, word) in [
            ("", "1 to"),
            ("gs://bucket", "s3://bucket/prefix, file:///path or a path"),
            ("s3://", "3 to 63"),
            ("s3://UPPER", "3 to 63"),
            ("s3://bucket//x", "one slash"),
            ("s3://bucket/../x", "one slash"),
            ("s3://bucket?acl=public", "unknown parameter `acl`; there are allow_http, endpoint"),
            ("s3://bucket?region=", "`region` is empty"),
            ("s3://bucket?region=a&region=b", "twice"),
            ("s3://bucket?path_style=yes", "true or false"),
            ("s3://bucket?endpoint=ftp://x", "an endpoint is"),
            ("s3://bucket?endpoint=http://x/y", "an endpoint is"),
            ("file://host/x", "no host"),
            ("file:///x?y", "no parameters"),
        ] {
            assert!(refusal(text).contains(word), "{text}: {}", refusal(text));
        }
    }

    #[test]
    fn keys_in_an_address_are_refused_and_never_shown() {
        for text in ["s3://id:hunter2@bucket", "s3://bucket?secret_access_key=hunter2", "s3://bucket#hunter2"] {
            let refusal = refusal(text);
            assert!(refusal.contains("AWS_SECRET_ACCESS_KEY") && !refusal.contains("hunter2"), "{refusal}");
        }
        let keys = || S3Keys {
            access_key_id: "id".to_owned(),
            secret_access_key: "hunter2".to_owned(),
            session_token: Some("hunter2".to_owned()),
        };
        assert!(!format!("{:?}", parsed("s3://bucket").with_keys(keys())).contains("hunter2"));
    }
}
