//! Requests: the host's side of `wasi:http/outgoing-handler`. The guest names a request; the host decides, sends it with
//! a client of its own, follows redirects, decodes the answer, and passes it on.
//!
//! Promises: nothing is looked up or sent that no rule allows, redirects included; names lead only to permitted
//! addresses; a call carries out and takes in no more bytes than its limits say; a write is announced before it is
//! sent; connections are shared by nobody but calls of the same tool for the same user in one session; all ends with the call.
//! `wasi:http/types`, which only holds values, is wasmtime-wasi-http's own, with bounds on what it holds.

use std::sync::Arc;

use http::{HeaderName, Response};
use http_body_util::BodyExt;
use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource};
use wasmtime_wasi::p2::Pollable;
use wasmtime_wasi_http::p2::bindings::LinkOptions;
use wasmtime_wasi_http::p2::bindings::http::types::{
    self, ErrorCode, Host as _, HostFutureIncomingResponse as _, HostOutgoingBody as _,
};
use wasmtime_wasi_http::p2::body::{HostOutgoingBody, HyperIncomingBody};
use wasmtime_wasi_http::p2::types::{HostFutureIncomingResponse, HostIncomingResponse, HostOutgoingRequest};
use wasmtime_wasi_http::{
    Error, FieldMap, ForbiddenHeaderFilter, RequestOptions, WasiBody, WasiHttp, WasiHttpCtx, WasiHttpCtxView,
    WasiHttpHooks, WasiHttpView,
};

use crate::domain::{Digest, FailedUpstream, Failure, Json, Kind};
use crate::policy::Call;
use crate::sandbox::denials::Denials;
use crate::sandbox::journal::{Form, Journal, Look};
use crate::sandbox::linker::entered;
use crate::sandbox::secrets::Granted;
use crate::sandbox::state::GuestState;
use crate::sandbox::trap::Ended;
use crate::sandbox::{Begin, HostCall};

mod addresses;
mod answer;
mod clients;
mod coding;
mod error_json;
mod exchange;
mod headers;
mod held;
mod names;
mod quota;
mod recorded;
mod refusal;
mod request;
mod request_body;
mod requests;
mod response_body;
mod upstream;

pub(in crate::sandbox) use clients::Clients;
pub use clients::NetworkOptions;

use exchange::Exchange;
use recorded::Recording;
use request::Asked;
use requests::{Admitted, Requests};
use response_body::ResponseBody;

/// The interface that sends. wasmtime's linker takes it for every `0.2.x` up to this one.
const OUTGOING_HANDLER: &str = "wasi:http/outgoing-handler@0.2.12";

/// The interface that holds values.
const TYPES: &str = "wasi:http/types@0.2.12";

/// Bytes of one write to a request's body, of which two are kept until the client takes them.
const BODY_CHUNK_BYTES: usize = 16 << 10;

/// The requests of one guest.
pub(in crate::sandbox) struct Http {
    ctx: WasiHttpCtx,
    hooks: Hooks,
    requests: Arc<Requests>,
}

impl Http {
    pub(in crate::sandbox) fn new(
        call: Arc<Call>,
        clients: Arc<Clients>,
        noted: (Denials, Granted),
        journal: Arc<Journal>,
    ) -> Self {
        let mut ctx = WasiHttpCtx::new();
        // A map of headers is held by the host: no larger than one that could be sent.
        ctx.set_field_size_limit(usize::try_from(call.grant().limits.header_bytes_max).unwrap_or(usize::MAX));
        Self { ctx, hooks: Hooks, requests: Arc::new(Requests::new(call, clients, noted, journal)) }
    }
}

impl Http {
    /// Returns how many requests were admitted, redirects included. Not each that was came to be sent: a name may lead
    /// nowhere, a server may not answer, and the call may have ended first.
    pub(in crate::sandbox) fn requests(&self) -> u64 {
        self.requests.quota.requests_taken()
    }

    /// Answers whether a write was begun of which no answer tells what became of it.
    pub(in crate::sandbox) fn has_open_write(&self) -> bool {
        self.requests.has_open_write()
    }

