//! Plays a plan: trains its model if need be, starts an agent, follows its events.

mod agent_process;
pub(crate) mod interrupt;
pub(crate) mod metering;
mod progress;
mod session;
pub(crate) mod training;
pub(crate) mod training_energy;

pub(crate) use agent_process::{AgentPlace, AgentProcess, make_private};
pub(crate) use progress::RunMonitor;
pub(crate) use session::{Played, SessionInput, change_link, play};
