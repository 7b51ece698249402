//! The table of everything an experiment file may say: keys, kinds of values, defaults and what
//! they mean. The reader, the checks of the text, the JSON Schema and the list of keys in the
//! help all follow from this one table, so they cannot drift apart.

mod background;
mod job;
mod link;
pub(crate) mod load;
mod machine;
mod scenario;
mod study;
mod traffic;

use background::BACKGROUND;
use job::{CALIBRATION, COMMAND, EXPECTATION, FAULTS, PHASE, REQUESTS, VERDICT};
pub(crate) use link::EVENT;
use link::{CELL, LINK};
use load::LOAD;
use machine::MACHINE;
pub(crate) use scenario::{TRACE_EVENT, WITH_SCENARIO};
use study::STUDY;
use traffic::{STEPS, TRAFFIC};

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
    /// A queue's limit in text: an amount of data, or a number of packets.
    Queue,
    /// A data rate in text, which may be `unlimited`.
    Rate,
    /// A share of 1 in text; zero only where it makes sense.
    Share {
        zero: bool,
    },
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
    /// Texts keyed by names of variables of the environment.
    Variables,
    /// Tables keyed by names, each a partial experiment.
    Presets,
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
        "cells",
        Kind::Array {
            of: CELL,
            what: "cell",
        },
        Optional,
        "Radio cells, each with the links that name it: they share its capacity, each direction \
         apart.",
    ),
    field(
        "model",
        Kind::Table(MODEL),
        Usually("{}"),
        "The language model that the jobs serve.",
    ),
    field(
        "draft_model",
        Kind::Table(DRAFT_MODEL),
        Optional,
        "A second, smaller language model with the tokenizer of the first: what drafts in speculative \
         decoding, and the small model of a cascade. Every node sees both.",
    ),
    field(
        "requests",
        Kind::Table(REQUESTS),
        Optional,
        "The requests, the same in every phase. Needed with `phases`.",
    ),
    field(
        "phases",
        Kind::Array {
            of: PHASE,
            what: "phase",
        },
        Optional,
        "What is run, one after the other, each from the start of the traces.",
    ),
    field(
        "traffic",
        Kind::Array {
            of: TRAFFIC,
            what: "traffic phase",
        },
        Optional,
        "Phases without a model, played before the others: what shows whether a link does what its \
         trace asks, end to end.",
    ),
    field(
        "studies",
        Kind::Array {
            of: STUDY,
            what: "study",
        },
        Optional,
        "Techniques tried over a grid of settings of their links, one request after another; played \
         after the phases.",
    ),
    field(
        "loads",
        Kind::Array {
            of: LOAD,
            what: "load",
        },
        Optional,
        "Phases in which requests go to a server that speaks the streaming part of OpenAI's interface \
         (vLLM, SGLang, llama.cpp), which a program of [[commands]] is; played after the studies.",
    ),
    field(
        "background",
        Kind::Array {
            of: BACKGROUND,
            what: "background traffic",
        },
        Optional,
        "Traffic that others have a link carry beside phases of any kind, from T0 to their end.",
    ),
    field(
        "events",
        Kind::Array {
            of: EVENT,
            what: "event",
        },
        Optional,
        "Changes of links at moments of a phase: settings, values that stand in for the trace's, \
         a trace that pauses, goes on or jumps.",
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
        "machine",
        Kind::Table(MACHINE),
        Usually("{}"),
        "What is asked of the machine itself; only what its `agent.toml` allows is set.",
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
        "scenario",
        Kind::Text { longest: 4096 },
        Optional,
        "A bundled scenario (`hexloop trace list`), or a scenario file relative to this file.",
    ),
    field(
        "duration",
        time(1_000, DAY),
        Optional,
        "Length of the scenario's trace, instead of its own.",
    ),
    field(
        "step",
        time(1_000, DAY),
        Optional,
        "Time between rows, instead of the scenario's.",
    ),
    field(
        "user",
        Kind::Integer {
            least: 0,
            most: 100_000,
        },
        Usually("0"),
        "Which of the scenario's users: each has its own way and channel.",
    ),
    field(
        "set",
        Kind::List {
            of: &Kind::Text { longest: 4096 },
            least: 1,
        },
        Optional,
        "Other settings of the scenario, such as `radio.carrier=15 GHz`.",
    ),
    field(
        "events",
        Kind::Array {
            of: TRACE_EVENT,
            what: "event",
        },
        Optional,
        "What is scripted on top of it, whatever its source.",
    ),
    field(
        "steps",
        Kind::Table(STEPS),
        Optional,
        "A trace of given rates, one after the other, round and round; with one, a constant link.",
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
    field(
        "slowdown",
        Kind::Integer {
            least: 1,
            most: 1000,
        },
        Optional,
        "The stated slowdown of its engine: every computation lasts so many times the CPU time that it \
         took. Unlike a quota it holds for each computation alone, however short.",
    ),
    field(
        "congestion_control",
        Kind::Choice(&["cubic", "bbr", "reno"]),
        Optional,
        "What controls the congestion of its TCP connections; cubic unless given, or reno where \
         namespaces may not have that. \
         What is asked for and cannot be had ends the run before anything is sent.",
    ),
    field(
        "partition",
        Kind::Choice(&["root", "isolated"]),
        Optional,
        "Takes its CPUs away from everybody else by a cpuset partition (control groups version 2); \
         `isolated` also from the scheduler's balancing.",
    ),
    field(
        "memory",
        Kind::Choice(&["any", "local"]),
        Usually("any"),
        "Which memory its processes get: `local` is that of its CPUs' NUMA nodes alone.",
    ),
    field(
        "realtime",
        Kind::Integer { least: 1, most: 19 },
        Optional,
        "Runs its processes under SCHED_FIFO at this priority, below the relay's. A thread that runs \
         for 0.5 s without sleeping loses it.",
    ),
    field(
        "device",
        Kind::Text { longest: 64 },
        Usually("cpu"),
        "Where its engine computes: `cpu`, `cuda:` and the number of an NVIDIA GPU, or a GPU's UUID. \
         GPUs need the program hexloop-engine-cuda.",
    ),
    field(
        "precision",
        Kind::Choice(&["f32", "f16", "bf16"]),
        Usually("f32"),
        "What its engine keeps weights and hidden states in; CPUs take f32 and f16. Weights in blocks of fewer bits \
         stay blocks in f32, and become numbers of any other precision, rounded as the blocks are.",
    ),
    field(
        "gpu",
        Kind::Identifier,
        Optional,
        "The GPU of its processes: its UUID (`GPU-...`), or its number, from which the UUID is found.",
    ),
    field(
        "gpu_power_watts",
        Kind::Integer {
            least: 1,
            most: 10_000,
        },
        Optional,
        "Power limit of that GPU while the run lasts.",
    ),
    field(
        "gpu_clock_mhz",
        Kind::Integer {
            least: 1,
            most: 10_000,
        },
        Optional,
        "Locks the clock of that GPU's multiprocessors while the run lasts.",
    ),
    field(
        "gpu_persistence",
        Kind::Boolean,
        Usually("false"),
        "Keeps that GPU's driver loaded while the run lasts.",
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

const DRAFT_MODEL: &[Field] = &[
    field(
        "recipe",
        Kind::Identifier,
        Optional,
        "A bundled recipe, trained once and kept; `tiny-draft` unless a directory is given.",
    ),
    field(
        "directory",
        Kind::Text { longest: 4096 },
        Optional,
        "A Hugging Face checkpoint whose tokenizer has the vocabulary of the first model's, relative to \
         this file.",
    ),
];

/// The field of that key.
pub(crate) fn find(fields: &'static [Field], key: &str) -> Option<&'static Field> {
    fields.iter().find(|field| field.key == key)
}
