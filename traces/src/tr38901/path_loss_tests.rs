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
