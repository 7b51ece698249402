use super::*;
use crate::format::csv::tests::any_trace;
use crate::format::{MappedTrace, to_text};
use crate::generate::control;
use crate::{Direction, TraceRow};
use proptest::prelude::*;

const NAMES: [&str; 3] = ["a.csv", "a.arrow", "a.parquet"];

fn example() -> Trace {
    control::constant(1_000_000, 5_000_000, 30_000, 1_000_000_000).unwrap()
}

#[test]
fn a_written_file_reads_back_the_same_and_leaves_no_other_file() {
    let directory = tempfile::tempdir().unwrap();
    for name in NAMES {
        let path = directory.path().join(name);
        write_file(&path, &example()).unwrap();
        write_file(&path, &example()).unwrap();
        assert_eq!(read_file(&path).unwrap(), example());
    }
    let files = std::fs::read_dir(directory.path()).unwrap().count();
    assert_eq!(files, NAMES.len());
}

#[test]
fn a_missing_or_broken_file_is_named_with_the_position() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("b.csv");
    assert!(matches!(
        read_file(&path),
        Err(TraceError::File { action: "read", .. })
    ));
    std::fs::write(&path, b"# {}\nab\xff\n").unwrap();
    let error = read_file(&path).unwrap_err();
    assert!(error.to_string().contains("b.csv"));
    std::fs::write(
        &path,
        [to_text(&example()).as_bytes(), b"1,\xff\n"].concat(),
    )
    .unwrap();
    assert_eq!(read_file(&path).unwrap_err().position(), Some((4, 3)));
    std::fs::write(&path, b"nonsense").unwrap();
    assert!(read_file(&path).unwrap_err().position().is_some());
    let nowhere = directory.path().join("missing").join("c.csv");
    assert!(matches!(
        write_file(&nowhere, &example()),
        Err(TraceError::File {
            action: "write",
            ..
        })
    ));
}

#[test]
fn a_text_with_the_name_of_a_columnar_file_is_refused_and_the_content_tells_the_format() {
    let directory = tempfile::tempdir().unwrap();
    let arrow = directory.path().join("a.arrow");
    std::fs::write(&arrow, to_text(&example())).unwrap();
    let error = format!("{:?}", read_file(&arrow).unwrap_err());
    assert!(error.contains("its name says Arrow"), "{error}");
    write_file(&arrow, &example()).unwrap();
    let misnamed = directory.path().join("a.csv");
    std::fs::rename(&arrow, &misnamed).unwrap();
    assert_eq!(read_file(&misnamed).unwrap(), example());
}

#[test]
fn a_huge_sparse_file_is_refused_without_reading_it() {
    let directory = tempfile::tempdir().unwrap();
    let head = to_text(&example());
    let cases = [
        ("a.csv", head.as_bytes(), "is larger than 536870912 bytes"),
        ("b.csv", b"\n", "the line is longer than 4194304 bytes"),
        ("c.arrow", b"ARROW1\0\0", "the end of the file is missing"),
        ("d.parquet", b"PAR1", "cannot read the Parquet file"),
    ];
    for (name, beginning, problem) in cases {
        let path = directory.path().join(name);
        std::fs::write(&path, beginning).unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        file.set_len(100 << 30).unwrap();
        let error = read_file(&path).unwrap_err();
        let text = format!("{error} {error:?}");
        assert!(text.contains(problem), "{text}");
    }
}

#[test]
fn a_long_file_is_in_batches_whose_columns_are_read_where_they_lie() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("long.arrow");
    let mut metadata = example().metadata().clone();
    metadata.duration_ns = 200_000;
    let mut row = example().rows()[0].clone();
    let mut writer = TraceWriter::create(&path, &metadata).unwrap();
    for t_ns in 0..200_000 {
        row.t_ns = t_ns;
        writer.write_row(&row).unwrap();
    }
    writer.finish().unwrap();
    let mapped = MappedTrace::open(&path).unwrap();
    assert_eq!((mapped.rows(), mapped.batches()), (200_000, 4));
    let columns = mapped.columns(3).unwrap().unwrap();
    assert_eq!(columns.t_ns().first(), Some(&(3 << 16)));
    assert!(mapped.columns(4).unwrap().is_none());
    assert_eq!(columns.link(Direction::Up).rate_bps()[7], 1_000_000);
}

