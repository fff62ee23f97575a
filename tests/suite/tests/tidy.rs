//! House rules that no linter knows. Each failure names the file, the line and the rule.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]
#![allow(clippy::disallowed_methods, clippy::cast_possible_truncation)] // threads of a test may sleep; its numbers are small

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use zegel_suite::root;

/// A file that is longer is two things.
const FILE_LINES_MAX: usize = 500;
/// A function that is longer does not fit a screen.
const FUNCTION_LINES_MAX: usize = 70;

struct Source {
    path: PathBuf,
    text: String,
}

impl Source {
    /// The part before the unit tests.
    fn code(&self) -> &str {
        self.text.split("#[cfg(test)]\n").next().unwrap_or(&self.text)
    }

    fn is_test(&self) -> bool {
        let path = self.path.to_string_lossy();
        path.contains("/tests/")
            || path.contains("tests/")
            || path.contains("load-tests/")
            || path.contains("/examples/")
            || path.ends_with("testing.rs")
            || path.ends_with("tests.rs")
    }
}

fn sources() -> Vec<Source> {
    let mut found = Vec::new();
    for folder in ["schemas", "topology", "pipeline", "workers", "tests", "load-tests"] {
        collect(&root().join(folder), "rs", &mut found);
    }
    assert!(found.len() > 40, "the tidy test does not find the sources");
    found
        .into_iter()
        .map(|path| Source {
            text: fs::read_to_string(&path).unwrap(),
            path: path.strip_prefix(root()).unwrap().to_path_buf(),
        })
        .collect()
}

fn collect(folder: &Path, ending: &str, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
            collect(&path, ending, found);
        } else if path.extension().is_some_and(|e| e == ending) {
            found.push(path);
        }
    }
}

fn report(broken: &[String]) {
    assert!(broken.is_empty(), "{} places break the rule:\n{}", broken.len(), broken.join("\n"));
}

/// Words in `text` that begin with `prefix` and go on with characters that `allowed` accepts.
fn words<'t>(text: &'t str, prefix: &str, allowed: fn(char) -> bool) -> BTreeSet<&'t str> {
    text.match_indices(prefix)
        .map(|(at, _)| {
            let rest = &text[at..];
            rest.split(|c| !allowed(c)).next().unwrap_or(rest)
        })
        .filter(|word| word.len() > prefix.len())
        .collect()
}

#[test]
fn every_file_begins_with_a_header_that_says_its_purpose() {
    let broken: Vec<String> = sources()
        .iter()
        .filter(|source| {
            let header: usize = source.text.lines().take_while(|line| line.starts_with("//!")).map(str::len).sum();
            header < 30
        })
        .map(|source| source.path.display().to_string())
        .collect();
    report(&broken);
}

#[test]
fn no_file_is_longer_than_its_budget() {
    let broken: Vec<String> = sources()
        .iter()
        .filter(|source| source.code().lines().count() > FILE_LINES_MAX && !source.is_test())
        .map(|source| format!("{}: {} lines before its tests", source.path.display(), source.code().lines().count()))
        .collect();
    report(&broken);
}

#[test]
fn no_function_is_longer_than_a_screen() {
    let mut broken = Vec::new();
    for source in sources().iter().filter(|source| !source.is_test()) {
        let mut open: Option<(usize, usize, String)> = None; // line, indentation, name
        for (number, line) in source.code().lines().enumerate() {
            let trimmed = line.trim_start();
            let indentation = line.len() - trimmed.len();
            if let Some((start, depth, name)) = &open {
                if indentation == *depth && trimmed.starts_with('}') {
                    if number - start + 1 > FUNCTION_LINES_MAX {
                        broken.push(format!(
                            "{}:{}: {name} has {} lines",
                            source.path.display(),
                            start + 1,
                            number - start + 1
                        ));
                    }
                    open = None;
                }
            } else if let Some(name) = function_name(trimmed).filter(|_| !trimmed.ends_with([';', '}'])) {
                open = Some((number, indentation, name.to_owned()));
            }
        }
    }
    report(&broken);
}

fn function_name(line: &str) -> Option<&str> {
    let rest = ["pub(crate) ", "pub(super) ", "pub "]
        .iter()
        .fold(line, |line, prefix| line.strip_prefix(prefix).unwrap_or(line));
    let rest = rest.strip_prefix("async ").or(rest.strip_prefix("const ")).unwrap_or(rest);
    rest.strip_prefix("fn ")?.split(['(', '<']).next()
}

#[test]
fn nothing_unwraps_outside_tests() {
    let mut broken = Vec::new();
    for source in sources().iter().filter(|source| !source.is_test()) {
        for (number, line) in source.code().lines().enumerate() {
            let code = line.split("//").next().unwrap_or(line);
            if code.contains(".unwrap()") || code.contains(".expect(\"") {
                broken.push(format!("{}:{}", source.path.display(), number + 1));
            }
        }
    }
    report(&broken);
}

