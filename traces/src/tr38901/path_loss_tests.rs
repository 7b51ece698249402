use super::*;

fn close(got: f64, expected: f64, tolerance: f64) {
    assert!(
        (got - expected).abs() <= tolerance,
        "{got} and not {expected}"
    );
}

#[test]
fn losses_at_100_m_are_those_of_the_closed_forms() {
    // GHz, then LOS and NLOS of UMi, UMa and RMa with base stations at 10, 25 and 35 m.
    let table = [
        (3.5, [85.31, 104.64], [83.14, 103.04], [84.20, 92.67]),
        (7.0, [91.33, 111.06], [89.16, 109.06], [90.22, 98.69]),
        (15.0, [97.95, 118.11], [95.78, 115.68], [96.84, 105.31]),
        (28.0, [103.38, 123.88], [101.20, 121.10], [102.26, 110.74]),
        (60.0, [110.00, 130.93], [107.82, 127.72], [108.88, 117.36]),
    ];
    for (carrier_ghz, umi, uma, rma) in table {
        for (scenario, height_m, [los, nlos]) in [
            (Scenario::Umi, 10.0, umi),
            (Scenario::Uma, 25.0, uma),
            (Scenario::Rma, 35.0, rma),
        ] {
            let geometry = Geometry::new(scenario, 100.0, height_m, 1.5);
            let model = PathLoss::new(scenario, carrier_ghz);
            close(model.los_db(&geometry), los, 0.005_001);
            close(model.nlos_db(&geometry).unwrap(), nlos, 0.005_001);
        }
    }
}

#[test]
fn losses_beyond_the_breakpoint_follow_the_second_slope() {
    let geometry = Geometry::new(Scenario::Umi, 500.0, 10.0, 1.5);
    for (carrier_ghz, expected) in [(3.5, 107.11), (7.0, 107.41)] {
        let model = PathLoss::new(Scenario::Umi, carrier_ghz);
        assert!(model.breakpoint_m(&geometry).unwrap() < 500.0);
        close(model.los_db(&geometry), expected, 0.005_001);
        let rounded = model.with_speed_of_light(3e8).los_db(&geometry);
        assert!((rounded - model.los_db(&geometry)).abs() <= 0.02);
    }
}

