//! What the code promises about its own shape.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

const CRATES: [&str; 4] = ["config", "telemetry", "proxy", "analyzer"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All Rust files below a folder, but tests.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let files = entries.flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] });
    let is_test = |path: &Path| {
        let inside = path.strip_prefix(root()).unwrap_or(path);
        inside.components().any(|part| matches!(part.as_os_str().to_str(), Some("tests" | "tests.rs")))
    };
    files.filter(|path| path.extension().is_some_and(|extension| extension == "rs") && !is_test(path)).collect()
}

/// The code of a file without its comments and its tests.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let text = text.split("#[cfg(test)]\nmod ").next().unwrap();
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// The modules that a lib.rs declares, in order.
fn modules(lib: &Path) -> Vec<String> {
    let declared = |line: &str| {
        let line = line.trim_start_matches("pub(crate) ").trim_start_matches("pub ");
        line.strip_prefix("mod ")?.strip_suffix(';').map(str::to_owned)
    };
    code(lib).lines().filter_map(declared).collect()
}

/// The top-level modules of the own crate that a piece of code names.
fn used(code: &str) -> Vec<String> {
    let word = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let mut names = Vec::new();
    for rest in code.split("crate::").skip(1) {
        match rest.strip_prefix('{') {
            None => names.push(word(rest)),
            Some(group) => {
                // `use crate::{a::X, b::{Y, Z}, c}`: what stands at the first level.
                let mut depth = 0;
                let mut start = true;
                for (at, c) in group.char_indices() {
                    match c {
                        '{' => depth += 1,
                        '}' if depth == 0 => break,
                        '}' => depth -= 1,
                        ',' if depth == 0 => start = true,
                        c if start && depth == 0 && !c.is_whitespace() => {
                            names.push(word(&group[at..]));
                            start = false;
                        }
                        _ => {}
                    }
                }
            }
        }
    }
    names
}

#[test]
fn a_module_uses_only_modules_declared_below_it() {
    let mut wrong = Vec::new();
    for name in CRATES {
        let src = root().join(name).join("src");
        let modules = modules(&src.join("lib.rs"));
        assert!(modules.len() > 2, "{name}: no modules found, so this test would hold nothing");
        let place: BTreeMap<_, _> = modules.iter().zip(0..).collect();
        for path in sources(&src) {
            let inside = path.strip_prefix(&src).unwrap().components().next().unwrap();
            let module = inside.as_os_str().to_string_lossy().trim_end_matches(".rs").to_owned();
            let Some(own) = place.get(&module) else { continue };
            for used in used(&code(&path)) {
                if place.get(&used).is_some_and(|other| other < own) {
                    wrong.push(format!("{}: {module} uses {used}, which is declared above it", path.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn dependencies_between_crates_run_one_way() {
    let allowed: [(&str, &[&str]); 4] = [
        ("config", &[]),
        ("telemetry", &[]),
        ("proxy", &["config", "telemetry"]),
        ("analyzer", &["config", "telemetry"]),
    ];
    for (name, may_use) in allowed {
        let manifest = fs::read_to_string(root().join(name).join("Cargo.toml")).unwrap();
        for other in CRATES.into_iter().filter(|other| *other != name && !may_use.contains(other)) {
            assert!(!manifest.contains(&format!("\ncouplet-{other}")), "{name} must not depend on {other}");
        }
    }
}

#[test]
fn the_shared_crates_do_not_touch_the_network() {
    for name in ["config", "telemetry"] {
        for path in sources(&root().join(name).join("src")) {
            let code = code(&path);
            for word in ["TcpStream", "TcpListener", "UdpSocket", "tokio::"] {
                assert!(!code.contains(word), "{}: {word}", path.display());
            }
        }
    }
}

#[test]
fn files_stay_small_enough_to_be_about_one_thing() {
    let folders = CRATES.iter().map(|name| root().join(name).join("src")).chain([root().join("src")]);
    let too_long: Vec<_> = folders
        .flat_map(|folder| sources(&folder))
        .map(|path| (code(&path).lines().count(), path))
        .filter(|(lines, _)| *lines > 500)
        .collect();
    assert!(too_long.is_empty(), "{too_long:?}");
}
