//! The large-scale state of the paths between one user and every site.

use super::fader::{Spreads, Way};
use crate::fading::Angles;
use crate::mobility::{Motion, Point};
use crate::network::{Cell, Layout};
use crate::propagation::CloseIn;
use crate::scenario::settings::{ChannelModel, ChannelSettings, SightChoice};
use crate::tr38901::arrival::ExcessDelay;
use crate::tr38901::large_scale::{Hall, LargeScale};
use crate::tr38901::los::{Clutter, LineOfSight, Vegetation};
use crate::tr38901::o2i::Building;
use crate::tr38901::path_loss::{Geometry, PathLoss};
use crate::tr38901::track::{Indoors, LargeScaleTrack, Sight, Wander};
use crate::tr38901::validity::nearest_m;
use crate::tr38901::{Condition, SPEED_OF_LIGHT_M_PER_S, Scenario, SpecVersion};
use crate::{CounterRng, TraceError};

/// Power gains of one path, without antennas: linear, and small.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct PathGain {
    /// By the direct way.
    pub(super) direct: f64,
    /// By others.
    pub(super) scattered: f64,
    /// How much of a line of sight there is, 0 to 1 in amplitude.
    pub(super) sight: f64,
    /// The way in space, in metres.
    pub(super) d3d_m: f64,
}

impl PathGain {
    pub(super) fn total(&self) -> f64 {
        self.direct + self.scattered
    }
}

/// What becomes of a path's power beside the model's own loss.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct ExtraLoss {
    /// In dB.
    pub(super) fixed_db: f64,
    /// In dB for every km.
    pub(super) db_per_km: f64,
}

/// The paths to all sites.
#[derive(Debug, Clone)]
pub(super) struct Sites {
    layout: Layout,
    model: Model,
    paths: Vec<SitePath>,
    gains: Vec<PathGain>,
    indoors: Option<(Indoors, Building)>,
    moved_m: f64,
}

#[derive(Debug, Clone)]
struct Model {
    scenario: Scenario,
    path_loss: PathLoss,
    close_in: Option<[CloseIn; 2]>,
    line_of_sight: LineOfSight,
    sight: SightChoice,
    wavelength_m: f64,
    base_height_m: f64,
    carrier_ghz: f64,
    spec: SpecVersion,
}

/// One site's processes along the way.
#[derive(Debug, Clone)]
struct SitePath {
    sight: Sight,
    los: LargeScaleTrack,
    /// A factory with both antennas above the clutter has none.
    nlos: Option<LargeScaleTrack>,
    /// What the ways around obstacles take longer.
    excess: Option<(ExcessDelay, Wander)>,
}

#[expect(clippy::needless_pass_by_value, reason = "`map_err` hands it over")]
fn error(problem: impl ToString) -> TraceError {
    TraceError::Generator {
        setting: "channel",
        problem: problem.to_string(),
    }
}

impl Sites {
    pub(super) fn new(
        settings: &ChannelSettings,
        carrier_ghz: f64,
        layout: Layout,
        user_height_m: f64,
        (seed, user): (u64, &str),
    ) -> Result<Sites, TraceError> {
        let scenario = settings.scenario;
        let clutter = Clutter::usual(scenario);
        let base_height_m = layout.cells().first().map_or(0.0, |cell| cell.position.z);
        let hall = Hall::usual(scenario);
        let indoor = settings.building();
        let large_scale =
            |condition| LargeScale::new(scenario, condition, settings.spec, carrier_ghz, hall);
        let close_in = match (settings.model, settings.close_in()) {
            (ChannelModel::CloseIn, Some(name)) => {
                let of = |sight| CloseIn::new(name, sight, carrier_ghz, settings.extrapolate);
                Some([of(true).map_err(error)?, of(false).map_err(error)?])
            }
            _ => None,
        };
        let path = |site: u32| -> Result<SitePath, TraceError> {
            let entity = format!("{user} site {site}");
            let condition = |usual| {
                if indoor.is_some() {
                    Condition::O2i
                } else {
                    usual
                }
            };
            let los = large_scale(condition(Condition::Los)).map_err(error)?;
            let nlos = match scenario {
                Scenario::InfHh => None,
                _ => Some(large_scale(condition(Condition::Nlos)).map_err(error)?),
            };
            Ok(SitePath {
                sight: Sight::new(scenario, clutter, seed, &entity),
                los: LargeScaleTrack::new(los, seed, &entity),
                nlos: nlos.map(|nlos| LargeScaleTrack::new(nlos, seed, &entity)),
                excess: ExcessDelay::of(scenario).map(|excess| {
                    let random = CounterRng::new(seed, &entity, "excess delay");
                    (excess, Wander::new(random, excess.correlation_distance_m))
                }),
            })
        };
        let paths = (0..layout.sites())
            .map(path)
            .collect::<Result<Vec<_>, _>>()?;
        let indoors = indoor.map(|building| (Indoors::new(scenario, seed, user), building));
        Ok(Sites {
            gains: vec![PathGain::default(); paths.len()],
            model: Model {
                scenario,
                path_loss: PathLoss::new(scenario, carrier_ghz),
                close_in,
                line_of_sight: LineOfSight::new(
                    scenario,
                    base_height_m,
                    user_height_m,
                    clutter,
                    Vegetation::Sparse,
                ),
                sight: settings.sight,
                wavelength_m: SPEED_OF_LIGHT_M_PER_S / (carrier_ghz * 1e9),
                base_height_m,
                carrier_ghz,
                spec: settings.spec,
            },
            layout,
            paths,
            indoors,
            moved_m: 0.0,
        })
    }

