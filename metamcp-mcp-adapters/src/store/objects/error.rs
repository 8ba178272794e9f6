//! Maps what a backend of objects says to the one error of stores, in words that name what to change.

use metamcp_core::error::{StoreError, StoreErrorKind};

/// The store's name in errors.
pub(super) const STORE: &str = "object store";

/// Codes with which S3 refuses whoever asks; trying again with the same keys helps nobody.
const REFUSALS: &[&str] = &[
    "AccessDenied",
    "AccountProblem",
    "AllAccessDisabled",
    "AuthorizationHeaderMalformed",
    "ExpiredToken",
    "InvalidAccessKeyId",
    "InvalidToken",
    "SignatureDoesNotMatch",
];
/// Codes of a request that went to the wrong region.
const ELSEWHERE: &[&str] = &["IllegalLocationConstraintException", "PermanentRedirect", "TemporaryRedirect"];

/// The call is wrong as it stands.
pub(super) fn invalid(message: impl Into<String>) -> StoreError {
    StoreError::new(StoreErrorKind::Invalid, STORE, message)
}

/// What is stored is not what was put.
pub(super) fn corrupt(message: impl Into<String>) -> StoreError {
    StoreError::new(StoreErrorKind::Corrupt, STORE, message)
}

/// May go better next time.
pub(super) fn unavailable(message: impl Into<String>) -> StoreError {
    StoreError::new(StoreErrorKind::Unavailable, STORE, message)
}

/// The error of `action` at `place`; `hint` says what to look at when the backend just does not answer.
pub(super) fn failed(action: &str, place: &str, hint: &str, error: object_store::Error) -> StoreError {
    use object_store::Error;
    // The crate keeps the type of a list's error to itself; the protocol's code is in its text.
    let text = error.to_string();
    let code = code_in(&text).unwrap_or_default();
    let refused = matches!(error, Error::PermissionDenied { .. } | Error::Unauthenticated { .. });
    let mapped = if code == "NoSuchBucket" {
        invalid(format!("cannot {action}: there is no bucket at {place}; make it, or correct its name or the endpoint"))
    } else if refused || REFUSALS.contains(&code) {
        let code = if code.is_empty() { "forbidden" } else { code };
        invalid(format!(
            "cannot {action}: {place} refuses the keys ({code}); check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and that they may read, \
             write, list and delete there"
        ))
    } else if ELSEWHERE.contains(&code) || text.contains("incorrectly configured region") {
        invalid(format!("cannot {action}: {place} is in another region; say which with `region` or AWS_REGION"))
    } else if code == "RequestTimeTooSkewed" {
        unavailable(format!("cannot {action}: {place} finds the clock of this machine wrong; set it"))
    } else {
        unavailable(format!("cannot {action} at {place}; {hint}"))
    };
    mapped.with_source(error)
}

/// The error code in an answer of S3.
fn code_in(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once("<Code>")?;
    Some(rest.split_once("</Code>")?.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(code: &str) -> StoreError {
        let source = format!("status code: 403: <Error><Code>{code}</Code><Message>no</Message></Error>").into();
        failed("list", "s3://b", "check it", object_store::Error::Generic { store: "S3", source })
    }

    #[test]
    fn what_the_far_side_says_becomes_a_kind_and_an_advice() {
        for (code, retryable, advice) in [
            ("NoSuchBucket", false, "there is no bucket at s3://b"),
            ("AccessDenied", false, "AWS_ACCESS_KEY_ID"),
            ("SignatureDoesNotMatch", false, "(SignatureDoesNotMatch)"),
            ("PermanentRedirect", false, "AWS_REGION"),
            ("RequestTimeTooSkewed", true, "clock"),
            ("SlowDown", true, "check it"),
        ] {
            let error = said(code);
            assert_eq!(error.is_retryable(), retryable, "{code}");
            assert!(error.to_string().contains(advice), "{code}: {error}");
        }
    }
}
