//! `[registry]`, `[input.avro]`, `[input.protobuf]` and `output.format`: where schemas come from, and whether they are needed.

use super::raw::Raw;
use crate::https::{Authorities, is_http};
use crate::kafka::forms::OutputFormat;
use crate::kafka::registry::RegistrySettings;
use crate::kafka::schemas::SchemaSource;
use crate::record::schema::Format;

/// The registry, if there is one; what is wrong goes to `add`.
pub(super) fn check(raw: &Raw, add: &mut dyn FnMut(&str, String)) -> Option<SchemaSource> {
    let (input, registry) = (&raw.input, &raw.registry);
    // The schema of all records, where they can have one, and its key.
    let (schema, key) = match input.format {
        Format::Avro => (Some(&input.avro.schema), "input.avro.schema"),
        Format::Protobuf => (Some(&input.protobuf.schema), "input.protobuf.schema"),
        Format::Json | Format::Csv | Format::F32 => (None, ""),
    };
    let each = schema.is_some_and(String::is_empty);
    if registry.url.is_empty() {
        if each {
            let problem = format!(
                "is \"\", but records of this `input.format` are read by their schemas: name a schema registry, or give the schema of all records as `{key}`"
            );
            add("registry.url", problem);
        } else if raw.output.format != OutputFormat::Json {
            let problem =
                "is \"\", but `output.format` has schemas: name the registry that gives them ids";
            add("registry.url", problem.to_owned());
        }
        return None;
    }
    if !is_http(&registry.url) {
        add(
            "registry.url",
            "must be an address that begins with `https://` or `http://`".to_owned(),
        );
    }
    if registry.user.is_empty() && !registry.password.is_empty() {
        add(
            "registry.password",
            "has no use without `registry.user`".to_owned(),
        );
    }
    let settings = RegistrySettings {
        url: registry.url.clone(),
        user: registry.user.clone(),
        password: registry.password.clone(),
        authorities: Authorities::of_file(&registry.ca_file),
    };
    Some(SchemaSource::new(settings, each.then_some(input.envelope)))
}

#[cfg(test)]
mod tests {
    use super::super::{Config, Sources};

    fn load(set: &[&str]) -> Result<Config, String> {
        let sources = Sources {
            set: set.iter().map(|set| (*set).to_owned()).collect(),
            ..Sources::default()
        };
        Config::load(&sources).map_err(|problems| problems.to_string())
    }

    #[test]
    fn records_in_avro_have_one_schema_or_a_registry() {
        let avro = ["input.format=avro", "input.features=[\"a\"]"];
        let with = |more: &[&str]| load(&[&avro[..], more].concat());
        let url = "registry.url=http://registry:8081";
        let config = with(&[url, "registry.user=me", "registry.password=hunter2"]).unwrap();
        assert!(config.connection().schemas.is_some());
        assert!(!format!("{config:?}{}", config.shown).contains("hunter2"));
        let schema = r#"input.avro.schema={"type":"record","name":"R","fields":[{"name":"a","type":"int"}]}"#;
        let config = with(&[schema]).unwrap();
        assert!(config.connection().schemas.is_none());
        for (more, part) in [
            (&[][..], "name a schema registry"),
            (&["registry.url=registry:8081"], "http://"),
            (&[url, "registry.password=x"], "without `registry.user`"),
            (
                &["input.avro.schema={"],
                "input.avro: the schema is no JSON",
            ),
            (&[url, "input.features=auto"], "a list of names"),
        ] {
            let problems = with(more).unwrap_err();
            assert!(problems.contains(part), "{more:?}: {problems}");
        }
        // It may have schemas of what is written alone.
        assert!(with(&[url, schema]).unwrap().connection().schemas.is_some());
        assert!(load(&[url]).unwrap().connection().schemas.is_some());
    }

    #[test]
    fn output_that_has_schemas_needs_a_registry() {
        for format in ["output.format=avro", "output.format=protobuf"] {
            let problems = load(&[format]).unwrap_err();
            assert!(
                problems.contains("`output.format` has schemas"),
                "{problems}"
            );
            let config = load(&[format, "registry.url=http://registry:8081"]).unwrap();
            let topics = config.output_topics();
            let (registry, wanted) = config.registration(&topics);
            assert_eq!(registry.unwrap().url, "http://registry:8081");
            assert!(wanted.register);
        }
        let without = load(&[]).unwrap();
        let topics = without.output_topics();
        assert!(without.registration(&topics).0.is_none());
    }

    #[test]
    fn records_in_protobuf_have_one_schema_or_a_registry() {
        let protobuf = ["input.format=protobuf", "input.features=[\"a\"]"];
        let with = |more: &[&str]| load(&[&protobuf[..], more].concat());
        let url = "registry.url=http://registry:8081";
        let schema =
            "input.protobuf.schema=syntax = \"proto3\"; package p; message A { double a = 1; }";
        assert!(with(&[url]).unwrap().connection().schemas.is_some());
        let config = with(&[schema, "input.protobuf.message=p.A"]).unwrap();
        assert!(config.connection().schemas.is_none());
        for (more, part) in [
            (&[][..], "`input.protobuf.schema`"),
            (
                &[url, "input.protobuf.message=p.A"],
                "input.protobuf.message: is of use",
            ),
            (&[schema, "input.protobuf.message=A"], "it has p.A"),
            (&["input.protobuf.schema=message {"], "no .proto file"),
            (&[schema, "input.features=auto"], "a list of names"),
        ] {
            let problems = with(more).unwrap_err();
            assert!(problems.contains(part), "{more:?}: {problems}");
        }
    }
}
