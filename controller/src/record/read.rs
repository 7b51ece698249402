//! Reads a run directory back, also that of an interrupted run.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use hexloop_agent::capture;
use hexloop_proto::{Direction, Event};
use hexloop_topologies::plan::{PLAN_SCHEMA, Plan};
use hexloop_traces::{Trace, TraceError, format};

use super::{CAPTURES, CaptureFile, Environment};
use crate::results::Results;
use crate::summary::{RunFacts, Summary, summarise};

/// The version of environment.json that is written and read.
pub(super) const ENVIRONMENT_SCHEMA: u32 = 1;

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
    /// A document has a version that this program does not know.
    #[error("{path} has version {found}, and this program reads version {readable}")]
    Version {
        /// The file.
        path: PathBuf,
        /// The version it says it has.
        found: u64,
        /// The one that can be read.
        readable: u32,
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
    /// Captures that nobody gave an account of, each file as it is found: by link and direction, where
    /// captures were asked for.
    pub unaccounted: BTreeMap<(String, Direction), Option<CaptureFile>>,
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

/// Reads a document whose version stands in the field `field`: first that, because a document of
/// another version may have any shape.
fn document_of_version<T: serde::de::DeserializeOwned>(
    path: &Path,
    field: &str,
    readable: u32,
) -> Result<T, ReadError> {
    let bytes = read(path)?;
    let any: serde_json::Value = document(path, &bytes)?;
    match any[field].as_u64() {
        Some(found) if found != u64::from(readable) => Err(ReadError::Version {
            path: path.to_owned(),
            found,
            readable,
        }),
        _ => document(path, &bytes),
    }
}

impl RunRecords {
    /// Reads the records of a run.
    ///
    /// # Errors
    /// A file is missing or is not what it should be; a torn last event is not an error.
    pub fn read(directory: &Path) -> Result<RunRecords, ReadError> {
        let path = directory.join("plan.json");
        let plan: Plan = document_of_version(&path, "schema", PLAN_SCHEMA)?;
        let plan_sha256 =
            hexloop_topologies::plan_sha256(&plan).map_err(|source| ReadError::Document {
                path: path.display().to_string(),
                source,
            })?;
        let path = directory.join("environment.json");
        let environment = document_of_version(&path, "schema_version", ENVIRONMENT_SCHEMA)?;
        let mut traces = BTreeMap::new();
        for link in &plan.links {
            let trace = read_trace(directory, &link.trace)?;
            traces.insert(link.trace.clone(), trace);
        }
        let (results, torn) = read_events(&directory.join("events.ndjson"))?;
        let unaccounted = unaccounted_captures(directory, &plan, &results)?;
        Ok(RunRecords {
            plan,
            plan_sha256,
            traces,
            environment,
            results,
            unaccounted,
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
        let mut summary = summarise(&facts, &self.plan, &self.traces, &self.results);
        summary.add_unaccounted_captures(&self.unaccounted);
        summary
    }
}

/// A trace of the run, which stays in its file if it is a long one.
fn read_trace(directory: &Path, name: &str) -> Result<Trace, ReadError> {
    let long = directory.join(long_trace_path(name));
    let (path, read) = if long.exists() {
        let trace = format::read_mapped(&long);
        (long, trace)
    } else {
        let path = directory.join(trace_path(name));
        let text = String::from_utf8_lossy(&read(&path)?).into_owned();
        (path, format::parse(&text))
    };
    read.map_err(|source| ReadError::Trace { path, source })
}

/// Where the run directory has the text of a trace.
#[must_use]
pub(crate) fn trace_path(trace: &str) -> String {
    format!("traces/{}.csv", file_name(trace))
}

/// Where it has the Arrow IPC file of a long one.
#[must_use]
pub(crate) fn long_trace_path(trace: &str) -> String {
    format!("traces/{}.arrow", file_name(trace))
}

fn file_name(trace: &str) -> String {
    let safe = |c: char| {
        if c.is_ascii_alphanumeric() || "-_.".contains(c) {
            c
        } else {
            '-'
        }
    };
    let name: String = trace.chars().map(safe).collect();
    name.trim_start_matches('.').to_owned()
}

/// Looks at the captures of a run that were not accounted for in its events.
pub(crate) fn unaccounted_captures(
    directory: &Path,
    plan: &Plan,
    results: &Results,
) -> Result<BTreeMap<(String, Direction), Option<CaptureFile>>, ReadError> {
    let captures = directory.join(CAPTURES);
    let mut found = BTreeMap::new();
    if !captures.is_dir() {
        return Ok(found);
    }
    for (link, direction) in plan
        .links
        .iter()
        .flat_map(|link| Direction::BOTH.map(|direction| (&link.name, direction)))
    {
        let mut accounts = results.captures.iter();
        if accounts.any(|one| one.link == *link && one.direction == direction) {
            continue;
        }
        let path = captures.join(capture::file_name(link, direction));
        let file = CaptureFile::look(&path).map_err(|source| ReadError::File { path, source })?;
        found.insert((link.clone(), direction), file);
    }
    Ok(found)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_trace_stays_in_the_file_that_the_run_directory_has() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("traces")).unwrap();
        let trace = crate::fixture::trace();
        for (path, is_mapped) in [(trace_path("a b"), false), (long_trace_path("a b"), true)] {
            format::write_file(&directory.path().join(path), &trace).unwrap();
            let read = read_trace(directory.path(), "a b").unwrap();
            assert_eq!((read.is_mapped(), &read), (is_mapped, &trace));
        }
    }

    #[test]
    fn a_document_of_another_version_is_refused_whatever_its_shape() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("plan.json");
        fs::write(&path, r#"{ "schema": 99, "unheard_of": true }"#).unwrap();
        let error = RunRecords::read(directory.path()).unwrap_err();
        let text = error.to_string();
        assert!(
            text.ends_with(&format!(
                "plan.json has version 99, and this program reads version {PLAN_SCHEMA}"
            )),
            "{text}"
        );
        let plan = serde_json::to_string(&crate::fixture::plan()).unwrap();
        fs::write(&path, plan).unwrap();
        let path = directory.path().join("environment.json");
        fs::write(&path, r#"{ "schema_version": 7 }"#).unwrap();
        let error = RunRecords::read(directory.path()).unwrap_err();
        assert!(
            matches!(error, ReadError::Version { found: 7, .. }),
            "{error}"
        );
    }
}
