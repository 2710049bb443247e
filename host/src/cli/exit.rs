//! Exit codes: one table for `--help`, one total function over failures, one over ends of runs.

use std::process::ExitCode;

use crate::domain::{Kind, Suspension};
use crate::host::{RunReport, RunState};

/// An exit code, one of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code(u8);

impl Code {
    pub const SUCCEEDED: Self = Self(0);
    pub const FAILED: Self = Self(1);
    pub const USAGE: Self = Self(2);
    pub const CONFIG: Self = Self(3);
    pub const DENIED: Self = Self(4);
    pub const SUSPENDED: Self = Self(5);
    pub const CANCELLED: Self = Self(6);
    pub const BUDGET: Self = Self(7);
    pub const OWNED: Self = Self(8);
    pub const CAVEATS: Self = Self(9);
    pub const STUCK: Self = Self(10);
    pub const INTERNAL: Self = Self(70);

    /// Returns the number that the process ends with.
    pub const fn number(self) -> u8 {
        self.0
    }
}

impl From<Code> for ExitCode {
    fn from(code: Code) -> Self {
        Self::from(code.0)
    }
}

/// Every code and what it means; `docs/cli.md` says the same.
pub const TABLE: [(Code, &str); 12] = [
    (Code::SUCCEEDED, "it succeeded"),
    (Code::FAILED, "the run, the tool or the model failed; a component is not fit to load"),
    (Code::USAGE, "the command line is wrong, or names something that is not there"),
    (Code::CONFIG, "cofferdam.toml, the policy or the workflow file is wrong"),
    (Code::DENIED, "policy denied it, or a person rejected it"),
    (Code::SUSPENDED, "the run waits: a person must act"),
    (Code::CANCELLED, "the run was cancelled"),
    (Code::BUDGET, "the budget is used up"),
    (Code::OWNED, "another process owns the run"),
    (Code::CAVEATS, "the run succeeded with caveats, and `--strict` was given"),
    (Code::STUCK, "the run is stuck: a person must take back what could not be"),
    (Code::INTERNAL, "the machine or Cofferdam itself failed"),
];

/// Returns the table as `--help` shows it.
pub(super) fn table() -> String {
    let rows = TABLE.iter().map(|(code, meaning)| format!("  {:>2}  {meaning}\n", code.0));
    format!("Exit codes:\n{}", rows.collect::<String>())
}

/// Returns the code of a command that failed with `kind`.
pub fn of_kind(kind: Kind) -> Code {
    match kind {
        Kind::ModelRefusal | Kind::ModelInvalidJson | Kind::ModelSchema | Kind::ModelNoAction => Code::FAILED,
        Kind::ModelTruncated | Kind::ModelContextOverflow | Kind::ModelLoop => Code::FAILED,
        Kind::ToolContract | Kind::ToolTrap | Kind::ToolExit | Kind::ToolFuel | Kind::ToolDeadline => Code::FAILED,
        Kind::ToolMemory | Kind::ToolStack | Kind::ToolTable | Kind::ToolHandles | Kind::ToolHostCalls => Code::FAILED,
        Kind::ToolHostCallBytes | Kind::ToolOutput | Kind::ToolDeclared => Code::FAILED,
        Kind::NetworkDns | Kind::NetworkConnect | Kind::NetworkTimeout | Kind::NetworkRateLimited => Code::FAILED,
        Kind::NetworkHttp4xx | Kind::NetworkHttp5xx | Kind::NetworkCut | Kind::NetworkTls => Code::FAILED,
        Kind::NetworkCircuitOpen => Code::FAILED,
        Kind::DataPlan | Kind::DataReference | Kind::DataCondition => Code::FAILED,
        Kind::LoadInvalid | Kind::LoadLimit | Kind::LoadAbi => Code::FAILED,
        Kind::DataInput | Kind::DataInputSize | Kind::DataNotFound | Kind::DataConflict => Code::USAGE,
        Kind::DataConfig => Code::CONFIG,
        Kind::PolicyDenied | Kind::PolicyRejected | Kind::PolicyExpired => Code::DENIED,
        Kind::LoadDenied | Kind::LoadPinned => Code::DENIED,
        Kind::PolicyBudget => Code::BUDGET,
        Kind::HostCancelled => Code::CANCELLED,
        Kind::HostOwned => Code::OWNED,
        Kind::HostFull | Kind::HostDiverged => Code::INTERNAL,
        Kind::HostStorage | Kind::HostBusy | Kind::HostInterrupted | Kind::HostBug => Code::INTERNAL,
    }
}

