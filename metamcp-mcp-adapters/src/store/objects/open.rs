//! Opens a place: makes the client of S3, or the directory. Nothing here asks the far side; `check` does.

use std::{fs, path::Path, sync::Arc, time::Duration};

use metamcp_core::{
    error::{StoreError, StoreErrorKind, StoreResult},
    time::Clock,
};
use object_store::{
    BackoffConfig, ClientConfigKey, ClientOptions, RetryConfig, StaticCredentialProvider,
    aws::{AmazonS3Builder, AmazonS3ConfigKey as Key, AwsCredential},
    local::LocalFileSystem,
};

use super::{
    backend::Backend,
    error::{STORE, failed, invalid},
    place::{Endpoint, ObjectPlace, S3Keys, S3Place},
    results::{ObjectOptions, ObjectResultStore},
};

/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest time of one request with its body of up to 64 MiB.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(120);
/// Longest silence while an answer is read.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// Tries after the first for a request that may be repeated, within [`RETRY_TIMEOUT`].
const RETRIES_MAX: usize = 3;
/// After this long a request is not tried again.
const RETRY_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest pause between two tries.
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(2);

impl ObjectResultStore {
    /// Opens a place. Keys and everything else that an S3 place leaves open come from the `AWS_*` environment variables.
    ///
    /// # Errors
    /// `Invalid` when what is said does not fit together, such as an endpoint on another machine without TLS; `Unavailable` when a directory
    /// cannot be made.
    pub fn open(place: &ObjectPlace, clock: Arc<dyn Clock>, options: &ObjectOptions) -> StoreResult<Self> {
        match place {
            ObjectPlace::S3(place) => Ok(Self::new(s3(place)?, &place.prefix, clock, options)),
            ObjectPlace::Directory(path) => Ok(Self::new(directory(path)?, "", clock, options)),
        }
    }
}

fn directory(path: &Path) -> StoreResult<Backend> {
    let unusable = |e: std::io::Error| {
        let message = format!("cannot use {} for results; check its rights and space", path.display());
        StoreError::new(StoreErrorKind::Unavailable, STORE, message).with_source(e)
    };
    // For its owner alone, as results may be anybody's secrets. A folder that is there keeps its rights.
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(path).map_err(unusable)?;
    let path = path.canonicalize().map_err(unusable)?;
    let (place, hint) = (path.display().to_string(), "check its rights and space");
    let store = LocalFileSystem::new_with_prefix(&path).map_err(|error| failed("open", &place, hint, error))?;
    let store = store.with_fsync(true).with_automatic_cleanup(true);
    Ok(Backend::new(Arc::new(store), place, hint, Some(path)))
}

fn s3(place: &S3Place) -> StoreResult<Backend> {
    let environment = AmazonS3Builder::from_env();
    let told = |key| environment.get_config_value(&key).filter(|value| !value.is_empty());
    let endpoint = place.endpoint.clone().or_else(|| told(Key::S3Endpoint)).or_else(|| told(Key::Endpoint));
    let endpoint = endpoint.as_deref().map(Endpoint::parse).transpose()?;
    let allow_http = place.allow_http || told(Key::Client(ClientConfigKey::AllowHttp)).as_deref() == Some("true");
    let named = S3Place { endpoint: endpoint.as_ref().map(|endpoint| endpoint.text.clone()), ..place.clone() };
    let name = named.to_string();
    let plain = endpoint.as_ref().is_some_and(|endpoint| endpoint.plain);
    if plain && !allow_http && endpoint.as_ref().is_some_and(|endpoint| !endpoint.loopback) {
        return Err(invalid(format!("{name} would send results without TLS; use https://, or say allow_http=true")));
    }
    let path_style = place.path_style.unwrap_or(endpoint.is_some() || place.bucket.contains('.'));

    let client = ClientOptions::new()
        .with_allow_http(plain)
        .with_connect_timeout(CONNECT_TIMEOUT)
        .with_read_timeout(READ_TIMEOUT)
        .with_timeout(REQUEST_TIMEOUT);
    let backoff = BackoffConfig { max_backoff: RETRY_PAUSE_MAX, ..BackoffConfig::default() };
    let mut builder = environment
        .with_bucket_name(&place.bucket)
        .with_client_options(client)
        .with_retry(RetryConfig { backoff, max_retries: RETRIES_MAX, retry_timeout: RETRY_TIMEOUT })
        .with_virtual_hosted_style_request(!path_style)
        // One by one is understood by every server that speaks the protocol.
        .with_disable_bulk_delete(true);
    if let Some(endpoint) = endpoint {
        let url = if path_style { endpoint.text } else { in_host(&endpoint.text, &place.bucket) };
        builder = builder.with_config(Key::S3Endpoint, url);
    }
    if let Some(region) = &place.region {
        builder = builder.with_region(region);
    }
    if let Some(S3Keys { access_key_id, secret_access_key, session_token }) = place.keys.clone() {
        // All three together: a token of the environment belongs to the keys of the environment.
        let credential = AwsCredential { key_id: access_key_id, secret_key: secret_access_key, token: session_token };
        builder = builder.with_credentials(Arc::new(StaticCredentialProvider::new(credential)));
    }
    let store = builder.build().map_err(|error| {
        let message =
            format!("{name} cannot be used as it is configured; see its cause and the AWS_* environment variables");
        invalid(message).with_source(error)
    })?;
    Ok(Backend::new(Arc::new(store), name, "check that it is up and reachable, and that there are keys for it", None))
}

/// The endpoint of a bucket that is named in the host.
fn in_host(endpoint: &str, bucket: &str) -> String {
    endpoint.replacen("://", &format!("://{bucket}."), 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_in_the_host_name_goes_before_it() {
        assert_eq!(in_host("https://s3.example:9000", "results"), "https://results.s3.example:9000");
    }
}