    pub(super) fn cells(&self) -> &[Cell] {
        self.layout.cells()
    }

    /// Delay spread in seconds and K factor in dB where the user is now, with and without a line
    /// of sight, on the path to one site.
    pub(super) fn spreads(&mut self, site: u32) -> Spreads {
        let path = &mut self.paths[site as usize];
        let los = path.los.spreads();
        [
            los,
            path.nlos.as_mut().map_or(los, LargeScaleTrack::spreads),
        ]
    }

    /// How long the way from a site takes, in seconds: what comes by other ways than the direct one
    /// takes longer (clause 7.6.9), and counts for its share of the power.
    pub(super) fn flight_s(&self, site: u32) -> f64 {
        let gain = self.path(site);
        let excess_s = match &self.paths[site as usize].excess {
            Some((excess, number)) => excess.seconds(number.value()),
            None => 0.0,
        };
        gain.d3d_m / SPEED_OF_LIGHT_M_PER_S + excess_s * gain.scattered / gain.total()
    }

    /// From a site to a place.
    pub(super) fn vector(&self, site: usize, user: Point) -> Point {
        let cell = self
            .layout
            .cells()
            .iter()
            .find(|cell| cell.site as usize == site);
        cell.map_or(user, |cell| self.layout.to_user(cell, user))
    }

    /// Which way the user goes, seen from a site, and how the rays of that path lie; without
    /// `directed` they have no directions.
    pub(super) fn way(&mut self, site: u32, motion: &Motion, directed: bool) -> Way {
        let angle = |vector: Point| libm::atan2(vector.y, vector.x).to_degrees();
        let vector = self.vector(site as usize, motion.position);
        let geometry = self.model.geometry(vector, motion.position.z);
        let path = &mut self.paths[site as usize];
        let down_deg = libm::atan2(-vector.z, vector.length_2d()).to_degrees();
        let angles = |track: &mut LargeScaleTrack| {
            let sample = track.sample(&geometry);
            Angles {
                departure_spread_deg: [sample.asd_deg, sample.zsd_deg],
                arrival_spread_deg: [sample.asa_deg, sample.zsa_deg],
                sight_zenith_deg: 90.0 + down_deg,
                zenith_offset_deg: track.model().zod_offset_deg(&geometry),
            }
        };
        let angles = if directed {
            let los = angles(&mut path.los);
            [Some(los), Some(path.nlos.as_mut().map_or(los, angles))]
        } else {
            [None; 2]
        };
        Way {
            heading_deg: angle(motion.velocity) - angle(vector),
            angles,
        }
    }

