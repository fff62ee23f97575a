//! Programs that we did not write and that judge what we made: Python modules in a virtual environment.
//!
//! `ZEGEL_ORACLES=1` (set by `make test`) makes their absence a failure; without it the test says loudly that it skipped.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Runs a Python script with `input` on its standard input and returns what it printed; none when Python or `module` is
/// absent and may be.
pub fn python(module: &str, script: &str, input: &str) -> Option<String> {
    let program = interpreter();
    let found = Command::new(&program)
        .args(["-c", &format!("import {module}")])
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !found {
        assert!(std::env::var("ZEGEL_ORACLES").is_err(), "ZEGEL_ORACLES is set and python module {module} is absent");
        println!("SKIPPED: python module {module} is absent, nothing was checked against it (make test installs it)");
        return None;
    }
    let mut child = Command::new(&program)
        .args(["-c", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python starts");
    let mut stdin = child.stdin.take().expect("stdin is a pipe");
    let input = input.to_owned();
    let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output().expect("python ends");
    // The status first: a script that ends early also breaks the pipe, and its own message says more.
    assert!(output.status.success(), "the oracle's script failed");
    writer.join().expect("writer ends").expect("python reads its input");
    Some(String::from_utf8(output.stdout).expect("python prints UTF-8"))
}

/// The oracles' own environment where `make test` made one, else the system's Python.
fn interpreter() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    [target, root.join("target")]
        .into_iter()
        .map(|target| target.join("oracles/bin/python"))
        .find(|python| python.exists())
        .unwrap_or_else(|| "python3".into())
}
