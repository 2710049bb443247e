//! By which fixed texts a run was planned.

use serde::Serialize;

use crate::domain::{Digest, Failure, RunId};
use crate::host::Host;
use crate::planner::{ContextPack, prompts};

/// The fixed text that a planner read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PromptUsed {
    /// Such as `plan/2`; absent where the text is none of this program's.
    pub name: Option<String>,
    pub digest: Digest,
}

impl PromptUsed {
    /// Names the text of a digest.
    pub(super) fn of(digest: Digest) -> Self {
        let name = prompts::of_digest(&digest).map(|prompt| format!("{}/{}", prompt.id, prompt.version));
        Self { name, digest }
    }
}

/// Looks up the text that stood in the last request; `None` where no text was read, or the request is erased.
pub(super) async fn used(host: &Host, run: &RunId, pack: Option<Digest>) -> Result<Option<PromptUsed>, Failure> {
    let Some(pack) = pack else { return Ok(None) };
    let pack: Option<ContextPack> = host.json(run, &pack).await?;
    Ok(pack.and_then(|pack| pack.prompt).map(PromptUsed::of))
}
