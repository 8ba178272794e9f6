//! Whether a direct call that failed is made again: only when it surely did not happen, or the tool declares that a repetition does no harm.
//! What may have happened otherwise is told, never replayed.

use std::time::Duration;

use metamcp_core::{
    engine::plan::{Repeat, repeat},
    matching::Annotations,
    transport::{Delivered, TransportError},
};

/// Most attempts at one direct call: a caller waits for it. The second may still come before a server that died is back.
const TRIES_MAX: u32 = 3;
/// Pause before another attempt when the server asks for none.
const PAUSE: Duration = Duration::from_millis(100);
/// Longest pause that a waiting caller is made to wait for.
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// How long to wait before the attempt after `tries` failed ones; `None`: it is not made.
pub(crate) fn pause_after(tries: u32, error: &TransportError, annotations: Annotations) -> Option<Duration> {
    let may = repeat(error, annotations.replay_is_safe()) == Repeat::May;
    let pause = error.retry_after.unwrap_or(PAUSE);
    (may && tries < TRIES_MAX && pause <= PAUSE_MAX).then_some(pause)
}

/// What a failure is called, and what its caller has to know of it.
pub(crate) fn told(error: &TransportError, annotations: Annotations) -> (&'static str, String) {
    match (repeat(error, annotations.replay_is_safe()), error.delivered) {
        (Repeat::Unknown, _) => (
            "outcome_unknown",
            format!(
                "{error}. The call may have happened and the tool does not declare that repeating it is safe: check its effect before you \
                 call again."
            ),
        ),
        (_, Delivered::No) => ("not_delivered", format!("{error}. The call did not happen; it can be made again.")),
        (Repeat::May, _) => {
            ("failed", format!("{error}. The tool declares that repeating a call is safe; it can be made again."))
        }
        (Repeat::MustNot, Delivered::Maybe) => ("failed", format!("{error}. The call may have happened.")),
        (Repeat::MustNot, Delivered::Yes) => {
            ("failed", format!("{error}. The server has answered; calling again would lead to the same."))
        }
    }
}

#[cfg(test)]
mod tests {
    use metamcp_core::transport::TransportErrorKind;

    use super::*;

    const READS: Annotations = Annotations {
        read_only_hint: Some(true),
        destructive_hint: None,
        idempotent_hint: None,
        open_world_hint: None,
    };

    fn error(kind: TransportErrorKind, delivered: Delivered) -> TransportError {
        TransportError::new(kind, delivered, "server `s` broke")
    }

    #[test]
    fn only_what_does_no_harm_is_made_again_and_not_for_long() {
        let cut = error(TransportErrorKind::Closed, Delivered::Maybe);
        assert_eq!(pause_after(1, &cut, Annotations::default()), None);
        assert_eq!(pause_after(1, &cut, READS), Some(PAUSE));
        assert_eq!(pause_after(2, &cut, READS), Some(PAUSE));
        assert_eq!(pause_after(3, &cut, READS), None);
        let unsent = error(TransportErrorKind::Connect, Delivered::No);
        assert_eq!(pause_after(1, &unsent, Annotations::default()), Some(PAUSE));
        let later = unsent.with_retry_after(Some(Duration::from_secs(60)));
        assert_eq!(pause_after(1, &later, Annotations::default()), None, "nobody is made to wait that long");
    }

    #[test]
    fn what_may_have_happened_is_told() {
        let cut = error(TransportErrorKind::Closed, Delivered::Maybe);
        let (code, text) = told(&cut, Annotations::default());
        assert_eq!(code, "outcome_unknown");
        assert!(text.contains("may have happened") && text.contains("server `s` broke"), "{text}");
        let (code, text) = told(&error(TransportErrorKind::Connect, Delivered::No), Annotations::default());
        assert_eq!(code, "not_delivered");
        assert!(text.contains("did not happen"), "{text}");
    }
}
