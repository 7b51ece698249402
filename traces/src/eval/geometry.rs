//! The models of TR 38.901 that depend on where things are: clauses 7.4 and 7.5.

use super::{EvalError, Input, Model, Options, Row, exact};
use crate::tr38901::path_loss::{self, Geometry, PathLoss};
use crate::tr38901::validity::{self, OutOfRange};
use crate::tr38901::{Condition, Scenario, SpecVersion};

pub(super) const MODELS: &[Model] = &[Model {
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
            Ok(Some(
                path_loss::usual_surroundings_m(row.name("scenario")?).0,
            ))
        }),
        Input::optional_of_row("street_width_m", "20; SMa 10", |row| {
            Ok(Some(
                path_loss::usual_surroundings_m(row.name("scenario")?).1,
            ))
        }),
        Input::optional("effective_env_height_m", "1"),
    ],
    outputs: &["path_loss_db"],
    evaluate: path_loss_db,
}];

/// The scenario, which the chosen version must have.
fn scenario(row: &Row<'_>, options: &Options) -> Result<Scenario, EvalError> {
    let scenario: Scenario = row.name("scenario")?;
    if scenario == Scenario::Sma && options.spec == SpecVersion::V16_1 {
        return Err(EvalError::Combination(
            "column scenario is sma, which TR 38.901 has since Release 19; expected --spec 19.4"
                .to_owned(),
        ));
    }
    Ok(scenario)
}

/// Refuses what the report does not cover, or marks the row.
fn covered(row: &Row<'_>, options: &Options, found: Vec<OutOfRange>) -> Result<(), EvalError> {
    for outside in found {
        let expected = format!("{} ({} of TR 38.901)", outside.expected, outside.scenario);
        row.outside(options, outside.quantity, outside.value, expected)?;
    }
    Ok(())
}

fn path_loss_db(row: &Row<'_>, options: &Options) -> Result<Vec<String>, EvalError> {
    let scenario = scenario(row, options)?;
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
    if !loss_db.is_finite() {
        return Err(EvalError::value(
            "d2d_m",
            geometry.d2d_m,
            "antennas that are apart",
        ));
    }
    Ok(vec![exact(loss_db)])
}
