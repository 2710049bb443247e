//! One model, ready to be asked: a request, what was heard, and what is made of it.

use std::sync::Arc;

use reqwest::Url;

use super::ear::Ear;
use super::faults::{self, Trouble};
use super::heard::{Finish, Heard};
use super::listen::{Broken, listen};
use super::{ModelOptions, options, request};
use crate::clock::Clock;
use crate::domain::{Failure, Kind, Tokens, printable};
use crate::planner::parse::{self, NativeCall, ReplyLimits};
use crate::planner::{Allowance, ContextPack, Planned, Proposal, Quote};

/// Bytes of an error's body that are kept: servers explain themselves in a few lines.
const ERROR_BYTES_MAX: usize = 64 << 10;

/// Characters of a server's own words that a failure's detail holds.
const DETAIL_CHARS_MAX: usize = 500;

/// Bytes that a token never has on average: a request of more than so many for each token that the model reads is not sent.
const BYTES_PER_TOKEN_MAX: u64 = 16;

/// What stands where a server has sent the key back.
const KEY_SENT_BACK: &str = "[the api key]";

/// A model that can be asked.
pub(super) struct Model {
    pub options: ModelOptions,
    url: Url,
    limits: ReplyLimits,
}

/// How one request went.
struct Exchange {
    heard: Heard,
    broken: Option<Broken>,
    had_events: bool,
    first_token_ms: Option<u64>,
    wall_ms: u64,
}

impl Model {
    /// Checks where and how it is to be asked.
    ///
    /// # Errors
    /// Those of [`ModelOptions::endpoint`].
    pub(super) fn new(options: ModelOptions) -> Result<Self, Failure> {
        let url = options.endpoint()?;
        Ok(Self { options, url, limits: ReplyLimits::default() })
    }

    pub(super) fn quote(&self, pack: &ContextPack) -> Quote {
        Quote {
            prompt_tokens_max: request::tokens_max(&self.options, pack),
            reply_tokens_max: self.options.reply_tokens_max,
            price: self.options.price.clone(),
            server: options::server(&self.url),
        }
    }

    /// Makes one request.
    pub(super) async fn plan(
        &self,
        client: &genai::Client,
        clock: &Arc<dyn Clock>,
        pack: &ContextPack,
        allowance: &Allowance,
    ) -> Planned {
        if let Some(failure) = self.overflow(pack) {
            return Planned::free(Err(failure), Vec::new());
        }
        let ear = Arc::new(Ear::new(self.options.protocol, clock.clone()));
        let broken = self.heard_out(client, &ear, pack, allowance).await.err();
        let moments = ear.moments();
        let exchange = Exchange {
            heard: ear.take(),
            broken,
            had_events: moments.last_ms.is_some(),
            first_token_ms: moments.first_ms.map(|ms| ms.saturating_sub(ear.started_ms)),
            wall_ms: ear.now_ms().saturating_sub(ear.started_ms),
        };
        self.planned(exchange, clock, pack)
    }

    async fn heard_out(
        &self,
        client: &genai::Client,
        ear: &Arc<Ear>,
        pack: &ContextPack,
        allowance: &Allowance,
    ) -> Result<(), Broken> {
        let options = request::options(&self.options, pack, allowance, ear);
        let target = request::target(&self.options, &self.url, allowance);
        let stream = client.exec_chat_stream(target, request::request(pack), Some(&options)).await;
        let stream = stream.map_err(|error| Broken::Failed(Box::new(error)))?;
        listen(stream.stream, ear, allowance).await
    }

    /// Refuses what no tokenizer makes short enough: it spares a request.
    fn overflow(&self, pack: &ContextPack) -> Option<Failure> {
        let context = self.options.context_tokens_max?;
        let bytes = request::tokens_max(&self.options, pack);
        (bytes / BYTES_PER_TOKEN_MAX > context).then(|| {
            let what = format!("a request of {bytes} bytes is more than {context} tokens");
            self.failure(Kind::ModelContextOverflow, &what).hint("offer fewer tools, or shorten the goal")
        })
    }

    fn planned(&self, exchange: Exchange, clock: &Arc<dyn Clock>, pack: &ContextPack) -> Planned {
        let heard = self.redacted_all(exchange.heard);
        let (first_token_ms, wall_ms) = (exchange.first_token_ms, exchange.wall_ms);
        let base = Planned {
            reasoning: Some(heard.reasoning.clone()).filter(|reasoning| !reasoning.is_empty()),
            tokens: self.tokens(&heard),
            model: heard.model.clone(),
            first_token_ms,
            wall_ms,
            ..Planned::free(Err(self.failure(Kind::HostBug, "nothing came of it")), said(&heard).into_bytes())
        };
        let base_url = &self.options.base_url;
        let trouble = match (exchange.broken, heard.fault.clone()) {
            // What a server said goes before what came of the connection then.
            (_, Some(fault)) => faults::of_fault(fault),
            // The model had ended, and so the reply is whole, whatever came after it, or did not.
            (_, None) if heard.finish.is_some() => {
                return Planned { reply: self.proposal(&heard, pack), ..base };
            }
            (Some(broken), None) => faults::of_broken(broken, clock.now(), base_url),
            (None, None) if exchange.had_events => faults::cut(),
            (None, None) => faults::no_stream(base_url),
        };
        self.failed(trouble, base)
    }

