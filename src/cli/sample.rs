//! `sample`: synthetic records from a generative model, and how like real ones they are.

use std::io::{self, Write as _};

use super::args::SampleArgs;
use super::exit::Failure;
use crate::offline::sample::{self, Request, SampleError};
use crate::seed::Seed;

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
    let mut out = io::stderr().lock();
    let (real, synthetic) = fidelity.rows;
    writeln!(
        out,
        "compared with {real} real records: {synthetic} synthetic ones"
    )?;
    for (feature, distance) in &fidelity.features {
        writeln!(
            out,
            "  {feature:<32} Kolmogorov-Smirnov distance {distance:.3}"
        )?;
    }
    writeln!(
        out,
        "  mean difference of correlations {:.3}",
        fidelity.correlation
    )?;
    writeln!(
        out,
        "  a linear judge tells them apart with AUC {:.3} (0.5: not at all)",
        fidelity.judge
    )?;
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
