//! One TCP flow, as fast as it goes.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};

use super::BenchError;
use super::scene::Nodes;

const PORT: u16 = 47_005;
const SEND_BYTES: usize = 256 * 1024;
const RECEIVE_BYTES: usize = 1024 * 1024;

/// A connection that cannot be made or used for so long is an error.
const PATIENCE: Duration = Duration::from_secs(5);

/// A flow that runs. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct TcpFlow {
    received: Arc<AtomicU64>,
    end: Arc<AtomicBool>,
    /// Shut down to wake both threads.
    sender: TcpStream,
    threads: Vec<JoinHandle<()>>,
    /// What controls its congestion.
    pub(super) congestion: String,
}

impl TcpFlow {
    /// Connects both nodes and starts to send. Cubic is asked for: BBR empties the path every
    /// ten seconds to measure it, which would count as the link's fault.
    pub(super) fn start(nodes: &Nodes) -> Result<TcpFlow, BenchError> {
        let target = (nodes.plan.ends[1].ipv4, PORT);
        let listener = nodes.inside(
            1,
            move || TcpListener::bind(target),
            "open the receiving end of a TCP flow",
        )?;
        let connect = move || {
            let stream = TcpStream::connect_timeout(&target.into(), PATIENCE)?;
            stream.set_write_timeout(Some(PATIENCE))?;
            Ok(stream)
        };
        let sender = nodes.inside(0, connect, "connect a TCP flow")?;
        let congestion = choose_congestion_control(&sender);
        let accept = || -> io::Result<TcpStream> {
            let (receiver, _) = listener.accept()?;
            receiver.set_read_timeout(Some(PATIENCE))?;
            Ok(receiver)
        };
        let receiver = accept().map_err(BenchError::socket("accept a TCP flow"))?;
        let writer = sender
            .try_clone()
            .map_err(BenchError::socket("share the socket of a TCP flow"))?;
        let mut flow = TcpFlow {
            received: Arc::new(AtomicU64::new(0)),
            end: Arc::new(AtomicBool::new(false)),
            sender,
            threads: Vec::new(),
            congestion,
        };
        let (received, end) = (Arc::clone(&flow.received), Arc::clone(&flow.end));
        flow.spawn("hx-tcp-in", move || receive(receiver, &received, &end))?;
        let end = Arc::clone(&flow.end);
        flow.spawn("hx-tcp-out", move || send(writer, &end))?;
        Ok(flow)
    }

    fn spawn(
        &mut self,
        name: &str,
        work: impl FnOnce() + Send + 'static,
    ) -> Result<(), BenchError> {
        let thread = thread::Builder::new().name(name.to_owned());
        let thread = thread.spawn(work);
        let thread = thread.map_err(BenchError::socket(format!("start thread {name}")))?;
        self.threads.push(thread);
        Ok(())
    }

    /// Payload bytes that have arrived so far.
    pub(super) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }
}

impl Drop for TcpFlow {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        // The other side may have ended already.
        let _ = self.sender.shutdown(Shutdown::Both);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn choose_congestion_control(stream: &TcpStream) -> String {
    match setsockopt(&stream.as_fd(), sockopt::TcpCongestion, &"cubic".into()) {
        Ok(()) => "cubic".to_owned(),
        Err(_) => nix::sys::socket::getsockopt(&stream.as_fd(), sockopt::TcpCongestion)
            .map_or_else(
                |_| "unknown".to_owned(),
                |name| name.to_string_lossy().trim_end_matches('\0').to_owned(),
            ),
    }
}

fn receive(mut stream: TcpStream, received: &AtomicU64, end: &AtomicBool) {
    let mut buffer = vec![0; RECEIVE_BYTES];
    while !end.load(Ordering::Relaxed) {
        match stream.read(&mut buffer) {
            Ok(0) => return,
            Ok(count) => {
                received.fetch_add(u64::try_from(count).unwrap_or(0), Ordering::Relaxed);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}

fn send(mut stream: TcpStream, end: &AtomicBool) {
    let buffer = vec![0x5a; SEND_BYTES];
    while !end.load(Ordering::Relaxed) {
        match stream.write(&buffer) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}
