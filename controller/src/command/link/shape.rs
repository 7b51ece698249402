//! What the options of `hexloop link` make of a link: its trace and its settings.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use hexloop_traces::format::FileFormat;
use hexloop_traces::format::mahimahi::{self, ImportSettings};
use hexloop_traces::{
    Diagnostics, Direction, EndPolicy, Gaps, LinkSettings, LinkState, QueueDiscipline, QueueLimit,
    Service, StateOverride, TRACE_SCHEMA, Trace, TraceError, TraceMetadata, TraceRow, TraceStatus,
    UNLIMITED_RATE_BPS, format, pair_to_play,
};

use crate::cli::link::{Both, DisciplineArgument, ShapeArguments};
use crate::exit_code::ExitCode;
use crate::failure::{Failure, OrFail};

/// The queue where neither options nor traces say: that of experiments.
const QUEUE_BYTES: u64 = 300_000;

/// How long the rows of a link without a trace are; it goes on as it is afterwards.
const CONSTANT_NS: u64 = 1_000_000_000;

/// What a link is to be.
#[derive(Debug)]
pub(super) struct Shape {
    pub(super) trace: Trace,
    pub(super) settings: LinkSettings,
    /// What its user should know about it.
    pub(super) notes: Vec<String>,
}

/// A link's trace and settings.
pub(super) fn shape(arguments: &ShapeArguments) -> Result<Shape, Failure> {
    let (trace, mut notes) = read_traces(arguments)?;
    notes.extend(Gaps::of(&trace).map(|gaps| format!("the trace has {gaps}")));
    let mut settings = LinkSettings::drop_tail(QUEUE_BYTES);
    let own_queues = match arguments.queue {
        None => [None; 2],
        Some(queues) => {
            let (of_the_link, own) = queue(queues)?;
            settings.queue = of_the_link;
            own.map(Some)
        }
    };
    let trace = with_options(&trace, arguments, own_queues)?;
    settings.discipline = match arguments.queue_discipline {
        DisciplineArgument::DropTail => QueueDiscipline::DropTail,
        DisciplineArgument::DropHead => QueueDiscipline::DropHead,
        DisciplineArgument::Codel => QueueDiscipline::CODEL,
        DisciplineArgument::Pie => QueueDiscipline::PIE,
    };
    settings.ecn = arguments.ecn;
    settings.reorder = arguments.reorder;
    if let Some(slot) = arguments.slots {
        settings.service = Service::Opportunities { slot_ns: slot.ns };
    }
    if let Some(problem) = without_effect(arguments, &trace) {
        return Err(Failure::message(ExitCode::InvalidInput, problem));
    }
    Ok(Shape {
        trace,
        settings,
        notes,
    })
}

/// The link's queue, and in the order of [`Direction::BOTH`] a direction's own in bytes, where 0 is the link's.
fn queue(queues: Both<QueueLimit>) -> Result<(QueueLimit, [u32; 2]), Failure> {
    let own = |bytes: u64| {
        u32::try_from(bytes).map_err(|_too_long| {
            let message = "--queue: where the two differ, 4294967295 bytes are the most";
            Failure::message(ExitCode::InvalidInput, message)
        })
    };
    match (queues.down, queues.up) {
        (down, up) if down == up => Ok((down, [0, 0])),
        (QueueLimit::Bytes(down), QueueLimit::Bytes(up)) => {
            Ok((QueueLimit::Bytes(down), [own(down)?, own(up)?]))
        }
        (limit @ QueueLimit::Packets(_), QueueLimit::Bytes(up)) => Ok((limit, [0, own(up)?])),
        (QueueLimit::Bytes(down), limit @ QueueLimit::Packets(_)) => Ok((limit, [own(down)?, 0])),
        (QueueLimit::Packets(_), QueueLimit::Packets(_)) => {
            let message = "--queue: two queues that differ are not both in packets; give one of them in bytes, such \
                           as 200p,300kB";
            Err(Failure::message(ExitCode::InvalidInput, message))
        }
    }
}

