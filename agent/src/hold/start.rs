//! The way between a holder and whoever started it: an order on its standard input, events on its
//! standard output, both a line of JSON each, and the trace in a file that it inherits open.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use hexloop_traces::Trace;
use serde::{Deserialize, Serialize};

use super::check::check_asked;
use super::{HoldError, HoldEvent, HoldOrder, copy, system};
use crate::failpoint;
use crate::process::SelfCommand;
use crate::sys::spawn;

/// The largest order, in bytes.
const LARGEST_ORDER: u64 = 1 << 20;

/// The word that confirms: the machine can still be reached.
pub(super) const CONFIRM: u8 = b'C';

/// The word that somebody else will confirm, or nobody.
pub(super) const LATER: u8 = b'L';

/// An order with the trace's descriptor in the holder.
#[derive(Debug, Serialize, Deserialize)]
struct Handed<Order> {
    order: Order,
    trace_descriptor: RawFd,
}

/// The side of whoever asked for it.
#[derive(Debug)]
pub struct Holder {
    child: Child,
    orders: ChildStdin,
    events: BufReader<ChildStdout>,
}

impl Holder {
    /// Starts a holder in a session of its own, with its own copy of the trace.
    ///
    /// # Errors
    /// It may be refused without looking at the trace; there is no room for a copy of that, or no
    /// process can be started.
    pub fn start(
        order: &HoldOrder,
        trace: &Trace,
        state_directory: &Path,
    ) -> Result<Holder, HoldError> {
        // The holder checks it again. A long trace is not copied for nothing.
        check_asked(order)?;
        let trace = copy::copy(trace, state_directory)?;
        let trace_descriptor = trace.as_raw_fd();
        let mut command = SelfCommand::hexloop().part("keep");
        command.arg("--state-directory").arg(state_directory);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        // It outlives this process, and so does its guardian: they must not keep the terminal, or
        // the pipe that somebody reads this process's words from.
        command.stderr(Stdio::null());
        command.current_dir("/");
        spawn::in_own_session(&mut command);
        spawn::handing_over(&mut command, trace_descriptor);
        failpoint::reach("holder-spawn");
        let mut child = command.spawn().map_err(system("start the holder"))?;
        let (orders, events) = match (child.stdin.take(), child.stdout.take()) {
            (Some(orders), Some(events)) => (orders, BufReader::new(events)),
            _ => {
                return Err(system("talk to the holder")(
                    io::ErrorKind::BrokenPipe.into(),
                ));
            }
        };
        let mut holder = Holder {
            child,
            orders,
            events,
        };
        drop(trace);
        let handed = Handed {
            order,
            trace_descriptor,
        };
        let line = serde_json::to_string(&handed).map_err(io::Error::other);
        line.and_then(|line| holder.orders.write_all(format!("{line}\n").as_bytes()))
            .map_err(system("talk to the holder"))?;
        failpoint::reach("holder-ordered");
        Ok(holder)
    }

    /// The next event; `None` when the holder is gone.
    ///
    /// # Errors
    /// It does not keep to the form.
    pub fn next_event(&mut self) -> Result<Option<HoldEvent>, HoldError> {
        let mut line = String::new();
        self.events
            .read_line(&mut line)
            .map_err(system("hear from the holder"))?;
        failpoint::reach("holder-heard");
        if line.is_empty() {
            // It is gone; how it went is told by the missing event.
            let _ = self.child.wait();
            return Ok(None);
        }
        serde_json::from_str(&line)
            .map(Some)
            .map_err(|error| system("understand the holder")(io::Error::other(error)))
    }

    /// Confirms: the machine can still be reached.
    ///
    /// # Errors
    /// The holder is gone.
    pub fn confirm(&mut self) -> Result<(), HoldError> {
        self.orders
            .write_all(&[CONFIRM])
            .map_err(system("confirm to the holder"))
    }

    /// Leaves the confirmation to somebody else.
    ///
    /// # Errors
    /// The holder is gone.
    pub fn leave(mut self) -> Result<(), HoldError> {
        self.orders
            .write_all(&[LATER])
            .map_err(system("leave the holder"))
    }
}

/// The order and the trace, on the holder's side.
pub(super) fn read_order() -> Result<(HoldOrder, Trace), HoldError> {
    // Byte by byte: what follows the line is not ours to swallow.
    let mut line = Vec::new();
    let mut input = io::stdin()
        .as_fd()
        .try_clone_to_owned()
        .map(std::fs::File::from)
        .map_err(system("read the order"))?
        .take(LARGEST_ORDER);
    let mut byte = [0];
    while input.read(&mut byte).map_err(system("read the order"))? == 1 && byte != *b"\n" {
        line.extend(byte);
    }
    let handed: Handed<HoldOrder> = serde_json::from_slice(&line)
        .map_err(|error| system("understand the order")(io::Error::other(error)))?;
    Ok((handed.order, copy::open(handed.trace_descriptor)?))
}

/// Tells whoever started this process; one that is gone does not hear it.
pub(super) fn tell(event: &HoldEvent) {
    if let Ok(line) = serde_json::to_string(event) {
        let mut output = io::stdout().lock();
        let _ = output
            .write_all(format!("{line}\n").as_bytes())
            .and_then(|()| output.flush());
    }
}

/// Nobody listens from here on, and nobody's terminal or pipe is to be kept open.
pub(super) fn leave_the_terminal() {
    let Ok(nothing) = std::fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/null")
    else {
        return;
    };
    // What cannot be replaced stays open, which keeps a pipe from ending but harms nothing else.
    let _ = nix::unistd::dup2_stdin(&nothing);
    let _ = nix::unistd::dup2_stdout(&nothing);
}
