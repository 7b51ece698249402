//! The programs of one direction in the kernel, and the memory that they work on.

use hexloop_workloads::clock::MonotonicNs;

use super::memory::{self, FINISH_BYTES, LATENESS_BYTES, STATE_BYTES};
use super::program::{self, Clock, Maps, Stamp};
use super::table::Table;
use crate::link::LinkError;
use crate::link::histogram::NanosecondHistogram;
use crate::sys::bpf::{Program, SharedMemory};

/// Never reached by the monotonic clock.
const NEVER: MonotonicNs = u64::MAX;

/// What the programs of one direction are made from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Settings {
    pub(super) window_ns: u64,
    pub(super) horizon_ns: u64,
    pub(super) seed: u64,
    pub(super) reorder: bool,
    /// So many packets may wait where the trace does not limit the queue in bytes.
    pub(super) queue_packets: Option<u32>,
    pub(super) slot_ns: Option<u64>,
    pub(super) clock: Clock,
}

/// One direction. It is transparent until [`Loaded::start`].
#[derive(Debug)]
pub(super) struct Loaded {
    /// What is played now.
    now: Generation,
    /// What a playback begins with, while something else is played.
    first: Option<Generation>,
    pub(super) observe: Program,
    control: SharedMemory,
    state: SharedMemory,
    lateness: SharedMemory,
    /// The programs use it; nobody here reads it.
    due: SharedMemory,
}

/// A trace with the program made for it.
#[derive(Debug)]
pub(super) struct Generation {
    pub(super) table: Table,
    pub(super) settings: Settings,
    pub(super) stamp: Program,
    /// The program uses them.
    _entries: SharedMemory,
    _finish: Option<SharedMemory>,
}

impl Generation {
    fn new(
        table: Table,
        settings: Settings,
        shared: [&SharedMemory; 4],
    ) -> Result<Generation, LinkError> {
        let bytes = table.to_bytes();
        let entries = memory("hx_trace", bytes.len())?;
        touched(entries.write(&bytes), "write the trace")?;
        let finish = settings
            .queue_packets
            .map(|_| memory("hx_finish", FINISH_BYTES));
        let finish = finish.transpose()?;
        let stamp = Stamp {
            table: &table,
            maps: Maps {
                finish: finish.as_ref().map_or(-1, SharedMemory::number),
                ..maps(shared, entries.number())
            },
            window_ns: settings.window_ns.max(1),
            horizon_ns: settings.horizon_ns,
            seed: settings.seed,
            reorder: settings.reorder,
            queue_packets: settings.queue_packets,
            slot_ns: settings.slot_ns,
            clock: settings.clock,
        };
        Ok(Generation {
            stamp: load("hx_stamp", stamp.assemble())?,
            table,
            settings,
            _entries: entries,
            _finish: finish,
        })
    }
}

fn maps([control, state, due, lateness]: [&SharedMemory; 4], table: i32) -> Maps {
    Maps {
        control: control.number(),
        state: state.number(),
        table,
        due: due.number(),
        lateness: lateness.number(),
        finish: -1,
    }
}

fn memory(name: &str, bytes: usize) -> Result<SharedMemory, LinkError> {
    SharedMemory::create(name, bytes).map_err(|source| LinkError::Bpf {
        action: format!(
            "make BPF map {name} of {bytes} bytes (this needs root outside of any user namespace)"
        ),
        source: source.into(),
    })
}

/// Loads a program that was assembled.
pub(super) fn load(
    name: &'static str,
    assembled: Result<Vec<u64>, super::assembler::AssemblyError>,
) -> Result<Program, LinkError> {
    let instructions = assembled.map_err(|source| LinkError::Bpf {
        action: format!("assemble BPF program {name}"),
        source: source.into(),
    })?;
    Program::load(name, &instructions).map_err(|source| LinkError::Bpf {
        action: "load a BPF program".to_owned(),
        source: source.into(),
    })
}

