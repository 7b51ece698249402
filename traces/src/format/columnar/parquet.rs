//! Parquet files, for archives.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};

use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::basic::Compression;
use parquet::errors::ParquetError;
use parquet::file::metadata::{KeyValue, ParquetMetaData};
use parquet::file::properties::WriterProperties;

use super::builder::BatchBuilder;
use super::layout::{METADATA_KEY, ROWS_KEY, metadata_of, schema_of};
use super::{BATCH_ROWS, TraceColumns, not_understood};
use crate::format::metadata;
use crate::{TraceError, TraceMetadata, TraceRow};

/// Rows of one row group: what a writer holds, encoded.
const GROUP_ROWS: usize = 1 << 20;

/// A Parquet file that is being written, compressed with LZ4.
#[derive(Debug)]
pub(in super::super) struct ParquetSink {
    builder: BatchBuilder,
    writer: ArrowWriter<File>,
}

impl ParquetSink {
    pub(in super::super) fn new(
        file: File,
        trace: &TraceMetadata,
    ) -> Result<ParquetSink, TraceError> {
        let schema = schema_of(trace);
        let properties = WriterProperties::builder()
            .set_compression(Compression::LZ4_RAW)
            .set_max_row_group_row_count(Some(GROUP_ROWS))
            .build();
        let mut writer = ArrowWriter::try_new(file, schema.clone(), Some(properties))
            .map_err(|error| failed(&error))?;
        // Also where readers that do not know Arrow's schema look.
        let json = metadata::to_json(trace);
        writer.append_key_value_metadata(KeyValue::new(METADATA_KEY.to_owned(), json));
        Ok(ParquetSink {
            builder: BatchBuilder::new(schema),
            writer,
        })
    }

    pub(in super::super) fn write_row(&mut self, row: &TraceRow) -> Result<(), TraceError> {
        match self.builder.push(row)? {
            Some(batch) => self.writer.write(&batch).map_err(|error| failed(&error)),
            None => Ok(()),
        }
    }

    /// Writes what is left and the footer.
    pub(in super::super) fn finish(mut self) -> Result<(), TraceError> {
        if let Some(batch) = self.builder.batch()? {
            self.writer.write(&batch).map_err(|error| failed(&error))?;
        }
        let hash = KeyValue::new(ROWS_KEY.to_owned(), self.builder.rows_sha256());
        self.writer.append_key_value_metadata(hash);
        self.writer
            .close()
            .map(drop)
            .map_err(|error| failed(&error))
    }
}

fn failed(error: &ParquetError) -> TraceError {
    TraceError::Columnar {
        problem: format!("cannot write the Parquet file: {error}"),
    }
}

/// The batches of a Parquet file, one after the other.
pub(in super::super) struct ParquetRows {
    metadata: TraceMetadata,
    rows: u64,
    rows_sha256: Option<String>,
    batches: ParquetRecordBatchReader,
}

impl std::fmt::Debug for ParquetRows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ParquetRows")
            .field("metadata", &self.metadata)
            .field("rows", &self.rows)
            .finish_non_exhaustive()
    }
}

/// Whether every column begins and ends somewhere: the library panics where a damaged file says otherwise.
fn check_places(metadata: &ParquetMetaData) -> Result<(), TraceError> {
    let columns = metadata
        .row_groups()
        .iter()
        .flat_map(|group| group.columns());
    for column in columns {
        let start = column.dictionary_page_offset();
        let start = start.unwrap_or_else(|| column.data_page_offset());
        if start < 0 || column.compressed_size() < 0 {
            return Err(TraceError::Columnar {
                problem: format!(
                    "cannot read the Parquet file: column {} begins at {start} and has {} bytes",
                    column.column_path(),
                    column.compressed_size()
                ),
            });
        }
    }
    Ok(())
}

/// What the library reads; where it panics over a file that is damaged, that is an error as any other.
fn guarded<T>(read: impl FnOnce() -> T) -> Result<T, TraceError> {
    catch_unwind(AssertUnwindSafe(read)).map_err(|panic| {
        let said = panic.downcast_ref::<String>().map(String::as_str);
        let said = said.or_else(|| panic.downcast_ref::<&str>().copied());
        TraceError::Columnar {
            problem: format!(
                "cannot read the Parquet file, which is damaged: {}",
                said.unwrap_or("the reason was not told")
            ),
        }
    })
}

impl ParquetRows {
    pub(in super::super) fn open(file: File) -> Result<ParquetRows, TraceError> {
        let wrong = |error: ParquetError| TraceError::Columnar {
            problem: format!("cannot read the Parquet file: {error}"),
        };
        let builder = guarded(|| ParquetRecordBatchReaderBuilder::try_new(file))?.map_err(wrong)?;
        check_places(builder.metadata())?;
        let metadata = metadata_of(builder.schema())?;
        let rows_sha256 = builder.schema().metadata().get(ROWS_KEY).cloned();
        let rows = builder.metadata().file_metadata().num_rows();
        let batches = guarded(|| builder.with_batch_size(BATCH_ROWS).build())?.map_err(wrong)?;
        Ok(ParquetRows {
            metadata,
            rows: u64::try_from(rows).unwrap_or(0),
            rows_sha256,
            batches,
        })
    }

    pub(in super::super) const fn metadata(&self) -> &TraceMetadata {
        &self.metadata
    }

    pub(in super::super) const fn rows(&self) -> u64 {
        self.rows
    }

    pub(in super::super) fn rows_sha256(&self) -> Option<&str> {
        self.rows_sha256.as_deref()
    }

    pub(in super::super) fn next_columns(&mut self) -> Result<Option<TraceColumns>, TraceError> {
        let Some(batch) = guarded(|| self.batches.next())? else {
            return Ok(None);
        };
        let batch =
            batch.map_err(|error| not_understood("cannot read the Parquet file", &error))?;
        TraceColumns::new(&batch).map(Some)
    }
}
