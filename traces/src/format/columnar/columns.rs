//! The columns of some rows of a trace, as they lie in memory.

use arrow_array::{
    Array, BooleanArray, Int32Array, RecordBatch, StringArray, UInt8Array, UInt32Array, UInt64Array,
};

use crate::{Diagnostics, Direction, LinkState, TraceError, TraceRow};

/// The columns of one direction.
#[derive(Debug, Clone)]
pub struct LinkColumns {
    rate: UInt64Array,
    delay: Option<UInt64Array>,
    jitter: Option<UInt32Array>,
    loss: Option<UInt32Array>,
    loss_burst: Option<UInt32Array>,
    duplicates: Option<UInt32Array>,
    corruption: Option<UInt32Array>,
    queue: Option<UInt32Array>,
}

impl LinkColumns {
    /// The rates in bit/s, where they lie.
    #[must_use]
    pub fn rate_bps(&self) -> &[u64] {
        self.rate.values()
    }

    /// The one-way delays in ns, where they lie; `None` where the file has none, which means 0.
    #[must_use]
    pub fn delay_ns(&self) -> Option<&[u64]> {
        self.delay.as_ref().map(|column| &**column.values())
    }

    /// The losses in parts per 10^9, where they lie; `None` where the file has none, which
    /// means 0.
    #[must_use]
    pub fn loss_ppb(&self) -> Option<&[u32]> {
        self.loss.as_ref().map(|column| &**column.values())
    }

    /// The whole state at a row. A row that there is not is transparent.
    #[must_use]
    pub fn state(&self, index: usize) -> LinkState {
        let other = LinkState::TRANSPARENT;
        LinkState {
            rate_bps: wide(Some(&self.rate), index, other.rate_bps),
            delay_ns: wide(self.delay.as_ref(), index, other.delay_ns),
            jitter_ns: narrow(self.jitter.as_ref(), index, other.jitter_ns),
            loss_ppb: narrow(self.loss.as_ref(), index, other.loss_ppb),
            loss_burst_milli: narrow(self.loss_burst.as_ref(), index, other.loss_burst_milli),
            dup_ppb: narrow(self.duplicates.as_ref(), index, other.dup_ppb),
            corrupt_ppb: narrow(self.corruption.as_ref(), index, other.corrupt_ppb),
            queue_bytes: narrow(self.queue.as_ref(), index, other.queue_bytes),
        }
    }
}

fn wide(column: Option<&UInt64Array>, index: usize, other: u64) -> u64 {
    let value = column.and_then(|column| column.values().get(index));
    value.copied().unwrap_or(other)
}

fn narrow(column: Option<&UInt32Array>, index: usize, other: u32) -> u32 {
    let value = column.and_then(|column| column.values().get(index));
    value.copied().unwrap_or(other)
}

/// Rows of a trace that follow each other, in columns. Clones share the memory.
#[derive(Debug, Clone)]
pub struct TraceColumns {
    t: UInt64Array,
    down: LinkColumns,
    up: LinkColumns,
    sinr: Option<Int32Array>,
    mcs: Option<UInt8Array>,
    cell: Option<UInt32Array>,
    los: Option<BooleanArray>,
    blocked: Option<BooleanArray>,
    elevation: Option<Int32Array>,
    event: Option<StringArray>,
}

/// A column of a type that the schema was checked to have.
fn typed<A: Array + Clone + 'static>(batch: &RecordBatch, name: &str) -> Option<A> {
    batch.column_by_name(name)?.as_any().downcast_ref().cloned()
}

/// A column without unknown values.
fn whole<A: Array + Clone + 'static>(
    batch: &RecordBatch,
    name: &str,
) -> Result<Option<A>, TraceError> {
    let column = typed::<A>(batch, name);
    match column.as_ref().and_then(|column| first_null(column)) {
        Some(row) => Err(TraceError::Columnar {
            problem: format!("column `{name}` has no value in row {row} of its batch"),
        }),
        None => Ok(column),
    }
}

/// The first row without a value, counted from 1.
fn first_null(column: &dyn Array) -> Option<usize> {
    let nulls = column.nulls().filter(|nulls| nulls.null_count() > 0)?;
    (0..column.len())
        .find(|&row| nulls.is_null(row))
        .map(|row| row + 1)
}

fn link(batch: &RecordBatch, direction: Direction) -> Result<LinkColumns, TraceError> {
    let name = |field: &str| format!("{}_{field}", direction.name());
    let rate = name("rate_bps");
    Ok(LinkColumns {
        rate: whole(batch, &rate)?.ok_or_else(|| missing(&rate))?,
        delay: whole(batch, &name("delay_ns"))?,
        jitter: whole(batch, &name("jitter_ns"))?,
        loss: whole(batch, &name("loss_ppb"))?,
        loss_burst: whole(batch, &name("loss_burst_milli"))?,
        duplicates: whole(batch, &name("dup_ppb"))?,
        corruption: whole(batch, &name("corrupt_ppb"))?,
        queue: whole(batch, &name("queue_bytes"))?,
    })
}

fn missing(name: &str) -> TraceError {
    TraceError::Columnar {
        problem: format!("column `{name}` is missing"),
    }
}

impl TraceColumns {
    /// The columns of a batch whose schema was checked.
    pub(super) fn new(batch: &RecordBatch) -> Result<TraceColumns, TraceError> {
        Ok(TraceColumns {
            t: whole(batch, "t_ns")?.ok_or_else(|| missing("t_ns"))?,
            down: link(batch, Direction::Down)?,
            up: link(batch, Direction::Up)?,
            sinr: typed(batch, "sinr_cdb"),
            mcs: typed(batch, "mcs"),
            cell: typed(batch, "cell_id"),
            los: typed(batch, "los"),
            blocked: typed(batch, "blocked"),
            elevation: typed(batch, "elevation_cdeg"),
            event: typed(batch, "event"),
        })
    }

    /// How many rows there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.t.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.t.is_empty()
    }

    /// The times in ns from the start of the trace, where they lie.
    #[must_use]
    pub fn t_ns(&self) -> &[u64] {
        self.t.values()
    }

    /// The columns of one direction.
    #[must_use]
    pub const fn link(&self, direction: Direction) -> &LinkColumns {
        match direction {
            Direction::Down => &self.down,
            Direction::Up => &self.up,
        }
    }

    /// One row; `None` after the last.
    #[must_use]
    pub fn row(&self, index: usize) -> Option<TraceRow> {
        let t_ns = *self.t.values().get(index)?;
        let flag = |column: &Option<BooleanArray>| {
            let column = column.as_ref().filter(|column| column.is_valid(index))?;
            Some(column.value(index))
        };
        let signed = |column: &Option<Int32Array>| {
            let column = column.as_ref().filter(|column| column.is_valid(index))?;
            Some(column.value(index))
        };
        let mcs = self.mcs.as_ref().filter(|column| column.is_valid(index));
        let cell = self.cell.as_ref().filter(|column| column.is_valid(index));
        let event = self.event.as_ref().filter(|column| column.is_valid(index));
        Some(TraceRow {
            t_ns,
            down: self.down.state(index),
            up: self.up.state(index),
            diagnostics: Diagnostics {
                sinr_cdb: signed(&self.sinr),
                mcs: mcs.map(|column| column.value(index)),
                cell_id: cell.map(|column| column.value(index)),
                los: flag(&self.los),
                blocked: flag(&self.blocked),
                elevation_cdeg: signed(&self.elevation),
                event: event.map(|column| column.value(index).to_owned()),
            },
        })
    }
}
