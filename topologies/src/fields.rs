//! The table of everything an experiment file may say: keys, kinds of values, defaults and what
//! they mean. The reader, the checks of the text, the JSON Schema and the list of keys in the
//! help all follow from this one table, so they cannot drift apart.

use hexloop_workloads::job::Placement;

/// One key of a table.
#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) key: &'static str,
    pub(crate) kind: Kind,
    pub(crate) need: Need,
    pub(crate) about: &'static str,
}

/// Whether a key must be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    Required,
    /// Its absence means something of its own.
    Optional,
    /// Its absence means this value, as it would be written.
    Default(&'static str),
}

/// What a value must be.
#[derive(Debug)]
pub(crate) enum Kind {
    /// Any printable text of 1 to 64 bytes.
    Name,
    /// A name that is also safe in file names: letters, digits, `-`, `_` and inner dots.
    Identifier,
    /// Printable text.
    Text {
        longest: usize,
    },
    Integer {
        least: u64,
        most: u64,
    },
    Boolean,
    /// A time span in text, with bounds in nanoseconds.
    Time {
        least_ns: u64,
        most_ns: u64,
    },
    /// An amount of data in text, with bounds in bytes.
    Size {
        least: u64,
        most: u64,
    },
    /// A share of 1 in text; zero only where it makes sense.
    Share {
        zero: bool,
    },
    /// A quantity of a radio link in text; its generator knows the bounds.
    Measure(Measure),
    /// Events per second in text, such as `1.5 /s`.
    PerSecond,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A list of such values, at least so many.
    List {
        of: &'static Kind,
        least: usize,
    },
    Table(&'static [Field]),
    /// Tables keyed by names that the user chooses.
    Map {
        of: &'static [Field],
        key: &'static Kind,
        what: &'static str,
    },
    /// An array of tables, each with a `name` of its own.
    Array {
        of: &'static [Field],
        what: &'static str,
    },
    /// Tables keyed by names, each a partial experiment.
    Presets,
}

/// Quantities of radio links.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Measure {
    Frequency,
    Length,
    Speed,
    PowerLevel,
    Ratio,
    SpectralEfficiency,
}

const SECOND: u64 = 1_000_000_000;
const DAY: u64 = 86_400 * SECOND;

const fn time(least_ns: u64, most_ns: u64) -> Kind {
    Kind::Time { least_ns, most_ns }
}

const fn field(key: &'static str, kind: Kind, need: Need, about: &'static str) -> Field {
    Field {
        key,
        kind,
        need,
        about,
    }
}

use Need::{Default as Usually, Optional, Required};

/// The whole file.
pub(crate) const ROOT: &[Field] = &[
    field(
        "schema",
        Kind::Integer { least: 1, most: 1 },
        Required,
        "Version of this format: 1.",
    ),
    field(
        "name",
        Kind::Identifier,
        Required,
        "Name of the experiment; run directories carry it.",
    ),
    field(
        "description",
        Kind::Text { longest: 2000 },
        Usually(""),
        "What it shows, for the report.",
    ),
    field(
        "seed",
        Kind::Integer {
            least: 0,
            most: i64::MAX as u64,
        },
        Usually("1"),
        "Everything random follows from it: traces, arrivals, prompts.",
    ),
    field(
        "traces",
        Kind::Map {
            of: TRACE,
            key: &Kind::Identifier,
            what: "trace",
        },
        Required,
        "Channel traces by name: what a link's rate, delay and loss are at each moment.",
    ),
    field(
        "nodes",
        Kind::Map {
            of: NODE,
            key: &Kind::Name,
            what: "node",
        },
        Required,
        "Emulated machines by name, each in its own network namespace.",
    ),
    field(
        "links",
        Kind::Array {
            of: LINK,
            what: "link",
        },
        Required,
        "Links between nodes.",
    ),
    field(
        "model",
        Kind::Table(MODEL),
        Usually("{}"),
        "The language model that the jobs serve.",
    ),
    field(
        "requests",
        Kind::Table(REQUESTS),
        Required,
        "The requests, the same in every phase.",
    ),
    field(
        "phases",
        Kind::Array {
            of: PHASE,
            what: "phase",
        },
        Required,
        "What is run, one after the other, each from the start of the traces.",
    ),
    field(
        "commands",
        Kind::Array {
            of: COMMAND,
            what: "command",
        },
        Optional,
        "Programs that run on their nodes during every phase.",
    ),
    field(
        "calibration",
        Kind::Table(CALIBRATION),
        Usually("{}"),
        "How the links are measured before anything runs over them.",
    ),
    field(
        "verdict",
        Kind::Table(VERDICT),
        Usually("{}"),
        "When the run is believed.",
    ),
    field(
        "faults",
        Kind::Table(FAULTS),
        Usually("{}"),
        "Faults to inject, to see the verdict notice.",
    ),
    field(
        "expectations",
        Kind::Array {
            of: EXPECTATION,
            what: "expectation",
        },
        Optional,
        "Claims about the results that the report judges.",
    ),
    field(
        "presets",
        Kind::Presets,
        Optional,
        "Named variants: partial experiments, merged over the file when chosen by --preset.",
    ),
];

