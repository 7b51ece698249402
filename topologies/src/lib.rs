//! Experiment files: parsed, checked, and turned into one plan per agent.
//!
//! The way of an experiment: [`ExperimentFile::parse`] turns its text into a valid
//! [`Experiment`] without looking at anything else; [`resolve`] reads and generates its traces;
//! [`planning::plan`] assigns CPUs and addresses.

mod bundled;
mod check;
mod compute;
mod control;
#[cfg(test)]
mod corpus_tests;
mod describe;
mod experiment;
mod fields;
mod file;
mod generated;
mod host;
mod isolation;
mod model;
mod overrides;
pub mod plan;
pub mod planning;
mod problem;
mod quantity;
mod references;
mod resolve;
mod scalar;
mod scenario;
mod schema;
mod section;
mod value;

pub use bundled::bundled;
pub use control::link_change;
pub use describe::describe;
pub use experiment::{
    Experiment, Link, Load, Node, Phase, ScenarioSource, Steps, TraceSource, Traffic,
};
pub use file::{ExperimentFile, MAX_FILE_BYTES};
pub use host::{HostConfiguration, HostMeter, MeterLines};
pub use model::ModelShape;
pub use overrides::Overrides;
pub use planning::{Machine, Planned, plan, plan_sha256};
pub use problem::{Excerpt, Place, Problem, Problems};
pub use resolve::{ResolvedExperiment, ResolvedTrace, TraceContent, resolve};
pub use schema::json_schema;
