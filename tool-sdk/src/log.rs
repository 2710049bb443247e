//! Lines for the operator. The host caps their number and size.
//!
//! Natively they go to [`testing::logs`](crate::testing::logs). In a component, using them imports
//! `cofferdam:tool/log`.

/// How much a line matters, from least to most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
}

/// Writes one line at a level.
#[cfg(target_arch = "wasm32")]
pub fn write(level: Level, message: impl AsRef<str>) {
    use crate::bindings::cofferdam::tool::log;
    let level = match level {
        Level::Trace => log::Level::Trace,
        Level::Debug => log::Level::Debug,
        Level::Info => log::Level::Info,
        Level::Warn => log::Level::Warn,
        Level::Error => log::Level::Error,
    };
    log::write(level, message.as_ref());
}

/// Writes one line at a level.
#[cfg(not(target_arch = "wasm32"))]
pub fn write(level: Level, message: impl AsRef<str>) {
    crate::testing::record(|heard| heard.logs.push((level, message.as_ref().to_owned())));
}

/// Writes a line at [`Level::Trace`].
pub fn trace(message: impl AsRef<str>) {
    write(Level::Trace, message);
}

/// Writes a line at [`Level::Debug`].
pub fn debug(message: impl AsRef<str>) {
    write(Level::Debug, message);
}

/// Writes a line at [`Level::Info`].
pub fn info(message: impl AsRef<str>) {
    write(Level::Info, message);
}

/// Writes a line at [`Level::Warn`].
pub fn warn(message: impl AsRef<str>) {
    write(Level::Warn, message);
}

/// Writes a line at [`Level::Error`].
pub fn error(message: impl AsRef<str>) {
    write(Level::Error, message);
}
