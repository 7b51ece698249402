//! Why a plan could not be played to its end.

use std::io;

use super::desk::ControlError;
use crate::cgroup::CgroupError;
use crate::guardian::GuardianError;
use crate::isolation::IsolationError;
use crate::isolation::node::NodeSettingError;
use crate::link::LinkError;
use crate::node::{NodeError, PinningError};

/// Why a plan could not be played to its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlayError {
    /// The plan contradicts itself or what travels with it.
    #[error("the plan cannot be played: {0}")]
    Plan(String),
    /// The model cannot be read by the jobs.
    #[error("jobs run as {job_user}, who may not read {path}: `chmod -R a+rX` its directory")]
    ModelUnreadable {
        /// Who.
        job_user: String,
        /// What.
        path: String,
    },
    /// A node could not be made.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// A node could not be pinned.
    #[error(transparent)]
    Pinning(#[from] PinningError),
    /// A control group could not be made.
    #[error("cannot make a node's control groups")]
    Cgroup(#[from] CgroupError),
    /// What is to be done could not be noted for the undoing.
    #[error(transparent)]
    Guardian(#[from] GuardianError),
    /// The machine cannot be made what the plan asks for.
    #[error(transparent)]
    Isolation(#[from] IsolationError),
    /// A node cannot be.
    #[error(transparent)]
    NodeSetting(#[from] NodeSettingError),
    /// A link failed.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The kernel refused something ordinary.
    #[error("cannot {action}")]
    System {
        /// What was being done.
        action: &'static str,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A job gave up.
    #[error("phase {phase}: the job on {node} failed: {reason}")]
    JobFailed {
        /// The phase.
        phase: String,
        /// The node.
        node: String,
        /// Why.
        reason: String,
    },
    /// A job was not ready in time.
    #[error("phase {phase}: the job on {node} was not ready after {seconds} s")]
    JobNotReady {
        /// The phase.
        phase: String,
        /// The node.
        node: String,
        /// How long it had.
        seconds: u64,
    },
    /// A change of a link that the plan asks for could not be made.
    #[error("event {event} cannot be played")]
    Event {
        /// The event.
        event: String,
        /// The cause.
        #[source]
        source: ControlError,
    },
    /// It was told to stop.
    #[error("stopped: {0}")]
    Stopped(String),
}

impl PlayError {
    /// The exit code that it calls for.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            PlayError::Plan(_) => 3,
            PlayError::ModelUnreadable { .. }
            | PlayError::Node(NodeError::Namespaces { .. } | NodeError::SetUp { .. })
            | PlayError::Pinning(_)
            | PlayError::Cgroup(_)
            | PlayError::Guardian(_)
            | PlayError::Isolation(_)
            | PlayError::NodeSetting(_)
            | PlayError::Link(LinkError::NoDatapath { .. }) => 4,
            PlayError::Stopped(_) => 130,
            _ => 1,
        }
    }
}
