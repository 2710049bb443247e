//! For whom a run acts.

use serde::{Deserialize, Serialize};

/// The tenant and user for whom a run acts, and the session it belongs to. Part of every key under which something
/// is kept or shared, so that nothing passes from one to another.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Principal {
    pub tenant: String,
    pub user: String,
    pub session: String,
}

impl Principal {
    /// Returns the key under which this user's payloads are sealed.
    pub fn owner(&self) -> String {
        format!("{}/{}", self.tenant, self.user)
    }
}

impl Default for Principal {
    /// The one person at a machine: everything is `local`.
    fn default() -> Self {
        Self { tenant: "local".into(), user: "local".into(), session: "local".into() }
    }
}
