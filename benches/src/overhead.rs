//! What one call costs under each layer, beside the same shape built from other crates.
//!
//! `overhead [--filter TEXT] [--no-instructions] [--json]`

mod harness;
mod measure;
mod ours;
mod peers;
mod pick;
mod window;

use std::collections::BTreeMap;
use std::process::ExitCode;

use harness::Case;
use measure::Figures;

const USAGE: &str = "usage: overhead [--filter TEXT] [--no-instructions] [--json]";

#[derive(Default)]
struct Options {
    filter: String,
    no_instructions: bool,
    json: bool,
    /// One case and a number of calls: how this program runs itself under valgrind.
    only: Option<(String, u64)>,
}

fn main() -> ExitCode {
    let options = match options(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("{error}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a timer needs nothing");
    let _context = runtime.enter();
    let cases = [harness::baselines(), ours::cases(), peers::cases(), pick::cases(), window::cases()];
    let mut cases: Vec<_> = cases.into_iter().flatten().collect();

    if let Some((id, calls)) = &options.only {
        return match cases.iter().find(|case| case.id() == *id) {
            Some(case) => {
                measure::only(case, *calls);
                ExitCode::SUCCESS
            }
            None => ExitCode::from(2),
        };
    }
    // The same shapes stand together; the baselines are first, since the others are read against them.
    let order: Vec<_> = cases.iter().map(|case| case.group).collect();
    cases.sort_by_key(|case| order.iter().position(|group| *group == case.group));
    let counting = !options.no_instructions && measure::has_valgrind();
    if !options.no_instructions && !counting {
        eprintln!("valgrind is not installed: no instructions are counted");
    }
    table(&cases, &options, counting);
    ExitCode::SUCCESS
}

fn options(mut arguments: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options::default();
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a value"));
        match argument.as_str() {
            "--filter" => options.filter = value()?,
            "--no-instructions" => options.no_instructions = true,
            "--json" => options.json = true,
            "--only" => options.only = Some((value()?, value()?.parse().map_err(|_| "not a number of calls")?)),
            _ => return Err(format!("unknown argument {argument}")),
        }
    }
    Ok(options)
}

fn table(cases: &[Case], options: &Options, counting: bool) {
    let wanted = |case: &&Case| case.id().contains(&options.filter);
    // What a wanted row is read against is measured too, though it may not be wanted itself.
    let needed: Vec<_> = cases.iter().filter(wanted).filter_map(|case| case.baseline).collect();
    let mut figures = BTreeMap::new();
    let mut flat: BTreeMap<String, Vec<(u64, Figures)>> = BTreeMap::new();
    if !options.json {
        println!(
            "{:<60} {:>8} {:>8} {:>7} {:>7} | {:>8} {:>8} {:>7}",
            "", "ns", "instr", "allocs", "bytes", "net ns", "instr", "allocs"
        );
    }
    for case in cases.iter().filter(|case| wanted(case) || needed.contains(&case.id().as_str())) {
        let mut gross = measure::native(case);
        if counting {
            gross.instructions = measure::instructions(case, gross.nanos);
        }
        let net = case.baseline.and_then(|id| figures.get(id)).map(|base| less(gross, base));
        print(case, gross, net, options.json);
        figures.insert(case.id(), gross);
        if let Some(size) = case.size {
            flat.entry(case.shape()).or_default().push((size, gross));
        }
    }
    if options.json || flat.is_empty() {
        return;
    }
    println!("\n{:<60} {:>8} {:>8}", "the largest by the smallest", "ns", "instr");
    for (shape, sizes) in flat {
        let (Some((least, small)), Some((most, large))) = (sizes.first(), sizes.last()) else { continue };
        let shape = format!("{shape} {most} by {least}");
        let counts = large.instructions.zip(small.instructions);
        let instructions = counts.map_or("-".to_owned(), |(large, small)| format!("{:.2}", large / small));
        println!("{shape:<60} {:>8.2} {instructions:>8}", large.nanos / small.nanos);
    }
}

fn less(gross: Figures, base: &Figures) -> Figures {
    Figures {
        nanos: gross.nanos - base.nanos,
        allocations: gross.allocations - base.allocations,
        bytes: gross.bytes - base.bytes,
        instructions: gross.instructions.zip(base.instructions).map(|(gross, base)| gross - base),
    }
}

fn print(case: &Case, gross: Figures, net: Option<Figures>, json: bool) {
    let id = case.id();
    if json {
        let number = |value: Option<f64>| value.map_or("null".to_owned(), |value| format!("{value:.2}"));
        println!(
            r#"{{"case":"{id}","ns":{:.2},"instructions":{},"allocations":{:.3},"bytes":{:.1},"net_ns":{},"net_instructions":{},"net_allocations":{}}}"#,
            gross.nanos,
            number(gross.instructions),
            gross.allocations,
            gross.bytes,
            number(net.map(|net| net.nanos)),
            number(net.and_then(|net| net.instructions)),
            number(net.map(|net| net.allocations)),
        );
        return;
    }
    let count = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.0}"));
    print!(
        "{id:<60} {:>8.1} {:>8} {:>7.2} {:>7.0}",
        gross.nanos,
        count(gross.instructions),
        gross.allocations,
        gross.bytes
    );
    match net {
        Some(net) => println!(" | {:>8.1} {:>8} {:>7.2}", net.nanos, count(net.instructions), net.allocations),
        None => println!(" |"),
    }
}
