//! Writes a run directory so that it is either whole or recognisably not: under a temporary
//! name, every file and directory synchronised, renamed at the end.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use hexloop_agent::failpoint;

use crate::format::utc_compact;

/// Where captures are, below a run directory.
pub(crate) const CAPTURES: &str = "captures";

/// What went wrong with a run directory.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {path}")]
pub struct RecordError {
    /// What was being done.
    pub action: &'static str,
    /// To which file or directory.
    pub path: PathBuf,
    /// The cause.
    #[source]
    pub source: io::Error,
}

pub(super) fn failed<'a>(
    action: &'static str,
    path: &'a Path,
) -> impl FnOnce(io::Error) -> RecordError + 'a {
    move |source| RecordError {
        action,
        path: path.to_owned(),
        source,
    }
}

/// The name of a run: experiment, moment and seed, with nothing in it that a path could not hold.
#[must_use]
pub fn run_name(experiment: &str, started_wall_clock_ns: u64, seed: u64) -> String {
    let safe = |c: char| {
        if c.is_ascii_alphanumeric() || "-_.".contains(c) {
            c
        } else {
            '-'
        }
    };
    let experiment: String = experiment.chars().map(safe).take(64).collect();
    let experiment = experiment.trim_start_matches('.');
    let experiment = if experiment.is_empty() {
        "run"
    } else {
        experiment
    };
    format!("{experiment}-{}-{seed}", utc_compact(started_wall_clock_ns))
}

/// A run directory that is being written.
#[derive(Debug)]
pub struct RunDirectory {
    root: PathBuf,
    name: String,
    events: Option<File>,
}

impl RunDirectory {
    /// The first free name like `name` below `root`, which must exist. Nothing is made yet, so
    /// that its undoing can be noted first.
    #[must_use]
    pub fn choose(root: &Path, name: &str) -> RunDirectory {
        let taken = |directory: &RunDirectory| {
            directory.path().exists()
                || directory.finished_path().exists()
                || directory.interrupted_path().exists()
        };
        let mut chosen = RunDirectory {
            root: root.to_owned(),
            name: name.to_owned(),
            events: None,
        };
        let mut number = 2_u32;
        while taken(&chosen) {
            chosen.name = format!("{name}-{number}");
            number += 1;
        }
        chosen
    }

    /// Its name at the end.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it is while it is being written.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.root.join(format!(".{}.partial", self.name))
    }

    /// Where it will be when it is whole.
    #[must_use]
    pub fn finished_path(&self) -> PathBuf {
        self.root.join(&self.name)
    }

    /// Where it will be when the run does not come to its end.
    #[must_use]
    pub fn interrupted_path(&self) -> PathBuf {
        self.root.join(format!("{}.interrupted", self.name))
    }

    /// Makes it and opens the event log.
    ///
    /// # Errors
    /// The directory cannot be made.
    pub fn create(&mut self) -> Result<(), RecordError> {
        let path = self.path();
        failpoint::fallible("run-directory")
            .and_then(|()| fs::create_dir(&path))
            .map_err(failed("make", &path))?;
        failpoint::reach("run-directory-made");
        for part in ["traces", "logs"] {
            let part = path.join(part);
            fs::create_dir(&part).map_err(failed("make", &part))?;
        }
        let events = path.join("events.ndjson");
        let file = OpenOptions::new()
            .append(true)
            .create_new(true)
            .open(&events);
        self.events = Some(file.map_err(failed("make", &events))?);
        Ok(())
    }

    /// Makes the place for captures, whose files somebody else writes.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn make_captures(&self) -> Result<PathBuf, RecordError> {
        let path = self.path().join(CAPTURES);
        fs::create_dir(&path).map_err(failed("make", &path))?;
        Ok(path)
    }

    /// Appends one line to the event log.
    ///
    /// # Errors
    /// The disk is full, or the directory was never made.
    pub fn append_event(&mut self, line: &str) -> Result<(), RecordError> {
        let path = self
            .root
            .join(format!(".{}.partial/events.ndjson", self.name));
        let Some(file) = &mut self.events else {
            return Err(failed("write", &path)(io::ErrorKind::NotFound.into()));
        };
        let mut text = String::with_capacity(line.len() + 1);
        text.push_str(line);
        text.push('\n');
        failpoint::fallible("event-write")
            .and_then(|()| file.write_all(text.as_bytes()))
            .map_err(failed("write", &path))
    }

    /// Appends a line to the log of one job or command.
    ///
    /// # Errors
    /// The disk is full.
    pub fn append_log(&self, node: &str, job: &str, line: &str) -> Result<(), RecordError> {
        let safe = |c: char| {
            if c.is_ascii_alphanumeric() || "-_.".contains(c) {
                c
            } else {
                '-'
            }
        };
        let name: String = format!("{node}.{job}").chars().map(safe).collect();
        let path = self
            .path()
            .join("logs")
            .join(format!("{}.log", name.trim_start_matches('.')));
        let file = OpenOptions::new().append(true).create(true).open(&path);
        let mut file = file.map_err(failed("open", &path))?;
        file.write_all(format!("{line}\n").as_bytes())
            .map_err(failed("write", &path))
    }

    /// Writes one file whole and synchronises it.
    ///
    /// # Errors
    /// The disk is full.
    pub fn write(&self, relative: &str, bytes: &[u8]) -> Result<(), RecordError> {
        write_synchronised(&self.path().join(relative), bytes)
    }

    /// Copies a file into it.
    ///
    /// # Errors
    /// The file cannot be read, or the disk is full.
    pub fn copy(&self, relative: &str, source: &Path) -> Result<(), RecordError> {
        let path = self.path().join(relative);
        fs::copy(source, &path)
            .and_then(|_| File::open(&path)?.sync_all())
            .map_err(failed("copy a trace to", &path))
    }

    /// Synchronises everything and gives the directory its final name: the whole one, or that
    /// of an interrupted run. Returns where it is.
    ///
    /// # Errors
    /// The disk failed.
    pub fn finish(mut self, complete: bool) -> Result<PathBuf, RecordError> {
        let path = self.path();
        if let Some(events) = self.events.take() {
            events.sync_all().map_err(failed("synchronise", &path))?;
        }
        let captures = path.join(CAPTURES);
        if captures.exists() {
            synchronise_files(&captures)?;
            synchronise_directory(&captures)?;
        }
        for directory in [path.join("traces"), path.join("logs"), path.clone()] {
            synchronise_directory(&directory)?;
        }
        let target = if complete {
            self.finished_path()
        } else {
            self.interrupted_path()
        };
        failpoint::fallible("run-rename")
            .and_then(|()| fs::rename(&path, &target))
            .map_err(failed("rename", &path))?;
        synchronise_directory(&self.root)?;
        Ok(target)
    }
}

