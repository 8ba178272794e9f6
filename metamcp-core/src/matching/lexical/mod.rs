//! placeholder
/// placeholder
#[derive(Debug)]
pub struct LexicalMatcher;