/// Keys of the root that a preset cannot change.
pub(crate) const NOT_IN_PRESETS: &[&str] = &["schema", "name", "presets"];

pub(crate) const TRACE: &[Field] = &[
    field(
        "file",
        Kind::Text { longest: 4096 },
        Optional,
        "A trace file, relative to this file.",
    ),
    field(
        "street",
        Kind::Table(STREET),
        Optional,
        "A generated trace of an urban street.",
    ),
];

pub(crate) const STREET: &[Field] = &[
    field(
        "duration",
        time(1, DAY),
        Usually("20 s"),
        "Length of the trace.",
    ),
    field(
        "step",
        time(1_000, DAY),
        Usually("10 ms"),
        "Time between rows.",
    ),
    field(
        "end",
        Kind::Choice(&["loop", "hold", "clear"]),
        Usually("hold"),
        "What follows the end: from the start again, the last row, or no limit at all.",
    ),
    field(
        "carrier",
        Kind::Measure(Measure::Frequency),
        Usually("7 GHz"),
        "Carrier, 0.5 to 100 GHz.",
    ),
    field(
        "bandwidth",
        Kind::Measure(Measure::Frequency),
        Usually("100 MHz"),
        "Of the carrier.",
    ),
    field(
        "downlink_share",
        Kind::Share { zero: true },
        Usually("20 %"),
        "Share of the cell's time that this user's downlink gets.",
    ),
    field(
        "uplink_share",
        Kind::Share { zero: true },
        Usually("8 %"),
        "The same for the uplink.",
    ),
    field(
        "distance",
        Kind::Measure(Measure::Length),
        Usually("120 m"),
        "How far along the street the base station is at the start; the user walks towards it.",
    ),
    field(
        "street_offset",
        Kind::Measure(Measure::Length),
        Usually("10 m"),
        "How far the user's line stays from the base station sideways; at least 10 m.",
    ),
    field(
        "speed",
        Kind::Measure(Measure::Speed),
        Usually("1.5 m/s"),
        "The user's speed.",
    ),
    field(
        "base_height",
        Kind::Measure(Measure::Length),
        Usually("10 m"),
        "Base station's antenna.",
    ),
    field(
        "user_height",
        Kind::Measure(Measure::Length),
        Usually("1.5 m"),
        "User's antenna, 1.5 m to 22.5 m.",
    ),
    field(
        "sight",
        Kind::Choice(&["clear", "obstructed"]),
        Usually("clear"),
        "Whether buildings stand between base station and user.",
    ),
    field(
        "base_power",
        Kind::Measure(Measure::PowerLevel),
        Usually("33 dBm"),
        "Transmit power of the base station, antenna gains included.",
    ),
    field(
        "user_power",
        Kind::Measure(Measure::PowerLevel),
        Usually("23 dBm"),
        "Transmit power of the user, antenna gains included.",
    ),
    field(
        "base_noise_figure",
        Kind::Measure(Measure::Ratio),
        Usually("5 dB"),
        "Of its receiver.",
    ),
    field(
        "user_noise_figure",
        Kind::Measure(Measure::Ratio),
        Usually("9 dB"),
        "Of its receiver.",
    ),
    field(
        "downlink_interference",
        Kind::Measure(Measure::Ratio),
        Usually("10 dB"),
        "How far interference lifts the noise in the downlink.",
    ),
    field(
        "uplink_interference",
        Kind::Measure(Measure::Ratio),
        Usually("6 dB"),
        "How far interference lifts the noise in the uplink.",
    ),
    field(
        "efficiency",
        Kind::Share { zero: false },
        Usually("60 %"),
        "Share of Shannon's capacity that the link reaches.",
    ),
    field(
        "efficiency_cap",
        Kind::Measure(Measure::SpectralEfficiency),
        Usually("7.4 bit/s/Hz"),
        "Highest spectral efficiency.",
    ),
    field(
        "lowest_sinr",
        Kind::Measure(Measure::Ratio),
        Usually("-6 dB"),
        "Signal to interference and noise ratio below which nothing gets through.",
    ),
    field(
        "shadowing",
        Kind::Measure(Measure::Ratio),
        Usually("4 dB"),
        "Its standard deviation.",
    ),
    field(
        "shadowing_distance",
        Kind::Measure(Measure::Length),
        Usually("10 m"),
        "Distance over which the shadowing's correlation falls to 1/e.",
    ),
    field(
        "blocker_at",
        time(0, DAY),
        Usually("8 s"),
        "When the blocker stands fully in the path.",
    ),
    field(
        "blocker_length",
        time(0, DAY),
        Usually("2500 ms"),
        "How long it stays fully in the path; `0 s` means no blocker.",
    ),
    field(
        "blocker_edge",
        time(0, DAY),
        Usually("100 ms"),
        "How long it takes to move in or out.",
    ),
    field(
        "blocker_loss",
        Kind::Measure(Measure::Ratio),
        Usually("45 dB"),
        "What it takes from the signal while fully in the path.",
    ),
    field(
        "downlink_delay",
        time(0, SECOND),
        Usually("4 ms"),
        "One-way delay of the downlink.",
    ),
    field(
        "uplink_delay",
        time(0, SECOND),
        Usually("8 ms"),
        "One-way delay of the uplink.",
    ),
    field(
        "jitter",
        time(0, SECOND),
        Usually("0 ns"),
        "Half-width of the uniform jitter.",
    ),
    field(
        "queue",
        Kind::Size {
            least: 0,
            most: 1 << 30,
        },
        Usually("300 kB"),
        "Queue before the bottleneck, each way; `0 B` leaves it to the link.",
    ),
];

