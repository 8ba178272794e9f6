//! Results in S3-compatible object storage or in a directory that several machines share. Any number of processes put, read and prune.
//!
//! ```text
//! results/t-<tenant>/<2 digits>/<sha256>/copies/<copy>             a body
//! results/t-<tenant>/<2 digits>/<sha256>/copies/<copy>.closed      the mark that this copy takes no more references
//! results/t-<tenant>/<2 digits>/<sha256>/<job>/<reference>         empty; its name says expiry, copy, length, media type
//! due/<day>/<minute>/<time>.…                                      empty; its name says which body to look after at that time
//! ```
//! There is no transaction over objects, so nothing is ever changed in place: each put draws names nobody else writes, and only whole objects
//! come and go. No conditional writes are asked of the backend, only that a list shows what was written before it began.
//!
//! **Put** writes a due entry, then a copy of the body unless the tenant has one that is open, then the reference. Then it looks: the copy
//! must still be there and not be closed, else it stores a copy of its own and refers to that. Only then is the pointer given out.
//! A crash on the way leaves an orphan and the due entry that finds it.
//!
//! **Prune** reads the folders of due minutes, never the whole bucket. For each entry it removes the references of that pointer that have
//! expired. A copy without a reference is first closed; after the grace, when there is still none, it is removed and then its mark.
//! A put that saw the copy open has its reference in place before, so the second look finds it; a put that comes later sees the mark or
//! finds the copy gone. That holds for any number of pruners and however long one of them or a put sleeps; no clock decides it. The grace
//! keeps it so on network file systems that show a list late. An entry is removed by who has looked at its body after the entry was there;
//! what is left to do has a new entry by then.
//!
//! **Cost**: a put of a new body is two lists, three writes and two looks, five trips one after another; a get is one list and one read; the
//! life's end of a result is two visits of three lists and about seven changes. An idle prune lists two folders.
//!
//! What is left to chance is space, never a pointer: of two puts of one new body at the same instant each may store a copy; a put that sleeps
//! longer than its entry's time and then dies leaves a copy; and in a directory a removal may be undone by a power cut.

mod backend;
mod error;
mod keys;
mod open;
mod place;
mod prune;
mod results;

pub use self::{
    place::{ObjectPlace, S3Keys, S3Place},
    results::{GRACE, ObjectOptions, ObjectResultStore},
};
