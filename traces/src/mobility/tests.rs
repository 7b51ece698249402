use super::*;
use crate::CounterRng;

fn random(process: &str) -> CounterRng {
    CounterRng::new(5, "user 0", process)
}

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-6 * (1.0 + a.abs())
}

fn area() -> Area {
    Area {
        corner: Point::new(-50.0, 10.0, 1.5),
        width_m: 200.0,
        depth_m: 80.0,
    }
}

/// One of each kind that moves.
fn all() -> Vec<(&'static str, Mobility)> {
    let start = Point::new(3.0, -4.0, 1.5);
    let east = Point::new(1.0, 0.0, 0.0);
    let track = "t,x,y,z\n0,0,0,1\n10,30,40,1\n15,30,40,1\n40,0,0,2\n";
    vec![
        (
            "line",
            Mobility::Line(StraightLine::new(start, bearing(37.0), 1.5)),
        ),
        (
            "waypoint",
            Mobility::Waypoint(RandomWaypoint::new(area(), [0.5, 2.0], 3.0, random("walk"))),
        ),
        (
            "grid",
            Mobility::Grid(ManhattanGrid::new(start, 50.0, 4, 12.0, random("grid"))),
        ),
        (
            "vehicle",
            Mobility::Vehicle(Vehicle::new(start, east, 13.0, 0.8, random("car"))),
        ),
        (
            "train",
            Mobility::Train(Train::passing(start, east, 120.0).with_stations(9_000.0, 0.8, 60.0)),
        ),
        (
            "track",
            Mobility::Track(RecordedTrack::parse(track, TrackFormat::Csv, 1.5).unwrap()),
        ),
    ]
}

#[test]
fn where_a_user_is_depends_on_the_moment_and_not_on_what_was_asked_before() {
    for (name, mut mobility) in all() {
        let moments = [0.0, 0.5, 7.25, 100.0, 3_600.0, 50_000.0];
        let forward: Vec<Motion> = moments.map(|t_s| mobility.at(t_s)).into();
        for (t_s, motion) in moments.iter().zip(&forward).rev() {
            assert_eq!(mobility.at(*t_s), *motion, "{name} at {t_s} s");
        }
    }
}

#[test]
fn the_velocity_is_the_change_of_place_and_the_way_is_its_length() {
    for (name, mut mobility) in all() {
        let dt_s = 1e-3;
        let mut before = mobility.at(0.0);
        for step in 1..60_000_u32 {
            let after = mobility.at(f64::from(step) * dt_s);
            let moved = after.position.minus(before.position);
            let fastest = before.velocity.length().max(after.velocity.length());
            assert!(
                moved.length() <= (fastest + 0.01) * dt_s + 1e-9,
                "{name} jumps at step {step}: {moved:?}"
            );
            let way_m = after.travelled_m - before.travelled_m;
            assert!(way_m >= moved.length() - 1e-9, "{name} at step {step}");
            // Within one piece of the way the mean velocity is the velocity.
            if before.velocity == after.velocity {
                let expected = before.velocity.times(dt_s);
                assert!(moved.minus(expected).length() < 1e-6, "{name} at {step}");
            }
            before = after;
        }
    }
}

#[test]
fn a_random_walk_stays_in_its_area_and_rests_between_legs() {
    let mut walk = Mobility::Waypoint(RandomWaypoint::new(area(), [1.0, 1.0], 5.0, random("w")));
    let mut resting = 0;
    for t_s in 0..20_000_u32 {
        let motion = walk.at(f64::from(t_s));
        let Point { x, y, z } = motion.position;
        assert!((-50.0..=150.0).contains(&x) && (10.0..=90.0).contains(&y) && close(z, 1.5));
        let speed = motion.velocity.length();
        assert!(speed < 1e-9 || close(speed, 1.0), "{speed}");
        resting += u32::from(speed < 1e-9);
    }
    // Mean leg of a 200 x 80 m rectangle: about 83 m, so 5 s of about 88 s.
    assert!((400..2_500).contains(&resting), "{resting}");
}

