//! What people write themselves: Jinja's language, over the alerts of a message.

use minijinja::Environment;
use serde_json::Value;

/// A template that was tried on a sample.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(String);

impl Template {
    /// Tries it on `sample`, so that a slip is found by `validate` and not by an alert.
    ///
    /// # Errors
    /// What is wrong, in words, with the line.
    pub fn parse(source: &str, sample: &Value) -> Result<Self, String> {
        let template = Self(source.to_owned());
        template.render(sample)?;
        Ok(template)
    }

    /// What it makes of a message.
    ///
    /// # Errors
    /// What is wrong, in words, with the line.
    pub fn render(&self, message: &Value) -> Result<String, String> {
        Environment::new()
            .render_str(&self.0, message)
            .map_err(|error| {
                let line = error
                    .line()
                    .map(|line| format!(", line {line}"))
                    .unwrap_or_default();
                let detail = error.detail().map(|detail| format!(": {detail}"));
                format!("{}{}{line}", error.kind(), detail.unwrap_or_default())
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_sees_the_message_and_a_slip_is_named_with_its_line() {
        let sample = serde_json::json!({"alerts": [{"key": "P \"1\""}, {"key": "P-2"}]});
        let source = "{% for alert in alerts %}{{ alert.key|tojson }} {% endfor %}";
        let template = Template::parse(source, &sample).unwrap();
        assert_eq!(template.render(&sample).unwrap(), r#""P \"1\"" "P-2" "#);
        for (source, part) in [
            ("{{ alerts", "line 1"),
            ("\n{{ alerts|nosuch }}", "line 2"),
            ("{% for a in %}", "line 1"),
        ] {
            let problem = Template::parse(source, &sample).unwrap_err();
            assert!(problem.contains(part), "{source}: {problem}");
        }
    }
}
