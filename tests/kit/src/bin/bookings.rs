//! Runs the service that books flights, hotels and cars, for trying sagas by hand: prints where it is and each request, and
//! serves until Ctrl-C.

use std::process::ExitCode;

use clap::Parser;
use cofferdam_kit::Bookings;
use cofferdam_kit::bookings::Logged;

/// A booking service on the loopback.
#[derive(Parser)]
struct Args {
    /// Port on loopback; 0 is any free one
    #[arg(long, default_value_t = 8123)]
    port: u16,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bookings: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> std::io::Result<()> {
    let service = Bookings::start_on(args.port, tell)?;
    println!("{}", service.url());
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(tokio::signal::ctrl_c())
}

fn tell(request: &Logged) {
    let status = request.status.map_or_else(|| "broken off".to_owned(), |status| status.to_string());
    println!("{} {}  {status}  {}", request.method, request.target, request.key);
}
