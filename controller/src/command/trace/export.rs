//! `hexloop trace export`: traces in other formats.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use hexloop_traces::format::export::{self, Exported, TheaterqForm};
use hexloop_traces::format::import::Resampled;
use hexloop_traces::format::{FileFormat, RowSource, TraceReader, TraceWriter};
use hexloop_traces::{Direction, TraceError};
use serde::Serialize;

use super::super::{Voice, print_json};
use super::unusable;
use crate::cli::trace_files::{ExportFormat, TraceExportArguments};
use crate::exit_code::ExitCode;
use crate::failure::{Failure, Outcome};
use crate::tell::tell;

#[derive(Serialize)]
struct Told<'a> {
    output: String,
    entries: u64,
    warnings: &'a [String],
}

pub(super) fn export(arguments: &TraceExportArguments, voice: Voice) -> Outcome {
    let trace = &arguments.trace;
    let reader = TraceReader::open(trace).map_err(|error| unusable(trace, error))?;
    let format = format_of(arguments);
    let direction = arguments.direction.into();
    let output = &arguments.output;
    let written = match arguments.step {
        None => write(reader, format, direction, output),
        Some(step) => {
            Resampled::new(reader, step.ns).and_then(|rows| write(rows, format, direction, output))
        }
    };
    let exported = written.map_err(|error| {
        if error.position().is_some() {
            return unusable(trace, error);
        }
        let code = match &error {
            TraceError::File {
                action: "write", ..
            } => ExitCode::Failed,
            _ => ExitCode::InvalidInput,
        };
        Failure::new(code, error).context(format!(
            "cannot export {} to {}",
            arguments.trace.display(),
            output.display()
        ))
    })?;
    for warning in &exported.warnings {
        tell(&format_args!("warning: {warning}"));
    }
    if voice.json {
        print_json(&Told {
            output: output.display().to_string(),
            entries: exported.entries,
            warnings: &exported.warnings,
        })?;
    }
    Ok(ExitCode::Done)
}

fn format_of(arguments: &TraceExportArguments) -> ExportFormat {
    arguments
        .format
        .unwrap_or_else(|| match FileFormat::of_name(&arguments.output) {
            FileFormat::Csv => ExportFormat::Csv,
            FileFormat::Arrow => ExportFormat::Arrow,
            FileFormat::Parquet => ExportFormat::Parquet,
        })
}

fn write(
    rows: impl RowSource,
    format: ExportFormat,
    direction: Direction,
    output: &Path,
) -> Result<Exported, TraceError> {
    match format {
        ExportFormat::Csv => copy(rows, FileFormat::Csv, output),
        ExportFormat::Arrow => copy(rows, FileFormat::Arrow, output),
        ExportFormat::Parquet => copy(rows, FileFormat::Parquet, output),
        ExportFormat::Mahimahi => text(output, |sink| export::mahimahi(rows, direction, sink)),
        ExportFormat::Netem => text(output, |sink| export::netem(rows, direction, sink)),
        ExportFormat::Theaterq => text(output, |sink| {
            export::theaterq(rows, direction, TheaterqForm::Simple, sink)
        }),
        ExportFormat::TheaterqExtended => text(output, |sink| {
            export::theaterq(rows, direction, TheaterqForm::Extended, sink)
        }),
    }
}

fn copy(
    mut rows: impl RowSource,
    format: FileFormat,
    output: &Path,
) -> Result<Exported, TraceError> {
    let mut writer = TraceWriter::create_as(output, format, rows.metadata())?;
    let mut exported = Exported::default();
    while let Some(row) = rows.next_row()? {
        writer.write_row(&row)?;
        exported.entries += 1;
    }
    writer.finish()?;
    Ok(exported)
}

/// Writes a text file, which takes its place only when all of it is written.
fn text(
    output: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> Result<Exported, TraceError>,
) -> Result<Exported, TraceError> {
    let failed = |source| TraceError::File {
        action: "write",
        path: output.to_owned(),
        source,
    };
    let mut name = output.as_os_str().to_owned();
    name.push(format!(".{}.part", std::process::id()));
    let temporary = PathBuf::from(name);
    let mut sink = BufWriter::new(File::create(&temporary).map_err(failed)?);
    let written = write(&mut sink).and_then(|exported| {
        sink.flush()
            .and_then(|()| sink.get_ref().sync_all())
            .and_then(|()| std::fs::rename(&temporary, output))
            .map_err(failed)?;
        Ok(exported)
    });
    if written.is_err() {
        // The first failure is the one to report.
        let _ = std::fs::remove_file(&temporary);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::trace_files::DirectionArgument;
    use hexloop_traces::format::{read_file, write_file};
    use hexloop_traces::generate::control::{self, Link};

    #[test]
    fn a_trace_is_exported_to_every_format_and_resampled_on_the_way() {
        let directory = tempfile::tempdir().unwrap();
        let trace = directory.path().join("trace.csv");
        let steps: Vec<(u64, u64)> = (1..=100)
            .map(|index| (1_000_000, index * 100_000))
            .collect();
        write_file(&trace, &control::step(Link::new(0, 0, 0), &steps).unwrap()).unwrap();
        for (name, format) in [
            ("a.arrow", None),
            ("a.parquet", None),
            ("a.csv", None),
            ("a.down", Some(ExportFormat::Mahimahi)),
            ("a.theaterq", Some(ExportFormat::Theaterq)),
            ("b.theaterq", Some(ExportFormat::TheaterqExtended)),
            ("a.sh", Some(ExportFormat::Netem)),
        ] {
            let arguments = TraceExportArguments {
                trace: trace.clone(),
                format,
                direction: DirectionArgument::Up,
                step: Some("20 ms".parse().unwrap()),
                output: directory.path().join(name),
            };
            let voice = Voice {
                json: false,
                quiet: true,
            };
            assert_eq!(export(&arguments, voice).unwrap(), ExitCode::Done);
            if format.is_none() {
                let made = read_file(&arguments.output).unwrap();
                assert_eq!(made.rows().len(), 5);
                assert_eq!(made.rows()[0].up.rate_bps, 1_050_000);
            }
        }
        let files = std::fs::read_dir(directory.path()).unwrap().count();
        assert_eq!(files, 8, "nothing half written is left");
    }
}
