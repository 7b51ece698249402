use super::*;
use crate::eval::find;

fn evaluate(input: &str, options: Options) -> Result<Vec<Vec<String>>, TableError> {
    let mut rows = Evaluation::new(find("path-loss").unwrap(), options, input.as_bytes())?;
    let mut table = vec![rows.header().to_vec()];
    while let Some(row) = rows.next_row()? {
        table.push(row);
    }
    Ok(table)
}

fn message(input: &str) -> String {
    evaluate(input, Options::default()).unwrap_err().to_string()
}

const HEADER: &str = "scenario,state,fc_ghz,d2d_m,h_bs_m,h_ut_m";

#[test]
fn columns_stand_in_any_order_and_further_ones_are_kept_as_they_are() {
    let input =
        "note, h_ut_m ,h_bs_m,d2d_m,fc_ghz,state,scenario\n\"a, b\",1.5,10,100, 3.5 ,los,UMi\n";
    let table = evaluate(input, Options::default()).unwrap();
    assert_eq!(
        table[0].join(";"),
        "note; h_ut_m ;h_bs_m;d2d_m;fc_ghz;state;scenario;building_height_m;street_width_m;\
         effective_env_height_m;path_loss_db"
    );
    assert_eq!(
        table[1][..10].join(";"),
        "a, b;1.5;10;100; 3.5 ;los;UMi;5;20;1"
    );
    assert!(table[1][10].starts_with("85.31"), "{:?}", table[1]);
}

#[test]
fn defaults_are_printed_back_where_a_cell_is_empty() {
    let input =
        format!("{HEADER},street_width_m\nsma,NLOS,3.5,100,35,1.5,\nrma,NLOS,3.5,100,35,1.5,7\n");
    let table = evaluate(&input, Options::default()).unwrap();
    assert_eq!(
        table[0][6..9].join(";"),
        "street_width_m;building_height_m;effective_env_height_m"
    );
    assert_eq!(table[1][6..9].join(";"), "10;10;1");
    assert_eq!(table[2][6..9].join(";"), "7;5;1");
}

#[test]
fn an_absent_column_is_named_with_the_row_that_needs_it() {
    let text = message("scenario,state,d2d_m,h_bs_m,h_ut_m\numi,LOS,100,10,1.5\n");
    assert!(
        text.contains("row 1 (line 2)") && text.contains("fc_ghz"),
        "{text}"
    );
    let short = message(&format!(
        "{HEADER}\numi,LOS,3.5,100,10,1.5\numi,LOS,3.5,100,10\n"
    ));
    assert!(
        short.contains("row 2 (line 3)") && short.contains("h_ut_m"),
        "{short}"
    );
}

#[test]
fn a_value_that_cannot_be_used_is_named_with_row_column_and_what_is_expected() {
    for (row, column, expected) in [
        ("umi,LOS,NaN,100,10,1.5", "fc_ghz", "finite"),
        ("umi,LOS,3.5,inf,10,1.5", "d2d_m", "finite"),
        ("umi,LOS,3.5,1e999,10,1.5", "d2d_m", "finite"),
        ("umi,LOS,-3.5,100,10,1.5", "fc_ghz", "above 0"),
        ("umj,LOS,3.5,100,10,1.5", "scenario", "inf-hh"),
        ("umi,O2I,3.5,100,10,1.5", "state", "LOS or NLOS"),
        (
            "inf-hh,NLOS,3.5,100,10,8",
            "state",
            "always in line of sight",
        ),
        ("umi,LOS,0.4,100,10,1.5", "fc_ghz", "0.5 to 100"),
        ("rma,LOS,60,100,35,1.5", "fc_ghz", "0.5 to 30"),
        ("umi,LOS,3.5,100,10,23", "h_ut_m", "1.5 to 22.5"),
        ("inh-open,LOS,3.5,151,3,1", "d3d_m", "1 to 150"),
    ] {
        let text = message(&format!("{HEADER}\numi,LOS,3.5,100,10,1.5\n{row}\n"));
        assert!(text.starts_with("row 2 (line 3)"), "{text}");
        assert!(text.contains(column) && text.contains(expected), "{text}");
    }
}

#[test]
fn extrapolation_computes_outside_and_marks_the_row() {
    let options = Options {
        extrapolate: true,
        ..Options::default()
    };
    let input = format!("{HEADER}\numi,LOS,3.5,100,10,1.5\nrma,LOS,60,100,35,1.5\n");
    let table = evaluate(&input, options).unwrap();
    assert_eq!(table[0].last().unwrap(), "extrapolated");
    assert_eq!(table[1].last().unwrap(), "false");
    assert_eq!(table[2].last().unwrap(), "true");
    assert!(table[2][9].starts_with("108.8"), "{:?}", table[2]);
}

#[test]
fn tables_without_rows_or_with_broken_rows_are_refused() {
    assert!(message("").contains("empty"));
    assert!(message("\n").contains("empty"));
    assert!(message(&format!("{HEADER}\n")).contains("no rows"));
    assert!(message(&format!("{HEADER},d2d_m\n")).contains("d2d_m stands there twice"));
    let long = message(&format!("{HEADER}\numi,LOS,3.5,100,10,1.5,9\n"));
    assert!(long.contains("7 cells under a header of 6"), "{long}");
    let bytes = b"scenario\n\xff\xfe\n".as_slice();
    let mut rows = Evaluation::new(find("path-loss").unwrap(), Options::default(), bytes).unwrap();
    assert!(matches!(
        rows.next_row(),
        Err(TableError::Csv { row: 1, .. })
    ));
}

#[test]
fn a_byte_order_mark_and_carriage_returns_are_no_part_of_the_values() {
    let input = format!("\u{feff}{HEADER}\r\numi,LOS,3.5,100,10,1.5\r\n");
    assert_eq!(evaluate(&input, Options::default()).unwrap().len(), 2);
}
