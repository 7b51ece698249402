//! The ledger: what will have to be undone, written and synchronised before it is done.
//!
//! One file of JSON lines per owner, below `ledgers` of the state directory. Owner and guardian
//! each hold a shared lock on it, so that an exclusive lock proves that both are gone.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use nix::fcntl::{Flock, FlockArg};
use nix::sys::stat::{major, minor};
use serde::{Deserialize, Serialize};

use crate::failpoint;
use crate::process::ProcessIdentity;
use crate::undo::{InterfaceIdentity, Undo};

/// The version of the ledger's lines; 1 knew processes, control groups, directories and files.
const LEDGER_SCHEMA: u32 = 2;

/// Number of an entry in its ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UndoId(pub(crate) u64);

/// What went wrong with a ledger.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {path}")]
pub struct LedgerError {
    /// What was being done.
    pub action: &'static str,
    /// To which file.
    pub path: PathBuf,
    /// The cause.
    #[source]
    pub source: io::Error,
}

/// Who wrote a ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerOwner {
    /// Version of the lines that follow.
    pub schema: u32,
    /// What the owner calls itself, such as `agent` or `controller`.
    pub name: String,
    /// The owner.
    pub process: ProcessIdentity,
    /// `/proc/sys/kernel/random/boot_id` when it was written.
    pub boot_id: String,
    /// The process-id namespace that its numbers belong to.
    pub pid_namespace: String,
}

/// An interface that is shaped until a lease ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Which one.
    pub interface: InterfaceIdentity,
    /// How, in words.
    pub shape: String,
    /// Since when, in nanoseconds since 1970.
    pub since_unix_ns: u64,
    /// Until when, in nanoseconds since the machine was started.
    pub until_boot_ns: u64,
    /// Whether somebody has confirmed that the machine can still be reached.
    pub confirmed: bool,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Line {
    Owner(LedgerOwner),
    Held(Held),
    Do { id: UndoId, action: Undo },
    Done { id: UndoId },
}

/// The boot that this is; empty where the kernel does not tell, to whoever writes a ledger and whoever reads it alike.
pub(crate) fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map(|text| text.trim().to_owned())
        .unwrap_or_default()
}

/// The process-id namespace that this process sees.
pub(crate) fn pid_namespace() -> String {
    fs::read_link("/proc/self/ns/pid")
        .map(|path| path.to_string_lossy().into_owned())
        .unwrap_or_default()
}

/// Where the ledgers of a state directory are.
pub(crate) fn ledger_directory(state_directory: &Path) -> PathBuf {
    state_directory.join("ledgers")
}

fn failed<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> LedgerError + 'a {
    move |source| LedgerError {
        action,
        path: path.to_owned(),
        source,
    }
}

/// Whether the path still leads to this very file.
pub(crate) fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::metadata(path)) {
        (Ok(ours), Ok(there)) => ours.dev() == there.dev() && ours.ino() == there.ino(),
        _ => false,
    }
}

/// Appends a line and synchronises it. What is left of one that does not fit is cut off again, so
/// that the next line starts where a line starts.
fn append_whole(mut file: &File, path: &Path, bytes: u64, text: &str) -> Result<(), LedgerError> {
    let written = failpoint::fallible("ledger-write")
        .and_then(|()| file.write_all(text.as_bytes()))
        .map_err(failed("write", path))
        .and_then(|()| {
            failpoint::fallible("ledger-synchronise")
                .and_then(|()| file.sync_data())
                .map_err(failed("synchronise", path))
        });
    match written {
        Ok(()) => failpoint::reach("ledger-written"),
        // A disk that is full has room to make a file shorter.
        Err(_) => file.set_len(bytes).map_err(failed("mend", path))?,
    }
    written
}

/// A ledger that is being written.
#[derive(Debug)]
pub(crate) struct LedgerWriter {
    path: PathBuf,
    file: Flock<File>,
    /// Length of the lines that are whole.
    bytes: u64,
    next: u64,
}

