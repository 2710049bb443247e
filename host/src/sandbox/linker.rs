//! What a guest's imports are bound to.
//!
//! The floor of every std program (`wasi:io`, `clocks`, `random`, `cli`, `filesystem`) is linked, and denies all that the
//! grant does not give. `cofferdam:tool/context` gives no power and is always there; `log` and `progress` are linked
//! only when granted. Everything else, sockets included, is not here at all.

use wasmtime::Engine;
use wasmtime::component::{HasData, HasSelf, Linker, ResourceTable};
use wasmtime_wasi::cli::{WasiCli, WasiCliView};
use wasmtime_wasi::clocks::{WasiClocks, WasiClocksView};
use wasmtime_wasi::p2::bindings as wasi;
use wasmtime_wasi::random::WasiRandom;
use wasmtime_wasi::{WasiView, filesystem};
use wasmtime_wasi_io::bindings::wasi::io;

use crate::domain::Ask;
use crate::policy::Call;
use crate::sandbox::capabilities::bindings::cofferdam::tool as cofferdam;
use crate::sandbox::capabilities::files::{Files, HasFiles};
use crate::sandbox::state::GuestState;

/// The parts of a call that decide what is linked. A capability that the function asks for and does not get is left out,
/// so that the call never starts. One that only other functions of the component ask for is linked, and refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Linked {
    log: bool,
    progress: bool,
}

impl Linked {
    pub(super) fn of(call: &Call) -> Self {
        let asks = &call.tool().tool().asks;
        Self {
            log: call.grant().log || !asks.contains(&Ask::Log),
            progress: call.grant().progress || !asks.contains(&Ask::Progress),
        }
    }
}

struct HasTable;

impl HasData for HasTable {
    type Data<'a> = &'a mut ResourceTable;
}

/// Makes the linker for guests with `linked`.
///
/// # Errors
/// Two definitions of one name: a mistake in this file.
pub(super) fn linker(engine: &Engine, linked: Linked) -> wasmtime::Result<Linker<GuestState>> {
    let mut linker = Linker::new(engine);
    floor(&mut linker)?;
    cofferdam::context::add_to_linker::<_, HasSelf<_>>(&mut linker, |state| state)?;
    if linked.log {
        cofferdam::log::add_to_linker::<_, HasSelf<_>>(&mut linker, |state| state)?;
    }
    if linked.progress {
        cofferdam::progress::add_to_linker::<_, HasSelf<_>>(&mut linker, |state| state)?;
    }
    Ok(linker)
}

fn floor(l: &mut Linker<GuestState>) -> wasmtime::Result<()> {
    type State = GuestState;
    io::error::add_to_linker::<State, HasTable>(l, |t| t.ctx().table)?;
    io::poll::add_to_linker::<State, HasTable>(l, |t| t.ctx().table)?;
    io::streams::add_to_linker::<State, HasTable>(l, |t| t.ctx().table)?;
    wasi::clocks::wall_clock::add_to_linker::<State, WasiClocks>(l, State::clocks)?;
    wasi::clocks::monotonic_clock::add_to_linker::<State, WasiClocks>(l, State::clocks)?;
    wasi::random::random::add_to_linker::<State, WasiRandom>(l, |t| t.wasi.random())?;
    wasi::random::insecure::add_to_linker::<State, WasiRandom>(l, |t| t.wasi.random())?;
    wasi::random::insecure_seed::add_to_linker::<State, WasiRandom>(l, |t| t.wasi.random())?;
    wasi::cli::exit::add_to_linker::<State, WasiCli>(l, State::cli)?;
    wasi::cli::environment::add_to_linker::<State, WasiCli>(l, State::cli)?;
    wasi::cli::stdin::add_to_linker::<State, WasiCli>(l, State::cli)?;
    wasi::cli::stdout::add_to_linker::<State, WasiCli>(l, State::cli)?;
    wasi::cli::stderr::add_to_linker::<State, WasiCli>(l, State::cli)?;
    wasi::cli::terminal_input::add_to_linker::<State, WasiCli>(l, State::cli)?;
    wasi::cli::terminal_output::add_to_linker::<State, WasiCli>(l, State::cli)?;
    wasi::cli::terminal_stdin::add_to_linker::<State, WasiCli>(l, State::cli)?;
    wasi::cli::terminal_stdout::add_to_linker::<State, WasiCli>(l, State::cli)?;
    wasi::cli::terminal_stderr::add_to_linker::<State, WasiCli>(l, State::cli)?;
    wasi::filesystem::preopens::add_to_linker::<State, filesystem::WasiFilesystem>(
        l,
        filesystem::WasiFilesystemView::filesystem,
    )?;
    wasi::filesystem::types::add_to_linker::<State, HasFiles>(l, |state| Files(state))
}
