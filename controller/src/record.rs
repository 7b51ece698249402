//! The run directory: everything that a run leaves, readable by others.
//!
//! | file | what |
//! |---|---|
//! | `experiment.toml` | the experiment as it was written |
//! | `plan.json` | what was done, every default resolved |
//! | `traces/NAME.csv` | the traces that were played |
//! | `environment.json` | the machine, the program, the model |
//! | `events.ndjson` | every event, in order: all that follows is computed from it |
//! | `requests.csv`, `samples.csv`, `link.csv` | the same as tables |
//! | `latency.hlog` | latency histograms |
//! | `captures/LINK-DIRECTION.pcapng` | packets of the links, where they were to be captured |
//! | `logs/` | what the processes wrote |
//! | `summary.json`, `report.html` | what came out |
//! | `manifest.json` | SHA-256 of every file, written last |

mod capture_file;
mod directory;
pub mod end_to_end;
pub mod environment;
mod histograms;
mod manifest;
mod read;
mod tables;

pub use capture_file::CaptureFile;
pub(crate) use directory::{CAPTURES, write_synchronised as write_file};
pub use directory::{RecordError, RunDirectory, run_name};
pub use environment::Environment;
pub use histograms::histogram_log;
pub use manifest::{Manifest, ManifestEntry};
#[cfg(test)]
pub(crate) use read::unaccounted_captures;
pub use read::{ReadError, RunRecords};
pub(crate) use read::{long_trace_path, trace_path};
pub(crate) use tables::{
    GPU_COLUMNS, LINK_COLUMNS, POWER_COLUMNS, gpu_row, link_row, tables, write_power,
};
pub use tables::{link_table, request_table, sample_table};