/// Returns the code of a command that followed a run to where it stands.
pub fn of_report(report: &RunReport) -> Code {
    match report.state {
        RunState::Succeeded | RunState::Session => Code::SUCCEEDED,
        RunState::Failed => report.failure.as_ref().map_or(Code::FAILED, |failure| of_failed_run(failure.kind)),
        RunState::Cancelled => Code::CANCELLED,
        RunState::BudgetExhausted => Code::BUDGET,
        RunState::Suspended(Suspension::Stuck) => Code::STUCK,
        RunState::Unreadable => Code::INTERNAL,
        // A run that stopped in the middle of its work goes on with `resume`, as one that waits does.
        RunState::Suspended(_) | RunState::Planning | RunState::Executing | RunState::Undoing => Code::SUSPENDED,
    }
}

/// Returns the code of a command that takes no success with caveats.
pub fn of_strict_report(report: &RunReport) -> Code {
    match of_report(report) {
        Code::SUCCEEDED if !report.caveats.is_empty() => Code::CAVEATS,
        code => code,
    }
}

/// A planner's mistake within a run is not one of the command line.
fn of_failed_run(kind: Kind) -> Code {
    match of_kind(kind) {
        Code::USAGE => Code::FAILED,
        code => code,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use serde_json::json;

    use crate::domain::Json;

    use super::*;

    #[test]
    fn every_kind_has_a_documented_code_that_is_not_success() {
        let documented: HashSet<_> = TABLE.iter().map(|(code, _)| code.number()).collect();
        assert_eq!(documented.len(), TABLE.len(), "codes are unique");
        for kind in Kind::ALL {
            let code = of_kind(*kind);
            assert!(code != Code::SUCCEEDED && documented.contains(&code.number()), "{kind}");
        }
    }

    #[test]
    fn the_page_of_failures_tells_each_with_its_codes() {
        let page = include_str!("../../../docs/architecture.md");
        let rows: Vec<_> = page.lines().filter(|line| line.starts_with("| `")).collect();
        for kind in Kind::ALL {
            let [fault, retry] = [json!(kind.fault()), json!(kind.retry())];
            let word = |value: &Json| value.as_str().unwrap_or_default().to_owned();
            let begin = format!(
                "| `{kind}` | `{}` | {} | {} | {} | {} | ",
                kind.short(),
                word(&fault),
                word(&retry),
                of_kind(*kind).number(),
                kind.http_status()
            );
            assert_eq!(
                rows.iter().filter(|row| row.starts_with(&begin)).count(),
                1,
                "docs/architecture.md lacks: {begin}"
            );
        }
        let is_of_kind = |row: &&&str| row.split('|').count() == 9;
        assert_eq!(rows.iter().filter(is_of_kind).count(), Kind::ALL.len(), "a row of a kind that there is not");
    }

    #[test]
    fn a_denied_step_shows_in_the_code_and_a_planners_slip_is_no_usage_error() {
        assert_eq!(of_failed_run(Kind::PolicyDenied), Code::DENIED);
        assert_eq!(of_failed_run(Kind::DataInput), Code::FAILED);
        assert_eq!(of_failed_run(Kind::ToolTrap), Code::FAILED);
    }

    #[test]
    fn the_page_lists_the_same_codes() {
        let page = include_str!("../../../docs/cli.md");
        for (code, meaning) in TABLE {
            assert!(page.contains(&format!("| {} | {meaning} |", code.number())), "{}", code.number());
        }
    }
}
