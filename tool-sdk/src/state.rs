//! What a tool keeps between calls: for the session, for the user, or for the run (the workflow) that a call belongs to.
//!
//! Values are anything that serde writes as JSON. A tool asks for each kind by itself, with `asks("state.user")`, and the
//! operator's policy gives it with a quota; in a component, using one imports its interface `cofferdam:tool/state-…`. What is
//! set is kept at once, whatever becomes of the call. Natively it is kept per thread, until
//! [`testing::forget_state`](crate::testing::forget_state).
//!
//! ```
//! use cofferdam_tool_sdk::state::user;
//!
//! user::set("visits", &3_u32)?;
//! assert_eq!(user::get::<u32>("visits")?, Some(3));
//! assert_eq!(user::keys("vis")?, ["visits"]);
//! assert!(user::delete("visits")?);
//! assert_eq!(user::get::<u32>("visits")?, None);
//! # Ok::<(), cofferdam_tool_sdk::ToolError>(())
//! ```

use crate::ToolError;

/// Bytes of a key.
pub const KEY_BYTES_MAX: usize = 256;

/// Keys that the host is asked for at a time.
#[cfg(target_arch = "wasm32")]
const PAGE_KEYS_MAX: u32 = 1_000;

/// Why the host did not do what it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    Key,
    TooLarge,
    Full,
    #[cfg_attr(not(target_arch = "wasm32"), expect(dead_code, reason = "a test's own memory is always there"))]
    Unavailable,
}

impl Refusal {
    fn about(self, key: &str) -> ToolError {
        let error = match self {
            Self::Key => ToolError::new("state.key", format!("a key has from 1 to {KEY_BYTES_MAX} bytes")),
            Self::TooLarge => ToolError::new("state.too_large", "the value is larger than one may be"),
            Self::Full => ToolError::new("state.full", "there is no room for it"),
            Self::Unavailable => ToolError::transient("state.unavailable", "the host cannot reach what it keeps"),
        };
        error.about(format!("state `{key}`"))
    }
}

