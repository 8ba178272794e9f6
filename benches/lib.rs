//! What the benches share: synthetic catalogues and needs, the same on every machine because they are made from a seed.
//!
//! Words are drawn as in real text: a few very often, most of them seldom (Zipf). They are no English words, so stemming and
//! synonyms neither help nor cheat.

pub mod store;

use std::sync::Arc;

use metamcp_core::{
    id::ServerName,
    matching::{Capability, Catalog, ServerTerms},
    task::Need,
};
use serde_json::json;

/// As in the server, so that what is measured is what runs.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Different words of a synthetic catalogue.
const VOCABULARY: usize = 8_000;
/// Servers of a synthetic catalogue.
const SERVERS: usize = 100;
const SEED: u64 = 42;

/// xorshift64*: repeatable, no dependency.
#[derive(Debug)]
pub struct Seeded(u64);

impl Seeded {
    /// Numbers of this seed; zero is no seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(if seed == 0 { SEED } else { seed })
    }

    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// A number below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        (self.draw() % n as u64) as usize
    }

    /// A number from 0 up to, not with, 1.
    pub fn unit(&mut self) -> f64 {
        (self.draw() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A number below `n`, small ones far more often.
    pub fn zipf(&mut self, n: usize) -> usize {
        (((n as f64).powf(self.unit()) - 1.0) as usize).min(n - 1)
    }
}

/// The word of this number.
#[must_use]
pub fn word(number: usize) -> String {
    const SYLLABLES: [&str; 16] =
        ["ba", "ce", "di", "fo", "gu", "ka", "le", "mi", "no", "pu", "ra", "se", "ti", "vo", "wu", "za"];
    let (mut word, mut rest) = (String::new(), number + SYLLABLES.len());
    while rest > 0 {
        word.push_str(SYLLABLES[rest % SYLLABLES.len()]);
        rest /= SYLLABLES.len();
    }
    word
}

/// A catalogue of this many tools with 15 to 34 words each in name, description and one property.
///
/// # Panics
/// Never: the names are valid.
#[must_use]
pub fn catalogue(tools: usize) -> Catalog {
    let mut random = Seeded::new(SEED);
    let servers: Vec<(ServerName, Arc<ServerTerms>)> = (0..SERVERS)
        .map(|i| (ServerName::new(format!("server{i}")).expect("letters and digits"), Arc::default()))
        .collect();
    Catalog::new((0..tools).map(|i| {
        let mut words = |n: usize| (0..n).map(|_| word(random.zipf(VOCABULARY))).collect::<Vec<_>>();
        let (name, property) = (words(2), words(1));
        let length = 12 + random.below(20);
        let description = (0..length).map(|_| word(random.zipf(VOCABULARY))).collect::<Vec<_>>();
        let definition = json!({
            "name": format!("{}_{i}", name.join("_")),
            "description": description.join(" "),
            "inputSchema": {"type": "object", "properties": {property.concat(): {"type": "string"}}},
        });
        let (server, terms) = &servers[i % SERVERS];
        let capability = Capability::from_definition(server, terms.clone(), definition.into());
        Arc::new(capability.expect("an object with a short name"))
    }))
}

/// Needs of 3 to 8 words, half of them common and half drawn from the whole vocabulary.
#[must_use]
pub fn needs(count: usize) -> Vec<Need> {
    let mut random = Seeded::new(SEED + 1);
    (0..count)
        .map(|_| {
            let length = 3 + random.below(6);
            let words: Vec<String> = (0..length)
                .map(|i| word(if i % 2 == 0 { random.zipf(VOCABULARY) } else { random.below(VOCABULARY) }))
                .collect();
            Need::new(words.join(" "))
        })
        .collect()
}
