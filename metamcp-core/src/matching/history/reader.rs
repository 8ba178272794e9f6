//! What a need says, as the memory keeps it: its words, and with a table of word vectors what it is about.

use crate::matching::{
    dense::{DenseTable, Vector},
    lexical::Terms,
};

/// Takes needs apart; every need of one history by the same words and the same table.
#[derive(Debug)]
pub(super) struct Reader {
    terms: Terms,
    table: Option<DenseTable>,
}

/// A need taken apart.
#[derive(Debug)]
pub(super) struct Heard {
    /// Different stems with what each weighs.
    pub terms: Vec<(String, f32)>,
    /// Present when there is a table; zero when it knows no word.
    pub meaning: Option<Vector>,
}

impl Reader {
    pub(super) fn new() -> Self {
        Self { terms: Terms::new(), table: None }
    }

    pub(super) fn with_table(self, table: DenseTable) -> Self {
        Self { table: Some(table), ..self }
    }

    pub(super) fn read(&self, need: &str) -> Heard {
        Heard { terms: self.terms.of(need), meaning: self.table.as_ref().map(|table| table.text(need)) }
    }
}
