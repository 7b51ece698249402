//! `hexloop trace import`: traces of recordings in other formats.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use hexloop_traces::format::import::{ImportOptions, Importer, Recording, detect, importer_named};
use hexloop_traces::format::{LARGEST_FILE_BYTES, write_file};

use super::super::{Voice, print_json};
use super::generate::scenario_named;
use crate::cli::trace_files::TraceImportArguments;
use crate::exit_code::ExitCode;
use crate::failure::{Failure, OrFail, Outcome};
use crate::tell::tell;

pub(super) fn import(arguments: &TraceImportArguments, voice: Voice) -> Outcome {
    let mut paths: Vec<&PathBuf> = arguments.recordings.iter().collect();
    paths.extend(&arguments.mahimahi_down);
    paths.extend(&arguments.mahimahi_up);
    let mut texts = Vec::new();
    for path in &paths {
        texts.push((path.display().to_string(), text_of(path)?));
    }
    let recordings: Vec<Recording<'_>> = texts
        .iter()
        .map(|(name, text)| Recording { name, text })
        .collect();
    let importer = match (&arguments.format, &arguments.mahimahi_down) {
        (Some(name), _) => importer_named(name),
        (None, Some(_)) => importer_named("mahimahi"),
        (None, None) => Some(detected(&recordings)?),
    };
    let importer = importer
        .ok_or_else(|| Failure::message(ExitCode::Usage, "there is no importer of that name"))?;
    if recordings.len() > importer.most_files {
        let message = format!(
            "{} files of {}: it takes at most {}",
            recordings.len(),
            importer.name,
            importer.most_files
        );
        return Err(Failure::message(ExitCode::Usage, message));
    }
    let takes_settings = matches!(importer.name, "snr" | "positions");
    if !takes_settings && (arguments.around.is_some() || !arguments.settings.is_empty()) {
        let message = format!(
            "--around and --set change nothing about {}: they are for snr and positions",
            importer.name
        );
        return Err(Failure::message(ExitCode::Usage, message));
    }
    let options = options(arguments, paths.first().copied())?;
    let trace = (importer.import)(&recordings, &options).map_err(|error| {
        let remedy = format!(
            "{}: {}; `hexloop trace import --help` tells what may be said about it",
            importer.name, importer.about
        );
        Failure::new(ExitCode::InvalidInput, error).remedy(remedy)
    })?;
    write_file(&arguments.output, &trace).or_fail(ExitCode::Failed, || {
        format!("cannot write the trace to {}", arguments.output.display())
    })?;
    if voice.json {
        print_json(trace.metadata())?;
    } else if !voice.quiet {
        for note in &trace.metadata().notes {
            tell(&format_args!("note: {note}"));
        }
    }
    Ok(ExitCode::Done)
}

/// The text of a recording, not longer than a trace file may be.
fn text_of(path: &Path) -> Result<String, Failure> {
    let doing = || format!("cannot read the recording {}", path.display());
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(LARGEST_FILE_BYTES + 1).read_to_end(&mut bytes))
        .or_fail(ExitCode::InvalidInput, doing)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > LARGEST_FILE_BYTES) {
        let message = format!(
            "{} is larger than {LARGEST_FILE_BYTES} bytes",
            path.display()
        );
        return Err(Failure::message(ExitCode::InvalidInput, message).remedy("import a part of it"));
    }
    String::from_utf8(bytes).map_err(|error| {
        let good = String::from_utf8_lossy(&error.as_bytes()[..error.utf8_error().valid_up_to()])
            .into_owned();
        let line = good.matches('\n').count() + 1;
        let column = good.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        let message = format!("{}:{line}:{column}: not UTF-8 text", path.display());
        Failure::message(ExitCode::InvalidInput, message)
    })
}

