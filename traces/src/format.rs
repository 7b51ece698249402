//! Trace files: commented CSV.