pub(crate) const NODE: &[Field] = &[
    field(
        "cpus",
        Kind::Integer {
            least: 1,
            most: 1024,
        },
        Usually("1"),
        "How many CPUs of its own.",
    ),
    field(
        "cpu_quota",
        Kind::Share { zero: false },
        Optional,
        "The stated slowdown: the share of its CPUs' time that the node gets.",
    ),
    field(
        "cpu_period",
        time(1_000_000, 5_000_000),
        Usually("5 ms"),
        "The period of the quota. The longer it is, the longer a token may be held up.",
    ),
];

pub(crate) const LINK: &[Field] = &[
    field("name", Kind::Identifier, Required, "Its name."),
    field(
        "between",
        Kind::List {
            of: &Kind::Name,
            least: 2,
        },
        Required,
        "The two nodes it joins; `up` goes from the first to the second.",
    ),
    field("trace", Kind::Identifier, Required, "The trace it follows."),
    field(
        "datapath",
        Kind::Choice(&["auto", "relay", "tc"]),
        Usually("auto"),
        "How packets are shaped: in userspace (relay), by the kernel (tc), or whatever works best.",
    ),
    field(
        "mtu",
        Kind::Integer {
            least: 1280,
            most: 9000,
        },
        Usually("1500"),
        "Largest IP packet, in bytes (IPv6 needs 1280).",
    ),
    field(
        "queue",
        Kind::Size {
            least: 1_500,
            most: 1 << 30,
        },
        Usually("300 kB"),
        "Queue before the bottleneck where the trace leaves it open, in bytes of IP packets.",
    ),
];

