//! Whether a licence can be lived with, by a list.

/// Licences under which the program may be passed on, with their notices.
pub const ALLOWED: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "MIT",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Whether an SPDX expression can be met with licences of [`ALLOWED`] alone. `/` is what older packages write for `OR`.
pub fn allowed(expression: &str) -> bool {
    let spaced = expression
        .replace('(', " ( ")
        .replace(')', " ) ")
        .replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = words.as_slice();
    either(&mut rest) == Some(true) && rest.is_empty()
}

/// `a OR b …`; `None` where it is not an expression.
fn either(rest: &mut &[&str]) -> Option<bool> {
    let mut met = both(rest)?;
    while let ["OR", after @ ..] = *rest {
        *rest = after;
        met |= both(rest)?;
    }
    Some(met)
}

/// `a AND b …`
fn both(rest: &mut &[&str]) -> Option<bool> {
    let mut met = one(rest)?;
    while let ["AND", after @ ..] = *rest {
        *rest = after;
        met &= one(rest)?;
    }
    Some(met)
}

fn one(rest: &mut &[&str]) -> Option<bool> {
    let (first, after) = rest.split_first()?;
    *rest = after;
    if *first == "(" {
        let met = either(rest)?;
        *rest = rest.strip_prefix(&[")"])?;
        return Some(met);
    }
    // An exception only gives more.
    if let ["WITH", _, after @ ..] = *rest {
        *rest = after;
    }
    (![")", "OR", "AND", "WITH"].contains(first)).then(|| ALLOWED.contains(first))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_licence_is_allowed_if_a_choice_of_it_is() {
        let fine = [
            "MIT",
            "MIT OR Apache-2.0",
            "MIT/Apache-2.0",
            "MIT OR GPL-3.0",
            "(MIT OR Apache-2.0) AND Unicode-3.0",
            "Apache-2.0 WITH LLVM-exception OR MIT",
        ];
        for expression in fine {
            assert!(allowed(expression), "{expression}");
        }
        let not = [
            "",
            "GPL-3.0",
            "MIT AND GPL-3.0",
            "(MIT OR Apache-2.0) AND LGPL-3.0",
            "MIT OR",
            "(MIT",
            "MIT)",
            "MIT Apache-2.0",
            "OR",
        ];
        for expression in not {
            assert!(!allowed(expression), "{expression}");
        }
    }
}