    /// The tokens of a reply that came whole: those of another are not all told.
    fn tokens(&self, heard: &Heard) -> Option<Tokens> {
        heard.finish.as_ref().and_then(|_| heard.counted.tokens())
    }

    fn failed(&self, trouble: Trouble, base: Planned) -> Planned {
        let failure = self.failure(trouble.kind.unwrap_or(Kind::HostBug), &self.redacted(&trouble.what));
        let failure = Failure { hint: trouble.hint.map(|hint| self.redacted(&hint)), ..failure };
        let detail: String = self.redacted(&trouble.detail).chars().take(DETAIL_CHARS_MAX).collect();
        let failure = if detail.is_empty() { failure } else { failure.detail(detail) };
        let tokens = if trouble.is_free { Some(Tokens::default()) } else { base.tokens };
        let raw = if base.raw.is_empty() { kept(self.redacted(&trouble.body), ERROR_BYTES_MAX) } else { base.raw };
        Planned { reply: Err(failure), raw, tokens, retry_after_ms: trouble.retry_after_ms, ..base }
    }

    fn proposal(&self, heard: &Heard, pack: &ContextPack) -> Result<Proposal, Failure> {
        if !heard.refusal.is_empty() {
            let detail: String = heard.refusal.chars().take(DETAIL_CHARS_MAX).collect();
            return Err(self.failure(Kind::ModelRefusal, "the model refused").detail(detail));
        }
        if let Some(why) = &heard.invalid {
            return Err(self.failure(Kind::ModelInvalidJson, &format!("the arguments of a call cannot be read: {why}")));
        }
        match &heard.finish {
            Some(Finish::Withheld(why)) => Err(self
                .failure(Kind::ModelRefusal, "the reply was withheld")
                .detail(why.chars().take(DETAIL_CHARS_MAX).collect::<String>())),
            Some(Finish::Cut) => Err(self
                .failure(Kind::ModelTruncated, "the reply was cut off by its length limit")
                .hint("reply with a shorter plan, or allow more tokens")),
            Some(Finish::Broken(why)) => Err(self
                .failure(Kind::NetworkCut, "its server broke the reply off")
                .detail(why.chars().take(DETAIL_CHARS_MAX).collect::<String>())),
            Some(Finish::Overflow) => Err(self
                .failure(Kind::ModelContextOverflow, "the request left no room for a reply")
                .hint("offer fewer tools, or shorten the goal")),
            Some(Finish::Malformed(why)) => Err(self
                .failure(Kind::ModelInvalidJson, "the model wrote a call that its provider cannot read")
                .hint("reply with one JSON object in place of calls")
                .detail(why.chars().take(DETAIL_CHARS_MAX).collect::<String>())),
            Some(Finish::Done) | None if said(heard).trim().is_empty() => {
                Err(self.failure(Kind::ModelNoAction, "it replied with nothing"))
            }
            Some(Finish::Done) | None => parse::read(&said(heard), pack, &self.limits),
        }
    }

    fn failure(&self, kind: Kind, what: &str) -> Failure {
        Failure::new(kind, format!("ask model `{}`: {what}", printable(&self.options.name)))
    }

    /// Takes the key out of a text that a server sent.
    fn redacted(&self, text: &str) -> String {
        match &self.options.api_key {
            Some(key) if text.contains(key.expose()) => text.replace(key.expose(), KEY_SENT_BACK),
            _ => text.to_owned(),
        }
    }

    /// Takes the key out of all that was heard: nothing of it is kept or told before.
    fn redacted_all(&self, mut heard: Heard) -> Heard {
        let texts = [&mut heard.text, &mut heard.refusal, &mut heard.reasoning].into_iter();
        let texts = texts.chain(&mut heard.model).chain(&mut heard.invalid);
        let calls = heard.calls.iter_mut().flat_map(|call| [&mut call.tool, &mut call.arguments]);
        texts.chain(calls).for_each(|text| *text = self.redacted(text));
        if let Some(Finish::Withheld(why) | Finish::Malformed(why) | Finish::Broken(why)) = &mut heard.finish {
            *why = self.redacted(why);
        }
        heard
    }
}

/// Returns what the model said, byte for byte; with its calls in a form that is read again as it is read now.
fn said(heard: &Heard) -> String {
    if !heard.refusal.is_empty() {
        return heard.refusal.clone();
    }
    if heard.calls.is_empty() {
        return heard.text.clone();
    }
    let calls = heard.calls.iter().map(|call| {
        // Some providers leave the arguments of a call without any out.
        let arguments = if call.arguments.trim().is_empty() { "{}" } else { &call.arguments };
        NativeCall { tool: call.tool.clone(), arguments: arguments.to_owned() }
    });
    parse::written(&heard.text, &calls.collect::<Vec<_>>())
}

fn kept(mut text: String, bytes_max: usize) -> Vec<u8> {
    text.truncate(text.floor_char_boundary(bytes_max));
    text.into_bytes()
}
