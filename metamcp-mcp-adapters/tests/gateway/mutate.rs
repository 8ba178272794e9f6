//! Turns good messages into bad ones: a corpus of whole messages, changed at random from a seed.
//!
//! A mutator of our own and not cargo-fuzz: that needs a nightly compiler and a binary for each target, while this runs inside any test, against
//! whole servers, and replays from its seed. It is blind where a guided fuzzer sees coverage; the dictionary makes up for the part that matters
//! in framing.

use std::{fs, path::Path};

use rand::{Rng as _, RngExt as _, SeedableRng as _, rngs::StdRng};

/// Most changes to one message.
const CHANGES_MAX: usize = 4;
/// Longest piece that is taken out or doubled, in bytes.
const PIECE_BYTES_MAX: usize = 64;
/// How deep the brackets are nested that are put in.
const NESTED: usize = 2_000;

/// What breaks parsers: ends of lines and of events, numbers that do not fit, halves of characters, members that stand twice.
const DICTIONARY: [&[u8]; 18] = [
    b"\n",
    b"\r\n\r\n",
    b"data: ",
    b"event: endpoint\n",
    b"id: \0\n",
    b"null",
    b"{}",
    b"-0",
    b"1e999",
    b"18446744073709551616",
    b"\"id\":1,",
    b"\"id\":null,",
    b"\"method\":\"tools/call\",",
    b"\"result\":{},",
    b"\"\\ud800\"",
    b"\xef\xbb\xbf",
    b"\xff\xfe",
    b"\x00",
];

/// A stream of messages, most of them bad.
pub(crate) struct Mutator {
    rng: StdRng,
    corpus: Vec<Vec<u8>>,
}

impl Mutator {
    /// From every file of a folder of the corpus.
    pub(crate) fn new(folder: &str, seed: u64) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/gateway/corpus").join(folder);
        let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        // Folders have no order of their own, and the seed must mean the same everywhere.
        files.sort();
        let corpus = files.into_iter().map(|file| fs::read(file).unwrap()).collect();
        Self { rng: StdRng::seed_from_u64(seed), corpus }
    }

    /// The next message. Now and then it is a good one.
    pub(crate) fn next(&mut self) -> Vec<u8> {
        let mut message = self.any();
        for _ in 0..self.rng.random_range(0..=CHANGES_MAX) {
            self.change(&mut message);
        }
        message
    }

    /// One of so many.
    pub(crate) fn below(&mut self, many: usize) -> usize {
        self.rng.random_range(0..many)
    }

    fn any(&mut self) -> Vec<u8> {
        let which = self.below(self.corpus.len());
        self.corpus[which].clone()
    }

    fn change(&mut self, message: &mut Vec<u8>) {
        let at = self.below(message.len() + 1);
        let end = (at + self.rng.random_range(1..=PIECE_BYTES_MAX)).min(message.len());
        match self.below(7) {
            0 => message.truncate(at),
            1 => drop(message.drain(at..end)),
            2 => {
                let piece = message[at..end].to_vec();
                message.splice(at..at, piece);
            }
            3 => {
                if let Some(byte) = message.get_mut(at) {
                    *byte = self.rng.next_u32().to_le_bytes()[0];
                }
            }
            4 => {
                let word = DICTIONARY[self.below(DICTIONARY.len())];
                message.splice(at..at, word.iter().copied());
            }
            5 => {
                // The beginning of one message and the end of another.
                let other = self.any();
                message.truncate(at);
                let from = self.below(other.len() + 1);
                message.extend_from_slice(&other[from..]);
            }
            _ => {
                let bracket = if self.below(2) == 0 { b"[".as_slice() } else { b"{\"a\":" };
                message.splice(at..at, bracket.repeat(NESTED));
            }
        }
    }
}
