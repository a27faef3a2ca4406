//! Numbers of variable length, as Avro and Protobuf write them: seven bits a byte, the lowest first.

/// A number, byte by byte.
pub(super) fn read(
    mut next: impl FnMut() -> Result<u8, &'static str>,
) -> Result<u64, &'static str> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let byte = next()?;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err("has a number of more than ten bytes")
}

/// A number with a sign, which is written in its lowest bit.
pub(super) fn zigzag(number: u64) -> i64 {
    (number >> 1) as i64 ^ -((number & 1) as i64)
}
