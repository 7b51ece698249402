//! `hexloop trace eval`: one model for every row of a table, as it is read.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::Path;

use hexloop_traces::eval::{Evaluation, Model, Options, TableError, find};
use serde_json::{Map, Number, Value};

use crate::cli::trace::TraceEvalArguments;
use crate::command::Voice;
use crate::exit_code::ExitCode;
use crate::failure::{Failure, OrFail, Outcome};
use crate::tell::tell;

pub(super) fn eval(arguments: &TraceEvalArguments, voice: Voice) -> Outcome {
    let model = find(&arguments.model).ok_or_else(|| {
        let message = format!("there is no model {}", arguments.model);
        Failure::message(ExitCode::Usage, message).remedy("see hexloop trace eval --help")
    })?;
    let options = Options {
        spec: arguments.spec,
        light_m_per_s: arguments.light_m_per_s,
        extrapolate: arguments.extrapolate,
    };
    let output = BufWriter::new(io::stdout().lock());
    let read_from = |input: &mut dyn Read, name: &str| -> Result<u64, Failure> {
        evaluate(model, options, input, output, voice).map_err(|stop| stop.failure(name))
    };
    let extrapolated = if arguments.input == Path::new("-") {
        read_from(&mut io::stdin().lock(), "standard input")?
    } else {
        let name = arguments.input.display().to_string();
        let mut file = File::open(&arguments.input)
            .or_fail(ExitCode::InvalidInput, || format!("cannot open {name}"))?;
        read_from(&mut file, &name)?
    };
    if extrapolated > 0 && !voice.quiet {
        tell(&format_args!(
            "warning: rows outside the range of the model's source, as column extrapolated says: \
             {extrapolated}"
        ));
    }
    Ok(ExitCode::Done)
}

/// Why it stopped early.
enum Stop {
    Table(TableError),
    Output(io::Error),
}

impl Stop {
    fn failure(self, input: &str) -> Failure {
        match self {
            Stop::Table(error) => {
                let remedy = error.remedy();
                Failure::new(ExitCode::InvalidInput, error)
                    .context(format!("{input} cannot be evaluated"))
                    .remedy(remedy)
            }
            Stop::Output(error) => {
                Failure::new(ExitCode::Failed, error).context("cannot write to standard output")
            }
        }
    }
}

impl From<TableError> for Stop {
    fn from(error: TableError) -> Stop {
        Stop::Table(error)
    }
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Stop {
        Stop::Output(error)
    }
}

impl From<csv::Error> for Stop {
    fn from(error: csv::Error) -> Stop {
        match error.into_kind() {
            csv::ErrorKind::Io(error) => Stop::Output(error),
            other => Stop::Output(io::Error::other(format!("{other:?}"))),
        }
    }
}

/// Writes the table with the model's columns, and says how many of its rows were extrapolated.
/// A reader that has gone away ends it, and is no failure.
fn evaluate(
    model: &'static Model,
    options: Options,
    input: impl Read,
    output: impl Write,
    voice: Voice,
) -> Result<u64, Stop> {
    let mut rows = Evaluation::new(model, options, input)?;
    let written = if voice.json {
        write_json(&mut rows, output)
    } else {
        write_csv(&mut rows, output)
    };
    match written {
        Err(Stop::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(0),
        written => written.map(|()| rows.extrapolated_rows()),
    }
}

fn write_csv(rows: &mut Evaluation<impl Read>, output: impl Write) -> Result<(), Stop> {
    let mut writer = csv::Writer::from_writer(output);
    writer.write_record(rows.header())?;
    while let Some(row) = rows.next_row().inspect_err(|_error| {
        // The rows before the bad one are good.
        let _flushed = writer.flush();
    })? {
        writer.write_record(&row)?;
    }
    writer.flush()?;
    Ok(())
}

/// One array of objects; what reads as a number is one.
fn write_json(rows: &mut Evaluation<impl Read>, mut output: impl Write) -> Result<(), Stop> {
    let mut separator = "[";
    while let Some(row) = rows.next_row()? {
        let cells = rows
            .header()
            .iter()
            .cloned()
            .zip(row.iter().map(|cell| json(cell)));
        let object: Map<String, Value> = cells.collect();
        write!(output, "{separator}\n  {}", Value::Object(object))?;
        separator = ",";
    }
    writeln!(output, "\n]")?;
    output.flush()?;
    Ok(())
}

fn json(cell: &str) -> Value {
    if cell.is_empty() {
        return Value::Null;
    }
    if let Ok(truth) = cell.parse::<bool>() {
        return Value::Bool(truth);
    }
    let number = cell.parse::<f64>().ok().and_then(Number::from_f64);
    number.map_or_else(|| Value::String(cell.to_owned()), Value::Number)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "d2d_m,scenario,state,fc_ghz,h_bs_m,h_ut_m,who\n\
                         100,umi,LOS,3.5,10,1.5,ann\n100,umi,NLOS,3.5,10,1.5,\n";

    fn output(table: &str, json: bool) -> (String, Result<u64, Stop>) {
        let voice = Voice { json, quiet: true };
        let mut bytes = Vec::new();
        let model = find("path-loss").unwrap();
        let done = evaluate(
            model,
            Options::default(),
            table.as_bytes(),
            &mut bytes,
            voice,
        );
        (String::from_utf8(bytes).unwrap(), done)
    }

    #[test]
    fn a_table_comes_out_with_the_models_column_at_the_end() {
        let (text, done) = output(TABLE, false);
        assert!(matches!(done, Ok(0)));
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("d2d_m,scenario,") && lines[0].ends_with(",path_loss_db"));
        assert!(lines[1].starts_with("100,umi,LOS,3.5,10,1.5,ann,5,20,1,85.31"));
        assert!(lines[2].starts_with("100,umi,NLOS,3.5,10,1.5,,5,20,1,104.64"));
    }

    #[test]
    fn json_is_one_array_of_objects() {
        let (text, _) = output(TABLE, true);
        let rows: Vec<Map<String, Value>> = serde_json::from_str(&text).unwrap();
        assert_eq!(rows.len(), 2);
        assert_eq!(rows[0]["who"], "ann");
        assert_eq!(rows[1]["who"], Value::Null);
        assert!(rows[1]["path_loss_db"].as_f64().unwrap() > 104.6);
    }

    #[test]
    fn a_bad_row_is_invalid_input_with_a_remedy_and_the_rows_before_it_are_written() {
        let (text, done) = output(&format!("{TABLE}100,umi,LOS,200,10,1.5,eve\n"), false);
        assert_eq!(text.lines().count(), 3);
        let failure = done.err().unwrap().failure("table.csv");
        assert_eq!(failure.code, ExitCode::InvalidInput);
        let text = failure.to_string();
        for part in [
            "table.csv",
            "row 3 (line 4)",
            "fc_ghz is 200",
            "0.5 to 100",
            "--extrapolate",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
