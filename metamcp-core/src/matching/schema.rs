//! placeholder
/// placeholder
pub fn refusal() {}