/// Writes a file under a temporary name beside it, synchronises it and renames it.
pub(crate) fn write_synchronised(path: &Path, bytes: &[u8]) -> Result<(), RecordError> {
    let name = path
        .file_name()
        .map(|name| name.to_string_lossy().into_owned());
    let temporary = path.with_file_name(format!(".{}.new", name.unwrap_or_default()));
    let write = || {
        failpoint::fallible("record-write")?;
        let mut file = File::create(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    write().map_err(|error| {
        // What was written of it is of no use; failing to remove it changes nothing.
        let _ = fs::remove_file(&temporary);
        failed("write", path)(error)
    })
}

/// Synchronises the files in a directory that others wrote.
fn synchronise_files(directory: &Path) -> Result<(), RecordError> {
    for entry in fs::read_dir(directory).map_err(failed("list", directory))? {
        let path = entry.map_err(failed("list", directory))?.path();
        File::open(&path)
            .and_then(|file| file.sync_all())
            .map_err(failed("synchronise", &path))?;
    }
    Ok(())
}

fn synchronise_directory(path: &Path) -> Result<(), RecordError> {
    File::open(path)
        .and_then(|file| file.sync_all())
        .map_err(failed("synchronise", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_name_holds_nothing_that_a_path_could_not() {
        assert_eq!(run_name("../<b>", 0, 7), "--b--19700101T000000Z-7");
        assert_eq!(
            run_name("quickstart", 0, 1),
            "quickstart-19700101T000000Z-1"
        );
    }

    #[test]
    fn a_finished_directory_has_its_name_and_no_temporary_files() {
        let root = tempfile::tempdir().unwrap();
        let mut run = RunDirectory::choose(root.path(), "r");
        run.create().unwrap();
        run.write("plan.json", b"{}").unwrap();
        run.append_event("{\"a\":1}").unwrap();
        run.append_event("{\"a\":2}").unwrap();
        let path = run.finish(true).unwrap();
        assert_eq!(path, root.path().join("r"));
        let events = fs::read_to_string(path.join("events.ndjson")).unwrap();
        assert_eq!(events, "{\"a\":1}\n{\"a\":2}\n");
        let mut names: Vec<_> = fs::read_dir(&path)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        names.sort();
        assert_eq!(names, ["events.ndjson", "logs", "plan.json", "traces"]);
    }

    #[test]
    fn captures_have_a_place_of_their_own_where_they_were_asked_for() {
        let root = tempfile::tempdir().unwrap();
        let mut run = RunDirectory::choose(root.path(), "r");
        run.create().unwrap();
        let captures = run.make_captures().unwrap();
        fs::write(captures.join("radio-up.pcapng"), b"x").unwrap();
        let path = run.finish(true).unwrap();
        assert!(path.join("captures/radio-up.pcapng").is_file());
    }

    #[test]
    fn a_taken_name_gets_a_number_and_an_interrupted_run_keeps_its_own() {
        let root = tempfile::tempdir().unwrap();
        let mut run = RunDirectory::choose(root.path(), "r");
        run.create().unwrap();
        assert_eq!(
            run.finish(false).unwrap(),
            root.path().join("r.interrupted")
        );
        assert_eq!(RunDirectory::choose(root.path(), "r").name(), "r-2");
    }
}