fn touched<T>(result: std::io::Result<T>, action: &str) -> Result<T, LinkError> {
    result.map_err(|source| LinkError::Bpf {
        action: format!("{action} of a BPF program"),
        source: source.into(),
    })
}

impl Loaded {
    /// Loads both programs and the table.
    pub(super) fn new(table: Table, settings: Settings) -> Result<Loaded, LinkError> {
        let control = memory("hx_control", memory::CONTROL_BYTES)?;
        touched(
            control.write(&memory::control(NEVER, None)),
            "write the start",
        )?;
        let state = memory("hx_state", STATE_BYTES)?;
        let due = memory("hx_due", memory::DUE_BYTES)?;
        let lateness = memory("hx_lateness", LATENESS_BYTES)?;
        let shared = [&control, &state, &due, &lateness];
        let now = Generation::new(table, settings, shared)?;
        // This one looks nothing up in the trace.
        let observe = load("hx_observe", program::observe(maps(shared, -1)))?;
        Ok(Loaded {
            now,
            first: None,
            observe,
            control,
            state,
            lateness,
            due,
        })
    }

    /// What is played.
    pub(super) const fn now(&self) -> &Generation {
        &self.now
    }

    /// Makes a program for something else to play; [`Loaded::take_over`] makes it what is played.
    pub(super) fn another(
        &self,
        table: Table,
        settings: Settings,
    ) -> Result<Generation, LinkError> {
        let shared = [&self.control, &self.state, &self.due, &self.lateness];
        Generation::new(table, settings, shared)
    }

    /// From now on this is played.
    pub(super) fn take_over(&mut self, next: Generation) {
        let before = std::mem::replace(&mut self.now, next);
        self.first.get_or_insert(before);
    }

    /// Goes back to what a playback begins with; says whether that is another program.
    pub(super) fn begin_anew(&mut self) -> bool {
        match self.first.take() {
            Some(first) => {
                self.now = first;
                true
            }
            None => false,
        }
    }

    /// Shapes from `t0` on, from the beginning of the trace.
    pub(super) fn start(
        &self,
        t0: MonotonicNs,
        pause: Option<(u64, u64)>,
    ) -> Result<(), LinkError> {
        touched(self.state.write(&memory::fresh_state()), "reset the state")?;
        touched(
            self.lateness.write(&[0; LATENESS_BYTES]),
            "reset the lateness",
        )?;
        let pause = pause.map(|(from, until)| (t0.saturating_add(from), t0.saturating_add(until)));
        touched(
            self.control.write(&memory::control(t0, pause)),
            "write the start",
        )
    }

    /// Lets packets pass at once from now on.
    pub(super) fn stop(&self) -> Result<(), LinkError> {
        touched(
            self.control.write(&memory::control(NEVER, None)),
            "write the end",
        )
    }

    /// The integral of what the link has granted by a moment, modulo 2^64.
    pub(super) fn granted_at(&self, t_ns: u64) -> u64 {
        let slot_ns = self.now.settings.slot_ns.unwrap_or(1);
        self.now.table.integral_at(t_ns - t_ns % slot_ns)
    }

    /// The state as it is now.
    pub(super) fn state(&self) -> Result<Vec<u8>, LinkError> {
        let mut bytes = vec![0; STATE_BYTES];
        touched(self.state.read(&mut bytes), "read the state")?;
        Ok(bytes)
    }

    /// How late packets were received since the start, to within 1/64, rounded up.
    pub(super) fn lateness(&self) -> Result<NanosecondHistogram, LinkError> {
        let mut bytes = vec![0; LATENESS_BYTES];
        touched(self.lateness.read(&mut bytes), "read the lateness")?;
        let mut histogram = NanosecondHistogram::new();
        for (bucket, place) in (0..).zip((0..LATENESS_BYTES).step_by(8)) {
            histogram.record_many(
                memory::largest_of_bucket(bucket),
                memory::word(&bytes, place),
            );
        }
        Ok(histogram)
    }
}
