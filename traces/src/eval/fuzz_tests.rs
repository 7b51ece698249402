//! Whatever stands in a table, every model gives finite numbers or an error that names the row.

use proptest::prelude::*;

use super::*;
use crate::eval::models;

/// Text that models expect somewhere, and numbers around the ends of what they take.
const CELLS: [&str; 40] = [
    "umi",
    "uma",
    "rma",
    "sma",
    "inh-open",
    "inh-mixed",
    "inf-sl",
    "inf-dl",
    "inf-sh",
    "inf-dh",
    "inf-hh",
    "inh",
    "LOS",
    "NLOS",
    "O2I",
    "low",
    "high",
    "low-a",
    "none",
    "dense",
    "H",
    "V",
    "circ",
    "A",
    "E",
    "0",
    "-0",
    "1",
    "2",
    "1.5",
    "10",
    "25",
    "90",
    "100",
    "5000",
    "1e308",
    "-1e308",
    "5e-324",
    "NaN",
    "",
];

fn run(model: &'static Model, options: Options, table: &[u8]) {
    let Ok(mut rows) = Evaluation::new(model, options, table) else {
        return;
    };
    let width = rows.header().len();
    loop {
        match rows.next_row() {
            Ok(None) => return,
            Ok(Some(row)) => {
                assert_eq!(row.len(), width, "{}", model.name);
                let marks = usize::from(options.extrapolate);
                let results = &row[width - marks - model.outputs.len()..width - marks];
                for cell in results {
                    if let Ok(value) = cell.parse::<f64>() {
                        assert!(value.is_finite(), "{} {row:?}", model.name);
                    }
                }
            }
            Err(error) => {
                let text = error.to_string();
                assert!(
                    text.contains("row") || matches!(error, TableError::NoRows),
                    "{text}"
                );
                assert!(!error.remedy().is_empty());
                return;
            }
        }
    }
}

fn options() -> impl Strategy<Value = Options> {
    (any::<bool>(), any::<bool>()).prop_map(|(old, extrapolate)| Options {
        spec: if old {
            crate::tr38901::SpecVersion::V16_1
        } else {
            crate::tr38901::SpecVersion::V19_4
        },
        extrapolate,
        ..Options::default()
    })
}

proptest! {
    #[test]
    fn any_bytes_are_a_table_or_an_error(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        options in options(),
    ) {
        for model in models() {
            run(model, options, &bytes);
        }
    }

    #[test]
    fn any_cells_give_finite_results_or_an_error(
        rows in prop::collection::vec(prop::collection::vec(0..CELLS.len(), 16), 1..4),
        numbers in prop::collection::vec(any::<f64>(), 16),
        options in options(),
    ) {
        for model in models() {
            let names: Vec<&str> = model.inputs.iter().map(|input| input.name).collect();
            for row in &rows {
                let cells = row.iter().map(|at| CELLS[*at].to_owned());
                let of_list: Vec<String> = cells.take(names.len()).collect();
                // A row of the list, and one with the first two cells of it and any numbers.
                let numbers = numbers.iter().map(f64::to_string);
                let any: Vec<String> =
                    of_list.iter().take(2).cloned().chain(numbers).take(names.len()).collect();
                for cells in [of_list, any] {
                    let table = format!("{}\n{}\n", names.join(","), cells.join(","));
                    run(model, options, table.as_bytes());
                }
            }
        }
    }

    #[test]
    fn rows_of_the_right_kind_give_finite_results_or_an_error(
        scenario in 0..11_usize,
        state in 0..3_usize,
        numbers in prop::collection::vec(0.0..200.0_f64, 12),
        options in options(),
    ) {
        for model in models() {
            let names: Vec<&str> = model.inputs.iter().map(|input| input.name).collect();
            let cells: Vec<String> = names
                .iter()
                .zip(&numbers)
                .map(|(name, number)| match *name {
                    "scenario" => CELLS[scenario].to_owned(),
                    "state" => CELLS[12 + state].to_owned(),
                    "model" => CELLS[15 + state].to_owned(),
                    "vegetation" => "sparse".to_owned(),
                    "polarization" => CELLS[20 + state].to_owned(),
                    "profile" => CELLS[23 + state % 2].to_owned(),
                    _ => number.to_string(),
                })
                .collect();
            let table = format!("{}\n{}\n", names.join(","), cells.join(","));
            run(model, options, table.as_bytes());
        }
    }
}
