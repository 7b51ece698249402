//! What stands in the way in TR 38.901: walls of clause 7.4.3 and blockers of clause 7.6.4.

use super::geometry::scenario_or_office;
use super::{EvalError, Input, Model, Options, Row, exact};
use crate::tr38901::SpecVersion;
use crate::tr38901::blockage::angular::{Region, WIDEST_DEG};
use crate::tr38901::o2i::{Building, INDOOR_DB_PER_M};

pub(super) const MODELS: &[Model] = &[
    Model {
        name: "o2i-wall",
        about: "loss through an outer wall, TR 38.901 tables 7.4.3-1 and 7.4.3-2",
        inputs: &[Input::required("model"), Input::required("fc_ghz")],
        outputs: &["wall_loss_db", "sigma_db", "indoor_db_per_m"],
        evaluate: wall,
    },
    Model {
        name: "blockage-a",
        about: "loss behind one blocker of blockage model A, TR 38.901 clause 7.6.4.1",
        inputs: &[
            Input::required("fc_ghz"),
            Input::required("r_m"),
            Input::required("phi_k_deg"),
            Input::required("x_k_deg"),
            Input::required("y_k_deg"),
            Input::required("aoa_deg"),
            Input::required("zoa_deg"),
            Input::required("scenario"),
        ],
        outputs: &["loss_db"],
        evaluate: blockage,
    },
];

fn carrier_ghz(row: &Row<'_>, options: &Options) -> Result<f64, EvalError> {
    let carrier_ghz = row.positive("fc_ghz")?;
    row.within(options, "fc_ghz", carrier_ghz, 0.5..=100.0, "TR 38.901")?;
    Ok(carrier_ghz)
}

fn wall(row: &Row<'_>, options: &Options) -> Result<Vec<String>, EvalError> {
    let building: Building = row.name("model")?;
    if building == Building::LowLossA && options.spec == SpecVersion::V16_1 {
        return Err(EvalError::Combination(
            "column model is low-a, which TR 38.901 has since Release 19; expected --spec 19.4"
                .to_owned(),
        ));
    }
    let carrier_ghz = carrier_ghz(row, options)?;
    Ok(vec![
        exact(building.wall_loss_db(carrier_ghz, options.spec)),
        exact(building.sigma_db()),
        exact(INDOOR_DB_PER_M),
    ])
}

fn blockage(row: &Row<'_>, options: &Options) -> Result<Vec<String>, EvalError> {
    let scenario = scenario_or_office(row, options)?;
    if scenario.is_factory() {
        let expected = "umi, uma, rma, sma, inh-open or inh-mixed (table 7.6.4.1-2)";
        row.outside(options, "scenario", scenario, expected.to_owned())?;
    }
    let span = |column| {
        let span_deg = row.positive(column)?;
        if span_deg < WIDEST_DEG {
            return Ok(span_deg);
        }
        let expected = format!("an angle below {WIDEST_DEG}, up to which the formula holds");
        Err(EvalError::value(column, span_deg, expected))
    };
    let region = Region {
        phi_deg: row.number("phi_k_deg")?,
        theta_deg: 90.0,
        x_deg: span("x_k_deg")?,
        y_deg: span("y_k_deg")?,
        r_m: row.positive("r_m")?,
    };
    let wavelength_m = options.light_m_per_s / (carrier_ghz(row, options)? * 1e9);
    let zoa_deg = row.number("zoa_deg")?;
    if !(0.0..=180.0).contains(&zoa_deg) {
        return Err(EvalError::value(
            "zoa_deg",
            zoa_deg,
            "a zenith angle from 0 to 180",
        ));
    }
    let loss_db = region.loss_db(wavelength_m, row.number("aoa_deg")?, zoa_deg);
    Ok(vec![exact(loss_db)])
}
