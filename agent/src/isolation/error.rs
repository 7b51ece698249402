//! Why a machine cannot be made what a run asks for.

use crate::change::ChangeError;

/// Why a machine cannot be made what a run asks for. Each says what the user can do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IsolationError {
    /// A setting could not be made.
    #[error(transparent)]
    Change(#[from] ChangeError),
    /// This user is not let.
    #[error("`{key}` needs root: run with sudo, or take it out of the experiment")]
    NeedsRoot {
        /// The key of the experiment file.
        key: &'static str,
    },
    /// The machine does not know that value.
    #[error("{what} cannot be `{asked}`: this machine offers {offered}")]
    NotOffered {
        /// The setting.
        what: String,
        /// What was asked.
        asked: String,
        /// What there is.
        offered: String,
    },
    /// The machine lacks it altogether.
    #[error("this machine has no {what}; {remedy}")]
    Missing {
        /// What it lacks.
        what: String,
        /// What can be done.
        remedy: &'static str,
    },
    /// A meter that the run must have.
    #[error("the experiment needs the meter `{asked}`, and there is none: {why}")]
    NoMeter {
        /// As it was asked for.
        asked: String,
        /// Why not, and what can be done.
        why: String,
    },
    /// There is no such GPU.
    #[error("node {node}: there is no GPU `{asked}` here: {known}")]
    UnknownGpu {
        /// The node that wants it.
        node: String,
        /// As it was asked for.
        asked: String,
        /// Those that there are, in words.
        known: String,
    },
    /// A node is to compute on a GPU, and nothing here can.
    #[error("node {node}: its `device` is a GPU, and none can be computed on")]
    NoEngine {
        /// The node.
        node: String,
        /// Why not, and what can be done.
        #[source]
        source: crate::engine_cuda::EngineCudaError,
    },
    /// Fewer pages than asked for.
    #[error(
        "only {got} of {asked} pages of {size_kib} KiB could be reserved: memory is short or in pieces; \
         ask for fewer, or reserve them at boot (`hugepages=`)"
    )]
    FewPages {
        /// Pages that were asked for.
        asked: u64,
        /// Pages that there are.
        got: u64,
        /// Size of one.
        size_kib: u32,
    },
}
