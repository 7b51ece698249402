//! Why an interface is not held, and what the user can do about it.

use std::io;
use std::path::PathBuf;

use hexloop_traces::TraceError;

use crate::change::ChangeError;
use crate::configuration::ConfigurationError;
use crate::guardian::GuardianError;
use crate::link::LinkError;

/// Why an interface is not held.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HoldError {
    /// Not root.
    #[error("shaping an interface needs root")]
    NotRoot,
    /// Root, but not with all of its rights, as in most containers.
    #[error(
        "shaping an interface needs {0}, which this process does not have although it is root's"
    )]
    Powerless(&'static str),
    /// What the owner of the machine wrote.
    #[error(transparent)]
    Configuration(#[from] ConfigurationError),
    /// What the owner of the machine does not allow.
    #[error("{what} is not allowed on this machine")]
    NotAllowed {
        /// What was asked for.
        what: String,
        /// How the owner can allow it.
        remedy: String,
    },
    /// No such interface.
    #[error("there is no interface {0}")]
    NoInterface(String),
    /// The machine is reached over it.
    #[error("interface {interface} is never shaped: {reason}")]
    Protected {
        /// The interface.
        interface: String,
        /// Why.
        reason: String,
    },
    /// Somebody else's, or ours already.
    #[error("interface {interface} {what}")]
    Taken {
        /// The interface.
        interface: String,
        /// By what.
        what: String,
        /// What to do about it.
        remedy: String,
    },
    /// What was asked for makes no sense here.
    #[error("{0}")]
    Senseless(String),
    /// What earlier owners left.
    #[error("this machine is dirty: {0}")]
    Dirty(String),
    /// A change.
    #[error(transparent)]
    Change(#[from] ChangeError),
    /// The guardian.
    #[error(transparent)]
    Guardian(#[from] GuardianError),
    /// The kernel.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// Files and processes.
    #[error("cannot {action}")]
    System {
        /// What was being done.
        action: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// No copy of the trace for the holder.
    #[error(
        "cannot keep a copy of the trace of {rows} rows in {}, which is followed from there",
        directory.display()
    )]
    Copy {
        /// How many rows it has.
        rows: usize,
        /// Where.
        directory: PathBuf,
        /// The cause.
        #[source]
        source: Box<TraceError>,
    },
    /// Its lease ends when it was to end before.
    #[error("the lease of interface {interface} was not renewed: {why}")]
    NotRenewed {
        /// The interface.
        interface: String,
        /// Why.
        why: String,
    },
    /// It was applied, and taken back.
    #[error("interface {interface} was put back: {why}")]
    PutBack {
        /// The interface.
        interface: String,
        /// Why.
        why: String,
    },
}

impl HoldError {
    /// The exit code that it calls for.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            HoldError::Dirty(_) => 5,
            HoldError::Guardian(error) if error.is_dirty() => 5,
            HoldError::Configuration(ConfigurationError::Invalid(_)) => 3,
            HoldError::Senseless(_) => 2,
            HoldError::PutBack { .. } | HoldError::NotRenewed { .. } => 1,
            _ => 4,
        }
    }

    /// What the user can do about it, where the message does not say it.
    #[must_use]
    pub fn remedy(&self) -> Option<String> {
        let words = match self {
            HoldError::NotRoot => "start it with sudo",
            HoldError::Powerless(_) => {
                "start it on the machine itself, or give its container the right (such as \
                 `--cap-add NET_ADMIN --cap-add SYS_ADMIN`)"
            }
            HoldError::Link(LinkError::Lacking { .. }) => {
                "without it a command can be put behind a link of the relay, which needs none of that: \
                 `hexloop link --datapath relay`"
            }
            HoldError::NotAllowed { remedy, .. } | HoldError::Taken { remedy, .. } => remedy,
            HoldError::NoInterface(_) => "`ip link` tells which there are",
            HoldError::Protected { .. } => {
                "this machine could not be reached any more; choose another interface"
            }
            HoldError::Guardian(error) => return error.remedy().map(str::to_owned),
            HoldError::Dirty(_) => "put right what it says, then `hexloop undo`",
            HoldError::Change(ChangeError::Foreign { .. }) => {
                "hexloop never replaces what others made: take it away yourself, or choose another \
                 interface"
            }
            HoldError::Copy { .. } => {
                "make room there, name another directory in HEXLOOP_STATE_DIRECTORY, or make longer \
                 rows with `hexloop trace export --step`"
            }
            HoldError::NotRenewed { .. } => "`hexloop link show` tells when it ends",
            HoldError::PutBack { .. } => "apply it again when the cause is gone",
            _ => return None,
        };
        Some(words.to_owned())
    }
}
