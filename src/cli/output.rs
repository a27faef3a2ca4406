//! Standard output, and standard error for what is said beside it.

use std::io::{self, Write as _};

use super::exit::Failure;

/// Writes to standard output. A reader that went away, as `| head` does, is no failure.
pub(super) fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// Writes to standard error, where nobody may be listening.
pub(super) fn say(text: &str) {
    drop(io::stderr().write_all(text.as_bytes()));
}
