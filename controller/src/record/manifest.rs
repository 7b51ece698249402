//! `manifest.json`: the SHA-256 of every file of a run, written last. Without it a run is not
//! whole; with it, anybody can tell whether a file was changed.

use std::fs;
use std::io;
use std::path::Path;

use hexloop_workloads::recipe::hexadecimal;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::directory::{RecordError, failed};

/// The list of a run's files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of this document.
    pub schema_version: u32,
    /// Every file but this one, in order of the names.
    pub files: Vec<ManifestEntry>,
}

/// One file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestEntry {
    /// Path below the run directory.
    pub path: String,
    /// Length in bytes.
    pub bytes: u64,
    /// SHA-256 in hexadecimal.
    pub sha256: String,
}

impl Manifest {
    /// Reads every file below `directory` but `manifest.json`.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn of(directory: &Path) -> Result<Manifest, RecordError> {
        let mut files = Vec::new();
        collect(directory, "", &mut files)?;
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(Manifest {
            schema_version: 1,
            files,
        })
    }

    /// The document, with a final line feed.
    ///
    /// # Errors
    /// Never for strings and numbers.
    pub fn to_json(&self) -> serde_json::Result<String> {
        serde_json::to_string_pretty(self).map(|text| text + "\n")
    }
}

fn collect(root: &Path, below: &str, files: &mut Vec<ManifestEntry>) -> Result<(), RecordError> {
    let directory = root.join(below);
    let entries = fs::read_dir(&directory).map_err(failed("list", &directory))?;
    for entry in entries {
        let entry = entry.map_err(failed("list", &directory))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = if below.is_empty() {
            name
        } else {
            format!("{below}/{name}")
        };
        let kind = entry
            .file_type()
            .map_err(failed("look at", &entry.path()))?;
        if kind.is_dir() {
            collect(root, &path, files)?;
        } else if kind.is_file() && path != "manifest.json" {
            let bytes = fs::metadata(entry.path())
                .map_err(failed("look at", &entry.path()))?
                .len();
            let sha256 = file_sha256(&entry.path()).map_err(failed("read", &entry.path()))?;
            files.push(ManifestEntry {
                path,
                bytes,
                sha256,
            });
        }
    }
    Ok(())
}

/// SHA-256 of a file in hexadecimal, read in pieces.
pub(crate) fn file_sha256(path: &Path) -> io::Result<String> {
    let mut file = fs::File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let read = io::Read::read(&mut file, &mut buffer)?;
        if read == 0 {
            return Ok(hexadecimal(&hasher.finalize()));
        }
        hasher.update(&buffer[..read]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_listed_by_its_path_and_hash_but_the_manifest_itself() {
        let run = tempfile::tempdir().unwrap();
        fs::create_dir(run.path().join("logs")).unwrap();
        fs::write(run.path().join("logs/agent.log"), b"").unwrap();
        fs::write(run.path().join("a.csv"), b"abc").unwrap();
        fs::write(run.path().join("manifest.json"), b"{}").unwrap();
        let manifest = Manifest::of(run.path()).unwrap();
        let paths: Vec<&str> = manifest
            .files
            .iter()
            .map(|file| file.path.as_str())
            .collect();
        assert_eq!(paths, ["a.csv", "logs/agent.log"]);
        // FIPS 180-2, example B.1.
        assert!(
            manifest.files[0]
                .sha256
                .starts_with("ba7816bf8f01cfea414140de5dae2223")
        );
    }
}
