//! The `etcring` binary; under the name `etcd` it is the same.

use std::process::{self, ExitCode};

use etcring::bench;
use etcring::config::{self, Parsed};
use etcring::server::signals::Signals;
use etcring::server::{logging, start};
use etcring::sim;
use etcring::tools;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    keep_pages_small();
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.first().is_some_and(|first| first == "bench") {
        return bench::command(&args[1..]);
    }
    if let Some(code) = tools::run(&args) {
        return code;
    }
    if args.first().is_some_and(|first| first == "sim") {
        return simulate(&args[1..]);
    }
    // As early as can be: from here on they are asked for, and the member ends in its own way.
    let signals = match Signals::block() {
        Ok(signals) => signals,
        Err(error) => {
            eprintln!("cannot block SIGTERM and SIGINT: {error}");
            return ExitCode::FAILURE;
        }
    };
    match config::parse(&args, std::env::vars()) {
        Err(error) => {
            eprintln!("{}", error.message);
            ExitCode::from(error.exit_code)
        }
        Ok(Parsed::Version) => {
            print!("{}", config::version());
            ExitCode::SUCCESS
        }
        Ok(Parsed::Help) => {
            eprintln!("{}", config::USAGE);
            print!("{}", config::help());
            ExitCode::SUCCESS
        }
        Ok(Parsed::Run(config, warnings)) => {
            logging::install(config.log_level);
            for warning in warnings {
                tracing::warn!("{warning}");
            }
            // The executors' threads are still there: the process ends without taking them down one by one.
            match start::run(*config, &signals) {
                Ok(()) => process::exit(0),
                Err(error) => {
                    tracing::error!("{error}");
                    process::exit(1)
                }
            }
        }
    }
}

/// No transparent huge pages: with them, 10,000 idle connections take half as much memory again as they need.
fn keep_pages_small() {
    // SAFETY: this option only changes how the kernel backs memory that is mapped from here on.
    unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0) };
}

/// `etcring sim`: one seed of the simulation, as the tests run it.
fn simulate(args: &[String]) -> ExitCode {
    match sim::command(args) {
        Ok(report) => {
            println!("{report}");
            ExitCode::SUCCESS
        }
        Err(what) => {
            eprintln!("{what}");
            ExitCode::FAILURE
        }
    }
}