impl LedgerWriter {
    /// Where a new one of this process can be; nothing is made but its directory.
    pub(crate) fn choose(state_directory: &Path, name: &str) -> Result<PathBuf, LedgerError> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let directory = ledger_directory(state_directory);
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&directory)
            .map_err(failed("make the directory", &directory))?;
        let process = ProcessIdentity::of_this_process()
            .map_err(failed("read", Path::new("/proc/self/stat")))?;
        loop {
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            let path = directory.join(format!(
                "{name}-{}-{}-{number}.ledger",
                process.pid, process.start_time_ticks
            ));
            if !path.exists() {
                return Ok(path);
            }
        }
    }

    /// Starts a new one for this process, where [`LedgerWriter::choose`] said.
    pub(crate) fn create(path: &Path, name: &str) -> Result<LedgerWriter, LedgerError> {
        let process = ProcessIdentity::of_this_process()
            .map_err(failed("read", Path::new("/proc/self/stat")))?;
        let file = loop {
            let file = OpenOptions::new()
                .append(true)
                .create_new(true)
                .mode(0o600)
                .open(path)
                .map_err(failed("create", path))?;
            let file = Flock::lock(file, FlockArg::LockShared)
                .map_err(|(_, error)| failed("lock", path)(error.into()))?;
            // Somebody who cleans up may have taken the empty file away before it was locked.
            if is_at(&file, path) {
                break file;
            }
        };
        let mut writer = LedgerWriter {
            path: path.to_owned(),
            file,
            bytes: 0,
            next: 0,
        };
        writer.append(&Line::Owner(LedgerOwner {
            schema: LEDGER_SCHEMA,
            name: name.to_owned(),
            process,
            boot_id: boot_id(),
            pid_namespace: pid_namespace(),
        }))?;
        let directory = path.parent().unwrap_or(Path::new("/"));
        File::open(directory)
            .and_then(|directory| directory.sync_all())
            .map_err(failed("synchronise", directory))?;
        Ok(writer)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn append(&mut self, line: &Line) -> Result<(), LedgerError> {
        let path = &self.path;
        let mut text =
            serde_json::to_string(line).map_err(|e| failed("write", path)(io::Error::other(e)))?;
        text.push('\n');
        append_whole(&self.file, path, self.bytes, &text)?;
        self.bytes += u64::try_from(text.len()).unwrap_or(0);
        Ok(())
    }

    /// Notes that an interface is held, and until when.
    pub(crate) fn hold(&mut self, held: &Held) -> Result<(), LedgerError> {
        self.append(&Line::Held(held.clone()))
    }

    /// The open file, locked.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Notes what will have to be undone. When this returns, the note is on the disk.
    pub(crate) fn record(&mut self, action: Undo) -> Result<UndoId, LedgerError> {
        let id = UndoId(self.next);
        self.append(&Line::Do { id, action })?;
        self.next += 1;
        Ok(id)
    }

    /// Notes that nothing is left to undo for this entry.
    pub(crate) fn done(&mut self, id: UndoId) -> Result<(), LedgerError> {
        self.append(&Line::Done { id })
    }
}

/// A ledger as it was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct LedgerContent {
    /// Who wrote it; `None` when the owner was killed before it had written that.
    pub(crate) owner: Option<LedgerOwner>,
    /// The interface that it holds.
    pub(crate) held: Option<Held>,
    /// What is still to be undone, the latest last.
    pub(crate) outstanding: Vec<(UndoId, Undo)>,
    /// Whole lines that are not understood.
    pub(crate) foreign_lines: usize,
    /// Length of its whole lines in bytes: what follows is torn.
    pub(crate) whole_bytes: usize,
}

impl LedgerContent {
    /// Reads the text of a ledger. A last line without its end is ignored: the action that it
    /// notes was never begun, because the note was not finished.
    pub(crate) fn parse(text: &str) -> LedgerContent {
        let mut content = LedgerContent::default();
        for line in text
            .split_inclusive('\n')
            .filter(|line| line.ends_with('\n'))
        {
            content.whole_bytes += line.len();
            match serde_json::from_str(line) {
                Ok(Line::Owner(owner)) if owner.schema > LEDGER_SCHEMA => {
                    content.owner = Some(owner);
                    content.foreign_lines += 1;
                }
                Ok(Line::Owner(owner)) => content.owner = Some(owner),
                Ok(Line::Held(held)) => content.held = Some(held),
                Ok(Line::Do { id, action }) => content.outstanding.push((id, action)),
                Ok(Line::Done { id: done }) => content.outstanding.retain(|(id, _)| *id != done),
                Err(_) => content.foreign_lines += 1,
            }
        }
        content
    }

    pub(crate) fn read(path: &Path) -> Result<LedgerContent, LedgerError> {
        let bytes = fs::read(path).map_err(failed("read", path))?;
        Ok(LedgerContent::parse(&String::from_utf8_lossy(&bytes)))
    }
}

/// Opens an existing ledger and locks it: shared for a guardian, exclusive for a replay.
/// `Ok(None)` when it is gone, or locked in a way that forbids this lock.
pub(crate) fn open_locked(path: &Path, lock: FlockArg) -> Result<Option<Flock<File>>, LedgerError> {
    let file = match OpenOptions::new().append(true).read(true).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("open", path)(error)),
    };
    match Flock::lock(file, lock) {
        Ok(file) if is_at(&file, path) => Ok(Some(file)),
        Ok(_) | Err((_, nix::Error::EWOULDBLOCK)) => Ok(None),
        Err((_, error)) => Err(failed("lock", path)(error.into())),
    }
}

