//! The table of word pieces and their vectors, read from bytes: the built-in one or any other of the form.
//!
//! All numbers are little-endian. Header of [`HEADER_BYTES`]: magic `MMCPDENS`, version u32, dimensions u32, pieces u32, bytes of the
//! vocabulary u32. Then the vocabulary, pieces that begin a word as they are and others with `##` before them, each ended by a line feed;
//! for each piece its scale as f32; for each piece how much it tells as a word, 255 for a rare one, less for one of every other sentence;
//! for each piece its vector as signed bytes.

use std::{collections::HashMap, fmt, sync::Arc};

use super::{
    pieces::{Split, pieces},
    vector::{DIMENSIONS_MAX, Vector},
};

const MAGIC: &[u8; 8] = b"MMCPDENS";
const VERSION: u32 = 1;
/// Bytes before the vocabulary.
const HEADER_BYTES: usize = 24;
/// Largest table that is read, in bytes.
pub(crate) const TABLE_BYTES_MAX: usize = 64 << 20;
/// Most pieces of a table.
const PIECES_MAX: usize = 1 << 16;
/// Pieces of one text that are read; what comes after says little new.
const TEXT_PIECES_MAX: usize = 512;

/// Bytes that are no table of word vectors.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a table of word vectors: {0}; write one with `cargo xtask distil`")]
pub struct InvalidTable(String);

/// Word pieces with a vector each. Cheap to clone.
#[derive(Clone)]
pub struct DenseTable(Source);

#[derive(Clone)]
enum Source {
    /// Read when it is first asked for anything: a process that never routes by words does not pay for it.
    #[cfg(feature = "dense")]
    BuiltIn,
    Given(Arc<Inner>),
}

struct Inner {
    dimensions: usize,
    /// A piece to its number; pieces inside a word have `##` before them.
    numbers: HashMap<Box<str>, u16>,
    scales: Box<[f32]>,
    telling: Box<[u8]>,
    /// By piece.
    vectors: Box<[i8]>,
    /// By piece: 1 by the length of its vector in steps; 0 for one without a direction.
    inverse_lengths: Box<[f32]>,
}

impl DenseTable {
    /// The table that is built in, with feature `dense`: pieces of English, distilled from all-MiniLM-L6-v2 (Apache-2.0).
    /// It takes up about 8 MiB of memory from the first need on.
    #[cfg(feature = "dense")]
    #[must_use]
    pub const fn built_in() -> Self {
        Self(Source::BuiltIn)
    }

    fn inner(&self) -> &Inner {
        match &self.0 {
            #[cfg(feature = "dense")]
            Source::BuiltIn => {
                static INNER: std::sync::LazyLock<Inner> = std::sync::LazyLock::new(|| {
                    Inner::from_bytes(include_bytes!("table.bin")).expect("the built-in table is read by a test")
                });
                &INNER
            }
            Source::Given(inner) => inner,
        }
    }

    /// Reads a table.
    ///
    /// # Errors
    /// When the bytes are not of the form, or larger than 64 MiB.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, InvalidTable> {
        Ok(Self(Source::Given(Arc::new(Inner::from_bytes(bytes)?))))
    }

    /// Numbers of a vector.
    pub(in crate::matching) fn dimensions(&self) -> usize {
        self.inner().dimensions
    }

    /// The number of a piece.
    pub(super) fn piece(&self, text: &str) -> Option<u16> {
        self.inner().numbers.get(text).copied()
    }

    pub(super) fn vector(&self, piece: u16) -> &[i8] {
        let Inner { dimensions, vectors, .. } = self.inner();
        &vectors[usize::from(piece) * dimensions..][..*dimensions]
    }

    pub(super) fn inverse_length(&self, piece: u16) -> f32 {
        self.inner().inverse_lengths[usize::from(piece)]
    }

    /// How much a piece adds to what a text is about.
    pub(super) fn weight(&self, piece: u16) -> f32 {
        let inverse_length = self.inverse_length(piece);
        if inverse_length > 0.0 { self.inner().scales[usize::from(piece)] / inverse_length } else { 0.0 }
    }

    /// How much a lower-case word tells in a need, from 0 to 1: little when it is common in general English.
    pub(in crate::matching) fn telling(&self, word: &str) -> f32 {
        self.piece(word).map_or(1.0, |at| f32::from(self.inner().telling[usize::from(at)]) / f32::from(u8::MAX))
    }

    /// What a need is about; zero when no piece of it is known.
    pub(in crate::matching) fn text(&self, text: &str) -> Vector {
        self.read(text).0
    }

    /// What a need is about, and its pieces.
    pub(in crate::matching) fn read(&self, text: &str) -> (Vector, Vec<u16>) {
        let mut reading = Reading::new(self);
        reading.add(Split::Words, text);
        reading.finish()
    }
}

