mod pace;
mod work;

fn main() {
    let mut state = work::State::new();
    let mut count = 0;
    while pace::tick() {
        count += 1;
        println!("count={count} {}", state.line(count));
    }
}
