//! The bill of materials: CycloneDX 1.5, as JSON.

use serde_json::{Value, json};

use crate::{Package, Supply};

/// The bill of materials of what is shipped. The same for the same lock file: it has no time and no number of its own.
pub fn sbom(supply: &Supply) -> Value {
    let shipped = supply.shipped();
    let root = shipped.get(supply.root.as_str());
    let others = shipped.values().filter(|package| package.id != supply.root);
    let components: Vec<Value> = others
        .flat_map(|package| {
            let bundled = bundled(package);
            [component(supply, package, "library")]
                .into_iter()
                .chain(bundled)
        })
        .collect();
    let dependencies: Vec<Value> = shipped
        .values()
        .map(|package| {
            let links = package
                .links
                .iter()
                .filter_map(|id| shipped.get(id.as_str()));
            let links = links.map(|package| purl(package));
            let bundled = bundled(package).map(|bundled| bundled["bom-ref"].clone());
            let on: Vec<Value> = links.map(Value::from).chain(bundled).collect();
            json!({ "ref": purl(package), "dependsOn": on })
        })
        .collect();
    json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": { "component": root.map(|root| component(supply, root, "application")) },
        "components": components,
        "dependencies": dependencies,
    })
}

/// The package's address in the registry.
fn purl(package: &Package) -> String {
    // In an address `+` means a space.
    let version = package.version.replace('+', "%2B");
    format!("pkg:cargo/{}@{version}", package.name)
}

fn component(supply: &Supply, package: &Package, kind: &str) -> Value {
    let mut component = json!({
        "type": kind,
        "bom-ref": purl(package),
        "name": package.name,
        "version": package.version,
        "purl": purl(package),
        "licenses": [{ "expression": package.licence.replace('/', " OR ") }],
    });
    let place = (package.name.clone(), package.version.clone());
    if let Some(checksum) = supply.checksums.get(&place) {
        component["hashes"] = json!([{ "alg": "SHA-256", "content": checksum }]);
    }
    if let Some(repository) = &package.repository {
        component["externalReferences"] = json!([{ "type": "vcs", "url": repository }]);
    }
    component
}

/// A library in another language whose source a package carries, where its version says which: `2.0.1+zstd.1.5.7`, and librdkafka's.
fn bundled(package: &Package) -> Option<Value> {
    let (_, metadata) = package.version.split_once('+')?;
    if !package.name.ends_with("-sys") {
        return None;
    }
    let (name, version) = match package.name.as_str() {
        "rdkafka-sys" => ("librdkafka", metadata),
        _ => metadata.split_once('.')?,
    };
    let address = format!("pkg:generic/{name}@{version}");
    Some(json!({
        "type": "library",
        "bom-ref": address,
        "name": name,
        "version": version,
        "purl": address,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_in_other_languages_are_named() {
        let package = |name: &str, version: &str| Package {
            id: String::new(),
            name: name.to_owned(),
            version: version.to_owned(),
            licence: String::new(),
            source: None,
            repository: None,
            folder: std::path::PathBuf::new(),
            links: std::collections::BTreeSet::new(),
        };
        let named = |name, version| {
            let found = bundled(&package(name, version))?;
            found["purl"].as_str().map(str::to_owned)
        };
        assert_eq!(
            named("zstd-sys", "2.0.1+zstd.1.5.7").as_deref(),
            Some("pkg:generic/zstd@1.5.7")
        );
        assert_eq!(
            named("rdkafka-sys", "4.10.0+2.12.1").as_deref(),
            Some("pkg:generic/librdkafka@2.12.1")
        );
        assert_eq!(named("serde", "1.0.0"), None);
        assert_eq!(named("toml", "0.9.12+spec-1.1.0"), None);
    }
}