impl Inner {
    fn from_bytes(bytes: &[u8]) -> Result<Self, InvalidTable> {
        let invalid = |why: &str| InvalidTable(why.to_owned());
        if bytes.len() > TABLE_BYTES_MAX {
            return Err(invalid("it is larger than 64 MiB"));
        }
        let (header, rest) =
            bytes.split_at_checked(HEADER_BYTES).ok_or_else(|| invalid("it ends within its header"))?;
        let (magic, header) = header.split_at(MAGIC.len());
        if magic != MAGIC {
            return Err(invalid("it does not begin with `MMCPDENS`"));
        }
        let mut fields = header.as_chunks::<4>().0.iter().map(|field| u32::from_le_bytes(*field));
        let mut field = || fields.next().unwrap_or_default();
        let version = field();
        if version != VERSION {
            return Err(InvalidTable(format!("it has version {version}, this program reads {VERSION}")));
        }
        let [dimensions, pieces, vocabulary_bytes] = [field(), field(), field()].map(|n| n as usize);
        if !(1..=DIMENSIONS_MAX).contains(&dimensions) {
            return Err(InvalidTable(format!("it has {dimensions} dimensions, not 1 to {DIMENSIONS_MAX}")));
        }
        if pieces > PIECES_MAX {
            return Err(InvalidTable(format!("it has {pieces} pieces, more than {PIECES_MAX}")));
        }
        // None of these can overflow: each factor has its bound above.
        if rest.len() != vocabulary_bytes + pieces * (size_of::<f32>() + 1 + dimensions) {
            return Err(invalid("its length is not what its header says"));
        }
        let (vocabulary, rest) = rest.split_at(vocabulary_bytes);
        let (scales, rest) = rest.split_at(pieces * size_of::<f32>());
        let (telling, vectors) = rest.split_at(pieces);
        let vocabulary = std::str::from_utf8(vocabulary).map_err(|_| invalid("its vocabulary is not UTF-8"))?;
        let numbers: HashMap<Box<str>, u16> = vocabulary.lines().map(Box::from).zip(0..=u16::MAX).collect();
        if numbers.len() != pieces {
            return Err(invalid("its vocabulary does not name each piece once"));
        }
        let scales: Box<[f32]> = scales.as_chunks::<4>().0.iter().map(|scale| f32::from_le_bytes(*scale)).collect();
        if !scales.iter().all(|scale| (0.0..=1.0).contains(scale)) {
            return Err(invalid("a scale is not between 0 and 1"));
        }
        let vectors: Box<[i8]> = vectors.iter().map(|byte| byte.cast_signed()).collect();
        let inverse_lengths = vectors.chunks_exact(dimensions).map(inverse_length).collect();
        Ok(Self { dimensions, numbers, scales, telling: telling.into(), vectors, inverse_lengths })
    }
}

fn inverse_length(vector: &[i8]) -> f32 {
    let square: i32 = vector.iter().map(|step| i32::from(*step) * i32::from(*step)).sum();
    if square > 0 { (square as f32).sqrt().recip() } else { 0.0 }
}

/// Texts being read as one.
pub(in crate::matching) struct Reading<'a> {
    table: &'a DenseTable,
    sum: Vector,
    pieces: Vec<u16>,
    pieces_left: usize,
}

impl<'a> Reading<'a> {
    pub(in crate::matching) fn new(table: &'a DenseTable) -> Self {
        Self { table, sum: Vector::zero(table.dimensions()), pieces: Vec::new(), pieces_left: TEXT_PIECES_MAX }
    }

    pub(in crate::matching) fn add(&mut self, split: Split, text: &str) {
        let Inner { dimensions, scales, vectors, .. } = self.table.inner();
        pieces(
            |piece| self.table.piece(piece),
            split,
            text,
            &mut self.pieces_left,
            |piece| {
                let at = usize::from(piece);
                self.pieces.push(piece);
                self.sum.add_scaled(&vectors[at * dimensions..][..*dimensions], scales[at]);
            },
        );
    }

    /// The vector, of length one, or zero when no piece was known; and all pieces, in order.
    pub(in crate::matching) fn finish(mut self) -> (Vector, Vec<u16>) {
        self.sum.normalize();
        (self.sum, self.pieces)
    }
}

impl fmt::Debug for DenseTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { dimensions, numbers, .. } = self.inner();
        f.debug_struct("DenseTable").field("dimensions", dimensions).field("pieces", &numbers.len()).finish()
    }
}

