//! Waiting: which of the things that a guest waits for came first is the world's choice, so it is recorded, and the guest's
//! clock moves on by as long as it took. Answered from a record, nothing is waited for.

use wasmtime::component::{HasData, Resource};
use wasmtime_wasi::p2::DynPollable;
use wasmtime_wasi_io::bindings::wasi::io::poll::{Host, HostPollable};

use crate::domain::{Digest, Failure, Json, Kind};
use crate::sandbox::journal::{Form, Look};
use crate::sandbox::state::GuestState;
use crate::sandbox::trap::Ended;

/// Binds the wrapper to the guest's state.
pub(in crate::sandbox) struct HasPolls;

impl HasData for HasPolls {
    type Data<'a> = Polls<'a>;
}

/// What one guest waits for.
pub(in crate::sandbox) struct Polls<'a>(pub(in crate::sandbox) &'a mut GuestState);

/// Numbers in the list of what was waited for. An error ends the call, and is no answer.
type Ready = wasmtime::Result<Vec<u32>>;

const FORM: Form<Ready> = Form { write: written, read };

fn look(how: &str, count: usize) -> Look {
    Look { what: "poll", args: Digest::of_parts(&[how.as_bytes(), &(count as u64).to_le_bytes()]) }
}

fn written(ready: &Ready) -> Json {
    ready.as_ref().map_or(Json::Null, |ready| Json::from(ready.clone()))
}

fn read(value: &Json) -> Option<Ready> {
    let numbers = value.as_array()?.iter().map(|n| n.as_u64()?.try_into().ok());
    numbers.collect::<Option<Vec<u32>>>().map(Ok)
}

impl Host for Polls<'_> {
    async fn poll(&mut self, pollables: Vec<Resource<DynPollable>>) -> Ready {
        let (journal, count) = (self.0.journal.clone(), pollables.len());
        let ready = journal.look(look("poll", count), self.0.table.poll(pollables), &FORM).await.map_err(Ended)??;
        journal.check().map_err(Ended)?;
        // The guest takes each as a number of its list.
        if ready.is_empty() || ready.iter().any(|n| *n as usize >= count) {
            return Err(Ended(unreadable_poll()).into());
        }
        Ok(ready)
    }
}

impl HostPollable for Polls<'_> {
    async fn block(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<()> {
        let journal = self.0.journal.clone();
        let table = &mut self.0.table;
        let wait = async { table.block(pollable).await.map(|()| Vec::new()) };
        journal.look(look("block", 1), wait, &FORM).await.map_err(Ended)??;
        Ok(journal.check().map_err(Ended)?)
    }

    async fn ready(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<bool> {
        let journal = self.0.journal.clone();
        let table = &mut self.0.table;
        let wait = async { table.ready(pollable).await.map(|is_ready| if is_ready { vec![0] } else { Vec::new() }) };
        let ready = journal.look(look("ready", 1), wait, &FORM).await.map_err(Ended)??;
        journal.check().map_err(Ended)?;
        Ok(!ready.is_empty())
    }

    fn drop(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<()> {
        self.0.table.drop(pollable)
    }
}

fn unreadable_poll() -> Failure {
    let message = "answer what the guest waits for from its record: it is the record of something else";
    Failure::new(Kind::HostDiverged, message).hint("look at what the step did, then say whether it is done")
}
