//! The models beyond TR 38.901: close-in path loss, gases, rain.

use super::{EvalError, Input, Model, Options, Row, exact};
use crate::propagation::{Air, CloseIn, Gases, PropagationError, rain_db_km};
use crate::tr38901::Condition;

pub(super) const MODELS: &[Model] = &[
    Model {
        name: "ci",
        about: "close-in path loss with NYUSIM's parameters of 28 and 140 GHz, linear between",
        inputs: &[
            Input::required("scenario"),
            Input::required("state"),
            Input::required("fc_ghz"),
            Input::required("d_m"),
        ],
        outputs: &["path_loss_db"],
        evaluate: close_in,
    },
    Model {
        name: "gas",
        about: "attenuation by gases line by line, Rec. ITU-R P.676-12; the pressure is that of \
                dry air",
        inputs: &[
            Input::required("freq_ghz"),
            Input::required("pressure_hPa"),
            Input::required("vapour_density_g_m3"),
            Input::required("temperature_K"),
        ],
        outputs: &["oxygen_db_km", "water_db_km"],
        evaluate: gas,
    },
    Model {
        name: "rain",
        about: "attenuation by rain on a level path, Rec. ITU-R P.838-3",
        inputs: &[
            Input::required("freq_ghz"),
            Input::required("polarization"),
            Input::required("rain_mm_h"),
        ],
        outputs: &["attenuation_db_km"],
        evaluate: rain,
    },
];