pub(crate) const MODEL: &[Field] = &[
    field(
        "recipe",
        Kind::Identifier,
        Optional,
        "A bundled recipe, trained once and kept; `tiny` unless a directory is given.",
    ),
    field(
        "directory",
        Kind::Text { longest: 4096 },
        Optional,
        "A Hugging Face checkpoint (config.json, tokenizer.json, model.safetensors), relative to \
         this file.",
    ),
];

pub(crate) const REQUESTS: &[Field] = &[
    field(
        "arrivals",
        Kind::PerSecond,
        Required,
        "Mean rate of a Poisson process.",
    ),
    field(
        "prompt_tokens",
        Kind::Integer {
            least: 1,
            most: 1 << 20,
        },
        Required,
        "Prompt length of every request, in tokens.",
    ),
    field(
        "output_tokens",
        Kind::Integer {
            least: 1,
            most: 1 << 20,
        },
        Required,
        "Tokens that every request generates; generation never stops earlier.",
    ),
    field(
        "arrive_for",
        time(1, DAY),
        Required,
        "How long requests keep arriving in a phase.",
    ),
    field(
        "deadline",
        time(1_000_000, DAY),
        Required,
        "A request that has not ended so long after its scheduled time counts as failed.",
    ),
];

pub(crate) const PHASE: &[Field] = &[
    field("name", Kind::Identifier, Required, "Its name."),
    field(
        "placement",
        Kind::Choice(&["device", "edge", "split"]),
        Required,
        "Where the layers of the model run.",
    ),
    field(
        "layers_on_device",
        Kind::Integer {
            least: 0,
            most: 1 << 20,
        },
        Optional,
        "With placement `split`: how many decoder layers run on the device, the rest on the edge.",
    ),
    field(
        "device",
        Kind::Name,
        Optional,
        "The node that sends the requests: the link's first end.",
    ),
    field(
        "edge",
        Kind::Name,
        Optional,
        "The node that plays the edge: the link's second end.",
    ),
    field(
        "link",
        Kind::Identifier,
        Optional,
        "The link between them, if there is more than one.",
    ),
    field(
        "family",
        Kind::Choice(&["ipv4", "ipv6"]),
        Usually("ipv4"),
        "The address family of the job's connection.",
    ),
    field(
        "duration",
        time(1_000_000, DAY),
        Required,
        "Length of the phase; requests still under way then are unfinished.",
    ),
];

pub(crate) const COMMAND: &[Field] = &[
    field("name", Kind::Identifier, Required, "Its name."),
    field("node", Kind::Name, Required, "The node it runs on."),
    field(
        "argv",
        Kind::List {
            of: &Kind::Text { longest: 4096 },
            least: 1,
        },
        Required,
        "Program and arguments; no shell sees them.",
    ),
];

pub(crate) const CALIBRATION: &[Field] = &[
    field(
        "flow",
        time(3 * SECOND, 3600 * SECOND),
        Usually("3 s"),
        "Length of the saturating flow in each direction.",
    ),
    field(
        "packet",
        Kind::Size {
            least: 64,
            most: 8_952,
        },
        Usually("1200 B"),
        "Payload of its packets.",
    ),
    field(
        "probe_gap",
        time(1_000_000, SECOND),
        Usually("10 ms"),
        "Gap between the probes that measure delay in the other direction.",
    ),
    field(
        "window",
        time(1_000_000, SECOND),
        Usually("50 ms"),
        "Windows in which asked and delivered are compared, here and during the run.",
    ),
];

