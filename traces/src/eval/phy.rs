//! The physical layer: coding schemes, transport blocks, effective SINR, block errors.

use super::{EvalError, Input, Model, Options, Row, exact};
use crate::phy::{
    Allocation, BlerCurve, CodingScheme, McsTable, PhyError, effective_sinr_db,
    transport_block_bits,
};

pub(super) const MODELS: &[Model] = &[
    Model {
        name: "mcs",
        about: "modulation and coding scheme, TS 38.214 tables 5.1.3.1-1 to -4",
        inputs: &[Input::required("mcs_table"), Input::required("mcs_index")],
        outputs: &["modulation_order", "code_rate_x1024"],
        evaluate: mcs,
    },
    Model {
        name: "tbs",
        about: "transport block size, TS 38.214 clause 5.1.3.2",
        inputs: &[
            Input::required("mcs_table"),
            Input::required("mcs_index"),
            Input::required("layers"),
            Input::required("n_prb"),
            Input::required("n_symbols"),
            Input::required("n_dmrs_re_per_prb"),
            Input::required("n_oh_re_per_prb"),
        ],
        outputs: &["tbs_bits"],
        evaluate: tbs,
    },
    Model {
        name: "eesm",
        about: "exponential effective SINR of the SINRs of resource elements",
        inputs: &[Input::required("beta"), Input::required("sinr_db_per_re")],
        outputs: &["sinr_eff_db"],
        evaluate: eesm,
    },
    Model {
        name: "bler",
        about: "error rate of a code block in white noise, fitted to a simulation of the LDPC codes; \
                below 1e-3 extrapolated",
        inputs: &[
            Input::required("mcs_table"),
            Input::required("mcs_index"),
            Input::required("code_block_bits"),
            Input::required("esno_db"),
        ],
        outputs: &["bler"],
        evaluate: bler,
    },
];

fn refused(error: PhyError) -> EvalError {
    EvalError::Value {
        column: error.what,
        value: error.value,
        expected: error.expected,
    }
}

fn scheme(row: &Row<'_>) -> Result<CodingScheme, EvalError> {
    let table = McsTable::of_number(u64::from(row.whole("mcs_table")?)).map_err(refused)?;
    table
        .scheme(u64::from(row.whole("mcs_index")?))
        .map_err(refused)
}

fn mcs(row: &Row<'_>, _: &Options) -> Result<Vec<String>, EvalError> {
    let scheme = scheme(row)?;
    Ok(vec![
        scheme.modulation_order().to_string(),
        exact(scheme.code_rate_x1024()),
    ])
}

fn tbs(row: &Row<'_>, _: &Options) -> Result<Vec<String>, EvalError> {
    let allocation = Allocation {
        layers: row.whole("layers")?,
        resource_blocks: row.whole("n_prb")?,
        symbols: row.whole("n_symbols")?,
        dmrs_elements: row.whole("n_dmrs_re_per_prb")?,
        overhead_elements: row.whole("n_oh_re_per_prb")?,
    };
    let bits = transport_block_bits(scheme(row)?, &allocation).map_err(refused)?;
    Ok(vec![bits.to_string()])
}

fn eesm(row: &Row<'_>, _: &Options) -> Result<Vec<String>, EvalError> {
    let sinr_db = effective_sinr_db(row.positive("beta")?, &row.numbers("sinr_db_per_re")?)
        .map_err(refused)?;
    Ok(vec![exact(sinr_db)])
}

fn bler(row: &Row<'_>, _: &Options) -> Result<Vec<String>, EvalError> {
    let curve = BlerCurve::of(scheme(row)?, row.whole("code_block_bits")?).map_err(refused)?;
    Ok(vec![exact(curve.error_rate(row.number("esno_db")?))])
}

#[cfg(test)]
mod tests {
    use super::super::{Evaluation, TableError, find};
    use super::*;

    fn evaluate(model: &str, text: &str) -> Result<Vec<String>, TableError> {
        let model = find(model).unwrap();
        let mut rows = Evaluation::new(model, Options::default(), text.as_bytes())?;
        Ok(rows.next_row()?.unwrap())
    }

    #[test]
    fn schemes_and_sizes_are_printed_exactly() {
        let row = evaluate("mcs", "mcs_index,mcs_table\n20,2\n").unwrap();
        assert_eq!(row[2..], ["8", "682.5"]);
        let row = evaluate("mcs", "mcs_table,mcs_index\n1,28\n").unwrap();
        assert_eq!(row[2..], ["6", "948"]);
        let header = "mcs_table,mcs_index,layers,n_prb,n_symbols,n_dmrs_re_per_prb,n_oh_re_per_prb";
        let row = evaluate("tbs", &format!("{header}\n2,27,4,273,14,12,0\n")).unwrap();
        assert_eq!(row[7..], ["1277992"]);
    }

    #[test]
    fn an_effective_sinr_and_an_error_rate_follow_the_curves() {
        let row = evaluate("eesm", "beta,sinr_db_per_re\n1.6,3 3 3\n").unwrap();
        assert!((row[2].parse::<f64>().unwrap() - 3.0).abs() < 1e-12);
        let header = "mcs_table,mcs_index,code_block_bits,esno_db";
        let row = evaluate("bler", &format!("{header}\n1,14,500,7.31\n")).unwrap();
        let rate: f64 = row[4].parse().unwrap();
        assert!((0.05..0.2).contains(&rate), "{rate}");
    }

    #[test]
    fn what_is_out_of_range_is_refused_by_its_column() {
        let message = |model, text| {
            let error = evaluate(model, text).unwrap_err();
            let mut message = error.to_string();
            let mut source = std::error::Error::source(&error);
            while let Some(cause) = source {
                message = format!("{message}: {cause}");
                source = cause.source();
            }
            message
        };
        assert!(message("mcs", "mcs_table,mcs_index\n2,28\n").contains("mcs_index"));
        assert!(message("mcs", "mcs_table,mcs_index\n5,1\n").contains("1 to 4"));
        assert!(message("eesm", "beta,sinr_db_per_re\n0,1\n").contains("beta"));
        let header = "mcs_table,mcs_index,code_block_bits,esno_db";
        let text = format!("{header}\n1,0,5000,0\n");
        assert!(message("bler", &text).contains("40 to 3840"));
        assert!(
            message("bler", "mcs_table,mcs_index,esno_db\n1,0,0\n").contains("code_block_bits")
        );
    }
}
