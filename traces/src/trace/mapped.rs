//! Rows that stay in a mapped file: they are read where they lie, and cost no memory.

use std::sync::Arc;

use super::StateChange;
use crate::format::{MappedTrace, RowsHash, TraceColumns, check_hash};
use crate::{Direction, LinkState, RowCheck, TraceError, TraceRow};

/// A batch of the file and the number of its first row.
#[derive(Debug)]
struct Batch {
    first: usize,
    columns: TraceColumns,
}

/// The rows of a mapped file, with what is done to every state of them. Clones share the file.
#[derive(Debug, Clone)]
pub(crate) struct MappedRows {
    /// In order, none of them empty.
    batches: Arc<[Batch]>,
    rows: usize,
    changes: Vec<StateChange>,
}

impl MappedRows {
    /// Checks every row.
    pub(super) fn new(mapped: &MappedTrace) -> Result<MappedRows, TraceError> {
        let mut check = RowCheck::new(mapped.metadata().duration_ns);
        let mut hash = mapped.rows_sha256().map(|_| RowsHash::new());
        let mut batches = Vec::with_capacity(mapped.batches());
        for number in 0..mapped.batches() {
            let Some(columns) = mapped.columns(number)? else {
                break;
            };
            let first = check.rows();
            for row in (0..columns.len()).filter_map(|index| columns.row(index)) {
                check.accept(&row)?;
                if let Some(hash) = &mut hash {
                    hash.add(&row);
                }
            }
            mapped.release(number);
            if !columns.is_empty() {
                batches.push(Batch { first, columns });
            }
        }
        check.finish()?;
        check_hash(mapped.rows_sha256(), hash)?;
        Ok(MappedRows {
            batches: batches.into(),
            rows: check.rows(),
            changes: Vec::new(),
        })
    }

    pub(super) fn push_change(&mut self, change: StateChange) {
        self.changes.push(change);
    }

    pub(crate) const fn len(&self) -> usize {
        self.rows
    }

    /// The batch that a row is in, and its place there.
    fn place(&self, index: usize) -> Option<(&TraceColumns, usize)> {
        // Writers make batches of one length, up to the last.
        let length = self.batches.first().map_or(1, |batch| batch.columns.len());
        let inside = |batch: &&Batch| {
            let place = index.checked_sub(batch.first);
            place.is_some_and(|place| place < batch.columns.len())
        };
        let guess = self.batches.get(index / length).filter(inside);
        let batch = guess.or_else(|| {
            let after = self.batches.partition_point(|batch| batch.first <= index);
            self.batches.get(after.checked_sub(1)?).filter(inside)
        })?;
        Some((&batch.columns, index - batch.first))
    }

    fn changed(&self, state: LinkState, direction: Direction) -> LinkState {
        let apply = |state, change: &StateChange| change.apply(state, direction);
        self.changes.iter().fold(state, apply)
    }

    /// When a row begins; `None` after the last.
    pub(crate) fn t_ns(&self, index: usize) -> Option<u64> {
        let (columns, place) = self.place(index)?;
        columns.t_ns().get(place).copied()
    }

    /// One direction's state in a row.
    pub(crate) fn state(&self, index: usize, direction: Direction) -> Option<LinkState> {
        let (columns, place) = self.place(index)?;
        Some(self.changed(columns.link(direction).state(place), direction))
    }

    /// When a row begins, and the state of both directions.
    pub(super) fn states(&self, index: usize) -> Option<(u64, [LinkState; 2])> {
        let (columns, place) = self.place(index)?;
        let state = |direction| self.changed(columns.link(direction).state(place), direction);
        let t_ns = columns.t_ns().get(place).copied()?;
        Some((t_ns, Direction::BOTH.map(state)))
    }

    pub(super) fn row(&self, index: usize) -> Option<TraceRow> {
        let (columns, place) = self.place(index)?;
        let row = columns.row(place)?;
        Some(TraceRow {
            down: self.changed(row.down, Direction::Down),
            up: self.changed(row.up, Direction::Up),
            ..row
        })
    }
}
