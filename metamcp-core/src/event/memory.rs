//! placeholder
/// placeholder
#[derive(Debug)]
pub struct MemoryEventBus;
