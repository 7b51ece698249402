//! Arguments of `hexloop link`: a command behind a shaped link, or a real interface.

use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Subcommand, ValueEnum};
use hexloop_traces::QueueLimit;
use hexloop_traces::units::{BitRate, ByteSize, Share, TimeSpan};

const AFTER_HELP: &str = "\
The command finds in its environment HEXLOOP_GATEWAY, the address at which it reaches the network \
that this program was started from, and with --peer HEXLOOP_PEER, the address of the other command. As root, and \
inside another link, that network is all there is: the link ends in it, and what lies beyond is \
reached only where it routes packets on. An ordinary user's command reaches whatever that user \
does, through a forwarder; the summary names which.
Exit status: that of the command; 125 if the link could not be made or failed (an end of it that \
somebody takes away, takes down, renames or gives another MTU is told at once; once it is gone the command \
is ended), 126 if the command cannot be \
run, 127 if it was not found, 128 + N if signal N ended it.

Descriptors that this program was started with are the command's too, as those of make's job server.

Examples:
  hexloop link --delay 10ms -- sh -c 'ping -c 3 $HEXLOOP_GATEWAY'
  hexloop link --rate 20Mbit/s --delay 15ms -- bash
  hexloop link --down tram.down --up tram.up --log logs -- curl -O http://192.0.2.1/file
  hexloop link --delay 10ms -- hexloop link --loss 1% -- iperf3 -c 198.19.0.1
  hexloop link --rate 1Gbit/s --peer 'iperf3 -s -1' -- sh -c 'sleep 1; iperf3 -c $HEXLOOP_PEER'";

/// Arguments of `link`.
#[derive(Debug, Clone, Args)]
#[command(args_conflicts_with_subcommands = true, after_help = AFTER_HELP)]
pub struct LinkArguments {
    /// A real interface, instead of a command.
    #[command(subcommand)]
    pub interface: Option<InterfaceAction>,
    /// What the link does to packets.
    #[command(flatten)]
    pub shape: ShapeArguments,
    /// What shapes packets; auto finds out by trying.
    #[arg(long, value_enum, default_value = "auto")]
    pub datapath: DatapathArgument,
    /// Largest IP packet, in bytes.
    #[arg(long, default_value_t = 1500, value_parser = clap::value_parser!(u32).range(1280..=9000))]
    pub mtu: u32,
    /// The seed of losses and jitter.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Write what was asked and delivered in each window into DIR/link.csv.
    #[arg(long, value_name = "DIR")]
    pub log: Option<PathBuf>,
    /// Write the packets of each direction into DIR, as pcapng with the times they were due.
    #[arg(long, value_name = "DIR")]
    pub pcap: Option<PathBuf>,
    /// Start this command at the far end, in a network of its own; words are split as a shell
    /// does, but no shell sees them.
    #[arg(long, value_name = "COMMAND")]
    pub peer: Option<String>,
    /// Write the summary as JSON into this file.
    // The same name and type as the flag of all other verbs: here the command has standard output.
    #[arg(id = "json", long = "json", value_name = "FILE")]
    pub json: Option<String>,
    /// The command and its arguments, after --; without one a shell ($SHELL).
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

/// What a link does to packets. Options replace the columns of the traces. (Values may begin with a
/// hyphen so that a negative one is told as such.)
#[derive(Debug, Clone, Default, Args)]
pub struct ShapeArguments {
    /// Trace towards the command: a trace file, or packet delivery times as mahimahi writes them.
    #[arg(long, value_name = "TRACE")]
    pub down: Option<PathBuf>,
    /// Trace away from the command; a trace file given to --down alone holds both directions.
    #[arg(long, value_name = "TRACE")]
    pub up: Option<PathBuf>,
    /// Rate of IP packets, headers included, such as 100Mbit/s; DOWN,UP where they differ.
    #[arg(long, allow_hyphen_values = true, value_parser = rates)]
    pub rate: Option<Both<BitRate>>,
    /// One-way delay, such as 10ms; DOWN,UP where they differ.
    #[arg(long, allow_hyphen_values = true)]
    pub delay: Option<Both<TimeSpan>>,
    /// Half-width of the uniform jitter around the delay.
    #[arg(long, allow_hyphen_values = true)]
    pub jitter: Option<Both<TimeSpan>>,
    /// Share of packets lost at random, such as 1% or 50ppm.
    #[arg(long, allow_hyphen_values = true)]
    pub loss: Option<Both<Share>>,
    /// Mean length of a burst of losses, in packets; 1 is independent loss.
    #[arg(long, allow_hyphen_values = true, value_name = "PACKETS", value_parser = bursts_milli)]
    pub loss_burst: Option<Both<u32>>,
    /// Share of packets duplicated.
    #[arg(long, allow_hyphen_values = true)]
    pub duplicate: Option<Both<Share>>,
    /// Share of packets with a flipped bit.
    #[arg(long, allow_hyphen_values = true)]
    pub corrupt: Option<Both<Share>>,
    /// Queue before the bottleneck: bytes of IP packets such as 300kB, or packets such as 200p; DOWN,UP where they
    /// differ.
    #[arg(long, allow_hyphen_values = true, value_parser = queue_limits)]
    pub queue: Option<Both<QueueLimit>>,
    /// Which packet is dropped, and when.
    #[arg(long, value_enum, default_value = "drop-tail")]
    pub queue_discipline: DisciplineArgument,
    /// Mark packets that can carry it (ECN) where the discipline would drop them.
    #[arg(long)]
    pub ecn: bool,
    /// Let jitter reorder packets.
    #[arg(long)]
    pub reorder: bool,
    /// Serve in delivery opportunities at the end of slots of this length, as mahimahi does;
    /// unused ones are lost.
    #[arg(long, allow_hyphen_values = true, value_name = "LENGTH", value_parser = slot)]
    pub slots: Option<TimeSpan>,
}

/// A value for each direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Both<T> {
    /// Towards the command.
    pub down: T,
    /// Away from it.
    pub up: T,
}

