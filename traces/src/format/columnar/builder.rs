//! From rows to batches, and the Arrow IPC file.

use std::fs::File;
use std::io::BufWriter;
use std::mem::take;
use std::sync::Arc;

use arrow_array::{
    ArrayRef, BooleanArray, Int32Array, RecordBatch, StringArray, UInt8Array, UInt32Array,
    UInt64Array,
};
use arrow_ipc::writer::FileWriter;
use arrow_schema::SchemaRef;

use super::layout::{ROWS_KEY, schema_of};
use super::{BATCH_ROWS, RowsHash, not_understood};
use crate::{Direction, LinkState, TraceError, TraceMetadata, TraceRow};

/// One direction's columns while they grow.
#[derive(Debug, Default)]
struct Link {
    rate: Vec<u64>,
    delay: Vec<u64>,
    /// Jitter, loss, loss burst, duplicates, corruption, queue.
    narrow: [Vec<u32>; 6],
}

impl Link {
    fn push(&mut self, state: &LinkState) {
        self.rate.push(state.rate_bps);
        self.delay.push(state.delay_ns);
        let values = [
            state.jitter_ns,
            state.loss_ppb,
            state.loss_burst_milli,
            state.dup_ppb,
            state.corrupt_ppb,
            state.queue_bytes,
        ];
        for (column, value) in self.narrow.iter_mut().zip(values) {
            column.push(value);
        }
    }

    fn take(&mut self) -> impl Iterator<Item = ArrayRef> {
        let wide = [&mut self.rate, &mut self.delay];
        let wide = wide.map(|column| Arc::new(UInt64Array::from(take(column))) as ArrayRef);
        let narrow = self
            .narrow
            .each_mut()
            .map(|column| Arc::new(UInt32Array::from(take(column))) as ArrayRef);
        wide.into_iter().chain(narrow)
    }
}

/// Rows on their way into a batch, in columns.
#[derive(Debug)]
pub(super) struct BatchBuilder {
    schema: SchemaRef,
    t: Vec<u64>,
    links: [Link; 2],
    sinr: Vec<Option<i32>>,
    mcs: Vec<Option<u8>>,
    cell: Vec<Option<u32>>,
    los: Vec<Option<bool>>,
    blocked: Vec<Option<bool>>,
    elevation: Vec<Option<i32>>,
    event: Vec<Option<String>>,
    hash: RowsHash,
}

impl BatchBuilder {
    pub(super) fn new(schema: SchemaRef) -> BatchBuilder {
        BatchBuilder {
            schema,
            t: Vec::new(),
            links: [Link::default(), Link::default()],
            sinr: Vec::new(),
            mcs: Vec::new(),
            cell: Vec::new(),
            los: Vec::new(),
            blocked: Vec::new(),
            elevation: Vec::new(),
            event: Vec::new(),
            hash: RowsHash::new(),
        }
    }

    /// Adds a row; a batch comes back when it is full.
    pub(super) fn push(&mut self, row: &TraceRow) -> Result<Option<RecordBatch>, TraceError> {
        self.hash.add(row);
        self.t.push(row.t_ns);
        for (link, direction) in self.links.iter_mut().zip(Direction::BOTH) {
            link.push(row.direction(direction));
        }
        let known = &row.diagnostics;
        self.sinr.push(known.sinr_cdb);
        self.mcs.push(known.mcs);
        self.cell.push(known.cell_id);
        self.los.push(known.los);
        self.blocked.push(known.blocked);
        self.elevation.push(known.elevation_cdeg);
        self.event.push(known.event.clone());
        if self.t.len() < BATCH_ROWS {
            return Ok(None);
        }
        self.batch()
    }

    /// What is left, if anything.
    pub(super) fn batch(&mut self) -> Result<Option<RecordBatch>, TraceError> {
        if self.t.is_empty() {
            return Ok(None);
        }
        let mut columns: Vec<ArrayRef> = vec![Arc::new(UInt64Array::from(take(&mut self.t)))];
        for link in &mut self.links {
            columns.extend(link.take());
        }
        let events: StringArray = self.event.drain(..).collect();
        columns.extend([
            Arc::new(Int32Array::from(take(&mut self.sinr))) as ArrayRef,
            Arc::new(UInt8Array::from(take(&mut self.mcs))),
            Arc::new(UInt32Array::from(take(&mut self.cell))),
            Arc::new(BooleanArray::from(take(&mut self.los))),
            Arc::new(BooleanArray::from(take(&mut self.blocked))),
            Arc::new(Int32Array::from(take(&mut self.elevation))),
            Arc::new(events),
        ]);
        RecordBatch::try_new(Arc::clone(&self.schema), columns)
            .map(Some)
            .map_err(|error| not_understood("cannot put the rows into columns", &error))
    }

    /// The hash of all rows so far.
    pub(super) fn rows_sha256(&self) -> String {
        self.hash.clone().finish()
    }
}

/// An Arrow IPC file that is being written: batches without compression, so that they can be
/// mapped.
pub(in super::super) struct ArrowSink {
    builder: BatchBuilder,
    writer: FileWriter<BufWriter<File>>,
}

impl std::fmt::Debug for ArrowSink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ArrowSink").finish_non_exhaustive()
    }
}

impl ArrowSink {
    pub(in super::super) fn new(
        file: File,
        metadata: &TraceMetadata,
    ) -> Result<ArrowSink, TraceError> {
        let schema = schema_of(metadata);
        let writer =
            FileWriter::try_new(BufWriter::new(file), &schema).map_err(|error| failed(&error))?;
        Ok(ArrowSink {
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
        self.writer
            .write_metadata(ROWS_KEY, self.builder.rows_sha256());
        self.writer.finish().map_err(|error| failed(&error))
    }
}

fn failed(error: &arrow_schema::ArrowError) -> TraceError {
    not_understood("cannot write the Arrow IPC file", error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate::control;

    #[test]
    fn a_writer_holds_one_batch_at_most_however_many_rows_go_through_it() {
        let trace = control::constant(1, 2, 3, u64::MAX).unwrap();
        let mut builder = BatchBuilder::new(schema_of(trace.metadata()));
        let mut row = trace.rows()[0].clone();
        let mut written = 0;
        for t_ns in 0..200_000 {
            row.t_ns = t_ns;
            let batch = builder.push(&row).unwrap();
            written += batch.map_or(0, |batch| batch.num_rows());
            assert!(builder.t.len() < BATCH_ROWS && builder.event.len() < BATCH_ROWS);
        }
        assert_eq!(written, 3 * BATCH_ROWS);
        assert!(builder.t.capacity() <= 2 * BATCH_ROWS);
    }
}
