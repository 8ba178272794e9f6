//! Examples of MetaMCP; the table in README.md says which part each one swaps.
