//! placeholder
/// placeholder
#[derive(Debug)]
pub struct LocalTools;
/// placeholder
#[derive(Debug)]
pub struct ToolError;
