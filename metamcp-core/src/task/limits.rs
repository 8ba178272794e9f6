//! Bounds on what a task may be, checked once at submission, each with an error that names the field and the mend.

use super::Task;

/// A task that is refused as it stands.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {mend}")]
pub struct InvalidTask {
    /// The field as the task document calls it.
    pub field: &'static str,
    /// What to change.
    pub mend: String,
}

impl InvalidTask {
    /// `field` is wrong; `mend` says what to change.
    #[must_use]
    pub fn new(field: &'static str, mend: impl Into<String>) -> Self {
        Self { field, mend: mend.into() }
    }
}

/// Bounds of one task.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Limits {
    /// Longest need, in bytes.
    pub need_bytes_max: usize,
    /// Largest input, in bytes of JSON text.
    pub input_bytes_max: usize,
    /// Most labels.
    pub labels_max: usize,
    /// Longest label key or value, in bytes.
    pub label_bytes_max: usize,
    /// Longest idempotency key, in bytes.
    pub idempotency_key_bytes_max: usize,
    /// Longest delayed start and longest deadline, in seconds.
    pub horizon_s_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            need_bytes_max: 16 << 10,
            input_bytes_max: 1 << 20,
            labels_max: 32,
            label_bytes_max: 256,
            idempotency_key_bytes_max: 256,
            horizon_s_max: 366 * 24 * 3_600,
        }
    }
}

/// Most tasks that one task waits for.
pub const AFTER_MAX: usize = 32;
/// Longest concurrency or rate key of a task, in bytes: what the engine adds to it fits the store's bound.
pub(crate) const TASK_KEY_BYTES_MAX: usize = 128;

const fn key_fits(key: &str) -> bool {
    !key.is_empty() && key.len() <= TASK_KEY_BYTES_MAX
}

/// The highest priority.
const PRIORITY_MAX: u8 = 9;

impl Limits {
    /// Checks a task against the bounds.
    ///
    /// # Errors
    /// The first field that is out of bounds, with what to change.
    pub fn check(&self, task: &Task) -> Result<(), InvalidTask> {
        let need = &task.need;
        let refuse = |field, mend: String| Err(InvalidTask::new(field, mend));
        if need.text.trim().is_empty() && need.tool.is_none() {
            return refuse("need", "say in words what is needed, or name a `tool`".to_owned());
        }
        if need.text.len() > self.need_bytes_max {
            return refuse(
                "need",
                format!(
                    "{} bytes is over the bound of {}; move data into `input`",
                    need.text.len(),
                    self.need_bytes_max
                ),
            );
        }
        if !need.input.is_object() {
            return refuse("input", "must be a JSON object, the tool's arguments".to_owned());
        }
        let input_bytes = need.input.get().len();
        if input_bytes > self.input_bytes_max {
            return refuse("input", format!("{input_bytes} bytes is over the bound of {}", self.input_bytes_max));
        }
        if task.priority > PRIORITY_MAX {
            return refuse("priority", format!("{} is not within 0 to {PRIORITY_MAX}", task.priority));
        }
        if task.delay.as_secs() > self.horizon_s_max {
            return refuse("not_before", format!("must be at most {} seconds ahead", self.horizon_s_max));
        }
        if task.deadline.is_some_and(|d| d.is_zero() || d.as_secs() > self.horizon_s_max) {
            return refuse("deadline_ms", format!("must be 1 to {} milliseconds", self.horizon_s_max * 1_000));
        }
        if let Some(key) = &task.idempotency_key
            && (key.is_empty() || key.len() > self.idempotency_key_bytes_max)
        {
            return refuse("idempotency_key", format!("must be 1 to {} bytes", self.idempotency_key_bytes_max));
        }
        if task.after.len() > AFTER_MAX {
            return refuse("after", format!("{} tasks is over the bound of {AFTER_MAX}", task.after.len()));
        }
        if let Some(limit) = &task.concurrency
            && (limit.max == 0 || !key_fits(&limit.key))
        {
            return refuse(
                "concurrency",
                format!("needs a `key` of 1 to {TASK_KEY_BYTES_MAX} bytes and a `max` of at least 1"),
            );
        }
        if let Some(rate) = &task.rate
            && (rate.burst == 0
                || rate.every.as_millis() == 0
                || rate.every.as_secs() > self.horizon_s_max
                || !key_fits(&rate.key))
        {
            let mend = "and a `burst` of at least 1 and `every_ms` of 1 to";
            let ms = self.horizon_s_max * 1_000;
            return refuse("rate", format!("needs a `key` of 1 to {TASK_KEY_BYTES_MAX} bytes {mend} {ms}"));
        }
        if task.labels.len() > self.labels_max {
            return refuse("labels", format!("{} is over the bound of {}", task.labels.len(), self.labels_max));
        }
        task.labels.iter().try_for_each(|(key, value)| self.check_label(key, value))
    }

    fn check_label(&self, key: &str, value: &str) -> Result<(), InvalidTask> {
        let bytes_max = self.label_bytes_max;
        let refuse = |mend: String| Err(InvalidTask::new("labels", format!("`{key}`: {mend}")));
        if key.is_empty() || key.len() > bytes_max {
            return refuse(format!("a key must be 1 to {bytes_max} bytes"));
        }
        if key.contains(':') {
            return refuse("a key must have no `:`; lists are asked for labels as key:value".to_owned());
        }
        if value.len() > bytes_max {
            return refuse(format!("a value must be at most {bytes_max} bytes"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::json::RawJson;

    fn refused(task: &Task) -> &'static str {
        Limits::default().check(task).unwrap_err().field
    }

    #[test]
    fn every_bound_names_its_field() {
        assert_eq!(refused(&Task::new("  ")), "need");
        assert_eq!(refused(&Task::new("x".repeat(20_000))), "need");
        assert_eq!(refused(&Task::new("x").with_input(RawJson::parse("[1]").unwrap())), "input");
        assert_eq!(refused(&Task::new("x").with_priority(10)), "priority");
        assert_eq!(refused(&Task::new("x").with_deadline(Duration::ZERO)), "deadline_ms");
        assert_eq!(refused(&Task::new("x").with_delay(Duration::from_secs(u64::MAX))), "not_before");
        assert_eq!(refused(&Task::new("x").with_idempotency_key("")), "idempotency_key");
        assert!(Limits::default().check(&Task::new("x")).is_ok());
    }

    #[test]
    fn a_label_can_be_filtered_by_or_is_refused_with_its_bound() {
        let check = |key: &str, value: &str| {
            let mut labelled = Task::new("x");
            labelled.labels.insert(key.to_owned(), value.to_owned());
            Limits::default().check(&labelled)
        };
        let long = "x".repeat(257);
        for (key, value, mend) in [
            ("", "v", "``: a key must be 1 to 256 bytes"),
            (&long, "v", "1 to 256 bytes"),
            ("a:b", "v", "`a:b`: a key must have no `:`"),
            ("a", &long, "`a`: a value must be at most 256 bytes"),
        ] {
            let refused = check(key, value).unwrap_err();
            assert!(refused.field == "labels" && refused.mend.contains(mend), "{refused}");
        }
        assert_eq!(check("a", "b:c"), Ok(()), "a filter is cut at its first colon");
        assert_eq!(check("a", ""), Ok(()));
    }
}
