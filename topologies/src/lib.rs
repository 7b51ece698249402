//! Experiment files: parsed, checked, and turned into one plan per agent.

pub mod plan;
