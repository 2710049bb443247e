//! The languages that model servers speak.

use std::fmt;
use std::str::FromStr;

use super::super::prompt::Dialect;

/// What a model server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// `POST /chat/completions`: OpenAI's own, and what vLLM, llama.cpp, LM Studio and many others speak as well.
    OpenaiChat,
    /// `POST /responses` of OpenAI.
    OpenaiResponses,
    /// `POST /messages` of Anthropic.
    Anthropic,
    /// `POST /models/NAME:streamGenerateContent` of Google.
    Gemini,
    /// Ollama, by its chat completions: its own `/api/chat` is not asked, as the client leaves the schema out there.
    Ollama,
}

impl Protocol {
    /// All of them, as they are written.
    pub const ALL: [Self; 5] = [Self::OpenaiChat, Self::OpenaiResponses, Self::Anthropic, Self::Gemini, Self::Ollama];

    /// Returns the name that settings and flags use.
    pub fn name(self) -> &'static str {
        match self {
            Self::OpenaiChat => "openai-chat",
            Self::OpenaiResponses => "openai-responses",
            Self::Anthropic => "anthropic",
            Self::Gemini => "gemini",
            Self::Ollama => "ollama",
        }
    }

    /// Returns where the provider itself serves it.
    pub fn base_url(self) -> &'static str {
        match self {
            Self::OpenaiChat | Self::OpenaiResponses => "https://api.openai.com/v1",
            Self::Anthropic => "https://api.anthropic.com/v1",
            Self::Gemini => "https://generativelanguage.googleapis.com/v1beta",
            Self::Ollama => "http://localhost:11434/v1",
        }
    }

    /// Returns the temperature that `model` is asked with where nobody says one; `None` for the provider's own.
    ///
    /// 0 gives the same reply to the same request as far as a model can. Models that reason before they speak refuse to be
    /// told, and so do the newer ones of Anthropic; those of Google get worse.
    pub fn temperature(self, model: &str) -> Option<f64> {
        (matches!(self, Self::OpenaiChat | Self::Ollama) && !reasons(model)).then_some(0.0)
    }

    /// Returns what its servers take of JSON Schema.
    pub(super) fn dialect(self) -> Dialect {
        match self {
            Self::OpenaiChat | Self::OpenaiResponses | Self::Ollama => Dialect::Strict,
            Self::Anthropic => Dialect::Anthropic,
            Self::Gemini => Dialect::Gemini,
        }
    }

    /// Returns how many tokens a provider may count for a request beyond its bytes: what marks roles and the start of the
    /// reply, and what it tells its model of the format by itself. No tokenizer makes more than one token of a byte.
    pub(super) fn overhead_tokens(self) -> u64 {
        match self {
            Self::OpenaiChat | Self::OpenaiResponses | Self::Ollama | Self::Gemini => OVERHEAD_TOKENS,
            Self::Anthropic => ANTHROPIC_OVERHEAD_TOKENS,
        }
    }
}

/// Answers whether `model` is one of OpenAI's that reason before they speak, behind whichever gateway and however tuned:
/// `openai/o4-mini`, `ft:o4-mini:org::id`.
pub(super) fn reasons(model: &str) -> bool {
    let name = model.rsplit_once('/').map_or(model, |(_, name)| name);
    let name = name.strip_prefix("ft:").unwrap_or(name);
    ["o1", "o3", "o4", "gpt-5", "gpt-6"].iter().any(|start| name.starts_with(start))
}

/// Tokens that a provider adds to a request: a dozen for roles, and a few hundred words on the format at most.
const OVERHEAD_TOKENS: u64 = 512;

/// Those of Anthropic, which writes a system prompt of its own around a format.
const ANTHROPIC_OVERHEAD_TOKENS: u64 = 2_048;

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Protocol {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|protocol| protocol.name() == text).ok_or_else(|| {
            let names: Vec<_> = Self::ALL.iter().map(|protocol| format!("`{protocol}`")).collect();
            format!("a protocol is one of {}", names.join(", "))
        })
    }
}
