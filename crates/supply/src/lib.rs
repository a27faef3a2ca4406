//! What the program is made of: read from `cargo metadata`, written as a bill of materials (CycloneDX 1.5) and as third-party notices.
//!
//! Shipped is what the program links: normal dependencies, not those of builds and tests.

mod licence;
mod notices;
mod sbom;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

pub use licence::{ALLOWED, allowed};
pub use notices::notices;
pub use sbom::sbom;

/// A package as cargo knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package {
    /// Cargo's own name of it, unique.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// An SPDX expression; empty where it names none.
    pub licence: String,
    /// Where it comes from; `None` for what lies in this repository.
    pub source: Option<String>,
    /// Where its source code lives, if it says so.
    pub repository: Option<String>,
    /// Where it was unpacked.
    pub folder: PathBuf,
    /// Ids of the packages that it links.
    pub links: BTreeSet<String>,
}

/// All packages of a build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Supply {
    /// The program.
    pub root: String,
    /// All that cargo resolved, by id: for every platform, builds and tests included.
    pub all: BTreeMap<String, Package>,
    /// SHA-256 of each package's archive, by name and version.
    pub checksums: BTreeMap<(String, String), String>,
}

impl Supply {
    /// Reads the output of `cargo metadata --format-version 1` and the lock file. `Err`: what is missing.
    pub fn read(metadata: &str, lock: &str) -> Result<Self, String> {
        let read: Value = serde_json::from_str(metadata).map_err(|error| error.to_string())?;
        let root = text(&read["resolve"]["root"]).ok_or("no root package")?;
        let mut all = BTreeMap::new();
        for package in list(&read["packages"]) {
            let package = package_of(package).ok_or_else(|| format!("no package: {package}"))?;
            all.insert(package.id.clone(), package);
        }
        for node in list(&read["resolve"]["nodes"]) {
            let id = text(&node["id"]).ok_or("a node without an id")?;
            let package = all.get_mut(&id).ok_or_else(|| format!("no package {id}"))?;
            package.links = linked(node);
        }
        let checksums = checksums(lock);
        Ok(Self {
            root,
            all,
            checksums,
        })
    }

    /// What the package in `folder` is made of on this platform.
    pub fn of_build(folder: &Path) -> Result<Self, String> {
        let lock = folder.join("Cargo.lock");
        let lock = std::fs::read_to_string(&lock)
            .map_err(|error| format!("{}: {error}", lock.display()))?;
        let about = output(folder, "rustc", &["-vV"])?;
        let host = about.lines().find_map(|line| line.strip_prefix("host: "));
        let host = host.ok_or("rustc does not say for which platform it is")?;
        let args = [
            "metadata",
            "--format-version=1",
            "--locked",
            "--filter-platform",
            host,
        ];
        Self::read(&output(folder, "cargo", &args)?, &lock)
    }

    /// The program and what it links, by id.
    pub fn shipped(&self) -> BTreeMap<&str, &Package> {
        let mut shipped = BTreeMap::new();
        let mut open = vec![self.root.as_str()];
        while let Some(id) = open.pop() {
            if let Some(package) = self.all.get(id)
                && shipped.insert(id, package).is_none()
            {
                open.extend(package.links.iter().map(String::as_str));
            }
        }
        shipped
    }

    /// What others wrote of it.
    pub fn third_party(&self) -> Vec<&Package> {
        let shipped = self.shipped().into_values();
        shipped.filter(|package| package.source.is_some()).collect()
    }
}

fn output(folder: &Path, program: &str, args: &[&str]) -> Result<String, String> {
    let output = Command::new(program)
        .args(args)
        .current_dir(folder)
        .output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    String::from_utf8(output.stdout).map_err(|error| error.to_string())
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn package_of(read: &Value) -> Option<Package> {
    let manifest = PathBuf::from(text(&read["manifest_path"])?);
    Some(Package {
        id: text(&read["id"])?,
        name: text(&read["name"])?,
        version: text(&read["version"])?,
        licence: text(&read["license"]).unwrap_or_default(),
        source: text(&read["source"]),
        repository: text(&read["repository"]),
        folder: manifest.parent().map_or_else(PathBuf::new, Path::to_owned),
        links: BTreeSet::new(),
    })
}

/// What a node of the graph links: a dependency of no kind is a normal one.
fn linked(node: &Value) -> BTreeSet<String> {
    let normal = |dep: &&Value| list(&dep["dep_kinds"]).iter().any(|k| k["kind"].is_null());
    let deps = list(&node["deps"]).iter().filter(normal);
    deps.filter_map(|dep| text(&dep["pkg"])).collect()
}

/// The checksums of a lock file.
fn checksums(lock: &str) -> BTreeMap<(String, String), String> {
    let field = |package: &str, name: &str| {
        let start = format!("{name} = \"");
        let line = package.lines().find_map(|line| line.strip_prefix(&start))?;
        line.strip_suffix('"').map(str::to_owned)
    };
    let packages = lock.split("[[package]]").skip(1);
    let one = |package: &str| {
        let place = (field(package, "name")?, field(package, "version")?);
        Some((place, field(package, "checksum")?))
    };
    packages.filter_map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_linked_is_shipped() {
        let package = |name: &str| {
            format!(
                r#"{{"id":"{name}","name":"{name}","version":"1.0.0","license":"MIT","source":"r","manifest_path":"/x/{name}/Cargo.toml"}}"#
            )
        };
        let names = ["root", "linked", "deep", "builder", "tester"];
        let packages: Vec<String> = names.iter().map(|name| package(name)).collect();
        let metadata = format!(
            r#"{{"packages":[{}],"resolve":{{"root":"root","nodes":[
                {{"id":"root","deps":[
                    {{"pkg":"linked","dep_kinds":[{{"kind":null}}]}},
                    {{"pkg":"builder","dep_kinds":[{{"kind":"build"}}]}},
                    {{"pkg":"tester","dep_kinds":[{{"kind":"dev"}}]}}]}},
                {{"id":"linked","deps":[{{"pkg":"deep","dep_kinds":[{{"kind":"dev"}},{{"kind":null}}]}}]}}]}}}}"#,
            packages.join(",")
        );
        let lock = "[[package]]\nname = \"deep\"\nversion = \"1.0.0\"\nchecksum = \"ab\"\n";
        let supply = Supply::read(&metadata, lock).expect("it can be read");
        let shipped: Vec<&str> = supply.shipped().into_keys().collect();
        assert_eq!(shipped, ["deep", "linked", "root"]);
        let deep = ("deep".to_owned(), "1.0.0".to_owned());
        assert_eq!(supply.checksums, BTreeMap::from([(deep, "ab".to_owned())]));
        assert!(Supply::read("{}", "").is_err());
        assert!(Supply::read("no", "").is_err());
    }
}