/// Not a whole block, so that what is filled up is proven to add nothing.
#[cfg(test)]
const TEST_DIMENSIONS: usize = 50;

#[cfg(test)]
impl DenseTable {
    /// The bytes of a table of these pieces, each in the direction of its number.
    fn bytes_for_tests(pieces: &[(&str, usize)]) -> Vec<u8> {
        let vocabulary: String = pieces.iter().map(|(piece, _)| format!("{piece}\n")).collect();
        let mut bytes = MAGIC.to_vec();
        let count = u32::try_from(pieces.len()).unwrap();
        let dimensions = u32::try_from(TEST_DIMENSIONS).unwrap();
        for field in [VERSION, dimensions, count, u32::try_from(vocabulary.len()).unwrap()] {
            bytes.extend(field.to_le_bytes());
        }
        bytes.extend(vocabulary.bytes());
        pieces.iter().for_each(|_| bytes.extend(0.01_f32.to_le_bytes()));
        bytes.extend(pieces.iter().map(|_| 255));
        for (_, direction) in pieces {
            bytes.extend((0..TEST_DIMENSIONS).map(|d| if d == direction % TEST_DIMENSIONS { 127 } else { 0 }));
        }
        bytes
    }

    pub(in crate::matching) fn for_tests(pieces: &[(&str, usize)]) -> Self {
        Self::from_bytes(&Self::bytes_for_tests(pieces)).unwrap()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes(pieces: &[&str]) -> Vec<u8> {
        DenseTable::bytes_for_tests(&pieces.iter().copied().zip(0..).collect::<Vec<_>>())
    }

    #[test]
    fn a_table_is_read_and_a_text_is_the_mean_of_its_pieces() {
        let table = DenseTable::from_bytes(&bytes(&["rain", "snow", "##fall"])).unwrap();
        let near = |a: &str, b: &str| table.text(a).cosine(&table.text(b));
        assert!((near("rain", "Rain!") - 1.0).abs() < 1e-5);
        assert_eq!(near("rain", "snow"), 0.0);
        assert!((near("snow rain", "snow") - 0.5_f32.sqrt()).abs() < 1e-5);
        assert!((near("rainfall", "snowfall") - 0.5).abs() < 1e-5);
        assert!(table.text("天气").is_zero() && table.text("").is_zero());
    }

    #[test]
    fn what_is_no_table_is_told() {
        let good = bytes(&["a", "b"]);
        let why = |bytes: &[u8]| DenseTable::from_bytes(bytes).unwrap_err().to_string();
        assert!(why(b"").contains("header"));
        assert!(why(&[0; 100]).contains("MMCPDENS"));
        assert!(why(&good[..good.len() - 1]).contains("length"));
        assert!(why(&bytes(&["a", "a"])).contains("once"));
        let mut newer = good.clone();
        newer[8] = 9;
        assert!(why(&newer).contains("version 9"));
        let mut wild = good.clone();
        wild[28..32].copy_from_slice(&f32::NAN.to_le_bytes());
        assert!(why(&wild).contains("scale"));
    }

    #[cfg(feature = "dense")]
    #[test]
    fn the_built_in_table_knows_what_belongs_together() {
        let table = DenseTable::built_in();
        let near = |a: &str, b: &str| table.text(a).cosine(&table.text(b));
        assert!(near("will it rain tomorrow", "weather forecast") > near("will it rain tomorrow", "delete a file"));
        assert!(near("get rid of a folder", "delete directory") > near("get rid of a folder", "weather forecast"));
    }

    proptest! {
        #[test]
        fn garbage_is_refused_or_usable(mut garbage in prop::collection::vec(any::<u8>(), 0..200), spots in prop::collection::vec((0..200_usize, any::<u8>()), 0..8), broken in any::<bool>()) {
            if broken {
                garbage = bytes(&["a", "b"]);
                for (at, byte) in spots {
                    let at = at % garbage.len();
                    garbage[at] = byte;
                }
            }
            if let Ok(table) = DenseTable::from_bytes(&garbage) {
                let vector = table.text("a b a");
                prop_assert!(vector.is_zero() || (vector.cosine(&vector) - 1.0).abs() < 1e-3);
            }
        }

        #[test]
        fn any_text_has_a_vector(text in "\\PC{0,300}") {
            let vector = DenseTable::from_bytes(&bytes(&["a", "b", "##a", "é"])).unwrap().text(&text);
            prop_assert!(vector.is_zero() || (vector.cosine(&vector) - 1.0).abs() < 1e-3);
        }
    }
}
