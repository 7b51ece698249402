//! The other end of the program's failpoints: hears of every point that its processes reach, and
//! says what happens there.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

/// A point that a process has reached.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Point {
    /// The part that the process plays: `apply`, `keep`, `guard`, ...
    pub part: String,
    /// The name of the point.
    pub name: String,
    /// How often that part has reached it before.
    pub before: usize,
}

/// What happens at a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The process goes on.
    Go,
    /// What it does there fails with this error number.
    Fail(i32),
}

/// Decides what happens, told the point and the process; it may kill that process.
type Decide = Box<dyn FnMut(&Point, u32) -> Answer + Send>;

struct Heard {
    points: Vec<Point>,
    decide: Option<Decide>,
}

/// Listens on a socket of its own.
pub struct Points {
    path: PathBuf,
    heard: Arc<Mutex<Heard>>,
    thread: Option<JoinHandle<()>>,
}

impl std::fmt::Debug for Points {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Points").field("path", &self.path).finish()
    }
}

impl Points {
    /// Listens at `path`, which is to be the value of `HEXLOOP_FAILPOINTS`.
    ///
    /// # Panics
    /// It cannot.
    #[must_use]
    pub fn listen(path: &Path) -> Points {
        let listener = UnixListener::bind(path).expect("a socket for the failpoints");
        let heard = Arc::new(Mutex::new(Heard {
            points: Vec::new(),
            decide: None,
        }));
        let hears = Arc::clone(&heard);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if !hear(stream, &hears) {
                    break;
                }
            }
        });
        Points {
            path: path.to_owned(),
            heard,
            thread: Some(thread),
        }
    }

    /// Forgets the points so far, and decides anew from here on.
    pub fn decide(&self, decide: impl FnMut(&Point, u32) -> Answer + Send + 'static) {
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.points.clear();
        heard.decide = Some(Box::new(decide));
    }

    /// The points so far, in order.
    #[must_use]
    pub fn so_far(&self) -> Vec<Point> {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.points.clone()
    }
}

/// How many sets of victims each point gets: `HEXLOOP_FAULT_ROUNDS`, 1 without it.
///
/// # Panics
/// It is no number.
#[must_use]
pub fn rounds() -> usize {
    std::env::var("HEXLOOP_FAULT_ROUNDS").map_or(1, |text| text.parse().expect("a number"))
}

/// At most so many of them, spread over all.
#[must_use]
pub fn spread<'a>(points: &[&'a Point], most: usize) -> Vec<&'a Point> {
    let every = points.len().div_ceil(most.max(1)).max(1);
    let spread = points.iter().copied().skip(every / 2).step_by(every);
    spread.take(most).collect()
}

/// What tells the listener that it is over.
const END: &str = "\n";

/// Hears one process out and answers; false when it is time to end.
fn hear(mut stream: UnixStream, heard: &Mutex<Heard>) -> bool {
    let mut line = String::new();
    let Ok(reader) = stream.try_clone() else {
        return true;
    };
    if BufReader::new(reader).read_line(&mut line).is_err() {
        return true;
    }
    if line == END {
        return false;
    }
    let mut words = line.split_ascii_whitespace();
    let (Some(pid), Some(part), Some(name)) = (words.next(), words.next(), words.next()) else {
        // A process that was killed before it had said where it is.
        return true;
    };
    let pid = pid.parse().unwrap_or(0);
    let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
    let before = heard
        .points
        .iter()
        .filter(|point| point.part == part && point.name == name)
        .count();
    let point = Point {
        part: part.to_owned(),
        name: name.to_owned(),
        before,
    };
    heard.points.push(point.clone());
    let answer = match &mut heard.decide {
        Some(decide) => decide(&point, pid),
        None => Answer::Go,
    };
    drop(heard);
    let number = match answer {
        Answer::Go => 0,
        Answer::Fail(number) => number,
    };
    // A process that was killed here does not hear it.
    let _ = stream.write_all(format!("{number}\n").as_bytes());
    true
}

impl Drop for Points {
    fn drop(&mut self) {
        if let Ok(mut stream) = UnixStream::connect(&self.path) {
            let _ = stream.write_all(END.as_bytes());
        }
        if let Some(thread) = self.thread.take() {
            // A panic there was printed when it happened.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_is_killed_before_it_says_a_word_ends_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("points");
        let points = Points::listen(&path);
        for said in ["", "12", "12 serve", "12 serve made\n"] {
            let mut stream = UnixStream::connect(&path).unwrap();
            stream.write_all(said.as_bytes()).unwrap();
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            let mut answer = String::new();
            BufReader::new(stream).read_line(&mut answer).unwrap();
            assert_eq!(answer == "0\n", said.ends_with('\n'), "{said:?}");
        }
        assert_eq!(points.so_far().len(), 1);
    }
}
