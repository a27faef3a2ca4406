//! What is remembered of features that records lack, as bytes.

use super::super::state::ABSENCE;
use super::{Reader, Writer};
use crate::detect::absence::{Absence, Absences};

impl Writer {
    pub(super) fn absences(&mut self, absences: &Absences) {
        self.u64(absences.columns.len() as u64);
        for absence in &absences.columns {
            for count in [absence.run, absence.longest, absence.seen] {
                self.0.extend_from_slice(&count.to_le_bytes());
            }
            self.i64(absence.first.0.0);
            self.i64(absence.first.1.0);
            self.u8(u8::from(absence.open));
            self.u8(u8::from(absence.suppressed));
        }
    }
}

impl Reader<'_> {
    fn u32(&mut self) -> Option<u32> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_le_bytes(*bytes))
    }
    pub(super) fn absences(&mut self) -> Option<Absences> {
        let mut columns = Vec::new();
        for _ in 0..self.len(ABSENCE)? {
            columns.push(Absence {
                run: self.u32()?,
                longest: self.u32()?,
                seen: self.u32()?,
                first: (self.offset()?, self.time()?),
                open: self.flag()?,
                suppressed: self.flag()?,
            });
        }
        Some(Absences { columns })
    }
}
