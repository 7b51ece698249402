//! Scenarios: a few readable lines of TOML, and the trace that follows from them and a seed.
//!
//! [`Scenario::parse`] reads and checks a file, [`Scenario::generate`] gives its rows one by one:
//! memory does not grow with the length. The same scenario, seed and user give the same rows on
//! every machine.
//!
//! ```
//! use hexloop_traces::scenario::{Scenario, Variant};
//!
//! let scenario = Scenario::bundled("outage").expect("it is bundled");
//! let trace = scenario.generate(Variant::default())?.into_trace()?;
//! assert_eq!(trace.rows()[1].diagnostics.event.as_deref(), Some("outage"));
//! # Ok::<(), hexloop_traces::TraceError>(())
//! ```

mod bundled;
mod channel;
mod control;
mod error;
mod event;
mod file;
mod generator;
mod metadata;
mod reach;
mod settings;
mod text;

pub use bundled::{BundledScenario, bundled_scenarios};
pub use control::Control;
pub use error::{ScenarioError, ScenarioProblem};
pub use event::{EventDirection, EventKind, ScriptedEvent, with_events};
pub use file::Scenario;
pub use generator::{Generator, Variant};
pub use settings::{
    BlockageSettings, ChannelModel, ChannelSettings, ConstellationName, FadingModel,
    HandoverSettings, Holding, LayoutName, MobilityKind, MobilitySettings, NetworkSettings,
    RadioLink, SatelliteSettings, SchedulerName, SightChoice, Surroundings, Weather,
};