impl<T: Copy> Both<T> {
    /// Reads a value for both, or DOWN,UP.
    fn read<E>(text: &str, one: impl Fn(&str) -> Result<T, E>) -> Result<Both<T>, E> {
        let (down, up) = text.split_once(',').unwrap_or((text, text));
        Ok(Both {
            down: one(down)?,
            up: one(up)?,
        })
    }
}

impl<T: FromStr + Copy> FromStr for Both<T> {
    type Err = T::Err;

    fn from_str(text: &str) -> Result<Both<T>, T::Err> {
        Both::read(text, str::parse)
    }
}

/// Names of the datapaths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DatapathArgument {
    /// Whatever this machine can do best.
    Auto,
    /// The userspace relay: exact, everywhere.
    Relay,
    /// Kernel queueing disciplines.
    Tc,
    /// A BPF program that stamps departure times, and fq, which holds packets until then.
    Edt,
}

/// Names of the queue disciplines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum DisciplineArgument {
    /// What comes finds the queue full and is dropped.
    #[default]
    DropTail,
    /// The oldest waiting packet is dropped for what comes.
    DropHead,
    /// Controlled delay, RFC 8289.
    Codel,
    /// PIE, RFC 8033.
    Pie,
}

/// What to do with a real interface.
#[derive(Debug, Clone, Subcommand)]
pub enum InterfaceAction {
    /// Shape a real interface with tc until it is cleared or its lease ends.
    Apply(Box<InterfaceApplyArguments>),
    /// Confirm from a new connection that this machine can still be reached; with --extend, have
    /// the lease end later.
    Confirm(InterfaceConfirmArguments),
    /// Tell what shapes an interface, since when and until when, and how well its trace is followed;
    /// without one, every interface.
    Show(InterfaceShowArguments),
    /// Take the shaping of an interface away.
    Clear(InterfaceClearArguments),
}

/// Arguments of `link confirm`.
#[derive(Debug, Clone, Args)]
pub struct InterfaceConfirmArguments {
    /// The interface.
    #[command(flatten)]
    pub interface: InterfaceArguments,
    /// Have the lease end this long from now, such as 10min; at most the `max_lease` of agent.toml.
    #[arg(long, value_name = "TIME")]
    pub extend: Option<TimeSpan>,
}

/// Arguments of `link show`.
#[derive(Debug, Clone, Args)]
pub struct InterfaceShowArguments {
    /// The interface, such as eth1.
    pub interface: Option<String>,
    /// Print one JSON document on standard output.
    #[arg(id = "json", long = "json", num_args = 0, default_missing_value = "-")]
    pub json: Option<String>,
}

