//! Waits for a reply, no longer than it may take.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use futures_core::Stream;
use genai::chat::{ChatStream, ChatStreamEvent};

use super::ear::Ear;
use crate::planner::Allowance;

/// How long a stream is listened to after the model has ended, in milliseconds: what was used is told at once, and some
/// servers leave the connection open.
const END_GRACE_MS_MAX: u64 = 2_000;

/// Why a stream was left before its end.
#[derive(Debug)]
pub(super) enum Broken {
    /// Nothing was heard for so long, in milliseconds: in these words.
    Silent(&'static str, u64),
    Failed(Box<genai::Error>),
}

/// Listens to the end of the stream, or to where nothing more is worth hearing.
///
/// # Errors
/// What ended it before.
pub(super) async fn listen(mut stream: ChatStream, ear: &Ear, allowance: &Allowance) -> Result<(), Broken> {
    loop {
        let limit = limit(ear, allowance);
        let left_ms = limit.at_ms.saturating_sub(ear.now_ms());
        if left_ms == 0 {
            return Err(Broken::Silent(limit.what, limit.ms));
        }
        let next = tokio::time::timeout(Duration::from_millis(left_ms), next(&mut stream, ear));
        match next.await {
            // Something may have been heard meanwhile that is no event of the library's.
            Err(_) => {}
            Ok(None) => return Ok(()),
            Ok(Some(Err(error))) if is_of_transport(&error) => return Err(Broken::Failed(Box::new(error))),
            // What it cannot read of a stream is no error here: the ear is the judge of that.
            Ok(Some(Ok(_) | Err(_))) => {}
        }
    }
}

/// Returns the library's next event; `None` where there is none, or none that is worth waiting for.
async fn next(stream: &mut ChatStream, ear: &Ear) -> Option<Result<ChatStreamEvent, genai::Error>> {
    poll_fn(|context| {
        let polled = Pin::new(&mut *stream).poll_next(context);
        if ear.is_over() { Poll::Ready(None) } else { polled }
    })
    .await
}

fn is_of_transport(error: &genai::Error) -> bool {
    !matches!(
        error,
        genai::Error::StreamParse { .. }
            | genai::Error::ChatResponse { .. }
            | genai::Error::JsonValueExt(_)
            | genai::Error::SerdeJson(_)
    )
}

/// The bound that is met next.
struct Limit {
    what: &'static str,
    /// How long it is, in milliseconds.
    ms: u64,
    at_ms: u64,
}

fn limit(ear: &Ear, allowance: &Allowance) -> Limit {
    let whole = Limit::after("no whole reply", allowance.wall_ms_max, ear.started_ms);
    let moments = ear.moments();
    let silence = match (moments.first_ms, moments.last_ms) {
        (_, Some(last_ms)) if ear.has_ended() => Limit::after("nothing after the reply", END_GRACE_MS_MAX, last_ms),
        (Some(_), Some(last_ms)) => Limit::after("no further part of the reply", allowance.idle_ms_max, last_ms),
        _ => Limit::after("no first part of a reply", allowance.first_token_ms_max, ear.started_ms),
    };
    // 0 is no bound beside that of the whole.
    if silence.ms > 0 && silence.at_ms < whole.at_ms { silence } else { whole }
}

impl Limit {
    fn after(what: &'static str, ms: u64, since_ms: u64) -> Self {
        Self { what, ms, at_ms: since_ms.saturating_add(ms) }
    }
}
