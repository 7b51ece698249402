//! External meters of a machine, as its owner or a command line names them.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::check::Reporter;
use crate::fields::{Field, Kind, Need};
use crate::section::Section;

/// Which part of the machine a meter may cover, as it is written.
const SCOPES: &[&str] = &["machine", "gpu", "package", "rail"];

pub(super) const FIELDS: &[Field] = &[
    Field {
        key: "command",
        kind: Kind::List {
            of: &Kind::Text { longest: 1000 },
            least: 1,
        },
        need: Need::Optional,
        about: "A program with its arguments whose output is read, a line per reading: seconds \
                since 1970 or -, watts. It runs as the agent does, without a shell.",
    },
    Field {
        key: "socket",
        kind: Kind::Text { longest: 107 },
        need: Need::Optional,
        about: "A unix socket (an absolute path) or a TCP address (host:port) on which the agent \
                waits for such lines.",
    },
    Field {
        key: "scope",
        kind: Kind::Choice(SCOPES),
        need: Need::Default("machine"),
        about: "Which part of the machine it covers.",
    },
    Field {
        key: "counted",
        kind: Kind::Boolean,
        need: Need::Optional,
        about: "Whether it stands for the machine's energy, in place of all other meters; by \
                default only where nothing else can.",
    },
];

/// Where the lines of an external meter come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MeterLines {
    /// The output of a program.
    Command(Vec<String>),
    /// Whoever connects to this unix socket.
    Unix(PathBuf),
    /// Whoever connects to this address.
    Tcp(SocketAddr),
}

/// An external meter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostMeter {
    /// Its name.
    pub name: String,
    /// Where its lines come from.
    pub lines: MeterLines,
    /// `machine`, `gpu`, `package` or `rail`.
    pub scope: String,
    /// Whether it stands for the machine's energy; `None` where it does if nothing else can.
    pub counted: Option<bool>,
}

impl HostMeter {
    /// Reads `NAME=unix:PATH` or `NAME=tcp:ADDRESS:PORT`, as on a command line: a meter of the
    /// whole machine. TCP only on loopback: more is for the machine's owner to allow.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn from_argument(argument: &str) -> Result<HostMeter, String> {
        let expected = "expected NAME=unix:PATH or NAME=tcp:127.0.0.1:PORT";
        let (name, from) = argument
            .split_once('=')
            .ok_or_else(|| expected.to_owned())?;
        let is_word = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if name.is_empty() || name.len() > 64 || !name.bytes().all(is_word) {
            return Err(format!("`{name}` is no name of a meter: {expected}"));
        }
        let lines = match from.split_once(':') {
            Some(("unix", path)) => unix(path)?,
            Some(("tcp", address)) => match address.parse::<SocketAddr>() {
                Ok(address) if address.ip().is_loopback() => MeterLines::Tcp(address),
                Ok(address) => {
                    return Err(format!(
                        "{address} can be reached from elsewhere; that takes `[meters.{name}]` in \
                         agent.toml"
                    ));
                }
                Err(error) => return Err(format!("`{address}`: {error}; {expected}")),
            },
            _ => return Err(expected.to_owned()),
        };
        Ok(HostMeter {
            name: name.to_owned(),
            lines,
            scope: "machine".to_owned(),
            counted: None,
        })
    }
}

fn unix(path: &str) -> Result<MeterLines, String> {
    let path = PathBuf::from(path);
    if path.is_absolute() {
        Ok(MeterLines::Unix(path))
    } else {
        Err(format!("{} is no absolute path", path.display()))
    }
}

/// Reads `[meters.NAME]`; what is wrong is reported.
pub(super) fn read(
    reporter: &mut Reporter<'_>,
    name: &str,
    section: Section<'_>,
) -> Option<HostMeter> {
    let command = section.written("command").map(|_| section.texts("command"));
    let lines = match (command, section.optional_text("socket")) {
        (Some(command), None) => Ok(MeterLines::Command(command)),
        (None, Some(socket)) => match socket.parse() {
            Ok(address) => Ok(MeterLines::Tcp(address)),
            Err(_) => unix(&socket).map_err(|why| format!("{why}, and no address with a port")),
        },
        _ => Err("a meter has either a `command` or a `socket`".to_owned()),
    };
    match lines {
        Ok(lines) => Some(HostMeter {
            name: name.to_owned(),
            lines,
            scope: section.text("scope"),
            counted: section
                .written("counted")
                .map(|_| section.boolean("counted")),
        }),
        Err(message) => {
            reporter.report(section.origin, format!("`meters.{name}`: {message}"), None);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_meter_of_a_command_line_is_on_this_machine_alone() {
        let plug = HostMeter::from_argument("plug-1=tcp:127.0.0.1:7000").unwrap();
        assert_eq!(
            plug.lines,
            MeterLines::Tcp("127.0.0.1:7000".parse().unwrap())
        );
        let lab = HostMeter::from_argument("lab=unix:/run/lab").unwrap();
        assert_eq!(lab.lines, MeterLines::Unix("/run/lab".into()));
        assert_eq!((lab.scope.as_str(), lab.counted), ("machine", None));
        for (argument, why) in [
            ("plug", "expected NAME=unix:PATH"),
            ("plug=tcp:0.0.0.0:7000", "can be reached from elsewhere"),
            ("plug=tcp:7000", "invalid socket address"),
            ("plug=unix:lab", "is no absolute path"),
            ("a b=unix:/lab", "is no name of a meter"),
            ("=unix:/lab", "is no name of a meter"),
        ] {
            let error = HostMeter::from_argument(argument).unwrap_err();
            assert!(error.contains(why), "{argument}: {error}");
        }
    }
}