#[test]
fn on_a_grid_half_go_straight_on_and_nobody_leaves_it_or_turns_back() {
    let speed = 10.0;
    let mut grid = Mobility::Grid(ManhattanGrid::new(
        Point::default(),
        10.0,
        1_000,
        speed,
        random("g"),
    ));
    let (mut straight, mut crossings) = (0_u32, 0_u32);
    let mut before = grid.at(0.5).velocity;
    for crossing in 1..4_000_u32 {
        let velocity = grid.at(f64::from(crossing) + 0.5).velocity;
        let product = velocity.x * before.x + velocity.y * before.y;
        assert!(product > -1e-9, "turned back at {crossing}");
        straight += u32::from(product > 1.0);
        crossings += 1;
        before = velocity;
    }
    let share = f64::from(straight) / f64::from(crossings);
    assert!((share - 0.5).abs() < 0.03, "{share}");

    let mut small = Mobility::Grid(ManhattanGrid::new(
        Point::default(),
        10.0,
        1,
        speed,
        random("g"),
    ));
    for tenth in 0..10_000_u32 {
        let Point { x, y, .. } = small.at(f64::from(tenth) / 10.0).position;
        assert!(x.abs() <= 10.0 + 1e-9 && y.abs() <= 10.0 + 1e-9);
    }
}

#[test]
fn a_train_keeps_its_timetable() {
    let east = Point::new(1.0, 0.0, 0.0);
    let train = Train::passing(Point::default(), east, 100.0).with_stations(20_000.0, 1.0, 30.0);
    let mut train = Mobility::Train(train);
    // 100 s to accelerate over 5 km, 10 km in 100 s, 100 s to brake, 30 s at rest.
    for (t_s, way_m, speed) in [
        (0.0, 0.0, 0.0),
        (100.0, 5_000.0, 100.0),
        (200.0, 15_000.0, 100.0),
        (300.0, 20_000.0, 0.0),
        (320.0, 20_000.0, 0.0),
        (430.0, 25_000.0, 100.0),
    ] {
        let motion = train.at(t_s);
        assert!(close(motion.travelled_m, way_m), "{t_s}: {motion:?}");
        assert!(
            (motion.velocity.x - speed).abs() < 1e-6,
            "{t_s}: {motion:?}"
        );
    }
    let short = Train::passing(Point::default(), east, 100.0).with_stations(2_500.0, 1.0, 0.0);
    let fastest = (0..200_u32)
        .map(|t_s| Mobility::Train(short).at(f64::from(t_s)).velocity.x)
        .fold(0.0, f64::max);
    assert!(close(fastest, 50.0), "no room for more: {fastest}");
}

#[test]
fn a_recorded_track_is_straight_between_its_points_and_rests_at_its_end() {
    let text = "# a comment\nx, y, t\n0,0,5\n30,40,15\n\n30,40,20\n";
    let track = RecordedTrack::parse(text, TrackFormat::Csv, 1.7).unwrap();
    assert!(close(track.duration_s(), 15.0));
    let mut track = Mobility::Track(track);
    let halfway = track.at(5.0);
    assert_eq!(halfway.position, Point::new(15.0, 20.0, 1.7));
    assert!(close(halfway.velocity.length(), 5.0) && close(halfway.travelled_m, 25.0));
    let end = track.at(1_000.0);
    assert_eq!(end.position, Point::new(30.0, 40.0, 1.7));
    assert_eq!(end.velocity, Point::default());
}

const GPX: &str = r#"<?xml version="1.0"?>
<gpx version="1.1"><!-- <trkpt lat="9" lon="9"> -->
<trk><trkseg>
<trkpt lat="48.0" lon='11.0'><ele>520</ele><time>2024-05-01T10:00:00Z</time></trkpt>
<trkpt lon="11.001" lat="48.001"><time>2024-05-01T12:00:10+02:00</time></trkpt>
</trkseg></trk></gpx>"#;

