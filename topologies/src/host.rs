//! `agent.toml`: what the owner of a machine lets others do to it. Read as strictly as an
//! experiment, by the same checks.

mod meters;

use std::collections::BTreeSet;
use std::net::SocketAddr;

use hexloop_traces::units::BitRate;

use crate::check::{self, Extent, Reporter};
use crate::fields::{Field, Kind, Need};
use crate::problem::{Place, Problem, Problems, SourceText};
use crate::section::Section;
use crate::value::{self, Origin};

pub use meters::{HostMeter, MeterLines};

/// The largest file that is read, in bytes.
const MAX_BYTES: usize = 1 << 16;

const MINUTE_NS: u64 = 60 * 1_000_000_000;
const DAY_NS: u64 = 24 * 60 * MINUTE_NS;

/// Classes of settings that can be allowed.
const SETTINGS: &[&str] = &[
    "governor",
    "irq",
    "sysctl",
    "nvml",
    "hugepages",
    "partition",
    "realtime",
];

const FIELDS: &[Field] = &[
    Field {
        key: "schema",
        kind: Kind::Integer { least: 1, most: 1 },
        need: Need::Required,
        about: "Version of this format: 1.",
    },
    Field {
        key: "allow_interfaces",
        kind: Kind::List {
            of: &Kind::Identifier,
            least: 0,
        },
        need: Need::Optional,
        about: "Interfaces of this machine that may be shaped; by default none.",
    },
    Field {
        key: "allow_users",
        kind: Kind::List {
            of: &Kind::Identifier,
            least: 0,
        },
        need: Need::Optional,
        about: "Users beside root who may have them shaped, by name or number; by default all \
                who can become root.",
    },
    Field {
        key: "max_rate",
        kind: Kind::Text { longest: 64 },
        need: Need::Optional,
        about: "The highest rate that may be asked for, such as \"1 Gbit/s\".",
    },
    Field {
        key: "max_lease",
        kind: Kind::Time {
            least_ns: 1_000_000_000,
            most_ns: 30 * DAY_NS,
        },
        need: Need::Default("1 h"),
        about: "How long an interface may stay shaped.",
    },
    Field {
        key: "settings",
        kind: Kind::List {
            of: &Kind::Choice(SETTINGS),
            least: 0,
        },
        need: Need::Optional,
        about: "Settings of the machine that may be changed; by default none.",
    },
    Field {
        key: "job_user",
        kind: Kind::Identifier,
        need: Need::Optional,
        about: "The user that jobs run as, by name or number; by default whoever called sudo, \
                else nobody.",
    },
    Field {
        key: "metrics",
        kind: Kind::Text { longest: 64 },
        need: Need::Optional,
        about: "Address and port on which agents show their metrics to Prometheus, such as \
                \"127.0.0.1:9464\"; by default nowhere.",
    },
    Field {
        key: "meters",
        kind: Kind::Map {
            of: meters::FIELDS,
            key: &Kind::Identifier,
            what: "meter",
        },
        need: Need::Optional,
        about: "External meters by name.",
    },
];

/// What the owner of a machine allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostConfiguration {
    /// Interfaces that may be shaped.
    pub allow_interfaces: BTreeSet<String>,
    /// Users beside root who may have them shaped; `None` when nobody said.
    pub allow_users: Option<BTreeSet<String>>,
    /// The highest rate that may be asked for, in bits per second.
    pub max_rate_bps: Option<u64>,
    /// How long an interface may stay shaped, in nanoseconds.
    pub max_lease_ns: u64,
    /// Classes of settings that may be changed.
    pub settings: BTreeSet<String>,
    /// The user that jobs run as.
    pub job_user: Option<String>,
    /// Where agents show their metrics.
    pub metrics: Option<SocketAddr>,
    /// External meters.
    pub meters: Vec<HostMeter>,
}

impl Default for HostConfiguration {
    /// What holds without a file: nothing is allowed.
    fn default() -> HostConfiguration {
        HostConfiguration {
            allow_interfaces: BTreeSet::new(),
            allow_users: None,
            max_rate_bps: None,
            max_lease_ns: 60 * MINUTE_NS,
            settings: BTreeSet::new(),
            job_user: None,
            metrics: None,
            meters: Vec::new(),
        }
    }
}

impl HostConfiguration {
    /// Reads and checks the text of the file; `file_name` is what messages call it.
    ///
    /// # Errors
    /// Everything that is wrong with it, at once.
    pub fn parse(text: &str, file_name: &str) -> Result<HostConfiguration, Problems> {
        let source = SourceText {
            file: file_name.to_owned(),
            text: text.to_owned(),
        };
        if text.len() > MAX_BYTES {
            return Err(Problem {
                place: Place::WholeFile { file: source.file },
                message: format!("the file is larger than {MAX_BYTES} bytes"),
                help: None,
                excerpt: None,
            }
            .into());
        }
        let (root, syntax) = value::read(text);
        let mut reporter = Reporter {
            source: &source,
            problems: Vec::new(),
        };
        for error in syntax {
            reporter.report(&Origin::File(error.range), error.message, None);
        }
        Problems::check(std::mem::take(&mut reporter.problems))?;
        let top = Origin::File(0..0);
        check::table(
            &mut reporter,
            &root,
            FIELDS,
            ("in the file", &top),
            Extent::Whole,
        );
        let section = Section::new(&root, FIELDS, &top);
        let max_rate_bps = max_rate(&mut reporter, section);
        let metrics = metrics(&mut reporter, section);
        let meters = section
            .map("meters")
            .into_iter()
            .filter_map(|(name, section)| meters::read(&mut reporter, name, section))
            .collect();
        Problems::check(reporter.problems)?;
        let set = |key| section.texts(key).into_iter().collect();
        Ok(HostConfiguration {
            allow_interfaces: set("allow_interfaces"),
            allow_users: section.written("allow_users").map(|_| set("allow_users")),
            max_rate_bps,
            max_lease_ns: section.time_ns("max_lease"),
            settings: set("settings"),
            job_user: section.optional_text("job_user"),
            metrics,
            meters,
        })
    }
}