#[test]
fn every_crate_forbids_unsafe_code_and_takes_the_workspace_lints() {
    let mut manifests = Vec::new();
    for folder in ["schemas", "topology", "pipeline", "workers", "tests", "load-tests"] {
        collect(&root().join(folder), "toml", &mut manifests);
    }
    let mut broken = Vec::new();
    for manifest in manifests.iter().filter(|path| path.ends_with("Cargo.toml")) {
        let crate_root =
            ["src/lib.rs", "src/main.rs"].map(|file| manifest.with_file_name(file)).into_iter().find(|p| p.exists());
        let text = fs::read_to_string(manifest).unwrap();
        let code = crate_root.map(|path| fs::read_to_string(path).unwrap()).unwrap_or_default();
        if !text.contains("[lints]\nworkspace = true") || !code.contains("#![forbid(unsafe_code)]") {
            broken.push(manifest.display().to_string());
        }
    }
    report(&broken);
}

#[test]
fn every_code_in_the_source_is_in_the_table_of_codes() {
    let table = fs::read_to_string(root().join("schemas/src/codes.rs")).unwrap();
    let known = words(&table, "ZGL-", |c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '-');
    let mut broken = Vec::new();
    for source in sources().iter().filter(|source| !source.is_test() && !source.path.ends_with("codes.rs")) {
        for code in
            words(source.code(), "\"ZGL-", |c| c.is_ascii_uppercase() || c.is_ascii_digit() || "\"-".contains(c))
        {
            let code = code.trim_matches('"');
            if !known.contains(code) {
                broken.push(format!("{}: {code}", source.path.display()));
            }
        }
    }
    report(&broken);
}

#[test]
fn every_metric_is_documented_for_operators() {
    let documented = fs::read_to_string(root().join("deploy/METRICS.md")).unwrap();
    let mut broken = Vec::new();
    for source in sources().iter().filter(|source| !source.is_test()) {
        for metric in
            words(source.code(), "\"zegel_", |c| c.is_ascii_lowercase() || c.is_ascii_digit() || "\"_".contains(c))
        {
            let metric = metric.trim_matches('"');
            let is_metric = ["_total", "_seconds", "_messages", "_bytes", "_running", "_open", "_owned", "_ratio"]
                .iter()
                .any(|end| metric.ends_with(end));
            if is_metric && !documented.contains(&format!("`{metric}`")) {
                broken.push(format!("{}: {metric}", source.path.display()));
            }
        }
    }
    report(&broken);
}

#[test]
fn every_channel_is_in_the_architecture_and_the_picture() {
    let architecture = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let picture = fs::read_to_string(root().join("topology/topology.mmd")).unwrap();
    let broken: Vec<String> = topology::CHANNELS
        .iter()
        .filter(|channel| !architecture.contains(channel.name) || !picture.contains(channel.name))
        .map(|channel| channel.name.to_owned())
        .collect();
    report(&broken);
}

/// What a part must not know, it cannot reach: the same table as in `deny.toml`.
#[test]
fn a_client_crate_is_used_only_by_its_wrapper() {
    let wrappers: [(&str, &[&str]); 13] = [
        ("rusqlite", &["pipeline/embedded", "load-tests"]),
        ("lapin", &["pipeline/amqp"]),
        ("rdkafka", &["pipeline/kafka", "load-tests"]),
        ("tokio-postgres", &["pipeline/postgres"]),
        ("axum", &["workers/gateway"]),
        ("aws-lc-rs", &["pipeline/crypto"]),
        ("cryptoki", &["pipeline/pkcs11"]),
        ("aes-siv", &["pipeline/crypto"]),
        ("hmac", &["pipeline/crypto"]),
        ("cms", &["pipeline/crypto"]),
        ("x509-cert", &["pipeline/crypto"]),
        ("object_store", &["pipeline/objects", "workers/app"]),
        ("sled", &["workers/app"]),
    ];
    let mut manifests = Vec::new();
    for folder in ["schemas", "topology", "pipeline", "workers", "tests", "load-tests"] {
        collect(&root().join(folder), "toml", &mut manifests);
    }
    let mut broken = Vec::new();
    for manifest in manifests.iter().filter(|path| path.ends_with("Cargo.toml")) {
        let folder = manifest.parent().unwrap().strip_prefix(root()).unwrap().display().to_string();
        let text = fs::read_to_string(manifest).unwrap();
        let dependencies = text.split("[dev-dependencies]").next().unwrap();
        for (client, allowed) in &wrappers {
            let used = dependencies
                .lines()
                .any(|line| line.starts_with(&format!("{client}.")) || line.starts_with(&format!("{client} ")));
            if used && !allowed.contains(&folder.as_str()) {
                broken.push(format!("{folder} uses {client}"));
            }
        }
    }
    report(&broken);
}

#[test]
fn nothing_names_a_machine_or_is_left_unfinished() {
    // Written in two pieces each, so that this file does not name them itself.
    let words = [["to", "do!("], ["FIX", "ME"], ["/wo", "rk/"], ["/ro", "ot/"], ["unimple", "mented!("]]
        .map(|parts| parts.concat());
    let mut broken = Vec::new();
    for source in sources() {
        for (number, line) in source.text.lines().enumerate() {
            if words.iter().any(|word| line.contains(word.as_str())) || line.trim_start().starts_with("#[ignore") {
                broken.push(format!("{}:{}", source.path.display(), number + 1));
            }
        }
    }
    report(&broken);
}
