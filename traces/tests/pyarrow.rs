//! Traces and pyarrow: what we write it reads, and what it writes we read.

#![forbid(unsafe_code)]

#[cfg(test)]
mod tests {
    use std::process::Command;

    use hexloop_traces::format::{read_file, write_file};
    use hexloop_traces::generate::control::{self, Link};
    use hexloop_traces::{Trace, TraceRow};

    /// Reads both files, compares them column by column, and writes them again by its own means.
    const SCRIPT: &str = r#"
import sys, pyarrow as pa, pyarrow.ipc as ipc, pyarrow.parquet as pq
source, parquet, arrow_out, parquet_out = sys.argv[1:]
with pa.memory_map(source) as mapped:
    table = ipc.open_file(mapped).read_all()
other = pq.read_table(parquet)
assert table.schema.equals(other.schema), (table.schema, other.schema)
assert table.equals(other)
assert table.column("t_ns").to_pylist()[:2] == [0, 1000]
assert table.column("down_rate_bps").to_pylist()[1] == 2**64 - 1
assert table.column("event").to_pylist()[2] == "outage"
assert b"hexloop.trace" in table.schema.metadata
with ipc.new_file(arrow_out, table.schema) as writer:
    writer.write_table(table, max_chunksize=2)
pq.write_table(other, parquet_out, compression="none")
print("rows", table.num_rows)
"#;

    fn trace() -> Trace {
        let steps = [(1000, 5), (1000, u64::MAX), (1000, 0), (500, 7), (500, 9)];
        let plain = control::step(Link::new(0, 1_000_000, 30_000), &steps).unwrap();
        let mut rows: Vec<TraceRow> = plain.rows().to_vec();
        rows[2].diagnostics.event = Some("outage".to_owned());
        rows[2].diagnostics.sinr_cdb = Some(-1234);
        rows[3].diagnostics.los = Some(true);
        rows[3].diagnostics.cell_id = Some(4_000_000_000);
        rows[4].diagnostics.mcs = Some(27);
        rows[4].diagnostics.elevation_cdeg = Some(4_512);
        Trace::new(plain.metadata().clone(), rows).unwrap()
    }

    #[test]
    #[ignore = "wants a Python with pyarrow, named in HEXLOOP_PYARROW_PYTHON"]
    fn pyarrow_reads_what_we_write_and_we_read_what_it_writes() {
        let Some(python) = std::env::var_os("HEXLOOP_PYARROW_PYTHON") else {
            println!("SKIPPED(pyarrow) HEXLOOP_PYARROW_PYTHON names no Python with pyarrow");
            return;
        };
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        for name in ["ours.arrow", "ours.parquet"] {
            write_file(&path(name), &trace()).unwrap();
        }
        let output = Command::new(python)
            .arg("-c")
            .arg(SCRIPT)
            .args([path("ours.arrow"), path("ours.parquet")])
            .args([path("theirs.arrow"), path("theirs.parquet")])
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{told}");
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "rows 5");
        for name in ["theirs.arrow", "theirs.parquet"] {
            assert_eq!(read_file(&path(name)).unwrap(), trace(), "{name}");
        }
    }
}