/// Arguments of `link clear`.
#[derive(Debug, Clone, Args)]
pub struct InterfaceClearArguments {
    /// The interface, such as eth1.
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    pub interface: Option<String>,
    /// Every interface that is shaped.
    #[arg(long)]
    pub all: bool,
    /// Print one JSON document on standard output.
    #[arg(id = "json", long = "json", num_args = 0, default_missing_value = "-")]
    pub json: Option<String>,
}

/// An interface.
#[derive(Debug, Clone, Args)]
pub struct InterfaceArguments {
    /// The interface, such as eth1.
    pub interface: String,
    /// Print one JSON document on standard output.
    #[arg(id = "json", long = "json", num_args = 0, default_missing_value = "-")]
    pub json: Option<String>,
}

/// Arguments of `link apply`.
#[derive(Debug, Clone, Args)]
pub struct InterfaceApplyArguments {
    /// The interface.
    #[command(flatten)]
    pub interface: InterfaceArguments,
    /// What is done to packets; down is what the interface receives, up what it sends.
    #[command(flatten)]
    pub shape: ShapeArguments,
    /// Shape only packets from and to this peer, such as 192.0.2.7, 192.0.2.0/24, 192.0.2.7:443 or
    /// `[2001:db8::7]:53/udp`; may be repeated.
    #[arg(long, value_name = "PEER")]
    pub peer: Vec<String>,
    /// After how long the shaping ends by itself.
    #[arg(long, default_value = "10 min")]
    pub lease: TimeSpan,
    /// Put everything back unless somebody confirms within this time that the machine can still be
    /// reached: by a key here, or by `hexloop link confirm` over a new connection. Without it the
    /// shaping is confirmed once the ways over which this machine is reached are found unchanged.
    #[arg(long, value_name = "TIME")]
    pub confirm_within: Option<TimeSpan>,
}

/// Arguments of `agent hold`.
#[derive(Debug, Clone, Args)]
pub struct HoldArguments {
    /// The user in whose name the network is made.
    #[arg(long)]
    pub user: u32,
    /// Its group.
    #[arg(long)]
    pub group: u32,
    /// Make the command a user namespace of its own.
    #[arg(long)]
    pub own_user_namespace: bool,
}

/// Arguments of `agent inhabit`.
#[derive(Debug, Clone, Args)]
pub struct InhabitArguments {
    /// Descriptor of the socket to the program that starts it.
    #[arg(long)]
    pub control: i32,
    /// Descriptor of the user namespace that the command is to enter.
    #[arg(long)]
    pub user_namespace: Option<i32>,
    /// The user that the command is to run as.
    #[arg(long, requires = "group")]
    pub user: Option<u32>,
    /// The group.
    #[arg(long, requires = "user")]
    pub group: Option<u32>,
    /// A supplementary group; may be repeated.
    #[arg(long)]
    pub also_group: Vec<u32>,
    /// A descriptor that the command is to have; may be repeated.
    #[arg(long)]
    pub descriptor: Vec<i32>,
    /// The command and its arguments.
    #[arg(last = true, required = true)]
    pub command: Vec<OsString>,
}

fn queue_limits(text: &str) -> Result<Both<QueueLimit>, String> {
    Both::read(text, queue_limit)
}

fn queue_limit(text: &str) -> Result<QueueLimit, String> {
    let packets = text.strip_suffix('p').map(str::trim_end);
    if let Some(packets) = packets.filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
    {
        return match packets.parse() {
            Ok(packets) if packets > 0 => Ok(QueueLimit::Packets(packets)),
            _ => Err("a queue holds 1 to 4294967295 packets, such as 200p".to_owned()),
        };
    }
    match text.parse::<ByteSize>() {
        Ok(size) if size.bytes > 0 => Ok(QueueLimit::Bytes(size.bytes)),
        Ok(_) => Err("a queue of nothing lets no packet wait; write such as 300kB".to_owned()),
        Err(error) => Err(format!("{error}, or packets such as `200p`")),
    }
}

fn rates(text: &str) -> Result<Both<BitRate>, String> {
    let rates: Both<BitRate> = text.parse().map_err(|error| format!("{error}"))?;
    if rates.down.bps == 0 || rates.up.bps == 0 {
        return Err("a link with no rate never delivers; write such as 100Mbit/s".to_owned());
    }
    Ok(rates)
}

