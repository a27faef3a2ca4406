//! `anomalyd-supply FOLDER`: writes `anomalyd.cdx.json` and `THIRD-PARTY-NOTICES.txt` there, for the platform that it runs on.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anomalyd_supply::{Supply, notices, sbom};

fn main() -> ExitCode {
    match write() {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("anomalyd-supply: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn write() -> Result<(), String> {
    let folder = std::env::args_os().nth(1).map(PathBuf::from);
    let folder = folder.ok_or("say in which folder")?;
    let supply = Supply::of_build(Path::new("."))?;
    let sbom = serde_json::to_string_pretty(&sbom(&supply)).map_err(|error| error.to_string())?;
    let put = |name: &str, text: String| {
        let path = folder.join(name);
        std::fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))
    };
    put("anomalyd.cdx.json", sbom + "\n")?;
    put("THIRD-PARTY-NOTICES.txt", notices(&supply)?)
}
