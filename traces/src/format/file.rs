//! Whole traces in files, and which format a file has.

use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::path::Path;

use super::columnar::ArrowSink;
use super::{MappedTrace, TraceReader, TraceWriter};
use crate::generate::MOST_ROWS;
use crate::{Trace, TraceError};

/// The largest text file that is read into memory: 512 MiB.
pub const LARGEST_FILE_BYTES: u64 = 512 << 20;

/// The most rows of a trace in memory: ten million, which take 1.5 GB.
pub const MOST_ROWS_IN_MEMORY: u64 = MOST_ROWS;

/// An Arrow IPC file with more rows is played where it is mapped; a shorter one is copied, so that
/// nobody has to leave the file alone.
pub const MOST_ROWS_COPIED: u64 = 1 << 20;

/// The formats of trace files. All hold the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileFormat {
    /// Commented CSV.
    Csv,
    /// Arrow IPC ("Feather"), without compression: mapped for playback.
    Arrow,
    /// Parquet, for archives.
    Parquet,
}

impl FileFormat {
    /// The format that a file of this name is written in: by its ending, else CSV.
    #[must_use]
    pub fn of_name(path: &Path) -> FileFormat {
        let ending = path.extension().map(|ending| ending.to_ascii_lowercase());
        match ending.as_deref().and_then(|ending| ending.to_str()) {
            Some("arrow" | "feather" | "ipc") => FileFormat::Arrow,
            Some("parquet" | "pq") => FileFormat::Parquet,
            _ => FileFormat::Csv,
        }
    }

    /// How names of files in this format end.
    #[must_use]
    pub const fn ending(self) -> &'static str {
        match self {
            FileFormat::Csv => "csv",
            FileFormat::Arrow => "arrow",
            FileFormat::Parquet => "parquet",
        }
    }

    /// The format of a file with this beginning.
    #[must_use]
    pub fn of_content(beginning: &[u8]) -> FileFormat {
        if beginning.starts_with(b"ARROW1") {
            FileFormat::Arrow
        } else if beginning.starts_with(b"PAR1") {
            FileFormat::Parquet
        } else {
            FileFormat::Csv
        }
    }

    /// The format of a file, by its content.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn of_path(path: &Path) -> std::io::Result<FileFormat> {
        FileFormat::of_file(&mut File::open(path)?)
    }

    /// The format of an open file, which is left at its start.
    pub(super) fn of_file(file: &mut File) -> std::io::Result<FileFormat> {
        let mut beginning = Vec::new();
        file.take(8).read_to_end(&mut beginning)?;
        file.rewind()?;
        Ok(FileFormat::of_content(&beginning))
    }
}

/// Reads a whole trace file in any of the formats, told by its content. The rows of an Arrow IPC
/// file with more than [`MOST_ROWS_COPIED`] of them stay in the file, which must then be left alone;
/// there is no limit to their number.
///
/// # Errors
/// The file cannot be read or is too large ([`TraceError::File`], [`TraceError::TooLarge`],
/// [`TraceError::TooManyRows`]), or its content is wrong ([`TraceError::InFile`], whose
/// [`TraceError::position`] says where).
pub fn read_file(path: &Path) -> Result<Trace, TraceError> {
    let mut reader = TraceReader::open(path)?;
    if reader.format() == FileFormat::Csv && reader.file_bytes() > LARGEST_FILE_BYTES {
        return Err(TraceError::TooLarge {
            path: path.to_owned(),
            limit_bytes: LARGEST_FILE_BYTES,
        });
    }
    if reader.format() == FileFormat::Arrow
        && reader.rows().is_some_and(|rows| rows > MOST_ROWS_COPIED)
    {
        return read_mapped(path);
    }
    let too_many = || TraceError::TooManyRows {
        path: path.to_owned(),
        limit: MOST_ROWS_IN_MEMORY,
    };
    if reader.rows().is_some_and(|rows| rows > MOST_ROWS_IN_MEMORY) {
        return Err(too_many());
    }
    let mut rows = Vec::new();
    while let Some(row) = reader.next_row()? {
        rows.push(row);
        if u64::try_from(rows.len()).is_ok_and(|rows| rows > MOST_ROWS_IN_MEMORY) {
            return Err(too_many());
        }
    }
    Trace::new(reader.metadata().clone(), rows).map_err(|source| TraceError::InFile {
        path: path.to_owned(),
        source: Box::new(source),
    })
}

/// Reads an Arrow IPC file whose rows stay where they are, whatever their number. The file must be
/// left alone as long as the trace lives.
///
/// # Errors
/// As of [`read_file`].
pub fn read_mapped(path: &Path) -> Result<Trace, TraceError> {
    Trace::of_mapped(&MappedTrace::open(path)?).map_err(|source| TraceError::InFile {
        path: path.to_owned(),
        source: Box::new(source),
    })
}

/// As [`read_mapped`], of a file that is open.
///
/// # Errors
/// As of [`read_file`], without a path.
pub fn read_open(file: &File) -> Result<Trace, TraceError> {
    Trace::of_mapped(&MappedTrace::of_file(file)?)
}

/// Writes a trace as an Arrow IPC file into one that is open and empty, a row at a time.
///
/// # Errors
/// The file cannot be written.
pub fn write_open(file: File, trace: &Trace) -> Result<(), TraceError> {
    let mut sink = ArrowSink::new(file, trace.metadata())?;
    for row in trace.iter() {
        sink.write_row(&row)?;
    }
    sink.finish()
}

/// Writes a trace in the format that the file's name ends with, replacing the file only when all
/// of it is on disk.
///
/// # Errors
/// The file cannot be written.
pub fn write_file(path: &Path, trace: &Trace) -> Result<(), TraceError> {
    let mut writer = TraceWriter::create(path, trace.metadata())?;
    for row in trace.iter() {
        writer.write_row(&row)?;
    }
    writer.finish()
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;
