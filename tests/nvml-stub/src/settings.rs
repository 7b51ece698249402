//! What was set on a stub's GPU: kept in a file beside the script, because a driver keeps it after
//! the process that set it has ended.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::GpuScript;

/// The settings of one GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Settings {
    /// In milliwatts.
    pub(crate) power_limit_mw: u32,
    /// Whether the driver stays loaded without users.
    pub(crate) persistent: bool,
    /// In MHz; 0 is not locked.
    pub(crate) locked_mhz: u32,
}

fn file(script: &OsStr) -> PathBuf {
    let mut path = script.to_owned();
    path.push(".settings");
    path.into()
}

fn all(script: &OsStr) -> BTreeMap<String, Settings> {
    let text = std::fs::read(file(script)).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}

impl Settings {
    /// What was set last, or what the script begins with.
    pub(crate) fn read(script: &OsStr, gpu: &GpuScript) -> Settings {
        all(script).remove(&gpu.uuid).unwrap_or(Settings {
            power_limit_mw: gpu.power_limit_mw,
            persistent: false,
            locked_mhz: 0,
        })
    }

    pub(crate) fn write(self, script: &OsStr, gpu: &GpuScript) -> io::Result<()> {
        let mut all = all(script);
        all.insert(gpu.uuid.clone(), self);
        std::fs::write(file(script), serde_json::to_vec(&all)?)
    }
}
