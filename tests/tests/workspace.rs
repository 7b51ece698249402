//! The rules that keep the layout of the workspace true, checked on the files themselves.

#![forbid(unsafe_code)]

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::fs;
    use std::path::{Path, PathBuf};

    use hexloop::exit_code::ExitCode;
    use hexloop_tests::needs::needs_by_function;

    /// Who may depend on whom. Dependencies run down only.
    const MAY_DEPEND_ON: [(&str, &[&str]); 11] = [
        ("hexloop-traces", &[]),
        ("hexloop-workloads", &[]),
        (
            "hexloop-topologies",
            &["hexloop-traces", "hexloop-workloads"],
        ),
        (
            "hexloop-proto",
            &["hexloop-topologies", "hexloop-traces", "hexloop-workloads"],
        ),
        ("hexloop-telemetry", &["hexloop-workloads"]),
        (
            "hexloop-nvml-stub",
            &["hexloop-telemetry", "hexloop-workloads"],
        ),
        (
            "hexloop-agent",
            &[
                "hexloop-proto",
                "hexloop-telemetry",
                "hexloop-topologies",
                "hexloop-traces",
                "hexloop-workloads",
            ],
        ),
        ("hexloop-tui", &["hexloop-proto"]),
        (
            "hexloop-statistics",
            &["hexloop-traces", "hexloop-workloads"],
        ),
        (
            "hexloop",
            &[
                "hexloop-agent",
                "hexloop-proto",
                "hexloop-statistics",
                "hexloop-telemetry",
                "hexloop-topologies",
                "hexloop-traces",
                "hexloop-tui",
                "hexloop-workloads",
            ],
        ),
        (
            "hexloop-tests",
            &[
                "hexloop",
                "hexloop-agent",
                "hexloop-nvml-stub",
                "hexloop-proto",
                "hexloop-topologies",
                "hexloop-traces",
                "hexloop-tui",
                "hexloop-workloads",
            ],
        ),
    ];

    fn root() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .unwrap()
            .to_path_buf()
    }

    fn read(path: &str) -> String {
        fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    fn manifest(path: &str) -> toml::Table {
        read(path)
            .parse()
            .unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    fn members() -> Vec<String> {
        let workspace = manifest("Cargo.toml");
        let members = workspace["workspace"]["members"].as_array().unwrap();
        members
            .iter()
            .map(|member| member.as_str().unwrap().to_owned())
            .collect()
    }

    /// Every file of the tree that is not built or produced by runs.
    fn files() -> Vec<PathBuf> {
        let mut files = Vec::new();
        let mut directories = vec![root()];
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(directory).unwrap() {
                let entry = entry.unwrap();
                let name = entry.file_name();
                if entry.file_type().unwrap().is_dir() {
                    if !["target", ".git", "results"]
                        .iter()
                        .any(|skip| name == *skip)
                    {
                        directories.push(entry.path());
                    }
                } else {
                    files.push(entry.path());
                }
            }
        }
        files
    }

    fn rust_files() -> Vec<PathBuf> {
        let is_rust = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "rs");
        files().into_iter().filter(is_rust).collect()
    }

    #[test]
    fn every_member_takes_the_lints_of_the_workspace() {
        for member in members() {
            let manifest = manifest(&format!("{member}/Cargo.toml"));
            let lints = manifest
                .get("lints")
                .and_then(|lints| lints.get("workspace"));
            assert_eq!(lints.and_then(toml::Value::as_bool), Some(true), "{member}");
        }
    }

    #[test]
    fn dependencies_between_the_crates_run_down_only() {
        let allowed = BTreeMap::from(MAY_DEPEND_ON);
        for member in members() {
            let manifest = manifest(&format!("{member}/Cargo.toml"));
            let name = manifest["package"]["name"].as_str().unwrap();
            let allowed = allowed
                .get(name)
                .unwrap_or_else(|| panic!("{name} is not in the table"));
            for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
                let Some(section) = manifest.get(section) else {
                    continue;
                };
                for dependency in section.as_table().unwrap().keys() {
                    let is_ours = dependency.starts_with("hexloop");
                    let is_allowed = allowed.contains(&dependency.as_str());
                    assert!(
                        !is_ours || is_allowed,
                        "{name} must not depend on {dependency}"
                    );
                    let is_engine = dependency.starts_with("candle");
                    let may = name == "hexloop-workloads";
                    assert!(
                        !is_engine || may,
                        "{name} must not know the engine {dependency}"
                    );
                }
            }
        }
    }

    #[test]
    fn the_architecture_names_every_member_and_every_module_of_the_libraries() {
        let text = read("ARCHITECTURE.md");
        for member in members() {
            assert!(
                text.contains(&format!("`{member}`")),
                "ARCHITECTURE.md does not name {member}"
            );
            let sources = root().join(&member).join("src");
            for entry in fs::read_dir(sources).unwrap() {
                let path = entry.unwrap().path();
                let name = path.file_stem().unwrap().to_str().unwrap();
                let is_module = path.extension().is_some_and(|extension| extension == "rs");
                if is_module && !["lib", "main"].contains(&name) {
                    let named = text.contains(&format!("`{name}`"));
                    assert!(
                        named,
                        "ARCHITECTURE.md does not name {member}'s module {name}"
                    );
                }
            }
        }
    }

    #[test]
    fn the_readme_lists_the_exit_codes_of_the_program() {
        let readme = read("README.md");
        for code in ExitCode::ALL {
            let row = format!("| {} | {} |", code.number(), code.meaning());
            assert!(readme.contains(&row), "README.md lacks the row {row}");
        }
    }

    #[test]
    fn the_readme_gives_the_two_commands() {
        let readme = read("README.md");
        for command in [
            "cargo run --release -- run topologies/quickstart.toml",
            "cargo test --workspace",
        ] {
            assert!(
                readme.lines().any(|line| line == command),
                "README.md lacks {command}"
            );
        }
    }

    #[test]
    fn no_file_is_larger_than_a_megabyte() {
        for file in files() {
            let bytes = fs::metadata(&file).unwrap().len();
            assert!(bytes <= 1_000_000, "{} has {bytes} bytes", file.display());
        }
    }

    #[test]
    fn unsafe_code_is_fenced_in() {
        // Spelt in two parts, so that this file does not count.
        let block = ["unsafe", " {"].concat();
        for file in rust_files() {
            let text = fs::read_to_string(&file).unwrap();
            let path = file.strip_prefix(root()).unwrap();
            let is_fenced = path.starts_with("agent/src/sys")
                || path.starts_with("agent/telemetry/src/sys")
                || path.starts_with("tests/nvml-stub")
                || path
                    .file_name()
                    .is_some_and(|name| name == "mmap.rs" || name == "prefetch.rs");
            assert!(
                is_fenced || !text.contains(&block),
                "{} has unsafe code",
                path.display()
            );
        }
    }

    #[test]
    fn every_ignored_test_says_what_it_needs() {
        for member in members() {
            let directory = root().join(&member);
            let sources: Vec<String> = rust_files()
                .into_iter()
                .filter(|path| path.starts_with(&directory))
                .map(|path| fs::read_to_string(path).unwrap())
                .collect();
            let needs = needs_by_function(sources.iter().map(String::as_str));
            assert!(needs.is_ok(), "{member}: {:?}", needs.unwrap_err());
        }
    }

    #[test]
    fn no_two_modules_read_the_clock() {
        let reads: BTreeSet<PathBuf> = rust_files()
            .into_iter()
            .filter(|path| {
                fs::read_to_string(path)
                    .unwrap()
                    .contains(&["clock_", "gettime"].concat())
            })
            .map(|path| path.strip_prefix(root()).unwrap().to_path_buf())
            .collect();
        assert_eq!(
            reads,
            BTreeSet::from([PathBuf::from("workloads/src/clock.rs")])
        );
    }
}
