//! How the program is linked.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let setting = |name: &str| std::env::var(name).unwrap_or_default();
    let is_static = setting("CARGO_CFG_TARGET_FEATURE").contains("crt-static");
    if setting("CARGO_CFG_TARGET_OS") == "linux"
        && setting("CARGO_CFG_TARGET_ENV") == "gnu"
        && !is_static
    {
        // At a fixed address its constants need no relocation, which would give each process that is
        // started 1.3 MB of pages of its own (`hexloop bench link --only star-1000`). Stack, heap and
        // libraries are at random addresses all the same.
        println!("cargo::rustc-link-arg-bin=hexloop=-no-pie");
    }
}