macro_rules! scopes {
    ($($(#[$doc:meta])* $name:ident: $binding:ident;)*) => {$(
        $(#[$doc])*
        pub mod $name {
            use serde::Serialize;
            use serde::de::DeserializeOwned;

            use crate::ToolError;

            /// Returns what is kept under `key`; `None` where there is nothing.
            ///
            /// # Errors
            /// `state.key`, `state.unavailable`; `state.form` where what is kept is no `T`.
            pub fn get<T: DeserializeOwned>(key: &str) -> Result<Option<T>, ToolError> {
                let bytes = host::get(key).map_err(|refusal| refusal.about(key))?;
                bytes.map(|bytes| super::read(key, &bytes)).transpose()
            }

            /// Keeps `value` under `key`, in place of what was there.
            ///
            /// # Errors
            /// `state.key`, `state.too_large`, `state.full`, `state.unavailable`; `state.form` where it has no JSON.
            pub fn set<T: Serialize + ?Sized>(key: &str, value: &T) -> Result<(), ToolError> {
                let bytes = super::written(key, value)?;
                host::set(key, &bytes).map_err(|refusal| refusal.about(key))
            }

            /// Forgets `key`, and returns whether there was something.
            ///
            /// # Errors
            /// `state.key`, `state.full`, `state.unavailable`.
            pub fn delete(key: &str) -> Result<bool, ToolError> {
                host::delete(key).map_err(|refusal| refusal.about(key))
            }

            /// Returns all keys that begin with `prefix`, in order of their bytes.
            ///
            /// # Errors
            /// `state.key`, `state.unavailable`.
            pub fn keys(prefix: &str) -> Result<Vec<String>, ToolError> {
                host::keys(prefix).map_err(|refusal| refusal.about(prefix))
            }

            #[cfg(target_arch = "wasm32")]
            mod host {
                use crate::bindings::cofferdam::tool::{$binding as host, state_types::Error};
                use crate::state::{PAGE_KEYS_MAX, Refusal};

                pub(super) fn get(key: &str) -> Result<Option<Vec<u8>>, Refusal> {
                    host::get(key).map_err(refusal)
                }

                pub(super) fn set(key: &str, value: &[u8]) -> Result<(), Refusal> {
                    host::set(key, value).map_err(refusal)
                }

                pub(super) fn delete(key: &str) -> Result<bool, Refusal> {
                    host::delete(key).map_err(refusal)
                }

                pub(super) fn keys(prefix: &str) -> Result<Vec<String>, Refusal> {
                    let mut keys: Vec<String> = Vec::new();
                    loop {
                        let page = host::keys(prefix, keys.last().map(String::as_str), PAGE_KEYS_MAX).map_err(refusal)?;
                        let is_last = page.len() < PAGE_KEYS_MAX as usize;
                        keys.extend(page);
                        if is_last {
                            return Ok(keys);
                        }
                    }
                }

                fn refusal(error: Error) -> Refusal {
                    match error {
                        Error::Key => Refusal::Key,
                        Error::TooLarge => Refusal::TooLarge,
                        Error::Full => Refusal::Full,
                        Error::Unavailable => Refusal::Unavailable,
                    }
                }
            }

            #[cfg(not(target_arch = "wasm32"))]
            mod host {
                use crate::state::Refusal;
                use crate::testing;

                const SCOPE: &str = stringify!($name);

                pub(super) fn get(key: &str) -> Result<Option<Vec<u8>>, Refusal> {
                    crate::state::check(key, &[])?;
                    Ok(testing::record(|stage| stage.state.get(&(SCOPE, key.to_owned())).cloned()))
                }

                pub(super) fn set(key: &str, value: &[u8]) -> Result<(), Refusal> {
                    crate::state::check(key, value)?;
                    let (key, value) = ((SCOPE, key.to_owned()), value.to_vec());
                    testing::record(|stage| stage.keep(key, value)).then_some(()).ok_or(Refusal::Full)
                }

                pub(super) fn delete(key: &str) -> Result<bool, Refusal> {
                    crate::state::check(key, &[])?;
                    Ok(testing::record(|stage| stage.state.remove(&(SCOPE, key.to_owned()))).is_some())
                }

                pub(super) fn keys(prefix: &str) -> Result<Vec<String>, Refusal> {
                    let is_meant = |(scope, key): &&(&str, String)| *scope == SCOPE && key.starts_with(prefix);
                    Ok(testing::record(|stage| stage.state.keys().filter(is_meant).map(|(_, key)| key.clone()).collect()))
                }
            }
        }
    )*};
}

scopes! {
    /// For the session of the user for whom the tool acts.
    session: state_session;
    /// For the user for whom the tool acts.
    user: state_user;
    /// For the run that the call belongs to.
    workflow: state_workflow;
}

/// Holds a test to the bounds that a host has by default.
#[cfg(not(target_arch = "wasm32"))]
fn check(key: &str, value: &[u8]) -> Result<(), Refusal> {
    /// Bytes of one value.
    const VALUE_BYTES_MAX: usize = 64 << 10;
    if !(1..=KEY_BYTES_MAX).contains(&key.len()) {
        return Err(Refusal::Key);
    }
    if value.len() > VALUE_BYTES_MAX { Err(Refusal::TooLarge) } else { Ok(()) }
}

fn read<T: serde::de::DeserializeOwned>(key: &str, bytes: &[u8]) -> Result<T, ToolError> {
    serde_json::from_slice(bytes).map_err(|error| form(key, &error))
}

fn written<T: serde::Serialize + ?Sized>(key: &str, value: &T) -> Result<Vec<u8>, ToolError> {
    serde_json::to_vec(value).map_err(|error| form(key, &error))
}

fn form(key: &str, error: &serde_json::Error) -> ToolError {
    ToolError::new("state.form", error.to_string()).about(format!("state `{key}`"))
}

#[cfg(test)]
mod tests {
    use super::{KEY_BYTES_MAX, session, user, workflow};
    use crate::testing;

    #[test]
    fn each_kind_of_state_is_its_own() {
        user::set("name", "Ann").unwrap();
        session::set("name", &[1, 2]).unwrap();
        assert_eq!(user::get::<String>("name").unwrap().as_deref(), Some("Ann"));
        assert_eq!(session::get::<Vec<u8>>("name").unwrap(), Some(vec![1, 2]));
        assert_eq!(workflow::get::<String>("name").unwrap(), None);
        testing::forget_state();
        assert_eq!(user::keys("").unwrap(), Vec::<String>::new());
    }

    #[test]
    fn keys_are_listed_by_prefix_in_order() {
        for key in ["b/2", "a", "b/1", "c"] {
            workflow::set(key, &()).unwrap();
        }
        assert_eq!(workflow::keys("b/").unwrap(), ["b/1", "b/2"]);
        assert!(workflow::delete("b/1").unwrap() && !workflow::delete("b/1").unwrap());
    }

    #[test]
    fn mistakes_have_codes() {
        assert_eq!(user::set("", &1).unwrap_err().code, "state.key");
        assert_eq!(user::get::<u8>(&"k".repeat(KEY_BYTES_MAX + 1)).unwrap_err().code, "state.key");
        assert_eq!(user::set("k", &"x".repeat(64 << 10)).unwrap_err().code, "state.too_large");
        user::set("k", "text").unwrap();
        assert_eq!(user::get::<u8>("k").unwrap_err().code, "state.form");
        testing::set_state_keys_max(1);
        assert_eq!(user::set("l", "text").unwrap_err().code, "state.full");
        user::set("k", "more").unwrap();
    }
}
