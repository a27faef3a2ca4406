//! Secrets come by reference, `${env:NAME}` or `${file:/path}`, and are never printed.

use std::fs;

pub use crate::https::HIDDEN;
use crate::https::redacted;

/// Whether a setting of this name is a secret, however it was given.
pub fn looks_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    [
        "password",
        "passphrase",
        "secret",
        "token",
        "sasl.jaas",
        "oauthbearer.config",
        "private.key",
        "key.pem",
        "basic.auth",
        "credential",
        "telemetry.headers",
    ]
    .iter()
    .any(|word| name.contains(word))
}

/// Whether `text` refers to something outside.
pub fn is_reference(text: &str) -> bool {
    text.contains("${env:") || text.contains("${file:")
}

/// Puts what they refer to in the place of all references in `text`. `lookup` answers for the environment. Every text put in is
/// added to `revealed`, so that it can be hidden wherever it turns up.
pub fn resolve(
    text: &str,
    lookup: &dyn Fn(&str) -> Option<String>,
    revealed: &mut Vec<String>,
) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        let (before, after) = rest.split_at(start);
        out.push_str(before);
        let Some(end) = after.find('}') else {
            return Err(format!("`{text}`: a reference is not closed by `}}`"));
        };
        let content = match after[2..end].split_once(':') {
            Some(("env", name)) => {
                lookup(name).ok_or_else(|| format!("environment variable `{name}` is not set"))?
            }
            Some(("file", path)) => fs::read_to_string(path)
                .map_err(|error| format!("file `{path}` cannot be read: {error}"))?
                .trim_end_matches(['\r', '\n'])
                .to_owned(),
            _ => {
                return Err(format!(
                    "`{}`: a reference is `${{env:NAME}}` or `${{file:/path}}`",
                    &after[..=end]
                ));
            }
        };
        out.push_str(&content);
        revealed.push(content);
        rest = &after[end + 1..];
    }
    out.push_str(rest);
    Ok(out)
}

/// `message` with every one of `secrets` hidden. Secrets of fewer than three characters hide nothing worth hiding and would garble the text.
pub fn redact(message: &str, secrets: &[String]) -> String {
    redacted(message, secrets.iter().map(String::as_str))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(name: &str) -> Option<String> {
        (name == "PW").then(|| "hunter2".to_owned())
    }

    #[test]
    fn references_resolve_and_are_remembered() {
        let mut revealed = Vec::new();
        let text = resolve("a${env:PW}b${env:PW}", &environment, &mut revealed);
        assert_eq!(text.as_deref(), Ok("ahunter2bhunter2"));
        assert_eq!(revealed, ["hunter2", "hunter2"]);
        assert_eq!(redact("got hunter2!", &revealed), "got ***!");
    }

    #[test]
    fn files_lose_their_last_line_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pw");
        fs::write(&path, "s3cret\n").unwrap();
        let reference = format!("${{file:{}}}", path.display());
        let text = resolve(&reference, &environment, &mut Vec::new());
        assert_eq!(text.as_deref(), Ok("s3cret"));
    }

    #[test]
    fn wrong_references_say_what_is_wrong() {
        let problem = |text: &str| resolve(text, &environment, &mut Vec::new()).unwrap_err();
        assert!(problem("${env:NOPE}").contains("`NOPE` is not set"));
        assert!(problem("${env:PW").contains("not closed"));
        assert!(problem("${vault:x}").contains("${env:NAME}"));
        assert!(problem("${file:/does/not/exist}").contains("/does/not/exist"));
    }
}