/// An option that would do nothing: its user expects something else.
fn without_effect(arguments: &ShapeArguments, trace: &Trace) -> Option<&'static str> {
    let mut states = trace.states().flat_map(|(_, states)| states);
    let limited = states
        .clone()
        .any(|state| state.rate_bps != UNLIMITED_RATE_BPS);
    let managed = matches!(
        arguments.queue_discipline,
        DisciplineArgument::Codel | DisciplineArgument::Pie
    );
    let about_queues = arguments.queue.is_some()
        || arguments.slots.is_some()
        || arguments.ecn
        || arguments.queue_discipline != DisciplineArgument::DropTail;
    if !limited && about_queues {
        return Some("a link without a rate has no queue; give --rate, --down or --up as well");
    }
    if arguments.ecn && !managed {
        return Some(
            "only codel and pie mark packets; give --queue-discipline codel or pie as well",
        );
    }
    if arguments.reorder && !states.clone().any(|state| state.jitter_ns > 0) {
        return Some("without jitter nothing is reordered; give --jitter as well");
    }
    if arguments.loss_burst.is_some() && !states.any(|state| state.loss_ppb > 0) {
        return Some("without loss there are no bursts of it; give --loss as well");
    }
    None
}

/// A file's trace, and whether it speaks of both directions, as mahimahi's do not.
struct Recording {
    trace: Trace,
    both: bool,
}

/// The trace, and what its user should know about it.
fn read_traces(arguments: &ShapeArguments) -> Result<(Trace, Vec<String>), Failure> {
    let read = |path: &Option<_>| path.as_deref().map(read_trace).transpose();
    let [down, up] = [read(&arguments.down)?, read(&arguments.up)?];
    let mut notes = Vec::new();
    let of_mahimahi =
        |recording: &Option<Recording>| recording.as_ref().is_some_and(|one| !one.both);
    if arguments.slots.is_none() && (of_mahimahi(&down) || of_mahimahi(&up)) {
        notes.push(
            "a mahimahi recording is played as the rate of each millisecond; with --slots 1ms packets leave at its \
             delivery opportunities, and unused ones are lost, as in mm-link"
                .to_owned(),
        );
    }
    let paired = match (down, up) {
        (None, None) => return Ok((constant()?, notes)),
        (Some(down), None) if down.both => return Ok((down.trace, notes)),
        (Some(down), None) => pair_to_play(&down.trace, &constant()?),
        (None, Some(up)) => pair_to_play(&constant()?, &up.trace),
        (Some(down), Some(up)) => {
            let own: usize = [&down, &up]
                .map(|one| one.trace.metadata().notes.len())
                .iter()
                .sum();
            let paired = pair_to_play(&down.trace, &up.trace);
            // What is beyond their own is about the two together.
            let both = paired
                .iter()
                .flat_map(|trace| trace.metadata().notes.iter().skip(own));
            notes.extend(both.cloned());
            paired
        }
    };
    let paired = paired.or_fail(ExitCode::InvalidInput, || {
        "the two traces cannot be played together".to_owned()
    })?;
    Ok((paired, notes))
}

