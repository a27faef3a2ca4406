//! `[input.registry]` and `[input.avro]`: where the schemas of records come from.

use super::raw::Raw;
use crate::https::{Authorities, is_http};
use crate::kafka::schemas::{RegistrySettings, SchemaSource};
use crate::record::schema::Format;

/// The registry, if records have ids of schemas; what is wrong goes to `add`.
pub(super) fn check(raw: &Raw, add: &mut dyn FnMut(&str, String)) -> Option<SchemaSource> {
    let (input, registry) = (&raw.input, &raw.input.registry);
    let avro = input.format == Format::Avro;
    if registry.url.is_empty() {
        let needed = avro && input.avro.schema.is_empty();
        if needed {
            add("input.registry.url", "is \"\", but `input.format` is \"avro\": name a schema registry, or give the schema of all records as `input.avro.schema`".to_owned());
        }
        return None;
    }
    if !is_http(&registry.url) {
        add(
            "input.registry.url",
            "must be an address that begins with `https://` or `http://`".to_owned(),
        );
    }
    if !avro || !input.avro.schema.is_empty() {
        add(
            "input.registry.url",
            "is of use where `input.format` is \"avro\" and `input.avro.schema` is \"\" only"
                .to_owned(),
        );
    }
    if registry.user.is_empty() && !registry.password.is_empty() {
        add(
            "input.registry.password",
            "has no use without `input.registry.user`".to_owned(),
        );
    }
    Some(SchemaSource::new(RegistrySettings {
        url: registry.url.clone(),
        user: registry.user.clone(),
        password: registry.password.clone(),
        authorities: match registry.ca_file.as_str() {
            "" => Authorities::Machine,
            file => Authorities::File(file.to_owned()),
        },
        envelope: input.envelope,
    }))
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
        let url = "input.registry.url=http://registry:8081";
        let config = with(&[
            url,
            "input.registry.user=me",
            "input.registry.password=hunter2",
        ])
        .unwrap();
        assert!(config.connection().schemas.is_some());
        assert!(!format!("{config:?}{}", config.shown).contains("hunter2"));
        let schema = r#"input.avro.schema={"type":"record","name":"R","fields":[{"name":"a","type":"int"}]}"#;
        let config = with(&[schema]).unwrap();
        assert!(config.connection().schemas.is_none());
        for (more, part) in [
            (&[][..], "name a schema registry"),
            (&["input.registry.url=registry:8081"], "http://"),
            (&[url, schema], "is of use where"),
            (
                &[url, "input.registry.password=x"],
                "without `input.registry.user`",
            ),
            (
                &["input.avro.schema={"],
                "input.avro: the schema is no JSON",
            ),
            (&[url, "input.features=auto"], "a list of names"),
        ] {
            let problems = with(more).unwrap_err();
            assert!(problems.contains(part), "{more:?}: {problems}");
        }
        assert!(load(&[url]).unwrap_err().contains("is of use where"));
    }
}
