//! Whole experiment files: what is wrong with the bad ones, word for word, and that the good
//! ones become plans.

mod links;
mod loads;
mod planned;
mod read;
mod written;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::{
    Experiment, ExperimentFile, Machine, Overrides, Planned, Problems, ResolvedExperiment, plan,
    resolve,
};

fn directory(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests")
        .join(name)
}

/// Name and text of every experiment file of a directory.
fn experiment_files(directory: &Path) -> BTreeMap<String, String> {
    let entries = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let files = entries.filter(|path| path.extension().is_some_and(|end| end == "toml"));
    let named = |path: PathBuf| {
        (
            path.file_name().unwrap().to_str().unwrap().to_owned(),
            fs::read_to_string(&path).unwrap(),
        )
    };
    files.map(named).collect()
}

/// Compares with the text that is expected, kept in a file. `UPDATE_EXPECTED=1` writes it anew,
/// to be read before it is committed.
fn compare(path: &Path, text: &str) {
    if std::env::var_os("UPDATE_EXPECTED").is_some() {
        fs::write(path, text).unwrap();
    }
    let expected = fs::read_to_string(path).unwrap_or_default();
    assert_eq!(text, expected, "differs from {}", path.display());
}

fn base() -> String {
    fs::read_to_string(directory("valid").join("base.toml")).unwrap()
}

fn parse(text: &str) -> Result<Experiment, Problems> {
    ExperimentFile::parse(text, "base.toml", &Overrides::default())
}

fn set(settings: &[(&str, &str)]) -> Overrides {
    let set = settings
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    Overrides {
        set: set.collect(),
        ..Overrides::default()
    }
}

fn resolved(text: &str, overrides: &Overrides) -> ResolvedExperiment {
    let experiment = ExperimentFile::parse(text, "base.toml", overrides)
        .unwrap_or_else(|problems| panic!("{problems}"));
    resolve(experiment, Path::new("no such directory"))
        .unwrap_or_else(|problems| panic!("{problems}"))
}

fn two_cpus() -> Machine {
    Machine {
        cpus: vec![0, 1],
        ..Machine::default()
    }
}

fn planned(text: &str, overrides: &Overrides, cpus: u32) -> Planned {
    plan(
        &resolved(text, overrides),
        &Machine {
            cpus: (0..cpus).collect(),
            ..Machine::default()
        },
    )
    .unwrap_or_else(|problems| panic!("{problems}"))
}

/// When the trace lets nothing through, for the first time: start and end.
fn first_outage_ns(trace: &hexloop_traces::Trace) -> (u64, u64) {
    let rows = trace.rows();
    let start = rows.iter().position(|row| row.down.rate_bps == 0).unwrap();
    let end = rows[start..]
        .iter()
        .find(|row| row.down.rate_bps > 0)
        .unwrap();
    (rows[start].t_ns, end.t_ns)
}
