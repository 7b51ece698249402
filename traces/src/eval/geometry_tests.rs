use crate::eval::{Evaluation, Options, TableError, find};
use crate::tr38901::SpecVersion;

/// The appended cells of the only row.
fn evaluate(model: &str, table: &str, spec: SpecVersion) -> Result<Vec<String>, TableError> {
    let options = Options {
        spec,
        ..Options::default()
    };
    let model = find(model).unwrap();
    let mut rows = Evaluation::new(model, options, table.as_bytes())?;
    let mut row = rows.next_row()?.unwrap();
    Ok(row.split_off(row.len() - model.outputs.len()))
}

fn numbers(model: &str, table: &str, spec: SpecVersion) -> Vec<f64> {
    let cells = evaluate(model, table, spec).unwrap();
    cells.iter().map(|cell| cell.parse().unwrap()).collect()
}

#[test]
fn the_clutter_of_a_factory_has_the_defaults_of_its_scenario() {
    let with = |header: &str, cells: &str| {
        let table = format!("scenario,d2d_m,h_bs_m,h_ut_m{header}\ninf-dh,20,8,1.5{cells}\n");
        numbers("los-probability", &table, SpecVersion::V19_4)[0]
    };
    let usual = with("", "");
    let said = with(
        ",clutter_density,clutter_size_m,clutter_height_m",
        ",0.6,2,6",
    );
    assert!((usual - said).abs() <= 0.0);
    assert!(with(",clutter_height_m", ",3") > usual);
}

#[test]
fn only_suburbs_need_their_vegetation() {
    let table = |scenario: &str| format!("scenario,d2d_m,h_bs_m,h_ut_m\n{scenario},80,35,1.5\n");
    let umi = numbers("los-probability", &table("umi"), SpecVersion::V19_4);
    assert!((umi[0] - 0.308_985_217_996_969_3).abs() < 1e-12);
    let error = evaluate("los-probability", &table("sma"), SpecVersion::V19_4).unwrap_err();
    assert!(
        error.to_string().contains("column vegetation is absent"),
        "{error}"
    );
}

#[test]
fn shadowing_widens_at_the_breakpoint_and_takes_usual_heights() {
    let sigma = |d2d_m: f64| {
        let table = format!("scenario,state,fc_ghz,d2d_m\nrma,LOS,3.5,{d2d_m}\n");
        numbers("shadow-fading", &table, SpecVersion::V19_4)[0]
    };
    assert_eq!(
        [sigma(3000.0), sigma(4000.0)].map(f64::to_bits),
        [4.0_f64, 6.0].map(f64::to_bits)
    );
}

#[test]
fn delay_spreads_follow_the_version_and_the_hall() {
    let table = "scenario,state,fc_ghz,d2d_m,h_bs_m,h_ut_m\numi,LOS,3.5,100,10,1.5\n";
    let new = numbers("delay-spread", table, SpecVersion::V19_4);
    assert!((1e9 * libm::exp10(new[0]) - 40.0).abs() < 0.05);
    let old = numbers("delay-spread", table, SpecVersion::V16_1);
    let expected = -0.24 * libm::log10(4.5) - 7.14;
    assert!((old[0] - expected).abs() < 1e-12 && (old[1] - 0.38).abs() < 1e-12);

    let hall = "scenario,state,fc_ghz,d2d_m,h_bs_m,h_ut_m,hall_volume_m3,hall_surface_m2\n\
                inf-dh,NLOS,3.5,100,8,1.5,72000,18000\n";
    let factory = numbers("delay-spread", hall, SpecVersion::V19_4);
    let expected = libm::log10(30.0 * 4.0 + 32.0) - 9.44;
    assert!((factory[0] - expected).abs() < 1e-12 && (factory[1] - 0.19).abs() < 1e-12);
    let without = "scenario,state,fc_ghz,d2d_m,h_bs_m,h_ut_m\ninf-dh,NLOS,3.5,100,8,1.5\n";
    let error = evaluate("delay-spread", without, SpecVersion::V19_4).unwrap_err();
    assert!(error.to_string().contains("hall_volume_m3"), "{error}");
}

#[test]
fn what_release_16_does_not_have_is_refused_under_it() {
    let suburb = "scenario,state,fc_ghz,d2d_m\nsma,LOS,3.5,100\n";
    let wall = "model,fc_ghz\nlow-a,3.5\n";
    for (model, table) in [("shadow-fading", suburb), ("o2i-wall", wall)] {
        assert!(evaluate(model, table, SpecVersion::V19_4).is_ok());
        let error = evaluate(model, table, SpecVersion::V16_1).unwrap_err();
        assert!(
            error.to_string().contains("expected --spec 19.4"),
            "{error}"
        );
    }
}

#[test]
fn a_wall_has_its_loss_its_deviation_and_the_indoor_loss() {
    let row = numbers("o2i-wall", "model,fc_ghz\nhigh,28\n", SpecVersion::V19_4);
    assert!((row[0] - 35.029019597240406).abs() < 1e-9);
    assert!((row[1] - 6.5).abs() <= 0.0 && (row[2] - 0.5).abs() <= 0.0);
}

#[test]
fn a_blocker_hides_what_lies_behind_it() {
    let header = "fc_ghz,r_m,phi_k_deg,x_k_deg,y_k_deg,aoa_deg,zoa_deg,scenario";
    let loss = |row: &str| {
        numbers(
            "blockage-a",
            &format!("{header}\n{row}\n"),
            SpecVersion::V19_4,
        )[0]
    };
    assert!(loss("28,10,30,10,5,30,90,umi") > 6.0);
    assert!(loss("28,10,30,10,5,41,90,umi").abs() <= 0.0);
    assert!((loss("28,10,355,10,5,-5,90,umi") - loss("28,10,-5,10,5,355,90,umi")).abs() < 1e-12);
    for (row, part) in [
        ("28,10,30,60,5,30,90,umi", "x_k_deg is \"60\""),
        ("28,10,30,10,5,30,181,umi", "zoa_deg"),
        ("28,2,30,30,10,30,90,inf-dh", "table 7.6.4.1-2"),
    ] {
        let table = format!("{header}\n{row}\n");
        let error = evaluate("blockage-a", &table, SpecVersion::V19_4).unwrap_err();
        assert!(error.to_string().contains(part), "{error}");
    }
}

#[test]
fn inh_stands_for_either_office_where_they_are_alike() {
    let table = |scenario: &str| {
        format!("scenario,state,fc_ghz,d2d_m,h_bs_m,h_ut_m\n{scenario},NLOS,28,30,3,1\n")
    };
    for model in ["path-loss", "shadow-fading", "delay-spread"] {
        let of = |scenario| evaluate(model, &table(scenario), SpecVersion::V19_4).unwrap();
        assert_eq!(of("inh"), of("inh-mixed"));
    }
    let table = "scenario,d2d_m,h_bs_m,h_ut_m\ninh,30,3,1\n";
    let error = evaluate("los-probability", table, SpecVersion::V19_4).unwrap_err();
    assert!(error.to_string().contains("inh is no scenario"), "{error}");
}
