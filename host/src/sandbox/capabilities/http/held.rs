//! What the host holds of requests that a guest only prepares. wasmtime-wasi-http keeps them in the call's table, where
//! no meter counts their bytes, and a function that does not ask for the network can make them too.
//!
//! Promises: a head that is held has a size, and a call holds few. Leaves to others: headers have a size through
//! `field_size_limit`, and what is sent is checked when it is.

use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, LinkerInstance, Resource, ResourceTable};
use wasmtime_wasi_http::p2::bindings::http::types::{HeaderError, HostOutgoingRequest as _};
use wasmtime_wasi_http::p2::bindings::http::types::{Host, HostFields, Method, Scheme};
use wasmtime_wasi_http::p2::types::{HostIncomingResponse, HostOutgoingRequest, HostOutgoingResponse};
use wasmtime_wasi_http::{FieldMap, WasiHttpCtxView, WasiHttpView};

use super::TYPES;
use crate::domain::{Failure, Kind, URL_BYTES_MAX};
use crate::sandbox::linker::entered;
use crate::sandbox::state::GuestState;
use crate::sandbox::trap::Ended;

/// Heads that one call holds: maps of headers, requests not sent yet, answers. A request being made has two, and a call
/// has eight under way. In memory a head of many short headers takes some four times `header_bytes_max`.
const HEADS_HELD_MAX: usize = 32;

/// Bytes of a method or a scheme: those that are sent have at most seven.
const WORD_BYTES_MAX: usize = 32;

/// Bytes of an authority: a name has at most 253, a port five.
const AUTHORITY_BYTES_MAX: usize = 300;

type Store<'a> = StoreContextMut<'a, GuestState>;
type Request = Resource<HostOutgoingRequest>;
type Set = wasmtime::Result<(Result<(), ()>,)>;

/// Puts bounded functions in the place of those that make heads or keep strings.
///
/// # Errors
/// A name that cannot be defined: a mistake here.
pub(super) fn add_to_linker(linker: &mut Linker<GuestState>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    let mut types = linker.instance(TYPES)?;
    link_fields(&mut types)?;
    link_requests(&mut types)?;
    linker.allow_shadowing(false);
    Ok(())
}

fn link_fields(types: &mut LinkerInstance<'_, GuestState>) -> wasmtime::Result<()> {
    types.func_wrap("[constructor]fields", |mut store: Store<'_>, (): ()| {
        Ok((HostFields::new(&mut making(store.data_mut())?)?,))
    })?;
    types.func_wrap("[static]fields.from-list", |mut store: Store<'_>, (entries,): (Vec<(String, Vec<u8>)>,)| {
        let mut http = making(store.data_mut())?;
        let made: Result<_, HeaderError> = match http.from_list(entries) {
            Ok(fields) => Ok(fields),
            Err(error) => Err(http.convert_header_error(error)?),
        };
        Ok((made,))
    })?;
    types.func_wrap("[method]fields.clone", |mut store: Store<'_>, (fields,): (Resource<FieldMap>,)| {
        Ok((HostFields::clone(&mut making(store.data_mut())?, fields)?,))
    })
}

fn link_requests(types: &mut LinkerInstance<'_, GuestState>) -> wasmtime::Result<()> {
    types.func_wrap(
        "[method]outgoing-request.set-method",
        |mut store: Store<'_>, (request, method): (Request, Method)| -> Set {
            let state = entered(store.data_mut());
            let is_short = !matches!(&method, Method::Other(other) if other.len() > WORD_BYTES_MAX);
            Ok((if is_short { state.http().set_method(request, method)? } else { Err(()) },))
        },
    )?;
    types.func_wrap(
        "[method]outgoing-request.set-scheme",
        |mut store: Store<'_>, (request, scheme): (Request, Option<Scheme>)| -> Set {
            let state = entered(store.data_mut());
            let is_short = !matches!(&scheme, Some(Scheme::Other(other)) if other.len() > WORD_BYTES_MAX);
            Ok((if is_short { state.http().set_scheme(request, scheme)? } else { Err(()) },))
        },
    )?;
    types.func_wrap(
        "[method]outgoing-request.set-authority",
        |mut store: Store<'_>, (request, authority): (Request, Option<String>)| -> Set {
            let state = entered(store.data_mut());
            let is_short = is_at_most(AUTHORITY_BYTES_MAX, authority.as_deref());
            Ok((if is_short { state.http().set_authority(request, authority)? } else { Err(()) },))
        },
    )?;
    types.func_wrap(
        "[method]outgoing-request.set-path-with-query",
        |mut store: Store<'_>, (request, path): (Request, Option<String>)| -> Set {
            let state = entered(store.data_mut());
            let is_short = is_at_most(URL_BYTES_MAX, path.as_deref());
            Ok((if is_short { state.http().set_path_with_query(request, path)? } else { Err(()) },))
        },
    )
}

fn is_at_most(bytes_max: usize, text: Option<&str>) -> bool {
    text.is_none_or(|text| text.len() <= bytes_max)
}

/// Lets a guest make one more map of headers, from which requests are made.
fn making(state: &mut GuestState) -> wasmtime::Result<WasiHttpCtxView<'_>> {
    let state = entered(state);
    if heads(&mut state.table) >= HEADS_HELD_MAX {
        let tool = state.call.tool().name();
        let message = format!("run `{tool}`: it held more than {HEADS_HELD_MAX} maps of headers and requests");
        let failure = Failure::new(Kind::ToolHandles, message);
        return Err(Ended(failure.hint("report this to the tool's author: each is to be sent or dropped")).into());
    }
    Ok(state.http())
}

/// Counted where they are, so that no way of dropping one is forgotten.
fn heads(table: &mut ResourceTable) -> usize {
    let is_head = |entry: &(dyn std::any::Any + Send)| {
        entry.is::<FieldMap>()
            || entry.is::<HostOutgoingRequest>()
            || entry.is::<HostOutgoingResponse>()
            || entry.is::<HostIncomingResponse>()
    };
    table.iter_mut().filter(|entry| is_head(&**entry)).count()
}
