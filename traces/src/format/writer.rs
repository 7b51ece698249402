//! Writing a trace file of any format row by row.

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use super::columnar::{ArrowSink, ParquetSink};
use super::{CsvWriter, FileFormat};
use crate::{RowCheck, TraceError, TraceMetadata, TraceRow};

/// Writes a trace file row by row, in the format that its name ends with. Memory does not grow
/// with its length.
///
/// The rows go into a file beside it, which takes its place in [`TraceWriter::finish`], when all
/// of it is on disk. Without that the file that was there stays.
#[derive(Debug)]
pub struct TraceWriter {
    path: PathBuf,
    temporary: Temporary,
    sink: Sink,
    check: RowCheck,
}

#[derive(Debug)]
enum Sink {
    Csv(Box<CsvWriter<BufWriter<File>>>),
    Arrow(Box<ArrowSink>),
    Parquet(Box<ParquetSink>),
}

/// A file that is removed unless it was kept.
#[derive(Debug)]
struct Temporary {
    path: PathBuf,
    keep: bool,
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.keep {
            // What failed was told; the remainder may not even exist.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn failed(path: &Path, source: std::io::Error) -> TraceError {
    TraceError::File {
        action: "write",
        path: path.to_owned(),
        source,
    }
}

impl TraceWriter {
    /// Begins a file.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn create(path: &Path, metadata: &TraceMetadata) -> Result<TraceWriter, TraceError> {
        TraceWriter::create_as(path, FileFormat::of_name(path), metadata)
    }

    /// Begins a file in a format that its name need not tell.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn create_as(
        path: &Path,
        format: FileFormat,
        metadata: &TraceMetadata,
    ) -> Result<TraceWriter, TraceError> {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{}.part", std::process::id()));
        let temporary = Temporary {
            path: PathBuf::from(name),
            keep: false,
        };
        let file = File::create(&temporary.path).map_err(|source| failed(path, source))?;
        let sink = match format {
            FileFormat::Csv => {
                let sink = BufWriter::with_capacity(1 << 16, file);
                Sink::Csv(Box::new(CsvWriter::new(sink, metadata)))
            }
            FileFormat::Arrow => Sink::Arrow(Box::new(ArrowSink::new(file, metadata)?)),
            FileFormat::Parquet => Sink::Parquet(Box::new(ParquetSink::new(file, metadata)?)),
        };
        Ok(TraceWriter {
            path: path.to_owned(),
            temporary,
            sink,
            check: RowCheck::new(metadata.duration_ns),
        })
    }

    /// Writes the next row.
    ///
    /// # Errors
    /// A row that [`RowCheck::accept`] refuses, or the file cannot be written.
    pub fn write_row(&mut self, row: &TraceRow) -> Result<(), TraceError> {
        let written = match &mut self.sink {
            Sink::Csv(writer) => writer.write_row(row),
            Sink::Arrow(sink) => self.check.accept(row).and_then(|()| sink.write_row(row)),
            Sink::Parquet(sink) => self.check.accept(row).and_then(|()| sink.write_row(row)),
        };
        written.map_err(|error| at(&self.path, error))
    }

    /// Writes what is left and puts the file in its place.
    ///
    /// # Errors
    /// There was no row, or the file cannot be written; what was there before stays.
    pub fn finish(self) -> Result<(), TraceError> {
        let TraceWriter {
            path,
            mut temporary,
            sink,
            check,
        } = self;
        let finished = match sink {
            Sink::Csv(writer) => writer.finish().map(drop),
            Sink::Arrow(sink) => check.finish().and_then(|()| sink.finish()),
            Sink::Parquet(sink) => check.finish().and_then(|()| sink.finish()),
        };
        finished.map_err(|error| at(&path, error))?;
        File::open(&temporary.path)
            .and_then(|file| file.sync_all())
            .and_then(|()| std::fs::rename(&temporary.path, &path))
            .map_err(|source| failed(&path, source))?;
        temporary.keep = true;
        Ok(())
    }
}

fn at(path: &Path, error: TraceError) -> TraceError {
    match error {
        TraceError::Stream { source, .. } => failed(path, source),
        error @ TraceError::Columnar { .. } => TraceError::InFile {
            path: path.to_owned(),
            source: Box::new(error),
        },
        error => error,
    }
}
