//! Whence the lines of external meters come: a program's output, or whoever connects.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;
use std::time::Duration;

use hexloop_telemetry::{ExternalFeed, ExternalSpec, Scope};
use hexloop_topologies::{HostMeter, MeterLines};
use hexloop_workloads::clock;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::net::{TcpListener, UnixListener};
use tokio::process::{Child, Command};
use tokio::runtime::Runtime;

use crate::guardian::{Guardian, GuardianError};
use crate::process::ProcessIdentity;
use crate::undo::Undo;

/// The longest line that is looked at.
const LONGEST_LINE: usize = 1024;
/// Time between two attempts to accept, after one that failed.
const PAUSE: Duration = Duration::from_millis(100);
/// How long it may take to end them.
const END_LIMIT: Duration = Duration::from_millis(500);

/// Why lines of an external meter cannot be taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FeedError {
    /// Its program cannot be started, or nothing can listen where it is to be heard.
    #[error("cannot take lines of the external meter {name}")]
    Open {
        /// Its name.
        name: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The guardian.
    #[error(transparent)]
    Guardian(#[from] GuardianError),
    /// The asynchronous runtime.
    #[error("cannot start to take lines of external meters")]
    Runtime(#[source] io::Error),
}

/// External meters whose lines are taken on threads of their own. Dropping it ends their programs.
#[derive(Debug)]
pub struct Feeds {
    feeds: Vec<ExternalFeed>,
    runtime: Runtime,
}

impl Feeds {
    /// Takes lines from now on. What would be left behind if this process were killed is noted with
    /// the guardian.
    ///
    /// # Errors
    /// The program of one cannot be started, or its socket is taken.
    pub fn open(meters: &[HostMeter], guardian: Option<&Guardian>) -> Result<Feeds, FeedError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("hx-feeds")
            .enable_all()
            .build()
            .map_err(FeedError::Runtime)?;
        let feeds: Vec<ExternalFeed> = meters.iter().map(feed_of).collect();
        for (meter, feed) in meters.iter().zip(&feeds) {
            let source = runtime.block_on(open(meter, guardian))?;
            runtime.spawn(serve(source, feed.clone()));
        }
        Ok(Feeds { feeds, runtime })
    }

    /// What comes of their lines, in the order of the meters.
    #[must_use]
    pub fn feeds(&self) -> &[ExternalFeed] {
        &self.feeds
    }

    /// Ends them.
    pub fn close(self) {
        self.runtime.shutdown_timeout(END_LIMIT);
    }
}

/// The meter of that description, before any line has come.
pub(crate) fn feed_of(meter: &HostMeter) -> ExternalFeed {
    ExternalFeed::new(ExternalSpec {
        name: meter.name.clone(),
        scope: match meter.scope.as_str() {
            "gpu" => Scope::Gpu,
            "package" => Scope::Package,
            "rail" => Scope::Rail,
            _ => Scope::Machine,
        },
        counted: meter.counted,
    })
}

/// Where lines will come from: open already, so that what is wrong is known before anything runs.
#[derive(Debug)]
pub(crate) enum Source {
    Program(Child),
    Unix(UnixListener),
    Tcp(TcpListener),
}

/// Opens it. A program is noted, to be killed if this process is.
pub(crate) async fn open(
    meter: &HostMeter,
    guardian: Option<&Guardian>,
) -> Result<Source, FeedError> {
    let failed = |source| FeedError::Open {
        name: meter.name.clone(),
        source,
    };
    match &meter.lines {
        MeterLines::Command(words) => {
            let (program, arguments) = words
                .split_first()
                .ok_or_else(|| failed(io::ErrorKind::InvalidInput.into()))?;
            let child = Command::new(program)
                .args(arguments)
                .env_clear()
                .env(
                    "PATH",
                    "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin",
                )
                .env("LANG", "C.UTF-8")
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .process_group(0)
                .kill_on_drop(true)
                .spawn()
                .map_err(failed)?;
            if let Some(guardian) = guardian
                && let Some(pid) = child.id()
                && let Ok(process) = ProcessIdentity::of(pid)
            {
                guardian.record(Undo::kill(process))?;
            }
            Ok(Source::Program(child))
        }
        MeterLines::Unix(path) => {
            if path.exists() {
                return Err(failed(io::ErrorKind::AlreadyExists.into()));
            }
            if let Some(guardian) = guardian {
                guardian.record(Undo::RemoveFile { path: path.clone() })?;
            }
            let listener = UnixListener::bind(path).map_err(failed)?;
            fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(failed)?;
            Ok(Source::Unix(listener))
        }
        MeterLines::Tcp(address) => {
            let listener = TcpListener::bind(address).await.map_err(failed)?;
            Ok(Source::Tcp(listener))
        }
    }
}

/// Takes lines until the process ends. One caller at a time: a meter has one voice.
pub(crate) async fn serve(source: Source, feed: ExternalFeed) {
    match source {
        Source::Program(mut child) => {
            if let Some(output) = child.stdout.take() {
                take_lines(&feed, output).await;
            }
            let how = match child.wait().await {
                Ok(status) => format!("its command ended with {status}"),
                Err(error) => format!("its command cannot be waited for: {error}"),
            };
            feed.end(how);
        }
        Source::Unix(listener) => loop {
            take_caller(&feed, listener.accept().await).await;
        },
        Source::Tcp(listener) => loop {
            take_caller(&feed, listener.accept().await).await;
        },
    }
}

/// Takes the lines of one caller. One that could not be accepted (no descriptor is left, say) is
/// waited out, so that this does not spin; nothing tells when that is over.
async fn take_caller<S: AsyncRead + Unpin, A>(feed: &ExternalFeed, accepted: io::Result<(S, A)>) {
    match accepted {
        Ok((stream, _)) => {
            take_lines(feed, stream).await;
            feed.end("whoever sent its lines has gone");
        }
        Err(_) => tokio::time::sleep(PAUSE).await,
    }
}

/// Takes lines until their source ends. What is refused is counted by the feed.
async fn take_lines(feed: &ExternalFeed, mut source: impl AsyncRead + Unpin) {
    let mut line: Vec<u8> = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let Ok(count @ 1..) = source.read(&mut chunk).await else {
            if !line.is_empty() {
                take(feed, &line);
            }
            return;
        };
        for byte in &chunk[..count] {
            if *byte == b'\n' {
                take(feed, &line);
                line.clear();
            } else if line.len() <= LONGEST_LINE {
                line.push(*byte);
            }
        }
    }
}

fn take(feed: &ExternalFeed, line: &[u8]) {
    let text = String::from_utf8_lossy(line);
    let _counted = feed.take(&text, clock::now(), clock::wall_clock_ns());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meter(lines: MeterLines) -> HostMeter {
        HostMeter {
            name: "plug".to_owned(),
            lines,
            scope: "machine".to_owned(),
            counted: None,
        }
    }

    #[tokio::test]
    async fn lines_are_taken_whole_however_they_arrive_and_long_ones_are_refused() {
        let feed = feed_of(&meter(MeterLines::Unix("/nowhere".into())));
        let text = format!("- 1 plug\n- 2\r\n\n{}\n- 3", "9".repeat(100_000));
        let (mut writer, reader) = tokio::io::duplex(7);
        let writing = async move {
            use tokio::io::AsyncWriteExt as _;
            writer.write_all(text.as_bytes()).await.unwrap();
        };
        tokio::join!(writing, take_lines(&feed, reader));
        let report = feed.report();
        assert_eq!((report.taken, report.refused), (3, 1), "{report:?}");
    }
}
