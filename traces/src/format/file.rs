//! Reading and writing trace files.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::Path;

use crate::{Trace, TraceError};

/// The largest trace file that is read: 512 MiB.
pub const LARGEST_FILE_BYTES: u64 = 512 << 20;

/// Reads a trace file in the project's own format.
///
/// # Errors
/// The file cannot be read or is too large ([`TraceError::File`], [`TraceError::TooLarge`]), or
/// its content is wrong ([`TraceError::InFile`], whose [`TraceError::position`] says where).
pub fn read_file(path: &Path) -> Result<Trace, TraceError> {
    let text = read_text(path)?;
    super::parse(&text).map_err(|source| TraceError::InFile {
        path: path.to_owned(),
        source: Box::new(source),
    })
}

/// Reads the text of a file, refusing more than [`LARGEST_FILE_BYTES`].
fn read_text(path: &Path) -> Result<String, TraceError> {
    let failed = |source| TraceError::File {
        action: "read",
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(LARGEST_FILE_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > LARGEST_FILE_BYTES) {
        return Err(TraceError::TooLarge {
            path: path.to_owned(),
            limit_bytes: LARGEST_FILE_BYTES,
        });
    }
    String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = good.iter().filter(|&&byte| byte == b'\n').count() + 1;
        let start = good
            .iter()
            .rposition(|&byte| byte == b'\n')
            .map_or(0, |at| at + 1);
        let column = String::from_utf8_lossy(&good[start..]).chars().count() + 1;
        TraceError::InFile {
            path: path.to_owned(),
            source: Box::new(TraceError::Syntax {
                line,
                column,
                problem: "not UTF-8 text; expected a trace file (commented CSV)".to_owned(),
            }),
        }
    })
}

/// Writes a trace in its canonical form, replacing the file only when all of it is on disk.
///
/// # Errors
/// The file cannot be written.
pub fn write_file(path: &Path, trace: &Trace) -> Result<(), TraceError> {
    let failed = |source| TraceError::File {
        action: "write",
        path: path.to_owned(),
        source,
    };
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".{}.part", std::process::id()));
    let temporary = std::path::PathBuf::from(temporary);
    let write = || {
        let mut file = File::create(&temporary)?;
        file.write_all(super::to_text(trace).as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)
    };
    write().map_err(|source| {
        // The first failure is the one to report; the remainder may not even exist.
        let _ = std::fs::remove_file(&temporary);
        failed(source)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate::control;

    #[test]
    fn a_written_file_reads_back_the_same_and_leaves_no_other_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.csv");
        let trace = control::constant(1_000_000, 5_000_000, 30_000, 1_000_000_000).unwrap();
        write_file(&path, &trace).unwrap();
        write_file(&path, &trace).unwrap();
        assert_eq!(read_file(&path).unwrap(), trace);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_missing_or_broken_file_is_named_with_the_position() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("b.csv");
        assert!(matches!(
            read_file(&path),
            Err(TraceError::File { action: "read", .. })
        ));
        std::fs::write(&path, b"# {}\nab\xff\n").unwrap();
        let error = read_file(&path).unwrap_err();
        assert_eq!(error.position(), Some((2, 3)));
        assert!(error.to_string().contains("b.csv"));
        std::fs::write(&path, b"nonsense").unwrap();
        assert!(read_file(&path).unwrap_err().position().is_some());
        let nowhere = directory.path().join("missing").join("c.csv");
        let trace = control::constant(1, 0, 0, 1).unwrap();
        assert!(matches!(
            write_file(&nowhere, &trace),
            Err(TraceError::File {
                action: "write",
                ..
            })
        ));
    }
}