    /// Returns the server of a write that is open, or else of the last request, where that failed.
    pub(in crate::sandbox) fn failed(&self) -> Option<FailedUpstream> {
        self.requests.failed()
    }

    /// Returns how many bytes they carried out.
    pub(in crate::sandbox) fn egress_bytes(&self) -> u64 {
        self.requests.quota.egress_taken()
    }
}

/// What wasmtime-wasi-http asks its host.
struct Hooks;

impl WasiHttpHooks for Hooks {
    /// Headers are checked when a request is sent, so that a refusal is noted.
    fn forbidden_header_filter(&mut self) -> ForbiddenHeaderFilter {
        Arc::new(|_: &HeaderName| false)
    }

    /// Its own `outgoing-handler` would call this. It is not linked.
    fn send_request(
        &mut self,
        _: http::Request<WasiBody>,
        _: Option<RequestOptions>,
        _: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = Result<Sent, Error>> + Send> {
        Box::new(std::future::ready(Err(Error::HttpRequestDenied)))
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        BODY_CHUNK_BYTES
    }
}

type Sent = (http::Response<WasiBody>, Box<dyn Future<Output = Result<(), Error>> + Send>);

impl WasiHttpView for GuestState {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { hooks: &mut self.http.hooks, table: &mut self.table, ctx: &mut self.http.ctx }
    }
}

/// Links `wasi:http`.
///
/// # Errors
/// Two definitions of one name: a mistake in the linker.
pub(in crate::sandbox) fn add_to_linker(linker: &mut Linker<GuestState>) -> wasmtime::Result<()> {
    types::add_to_linker::<_, WasiHttp>(linker, &LinkOptions::default().into(), |state| entered(state).http())?;
    held::add_to_linker(linker)?;
    linker.allow_shadowing(true);
    linker.instance(TYPES)?.func_wrap_async(
        "[method]future-incoming-response.get",
        |mut store: StoreContextMut<'_, GuestState>, (future,): (Resource<HostFutureIncomingResponse>,)| {
            Box::new(async move { get(entered(store.data_mut()), future).await.map(|got| (got,)) })
        },
    )?;
    linker.instance(TYPES)?.func_wrap_async(
        "[static]outgoing-body.finish",
        |mut store: StoreContextMut<'_, GuestState>, (body, trailers): Finished| {
            Box::new(async move { finish(entered(store.data_mut()), body, trailers).await.map(|ended| (ended,)) })
        },
    )?;
    linker.allow_shadowing(false);
    linker.instance(OUTGOING_HANDLER)?.func_wrap_async(
        "handle",
        |mut store: StoreContextMut<'_, GuestState>, (request, options): Called| {
            Box::new(async move { handle(entered(store.data_mut()), request, options).await.map(|sent| (sent,)) })
        },
    )
}

type Got = Option<Result<Result<Resource<HostIncomingResponse>, ErrorCode>, ()>>;
type Finished = (Resource<HostOutgoingBody>, Option<Resource<FieldMap>>);
type Called = (Resource<HostOutgoingRequest>, Option<Resource<RequestOptions>>);

/// Ends a request's body, after which it may be sent: what was read of files until then may be in it.
async fn finish(
    state: &mut GuestState,
    body: Resource<HostOutgoingBody>,
    trailers: Option<Resource<FieldMap>>,
) -> wasmtime::Result<Result<(), ErrorCode>> {
    state.report_files().await.map_err(Ended)?;
    let mut http = state.http();
    match http.finish(body, trailers) {
        Ok(()) => Ok(Ok(())),
        Err(error) => http.convert_error_code(error).map(Err),
    }
}

