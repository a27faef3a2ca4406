//! `anomalyd validate`: the configuration was loaded and checked on the way here; what is left is to say so, and to ask Kafka.

use super::args::ValidateArgs;
use super::exit::Failure;
use super::output::print;
use crate::config::Config;

pub(super) fn run(configs: &[Config], arguments: &ValidateArgs) -> Result<(), Failure> {
    let notes = if arguments.connect {
        super::topics::check(configs)?
    } else {
        Vec::new()
    };
    if arguments.show {
        return configs.iter().try_for_each(|config| print(&config.shown));
    }
    let asked = if arguments.connect {
        ", and Kafka is ready for it"
    } else {
        ""
    };
    configs.iter().try_for_each(|config| {
        print(&format!(
            "configuration is valid{asked} (detector \"{}\", digest {})\n",
            config.name,
            config.digest()
        ))
    })?;
    notes
        .iter()
        .try_for_each(|note| print(&format!("{note}\n")))
}
