use super::column::PAIRS;
use super::*;

const TABLE: &str = include_str!("../../data/tr38901/table-7.5-6.csv");
const TABLE_V16_1: &str = include_str!("../../data/tr38901/table-7.5-6-v16.1.csv");
const HALL: Hall = Hall::cuboid(120.0, 60.0, 10.0);

/// Every scenario and condition that v19.4 has a column for, the offices and factories once.
fn columns() -> Vec<(Scenario, Condition, &'static str)> {
    let names = [
        (Scenario::Umi, "UMi - Street Canyon"),
        (Scenario::Uma, "UMa"),
        (Scenario::Rma, "RMa"),
        (Scenario::InhOpen, "Indoor-Office"),
        (Scenario::InfSl, "InF"),
        (Scenario::Sma, "SMa"),
    ];
    let mut all = Vec::new();
    for (scenario, name) in names {
        for condition in Condition::ALL {
            if column(scenario, condition, SpecVersion::V19_4).is_some() {
                all.push((scenario, condition, name));
            }
        }
    }
    all
}

/// What a cell of the CSV file says at a carrier, read apart from the code under test.
fn cell(text: &str, carrier_ghz: f64) -> f64 {
    let text = text.replace('–', "-").replace([' ', '*'], "");
    let text = text.split("seenote").next().unwrap().trim_end_matches(',');
    if let Some(inner) = text.strip_prefix("max(0.25,") {
        return cell(inner.trim_end_matches(')'), carrier_ghz).max(0.25);
    }
    if let Some(rest) = text
        .strip_prefix("log10(")
        .filter(|rest| rest.contains("V/S"))
    {
        let (factor, rest) = rest.split_once("(V/S)+").unwrap();
        let (inner, constant) = rest.split_once(")-").unwrap();
        let ratio = HALL.volume_m3 / HALL.surface_m2;
        let [factor, inner, constant] =
            [factor, inner, constant].map(|s| s.parse::<f64>().unwrap());
        return (factor * ratio + inner).log10() - constant;
    }
    // A sum of terms, each a number or a number times a logarithm.
    let mut terms = Vec::new();
    let mut term = String::new();
    let mut depth = 0;
    for letter in text.chars() {
        match letter {
            '(' => depth += 1,
            ')' => depth -= 1,
            '+' | '-' if depth == 0 && !term.is_empty() => terms.push(std::mem::take(&mut term)),
            _ => {}
        }
        term.push(letter);
    }
    terms.push(term);
    let value = |term: &String| match term.split_once("log10(") {
        None => term.parse::<f64>().unwrap(),
        Some((factor, argument)) => {
            let argument = argument.trim_end_matches(')');
            let of = if argument == "1+fc" {
                1.0 + carrier_ghz
            } else {
                carrier_ghz
            };
            assert!(argument == "fc" || argument == "1+fc", "{argument}");
            factor.parse::<f64>().unwrap() * of.log10()
        }
    };
    terms.iter().map(value).sum()
}

fn assert_is_the_file(text: &str, spec: SpecVersion, expected_rows: usize) {
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let header = reader.headers().unwrap().clone();
    let mut rows = 0;
    for record in reader.records() {
        let record = record.unwrap();
        rows += 1;
        let get = |name: &str| {
            let at = header.iter().position(|column| column == name).unwrap();
            record[at].to_owned()
        };
        let (scenario, condition, _) = *columns()
            .iter()
            .find(|(_, condition, name)| {
                *name == get("scenario") && condition.name() == get("condition")
            })
            .unwrap();
        let ours = column(scenario, condition, spec).unwrap();
        for carrier_ghz in [6.0, 24.5, 100.0] {
            let read = |name: &str| cell(&get(name), carrier_ghz);
            let close = |got: f64, name: &str| {
                assert!(
                    (got - read(name)).abs() < 1e-12,
                    "{scenario} {condition} {name}: {got}"
                );
            };
            for (name, formulas) in [
                ("DS", ours.ds),
                ("ASD", ours.asd),
                ("ASA", ours.asa),
                ("ZSA", ours.zsa),
            ] {
                for (which, formula) in ["mu", "sigma"].iter().zip(formulas) {
                    let got = formula.at(carrier_ghz, Some(HALL)).unwrap();
                    close(got, &format!("{which}_lg{name}"));
                }
            }
            match ours.k {
                None => assert_eq!(get("mu_K"), "N/A"),
                Some([mean, sigma]) => {
                    close(mean, "mu_K");
                    close(sigma, "sigma_K");
                }
            }
            let model =
                LargeScale::new(scenario, condition, spec, carrier_ghz, Some(HALL)).unwrap();
            match model.clusters().delay_spread_ns {
                None => assert_eq!(get("cluster_DS_ns"), "N/A"),
                Some(ns) => close(ns, "cluster_DS_ns"),
            }
        }
        let plain = |got: f64, name: &str| {
            let there = get(name).replace('–', "-");
            let there = there.split(',').next().unwrap();
            if there == "N/A" {
                return;
            }
            assert!(
                (got - there.parse::<f64>().unwrap()).abs() <= 0.0,
                "{scenario} {name}: {got}"
            );
        };
        let short = ["SF", "K", "DS", "ASD", "ASA", "ZSD", "ZSA"];
        for ((one, other), value) in PAIRS.into_iter().zip(ours.correlations) {
            plain(
                value,
                &format!("corr_{}_{}", short[one as usize], short[other as usize]),
            );
        }
        for (name, distance_m) in short.iter().zip(ours.distances_m) {
            plain(distance_m, &format!("corr_distance_{name}_m"));
        }
        plain(ours.delay_scaling, "delay_scaling_parameter_r_tau");
        plain(ours.xpr[0], "mu_XPR");
        plain(ours.xpr[1], "sigma_XPR");
        plain(f64::from(ours.clusters), "number_of_clusters");
        plain(20.0, "number_of_rays_per_cluster");
        plain(
            ours.cluster_shadowing_db,
            "per_cluster_shadowing_std_zeta_db",
        );
        for (name, spread) in ["ASD", "ASA", "ZSA"].iter().zip(ours.cluster_spreads_deg) {
            plain(spread, &format!("cluster_{name}_deg"));
        }
        if let Ok(sigma) = get("sigma_SF").parse::<f64>() {
            let geometry = Geometry::new(scenario, 100.0, 20.0, 1.5);
            let model = LargeScale::new(scenario, condition, spec, 6.0, Some(HALL)).unwrap();
            assert!((model.shadowing_sigma_db(&geometry) - sigma).abs() <= 0.0);
        }
    }
    assert_eq!(rows, expected_rows);
}

