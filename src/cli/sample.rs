//! `sample`: synthetic records from a generative model, and how like real ones they are.

use std::io::{self, Write as _};

use super::args::SampleArgs;
use super::exit::Failure;
use crate::seed::Seed;
use crate::tools::sample::{self, Request, SampleError};

/// Draws, and says on standard error how like real records they are: standard output may be the records.
pub(super) fn run(arguments: &SampleArgs) -> Result<(), Failure> {
    let request = Request {
        model: arguments.model.clone(),
        n: arguments.rows,
        seed: Seed(arguments.seed),
        truncation: arguments.truncation,
        output: arguments.output.clone(),
        against: arguments.against.clone(),
    };
    let Some(fidelity) = sample::run(&request, &mut io::stdout().lock())? else {
        return Ok(());
    };
    writeln!(io::stderr().lock(), "{fidelity}")?;
    Ok(())
}

impl From<SampleError> for Failure {
    fn from(error: SampleError) -> Self {
        match error {
            SampleError::NotGenerative(_) => Self::Usage(error.to_string()),
            other => Self::Io(other.to_string()),
        }
    }
}
