//! The radio network around a user: where cells stand and point, which one serves, when the user
//! is handed over, and when its radio link fails.

mod antenna;
mod handover;
mod layout;
mod measurement;
mod radio_link;

pub use antenna::SectorAntenna;
pub use handover::{
    A3, Connection, ConnectionEvent, ConnectionSettings, ConnectionState, HandoverKind,
};
pub use layout::{Cell, Layout, LayoutKind};
pub use measurement::LayerThreeFilter;
pub use radio_link::{RadioLinkMonitor, RadioLinkSettings};

/// The first multiple of `period_ns` after `now_ns`.
const fn next_multiple(now_ns: u64, period_ns: u64) -> u64 {
    match now_ns.checked_div(period_ns) {
        Some(passed) => (passed + 1).saturating_mul(period_ns),
        None => now_ns,
    }
}