/// The processes that hold a lock on a ledger, as far as the kernel tells this one.
pub(crate) fn holders(path: &Path) -> Vec<u32> {
    let Ok(found) = fs::metadata(path) else {
        return Vec::new();
    };
    let device = found.dev();
    let file = format!(
        "{:02x}:{:02x}:{}",
        major(device),
        minor(device),
        found.ino()
    );
    let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
    holders_in(&locks, &file)
}

/// The processes that `/proc/locks` gives for a file: of each line the fifth word is the process, 0 for
/// one that cannot be seen from here, and the sixth the file.
fn holders_in(locks: &str, file: &str) -> Vec<u32> {
    let holder = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            [_, "FLOCK", _, _, process, locked, ..] if locked == file => {
                process.parse::<u32>().ok().filter(|&process| process > 0)
            }
            _ => None,
        }
    };
    locks.lines().filter_map(holder).collect()
}

/// Notes in an opened ledger that an entry has been undone.
pub(crate) fn append_done(file: &File, path: &Path, id: UndoId) -> Result<(), LedgerError> {
    let text = serde_json::to_string(&Line::Done { id })
        .map_err(|e| failed("write", path)(io::Error::other(e)))?;
    let bytes = file.metadata().map_err(failed("read", path))?.len();
    append_whole(file, path, bytes, &format!("{text}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new_ledger(state: &Path) -> LedgerWriter {
        let path = LedgerWriter::choose(state, "test").unwrap();
        LedgerWriter::create(&path, "test").unwrap()
    }

    fn remove(name: &str) -> Undo {
        Undo::RemoveDirectory {
            path: format!("/nowhere/{name}").into(),
        }
    }

    #[test]
    fn what_was_recorded_and_not_done_is_outstanding_in_order() {
        let state = tempfile::tempdir().unwrap();
        let mut writer = new_ledger(state.path());
        let first = writer.record(remove("a")).unwrap();
        let second = writer.record(remove("b")).unwrap();
        let third = writer.record(remove("c")).unwrap();
        writer.done(second).unwrap();
        let content = LedgerContent::read(writer.path()).unwrap();
        assert_eq!(
            content.outstanding,
            [(first, remove("a")), (third, remove("c"))]
        );
        let owner = content.owner.unwrap();
        assert_eq!(owner.process, ProcessIdentity::of_this_process().unwrap());
        assert_eq!(owner.boot_id, boot_id());
    }

    #[test]
    fn a_ledger_torn_at_any_byte_keeps_every_whole_line() {
        let state = tempfile::tempdir().unwrap();
        let mut writer = new_ledger(state.path());
        writer.record(remove("a")).unwrap();
        writer.record(remove("b")).unwrap();
        let text = fs::read_to_string(writer.path()).unwrap();
        for length in 0..=text.len() {
            let content = LedgerContent::parse(&text[..length]);
            let whole_lines = text[..length].matches('\n').count();
            assert_eq!(
                content.outstanding.len(),
                whole_lines.saturating_sub(1),
                "at {length}"
            );
            assert_eq!(content.foreign_lines, 0);
        }
    }

    #[test]
    fn a_ledger_of_a_later_version_is_not_understood() {
        let state = tempfile::tempdir().unwrap();
        let writer = new_ledger(state.path());
        let text = fs::read_to_string(writer.path()).unwrap();
        assert_eq!(LedgerContent::parse(&text).foreign_lines, 0);
        let schema = format!("\"schema\":{LEDGER_SCHEMA}");
        let later = text.replace(&schema, "\"schema\":99");
        assert_ne!(later, text);
        assert_eq!(LedgerContent::parse(&later).foreign_lines, 1);
    }

    #[test]
    fn the_kernel_tells_who_holds_a_file() {
        let locks = "1: FLOCK  ADVISORY  READ  812 fd:01:77 0 EOF\n\
                     2: POSIX  ADVISORY  WRITE 813 fd:01:77 0 EOF\n\
                     2: -> FLOCK  ADVISORY  WRITE 814 fd:01:77 0 EOF\n\
                     3: FLOCK  ADVISORY  READ  0 fd:01:77 0 EOF\n\
                     4: FLOCK  ADVISORY  READ  815 fd:01:770 0 EOF\n\
                     5: FLOCK  ADVISORY  READ  816 fd:01:77 0 EOF\n";
        assert_eq!(holders_in(locks, "fd:01:77"), [812, 816]);
    }

    #[test]
    fn a_ledger_is_locked_against_replay_as_long_as_its_writer_lives() {
        let state = tempfile::tempdir().unwrap();
        let writer = new_ledger(state.path());
        let path = writer.path().to_owned();
        assert!(
            open_locked(&path, FlockArg::LockExclusiveNonblock)
                .unwrap()
                .is_none()
        );
        assert!(
            open_locked(&path, FlockArg::LockSharedNonblock)
                .unwrap()
                .is_some()
        );
        drop(writer);
        assert!(
            open_locked(&path, FlockArg::LockExclusiveNonblock)
                .unwrap()
                .is_some()
        );
    }
}
