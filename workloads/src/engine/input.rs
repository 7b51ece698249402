//! Files of models as they come from whoever made them: opened only where they are files, and taken into memory only
//! within a bound.

use std::fs::{File, FileType};
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;

use super::error::EngineError;

fn unsuitable(path: &Path, reason: String) -> EngineError {
    EngineError::Unsuitable {
        path: path.to_owned(),
        reason,
    }
}

/// What is in the place of a file.
fn in_words(kind: FileType) -> &'static str {
    if kind.is_dir() {
        "a directory"
    } else if kind.is_fifo() {
        "a named pipe"
    } else if kind.is_char_device() || kind.is_block_device() {
        "a device"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "something else"
    }
}

/// Opens a file, and tells its length in bytes. A named pipe would wait for its writer for ever and a device may have
/// no end: they are not opened.
///
/// # Errors
/// What cannot be opened, or is no file.
pub(crate) fn open(path: &Path) -> Result<(File, u64), EngineError> {
    let failed = |source| EngineError::Read {
        path: path.to_owned(),
        source,
    };
    let kind = std::fs::metadata(path).map_err(failed)?.file_type();
    if !kind.is_file() {
        let reason = format!(
            "it is no file but {}: put the file itself there, or a link to it",
            in_words(kind)
        );
        return Err(unsuitable(path, reason));
    }
    let file = File::open(path).map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    Ok((file, length))
}

/// All of a file that has at most so many bytes; nothing of a longer one is read.
///
/// # Errors
/// A longer file, or see [`open`].
pub(crate) fn read_bytes(path: &Path, most_bytes: u64) -> Result<Vec<u8>, EngineError> {
    let (file, length) = open(path)?;
    if length > most_bytes {
        let reason = format!(
            "it has {length} bytes, and at most {most_bytes} are read of a file of this name: put the model's own \
             there"
        );
        return Err(unsuitable(path, reason));
    }
    let mut bytes = Vec::new();
    let read = file.take(most_bytes).read_to_end(&mut bytes);
    read.map_err(|source| EngineError::Read {
        path: path.to_owned(),
        source,
    })?;
    Ok(bytes)
}

/// The text of such a file.
///
/// # Errors
/// A file that is no text, or see [`read_bytes`].
pub(crate) fn read_text(path: &Path, most_bytes: u64) -> Result<String, EngineError> {
    let text = String::from_utf8(read_bytes(path, most_bytes)?);
    text.map_err(|error| {
        unsuitable(
            path,
            format!("it is no text in UTF-8: {}", error.utf8_error()),
        )
    })
}

/// The same; `None` if there is nothing at its place.
///
/// # Errors
/// See [`read_text`].
pub(crate) fn read_text_if_there(
    path: &Path,
    most_bytes: u64,
) -> Result<Option<String>, EngineError> {
    match read_text(path, most_bytes) {
        Err(EngineError::Read { source, .. }) if source.kind() == ErrorKind::NotFound => Ok(None),
        read => read.map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_read_up_to_its_bound_and_nothing_of_a_longer_one() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("text");
        assert_eq!(read_text_if_there(&path, 4).unwrap(), None);
        std::fs::write(&path, "four").unwrap();
        assert_eq!(read_text_if_there(&path, 4).unwrap().unwrap(), "four");
        let told = read_text_if_there(&path, 3).unwrap_err().to_string();
        for part in ["text", "4 bytes", "at most 3"] {
            assert!(told.contains(part), "{part} is not in {told}");
        }
        std::fs::write(&path, [0xff; 4]).unwrap();
        let told = read_text(&path, 4).unwrap_err().to_string();
        assert!(told.contains("no text"), "{told}");
    }
}