/// Reads a trace file or a mahimahi recording, told by its content. A mahimahi file has the same rates
/// in both directions, so that it can be used for either.
fn read_trace(path: &Path) -> Result<Recording, Failure> {
    let doing = || format!("cannot read the trace {}", path.display());
    let format = FileFormat::of_path(path).or_fail(ExitCode::InvalidInput, doing)?;
    if format != FileFormat::Csv {
        let trace = format::read_file(path).or_fail(ExitCode::InvalidInput, doing)?;
        return Ok(Recording { trace, both: true });
    }
    let text = text_of(path)?;
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    let first = text.lines().map(str::trim).find(|line| !line.is_empty());
    let Some(first) = first else {
        let problem = "nothing is in it; expected a trace file or a mahimahi recording";
        let message = format!("{}: {problem}", path.display());
        return Err(Failure::message(ExitCode::InvalidInput, message));
    };
    // What is negative is no moment either, and told by its line.
    let digits = first.strip_prefix('-').unwrap_or(first);
    let is_mahimahi = digits.bytes().all(|byte| byte.is_ascii_digit());
    let parsed = if is_mahimahi {
        let settings = ImportSettings {
            scenario: name.into_owned(),
            delay_ns: 0,
            queue_bytes: 0,
        };
        mahimahi::parse(&text, Some(&text), &settings)
    } else {
        format::parse(&text)
    };
    let trace = parsed.map_err(|error| located(path, &error))?;
    Ok(Recording {
        trace,
        both: !is_mahimahi,
    })
}

fn text_of(path: &Path) -> Result<String, Failure> {
    let doing = || format!("cannot read the trace {}", path.display());
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| {
            file.take(format::LARGEST_FILE_BYTES + 1)
                .read_to_end(&mut bytes)
        })
        .or_fail(ExitCode::InvalidInput, doing)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > format::LARGEST_FILE_BYTES) {
        let limit = format::LARGEST_FILE_BYTES;
        let message = format!("{} is larger than {limit} bytes", path.display());
        return Err(Failure::message(ExitCode::InvalidInput, message));
    }
    String::from_utf8(bytes).map_err(|error| {
        let good = String::from_utf8_lossy(&error.as_bytes()[..error.utf8_error().valid_up_to()])
            .into_owned();
        let line = good.matches('\n').count() + 1;
        let column = good.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        let problem = "not text; expected a trace file or a mahimahi recording";
        let message = format!("{}:{line}:{column}: {problem}", path.display());
        Failure::message(ExitCode::InvalidInput, message)
    })
}

/// The mistake with file:line:column, where it has a place.
fn located(path: &Path, error: &TraceError) -> Failure {
    let path = path.display();
    let message = match error {
        TraceError::Syntax {
            line,
            column,
            problem,
        } => format!("{path}:{line}:{column}: {problem}"),
        other => format!("{path}: {other}"),
    };
    Failure::message(ExitCode::InvalidInput, message)
}

fn constant() -> Result<Trace, Failure> {
    let metadata = TraceMetadata {
        schema: TRACE_SCHEMA,
        scenario: "options".to_owned(),
        status: TraceStatus::Control,
        duration_ns: CONSTANT_NS,
        end: EndPolicy::Hold,
        seed: None,
        generator: format!("hexloop link {}", crate::VERSION),
        configuration: std::collections::BTreeMap::default(),
        notes: Vec::new(),
        provenance: hexloop_traces::Provenance::default(),
    };
    let row = TraceRow {
        t_ns: 0,
        down: LinkState::TRANSPARENT,
        up: LinkState::TRANSPARENT,
        diagnostics: Diagnostics::default(),
    };
    Trace::new(metadata, vec![row]).or_fail(ExitCode::Failed, || "no constant trace".to_owned())
}

/// The same trace with the columns that options name replaced.
fn with_options(
    trace: &Trace,
    arguments: &ShapeArguments,
    own_queues_bytes: [Option<u32>; 2],
) -> Result<Trace, Failure> {
    let jitter = arguments.jitter.map(|both| {
        let ns = |ns: u64| {
            u32::try_from(ns).map_err(|_too_long| {
                Failure::message(ExitCode::InvalidInput, "--jitter is 4.29 s at most")
            })
        };
        Ok(Both {
            down: ns(both.down.ns)?,
            up: ns(both.up.ns)?,
        })
    });
    let jitter = jitter.transpose()?;
    let over = |direction: Direction| {
        let share = |option| one(option, direction).map(hexloop_traces::units::Share::ppb);
        StateOverride {
            rate_bps: one(arguments.rate, direction).map(|rate| rate.bps),
            delay_ns: one(arguments.delay, direction).map(|delay| delay.ns),
            jitter_ns: one(jitter, direction),
            loss_ppb: share(arguments.loss),
            loss_burst_milli: one(arguments.loss_burst, direction),
            dup_ppb: share(arguments.duplicate),
            corrupt_ppb: share(arguments.corrupt),
            queue_bytes: own_queues_bytes[usize::from(direction == Direction::Up)],
        }
    };
    let changed = trace.with_overrides(Direction::BOTH.map(over));
    changed.or_fail(ExitCode::InvalidInput, || {
        "the options make no possible link".to_owned()
    })
}

