//! Runs the tests that are ignored because they need something; see `tests/needs`.
//!
//! `needs run --messages FILE [--timed | --untimed] -- [FILTER...]` is given what `cargo test --no-run
//! --message-format=json` printed; it runs all, or those that a busy machine may spoil, or the others. `needs play FILE` runs the tests of a list in order, which is
//! what happens inside the guest.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::{env, fs, thread};

use anyhow::{Context as _, anyhow, bail};
use hexloop_tests::needs::{
    Need, Needs, Place, Served, names, needs_by_function, parse_probe, skipped_within,
};
use hexloop_workloads::clock;

/// One test may take so long, in seconds of the clock it runs under, unless [`TEST_LIMIT`] says otherwise.
const TEST_LIMIT_S: u32 = 420;

/// The variable that gives each test another limit: those that strike every step take hours.
const TEST_LIMIT: &str = "HEXLOOP_TEST_LIMIT_S";

/// A guest may take so long for each of its tests, in seconds of the host's clock: more than any of
/// them needs on a machine that is busy with other things. What [`TEST_LIMIT`] says counts if it is more.
const GUEST_LIMIT_S: usize = 300;

/// Files of tests that break things and compare the machine before and after: how fast that goes says
/// nothing, so that those in guests, and tests with a simulated clock of their own, run beside those on the
/// host. All of them are untimed.
const UNTIMED: [&str; 1] = ["faults"];

/// One ignored test.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
struct Test {
    /// Its executable.
    executable: PathBuf,
    /// The directory of its package, which is where cargo would run it.
    package: PathBuf,
    /// Its name as the executable lists it.
    name: String,
    /// What people call it: the crate or test file, and the name in it.
    label: String,
}

impl Test {
    /// Whether it is of that crate or test file.
    fn is_of(&self, file: &str) -> bool {
        self.label.split_once(' ').is_some_and(|(of, _)| of == file)
    }
}

