//! Fields of what is asked of the machine itself: settings for the time of a run, and how quiet and
//! cool it is to be before.

use super::{Field, Kind, Need, SECOND, field, time};
use Need::{Default as Usually, Optional};

pub(super) const MACHINE: &[Field] = &[
    field(
        "governor",
        Kind::Identifier,
        Optional,
        "Frequency governor of the nodes' CPUs while the run lasts, such as `performance`.",
    ),
    field(
        "energy_preference",
        Kind::Identifier,
        Optional,
        "Energy preference (EPP) of the nodes' CPUs while the run lasts.",
    ),
    field(
        "boost",
        Kind::Boolean,
        Optional,
        "Whether CPUs may run above their nominal frequency while the run lasts.",
    ),
    field(
        "move_interrupts",
        Kind::Boolean,
        Usually("false"),
        "Moves interrupts away from the nodes' CPUs while the run lasts.",
    ),
    field(
        "hugepages",
        Kind::Size {
            least: 1 << 16,
            most: 1 << 42,
        },
        Optional,
        "Memory in huge pages to have free when the run begins, on the NUMA nodes of the nodes' CPUs.",
    ),
    field(
        "hugepage_size",
        Kind::Size {
            least: 1 << 16,
            most: 1 << 34,
        },
        Usually("2 MiB"),
        "Size of those pages.",
    ),
    field(
        "cool_to",
        Kind::Integer {
            least: 1,
            most: 110,
        },
        Optional,
        "Waits before the phases until the nodes' GPUs, or else the board's thermal zones, are no \
         hotter than so many degrees Celsius.",
    ),
    field(
        "cool_limit",
        time(SECOND, 3600 * SECOND),
        Usually("2 min"),
        "The longest wait for that.",
    ),
    field(
        "meters",
        Kind::List {
            of: &Kind::Identifier,
            least: 1,
        },
        Optional,
        "Meters that the run must have: `any` (energy of the machine), `gpu`, `cpu`, `board`, or the \
         name of an external meter (`--meter`, agent.toml), which must have sent a reading.",
    ),
    field(
        "noise_check",
        time(0, 60 * SECOND),
        Usually("500 ms"),
        "How long the machine is listened to before anything is made: steal, others' work, \
         throttling, lateness of timers.",
    ),
];
