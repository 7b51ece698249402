//! The models of TR 38.901 that depend on where things are: clauses 7.4 and 7.5.

use super::{EvalError, Input, Model, Options, Row, exact};
use crate::tr38901::large_scale::{Hall, LargeScale};
use crate::tr38901::los::{Clutter, LineOfSight, Vegetation};
use crate::tr38901::path_loss::{self, Geometry, PathLoss};
use crate::tr38901::validity::{self, OutOfRange};
use crate::tr38901::{Condition, Scenario, SpecVersion, shadowing};

const USUAL_BASE_M: Input =
    Input::optional_of_row("h_bs_m", "the scenario's usual height", |row| {
        Ok(Some(any_scenario(row)?.usual_heights_m().0))
    });
const USUAL_USER_M: Input =
    Input::optional_of_row("h_ut_m", "the scenario's usual height", |row| {
        Ok(Some(any_scenario(row)?.usual_heights_m().1))
    });

pub(super) const MODELS: &[Model] = &[
    Model {
        name: "path-loss",
        about: "path loss, TR 38.901 table 7.4.1-1",
        inputs: &[
            Input::required("scenario"),
            Input::required("state"),
            Input::required("fc_ghz"),
            Input::required("d2d_m"),
            Input::required("h_bs_m"),
            Input::required("h_ut_m"),
            Input::optional_of_row("building_height_m", "5; SMa 10", |row| {
                Ok(Some(path_loss::usual_surroundings_m(any_scenario(row)?).0))
            }),
            Input::optional_of_row("street_width_m", "20; SMa 10", |row| {
                Ok(Some(path_loss::usual_surroundings_m(any_scenario(row)?).1))
            }),
            Input::optional("effective_env_height_m", "1"),
        ],
        outputs: &["path_loss_db"],
        evaluate: path_loss_db,
    },
    Model {
        name: "los-probability",
        about: "probability of a line of sight, TR 38.901 table 7.4.2-1",
        inputs: &[
            Input::required("scenario"),
            Input::required("d2d_m"),
            Input::required("h_bs_m"),
            Input::required("h_ut_m"),
            Input::optional_of_row("clutter_density", "InF: 0.2 sparse, 0.6 dense", |row| {
                Ok(usual_clutter(row)?.map(|clutter| clutter.density))
            }),
            Input::optional_of_row("clutter_size_m", "InF: 10 sparse, 2 dense", |row| {
                Ok(usual_clutter(row)?.map(|clutter| clutter.size_m))
            }),
            Input::optional_of_row("clutter_height_m", "InF: 2 sparse, 6 dense", |row| {
                Ok(usual_clutter(row)?.map(|clutter| clutter.height_m))
            }),
            Input::required_where("vegetation", "SMa: none, sparse, dense"),
        ],
        outputs: &["los_probability"],
        evaluate: los_probability,
    },
    Model {
        name: "shadow-fading",
        about: "standard deviation of the shadowing, TR 38.901 tables 7.4.1-1 and 7.5-6",
        inputs: &[
            Input::required("scenario"),
            Input::required("state"),
            Input::required("fc_ghz"),
            Input::required("d2d_m"),
            USUAL_BASE_M,
            USUAL_USER_M,
        ],
        outputs: &["sigma_db"],
        evaluate: shadow_fading,
    },
    Model {
        name: "delay-spread",
        about: "mean and standard deviation of log10(DS / 1 s), TR 38.901 table 7.5-6",
        inputs: &[
            Input::required("scenario"),
            Input::required("state"),
            Input::required("fc_ghz"),
            Input::required("d2d_m"),
            Input::required("h_bs_m"),
            Input::required("h_ut_m"),
            Input::required_where("hall_volume_m3", "InF"),
            Input::required_where("hall_surface_m2", "InF"),
        ],
        outputs: &["mu_lg_s", "sigma_lg_s"],
        evaluate: delay_spread,
    },
];

/// The scenario, which the chosen version must have.
pub(super) fn scenario(row: &Row<'_>, options: &Options) -> Result<Scenario, EvalError> {
    let scenario: Scenario = row.name("scenario")?;
    if scenario == Scenario::Sma && options.spec == SpecVersion::V16_1 {
        return Err(EvalError::Combination(
            "column scenario is sma, which TR 38.901 has since Release 19; expected --spec 19.4"
                .to_owned(),
        ));
    }
    Ok(scenario)
}

/// The scenario, or `inh` for either office, in the models that treat both alike.
pub(super) fn scenario_or_office(row: &Row<'_>, options: &Options) -> Result<Scenario, EvalError> {
    let cell = row.cell("scenario").unwrap_or_default();
    if cell.eq_ignore_ascii_case("inh") {
        return Ok(Scenario::InhOpen);
    }
    scenario(row, options)
}

/// The scenario of a row whose defaults are asked for, whatever the version.
fn any_scenario(row: &Row<'_>) -> Result<Scenario, EvalError> {
    scenario_or_office(row, &Options::default())
}

/// Refuses what the report does not cover, or marks the row.
pub(super) fn covered(
    row: &Row<'_>,
    options: &Options,
    found: Vec<OutOfRange>,
) -> Result<(), EvalError> {
    for outside in found {
        let expected = format!("{} ({} of TR 38.901)", outside.expected, outside.scenario);
        row.outside(options, outside.quantity, outside.value, expected)?;
    }
    Ok(())
}

