//! Points at which a test may stop, kill or fail a process of this program.
//!
//! Only programs built with the feature `failpoints` have any; elsewhere the functions are empty.
//! Such a program that finds the variable `HEXLOOP_FAILPOINTS` tells the unix socket it names of
//! every point, and goes on when that says so.

use std::io;

/// A point that cannot fail: a test may kill the process here.
pub fn reach(name: &'static str) {
    // Whoever asks for an error here is not heard.
    let _ = fallible(name);
}

/// A point at which a test may also have the action fail.
///
/// # Errors
/// The one that the test wants.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub const fn fallible(_name: &'static str) -> io::Result<()> {
    Ok(())
}

/// A point at which a test may also have the action fail.
///
/// # Errors
/// The one that the test wants.
#[cfg(feature = "failpoints")]
pub fn fallible(name: &'static str) -> io::Result<()> {
    use std::io::{BufRead, BufReader, Write};
    use std::os::unix::net::UnixStream;

    let Some(path) = std::env::var_os("HEXLOOP_FAILPOINTS") else {
        return Ok(());
    };
    // A test that is over wants nothing any more.
    let Ok(mut stream) = UnixStream::connect(path) else {
        return Ok(());
    };
    let line = format!("{} {} {name}\n", std::process::id(), part());
    let mut answer = String::new();
    let asked = stream.write_all(line.as_bytes());
    if asked.is_err() || BufReader::new(stream).read_line(&mut answer).is_err() {
        return Ok(());
    }
    match answer.trim().parse() {
        Ok(0) | Err(_) => Ok(()),
        Ok(code) => Err(io::Error::from_raw_os_error(code)),
    }
}

/// The part that this process plays: `PART` of `hexloop agent PART` and `hexloop link PART`, else
/// the verb; a guardian's with its owner's name, such as `guard-agent`.
#[cfg(feature = "failpoints")]
fn part() -> String {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["agent", "guard", "--ledger", ledger] => {
            let file = ledger.rsplit('/').next().unwrap_or(ledger);
            let owner = file.split('-').next().unwrap_or(file);
            format!("guard-{owner}")
        }
        ["agent" | "link", part, ..] | [part, ..] => part.to_owned(),
        [] => String::new(),
    }
}

/// How long the flow of a calibration lasts: as planned, but in programs built for tests, which
/// have no use for what it measures.
#[must_use]
pub fn flow_ns(planned_ns: u64) -> u64 {
    #[cfg(feature = "failpoints")]
    if std::env::var_os("HEXLOOP_FAILPOINTS").is_some() {
        return planned_ns.min(100_000_000);
    }
    planned_ns
}
