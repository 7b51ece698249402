//! From the text of an experiment file to a checked experiment.
//!
//! A pure function of the text and the command line: no path is looked at here, so a file that
//! is valid here is valid everywhere.

use std::ops::Range;

use crate::check::{self, Extent, Reporter};
use crate::experiment::Experiment;
use crate::fields;
use crate::overrides::{self, Overrides};
use crate::problem::{Place, Problem, Problems, SourceText, listed, nearest, quoted};
use crate::value::{self, Data, Origin, Table};
use crate::{references, value::SyntaxError};

/// The largest experiment file that is read, in bytes.
pub const MAX_FILE_BYTES: usize = 1 << 20;

/// The format of experiment files.
#[derive(Debug, Clone, Copy)]
pub struct ExperimentFile;

impl ExperimentFile {
    /// Reads and checks the text of an experiment file; `file_name` is how the user calls it.
    ///
    /// # Errors
    /// Everything that is wrong with it, at once.
    pub fn parse(
        text: &str,
        file_name: &str,
        overrides: &Overrides,
    ) -> Result<Experiment, Problems> {
        let source = SourceText {
            file: file_name.to_owned(),
            text: text.to_owned(),
        };
        if text.len() > MAX_FILE_BYTES {
            let message = format!("the file is larger than {MAX_FILE_BYTES} bytes");
            let place = Place::WholeFile { file: source.file };
            return Err(Problem {
                place,
                message,
                help: None,
                excerpt: None,
            }
            .into());
        }
        let (mut root, syntax_errors) = value::read(text);
        let mut reporter = Reporter {
            source: &source,
            problems: Vec::new(),
        };
        if !syntax_errors.is_empty() {
            report_syntax(&mut reporter, &root, syntax_errors);
            Problems::check(std::mem::take(&mut reporter.problems))?;
        }
        let top = Origin::File(0..0);
        // The file as it stands first: what is wrong with a preset is wrong without it, too.
        check::table(
            &mut reporter,
            &root,
            fields::ROOT,
            ("in the file", &top),
            Extent::Whole,
        );
        apply_preset(&mut reporter, &mut root, overrides.preset.as_deref());
        overrides::apply(&mut reporter, &mut root, overrides);
        check::table(
            &mut reporter,
            &root,
            fields::ROOT,
            ("in the file", &top),
            Extent::Whole,
        );
        let experiment = references::resolve(&mut reporter, &root, overrides.preset.clone());
        Problems::check(reporter.problems)?;
        Ok(experiment)
    }

    /// Names of the presets that a text declares, as far as it can be read.
    #[must_use]
    pub fn presets(text: &str) -> Vec<String> {
        let (root, _) = value::read(text);
        let presets = root.get("presets").and_then(|value| value.table()).cloned();
        presets
            .unwrap_or_default()
            .entries
            .into_iter()
            .map(|entry| entry.key)
            .collect()
    }
}

fn apply_preset(reporter: &mut Reporter<'_>, root: &mut Table, preset: Option<&str>) {
    let Some(name) = preset else { return };
    let mut presets = match root.get("presets").map(|value| value.data.clone()) {
        Some(Data::Table(presets)) => presets,
        _ => Table::default(),
    };
    match presets.take(name).map(|value| value.data) {
        Some(Data::Table(mut body)) => {
            for key in fields::NOT_IN_PRESETS {
                body.take(key);
            }
            root.merge(body);
        }
        Some(_) => {} // reported as not a table
        None => {
            let known: Vec<&str> = presets
                .entries
                .iter()
                .map(|entry| entry.key.as_str())
                .collect();
            let help = match nearest(name, known.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("known presets: {}", listed(known)),
            };
            let origin = Origin::Option(format!("--preset {name}"));
            reporter.report(
                &origin,
                format!("unknown preset {}", quoted(name)),
                Some(help),
            );
        }
    }
}

/// Reports the mistakes in the TOML itself, and what can be said about the rest of the file
/// without guessing: nothing about what is missing, nothing about lines with such mistakes.
fn report_syntax(reporter: &mut Reporter<'_>, root: &Table, errors: Vec<SyntaxError>) {
    let line_of = |place: &Place| match place {
        Place::File { line, .. } => *line,
        _ => 0,
    };
    let mut broken_lines = Vec::new();
    for error in errors {
        let (place, excerpt) = reporter.source.locate(&error.range);
        broken_lines.push(line_of(&place));
        let help = unquoted_quantity(&reporter.source.text, &error.range);
        reporter.problems.push(Problem {
            place,
            message: error.message,
            help,
            excerpt,
        });
    }
    // One broken value often leads to more than one error in its line: the first says it.
    let mut seen = Vec::new();
    reporter.problems.retain(|problem| {
        let line = line_of(&problem.place);
        let first = !seen.contains(&line);
        seen.push(line);
        first
    });
    let mut rest = Reporter {
        source: reporter.source,
        problems: Vec::new(),
    };
    let top = Origin::File(0..0);
    check::table(
        &mut rest,
        root,
        fields::ROOT,
        ("in the file", &top),
        Extent::Part,
    );
    rest.problems
        .retain(|problem| !broken_lines.contains(&line_of(&problem.place)));
    reporter.problems.append(&mut rest.problems);
}

/// The remedy for `duration = 20 s`, the most common mistake.
fn unquoted_quantity(text: &str, range: &Range<usize>) -> Option<String> {
    let before = text.get(..range.start.min(text.len()))?;
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line = text.get(line_start..)?.lines().next()?;
    let (_, value) = line.split_once('=')?;
    let value = value.split('#').next()?.trim();
    let unit = value.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    let quantity = unit.len() < value.len()
        && unit
            .trim()
            .starts_with(|c: char| c.is_alphabetic() || c == '%' || c == '/');
    quantity.then(|| format!("quantities are written in quotes: \"{value}\""))
}