fn max_rate(reporter: &mut Reporter<'_>, section: Section<'_>) -> Option<u64> {
    let text = section.optional_text("max_rate")?;
    let place = section.place("max_rate");
    match text.parse::<BitRate>() {
        Ok(rate) if rate.bps > 0 => Some(rate.bps),
        Ok(_) => {
            let help = "leave `allow_interfaces` empty to allow nothing".to_owned();
            reporter.report(place, "`max_rate` is 0".to_owned(), Some(help));
            None
        }
        Err(error) => {
            reporter.report(place, format!("`max_rate`: {error}"), None);
            None
        }
    }
}

fn metrics(reporter: &mut Reporter<'_>, section: Section<'_>) -> Option<SocketAddr> {
    let text = section.optional_text("metrics")?;
    match text.parse() {
        Ok(address) => Some(address),
        Err(error) => {
            let help = "write an address and a port, such as 127.0.0.1:9464".to_owned();
            let message = format!("`metrics`: {error}");
            reporter.report(section.place("metrics"), message, Some(help));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> String {
        HostConfiguration::parse(text, "agent.toml")
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn everything_that_a_file_may_say_is_read() {
        let text = "schema = 1\nallow_interfaces = [\"enp3s0f1\", \"eth1\"]\n\
                    allow_users = [\"ada\", \"1000\"]\nmax_rate = \"2.5 Gbit/s\"\n\
                    max_lease = \"2 h\"\nsettings = [\"governor\"]\njob_user = \"lab\"\n\
                    metrics = \"0.0.0.0:9464\"\n\
                    [meters.plug]\ncommand = [\"plug\", \"--watts\"]\ncounted = true\n\
                    [meters.card]\nsocket = \"/run/card\"\nscope = \"gpu\"\n\
                    [meters.far]\nsocket = \"10.0.0.1:7000\"\n";
        let read = HostConfiguration::parse(text, "agent.toml").unwrap();
        let meter = |name: &str, lines, scope: &str, counted| HostMeter {
            name: name.to_owned(),
            lines,
            scope: scope.to_owned(),
            counted,
        };
        let set = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let expected = HostConfiguration {
            allow_interfaces: set(&["enp3s0f1", "eth1"]),
            allow_users: Some(set(&["ada", "1000"])),
            max_rate_bps: Some(2_500_000_000),
            max_lease_ns: 120 * MINUTE_NS,
            settings: set(&["governor"]),
            job_user: Some("lab".to_owned()),
            metrics: Some("0.0.0.0:9464".parse().unwrap()),
            meters: vec![
                meter(
                    "plug",
                    MeterLines::Command(vec!["plug".to_owned(), "--watts".to_owned()]),
                    "machine",
                    Some(true),
                ),
                meter("card", MeterLines::Unix("/run/card".into()), "gpu", None),
                meter(
                    "far",
                    MeterLines::Tcp("10.0.0.1:7000".parse().unwrap()),
                    "machine",
                    None,
                ),
            ],
        };
        assert_eq!(read, expected);
    }

    #[test]
    fn a_file_that_says_nothing_allows_nothing() {
        let read = HostConfiguration::parse("schema = 1\n", "agent.toml").unwrap();
        assert_eq!(read, HostConfiguration::default());
        assert!(read.allow_interfaces.is_empty());
    }

    #[test]
    fn mistakes_are_told_with_their_places() {
        let text = "schema = 1\nallow_interface = [\"eth1\"]\nmax_rate = \"fast\"\n\
                    settings = [\"governer\"]\nmax_lease = \"0 s\"\nmetrics = \"9464\"\n\
                    [meters.plug]\nscope = \"house\"\n[meters.two]\ncommand = [\"a\"]\n\
                    socket = \"/b\"\n[meters.near]\nsocket = \"here\"\n";
        let told = problems(text);
        for part in [
            "agent.toml:2:1: unknown key `allow_interface`",
            "did you mean `allow_interfaces`?",
            "agent.toml:3:12: `max_rate`",
            "agent.toml:4:13",
            "did you mean `governor`?",
            "agent.toml:5:13: `max_lease`",
            "agent.toml:6:11: `metrics`: invalid socket address",
            "`meters.plug`: a meter has either a `command` or a `socket`",
            "`meters.two`: a meter has either",
            "`meters.near`: here is no absolute path, and no address with a port",
            "house",
        ] {
            assert!(told.contains(part), "{part}:\n{told}");
        }
        assert!(problems("allow_interfaces = []\n").contains("`schema` is missing"));
        assert!(problems("schema = [\n").starts_with("agent.toml:"));
    }
}