#[test]
fn a_damaged_columnar_file_is_noticed() {
    let directory = tempfile::tempdir().unwrap();
    for name in ["a.arrow", "a.parquet"] {
        let path = directory.path().join(name);
        write_file(&path, &example()).unwrap();
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() - 20]).unwrap();
        assert!(read_file(&path).is_err(), "{name} cut");
        std::fs::write(&path, &whole[..7]).unwrap();
        assert!(read_file(&path).is_err(), "{name} cut to its beginning");
    }
    let path = directory.path().join("a.arrow");
    write_file(&path, &example()).unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    let rate = 1_000_000_u64.to_le_bytes();
    let at = bytes.windows(8).position(|window| window == rate).unwrap();
    bytes[at] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let error = format!("{:?}", read_file(&path).unwrap_err());
    assert!(error.contains("damaged or edited"), "{error}");
}

#[test]
fn a_row_that_makes_no_trace_is_refused_when_it_is_written_and_the_old_file_stays() {
    let directory = tempfile::tempdir().unwrap();
    for name in NAMES {
        let path = directory.path().join(name);
        write_file(&path, &example()).unwrap();
        let row: TraceRow = example().rows()[0].clone();
        let mut writer = TraceWriter::create(&path, example().metadata()).unwrap();
        writer.write_row(&row).unwrap();
        assert!(writer.write_row(&row).is_err(), "time stands still");
        drop(writer);
        let writer = TraceWriter::create(&path, example().metadata()).unwrap();
        assert!(matches!(writer.finish(), Err(TraceError::Empty)));
        assert_eq!(read_file(&path).unwrap(), example());
    }
    let files = std::fs::read_dir(directory.path()).unwrap().count();
    assert_eq!(files, NAMES.len());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_trace_survives_every_format_and_every_order_of_them_exactly(trace in any_trace()) {
        let directory = tempfile::tempdir().unwrap();
        let mut passed_on = trace.clone();
        for name in ["a.arrow", "b.csv", "c.parquet", "d.arrow", "e.parquet", "f.csv"] {
            let path = directory.path().join(name);
            write_file(&path, &passed_on).unwrap();
            passed_on = read_file(&path).unwrap();
            prop_assert_eq!(&passed_on, &trace);
        }
        let text = std::fs::read_to_string(directory.path().join("f.csv")).unwrap();
        prop_assert_eq!(text, to_text(&trace));
    }

    #[test]
    fn no_damage_makes_the_reader_of_columns_panic(
        trace in any_trace(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        parquet: bool,
    ) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(if parquet { "a.parquet" } else { "a.arrow" });
        write_file(&path, &trace).unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        std::fs::write(&path, &bytes).unwrap();
        let _ = read_file(&path);
    }
}

/// What of a file's mappings is in this process's memory, in bytes.
fn resident_bytes(path: &Path) -> usize {
    let text = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let mut of_file = false;
    let mut kilobytes = 0;
    for line in text.lines() {
        if line.contains(" r") && line.contains('-') && !line.contains("kB") {
            of_file = line.ends_with(&*path.to_string_lossy());
        } else if of_file && let Some(rest) = line.strip_prefix("Rss:") {
            let number = rest.trim().trim_end_matches(" kB");
            kilobytes += number.parse::<usize>().unwrap();
        }
    }
    kilobytes << 10
}

#[test]
fn reading_a_mapped_file_holds_a_part_of_it_at_a_time() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("long.arrow");
    let steps: Vec<(u64, u64)> = (0..600_000).map(|at| (1_000_000, 1_000 * at)).collect();
    let long = control::step(control::Link::new(0, 5_000_000, 0), &steps).unwrap();
    write_file(&path, &long).unwrap();
    let size = usize::try_from(std::fs::metadata(&path).unwrap().len()).unwrap();
    let mut reader = TraceReader::open(&path).unwrap();
    let (mut rows, mut most) = (0, 0);
    while reader.next_row().unwrap().is_some() {
        rows += 1;
        if rows % 50_000 == 0 {
            most = most.max(resident_bytes(&path));
        }
    }
    assert_eq!(rows, 600_000);
    assert!(most > 0 && most < size / 3, "{most} of {size}");
    let mapped = read_mapped(&path).unwrap();
    assert_eq!(mapped.row_count(), 600_000);
    let resident = resident_bytes(&path);
    assert!(resident < size / 3, "{resident} of {size}");
}
