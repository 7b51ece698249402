//! `hexloop-engine-cuda`, the program that computes on NVIDIA GPUs: found, and tried by starting it.
//!
//! It binds CUDA when it is linked, so that whether it runs here is only known once it has.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::time::Duration;

use hexloop_workloads::device::Probed;

/// What the program is called.
pub const PROGRAM: &str = "hexloop-engine-cuda";
/// The variable that names it where it lies elsewhere.
pub const VARIABLE: &str = "HEXLOOP_ENGINE_CUDA";
/// Libraries that it needs may lie where only this variable tells.
pub(crate) const LIBRARY_VARIABLE: &str = "LD_LIBRARY_PATH";
/// GPUs are numbered as nvidia-smi and NVML number them.
pub const ORDER: (&str, &str) = ("CUDA_DEVICE_ORDER", "PCI_BUS_ID");
/// The GPUs that a process sees.
pub(crate) const VISIBLE_VARIABLE: &str = "CUDA_VISIBLE_DEVICES";

/// Where a driver keeps the code that it has compiled for a GPU, below the node's own /tmp: a job of a
/// later phase finds it there.
pub(crate) const COMPILED: (&str, &str) = ("CUDA_CACHE_PATH", "/tmp/cuda-code");

/// How long it may take to try the GPUs of a machine.
const PROBE_LIMIT: Duration = Duration::from_secs(60);

/// Why nothing can be computed on a GPU.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineCudaError {
    /// There is no such program.
    #[error(
        "{PROGRAM}, which computes on GPUs, is not here: build it with .ci/cuda and put it beside \
         hexloop, or name it in {VARIABLE}"
    )]
    NotHere,
    /// It could not be started.
    #[error("cannot start {program}", program = program.display())]
    Start {
        /// Where it lies.
        program: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It told nothing that is understood.
    #[error("{program} cannot be used: {why}", program = program.display())]
    Unusable {
        /// Where it lies.
        program: PathBuf,
        /// What it said, and what can be done.
        why: String,
    },
}

/// The program: where [`VARIABLE`] says, else beside this program, else on the PATH.
///
/// # Errors
/// None of these.
pub fn find() -> Result<PathBuf, EngineCudaError> {
    if let Some(named) = std::env::var_os(VARIABLE).filter(|named| !named.is_empty()) {
        let named = PathBuf::from(named);
        // A node opens it from elsewhere. What cannot be made absolute is told when it is started.
        return Ok(std::path::absolute(&named).unwrap_or(named));
    }
    let own = std::env::current_exe().ok();
    let beside = own.and_then(|own| Some(own.parent()?.to_owned()));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = beside.into_iter().chain(std::env::split_paths(&path));
    let mut programs = places.map(|place| place.join(PROGRAM));
    let found = programs.find(|program| program.is_file());
    found.ok_or(EngineCudaError::NotHere)
}

/// Starts it to have the GPUs of this machine tried, or the one of that UUID alone.
///
/// # Errors
/// It does not run here, belongs to another version, or finds no GPU that computes.
pub fn probe(program: &Path, gpu: Option<&str>) -> Result<Probed, EngineCudaError> {
    let unusable = |why: String| EngineCudaError::Unusable {
        program: program.to_owned(),
        why,
    };
    let told = output(program, gpu)?;
    let probed: Probed = serde_json::from_str(&told.output).map_err(|_error| {
        let last = told
            .error
            .lines()
            .rev()
            .find(|line| !line.trim().is_empty());
        let why = last.unwrap_or("it told nothing").trim();
        unusable(format!(
            "{why} (it needs NVIDIA's driver, and CUDA's libraries on the library path)"
        ))
    })?;
    let own = env!("CARGO_PKG_VERSION");
    if probed.version != own {
        let version = &probed.version;
        return Err(unusable(format!(
            "it is of version {version} and this is {own}: build both from one source"
        )));
    }
    if probed.devices.is_empty() {
        return Err(unusable(format!("it finds no GPU: {}", probed.then)));
    }
    Ok(probed)
}

struct Told {
    output: String,
    error: String,
}

fn output(program: &Path, gpu: Option<&str>) -> Result<Told, EngineCudaError> {
    let start = |source| EngineCudaError::Start {
        program: program.to_owned(),
        source,
    };
    let mut command = Command::new(program);
    command
        .arg("probe")
        .env(ORDER.0, ORDER.1)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    if let Some(uuid) = gpu {
        command.env(VISIBLE_VARIABLE, uuid);
    }
    let mut child = command.spawn().map_err(start)?;
    let (error, output) = (child.stderr.take(), child.stdout.take());
    let (finished, heard) = channel();
    std::thread::Builder::new()
        .name("hx-probe".to_owned())
        .spawn(move || {
            let output = output.map(whole).unwrap_or_default();
            let error = error.map(whole).unwrap_or_default();
            // Nobody waits any more where the time is over.
            let _ = finished.send(Told { output, error });
        })
        .map_err(start)?;
    let told = heard.recv_timeout(PROBE_LIMIT);
    // It has ended, or its time is over.
    let _ = child.kill();
    child.wait().map_err(start)?;
    told.map_err(|_timeout| EngineCudaError::Unusable {
        program: program.to_owned(),
        why: format!(
            "it was not done after {} s: see whether nvidia-smi answers",
            PROBE_LIMIT.as_secs()
        ),
    })
}

/// All that comes until the end.
fn whole(mut pipe: impl Read) -> String {
    let mut text = Vec::new();
    // What cannot be read is not understood either, which is told.
    let _ = pipe.read_to_end(&mut text);
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// A program that answers so.
    fn stand_in(directory: &Path, script: &str) -> PathBuf {
        let program = directory.join("stand-in");
        fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        program
    }

    fn answer(version: &str, devices: &str) -> String {
        format!(
            "echo '{{\"version\":\"{version}\",\"devices\":[{devices}],\"then\":\"no driver\"}}'"
        )
    }

    #[test]
    fn a_program_that_does_not_serve_is_told_apart_with_what_to_do() {
        let directory = tempfile::tempdir().unwrap();
        let own = env!("CARGO_PKG_VERSION");
        let device = r#"{"device":"cuda:0","engine_path":"candle cuda:0"}"#;
        for (script, told) in [
            (answer("0.0.0", device), "build both from one source"),
            (answer(own, ""), "it finds no GPU: no driver"),
            (
                "echo 'libcuda.so.1: cannot open' >&2; exit 127".to_owned(),
                "libcuda.so.1: cannot open (it needs NVIDIA's driver",
            ),
            ("exit 0".to_owned(), "it told nothing"),
        ] {
            let program = stand_in(directory.path(), &script);
            let refused = probe(&program, None).unwrap_err().to_string();
            assert!(refused.contains(told), "{refused}");
        }
        let nowhere = probe(&directory.path().join("nowhere"), None);
        assert!(matches!(nowhere, Err(EngineCudaError::Start { .. })));
    }

    #[test]
    fn what_serves_is_asked_of_one_gpu_in_the_order_of_nvml() {
        let directory = tempfile::tempdir().unwrap();
        let device =
            r#"{"device":"cuda:0","engine_path":"'$CUDA_VISIBLE_DEVICES' '$CUDA_DEVICE_ORDER'"}"#;
        let script = answer(env!("CARGO_PKG_VERSION"), device);
        let program = stand_in(directory.path(), &script);
        let probed = probe(&program, Some("GPU-1")).unwrap();
        assert_eq!(probed.devices[0].engine_path, "GPU-1 PCI_BUS_ID");
    }
}