fn path_loss_db(row: &Row<'_>, options: &Options) -> Result<Vec<String>, EvalError> {
    let scenario = scenario_or_office(row, options)?;
    let state: Condition = row.name("state")?;
    let carrier_ghz = row.positive("fc_ghz")?;
    let geometry = Geometry {
        d2d_m: row.not_negative("d2d_m")?,
        base_height_m: row.positive("h_bs_m")?,
        user_height_m: row.positive("h_ut_m")?,
        building_height_m: row.positive("building_height_m")?,
        street_width_m: row.positive("street_width_m")?,
        environment_height_m: row.not_negative("effective_env_height_m")?,
    };
    let model = PathLoss::new(scenario, carrier_ghz).with_speed_of_light(options.light_m_per_s);
    let found = validity::path_loss(scenario, state, carrier_ghz, &geometry);
    covered(row, options, found)?;
    let lower = geometry.base_height_m.min(geometry.user_height_m);
    if matches!(scenario, Scenario::Umi | Scenario::Uma) && geometry.environment_height_m >= lower {
        let value = geometry.environment_height_m;
        return Err(EvalError::value(
            "effective_env_height_m",
            value,
            format!("less than both antennas' heights, the lower of which is {lower} m"),
        ));
    }
    let loss_db = match state {
        Condition::Los => model.los_db(&geometry),
        Condition::Nlos => model.nlos_db(&geometry).ok_or_else(|| {
            EvalError::value("state", state, "LOS: inf-hh is always in line of sight")
        })?,
        Condition::O2i => {
            return Err(EvalError::value("state", state, "LOS or NLOS"));
        }
    };
    Ok(vec![exact(loss_db)])
}

fn usual_clutter(row: &Row<'_>) -> Result<Option<Clutter>, EvalError> {
    Ok(Clutter::usual(row.name("scenario")?))
}

/// A factory's clutter as the row says it.
fn clutter(row: &Row<'_>, scenario: Scenario) -> Result<Option<Clutter>, EvalError> {
    if Clutter::usual(scenario).is_none() {
        return Ok(None);
    }
    let density = row.not_negative("clutter_density")?;
    if density >= 1.0 {
        return Err(EvalError::value(
            "clutter_density",
            density,
            "a share of the floor from 0 to below 1",
        ));
    }
    Ok(Some(Clutter {
        density,
        size_m: row.positive("clutter_size_m")?,
        height_m: row.not_negative("clutter_height_m")?,
    }))
}

fn los_probability(row: &Row<'_>, options: &Options) -> Result<Vec<String>, EvalError> {
    let scenario = scenario(row, options)?;
    let d2d_m = row.not_negative("d2d_m")?;
    let base_m = row.positive("h_bs_m")?;
    let user_m = row.positive("h_ut_m")?;
    let clutter = clutter(row, scenario)?;
    let vegetation = if scenario == Scenario::Sma {
        row.name("vegetation")?
    } else {
        Vegetation::None
    };
    let from_above = matches!(scenario, Scenario::InfSh | Scenario::InfDh | Scenario::Sma);
    if from_above && base_m <= user_m {
        return Err(EvalError::value(
            "h_bs_m",
            base_m,
            format!("more than h_ut_m, which is {user_m}"),
        ));
    }
    match scenario {
        Scenario::Uma => row.within(options, "h_ut_m", user_m, 0.0..=23.0, "table 7.4.2-1")?,
        Scenario::Sma => row.within(options, "h_ut_m", user_m, 1.0..=14.0, "sma of TR 38.901")?,
        _ => {}
    }
    let model = LineOfSight::new(scenario, base_m, user_m, clutter, vegetation);
    Ok(vec![exact(model.probability(d2d_m))])
}

fn no_such_condition(scenario: Scenario, condition: Condition) -> EvalError {
    let expected = if scenario == Scenario::InfHh {
        "LOS: inf-hh is always in line of sight"
    } else {
        "LOS or NLOS: the base station stands in the same building"
    };
    EvalError::value("state", condition, expected)
}

fn shadow_fading(row: &Row<'_>, options: &Options) -> Result<Vec<String>, EvalError> {
    let scenario = scenario_or_office(row, options)?;
    let condition: Condition = row.name("state")?;
    let carrier_ghz = row.positive("fc_ghz")?;
    let geometry = Geometry::new(
        scenario,
        row.not_negative("d2d_m")?,
        row.positive("h_bs_m")?,
        row.positive("h_ut_m")?,
    );
    let found = validity::path_loss(scenario, condition, carrier_ghz, &geometry);
    covered(row, options, found)?;
    let model = PathLoss::new(scenario, carrier_ghz).with_speed_of_light(options.light_m_per_s);
    let sigma_db = shadowing::sigma_db(condition, &model, &geometry)
        .ok_or_else(|| no_such_condition(scenario, condition))?;
    Ok(vec![exact(sigma_db)])
}

fn delay_spread(row: &Row<'_>, options: &Options) -> Result<Vec<String>, EvalError> {
    let scenario = scenario_or_office(row, options)?;
    let condition: Condition = row.name("state")?;
    let carrier_ghz = row.positive("fc_ghz")?;
    row.not_negative("d2d_m")?;
    row.positive("h_bs_m")?;
    row.positive("h_ut_m")?;
    covered(row, options, validity::carrier(scenario, carrier_ghz))?;
    let hall = scenario
        .is_factory()
        .then(|| {
            Ok(Hall {
                volume_m3: row.positive("hall_volume_m3")?,
                surface_m2: row.positive("hall_surface_m2")?,
            })
        })
        .transpose()?;
    let model = LargeScale::new(scenario, condition, options.spec, carrier_ghz, hall)
        .map_err(|_error| no_such_condition(scenario, condition))?;
    let (mean, sigma) = model.delay_spread();
    Ok(vec![exact(mean), exact(sigma)])
}

#[cfg(test)]
#[path = "geometry_tests.rs"]
mod tests;
