//! The tensor engine.
