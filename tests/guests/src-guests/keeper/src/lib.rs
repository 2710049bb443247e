//! `keeper`: keeps and loses what a test asks for, in each kind of state.

use cofferdam_tool_sdk::prelude::*;

/// Keeps state.
#[tools]
mod keeper {
    use cofferdam_tool_sdk::state::{session, user, workflow};

    /// What a step does.
    #[derive(ToolType)]
    pub struct Step {
        /// `set`, `get`, `delete`, `keys` or `flood`.
        pub verb: String,
        pub key: String,
        /// What to set; how often to flood.
        pub value: Option<String>,
    }

    macro_rules! kept {
        ($scope:ident, $steps:ident) => {
            $steps
                .into_iter()
                .map(|step| match step.verb.as_str() {
                    "set" => told($scope::set(&step.key, &step.value).map(|()| "kept".to_owned())),
                    "get" => told($scope::get::<String>(&step.key).map(|value| value.unwrap_or("nothing".to_owned()))),
                    "delete" => told($scope::delete(&step.key).map(|was_there| was_there.to_string())),
                    "keys" => told($scope::keys(&step.key).map(|keys| format!("{} {}", keys.len(), keys.join(",")))),
                    "flood" => {
                        let times: u32 = step.value.and_then(|times| times.parse().ok()).unwrap_or_default();
                        let refused = (0..times).filter(|n| $scope::set(&format!("{}{n}", step.key), n).is_err());
                        format!("{} refused", refused.count())
                    }
                    _ => "there is no such verb".to_owned(),
                })
                .collect()
        };
    }

    /// Keeps it for the session.
    #[tool(asks("state.session"))]
    pub fn in_session(steps: Vec<Step>) -> Vec<String> {
        kept!(session, steps)
    }

    /// Keeps it for the user.
    #[tool(asks("state.user", "env", "secrets"))]
    pub fn in_user(steps: Vec<Step>) -> Vec<String> {
        kept!(user, steps)
    }

    /// Keeps it for the run.
    #[tool(asks("state.workflow"))]
    pub fn in_workflow(steps: Vec<Step>) -> Vec<String> {
        kept!(workflow, steps)
    }

    /// Reaches for the user's state, and asks for the session's.
    #[tool(asks("state.session"))]
    pub fn reach() -> Vec<String> {
        let steps = [Step { verb: "get".to_owned(), key: "a".to_owned(), value: None }];
        kept!(user, steps)
    }

    /// Keeps the value of a variable for the user.
    #[tool(asks("state.user", "env", "secrets"))]
    pub fn hide(variable: String) -> Vec<String> {
        let value = Some(std::env::var(variable).unwrap_or_default());
        let steps = [Step { verb: "set".to_owned(), key: "hidden".to_owned(), value }];
        kept!(user, steps)
    }

    fn told(result: Result<String, ToolError>) -> String {
        result.unwrap_or_else(|error| error.code)
    }
}