#[test]
fn the_numbers_are_those_of_the_files() {
    assert_eq!(columns().len(), 16);
    assert_is_the_file(TABLE, SpecVersion::V19_4, 16);
    assert_is_the_file(TABLE_V16_1, SpecVersion::V16_1, 5);
}

#[test]
fn median_delay_spreads_are_the_reference_ones() {
    for (condition, carrier_ghz, expected_ns) in [
        (Condition::Los, 3.5, 40.0),
        (Condition::Nlos, 3.5, 96.9),
        (Condition::Los, 28.0, 28.6),
        (Condition::Nlos, 28.0, 64.3),
        (Condition::O2i, 3.5, 239.9),
    ] {
        let spec = SpecVersion::V19_4;
        let model = LargeScale::new(Scenario::Umi, condition, spec, carrier_ghz, None).unwrap();
        let median_ns = 1e9 * libm::exp10(model.delay_spread().0);
        assert!(
            (median_ns - expected_ns).abs() <= 0.05,
            "{median_ns} {expected_ns}"
        );
    }
}

#[test]
fn the_root_of_every_correlation_matrix_gives_it_back() {
    for spec in [SpecVersion::V16_1, SpecVersion::V19_4] {
        for (scenario, condition, _) in columns() {
            let Some(column) = column(scenario, condition, spec) else {
                continue;
            };
            let matrix = correlations(column);
            let root = square_root(&matrix);
            for row in 0..COUNT {
                for other in 0..COUNT {
                    let product: f64 = (0..COUNT).map(|at| root[row][at] * root[other][at]).sum();
                    let difference = (product - matrix[row][other]).abs();
                    assert!(difference < 1e-12, "{scenario} {condition} {row} {other}");
                }
            }
        }
    }
}

#[test]
fn suburbs_are_unknown_to_release_16_and_factories_need_their_hall() {
    let of = |scenario, condition, spec| LargeScale::new(scenario, condition, spec, 6.0, None);
    let sma = of(Scenario::Sma, Condition::Los, SpecVersion::V16_1).unwrap_err();
    assert!(
        sma.to_string()
            .contains("v16.1 has no large-scale parameters of sma")
    );
    let hall = of(Scenario::InfDh, Condition::Nlos, SpecVersion::V19_4).unwrap_err();
    assert!(hall.to_string().contains("volume and surface"));
    assert!(of(Scenario::InhOpen, Condition::O2i, SpecVersion::V19_4).is_err());
    assert!(of(Scenario::InfHh, Condition::Nlos, SpecVersion::V19_4).is_err());
}

#[test]
fn low_carriers_are_read_at_the_tables_lowest() {
    let spread = |scenario, carrier_ghz| {
        let spec = SpecVersion::V19_4;
        LargeScale::new(scenario, Condition::Los, spec, carrier_ghz, None)
            .unwrap()
            .delay_spread()
    };
    for (scenario, lowest_ghz) in [
        (Scenario::Umi, 2.0),
        (Scenario::Uma, 6.0),
        (Scenario::InhMixed, 6.0),
    ] {
        assert_eq!(spread(scenario, 0.7), spread(scenario, lowest_ghz));
        assert_ne!(
            spread(scenario, lowest_ghz),
            spread(scenario, lowest_ghz + 1.0)
        );
    }
}