/// How a test ended.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
struct Ended {
    label: String,
    passed: bool,
    skipped: Vec<String>,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match arguments.as_slice() {
        ["run", "--messages", messages, rest @ ..] => run(Path::new(messages), rest),
        ["play", list] => play(Path::new(list)),
        _ => Err(anyhow::anyhow!(
            "usage: needs run --messages FILE [--timed | --untimed] -- [FILTER...]"
        )),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("needs: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(messages: &Path, wanted: &[&str]) -> anyhow::Result<bool> {
    let (timed, untimed, filters) = match wanted {
        ["--timed", "--", filters @ ..] => (true, false, filters),
        ["--untimed", "--", filters @ ..] => (false, true, filters),
        ["--", filters @ ..] => (true, true, filters),
        _ => bail!("unknown arguments {wanted:?}"),
    };
    let root = env::current_dir().context("cannot find the working directory")?;
    let served = probe(&root)?;
    println!("needs: this host serves {}", or_nothing(&served.host));
    if !served.host.contains(&Need::Root) {
        println!("needs: this host lacks root: run this as root to test on its own kernel");
    }
    println!("needs: the guest serves {}", or_nothing(&served.guest));

    let mut by_place: BTreeMap<Place, Vec<Test>> = BTreeMap::new();
    let mut skipped: Vec<String> = Vec::new();
    for (test, needs) in ignored_tests(messages)? {
        if !filters.is_empty() && !filters.iter().any(|filter| test.label.contains(filter)) {
            continue;
        }
        match served.place(&needs) {
            Ok(place) => {
                let is_wanted = match is_untimed(&test, place) {
                    true => untimed,
                    false => timed,
                };
                if is_wanted {
                    by_place.entry(place).or_default().push(test);
                }
            }
            // Told once where both are run one after the other.
            Err(_) if !timed => {}
            Err(lacking) => skipped.push(format!("SKIPPED({}) {}", names(&lacking), test.label)),
        }
    }

    let mut tests_at = |place| by_place.remove(&place).unwrap_or_default();
    let (on_host, in_guest) = (tests_at(Place::Host), tests_at(Place::Guest));
    let simulated = tests_at(Place::VirtualTimeGuest);
    let apart = |tests: Vec<Test>, place| -> (Vec<Test>, Vec<Test>) {
        tests.into_iter().partition(|test| is_untimed(test, place))
    };
    let (others, alone) = apart(on_host, Place::Host);
    let (others_in_guest, alone_in_guest) = apart(in_guest, Place::Guest);
    let mut on_host = play_all(&alone);
    let mut in_guest = in_guests(&root, &alone_in_guest, false)?;
    thread::scope(|scope| -> anyhow::Result<()> {
        let beside = scope.spawn(|| -> anyhow::Result<Vec<Ended>> {
            let mut ended = in_guests(&root, &simulated, true)?;
            ended.extend(in_guests(&root, &others_in_guest, false)?);
            Ok(ended)
        });
        on_host.extend(play_all(&others));
        let beside = beside.join();
        in_guest.extend(beside.map_err(|_panic| anyhow!("the thread of the guests panicked"))??);
        Ok(())
    })?;

    let (mut passed, mut failures) = (0, Vec::new());
    for (served, ended) in [(&served.host, on_host), (&served.guest, in_guest)] {
        for test in ended {
            let unserved =
                |need: &&String| Need::from_name(need).is_none_or(|need| !served.contains(&need));
            if !test.passed {
                failures.push(test.label);
            } else if test.skipped.iter().all(|need| unserved(&need)) {
                passed += 1;
                let lines = test.skipped.iter();
                skipped.extend(lines.map(|need| format!("SKIPPED({need}) {}", test.label)));
            } else {
                let name = test.label;
                failures.push(format!(
                    "{name} (skipped {:?}, which is served)",
                    test.skipped
                ));
            }
        }
    }
    println!(
        "needs: {passed} passed, {} failed, {} skipped",
        failures.len(),
        skipped.len()
    );
    for failure in &failures {
        println!("FAILED {failure}");
    }
    for line in &skipped {
        println!("{line}");
    }
    Ok(failures.is_empty())
}

fn is_untimed(test: &Test, place: Place) -> bool {
    place == Place::VirtualTimeGuest || UNTIMED.iter().any(|file| test.is_of(file))
}

fn or_nothing(needs: &Needs) -> String {
    if needs.is_empty() {
        "nothing".to_owned()
    } else {
        names(needs)
    }
}

fn probe(root: &Path) -> anyhow::Result<Served> {
    let ask = |command: &mut Command| -> anyhow::Result<String> {
        let output = command
            .stderr(Stdio::inherit())
            .output()
            .context("cannot start a probe")?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let host = ask(&mut Command::new(root.join("tests/guest/probe")))?;
    let guest = ask(Command::new(root.join("tests/guest/run")).arg("--probe"))?;
    Ok(Served {
        host: parse_probe(&host),
        guest: parse_probe(&guest),
    })
}

/// Every ignored test of the executables that cargo built, with its needs.
fn ignored_tests(messages: &Path) -> anyhow::Result<Vec<(Test, Needs)>> {
    let text = fs::read_to_string(messages)
        .with_context(|| format!("cannot read {}", messages.display()))?;
    let mut tests = Vec::new();
    for line in text.lines() {
        let Ok(message) = serde_json::from_str::<serde_json::Value>(line) else {
            continue;
        };
        let is_test = message["profile"]["test"] == true;
        let (Some(executable), true) = (message["executable"].as_str(), is_test) else {
            continue;
        };
        let manifest = message["manifest_path"].as_str().unwrap_or_default();
        let package = Path::new(manifest)
            .parent()
            .unwrap_or(Path::new(""))
            .to_path_buf();
        let mut listed = Vec::new();
        for name in list_ignored(Path::new(executable))? {
            let target = message["target"]["name"].as_str().unwrap_or_default();
            let label = format!("{target} {name}");
            let (executable, package) = (executable.into(), package.clone());
            listed.push(Test {
                executable,
                package,
                name,
                label,
            });
        }
        if listed.is_empty() {
            continue;
        }
        let sources = read_sources(&package)?;
        let needs = match needs_by_function(sources.iter().map(String::as_str)) {
            Ok(needs) => needs,
            Err(problems) => bail!("{}: {}", package.display(), problems.join("; ")),
        };
        for test in listed {
            let function = test.name.rsplit("::").next().unwrap_or_default();
            let Some(needs) = needs.get(function) else {
                bail!(
                    "{}: cannot find why {} is ignored",
                    package.display(),
                    test.name
                );
            };
            tests.push((test, needs.clone()));
        }
    }
    tests.sort_by(|(left, _), (right, _)| left.label.cmp(&right.label));
    Ok(tests)
}

fn list_ignored(executable: &Path) -> anyhow::Result<Vec<String>> {
    let output = Command::new(executable)
        .args(["--list", "--ignored", "--format", "terse"])
        .output()
        .with_context(|| format!("cannot list the tests of {}", executable.display()))?;
    let listed = String::from_utf8_lossy(&output.stdout);
    Ok(listed
        .lines()
        .filter_map(|line| line.strip_suffix(": test"))
        .map(str::to_owned)
        .collect())
}

/// The Rust sources of a package: its `src` and `tests` directories.
fn read_sources(package: &Path) -> anyhow::Result<Vec<String>> {
    let mut sources = Vec::new();
    let mut directories = vec![package.join("src"), package.join("tests")];
    while let Some(directory) = directories.pop() {
        let Ok(entries) = fs::read_dir(&directory) else {
            continue;
        };
        for entry in entries {
            let path = entry
                .with_context(|| format!("cannot list {}", directory.display()))?
                .path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let source = fs::read_to_string(&path);
                sources.push(source.with_context(|| format!("cannot read {}", path.display()))?);
            }
        }
    }
    Ok(sources)
}

/// Runs each test in a guest of its own, which takes about a second to start: no test finds what
/// another one left in the kernel, and one that hangs takes nobody with it.
fn in_guests(root: &Path, tests: &[Test], virtual_time: bool) -> anyhow::Result<Vec<Ended>> {
    let mut ended = Vec::new();
    for test in tests {
        ended.extend(in_guest(root, std::slice::from_ref(test), virtual_time)?);
    }
    Ok(ended)
}

/// Runs tests inside the guest; a test without a result has failed.
fn in_guest(root: &Path, tests: &[Test], virtual_time: bool) -> anyhow::Result<Vec<Ended>> {
    let directory = root.join("target/needs");
    fs::create_dir_all(&directory).context("cannot make target/needs")?;
    let list = directory.join(if virtual_time {
        "virtual-time.json"
    } else {
        "guest.json"
    });
    let results = list.with_extension("results");
    fs::write(&list, serde_json::to_vec(tests)?).context("cannot write the list of tests")?;
    fs::write(&results, "").context("cannot make the file of results")?;
    let asked_s = env::var(TEST_LIMIT).ok().and_then(|text| text.parse().ok());
    let limit_s = asked_s.unwrap_or(0).max(GUEST_LIMIT_S) * tests.len();
    let mut command = Command::new(root.join("tests/guest/run"));
    command.args(["--timeout", &limit_s.to_string()]);
    if virtual_time {
        command.arg("--virtual-time");
    }
    let program = env::current_exe().context("cannot find this program")?;
    let status = command
        .arg("--")
        .arg(program)
        .arg("play")
        .arg(&list)
        .status();
    let status = status.context("cannot start the guest")?;
    let written = fs::read_to_string(&results).context("cannot read the results of the guest")?;
    let mut ended = Vec::new();
    for line in written.lines() {
        ended.push(serde_json::from_str::<Ended>(line).context("a result cannot be read")?);
    }
    for test in tests {
        if !ended.iter().any(|one| one.label == test.label) {
            println!("LOST   {} (the guest ended with {status})", test.label);
            ended.push(Ended {
                label: test.label.clone(),
                passed: false,
                skipped: Vec::new(),
            });
        }
    }
    Ok(ended)
}

/// Inside the guest: runs the tests of a list and writes a line per result beside it.
fn play(list: &Path) -> anyhow::Result<bool> {
    let text = fs::read(list).with_context(|| format!("cannot read {}", list.display()))?;
    let tests: Vec<Test> = serde_json::from_slice(&text).context("the list cannot be read")?;
    let path = list.with_extension("results");
    let mut results =
        fs::File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    let mut passed = true;
    for test in &tests {
        let ended = play_one(test);
        passed &= ended.passed;
        writeln!(results, "{}", serde_json::to_string(&ended)?).context("cannot write a result")?;
    }
    Ok(passed)
}

fn play_all(tests: &[Test]) -> Vec<Ended> {
    tests.iter().map(play_one).collect()
}

/// Runs one test as cargo would, within its limit, and prints how it ended.
fn play_one(test: &Test) -> Ended {
    let began = clock::now();
    // What is no number is told by `timeout`, and the test has failed.
    let limit_s = env::var(TEST_LIMIT).unwrap_or_else(|_unset| TEST_LIMIT_S.to_string());
    let output = Command::new("timeout")
        .args(["--kill-after=10", &limit_s])
        .arg(&test.executable)
        .args(["--ignored", "--exact", "--nocapture", &test.name])
        .current_dir(&test.package)
        .env("CARGO_MANIFEST_DIR", &test.package)
        .stdin(Stdio::null())
        .output();
    let tenths = (clock::now() - began) / 100_000_000;
    let (passed, text) = match output {
        Ok(output) => {
            let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
            text.push_str(&String::from_utf8_lossy(&output.stderr));
            (output.status.success() && text.contains("1 passed"), text)
        }
        Err(error) => (
            false,
            format!("cannot start {}: {error}", test.executable.display()),
        ),
    };
    let verdict = if passed { "ok    " } else { "FAILED" };
    println!(
        "{verdict} {:>4}.{} s  {}",
        tenths / 10,
        tenths % 10,
        test.label
    );
    if !passed {
        println!("{text}");
    }
    Ended {
        label: test.label.clone(),
        passed,
        skipped: skipped_within(&text),
    }
}
