//! Decides what may run, from values alone.
//!
//! Promises: nothing is allowed until a rule allows it; each decision names its rules; a [`Call`] exists only because
//! [`authorize`] made it. Policy is data: a file that an operator writes ([`Policy::parse`]).

mod about;
mod authorize;
mod call;
mod explain;
mod explanation;
mod file;
mod intersect;
mod quota;
mod request;
mod terms;

pub use about::{About, about, may_touch_same};
pub use authorize::{Approval, Decision, RunGrant, authorize, effect, mounts};
pub use call::Call;
pub use explain::explain;
pub use explanation::{Answer, ChangedLimit, Edit, Explanation, Matching, Opened, OpenedSecret, Verdict};
pub use file::{ApprovalRule, Capability, FileRule, HttpRule, Policy, Rule, SecretRule, TaintRule};
pub use quota::{STATE_QUOTA_CEILING, STATE_QUOTA_DEFAULT, StateRule};
pub use request::Request;
pub use terms::{APPROVAL_EXPIRES_MS_DEFAULT, APPROVAL_EXPIRES_MS_MAX, LowerRule, Terms, terms};
