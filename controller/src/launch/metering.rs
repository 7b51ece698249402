//! What an agent is told of metering, and the lines of a meter that come on standard input.

use std::ffi::OsString;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use hexloop_topologies::HostMeter;
use hexloop_workloads::clock;

use crate::cli::{MeteringArguments, SamplingArguments};
use crate::exit_code::ExitCode;
use crate::failure::{Failure, OrFail as _};
use crate::tell::tell;

/// Stands for standard input.
const STDIN: &str = "-";

/// How long the agent may take until it takes lines, and how often that is tried.
const START_LIMIT_NS: u64 = 15_000_000_000;
const TRY_EVERY_NS: u64 = 20_000_000;

/// The external meters of a command line.
#[derive(Debug)]
pub(crate) struct Lines {
    /// How each is named to an agent, and what it is.
    pub(crate) meters: Vec<(String, HostMeter)>,
    /// Where standard input is to be sent, if it is a meter.
    pub(crate) from_stdin: Option<PathBuf>,
}

impl Lines {
    /// Reads them; standard input gets a socket in `directory`.
    pub(crate) fn of(sampling: &SamplingArguments, directory: &Path) -> Result<Lines, Failure> {
        let refused = |why: String| Failure::message(ExitCode::Usage, format!("--meter: {why}"));
        let mut lines = Lines {
            meters: Vec::new(),
            from_stdin: None,
        };
        for meter in &sampling.meters {
            let mut argument = meter.clone();
            if let Some((name, STDIN)) = meter.split_once('=') {
                let socket = directory.join(format!("meter-{name}"));
                argument = format!("{name}=unix:{}", socket.display());
                if lines.from_stdin.replace(socket).is_some() {
                    return Err(refused("standard input is one meter at most".to_owned()));
                }
            }
            let meter = HostMeter::from_argument(&argument).map_err(refused)?;
            lines.meters.push((argument, meter));
        }
        Ok(lines)
    }
}

/// Checks what the command line says of meters, before anything is made.
pub(crate) fn check(metering: &MeteringArguments) -> Result<(), Failure> {
    Lines::of(&metering.sampling, Path::new("/")).map(drop)
}

/// Arguments for the agent, whose socket is in `directory`; and where standard input is to be
/// sent, if it is a meter.
pub(super) fn arguments(
    metering: &MeteringArguments,
    directory: &Path,
) -> Result<(Vec<OsString>, Option<PathBuf>), Failure> {
    let mut words: Vec<OsString> = vec![
        "--meter-rate".into(),
        metering.sampling.meter_rate.to_string().into(),
    ];
    if let Some(address) = metering.metrics {
        words.extend(["--metrics".into(), address.to_string().into()]);
    }
    let lines = Lines::of(&metering.sampling, directory)?;
    for (argument, _) in lines.meters {
        words.extend(["--meter".into(), argument.into()]);
    }
    Ok((words, lines.from_stdin))
}

/// Sends standard input to the socket, on a thread that ends with it or with the process.
pub(crate) fn send_stdin(socket: PathBuf) -> Result<(), Failure> {
    let send = move || {
        let until = clock::now() + START_LIMIT_NS;
        while clock::now() < until {
            if let Ok(mut stream) = UnixStream::connect(&socket) {
                // An end of either side is the end of the meter, which the agent notes.
                let _ = io::copy(&mut io::stdin().lock(), &mut stream);
                return;
            }
            clock::sleep_until(clock::now() + TRY_EVERY_NS);
        }
        let socket = socket.display();
        tell(&format_args!(
            "the meter on standard input is not read: the agent does not listen at {socket}"
        ));
    };
    std::thread::Builder::new()
        .name("hx-lines".to_owned())
        .spawn(send)
        .or_fail(ExitCode::Failed, || {
            "cannot start the thread that reads standard input".to_owned()
        })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(meters: &[&str]) -> Result<(Vec<OsString>, Option<PathBuf>), Failure> {
        let metering = MeteringArguments {
            metrics: Some("127.0.0.1:9464".parse().unwrap()),
            sampling: SamplingArguments {
                meters: meters.iter().map(|meter| (*meter).to_owned()).collect(),
                meter_rate: 250,
            },
        };
        arguments(&metering, Path::new("/run/hx"))
    }

    #[test]
    fn standard_input_becomes_a_socket_beside_the_agent_s() {
        let (words, from_stdin) = told(&["plug=-", "lab=tcp:127.0.0.1:7000"]).unwrap();
        let expected = [
            "--meter-rate",
            "250",
            "--metrics",
            "127.0.0.1:9464",
            "--meter",
            "plug=unix:/run/hx/meter-plug",
            "--meter",
            "lab=tcp:127.0.0.1:7000",
        ];
        assert_eq!(words, expected);
        assert_eq!(from_stdin, Some("/run/hx/meter-plug".into()));
        for wrong in [&["plug=-", "other=-"][..], &["plug"], &["p/g=-"]] {
            assert!(told(wrong).is_err(), "{wrong:?}");
        }
    }
}
