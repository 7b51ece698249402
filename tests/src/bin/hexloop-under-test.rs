//! The `hexloop` binary under a name that cargo tells this package's tests.

#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    hexloop::main()
}
