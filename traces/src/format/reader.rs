//! Reading a trace file of any format row by row.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use super::columnar::{ParquetRows, RowsHash};
use super::{CsvReader, FileFormat, MappedTrace, TraceColumns};
use crate::{RowCheck, TraceError, TraceMetadata, TraceRow};

/// Reads a trace file row by row, whatever its format. Memory does not grow with its length.
#[derive(Debug)]
pub struct TraceReader {
    path: PathBuf,
    bytes: u64,
    source: Source,
}

#[derive(Debug)]
enum Source {
    Csv(Box<CsvReader<BufReader<File>>>),
    Columns(Box<Columns>),
}

/// Rows out of columns, checked as those of text are.
#[derive(Debug)]
struct Columns {
    batches: Batches,
    next_batch: usize,
    current: Option<(TraceColumns, usize)>,
    check: RowCheck,
    hash: Option<RowsHash>,
}

#[derive(Debug)]
enum Batches {
    Mapped(MappedTrace),
    Parquet(ParquetRows),
}

impl TraceReader {
    /// Opens a file and reads its metadata.
    ///
    /// # Errors
    /// The file cannot be read ([`TraceError::File`]) or is no trace ([`TraceError::InFile`]).
    pub fn open(path: &Path) -> Result<TraceReader, TraceError> {
        let failed = |source| TraceError::File {
            action: "read",
            path: path.to_owned(),
            source,
        };
        let mut file = File::open(path).map_err(failed)?;
        let bytes = file.metadata().map_err(failed)?.len();
        let format = FileFormat::of_file(&mut file).map_err(failed)?;
        let named = FileFormat::of_name(path);
        if format == FileFormat::Csv && named != FileFormat::Csv {
            let problem = format!(
                "its name says {named:?}, but it does not begin as such a file does; name a text \
                 file .csv"
            );
            return Err(in_file(path, TraceError::Columnar { problem }));
        }
        let source = Source::open(file, format).map_err(|source| in_file(path, source))?;
        Ok(TraceReader {
            path: path.to_owned(),
            bytes,
            source,
        })
    }

    /// What the trace says about itself.
    #[must_use]
    pub const fn metadata(&self) -> &TraceMetadata {
        match &self.source {
            Source::Csv(reader) => reader.metadata(),
            Source::Columns(columns) => columns.batches.metadata(),
        }
    }

    /// The file's format.
    #[must_use]
    pub const fn format(&self) -> FileFormat {
        match &self.source {
            Source::Csv(_) => FileFormat::Csv,
            Source::Columns(columns) => match columns.batches {
                Batches::Mapped(_) => FileFormat::Arrow,
                Batches::Parquet(_) => FileFormat::Parquet,
            },
        }
    }

    /// The file's length.
    #[must_use]
    pub const fn file_bytes(&self) -> u64 {
        self.bytes
    }

    /// How many rows there are, where the file says so.
    #[must_use]
    pub const fn rows(&self) -> Option<u64> {
        match &self.source {
            Source::Csv(_) => None,
            Source::Columns(columns) => Some(match &columns.batches {
                Batches::Mapped(mapped) => mapped.rows(),
                Batches::Parquet(rows) => rows.rows(),
            }),
        }
    }

    /// The next row; `None` after the last.
    ///
    /// # Errors
    /// The first mistake ([`TraceError::InFile`]), with its line and column or its row; after the
    /// last row, that the rows are not those that were written, where the file tells their hash.
    pub fn next_row(&mut self) -> Result<Option<TraceRow>, TraceError> {
        let row = match &mut self.source {
            Source::Csv(reader) => reader.next_row(),
            Source::Columns(columns) => columns.next_row(),
        };
        row.map_err(|source| in_file(&self.path, source))
    }
}

fn in_file(path: &Path, source: TraceError) -> TraceError {
    match source {
        TraceError::Stream { action, source } => TraceError::File {
            action,
            path: path.to_owned(),
            source,
        },
        source => TraceError::InFile {
            path: path.to_owned(),
            source: Box::new(source),
        },
    }
}

impl Source {
    fn open(file: File, format: FileFormat) -> Result<Source, TraceError> {
        let batches = match format {
            FileFormat::Csv => {
                let reader = BufReader::with_capacity(1 << 18, file);
                return Ok(Source::Csv(Box::new(CsvReader::new(reader)?)));
            }
            FileFormat::Arrow => Batches::Mapped(MappedTrace::of_file(&file)?),
            FileFormat::Parquet => Batches::Parquet(ParquetRows::open(file)?),
        };
        Ok(Source::Columns(Box::new(Columns {
            check: RowCheck::new(batches.metadata().duration_ns),
            hash: batches.rows_sha256().map(|_| RowsHash::new()),
            batches,
            next_batch: 0,
            current: None,
        })))
    }
}

impl Batches {
    const fn metadata(&self) -> &TraceMetadata {
        match self {
            Batches::Mapped(mapped) => mapped.metadata(),
            Batches::Parquet(rows) => rows.metadata(),
        }
    }

    fn rows_sha256(&self) -> Option<&str> {
        match self {
            Batches::Mapped(mapped) => mapped.rows_sha256(),
            Batches::Parquet(rows) => rows.rows_sha256(),
        }
    }
}

impl Columns {
    fn next_row(&mut self) -> Result<Option<TraceRow>, TraceError> {
        loop {
            if let Some((columns, next)) = &mut self.current {
                if let Some(row) = columns.row(*next) {
                    *next += 1;
                    self.check.accept(&row)?;
                    if let Some(hash) = &mut self.hash {
                        hash.add(&row);
                    }
                    return Ok(Some(row));
                }
                self.current = None;
                if let (Batches::Mapped(mapped), Some(read)) =
                    (&self.batches, self.next_batch.checked_sub(1))
                {
                    mapped.release(read);
                }
            }
            let columns = match &mut self.batches {
                Batches::Mapped(mapped) => mapped.columns(self.next_batch)?,
                Batches::Parquet(rows) => rows.next_columns()?,
            };
            self.next_batch += 1;
            match columns {
                Some(columns) => self.current = Some((columns, 0)),
                None => {
                    self.check.finish()?;
                    self.compare_hash()?;
                    return Ok(None);
                }
            }
        }
    }

    fn compare_hash(&mut self) -> Result<(), TraceError> {
        let found = self.hash.take();
        check_hash(self.batches.rows_sha256(), found)
    }
}

/// Whether the rows are those that were written, where the file tells their hash.
pub(crate) fn check_hash(written: Option<&str>, found: Option<RowsHash>) -> Result<(), TraceError> {
    match (written, found.map(RowsHash::finish)) {
        (Some(written), Some(found)) if written != found => Err(TraceError::Columnar {
            problem: format!(
                "the rows have SHA-256 {found}, and {written} when they were written: the file was \
                 damaged or edited"
            ),
        }),
        _ => Ok(()),
    }
}
