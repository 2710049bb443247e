//! By which fixed texts a run was planned.

use serde::{Deserialize, Serialize};

use crate::domain::{Digest, Failure, RunId};
use crate::host::Host;
use crate::planner::prompts;

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

/// The part of a request that is looked at here: what else stands in it is nothing to this.
#[derive(Deserialize)]
struct Asked {
    prompt: Option<Digest>,
}

/// Looks up the text that stood in the last request; `None` where no text was read, or the request is erased.
pub(super) async fn used(host: &Host, run: &RunId, pack: Option<Digest>) -> Result<Option<PromptUsed>, Failure> {
    let Some(pack) = pack else { return Ok(None) };
    let bytes = host.0.parts.log.payload(run, &pack).await?;
    let asked = bytes.and_then(|bytes| serde_json::from_slice::<Asked>(&bytes).ok());
    Ok(asked.and_then(|asked| asked.prompt).map(PromptUsed::of))
}
