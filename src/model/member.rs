//! One member of an ensemble, as the configuration writes it: `kind[:option[=value]]…`.

use std::fmt;
use std::str::FromStr;

/// A kind with the options that set it apart from the ensemble's other members.
#[derive(Clone, Debug, PartialEq)]
pub struct MemberSpec {
    /// The kind's name.
    pub kind: String,
    /// `last=N`: it sees only the newest N records of the window. `None`: all.
    pub last: Option<usize>,
    /// `weight=X`: its share in the mean, beside the others' 1.
    pub weight: f32,
    /// `trim=X`: it is trained without this share of the rows, those that the members without `trim` find strangest.
    pub trim: Option<f32>,
    /// `neighbours=K`: how many nearest rows it looks at. `None`: as many as `model.knn.neighbours` says.
    pub neighbours: Option<usize>,
    /// `variance=X`: the share of the variance that its components keep. `None`: as `model.pca.variance` says.
    pub variance: Option<f64>,
    /// `gauss`: it sees each input's normal score instead of its value.
    pub gauss: bool,
}

impl FromStr for MemberSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.split(':');
        let kind = parts.next().unwrap_or_default().to_owned();
        let mut member = Self {
            kind,
            last: None,
            weight: 1.0,
            trim: None,
            neighbours: None,
            variance: None,
            gauss: false,
        };
        for part in parts {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let number = |low: f64, high: f64| {
                let found = value
                    .parse::<f64>()
                    .ok()
                    .filter(|x| (low..=high).contains(x));
                found.ok_or_else(|| {
                    format!("needs `{name}` between {low} and {high}, but `{text}` has `{value}`")
                })
            };
            match name {
                "last" => member.last = Some(number(1.0, 1024.0)? as usize),
                "weight" => member.weight = number(0.001, 1000.0)? as f32,
                "neighbours" => member.neighbours = Some(number(1.0, 100.0)? as usize),
                "trim" => member.trim = Some(number(0.0, 0.5)? as f32),
                "variance" => member.variance = Some(number(0.01, 0.9999)?),
                "gauss" if value.is_empty() => member.gauss = true,
                _ => {
                    return Err(format!(
                        "takes the options last=, weight=, trim=, neighbours=, variance= and gauss, but `{text}` has `{part}`"
                    ));
                }
            }
        }
        Ok(member)
    }
}

impl fmt::Display for MemberSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.kind)?;
        if let Some(last) = self.last {
            write!(f, ":last={last}")?;
        }
        if self.gauss {
            f.write_str(":gauss")?;
        }
        if let Some(trim) = self.trim {
            write!(f, ":trim={trim}")?;
        }
        if let Some(neighbours) = self.neighbours {
            write!(f, ":neighbours={neighbours}")?;
        }
        if let Some(variance) = self.variance {
            write!(f, ":variance={variance}")?;
        }
        if (self.weight - 1.0).abs() > f32::EPSILON {
            write!(f, ":weight={}", self.weight)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes_members() {
        for text in [
            "pca",
            "knn:gauss:trim=0.2",
            "linkage:gauss:neighbours=1",
            "pca:last=5:weight=0.5",
            "pca:last=5:variance=0.98",
        ] {
            assert_eq!(text.parse::<MemberSpec>().unwrap().to_string(), text);
        }
        let member: MemberSpec = "knn:gauss:trim=0.2".parse().unwrap();
        assert_eq!(
            (member.gauss, member.trim, member.last),
            (true, Some(0.2), None)
        );
        for text in [
            "pca:first=2",
            "pca:last=0",
            "pca:weight=NaN",
            "knn:trim=0.9",
            "pca:variance=1",
            "knn:gauss=1",
        ] {
            assert!(
                text.parse::<MemberSpec>().unwrap_err().contains(text),
                "{text}"
            );
        }
    }
}
