//! placeholder
/// placeholder
#[derive(Debug)]
pub struct Core;
/// placeholder
#[derive(Debug)]
pub struct Change;
