//! The holder's own copy of the trace that it follows: a file without a name in the state directory,
//! handed over open.
//!
//! The holder outlives the command that applies by hours, and so it must not depend on the file that
//! the trace came from: who rewrites that, or deletes it, changes nothing. The copy has what the
//! command's options make of the trace, and is written and read a row at a time; its rows are checked
//! against the hash that is in it. Since it has no name, nothing is left of it when the last of the two
//! processes is gone, however it went.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::RawFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use hexloop_traces::format::{MOST_ROWS_COPIED, read_open, write_open};
use hexloop_traces::{Trace, TraceError};

use super::{HoldError, system};
use crate::sys::spawn;

/// Copies a trace. The file is open for reading and writing.
pub(super) fn copy(trace: &Trace, state: &Path) -> Result<File, HoldError> {
    let written = || -> Result<File, TraceError> {
        let stream = |source| TraceError::Stream {
            action: "write",
            source,
        };
        let file = nameless(state).map_err(stream)?;
        write_open(file.try_clone().map_err(stream)?, trace)?;
        Ok(file)
    };
    written().map_err(|source| HoldError::Copy {
        rows: trace.row_count(),
        directory: state.to_owned(),
        source: Box::new(source),
    })
}

/// The copy, on the holder's side. Of a long trace the rows stay in the file, which this keeps.
pub(super) fn open(descriptor: RawFd) -> Result<Trace, HoldError> {
    let file = spawn::adopt(descriptor).map_err(system("take over the trace"))?;
    let wrong = |error| system("read the copy of the trace")(io::Error::other(error));
    let trace = read_open(&File::from(file)).map_err(wrong)?;
    if u64::try_from(trace.row_count()).is_ok_and(|rows| rows > MOST_ROWS_COPIED) {
        return Ok(trace);
    }
    Trace::new(trace.metadata().clone(), trace.iter().collect()).map_err(wrong)
}

/// A file without a name; where the file system has none (O_TMPFILE of open(2)), one whose name is
/// taken away at once.
fn nameless(directory: &Path) -> io::Result<File> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)?;
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    let made = options
        .clone()
        .custom_flags(libc::O_TMPFILE)
        .open(directory);
    match made {
        Err(error) if matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EISDIR)) => {
            let path = directory.join(format!("trace-{}.arrow", std::process::id()));
            let file = options.create_new(true).open(&path)?;
            fs::remove_file(&path)?;
            Ok(file)
        }
        made => made,
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::IntoRawFd;

    use hexloop_traces::EndPolicy;

    use super::*;
    use crate::link::testing::{MS, state, trace};

    #[test]
    fn a_copy_is_the_trace_and_leaves_no_name_behind() {
        let directory = tempfile::tempdir().unwrap();
        let rows = [(MS, state(8_000_000, 7)), (2 * MS, state(0, 9))];
        let trace = trace(EndPolicy::Loop, &rows);
        let copy = copy(&trace, &directory.path().join("state")).unwrap();
        assert_eq!(
            fs::read_dir(directory.path().join("state"))
                .unwrap()
                .count(),
            0
        );
        let read = open(copy.into_raw_fd()).unwrap();
        assert_eq!((read == trace, read.is_mapped()), (true, false));
    }

    #[test]
    fn a_copy_that_is_not_what_was_written_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let trace = trace(EndPolicy::Loop, &[(MS, state(8_000_000, 7))]);
        let copy = copy(&trace, directory.path()).unwrap();
        copy.set_len(copy.metadata().unwrap().len() / 2).unwrap();
        let error = open(copy.into_raw_fd()).unwrap_err();
        assert!(error.to_string().contains("read the copy"), "{error}");
    }

    #[test]
    fn where_there_is_no_room_for_a_copy_the_remedy_says_where() {
        let directory = tempfile::tempdir().unwrap();
        let taken = directory.path().join("state");
        fs::write(&taken, "a file").unwrap();
        let trace = trace(EndPolicy::Loop, &[(MS, state(8_000_000, 7))]);
        let error = copy(&trace, &taken).unwrap_err();
        let (told, remedy) = (error.to_string(), error.remedy().unwrap());
        assert!(told.contains(taken.to_str().unwrap()), "{told}");
        assert!(remedy.contains("make room"), "{remedy}");
    }
}
