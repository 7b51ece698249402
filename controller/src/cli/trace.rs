//! Arguments of `hexloop trace` beyond those that make and show traces.

use std::path::PathBuf;

use clap::Args;
use clap::builder::PossibleValuesParser;
use hexloop_traces::eval::{self, Options, Without};
use hexloop_traces::tr38901::SpecVersion;

/// Arguments of `trace eval`.
#[derive(Debug, Clone, Args)]
#[command(after_help = models())]
pub struct TraceEvalArguments {
    /// The model.
    #[arg(
        hide_possible_values = true,
        value_parser = PossibleValuesParser::new(eval::models().map(|model| model.name))
    )]
    pub model: String,
    /// A CSV file with the columns that the model needs, in any order; by default, and with `-`,
    /// standard input.
    #[arg(long, value_name = "FILE", default_value = "-")]
    pub input: PathBuf,
    /// The version of TR 38.901 whose tables hold: 19.4 (19.2 is the same) or 16.1.
    #[arg(long, value_name = "VERSION", default_value_t = SpecVersion::default())]
    pub spec: SpecVersion,
    /// Speed of light; 3e8 is that of TR 38.901's note on breakpoints.
    #[arg(long = "c", value_name = "METRES_PER_S", default_value_t = Options::default().light_m_per_s, value_parser = speed)]
    pub light_m_per_s: f64,
    /// Use formulas outside the range that their source gives, and say in a column which rows did.
    #[arg(long)]
    pub extrapolate: bool,
}

fn speed(text: &str) -> Result<f64, String> {
    let value: f64 = text
        .parse()
        .map_err(|_error| format!("{text} is no number"))?;
    if value.is_finite() && value > 0.0 {
        return Ok(value);
    }
    Err(format!(
        "{text} is no speed; expected a number above 0, such as 299792458"
    ))
}

/// The models with their columns, for the end of the help.
fn models() -> String {
    let mut text = "Models, the columns that each reads and what it appends:\n".to_owned();
    for model in eval::models() {
        let inputs = model.inputs.iter().map(|input| match input.without {
            Without::Refused => input.name.to_owned(),
            Without::RefusedWhere(rows) => format!("{} ({rows})", input.name),
            Without::Default(words) | Without::DefaultOfRow(words, _) => {
                format!("[{} = {words}]", input.name)
            }
        });
        let inputs: Vec<String> = inputs.collect();
        let entry = format!(
            "\n  {}: {}\n      {}\n      -> {}\n",
            model.name,
            model.about,
            inputs.join(", "),
            model.outputs.join(", ")
        );
        text.push_str(&entry);
    }
    text
}
