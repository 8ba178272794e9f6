//! Digests and pointers to results as words. Short ones: Lua looks at every byte of what it is given.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use metamcp_core::{
    id::JobId,
    pointer::{Digest, ResultPointer},
};

/// A digest as 43 characters.
pub(super) fn digest_word(digest: &Digest) -> String {
    URL_SAFE_NO_PAD.encode(digest.as_bytes())
}

pub(super) fn digest_of(word: &str) -> Option<Digest> {
    let bytes = URL_SAFE_NO_PAD.decode(word).ok()?;
    bytes.try_into().ok().map(Digest::from_bytes)
}

/// A pointer among the words of a job: `tenant/digest` when the job made it itself, else `tenant/job/digest`.
pub(super) fn result_word(pointer: &ResultPointer, of: JobId) -> String {
    if pointer.job == of { format!("{}/{}", pointer.tenant, digest_word(&pointer.digest)) } else { full_word(pointer) }
}

/// A pointer as `tenant/job/digest`.
pub(super) fn full_word(pointer: &ResultPointer) -> String {
    format!("{}/{}/{}", pointer.tenant, pointer.job, digest_word(&pointer.digest))
}

pub(super) fn result_of(word: &str, of: JobId) -> Option<ResultPointer> {
    let (tenant, rest) = word.split_once('/')?;
    let (job, digest) = match rest.split_once('/') {
        Some((job, digest)) => (job.parse().ok()?, digest),
        None => (of, rest),
    };
    Some(ResultPointer { tenant: tenant.parse().ok()?, job, digest: digest_of(digest)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pointer_reads_as_it_was_written() {
        let [own, other] = [1, 2].map(|byte| JobId::from_bytes([byte; 16]));
        let pointer = ResultPointer { tenant: "acme".parse().unwrap(), job: own, digest: Digest::of(b"a body") };
        let short = result_word(&pointer, own);
        assert_eq!(short, format!("acme/{}", digest_word(&pointer.digest)));
        assert_eq!(result_word(&pointer, other), full_word(&pointer));
        for word in [short, full_word(&pointer)] {
            assert_eq!(result_of(&word, own), Some(pointer.clone()), "{word}");
        }
    }

    #[test]
    fn what_is_no_pointer_is_none() {
        let digest = digest_word(&Digest::of(b""));
        assert_eq!(digest.len(), 43);
        for wrong in ["", "acme", "acme/", "acme/x", &format!("acme/x/{digest}"), &format!("acme/{digest}A"), &digest] {
            assert_eq!(result_of(wrong, JobId::MIN), None, "{wrong}");
        }
    }
}
