//! Tokens for SASL OAUTHBEARER. The bindings take one only when a client is polled, which those for administration are never, and without
//! extensions.

use std::ffi::{CStr, CString, c_char};

use rdkafka::bindings as sys;
use rdkafka::client::{Client, ClientContext};
use rdkafka::error::IsError as _;

/// What a client says who it is by.
#[derive(Clone, Copy)]
pub struct Token<'a> {
    /// As it is sent.
    pub value: &'a str,
    /// Whose it is.
    pub principal: &'a str,
    /// Until when it is good, in ms since the epoch.
    pub expires_at: i64,
    /// What is sent beside it (RFC 7628, section 3.1).
    pub extensions: &'a [(String, String)],
}

/// Has `client` use `token` from now on. Its connections that wait for one go on.
///
/// # Errors
/// What librdkafka has against it: it has expired, it or an extension has characters that cannot be sent, or the client does not use OAUTHBEARER.
pub fn set_token<C: ClientContext>(client: &Client<C>, token: Token<'_>) -> Result<(), String> {
    let text = |text: &str| CString::new(text).map_err(|_| "a NUL character".to_owned());
    let (value, principal) = (text(token.value)?, text(token.principal)?);
    let pairs = token
        .extensions
        .iter()
        .flat_map(|(name, value)| [name, value]);
    let pairs = pairs
        .map(|part| text(part))
        .collect::<Result<Vec<_>, _>>()?;
    let mut pointers: Vec<*const c_char> = pairs.iter().map(|part| part.as_ptr()).collect();
    let mut problem: [c_char; 256] = [0; 256];
    // SAFETY: `client` outlives this call, and so do all strings and the array of those in `pairs`, which librdkafka copies; it writes at most as
    // much into `problem` as that is long.
    let code = unsafe {
        sys::rd_kafka_oauthbearer_set_token(
            client.native_ptr(),
            value.as_ptr(),
            token.expires_at,
            principal.as_ptr(),
            pointers.as_mut_ptr(),
            pointers.len(),
            problem.as_mut_ptr(),
            problem.len(),
        )
    };
    if !code.is_error() {
        return Ok(());
    }
    // SAFETY: it was filled with zeros and what librdkafka writes ends with one.
    let problem = unsafe { CStr::from_ptr(problem.as_ptr()) };
    Err(problem.to_string_lossy().into_owned())
}
