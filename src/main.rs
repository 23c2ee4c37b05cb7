//! The `etcring` binary; under the name `etcd` it is the same.

use std::process::{self, ExitCode};

use etcring::config::{self, Parsed};
use etcring::server::{logging, start};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
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
            match start::run(*config) {
                Ok(()) => process::exit(0),
                Err(error) => {
                    tracing::error!("{error}");
                    process::exit(1)
                }
            }
        }
    }
}