/// Names the column of what a model refused.
fn refused(columns: &[(&str, &'static str)], error: &PropagationError) -> EvalError {
    let column = columns
        .iter()
        .find(|(quantity, _)| error.quantity.contains(quantity))
        .map(|(_, column)| *column);
    match column {
        Some(column) => EvalError::value(
            column,
            error.value,
            format!("{} ({})", error.expected, error.model),
        ),
        None => EvalError::Combination(error.to_string()),
    }
}

fn close_in(row: &Row<'_>, options: &Options) -> Result<Vec<String>, EvalError> {
    let scenario = row.name("scenario")?;
    let state: Condition = row.name("state")?;
    let line_of_sight = match state {
        Condition::Los => true,
        Condition::Nlos => false,
        Condition::O2i => return Err(EvalError::value("state", state, "LOS or NLOS")),
    };
    let frequency_ghz = row.positive("fc_ghz")?;
    let [lowest, highest] = CloseIn::MEASURED_GHZ;
    row.within(
        options,
        "column fc_ghz",
        frequency_ghz,
        lowest..=highest,
        "NYUSIM's parameters; beyond them the nearer end's are taken",
    )?;
    let columns = [("frequency", "fc_ghz"), ("distance", "d_m")];
    CloseIn::new(scenario, line_of_sight, frequency_ghz, options.extrapolate)
        .and_then(|model| {
            model.path_loss_db(row.number("d_m").unwrap_or(f64::NAN), options.light_m_per_s)
        })
        .map(|loss_db| vec![exact(loss_db)])
        .map_err(|error| refused(&columns, &error))
}

fn gas(row: &Row<'_>, _: &Options) -> Result<Vec<String>, EvalError> {
    let frequency_ghz = row.positive("freq_ghz")?;
    let air = Air {
        dry_pressure_hpa: row.not_negative("pressure_hPa")?,
        vapour_density_g_m3: row.not_negative("vapour_density_g_m3")?,
        temperature_k: row.positive("temperature_K")?,
    };
    let attenuation = || {
        let gases = Gases::new(&air)?;
        let oxygen = gases.oxygen_db_km(frequency_ghz)?;
        Ok((oxygen, gases.water_db_km(frequency_ghz)?))
    };
    let columns = [
        ("frequency", "freq_ghz"),
        ("pressure", "pressure_hPa"),
        ("vapour", "vapour_density_g_m3"),
        ("temperature", "temperature_K"),
    ];
    let (oxygen, water) = attenuation().map_err(|error| refused(&columns, &error))?;
    Ok(vec![exact(oxygen), exact(water)])
}

fn rain(row: &Row<'_>, _: &Options) -> Result<Vec<String>, EvalError> {
    let polarization = row.name("polarization")?;
    let columns = [("frequency", "freq_ghz"), ("rain", "rain_mm_h")];
    let frequency_ghz = row.positive("freq_ghz")?;
    let attenuation = rain_db_km(
        frequency_ghz,
        polarization,
        row.not_negative("rain_mm_h")?,
        0.0,
    )
    .map_err(|error| refused(&columns, &error))?;
    Ok(vec![exact(attenuation)])
}

#[cfg(test)]
mod tests {
    use crate::eval::{Evaluation, Options, find};

    fn evaluate(model: &str, input: &str, extrapolate: bool) -> Result<Vec<String>, String> {
        let options = Options {
            extrapolate,
            ..Options::default()
        };
        let mut rows = Evaluation::new(find(model).unwrap(), options, input.as_bytes())
            .map_err(|error| error.to_string())?;
        match rows.next_row() {
            Ok(row) => Ok(row.unwrap()),
            Err(error) => {
                let source = std::error::Error::source(&error).map(ToString::to_string);
                Err(format!("{error} {}", source.unwrap_or_default()))
            }
        }
    }

    #[test]
    fn the_models_append_their_columns() {
        let row = evaluate("ci", "scenario,state,fc_ghz,d_m\ninh,LOS,140,10\n", false).unwrap();
        let loss: f64 = row[4].parse().unwrap();
        assert!((loss - 93.37).abs() < 0.01, "{loss}");
        let header = "freq_ghz,pressure_hPa,vapour_density_g_m3,temperature_K\n";
        let row = evaluate("gas", &format!("{header}60,1013.25,7.5,288.15\n"), false).unwrap();
        let [oxygen, water] = [&row[4], &row[5]].map(|cell| cell.parse::<f64>().unwrap());
        assert!((oxygen / 14.6235 - 1.0).abs() < 0.001, "{oxygen}");
        assert!((water / 0.15484 - 1.0).abs() < 0.001, "{water}");
        let header = "freq_ghz,polarization,rain_mm_h\n";
        let row = evaluate("rain", &format!("{header}28,circ,25\n"), false).unwrap();
        let rain: f64 = row[3].parse().unwrap();
        assert!((rain / 4.248_448_567 - 1.0).abs() < 0.001, "{rain}");
    }

    #[test]
    fn refusals_name_the_column_and_what_may_stand_there() {
        let input = "scenario,state,fc_ghz,d_m\numa,NLOS,300,100\n";
        let text = evaluate("ci", input, false).unwrap_err();
        assert!(
            text.contains("fc_ghz") && text.contains("28 to 140"),
            "{text}"
        );
        assert!(evaluate("ci", input, true).is_ok());
        for (model, input, column) in [
            (
                "ci",
                "scenario,state,fc_ghz,d_m\nrma,LOS,60,100\n",
                "scenario",
            ),
            ("ci", "scenario,state,fc_ghz,d_m\numi,O2I,60,100\n", "state"),
            ("ci", "scenario,state,fc_ghz,d_m\numi,LOS,60,0.1\n", "d_m"),
            (
                "gas",
                "freq_ghz,pressure_hPa,vapour_density_g_m3,temperature_K\n60,1013,7.5,15\n",
                "temperature_K",
            ),
            (
                "rain",
                "freq_ghz,polarization,rain_mm_h\n2000,H,10\n",
                "freq_ghz",
            ),
            (
                "rain",
                "freq_ghz,polarization,rain_mm_h\n20,X,10\n",
                "polarization",
            ),
            (
                "rain",
                "freq_ghz,polarization,rain_mm_h\n20,H,9999\n",
                "rain_mm_h",
            ),
        ] {
            let text = evaluate(model, input, false).unwrap_err();
            assert!(text.contains(column), "{column}: {text}");
        }
    }
}
