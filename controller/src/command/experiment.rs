//! From an experiment file on disk to a plan: what `check`, `plan` and `run` share.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use hexloop_topologies::{
    Experiment, ExperimentFile, MAX_FILE_BYTES, Machine, Overrides, Place, Planned, Problem,
    Problems, ResolvedExperiment,
};

use crate::exit_code::ExitCode;
use crate::failure::{Failure, OrFail};

/// The text of an experiment file, not longer than the parser takes.
pub(super) fn read_text(path: &Path) -> Result<String, Failure> {
    let doing = || format!("cannot read experiment file {}", path.display());
    let limit = u64::try_from(MAX_FILE_BYTES)
        .unwrap_or(u64::MAX)
        .saturating_add(1);
    if path.is_dir() {
        let message = format!("{} is a directory, not an experiment file", path.display());
        let failure = Failure::message(ExitCode::InvalidInput, message);
        return Err(failure.remedy("name the TOML file in it"));
    }
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(limit).read_to_end(&mut bytes))
        .or_fail(ExitCode::InvalidInput, doing)
        .map_err(|failure| {
            failure.remedy("`topologies/` holds the experiments that come with hexloop")
        })?;
    String::from_utf8(bytes).map_err(|error| problems(not_text(path, &error).into()))
}

/// Where a file stops being text.
fn not_text(path: &Path, error: &std::string::FromUtf8Error) -> Problem {
    let offset = error.utf8_error().valid_up_to();
    let bytes = error.as_bytes();
    let good = String::from_utf8_lossy(&bytes[..offset]);
    let line_start = good.rfind('\n').map_or(0, |newline| newline + 1);
    let byte = bytes.get(offset).copied().unwrap_or_default();
    Problem {
        place: Place::File {
            file: path.display().to_string(),
            line: good.matches('\n').count() + 1,
            column: good[line_start..].chars().count() + 1,
        },
        message: format!("the byte 0x{byte:02x} at offset {offset} is not UTF-8 text"),
        help: Some("save the file as UTF-8".to_owned()),
        excerpt: None,
    }
}

pub(super) fn problems(problems: Problems) -> Failure {
    Failure::new(ExitCode::InvalidInput, problems)
}

/// A file that was read, checked and resolved.
pub(super) struct Prepared {
    pub(super) text: String,
    pub(super) resolved: ResolvedExperiment,
}

pub(super) fn parse(path: &Path, overrides: &Overrides) -> Result<(String, Experiment), Failure> {
    let text = read_text(path)?;
    let name = path.display().to_string();
    let experiment = ExperimentFile::parse(&text, &name, overrides).map_err(problems)?;
    Ok((text, experiment))
}

pub(super) fn prepare(path: &Path, overrides: &Overrides) -> Result<Prepared, Failure> {
    let (text, experiment) = parse(path, overrides)?;
    let base = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    let base = base.map_or_else(|| PathBuf::from("."), Path::to_owned);
    let resolved = hexloop_topologies::resolve(experiment, &base).map_err(problems)?;
    Ok(Prepared { text, resolved })
}

/// The plan for this machine.
pub(super) fn plan_here(resolved: &ResolvedExperiment) -> Result<Planned, Failure> {
    let mut nodes = resolved.experiment.nodes.iter();
    let has_gpu = nodes.any(|node| node.isolation.gpu.is_some());
    let near = hexloop_agent::isolation::nearness(has_gpu);
    let machine = Machine {
        cpus: usable_cpus()?,
        numa_nodes: near.numa_nodes,
        gpus: near.gpus,
    };
    hexloop_topologies::plan(resolved, &machine).map_err(problems)
}

/// The CPUs that this process may run on.
fn usable_cpus() -> Result<Vec<u32>, Failure> {
    let doing = || "cannot find out which CPUs this process may use".to_owned();
    let set = nix::sched::sched_getaffinity(nix::unistd::Pid::from_raw(0))
        .or_fail(ExitCode::Preflight, doing)?;
    let usable = (0..nix::sched::CpuSet::count()).filter(|cpu| set.is_set(*cpu) == Ok(true));
    Ok(usable.filter_map(|cpu| u32::try_from(cpu).ok()).collect())
}
