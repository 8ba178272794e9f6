//! placeholder
/// placeholder
#[derive(Debug)]
pub struct MemoryJobStore;
