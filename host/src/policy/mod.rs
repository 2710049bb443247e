//! Decides what may run, from values alone.
//!
//! Promises: nothing is allowed until a rule allows it; each decision names its rules; a [`Call`] exists only because
//! [`authorize`] made it. Policy is data: a file that an operator writes ([`Policy::parse`]).

mod about;
mod authorize;
mod call;
mod explain;
mod file;
mod intersect;

pub use about::{About, about, may_touch_same};
pub use authorize::{Approval, Decision, RunGrant, authorize, effect, mounts};
pub use call::Call;
pub use explain::{Answer, ChangedLimit, Edit, Explanation, Matching, Opened, Request, Verdict, explain};
pub use file::{ApprovalRule, Capability, FileRule, HttpRule, Policy, Rule, SecretRule};
