//! Signs of life for whoever is waiting.
//!
//! Natively they go to [`testing::progress`](crate::testing::progress). In a component, using them imports
//! `cofferdam:tool/progress`.

/// Tells how far the call has come: a fraction from 0.0 to 1.0, or `None` when the end is not known.
pub fn report(fraction: impl Into<Option<f64>>, message: impl AsRef<str>) {
    let (fraction, message) = (fraction.into(), message.as_ref());
    #[cfg(target_arch = "wasm32")]
    crate::bindings::cofferdam::tool::progress::report(fraction, message);
    #[cfg(not(target_arch = "wasm32"))]
    crate::testing::record(|heard| heard.progress.push((fraction, message.to_owned())));
}
