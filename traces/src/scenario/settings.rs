//! What a scenario file says about a radio channel.

mod mobility;
mod network;
mod radio;
mod satellite;
mod surroundings;

pub use mobility::{MobilityKind, MobilitySettings};
pub use network::{HandoverSettings, LayoutName, NetworkSettings};
pub use radio::{RadioLink, SchedulerName};
pub use satellite::{ConstellationName, SatelliteSettings, Surroundings};
pub use surroundings::{
    BlockageSettings, ChannelModel, ChannelSettings, FadingModel, Holding, SightChoice, Weather,
};

/// Problems that are found: the dotted key and why.
pub(super) type Problems = Vec<(String, String)>;

/// Reports `key` unless `holds`.
pub(super) fn expect(problems: &mut Problems, holds: bool, key: &str, problem: &str) {
    if !holds {
        problems.push((key.to_owned(), problem.to_owned()));
    }
}
