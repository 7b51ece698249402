//! What stands in for hardware: a board's sensors, a GPU's library, a package's counter.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use hexloop_nvml_stub::{GpuScript, Script};
use hexloop_tests::sandbox::Sandbox;
use hexloop_workloads::clock;

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_hexloop-under-test");

/// The root of a Jetson-like board: its input draws 5 V x 2 A, of which its cores get a part.
pub(crate) fn board(sandbox: &Sandbox) -> PathBuf {
    let root = sandbox.path("board");
    let chip = root.join("sys/class/hwmon/hwmon0");
    fs::create_dir_all(&chip).unwrap();
    for (name, text) in [
        ("name", "ina3221"),
        ("in1_label", "VDD_IN"),
        ("in1_input", "5000"),
        ("curr1_input", "2000"),
        ("in2_label", "VDD_CPU_GPU_CV"),
        ("in2_input", "5000"),
        ("curr2_input", "700"),
    ] {
        fs::write(chip.join(name), text).unwrap();
    }
    root
}

/// A library of NVML with one GPU that follows the script.
pub(crate) fn gpu(sandbox: &Sandbox, gpu: GpuScript) -> [(&'static str, PathBuf); 2] {
    let script = Script {
        gpus: vec![gpu],
        ..Script::default()
    };
    scripted(sandbox, &script)
}

/// A library of NVML that follows a script.
pub(crate) fn scripted(sandbox: &Sandbox, script: &Script) -> [(&'static str, PathBuf); 2] {
    let text = serde_json::to_vec(script).unwrap();
    let test = std::env::current_exe().unwrap();
    let library = test.with_file_name("libhexloop_nvml_stub.so");
    assert!(
        library.exists(),
        "cargo did not build {}",
        library.display()
    );
    [
        ("HEXLOOP_NVML_STUB", sandbox.write("gpu.json", text)),
        ("HEXLOOP_NVML_LIBRARY", library),
    ]
}

/// A machine whose package draws so many watts all the time: a counter of powercap, kept going by a
/// thread until this is dropped.
pub(crate) struct Package {
    root: PathBuf,
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Package {
    pub(crate) fn drawing(watts: u64, sandbox: &Sandbox) -> Package {
        let root = sandbox.path("package");
        let zone = root.join("sys/class/powercap/intel-rapl:0");
        fs::create_dir_all(&zone).unwrap();
        fs::write(zone.join("name"), "package-0\n").unwrap();
        fs::write(zone.join("max_energy_range_uj"), "262143328850\n").unwrap();
        let began = clock::now();
        let count = move |zone: &Path| {
            let energy_uj = (clock::now() - began) * watts / 1_000;
            let next = zone.join("next");
            // Whole or not at all: a reader never sees a part.
            fs::write(&next, format!("{energy_uj}\n")).unwrap();
            fs::rename(&next, zone.join("energy_uj")).unwrap();
        };
        count(&zone);
        let end = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&end);
        let thread = std::thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                count(&zone);
                clock::sleep_until(clock::now() + 5_000_000);
            }
        });
        Package {
            root,
            end,
            thread: Some(thread),
        }
    }

    /// The root of its file system.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }
}

impl Drop for Package {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}
