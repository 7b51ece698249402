//! The windows of a link as they close: summed up, and written to DIR/link.csv.

use std::fs::{self, File};
use std::path::Path;

use hexloop_proto::LinkWindow;
use hexloop_traces::Direction;

use super::summary::Sums;
use crate::exit_code::ExitCode;
use crate::failure::{Failure, OrFail};
use crate::record::{LINK_COLUMNS, link_row};

/// What the log says of the phase: a command has only one.
const PHASE: &str = "command";

/// Where windows go.
#[derive(Debug)]
pub(super) struct Log {
    /// In the order of [`Direction::BOTH`].
    pub(super) sums: [Sums; 2],
    rows: Option<csv::Writer<File>>,
    failed: Option<csv::Error>,
}

impl Log {
    /// Makes the directory and the table in it, if one is asked for, of a link with that MTU.
    pub(super) fn open(directory: Option<&Path>, mtu: u32) -> Result<Log, Failure> {
        let log = Log {
            sums: [Sums::new(mtu); 2],
            rows: None,
            failed: None,
        };
        let Some(directory) = directory else {
            return Ok(log);
        };
        let path = directory.join("link.csv");
        let doing = || format!("cannot write the log {}", path.display());
        fs::create_dir_all(directory).or_fail(ExitCode::Failed, doing)?;
        let mut rows = csv::Writer::from_path(&path).or_fail(ExitCode::Failed, doing)?;
        rows.write_record(LINK_COLUMNS)
            .or_fail(ExitCode::Failed, doing)?;
        Ok(Log {
            rows: Some(rows),
            ..log
        })
    }

    /// Takes one window.
    pub(super) fn take(&mut self, window: &LinkWindow) {
        self.sums[usize::from(window.direction == Direction::Up)].add(window);
        if let Some(rows) = &mut self.rows
            && self.failed.is_none()
        {
            self.failed = rows.write_record(link_row(PHASE, window)).err();
        }
    }

    /// Writes what is left. What was counted, and the first failure, which the command was not to suffer for.
    pub(super) fn finish(self) -> ([Sums; 2], Result<(), Failure>) {
        let written = match (self.failed, self.rows) {
            (Some(error), _) => Err(error),
            (None, Some(mut rows)) => rows.flush().map_err(csv::Error::from),
            (None, None) => Ok(()),
        };
        let written = written.or_fail(ExitCode::Failed, || {
            "cannot write the log link.csv; what it has is not the whole run".to_owned()
        });
        (self.sums, written)
    }
}
