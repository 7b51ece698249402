//! Reads a run directory back, also that of an interrupted run.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use hexloop_proto::Event;
use hexloop_topologies::plan::Plan;
use hexloop_traces::{Trace, TraceError};

use super::Environment;
use crate::results::Results;
use crate::summary::{RunFacts, Summary, summarise};

/// Why a directory cannot be read as a run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// A file is missing or unreadable.
    #[error("cannot read {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A document is not what it should be.
    #[error("{path} is not a document of this version")]
    Document {
        /// The file, with the line for a log of events.
        path: String,
        /// The cause.
        #[source]
        source: serde_json::Error,
    },
    /// A trace is not one.
    #[error("{path} is not a trace")]
    Trace {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: TraceError,
    },
}

/// Everything that a run recorded.
#[derive(Debug, Clone, PartialEq)]
pub struct RunRecords {
    /// What was done.
    pub plan: Plan,
    /// SHA-256 of the plan as compact JSON.
    pub plan_sha256: String,
    /// The traces by name.
    pub traces: BTreeMap<String, Trace>,
    /// The machine.
    pub environment: Environment,
    /// The fold of the events.
    pub results: Results,
    /// Whether the last event was torn, as it is when the writer was killed.
    pub torn: bool,
}

fn read(path: &Path) -> Result<Vec<u8>, ReadError> {
    fs::read(path).map_err(|source| ReadError::File {
        path: path.to_owned(),
        source,
    })
}

fn document<T: serde::de::DeserializeOwned>(path: &Path, bytes: &[u8]) -> Result<T, ReadError> {
    serde_json::from_slice(bytes).map_err(|source| ReadError::Document {
        path: path.display().to_string(),
        source,
    })
}

impl RunRecords {
    /// Reads the records of a run.
    ///
    /// # Errors
    /// A file is missing or is not what it should be; a torn last event is not an error.
    pub fn read(directory: &Path) -> Result<RunRecords, ReadError> {
        let path = directory.join("plan.json");
        let bytes = read(&path)?;
        let plan: Plan = document(&path, &bytes)?;
        let plan_sha256 =
            hexloop_topologies::plan_sha256(&plan).map_err(|source| ReadError::Document {
                path: path.display().to_string(),
                source,
            })?;
        let path = directory.join("environment.json");
        let environment = document(&path, &read(&path)?)?;
        let mut traces = BTreeMap::new();
        for link in &plan.links {
            let path = directory.join("traces").join(trace_file_name(&link.trace));
            let text = String::from_utf8_lossy(&read(&path)?).into_owned();
            let trace =
                hexloop_traces::format::parse(&text).map_err(|source| ReadError::Trace {
                    path: path.clone(),
                    source,
                })?;
            traces.insert(link.trace.clone(), trace);
        }
        let (results, torn) = read_events(&directory.join("events.ndjson"))?;
        Ok(RunRecords {
            plan,
            plan_sha256,
            traces,
            environment,
            results,
            torn,
        })
    }

    /// The summary that follows from them.
    #[must_use]
    pub fn summary(&self, run_dir: &Path) -> Summary {
        let facts = RunFacts {
            tool_version: self.environment.tool_version.clone(),
            plan_sha256: self.plan_sha256.clone(),
            started: self.environment.started.clone(),
            run: self.environment.run.clone(),
            run_dir: run_dir.display().to_string(),
        };
        summarise(&facts, &self.plan, &self.traces, &self.results)
    }
}

/// The name of a trace's file in the run directory.
#[must_use]
pub(crate) fn trace_file_name(trace: &str) -> String {
    let safe = |c: char| {
        if c.is_ascii_alphanumeric() || "-_.".contains(c) {
            c
        } else {
            '-'
        }
    };
    let name: String = trace.chars().map(safe).collect();
    format!("{}.csv", name.trim_start_matches('.'))
}

fn read_events(path: &Path) -> Result<(Results, bool), ReadError> {
    let bytes = read(path)?;
    let text = String::from_utf8_lossy(&bytes);
    let mut results = Results::default();
    let mut torn = false;
    for (index, line) in text.split_inclusive('\n').enumerate() {
        match serde_json::from_str::<Event>(line) {
            Ok(event) => results.push(&event),
            Err(_) if !line.ends_with('\n') => torn = true,
            Err(source) => {
                let path = format!("{}:{}", path.display(), index + 1);
                return Err(ReadError::Document { path, source });
            }
        }
    }
    Ok((results, torn))
}
