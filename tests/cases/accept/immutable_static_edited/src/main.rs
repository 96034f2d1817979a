mod pace;
mod report;
mod table;

/// Takes a reference once and keeps it, as state does.
struct State {
    kept: &'static [u32; 4],
    first: &'static str,
}

fn main() {
    let state = State { kept: &table::LIMITS, first: table::NAMES[0] };
    let mut count = 0;
    while pace::tick() {
        count += 1;
        let kept: u32 = state.kept.iter().sum();
        println!("count={count} kept={kept}{} {}", state.first, report::line());
    }
}