pub(crate) const VERDICT: &[Field] = &[
    field(
        "rate_error",
        Kind::Share { zero: true },
        Usually("1 %"),
        "Largest |delivered / trace - 1|.",
    ),
    field(
        "delay_error",
        time(0, SECOND),
        Usually("500 us"),
        "Largest 99th percentile of the one-way delay error: this or `delay_error_share` of the \
         delay asked for, whichever is larger.",
    ),
    field(
        "delay_error_share",
        Kind::Share { zero: true },
        Usually("5 %"),
        "See `delay_error`.",
    ),
    field(
        "shaper_lateness",
        time(0, SECOND),
        Usually("1 ms"),
        "Largest 99th percentile of the shaper's lateness.",
    ),
    field(
        "send_lateness",
        Kind::Share { zero: true },
        Usually("1 %"),
        "Largest 99th percentile of the load generator's lateness, as a share of the deadline.",
    ),
    field(
        "backlogged_windows",
        Kind::Integer {
            least: 0,
            most: 1_000_000,
        },
        Usually("50"),
        "Fewest windows in which the queue was never empty.",
    ),
    field(
        "relay_cpu",
        Kind::Share { zero: true },
        Usually("5 %"),
        "Largest share of any job's CPU set that the relay's threads took.",
    ),
];

pub(crate) const FAULTS: &[Field] = &[
    field(
        "stop_relay",
        time(0, 60 * SECOND),
        Usually("0 ms"),
        "Stops the relay for so long in the middle of each calibration flow.",
    ),
    field(
        "scale_rate",
        Kind::Share { zero: false },
        Optional,
        "Plays every rate at this share of what the trace asks.",
    ),
    field(
        "add_delay",
        time(0, 60 * SECOND),
        Usually("0 ms"),
        "Adds to every delay that is played.",
    ),
    field(
        "delay_sends",
        time(0, 60 * SECOND),
        Usually("0 ms"),
        "Delays every send of the load generator.",
    ),
    field(
        "burn_relay_cpu",
        Kind::Boolean,
        Usually("false"),
        "Burns CPU on the CPUs of the first node, counted as the relay's.",
    ),
];

pub(crate) const EXPECTATION: &[Field] = &[
    field("name", Kind::Name, Required, "Its name in the report."),
    field(
        "claim",
        Kind::Choice(&[
            "same-tokens",
            "payload-formula",
            "stalls-in-outage",
            "goes-on-in-outage",
            "all-completed",
        ]),
        Required,
        "What is claimed. same-tokens: every request that completed in all `phases` has the same \
         tokens in each. Of one `phase`: payload-formula: payload on the link equals the formula of \
         the placement, byte for byte; stalls-in-outage: no token arrived during an outage, though \
         requests were under way; goes-on-in-outage: tokens went on arriving; all-completed: every \
         request completed.",
    ),
    field(
        "phase",
        Kind::Identifier,
        Optional,
        "The phase that the claim is about.",
    ),
    field(
        "phases",
        Kind::List {
            of: &Kind::Identifier,
            least: 2,
        },
        Optional,
        "With claim `same-tokens`: the phases that are compared.",
    ),
];

/// The field of that key.
pub(crate) fn find(fields: &'static [Field], key: &str) -> Option<&'static Field> {
    fields.iter().find(|field| field.key == key)
}

/// The word in the file for a placement.
pub(crate) const fn placement_name(placement: Placement) -> &'static str {
    match placement {
        Placement::Device => "device",
        Placement::Edge => "edge",
        Placement::Split { .. } => "split",
    }
}