fn bursts_milli(text: &str) -> Result<Both<u32>, String> {
    Both::read(text, burst_milli)
}

fn burst_milli(text: &str) -> Result<u32, String> {
    let expected = || "a mean burst is 1 to 1000000 packets, such as 3 or 2.5".to_owned();
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(fraction) || fraction.len() > 3 {
        return Err(expected());
    }
    let milli: u64 = format!("{whole}{fraction:0<3}")
        .parse()
        .map_err(|_not_a_number| expected())?;
    let milli = u32::try_from(milli).map_err(|_too_large| expected())?;
    if (1000..=1_000_000_000).contains(&milli) {
        Ok(milli)
    } else {
        Err(expected())
    }
}

fn slot(text: &str) -> Result<TimeSpan, String> {
    let span: TimeSpan = text.parse().map_err(|error| format!("{error}"))?;
    if span.ns < 62_500 {
        return Err("a slot is 62.5 us at least".to_owned());
    }
    Ok(span)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Verb};

    fn parse(line: &[&str]) -> Result<LinkArguments, clap::Error> {
        let words = ["hexloop", "link"].iter().chain(line);
        match Cli::try_parse_from(words)?.verb {
            Verb::Link(arguments) => Ok(*arguments),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn quantities_need_no_blank_and_may_differ_by_direction() {
        let line = [
            "--rate",
            "100Mbit/s,20Mbit/s",
            "--delay",
            "10ms",
            "--loss",
            "1%",
            "--queue",
            "200p,300kB",
            "--loss-burst",
            "2.5,3",
        ];
        let shape = parse(&line).unwrap().shape;
        let rate = shape.rate.unwrap();
        assert_eq!((rate.down.bps, rate.up.bps), (100_000_000, 20_000_000));
        let delay = shape.delay.unwrap();
        assert_eq!((delay.down.ns, delay.up.ns), (10_000_000, 10_000_000));
        let queue = Both {
            down: QueueLimit::Packets(200),
            up: QueueLimit::Bytes(300_000),
        };
        assert_eq!(shape.queue, Some(queue));
        let burst = Both {
            down: 2500,
            up: 3000,
        };
        assert_eq!(shape.loss_burst, Some(burst));
    }

    #[test]
    fn nonsense_is_refused_with_an_example() {
        for (line, example) in [
            (["--rate", "100"], "100 Mbit/s"),
            (["--rate", "0Mbit/s"], "100Mbit/s"),
            (["--rate", "-5Mbit/s"], "`-5Mbit/s` is not a data rate"),
            (["--delay", "-1ms"], "`-1ms` is not a time span"),
            (["--loss", "-1%"], "`-1%` is not a share"),
            (["--delay", "ten"], "20 ms"),
            (["--loss", "101%"], "1 %"),
            (["--queue", "0p"], "200p"),
            (["--queue", "0B"], "300kB"),
            (["--queue", "9999999999p"], "200p"),
            (["--queue", "many"], "200p"),
            (["--loss-burst", "0.5"], "2.5"),
            (["--slots", "1us"], "62.5 us"),
            (["--mtu", "100"], "1280"),
        ] {
            let error = parse(&line).unwrap_err().to_string();
            assert!(error.contains(example), "{line:?}: {error}");
        }
    }

    #[test]
    fn everything_after_the_dashes_belongs_to_the_command() {
        let line = ["--json", "out.json", "--", "apply", "--json", "--", "x"];
        let arguments = parse(&line).unwrap();
        assert_eq!(arguments.json.as_deref(), Some("out.json"));
        assert_eq!(arguments.command, ["apply", "--json", "--", "x"]);
        assert!(arguments.interface.is_none());
    }

    #[test]
    fn a_real_interface_has_verbs_of_its_own() {
        let arguments = parse(&["show", "eth1", "--json"]).unwrap();
        let Some(InterfaceAction::Show(show)) = arguments.interface else {
            panic!("{arguments:?}");
        };
        assert_eq!(
            (show.interface.as_deref(), show.json.is_some()),
            (Some("eth1"), true)
        );
        assert!(parse(&["--delay", "1ms", "show", "eth1"]).is_err());
    }
}
