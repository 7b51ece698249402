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
    // `hexloop agent PART`, `hexloop link PART`, or a verb without parts.
    let mut words = std::env::args().skip(1).take(2);
    let part = words.next().unwrap_or_default();
    let part = words.next().unwrap_or(part);
    let line = format!("{} {part} {name}\n", std::process::id());
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
