//! The command line `hexloop`.

fn main() -> std::process::ExitCode {
    hexloop::main()
}
