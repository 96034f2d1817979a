//! Every relocation kind of all four pairs, at the edge of what fits.
//!
//! The tables of `docs/design/formats.md` are what is true here: each row is compared with the code, then numbers at,
//! below and above its edges are relocated by relive's engine, and the same by lld in objects that are made for it.

#[path = "../common/sysroot.rs"]
mod sysroot;

mod apply;
mod lld;
mod page;

use libtest_mimic::{Arguments, Failed, Trial};

use page::{Pair, Row};

/// A check of the rows of one pair.
type Check = fn(Pair, &[Row]) -> Result<(), String>;

fn main() {
    let arguments = Arguments::from_args();
    let checks: [(&str, Check); 4] = [
        ("rows_say_what_the_code_says", page::check_rows),
        ("numbers_without_a_row_are_not_understood", page::check_numbers),
        ("edges_are_kept", apply::check),
        ("lld_keeps_the_same_edges", lld::check),
    ];
    let mut trials = Vec::new();
    for pair in page::PAIRS {
        for (name, check) in checks {
            let name = format!("{name}_{}", pair.name.to_lowercase().replace([' ', '-'], "_"));
            let missing = if name.starts_with("lld") { lld::missing(pair) } else { None };
            if let Some(what) = &missing {
                eprintln!("{name} cannot run: {what}");
            }
            let trial = Trial::test(name, move || check(pair, &page::rows(pair)).map_err(Failed::from));
            trials.push(trial.with_ignored_flag(missing.is_some()));
        }
    }
    libtest_mimic::run(&arguments, trials).exit();
}