#[test]
fn losses_of_every_scenario_are_those_of_the_tables_formulas() {
    // Carrier in GHz; distance, heights of base station, user and buildings, width of streets in m;
    // losses in dB, computed from the table's formulas apart from this code.
    for (scenario, carrier_ghz, [d2d_m, base_m, user_m, building_m, street_m], los_db, nlos_db) in [
        (
            Scenario::Umi,
            0.5,
            [10.0, 10.0, 1.5, 5.0, 20.0],
            49.859072007806844,
            Some(55.45627151208826),
        ),
        (
            Scenario::Umi,
            3.5,
            [500.0, 10.0, 1.5, 5.0, 20.0],
            107.10804931582909,
            Some(129.26450544868536),
        ),
        (
            Scenario::Umi,
            100.0,
            [5000.0, 10.0, 22.5, 5.0, 20.0],
            150.0783985915427,
            Some(189.27368906102177),
        ),
        (
            Scenario::Umi,
            28.0,
            [37.5, 12.0, 3.0, 5.0, 20.0],
            94.65319239161292,
            Some(108.76704327217637),
        ),
        (
            Scenario::Uma,
            3.5,
            [2000.0, 25.0, 1.5, 5.0, 20.0],
            121.44409782692168,
            Some(153.42678465082182),
        ),
        (
            Scenario::Uma,
            28.0,
            [300.0, 25.0, 22.5, 5.0, 20.0],
            111.44015997188754,
            Some(126.68964855431196),
        ),
        (
            Scenario::Uma,
            0.7,
            [10.0, 25.0, 1.5, 5.0, 20.0],
            55.86051576577998,
            Some(65.43561207535507),
        ),
        (
            Scenario::Rma,
            0.7,
            [1000.0, 35.0, 1.5, 5.0, 20.0],
            93.37648446144951,
            Some(116.44490598945252),
        ),
        (
            Scenario::Rma,
            7.0,
            [9999.0, 35.0, 1.5, 5.0, 20.0],
            143.533546818113,
            Some(175.06730188008092),
        ),
        (
            Scenario::Rma,
            3.5,
            [5000.0, 150.0, 10.0, 50.0, 5.0],
            156.52369720616088,
            Some(156.52369720616088),
        ),
        (
            Scenario::Rma,
            30.0,
            [10.0, 10.0, 1.0, 10.0, 50.0],
            84.05600729053504,
            Some(91.21059881785193),
        ),
        (
            Scenario::Sma,
            0.7,
            [1000.0, 35.0, 1.5, 10.0, 10.0],
            95.39719198557052,
            Some(121.1897226055811),
        ),
        (
            Scenario::Sma,
            3.5,
            [5000.0, 25.0, 1.5, 10.0, 10.0],
            131.10055632768524,
            Some(166.40246126768847),
        ),
        (
            Scenario::Sma,
            15.0,
            [10.0, 25.0, 14.0, 10.0, 10.0],
            78.97363124888186,
            Some(69.532908195728),
        ),
        (
            Scenario::InhOpen,
            7.0,
            [1.0, 3.0, 1.0, 5.0, 20.0],
            55.3480513377917,
            Some(55.3480513377917),
        ),
        (
            Scenario::InhOpen,
            28.0,
            [100.0, 3.0, 1.0, 5.0, 20.0],
            95.94466298530011,
            Some(129.93756101099086),
        ),
        (
            Scenario::InhMixed,
            60.0,
            [12.0, 3.0, 1.5, 5.0, 20.0],
            86.69110432429684,
            Some(103.037552136096),
        ),
        (
            Scenario::InfSl,
            3.5,
            [10.0, 1.5, 1.5, 5.0, 20.0],
            63.67729284265524,
            Some(69.38136088700551),
        ),
        (
            Scenario::InfDl,
            3.5,
            [10.0, 1.5, 1.5, 5.0, 20.0],
            63.67729284265524,
            Some(69.38136088700551),
        ),
        (
            Scenario::InfDl,
            28.0,
            [500.0, 1.5, 1.5, 5.0, 20.0],
            117.36385768872657,
            Some(143.89638978164027),
        ),
        (
            Scenario::InfSh,
            3.5,
            [100.0, 8.0, 1.5, 5.0, 20.0],
            85.1969764028529,
            Some(89.30241771884488),
        ),
        (
            Scenario::InfDh,
            100.0,
            [100.0, 8.0, 1.5, 5.0, 20.0],
            112.85968356019767,
            Some(117.45004976596877),
        ),
        (
            Scenario::InfHh,
            28.0,
            [50.0, 8.0, 8.0, 5.0, 20.0],
            95.86385768872657,
            None,
        ),
    ] {
        let geometry = Geometry {
            building_height_m: building_m,
            street_width_m: street_m,
            ..Geometry::new(scenario, d2d_m, base_m, user_m)
        };
        let model = PathLoss::new(scenario, carrier_ghz);
        close(model.los_db(&geometry), los_db, 1e-9);
        let got = model.nlos_db(&geometry);
        assert_eq!(got.is_some(), nlos_db.is_some(), "{scenario}");
        if let Some((got, expected)) = got.zip(nlos_db) {
            close(got, expected, 1e-9);
        }
    }
}

#[test]
fn optional_formulas_replace_those_of_three_scenarios() {
    for (scenario, slope) in [
        (Scenario::Umi, 31.9),
        (Scenario::Uma, 30.0),
        (Scenario::InhMixed, 31.9),
    ] {
        let geometry = Geometry::new(scenario, 100.0, 1.5, 1.5);
        let model = PathLoss::new(scenario, 10.0).with_optional_nlos();
        close(model.nlos_db(&geometry).unwrap(), 52.4 + 2.0 * slope, 1e-9);
    }
    let geometry = Geometry::new(Scenario::Rma, 100.0, 35.0, 1.5);
    let model = PathLoss::new(Scenario::Rma, 10.0);
    assert_eq!(
        model.with_optional_nlos().nlos_db(&geometry),
        model.nlos_db(&geometry)
    );
}

#[test]
fn surroundings_of_a_high_user_are_drawn_from_the_notes_distribution() {
    let draw =
        |user_m, first, second| effective_environment_height_m(300.0, user_m, [first, second]);
    assert!((draw(12.9, 0.999, 0.0) - 1.0).abs() <= 0.0);
    // C = 1.25 * 27 * exp(-2) * 0.95^1.5 = 4.229...: 1 m with probability 0.1912.
    assert!((draw(22.5, 0.19, 0.0) - 1.0).abs() <= 0.0);
    for (second, expected_m) in [(0.0, 12.0), (0.3, 15.0), (0.6, 18.0), (0.99, 21.0)] {
        assert!((draw(22.5, 0.20, second) - expected_m).abs() <= 0.0);
    }
}
