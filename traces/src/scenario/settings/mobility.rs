//! How the user moves.

use serde::{Deserialize, Serialize};

use super::{Problems, expect};
use crate::CounterRng;
use crate::mobility::{
    Area, ManhattanGrid, Mobility, Point, RandomWaypoint, RecordedTrack, StraightLine, Train,
    Vehicle, bearing,
};
use crate::scenario::Variant;
use crate::units::{Length, Share, Speed, TimeSpan};

/// Kinds of movement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MobilityKind {
    /// Stays where it is.
    #[default]
    Static,
    /// Straight on.
    Line,
    /// From one random place of an area to the next.
    Waypoint,
    /// Along the streets of a regular grid.
    Grid,
    /// A car on a road, now faster, now slower.
    Vehicle,
    /// A train, with stations if there is a distance between them.
    Train,
    /// As recorded in a file.
    Track,
}

/// How the user moves. Places are metres east and north of the first site.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MobilitySettings {
    /// How.
    pub kind: MobilityKind,
    /// Where it starts; the corner of a waypoint's area.
    pub start_m: [f64; 2],
    /// Where it goes, in degrees clockwise from north.
    pub bearing_deg: f64,
    /// The speed; the highest one of random walks.
    pub speed: Speed,
    /// The lowest speed of random walks, as a share of it; how far a car's speed varies.
    pub variation: Share,
    /// Height of the user's antenna; by default the scenario's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub height: Option<Length>,
    /// The area of a random walk, to the east and to the north.
    pub area_m: [f64; 2],
    /// The rest before each leg of a random walk.
    pub pause: TimeSpan,
    /// Side of a grid's blocks.
    pub block: Length,
    /// How many blocks from its start a user of a grid goes.
    pub reach: u32,
    /// Distance between a train's stations; without it the train does not stop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stations: Option<Length>,
    /// How long a train stands.
    pub stand: TimeSpan,
    /// A file with a track: CSV (`t,x,y,z` in seconds and metres) or GPX.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Distance between users that go one behind the other.
    pub headway: Length,
    /// What moves around a user who stands still, such as people and leaves.
    pub scatterers: Speed,
}

const fn kilometres_per_hour(km_h: u64) -> Speed {
    Speed {
        mm_per_h: km_h * 1_000_000,
    }
}

impl Default for MobilitySettings {
    fn default() -> MobilitySettings {
        MobilitySettings {
            kind: MobilityKind::Static,
            start_m: [50.0, 0.0],
            bearing_deg: 90.0,
            speed: kilometres_per_hour(3),
            variation: Share::from_ppb(500_000_000),
            height: None,
            area_m: [50.0, 50.0],
            pause: TimeSpan::from_millis(2_000),
            block: Length { mm: 100_000 },
            reach: 3,
            stations: None,
            stand: TimeSpan::from_millis(60_000),
            file: None,
            headway: Length { mm: 20_000 },
            scatterers: kilometres_per_hour(1),
        }
    }
}

/// Acceleration of trains in m/s².
const TRAIN_ACCELERATION: f64 = 0.6;

impl MobilitySettings {
    /// The movement of one user, with the antenna at `height_m` unless the file says otherwise.
    /// A track needs to have been read.
    #[must_use]
    pub fn mobility(
        &self,
        variant: Variant,
        height_m: f64,
        track: Option<&RecordedTrack>,
    ) -> Option<Mobility> {
        let height_m = self.height_m(height_m);
        let entity = format!("user {}", variant.user);
        let random = CounterRng::new(variant.seed, &entity, "mobility");
        let ahead = bearing(self.bearing_deg);
        let speed = self.speed.as_metres_per_second_f64();
        // Users after the first one follow it.
        let behind_m = -f64::from(variant.user) * self.headway.as_metres_f64();
        let first = Point::new(self.start_m[0], self.start_m[1], height_m);
        let start = first.plus(ahead.times(behind_m));
        let slowest = (speed * (1.0 - self.variation.as_f64())).max(0.05);
        Some(match self.kind {
            MobilityKind::Static => Mobility::Static(start),
            MobilityKind::Line => Mobility::Line(StraightLine::new(start, ahead, speed)),
            MobilityKind::Waypoint => {
                let [width_m, depth_m] = self.area_m;
                let area = Area {
                    corner: first,
                    width_m,
                    depth_m,
                };
                let pause_s = self.pause.as_seconds_f64();
                let speeds = [slowest, speed.max(slowest)];
                Mobility::Waypoint(RandomWaypoint::new(area, speeds, pause_s, random))
            }
            MobilityKind::Grid => {
                let block_m = self.block.as_metres_f64();
                Mobility::Grid(ManhattanGrid::new(
                    first, block_m, self.reach, speed, random,
                ))
            }
            MobilityKind::Vehicle => {
                let variation = self.variation.as_f64();
                // A platoon: every car swings alike, a headway behind.
                let leader = CounterRng::new(variant.seed, "user 0", "mobility");
                Mobility::Vehicle(Vehicle::new(start, ahead, speed, variation, leader))
            }
            MobilityKind::Train => {
                let train = Train::passing(start, ahead, speed);
                Mobility::Train(match self.stations {
                    Some(distance) => train.with_stations(
                        distance.as_metres_f64(),
                        TRAIN_ACCELERATION,
                        self.stand.as_seconds_f64(),
                    ),
                    None => train,
                })
            }
            MobilityKind::Track => Mobility::Track(track?.clone()),
        })
    }

    /// Height of the user's antenna, `usual_m` unless the file says otherwise.
    #[must_use]
    pub fn height_m(&self, usual_m: f64) -> f64 {
        self.height.map_or(usual_m, Length::as_metres_f64)
    }

    pub(in crate::scenario) fn problems(&self, found: &mut Problems) {
        let far = |value: f64| value.abs() <= 1e6;
        let near = self.start_m.iter().all(|value| far(*value));
        expect(found, near, "mobility.start_m", "within 1000 km");
        expect(
            found,
            far(self.bearing_deg),
            "mobility.bearing_deg",
            "an angle in degrees",
        );
        let area = self.area_m.iter().all(|side| *side >= 1.0 && *side <= 1e5);
        expect(found, area, "mobility.area_m", "1 m to 100 km each way");
        let block = (1_000..=10_000_000).contains(&self.block.mm);
        expect(found, block, "mobility.block", "1 m to 10 km");
        let reach = (1..=10_000).contains(&self.reach);
        expect(found, reach, "mobility.reach", "1 to 10000 blocks");
        let slow = self.speed.as_metres_per_second_f64() <= 10_000.0;
        expect(found, slow, "mobility.speed", "at most 10 km/s");
        let stations = self.stations.is_none_or(|way| way.mm >= 100_000);
        expect(found, stations, "mobility.stations", "100 m or more");
        let file = self.file.is_some() == (self.kind == MobilityKind::Track);
        expect(
            found,
            file,
            "mobility.file",
            "kind `track` and a `file` go together",
        );
        let moves = self.kind != MobilityKind::Train || self.speed.mm_per_h > 0;
        expect(found, moves, "mobility.speed", "a train moves");
    }
}