/// The only importer that the content of the first file fits.
fn detected(recordings: &[Recording<'_>]) -> Result<&'static Importer, Failure> {
    let Some(first) = recordings.first() else {
        return Err(Failure::message(ExitCode::Usage, "no recording is named"));
    };
    let found = detect(first);
    match found.as_slice() {
        [one] => Ok(one),
        [] if first.text.starts_with("# {\"schema\"") => Err(Failure::message(
            ExitCode::InvalidInput,
            format!("{} is a trace already", first.name),
        )
        .remedy("`hexloop trace export` writes it in another format or with longer rows")),
        [] => Err(Failure::message(
            ExitCode::InvalidInput,
            format!("the format of {} cannot be told by its content", first.name),
        )
        .remedy("name it with --format; `hexloop trace import --help` lists them")),
        several => {
            let names: Vec<&str> = several.iter().map(|importer| importer.name).collect();
            let message = format!("{} may be {}", first.name, names.join(" or "));
            let remedy = "name its format with --format";
            Err(Failure::message(ExitCode::InvalidInput, message).remedy(remedy))
        }
    }
}

fn options(
    arguments: &TraceImportArguments,
    first: Option<&PathBuf>,
) -> Result<ImportOptions, Failure> {
    let queue_bytes = arguments.queue.map_or(0, |queue| queue.bytes);
    let queue_bytes = u32::try_from(queue_bytes).or_fail(ExitCode::Usage, || {
        format!("--queue: {queue_bytes} bytes are more than a trace can say")
    })?;
    let (settings, around) = match &arguments.around {
        Some(name) => (Vec::new(), Some(scenario_named(name, &arguments.settings)?)),
        None => (arguments.settings.clone(), None),
    };
    let stem = first.and_then(|path| path.file_stem());
    let name = arguments
        .name
        .clone()
        .or_else(|| stem.map(|name| name.to_string_lossy().into_owned()));
    Ok(ImportOptions {
        scenario: name.unwrap_or_else(|| "recording".to_owned()),
        delay_ns: arguments.delay.ns,
        queue_bytes,
        direction: arguments.direction.into(),
        gaps: arguments.gaps.into(),
        longest_hold_ns: arguments.longest_hold.map(|time| time.ns),
        step_ns: arguments.step.map(|time| time.ns),
        end: arguments.end.map(Into::into),
        licence: arguments.licence.clone(),
        settings,
        around,
        select: arguments.select.iter().cloned().collect(),
        columns: arguments.column.iter().cloned().collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, TraceAction, Verb};
    use clap::Parser as _;
    use hexloop_traces::format::read_file;

    fn imported(words: &[&str]) -> Outcome {
        let line = ["hexloop", "trace", "import"].iter().chain(words);
        let Verb::Trace { action } = Cli::try_parse_from(line).unwrap().verb else {
            panic!("no trace verb");
        };
        let TraceAction::Import(arguments) = action else {
            panic!("no import");
        };
        let voice = Voice {
            json: false,
            quiet: true,
        };
        import(&arguments, voice)
    }

    #[test]
    fn an_imported_recording_is_a_trace_with_the_delay_and_queue_that_were_given() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
        let (down, output) = (file("tram.down"), file("tram.arrow"));
        std::fs::write(&down, "1\n2\n2\n10\n").unwrap();
        let given = ["--delay", "20 ms", "--queue", "300 kB", "--output", &output];
        let flag = ["--mahimahi-down", &down];
        for recording in [flag.as_slice(), &[&down], &["--format", "mahimahi", &down]] {
            let words = [recording, given.as_slice()].concat();
            assert_eq!(imported(&words).unwrap(), ExitCode::Done);
            let trace = read_file(Path::new(&output)).unwrap();
            assert_eq!(trace.metadata().scenario, "tram");
            assert_eq!(trace.duration_ns(), 10_000_000);
            let first = &trace.rows()[0].down;
            assert_eq!(first.rate_bps, 12_000_000);
            assert_eq!((first.delay_ns, first.queue_bytes), (20_000_000, 300_000));
            std::fs::remove_file(&output).unwrap();
        }
        std::fs::write(&down, "2\n1\n").unwrap();
        let failure = imported(&[&down, "--output", &output]).unwrap_err();
        assert_eq!(failure.code, ExitCode::InvalidInput);
        assert!(failure.to_string().contains("tram.down:2:1: "), "{failure}");
        assert!(!Path::new(&output).exists());
    }

    #[test]
    fn positions_are_played_in_a_scenario_and_ratios_on_a_carrier_that_are_named() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
        let (walk, ratios, output) = (file("walk.csv"), file("ratios.csv"), file("made.arrow"));
        std::fs::write(&walk, "t,x,y\n0,30,0\n1,31,0\n").unwrap();
        std::fs::write(&ratios, "time_s,snr_db\n0,20\n1,20\n").unwrap();
        let around = ["--around", "umi-fr3-street", "--set", "step=50 ms"];
        let words = [[&*walk].as_slice(), &around, &["--output", &output]].concat();
        assert_eq!(imported(&words).unwrap(), ExitCode::Done);
        assert_eq!(read_file(Path::new(&output)).unwrap().row_count(), 20);
        let set = ["--set", "radio.bandwidth=20 MHz", "--output", &output];
        let words = [[&*ratios].as_slice(), &set].concat();
        assert_eq!(imported(&words).unwrap(), ExitCode::Done);
        let made = read_file(Path::new(&output)).unwrap();
        let radio = made.metadata().provenance.radio.as_ref().unwrap();
        assert_eq!(radio.bandwidth_hz, Some(20_000_000));
        std::fs::write(&ratios, "1\n2\n").unwrap();
        let failure = imported(&words).unwrap_err();
        assert_eq!(failure.code, ExitCode::Usage);
    }

    #[test]
    fn a_recording_of_no_known_format_asks_for_its_format() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x");
        std::fs::write(&path, "what is this\n").unwrap();
        let path = path.to_str().unwrap();
        let failure = imported(&[path, "--output", "/nowhere/x.csv"]).unwrap_err();
        assert!(failure.to_string().contains("--format"), "{failure}");
        std::fs::write(path, b"1\n\xff\n").unwrap();
        let failure = imported(&[path, "--output", "/nowhere/x.csv"]).unwrap_err();
        assert!(failure.to_string().contains(":2:1: not UTF-8"), "{failure}");
    }
}
