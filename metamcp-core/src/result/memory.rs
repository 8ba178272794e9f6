//! placeholder
/// placeholder
#[derive(Debug)]
pub struct MemoryResultStore;
