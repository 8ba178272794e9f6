//! What the benches share: synthetic catalogues and jobs, made from a seed.
