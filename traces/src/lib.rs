//! Units, experiment time, link state, channel traces and their exact playback.
//!
//! Nothing here reads a clock, starts a thread or touches the network: a trace is data, and
//! playing it is arithmetic on integers (nanoseconds and bits), so that every answer can be
//! checked exactly.
//!
//! - [`Trace`]: rows of [`LinkState`] in both directions, each constant until the next row, and
//!   what the trace says about itself ([`TraceMetadata`]).
//! - [`CapacityCurve`]: one direction prepared for playback: when a packet has been sent, how
//!   many bits a link carries or lets arrive between two moments.
//! - [`Schedule`]: the same with what was done to it while it played: paused, resumed, jumped, a
//!   value overridden.
//! - [`mod@format`]: the trace file (commented CSV) and imports of others' files.
//! - [`scenario`]: from a few lines of TOML to the rows of a trace, radio channels and controls alike.
//! - [`mobility`] and [`network`]: how users move, and which cell serves them.
//! - [`generate`]: analytic traces for tests and calibrations.
//! - [`tr38901`]: 3GPP's channel model: path loss, line of sight, shadowing, walls, blockers.
//! - [`eval`]: any one model for every row of a table.
//! - [`stats`]: what a trace amounts to, and where its outages are.
//! - [`CellScheduler`]: how several users share the slots of one radio cell.
//! - [`LinkSettings`]: what a link is set to beside its trace: queue, discipline, service.
//! - [`fading`]: tapped delay lines; the power of a link in every subband as its user moves.
//! - [`phy`]: from SINR to service: coding schemes, block errors, link adaptation, HARQ.
//! - [`propagation`]: close-in path loss above 100 GHz; gases, rain, cloud and fog.
//! - [`ntn`]: satellites in low orbit: geometry, losses, who serves when.
//! - [`units`]: quantities as people write them, `100 Mbit/s` or `7 GHz`.
//! - [`stream`] and [`CounterRng`]: random numbers, one source per purpose, so that none disturbs
//!   another.
//!
//! ```
//! use hexloop_traces::scenario::{Scenario, Variant};
//! use hexloop_traces::{CapacityCurve, Direction, format, stats};
//!
//! let scenario = Scenario::bundled("outage").expect("it is bundled");
//! let trace = scenario.generate(Variant::default())?.into_trace()?;
//! assert_eq!(format::parse(&format::to_text(&trace))?, trace);
//!
//! let down = CapacityCurve::new(&trace, Direction::Down);
//! let (start_ns, end_ns) = stats::outages(&trace, Direction::Down)[0];
//! assert_eq!(down.bits_between(start_ns, end_ns), 0);
//! assert!(down.finish_ns(start_ns, 12_000) > Some(end_ns));
//! # Ok::<(), hexloop_traces::TraceError>(())
//! ```

mod cell;
mod change;
mod curve;
mod error;
pub mod eval;
pub mod fading;
pub mod format;
mod gap;
pub mod generate;
mod losses;
pub mod mobility;
pub mod network;
pub mod ntn;
mod pair;
pub mod phy;
pub mod propagation;
mod provenance;
pub mod rng;
mod row_check;
pub mod scenario;
mod schedule;
mod settings;
mod state;
pub mod stats;
pub mod tr38901;
mod trace;
pub mod units;

pub use cell::{CellPolicy, CellScheduler, CellSettings, SlotShare};
pub use change::{LinkChange, SettingsChange};
pub use curve::CapacityCurve;
pub use error::TraceError;
pub use gap::Gaps;
pub use losses::LossBounds;
pub use pair::{pair, pair_to_play};
pub use provenance::{Provenance, Radio, Source};
pub use rng::{CounterRng, stream};
pub use row_check::RowCheck;
pub use schedule::{Carried, Intervention, PlaybackChange, Schedule, StateOverride};
pub use settings::{LinkSettings, QueueDiscipline, QueueLimit, Service};
pub use state::{Diagnostics, Direction, LinkState, UNLIMITED_RATE_BPS};
pub use stats::TraceStatistics;
pub use trace::{
    EndPolicy, OLDEST_TRACE_SCHEMA, TRACE_SCHEMA, Trace, TraceMetadata, TraceRow, TraceStatus,
};
