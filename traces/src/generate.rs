//! Generators of traces.
