//! `etcring bench`, from arguments to exit code.

use std::fs;
use std::process::ExitCode;

use clap::Parser;

use super::options::{Command, Options, Workload};
use super::{load, plot, report, table};
use crate::runtime::{CoreOptions, run_here};

/// Runs `etcring bench` with these arguments (without `bench`). Exit code 0 when answers came and none was missing, 1 when not, 2 for a
/// command line that is not understood.
pub fn command(args: &[String]) -> ExitCode {
    let args = std::iter::once("etcring bench").chain(args.iter().map(String::as_str));
    let options = match Options::try_parse_from(args) {
        Ok(options) => options,
        Err(error) => {
            let code = if error.use_stderr() { 2 } else { 0 };
            // Nobody is left to tell when the terminal is gone.
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    let result = match options.command {
        Command::Load(workload) => run(workload),
        Command::Table(options) => table::command(&options).map(|()| true),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("etcring bench: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether every request was answered well.
fn run(workload: Workload) -> Result<bool, String> {
    let (outcome, workload) = run_here(&CoreOptions::named("bench"), |executor| async move {
        let outcome = load::run(executor, &workload).await;
        (outcome, workload)
    })
    .map_err(|error| format!("an executor cannot be made: {error}"))?;
    let outcome = outcome?;
    if workload.common().json {
        println!("{}", report::json(&workload, &outcome));
    } else {
        print!("{}", report::text(&workload, &outcome));
    }
    if let Some(path) = &workload.common().plot {
        fs::write(path, plot::svg(&workload, &outcome)).map_err(|error| format!("--plot {}: {error}", path.display()))?;
    }
    let is_complete = outcome.watches.is_none_or(|tally| tally.delivered == tally.expected);
    let is_answered = outcome.meter.count() > 0 || matches!(workload, Workload::Idle(_));
    Ok(is_answered && outcome.meter.errors().is_empty() && outcome.unanswered == 0 && is_complete)
}
