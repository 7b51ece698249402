//! Who runs the program, what it talks to, and how what it wrote is read.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;

use hexloop_tests::sandbox::{Finished, finish};
use nix::unistd::geteuid;

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_hexloop-under-test");
pub(crate) const NOBODY: u32 = 65_534;
pub(crate) const LIMIT_S: u64 = 180;

/// Prints how long it takes, in microseconds, to be refused at an address: one round trip.
pub(crate) const ROUND_TRIP: &str = r#"
    round_trip() {
        local start=${EPOCHREALTIME/./}
        (exec 3<>"/dev/tcp/$1/9") 2>/dev/null && echo "not refused"
        echo "$2 $((${EPOCHREALTIME/./} - start))"
    }
"#;

/// Who runs the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    Root,
    /// An ordinary user: nobody, where the tests run as root.
    Ordinary,
}

/// Everybody whom these tests can be.
pub(crate) fn everybody() -> Vec<Who> {
    if geteuid().is_root() {
        vec![Who::Root, Who::Ordinary]
    } else {
        println!("SKIPPED(root) what only root does");
        vec![Who::Ordinary]
    }
}

/// Programs where everybody may read them. They are gone when the last test that uses them is over.
#[derive(Debug)]
struct Copies {
    /// The one under test, and this one.
    paths: [PathBuf; 2],
    /// Taken away when this is dropped.
    _directory: tempfile::TempDir,
}

impl Copies {
    fn make() -> Copies {
        let directory = tempfile::Builder::new().prefix("hexloop-test-").tempdir();
        let directory = directory.unwrap();
        let open = fs::Permissions::from_mode(0o755);
        fs::set_permissions(directory.path(), open.clone()).unwrap();
        let this = std::env::current_exe().unwrap();
        let programs = [
            (PathBuf::from(BINARY), "hexloop-under-test"),
            (this, "this-test"),
        ];
        let paths = programs.map(|(program, name)| {
            let path = directory.path().join(name);
            fs::copy(program, &path).unwrap();
            fs::set_permissions(&path, open.clone()).unwrap();
            path
        });
        Copies {
            paths,
            _directory: directory,
        }
    }

    /// The copies that other tests use now, else new ones.
    fn shared() -> Arc<Copies> {
        static SHARED: Mutex<Weak<Copies>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let made = Arc::new(Copies::make());
            *shared = Arc::downgrade(&made);
            made
        })
    }
}

thread_local! {
    /// A test has a thread of its own, with which this ends.
    static COPIES: Arc<Copies> = Copies::shared();
}

/// The program under test where everybody may read it.
fn binary() -> PathBuf {
    COPIES.with(|copies| copies.paths[0].clone())
}

/// This program where everybody may read it.
pub(crate) fn this_program() -> String {
    COPIES.with(|copies| copies.paths[1].to_str().unwrap().to_owned())
}

pub(crate) fn link(who: Who, arguments: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command
        .arg("link")
        .args(arguments)
        .current_dir("/")
        .env_remove("SUDO_UID")
        .env("HEXLOOP", binary())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    as_user(who, &mut command);
    command
}

/// Has a command started as that user.
pub(crate) fn as_user(who: Who, command: &mut Command) {
    if who == Who::Ordinary && geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
}

pub(crate) fn run(who: Who, arguments: &[&str]) -> Finished {
    finish(link(who, arguments).spawn().unwrap(), LIMIT_S)
}

/// The numbers behind the words in lines of output, in order.
pub(crate) fn numbers(output: &str) -> Vec<(String, u64)> {
    output
        .lines()
        .map(|line| {
            let (name, number) = line.split_once(' ').unwrap_or_else(|| panic!("{output}"));
            (name.to_owned(), number.parse().unwrap())
        })
        .collect()
}

/// Serves so many bytes to everybody who asks, on the loopback of the tests.
pub(crate) fn server(bytes: usize) -> (u16, Vec<u8>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let content: Vec<u8> = (0..bytes)
        .map(|i| u8::try_from(i * i % 251).unwrap())
        .collect();
    let served = content.clone();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut asked = String::new();
            BufReader::new(&stream).read_line(&mut asked).unwrap();
            if stream.write_all(&served).is_ok() {
                stream.shutdown(Shutdown::Write).unwrap();
                stream.read_to_end(&mut Vec::new()).ok();
            }
        }
    });
    (port, content)
}
