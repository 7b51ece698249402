use super::*;

#[test]
fn every_bundled_scenario_can_be_read_and_is_named_after_its_file() {
    for bundled in bundled_scenarios() {
        match bundled.scenario(&[]) {
            Ok(scenario) => assert_eq!(scenario.name, bundled.name),
            Err(error) => panic!("{error}"),
        }
    }
}