#[test]
fn a_gpx_track_is_laid_on_a_plane_in_metres() {
    let mut track = Mobility::Track(RecordedTrack::parse(GPX, TrackFormat::Gpx, 1.5).unwrap());
    let end = track.at(10.0).position;
    // A thousandth of a degree is 111.19 m; cos(48 degrees) = 0.66913.
    assert!(
        (end.y - 111.195).abs() < 0.01 && (end.x - 74.404).abs() < 0.01,
        "{end:?}"
    );
    assert!(close(end.z, 1.5));
}

#[test]
fn what_is_wrong_with_a_track_is_named_with_its_place() {
    let csv = |text: &str| {
        RecordedTrack::parse(text, TrackFormat::Csv, 1.5)
            .unwrap_err()
            .to_string()
    };
    for (text, expected) in [
        ("", "line 1, column 1: the file is empty"),
        ("t,x,y\n", "line 1, column 1: the track has no points"),
        (
            "t,x,y\n1,2,3\n",
            "line 1, column 1: the track has one point",
        ),
        (
            "a,b\n",
            "line 1, column 1: the header `a,b` has no column `t`",
        ),
        (
            "t,x,y\n0,0,0\n1,north,0\n",
            "line 3, column 3: `north` is not a length",
        ),
        (
            "t,x,y\n0,0,0\n1,NaN,0\n",
            "line 3, column 3: `NaN` is not a length",
        ),
        (
            "t,x,y\n0,0,0\n1,0\n",
            "line 3, column 1: the row has 2 cells, the header 3",
        ),
        (
            "t,x,y\n5,0,0\n5,0,0\n",
            "line 3, column 1: time goes from 5 s to 5 s",
        ),
    ] {
        let found = csv(text);
        assert!(found.starts_with(expected), "{found}");
    }
    let gpx = |text: &str| {
        RecordedTrack::parse(text, TrackFormat::Gpx, 1.5)
            .unwrap_err()
            .to_string()
    };
    for (text, expected) in [
        ("<kml/>".to_owned(), "line 1, column 1: there is no <gpx>"),
        (
            GPX.replace("lat=\"48.0\"", ""),
            "line 4, column 1: the track point has no `lat`",
        ),
        (
            GPX.replace("48.001", "148.0"),
            "line 5, column 1: `lat` is 148",
        ),
        (
            GPX.replace("T12:00:10", " 12"),
            "line 5, column 34: `2024-05-01 12+02:00` is not a time",
        ),
        (
            GPX.replace("<time>2024-05-01T10:00:00Z</time>", ""),
            "line 4, column 1: the track point has no <time>",
        ),
        (
            GPX.replace("12:00:10", "11:59:59"),
            "line 5, column 1: time goes",
        ),
        (
            GPX.replace(" -->", ""),
            "line 2, column 20: the file ends within",
        ),
    ] {
        let found = gpx(&text);
        assert!(found.starts_with(expected), "{found}");
    }
}

proptest::proptest! {
    #[test]
    fn no_text_makes_a_reader_of_tracks_panic(
        start in 0_usize..300,
        length in 0_usize..60,
        written in "[<>/=\"'a-z0-9 \n,.é!-]{0,20}",
    ) {
        let mut text: Vec<char> = GPX.chars().collect();
        let start = start.min(text.len());
        let end = (start + length).min(text.len());
        text.splice(start..end, written.chars());
        let text: String = text.into_iter().collect();
        let _ = RecordedTrack::parse(&text, TrackFormat::Gpx, 1.5);
        let _ = RecordedTrack::parse(&text, TrackFormat::Csv, 1.5);
        let _ = RecordedTrack::parse(&format!("t,x,y\n{written}"), TrackFormat::Csv, 1.5);
    }
}