/// Decides about a request, announces it if it writes, and starts it.
async fn handle(
    state: &mut GuestState,
    request: Resource<HostOutgoingRequest>,
    options: Option<Resource<RequestOptions>>,
) -> wasmtime::Result<Result<Resource<HostFutureIncomingResponse>, ErrorCode>> {
    let request = state.table.delete(request)?;
    let options = options.map(|options| state.table.delete(options)).transpose()?;
    if state.call.grant().http.is_empty() {
        return Err(state.not_asked("http"));
    }
    let (exchange, admitted) = match start(&state.http.requests, request, options) {
        Ok(started) => started,
        Err(error) => return Ok(Err(error)),
    };
    let started = if state.journal.records() {
        if !admitted.method.is_read() {
            // What it read so far may be why it writes.
            state.report_files().await.map_err(Ended)?;
        }
        let recording = Recording::new(exchange, admitted);
        spawn(async move { recording.run().await })
    } else {
        let upstream = exchange.asking.upstream.clone();
        if let Err(failure) = state.journal.link().admits(&upstream) {
            return Ok(Err(state.http.requests.left_alone(&exchange.asking, &admitted, failure)));
        }
        announce(state, &admitted, upstream).await?;
        exchange.requests.begun(&exchange.asking);
        spawn(async move { exchange.run(admitted).await.map(streamed) })
    };
    Ok(Ok(state.table.push(started)?))
}

fn start(
    requests: &Arc<Requests>,
    request: HostOutgoingRequest,
    options: Option<RequestOptions>,
) -> Result<(Exchange, Admitted), ErrorCode> {
    let written = request::written(&request);
    let asked = Asked::read(request, options).map_err(|refusal| requests.refused(&written, refusal))?;
    let Asked { url, method, headers, body, waits } = asked;
    let admitted = requests.admit(url, method, headers.clone())?;
    let asking = requests.asking(&admitted);
    let taken = Arc::default();
    Ok((Exchange { requests: requests.clone(), headers, body, waits, asking, taken }, admitted))
}

/// Announces a request that writes: nothing of it has left yet.
async fn announce(state: &mut GuestState, admitted: &Admitted, upstream: String) -> wasmtime::Result<()> {
    if admitted.method.is_read() {
        return Ok(());
    }
    let args = Digest::of_parts(&[admitted.method.name().as_bytes(), admitted.url.to_string().as_bytes()]);
    let host_call = state.journal.number("http.send", args, true);
    let host_call = HostCall { upstream: Some(upstream), ..host_call };
    match state.journal.begin(&host_call).await.map_err(Ended)? {
        Begin::Proceed => Ok(()),
        _ => Err(Ended(Failure::new(Kind::HostBug, "answer a request that is not recorded")).into()),
    }
}

fn streamed(answer: Response<ResponseBody>) -> Response<HyperIncomingBody> {
    answer.map(|body| body.map_err(Error::from).boxed_unsync())
}

/// Runs it beside the guest: dropping the handle, as the end of the call does, stops it.
fn spawn(
    asking: impl Future<Output = Result<Response<HyperIncomingBody>, ErrorCode>> + Send + 'static,
) -> HostFutureIncomingResponse {
    let running = wasmtime_wasi::runtime::spawn(async move {
        let answer = asking.await.map_err(Error::from)?;
        // The client drives the connection, so that the answer needs no worker of its own.
        Ok((answer, wasmtime_wasi::runtime::spawn(std::future::ready(()))))
    });
    HostFutureIncomingResponse::Pending(running)
}

/// Whether the answer has come is a look at the world, and recorded as one.
async fn get(state: &mut GuestState, future: Resource<HostFutureIncomingResponse>) -> wasmtime::Result<Got> {
    if state.journal.records() {
        let form = Form { write: |is_there: &bool| Json::from(*is_there), read: Json::as_bool };
        let look = Look { what: "http.poll", args: Digest::of(b"") };
        let (journal, waiting) = (state.journal.clone(), state.table.get_mut(&future)?);
        let is_there = journal.look(look, async { is_ready(waiting).await }, &form).await.map_err(Ended)?;
        if !is_there {
            return Ok(None);
        }
        // It is there, or on its way from its record.
        state.table.get_mut(&future)?.ready().await;
        journal.check().map_err(Ended)?;
    }
    state.http().get(future)
}

async fn is_ready(waiting: &mut HostFutureIncomingResponse) -> bool {
    tokio::select! {
        biased;
        () = waiting.ready() => true,
        () = std::future::ready(()) => false,
    }
}
