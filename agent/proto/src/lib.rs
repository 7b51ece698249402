//! What controller and agent say to each other: the gRPC service, and the events of a run.
//!
//! Events are one Rust type with one JSON form: that is what the agent streams, what the run
//! directory stores and what monitor and report read.

mod capture;
mod event;
mod isolation;
mod metering;
mod usage;

pub use capture::{CaptureOutcome, LinkCapture};
pub use event::{
    AgentDescription, CommandExit, CpuPinning, Event, EventBody, JobResources, LateHistogram,
    LinkCalibration, LinkChanged, LinkControl, LinkCounters, LinkWindow, Measurement, NodeSample,
    NodeUp, PhaseEnd, TcpCounters,
};
pub use hexloop_traces::Direction;
pub use hexloop_workloads::job::{Outcome, RequestRecord};
pub use hexloop_workloads::wire::PayloadBytes;
pub use isolation::{AskedAndGot, CoolingReport, InterruptCpu, NoiseReport};
pub use metering::{
    ChannelEnergy, GpuSample, IdlePower, MeterChannel, MeterCost, MeterReadings, MeteringCost,
    TickWindow, Unmetered,
};
pub use usage::{CoreSample, CoreUse, NodeCounters};

/// The version of the service and of the events. Peers of another version are refused.
pub const PROTOCOL_VERSION: u32 = 6;

/// The generated client and server.
#[expect(
    missing_docs,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    unused_qualifications,
    reason = "generated code"
)]
pub mod service {
    tonic::include_proto!("hexloop.agent.v1");
}