fn one<T: Copy>(both: Option<Both<T>>, direction: Direction) -> Option<T> {
    both.map(|both| match direction {
        Direction::Down => both.down,
        Direction::Up => both.up,
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use hexloop_traces::{CapacityCurve, generate::control};

    use super::*;

    fn arguments() -> ShapeArguments {
        ShapeArguments::default()
    }

    fn both<T: Copy>(value: T) -> Both<T> {
        Both {
            down: value,
            up: value,
        }
    }

    #[test]
    fn each_direction_may_have_a_queue_of_its_own() {
        use QueueLimit::{Bytes, Packets};
        let of = |down, up| {
            let Shape {
                trace, settings, ..
            } = shape(&ShapeArguments {
                rate: Some("10Mbit/s".parse().unwrap()),
                queue: Some(Both { down, up }),
                ..arguments()
            })?;
            let row = &trace.rows()[0];
            Ok::<_, Failure>((settings.queue, [row.down.queue_bytes, row.up.queue_bytes]))
        };
        for (down, up, link, own) in [
            (Bytes(3000), Bytes(3000), Bytes(3000), [0, 0]),
            (Bytes(3000), Bytes(5000), Bytes(3000), [3000, 5000]),
            (Packets(7), Bytes(5000), Packets(7), [0, 5000]),
            (Bytes(3000), Packets(7), Packets(7), [3000, 0]),
        ] {
            assert_eq!(of(down, up).unwrap(), (link, own), "{down:?}, {up:?}");
        }
        let refused = of(Packets(7), Packets(8)).unwrap_err().to_string();
        assert!(refused.contains("give one of them in bytes"), "{refused}");
    }

    #[test]
    fn what_a_trace_leaves_out_and_what_mahimahi_does_otherwise_are_told() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| Some(directory.path().join(name));
        let moments: Vec<String> = (1..=100)
            .chain(5_000..5_100)
            .map(|ms: u32| ms.to_string())
            .collect();
        fs::write(path("hole").unwrap(), moments.join("\n")).unwrap();
        fs::write(path("even").unwrap(), "1\n2\n3\n").unwrap();
        let notes = |arguments: ShapeArguments| shape(&arguments).unwrap().notes;
        let found = notes(ShapeArguments {
            down: path("even"),
            slots: Some("1ms".parse().unwrap()),
            ..arguments()
        });
        assert!(found.is_empty(), "{found:?}");
        let found = notes(ShapeArguments {
            down: path("even"),
            ..arguments()
        });
        assert!(found[0].contains("--slots 1ms"), "{found:?}");
        let air = control::constant(5_000_000, 7_000_000, 9_000, 1_000_000).unwrap();
        let mut rows: Vec<TraceRow> = Vec::new();
        for ms in (0..100).chain(5_000..5_100) {
            let mut row = air.rows()[0].clone();
            row.t_ns = ms * 1_000_000;
            rows.push(row);
        }
        let mut metadata = air.metadata().clone();
        metadata.duration_ns = 5_100_000_000;
        let holed = Trace::new(metadata, rows).unwrap();
        format::write_file(&path("holed.csv").unwrap(), &holed).unwrap();
        let found = notes(ShapeArguments {
            down: path("holed.csv"),
            ..arguments()
        });
        assert!(found[0].contains("1 gap in rows"), "{found:?}");
    }

    #[test]
    fn without_options_the_link_is_transparent() {
        let Shape { trace, .. } = shape(&arguments()).unwrap();
        assert_eq!(trace.rows()[0].down, LinkState::TRANSPARENT);
        assert_eq!(trace.rows()[0].up, LinkState::TRANSPARENT);
    }

    #[test]
    fn options_replace_columns_of_the_trace_and_leave_the_others() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("air.parquet");
        let air = control::constant(5_000_000, 7_000_000, 9_000, 1_000_000_000).unwrap();
        format::write_file(&path, &air).unwrap();
        let Shape {
            trace, settings, ..
        } = shape(&ShapeArguments {
            down: Some(path),
            delay: Some("1ms,2ms".parse().unwrap()),
            queue: Some(both(QueueLimit::Packets(20))),
            ..arguments()
        })
        .unwrap();
        let row = &trace.rows()[0];
        assert_eq!((row.down.delay_ns, row.up.delay_ns), (1_000_000, 2_000_000));
        assert_eq!((row.down.rate_bps, row.up.rate_bps), (5_000_000, 5_000_000));
        assert_eq!(row.down.queue_bytes, 0);
        assert_eq!(settings.queue, QueueLimit::Packets(20));
    }

    #[test]
    fn mahimahi_files_are_told_by_their_content_and_serve_one_direction_each() {
        let directory = tempfile::tempdir().unwrap();
        let [down, up] = ["down", "up"].map(|name| directory.path().join(name));
        fs::write(&down, "1\n2\n3\n4\n").unwrap();
        fs::write(&up, "2\n").unwrap();
        let shaped = |down: Option<&Path>, up: Option<&Path>| {
            let Shape { trace, .. } = shape(&ShapeArguments {
                down: down.map(Path::to_owned),
                up: up.map(Path::to_owned),
                ..arguments()
            })
            .unwrap();
            Direction::BOTH
                .map(|direction| CapacityCurve::new(&trace, direction).bits_between(0, 4_000_000))
        };
        assert_eq!(shaped(Some(&down), Some(&up)), [4 * 12_000, 2 * 12_000]);
        let [limited, free] = shaped(Some(&down), None);
        assert!(limited == 4 * 12_000 && free > 1 << 40);
        let [free, limited] = shaped(None, Some(&up));
        assert!(limited == 2 * 12_000 && free > 1 << 40);
    }

    #[test]
    fn mistakes_in_a_trace_are_told_with_file_line_and_column() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("bad");
        for (content, expected) in [
            (&b"1\n3\n2\n"[..], "bad:3:1: "),
            (b"nonsense", "bad:1:1: "),
            (b"1\n\xff\n", "bad:2:1: not text"),
            (b"", "bad: nothing is in it"),
        ] {
            fs::write(&path, content).unwrap();
            let failure = shape(&ShapeArguments {
                down: Some(path.clone()),
                ..arguments()
            })
            .unwrap_err();
            assert_eq!(failure.code, ExitCode::InvalidInput);
            assert!(failure.to_string().contains(expected), "{failure}");
        }
        let failure = read_trace(&directory.path().join("missing"));
        assert!(failure.is_err_and(|failure| failure.to_string().contains("missing")));
    }

    #[test]
    fn options_that_would_do_nothing_are_refused() {
        let queue = ShapeArguments {
            queue: Some(both(QueueLimit::Packets(20))),
            ..arguments()
        };
        let reorder = ShapeArguments {
            reorder: true,
            ..arguments()
        };
        let burst = ShapeArguments {
            loss_burst: Some(both(2000)),
            ..arguments()
        };
        for (arguments, missing) in [(queue, "--rate"), (reorder, "--jitter"), (burst, "--loss")] {
            let failure = shape(&arguments).unwrap_err();
            assert!(failure.to_string().contains(missing), "{failure}");
        }
    }
}
