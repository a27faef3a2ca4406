//! The program from the outside: exit codes, and what it says.
#![cfg(feature = "daemon")]
#![expect(clippy::unwrap_used, reason = "a test's helpers")]

use std::process::{Command, Output};

fn anomalyd(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_anomalyd"))
        .args(arguments)
        .env_remove("ANOMALYD_CONFIG")
        .env("ANOMALYD__SEED", "4")
        .env("PW", "hunter2")
        .output()
        .unwrap()
}

/// Exit code, standard output, standard error.
fn outcome(arguments: &[&str]) -> (i32, String, String) {
    let output = anomalyd(arguments);
    (
        output.status.code().unwrap(),
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

#[test]
fn help_teaches_and_wrong_usage_is_64() {
    let (code, out, _) = outcome(&["--help"]);
    assert_eq!(code, 0);
    for word in ["demo", "Exit codes", "--set", "ANOMALYD__ALERTS"] {
        assert!(out.contains(word), "{word} missing in {out}");
    }
    assert!(!out.contains('\u{1b}'), "colours although not a terminal");
    for line in [
        &[][..],
        &["rum"],
        &["run", "--what"],
        &["models"],
        &["demo", "--for", "90"],
    ] {
        assert_eq!(outcome(line).0, 64, "{line:?}");
    }
}

#[test]
fn version_completions_and_the_manual_print() {
    assert!(
        outcome(&["--version"])
            .1
            .contains(env!("CARGO_PKG_VERSION"))
    );
    assert!(outcome(&["completions", "bash"]).1.contains("_anomalyd"));
    assert!(outcome(&["man"]).1.contains(".TH anomalyd"));
    assert!(outcome(&["models", "kinds"]).1.contains("robust_z"));
}

#[test]
fn validate_is_0_or_78_with_all_problems() {
    let (code, out, _) = outcome(&["validate", "-c", "config/examples/pumps.toml"]);
    assert_eq!(code, 0);
    assert!(out.contains("valid"), "{out}");
    let (code, out, err) = outcome(&[
        "validate",
        "-s",
        "workers=0",
        "-s",
        "batch.wait=3",
        "-s",
        "kafka.broker=x",
    ]);
    assert_eq!((code, out.as_str()), (78, ""));
    for word in ["workers", "batch.wait", "kafka.brokers"] {
        assert!(err.contains(word), "{word} missing in {err}");
    }
    assert_eq!(outcome(&["validate", "-c", "/does/not/exist.toml"]).0, 78);
}

#[test]
fn validate_shows_the_effective_settings_without_secrets() {
    let (code, out, _) = outcome(&[
        "validate",
        "--show",
        "--brokers",
        "b:1",
        "-s",
        "kafka.properties.sasl.password=${env:PW}",
    ]);
    assert_eq!(code, 0);
    assert!(
        out.contains("brokers = \"b:1\"") && out.contains("seed = 4"),
        "{out}"
    );
    assert!(out.contains("***") && !out.contains("hunter2"), "{out}");
}

#[test]
fn healthcheck_without_a_daemon_is_74() {
    let (code, _, err) = outcome(&["healthcheck", "-s", "http.listen=127.0.0.1:1"]);
    assert_eq!(code, 74);
    assert!(err.contains("127.0.0.1:1/healthz"), "{err}");
}