    /// Moves the user on.
    pub(super) fn update(&mut self, motion: &Motion, extra: ExtraLoss) -> Result<(), TraceError> {
        let moved_m = motion.travelled_m - self.moved_m;
        self.moved_m = motion.travelled_m;
        let mut extra = extra;
        if let Some((indoors, building)) = &mut self.indoors {
            indoors.advance(moved_m);
            let Model {
                carrier_ghz, spec, ..
            } = self.model;
            extra.fixed_db += indoors.loss_db(*building, carrier_ghz, spec);
        }
        let cells = self.layout.cells();
        let per_site = cells.len() / self.paths.len().max(1);
        for (site, path) in self.paths.iter_mut().enumerate() {
            let vector = self
                .layout
                .to_user(&cells[site * per_site], motion.position);
            self.gains[site] = self.model.gain(path, vector, motion, moved_m, extra)?;
        }
        Ok(())
    }

    /// The gains of the path to one site.
    pub(super) fn path(&self, site: u32) -> &PathGain {
        &self.gains[site as usize]
    }

    /// Gain of a cell's antenna towards the user, linear.
    pub(super) fn antenna_gain(&self, cell: &Cell, user: Point) -> f64 {
        let vector = self.layout.to_user(cell, user);
        libm::exp10(self.layout.gain_dbi(cell, vector) / 10.0)
    }
}

impl Model {
    /// Nearer than the model's formulas reach, the user has the loss of where they begin.
    fn geometry(&self, vector: Point, user_height_m: f64) -> Geometry {
        let nearest_m = match self.close_in {
            Some(_) => 1.0,
            None => nearest_m(self.scenario),
        };
        let d2d_m = vector.length_2d().max(nearest_m);
        Geometry::new(self.scenario, d2d_m, self.base_height_m, user_height_m)
    }

    fn gain(
        &self,
        path: &mut SitePath,
        vector: Point,
        motion: &Motion,
        moved_m: f64,
        extra: ExtraLoss,
    ) -> Result<PathGain, TraceError> {
        let geometry = self.geometry(vector, motion.position.z);
        let d3d_m = vector.length();
        path.sight.advance(moved_m);
        if let Some((_, number)) = &mut path.excess {
            number.advance(moved_m);
        }
        let sight = match self.sight {
            SightChoice::Clear => 1.0,
            SightChoice::Obstructed => 0.0,
            SightChoice::Drawn => {
                let probability = self.line_of_sight.probability(geometry.d2d_m);
                path.sight.soft(probability, self.wavelength_m)
            }
        };
        let extra_db = extra.fixed_db + extra.db_per_km * d3d_m / 1e3;
        let los_db = match &self.close_in {
            Some([los, _]) => close_in_db(los, &mut path.los, moved_m, &geometry)?,
            None => {
                let shadowing_db = path.los.advance_shadowing_db(moved_m, &geometry);
                self.path_loss.los_db(&geometry) - shadowing_db
            }
        };
        let direct = sight * sight * linear(-los_db - extra_db);
        let mut scattered = 0.0;
        if let Some(track) = &mut path.nlos {
            let nlos_db = match &self.close_in {
                Some([_, nlos]) => Some(close_in_db(nlos, track, moved_m, &geometry)?),
                None => {
                    let shadowing_db = track.advance_shadowing_db(moved_m, &geometry);
                    let nlos_db = self.path_loss.nlos_db(&geometry);
                    nlos_db.map(|nlos_db| nlos_db - shadowing_db)
                }
            };
            if let Some(nlos_db) = nlos_db {
                scattered = (1.0 - sight * sight) * linear(-nlos_db - extra_db);
            }
        }
        Ok(PathGain {
            direct,
            scattered,
            sight,
            d3d_m,
        })
    }
}

/// Loss of the close-in model with its own spread of the shadowing: the process along the way is
/// that of TR 38.901, for the close-in model has none.
fn close_in_db(
    model: &CloseIn,
    track: &mut LargeScaleTrack,
    moved_m: f64,
    geometry: &Geometry,
) -> Result<f64, TraceError> {
    let shadowing_db = track.advance_shadowing_db(moved_m, geometry);
    let sigma_db = track.model().shadowing_sigma_db(geometry);
    let number = if sigma_db > 0.0 {
        shadowing_db / sigma_db
    } else {
        0.0
    };
    let median_db = model
        .path_loss_db(geometry.d3d_m(), SPEED_OF_LIGHT_M_PER_S)
        .map_err(error)?;
    Ok(median_db - model.sigma_db * number)
}

fn linear(db: f64) -> f64 {
    libm::exp10(db / 10.0)
}
