//! Measures links on this machine, for whoever wants to know how exact and fast they are here.
//!
//! Every row makes its own namespaces, is bounded in time, and says what was seen at the
//! receiving interface by the kernel's own stamps and counters. What is compared alternates in
//! short blocks within one row. Nothing here judges: values go out as they were seen, and who
//! asked computes intervals and compares with targets.

mod bulk;
mod echo;
mod flow;
mod frame;
mod load;
mod machine;
mod row;
mod scene;
mod schedule;

pub use machine::{Busy, TimerLateness, busy, timer_lateness};
pub use row::{Ask, ROWS, Row, measure};

/// How much is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// A second per row and small numbers: whether everything works, not how well.
    Smoke,
    /// What the targets are stated for.
    Full,
}

impl Scale {
    /// The one or the other.
    const fn pick<T: Copy>(self, smoke: T, full: T) -> T {
        match self {
            Scale::Smoke => smoke,
            Scale::Full => full,
        }
    }
}

/// One thing that was measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Quantity {
    /// Its name within the row, such as `rtt_added_p50`.
    pub name: &'static str,
    /// Its unit, such as `us`.
    pub unit: &'static str,
    /// What was seen.
    pub seen: Seen,
}

/// Values as they were seen, and what is to be made of them.
#[derive(Debug, Clone, PartialEq)]
pub enum Seen {
    /// One number.
    Value(f64),
    /// The mean of values in order of time.
    Mean(Vec<f64>),
    /// A quantile, in parts per thousand, of values in order of time.
    Quantile {
        /// Which.
        per_mille: u16,
        /// The values.
        values: Vec<f64>,
    },
    /// The quantile of the second of two paths minus that of the first; blocks of both
    /// alternated.
    Difference {
        /// Which.
        per_mille: u16,
        /// Values of both paths, block by block.
        blocks: Vec<[Vec<f64>; 2]>,
    },
    /// The sum of the first over the sum of the second, block by block.
    Ratio(Vec<[f64; 2]>),
}

/// What a row found.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Measured {
    /// The quantities, the judged ones first.
    pub quantities: Vec<Quantity>,
    /// What shaped the packets, such as `relay, SCHED_FIFO 20 on CPU 1`.
    pub datapath: String,
    /// At which scale: seconds, links, nodes.
    pub scale: String,
    /// Why the quantities say nothing about the link, where they do not.
    pub spoilt: Option<String>,
    /// What the reader must know besides.
    pub notes: Vec<String>,
}

impl Measured {
    fn value(&mut self, name: &'static str, unit: &'static str, value: f64) {
        self.add(name, unit, Seen::Value(value));
    }

    fn add(&mut self, name: &'static str, unit: &'static str, seen: Seen) {
        self.quantities.push(Quantity { name, unit, seen });
    }
}

/// Why a row has no result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BenchError {
    /// This machine, kernel or program cannot do it.
    #[error("{why}")]
    Unavailable {
        /// Why.
        why: String,
    },
    /// A link failed.
    #[error("the link under measurement failed")]
    Link(#[from] crate::link::LinkError),
    /// A namespace failed.
    #[error("a namespace of the bench failed")]
    Namespace(#[from] crate::namespace::NamespaceError),
    /// A node failed.
    #[error("a node of the bench failed")]
    Node(#[from] crate::node::NodeError),
    /// A socket or thread of the bench failed.
    #[error("cannot {action}")]
    Socket {
        /// What was being done.
        action: String,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// A trace of the bench is not valid.
    #[error("cannot make the trace of the bench")]
    Trace(#[from] hexloop_traces::TraceError),
    /// What was measured cannot be used.
    #[error("{why}")]
    Spoilt {
        /// Why.
        why: String,
    },
}

impl BenchError {
    fn socket(action: impl Into<String>) -> impl FnOnce(std::io::Error) -> BenchError {
        let action = action.into();
        move |source| BenchError::Socket { action, source }
    }

    fn panicked(thread: &str) -> BenchError {
        BenchError::Spoilt {
            why: format!("thread {thread} of the bench panicked"),
        }
    }
}

/// A count as a float; those here are far below 2^53.
const fn to_f64(count: u64) -> f64 {
    count as f64
}

/// A signed difference of times as a float.
const fn signed_to_f64(ns: i64) -> f64 {
    ns as f64
}

/// The length of a slice as a count.
const fn length<T>(slice: &[T]) -> u64 {
    slice.len() as u64
}
